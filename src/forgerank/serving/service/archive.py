"""Archives from untrusted sources: members are unpacked one by one, under our own names and within limits.

Read are zip and tar, plain or packed as `tar_entries` knows it.
Paths in an archive are labels. Links, devices, encrypted and damaged members and archives in it are refused
one by one. The litter of operating systems (`is_litter_file`) is no member and does not count; lists of edits
(`is_edit_list`) do not count either.
"""

import os
import stat
import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import IO, BinaryIO, Protocol

from forgerank.media.files import counted
from forgerank.media.suffixes import (
    HEAD_BYTES,
    MediaKind,
    archive_format,
    is_edit_list,
    is_litter,
    is_litter_file,
    kind_of_head,
)
from forgerank.media.tars import ArchiveError, begins_tar, tar_entries
from forgerank.serving.service.zip_entries import (
    DamagedZipError,
    ZipEntry,
    ZipEntryError,
    follow_headers,
    open_entry,
    read_directory,
)
from forgerank.serving.trouble import trouble

_CHUNK = 1 << 18  # bytes copied at a time
_UNCOUNTED = 10  # times the most entries: so many files of litter and lists of edits there may be beside them
_FREE_BYTES = 10_000_000  # expanding to no more than this is harmless, whatever the ratio


class StorageError(Exception):
    """The server could not keep or read what it was sent: no fault of the archive. `str()` is the cause."""


class Limits(Protocol):
    """The part of the service's settings that bounds an archive."""

    @property
    def archive_entries(self) -> int:
        """Most entries, folders included, litter and lists of edits apart."""

    @property
    def archive_bytes(self) -> int:
        """Most bytes after expansion."""

    @property
    def archive_ratio(self) -> float:
        """Most expanded bytes per byte of the archive."""


@dataclass(frozen=True, slots=True)
class Member:
    """One file of an archive; folders are none."""

    name: str  # as the archive calls it, or a guess: a label, never a path
    raw_name: bytes | None  # its bytes where the archive does not say what they mean, and `name` is a guess
    path: Path | None  # where its content lies
    reason: str | None  # why there is none
    before: float  # share of the archive that precedes it, 0..1


def is_archive(path: Path) -> bool:
    """Whether the first bytes are those of an archive that is read here; False for what cannot be read."""
    try:
        with open(path, "rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError:
        return False
    return begins_archive(head)


def begins_archive(head: bytes) -> bool:
    """Whether these, at least 512 bytes where there are so many, begin an archive that is read here."""
    return archive_format(head) == "ZIP" or begins_tar(head)


def unpack(archive: Path, folder: Path, limits: Limits) -> Iterator[Member]:
    """The members in their order, each written to `folder` under a number just before it is given.

    The caller deletes a member's file. Raises ArchiveError where the archive is damaged or beyond a limit:
    at once where its directory says so, else when that point is reached; StorageError where a full disk or
    another trouble of this machine stops it.
    """
    with open(archive, "rb") as file:
        head = file.read(HEAD_BYTES)
        file.seek(0)
        size = archive.stat().st_size
        budget = _Budget(limits, size)
        tar = begins_tar(head)
        entries = _tar_entries(file, size, budget) if tar else _zip_entries(file, budget)
        try:
            for number, (name, raw, before, content) in enumerate(_members(entries, budget), start=1):
                path = folder / f"member-{number}"
                reason = _write(content, path)
                label = name or f"member {number}, which has no name"
                yield Member(label, raw, None if reason else path, reason, before)
        except (ArchiveError, StorageError):
            raise
        except Exception as error:  # the standard library raises whatever its code stumbles over
            _check_ours(error)
            raise ArchiveError(f"damaged archive ({_line(error)})") from None


# name, its bytes where it is a guess, share of the archive before it, content
_Entries = Iterator[tuple[str, bytes | None, float, Iterator[bytes]]]


class _RefusedError(Exception):
    """This member is not read; the reason."""


class _Budget:
    """What the archive may still cost."""

    def __init__(self, limits: Limits, size: int) -> None:
        self._entries = limits.archive_entries
        self._bytes = min(limits.archive_bytes, max(_FREE_BYTES, int(limits.archive_ratio * size)))
        self._spent = 0
        self._seen: Counter[bool] = Counter()  # entries, by whether they count

    def count_entry(self, name: str) -> None:
        """One more, of an archive that does not say beforehand how many there are."""
        self._seen[_counts(name)] += 1
        self._check_entries()

    def count_after_all(self) -> None:
        """One that does not count by its name."""
        self._seen[True] += 1
        self._check_entries()

    def count_entries(self, names: Iterable[str]) -> None:
        """All of them."""
        self._seen.update(_counts(name) for name in names)
        self._check_entries()

    def _check_entries(self) -> None:
        if self._seen[True] > self._entries or self._seen[False] > _UNCOUNTED * self._entries:
            raise ArchiveError(f"more than {counted(self._entries, 'entry', 'entries')}")

    def check_bytes(self, count: int) -> None:
        if count > self._bytes:
            raise ArchiveError(f"expands to more than {self._bytes} bytes, the most that is read of it")

    def spend(self, count: int) -> None:
        self._spent += count
        self.check_bytes(self._spent)


def _counts(name: str) -> bool:
    """Whether an entry is one of those of which there may be so many."""
    return not (is_litter(name) or is_edit_list(name))


def _members(entries: _Entries, budget: _Budget) -> _Entries:
    """The entries that are no litter."""
    for name, raw, before, content in entries:
        head: list[bytes] = []
        if is_litter_file(name, partial(_kind, content, head)):
            continue
        if head:  # its name is one of litter
            budget.count_after_all()
        yield name, raw, before, chain(head, content)


def _kind(content: Iterator[bytes], head: list[bytes]) -> MediaKind:
    """By its beginning, which goes into `head`; "other" for what is refused."""
    with suppress(_RefusedError):
        head.append(next(content, b""))
    return kind_of_head(b"".join(head)[:HEAD_BYTES])


def _write(content: Iterator[bytes], path: Path) -> str | None:
    """Why the member is refused, and then no file is left, nor is it where the archive ends here."""
    try:
        with ExitStack() as stack:
            with _ours():
                file = stack.enter_context(open(path, "wb", buffering=0))  # a buffer would fail late
            for chunk in content:
                left = memoryview(chunk)
                while left:
                    with _ours():
                        left = left[file.write(left) :]
        if is_archive(path):
            raise _RefusedError("an archive in an archive is not opened")
    except _RefusedError as refused:
        path.unlink()
        return str(refused)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return None


@contextmanager
def _ours() -> Iterator[None]:
    """What fails here is this machine's trouble."""
    try:
        yield
    except OSError as error:
        raise StorageError(trouble(error) or "it cannot write its files") from None


def _check_ours(error: Exception) -> None:
    """Raises StorageError for what reading meets that is this machine's trouble and no archive's."""
    cause = trouble(error)
    if cause is not None:
        raise StorageError(cause) from None


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    while chunk := file.read(_CHUNK):
        yield chunk


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__


def _zip_entries(file: BinaryIO, budget: _Budget) -> _Entries:
    try:
        directory = read_directory(file)
        if directory is None:
            yield from _zip_rest(file, budget)
            return
    except DamagedZipError as error:
        raise ArchiveError(str(error)) from None
    entries = directory.entries
    budget.count_entries(entry.name for entry in entries)
    budget.check_bytes(sum(entry.size for entry in entries if not is_litter(entry.name)))
    for number, entry in enumerate(entries):
        if not entry.is_folder:
            yield entry.name, entry.raw_name, number / len(entries), _zip_content(file, entry, budget)
    if directory.damage is not None:
        raise ArchiveError(f"damaged archive ({directory.damage})")


def _zip_rest(file: BinaryIO, budget: _Budget) -> _Entries:
    """As `_zip_entries`, of a zip without a directory."""
    size = file.seek(0, os.SEEK_END)
    for entry in follow_headers(file):
        budget.count_entry(entry.name)
        if not entry.is_folder:
            yield entry.name, entry.raw_name, entry.offset / size, _zip_content(file, entry, budget)


def _zip_content(file: BinaryIO, entry: ZipEntry, budget: _Budget) -> Iterator[bytes]:
    if stat.S_IFMT(entry.mode) not in (0, stat.S_IFREG):
        raise _RefusedError("a link or a device, not a file")
    try:
        with open_entry(file, entry) as content:
            for chunk in _chunks(content):
                budget.spend(len(chunk))
                yield chunk
    except ArchiveError:
        raise
    except ZipEntryError as fault:
        raise _RefusedError(str(fault)) from None
    except Exception as error:
        _check_ours(error)
        raise _RefusedError(f"damaged ({_line(error)})") from None


def _tar_entries(file: BinaryIO, size: int, budget: _Budget) -> _Entries:
    for archive, entry in tar_entries(file, budget.spend):
        budget.count_entry(entry.name)
        if not entry.isdir():
            yield *_tar_name(entry), file.tell() / size, _tar_content(archive, entry)


def _tar_name(entry: tarfile.TarInfo) -> tuple[str, bytes | None]:
    """As `Member` has them; bytes that are not UTF-8 are shown as what they would be in Latin-1."""
    try:
        entry.name.encode()
    except UnicodeEncodeError:  # tarfile keeps bytes that are not UTF-8 as halves of characters
        raw = entry.name.encode("utf-8", "surrogateescape")
        return raw.decode("latin-1"), raw
    return entry.name, None


def _tar_content(archive: tarfile.TarFile, entry: tarfile.TarInfo) -> Iterator[bytes]:
    if not entry.isfile() or entry.issparse():
        raise _RefusedError("a link, a device or a sparse file")
    content = archive.extractfile(entry)
    if content is not None:
        with content:
            yield from _chunks(content)
