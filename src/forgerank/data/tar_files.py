"""Files in a tar that is never unpacked to disk: images of data sets, members of packs and shards."""

import io
import json
import lzma
import tarfile
import zlib
from collections.abc import Collection, Iterable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from forgerank.data.formats.paths import inner_path, is_image
from forgerank.files import check_regular, os_reason, partial_file, writing
from forgerank.media.tars import ArchiveError, CutError, tar_entries
from forgerank.types import InputError

CHECKSUMS = "crc32.json"  # a member, after the others: the CRC-32 of each of them by name


class Member(NamedTuple):
    """Where a member lies in its tar."""

    offset: int  # bytes
    size: int  # bytes
    crc: int | None = None  # CRC-32 of its content; None where it is not known


def tar_members(path: Path) -> dict[str, Member]:
    """All members by name but CHECKSUMS, which says what they must hold.

    Raises OSError, TarError or ValueError for an unreadable file, InputError for changed checksums and for
    what follows the tar.
    """
    check_regular(path)
    with path.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
        found = {member.name: Member(member.offset_data, member.size) for member in tar}
        file.seek(tar.offset)  # of the block that tarfile took for the end
        if any(block.strip(b"\0") for block in iter(partial(file.read, 1 << 20), b"")):
            raise InputError(f"{path}: cannot be read as a tar file: it goes on with something else")
    checksums = found.pop(CHECKSUMS, None)
    if checksums is None:
        return found
    known = json.loads(read_member(path, CHECKSUMS, checksums))
    if not isinstance(known, dict) or known.keys() != found.keys():
        raise InputError(f"{path / CHECKSUMS}: does not list the members of its tar")
    return {name: member._replace(crc=known[name]) for name, member in found.items()}


def read_member(path: Path, name: str, member: Member) -> bytes:
    """The content of one member. Raises InputError for an unreadable file and for a changed content."""
    try:
        # Opened anew for each member: worker processes share no file position, and nothing is left to close.
        with path.open("rb") as stream:
            stream.seek(member.offset)
            content = stream.read(member.size)
    except OSError as error:
        raise InputError(f"{path / name}: cannot be read: {os_reason(error)}") from error
    if member.crc is not None and zlib.crc32(content) != member.crc:
        raise InputError(f"{path / name}: changed since it was written")
    return content


def write_tar(path: Path, members: Iterable[tuple[str, bytes]], *, checksums: bool = False) -> dict[str, int]:
    """Write names and contents atomically; returns the CRC-32 of each. The same members give the same bytes.

    checksums: add CHECKSUMS. Raises OutputError, one line, where the file cannot be written: the path is then
    as it was.
    """
    known: dict[str, int] = {}
    with (
        writing(path),
        partial_file(path) as partial,
        tarfile.open(partial, "w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        for name, content in members:
            _add(tar, name, content)
            known[name] = zlib.crc32(content)
        if checksums:
            _add(tar, CHECKSUMS, json.dumps(known).encode())
    return known


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst")


class Archive(NamedTuple):
    """Wanted members of a tar, in memory."""

    contents: dict[str, bytes | None]  # None for a link, which is not followed
    reason: str  # why the rest could not be read; empty where everything was


class DamagedTarError(InputError):
    """A tar that cannot be read to its end; `reason` alone is "truncated" or begins with "unreadable: "."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: cannot be read as a tar file: {reason}")
        self.reason = reason


def is_archive(path: Path) -> bool:
    """Whether the name is that of a tar."""
    return path.name.lower().endswith(TAR_SUFFIXES)


def tar_names(path: Path) -> Iterator[str]:
    """The names of the images in a tar, in its order, each once, without the `./` that some have in front.

    Raises DamagedTarError after the names before the damage, also for a name that leads out of the tar.
    """
    seen: set[str] = set()
    for name, _ in _images(path):
        if name not in seen:
            seen.add(name)
            yield name


def read_archive(path: Path, names: Collection[str]) -> Archive:
    """The named members, compressed as they are, in one pass over the tar; the first of those of one name."""
    wanted = {str(PurePosixPath(name)) for name in names}
    contents: dict[str, bytes | None] = {}
    try:
        for name, data in _images(path, wanted):
            contents.setdefault(name, data)
            if len(contents) == len(wanted):
                break  # the rest need not be unpacked
    except DamagedTarError as error:
        return Archive(contents, error.reason)
    return Archive(contents, "")


def _images(path: Path, wanted: Collection[str] | None = None) -> Iterator[tuple[str, bytes | None]]:
    """As `Archive.contents`, of every image or of the wanted ones; none is named before it is read."""
    try:
        check_regular(path)
        with path.open("rb") as file:
            for tar, member in tar_entries(file):
                inner = PurePosixPath(member.name)
                link = member.islnk() or member.issym()
                if not (member.isfile() or link) or not is_image(inner):
                    continue
                inner_path(member.name, "unreadable")
                if wanted is None or str(inner) in wanted:
                    stream = None if link else tar.extractfile(member)
                    yield str(inner), stream.read() if stream else None
    except CutError as error:
        raise DamagedTarError(path, "truncated") from error
    except ArchiveError as error:
        raise DamagedTarError(path, f"unreadable: {error}") from error
    except InputError as error:
        raise DamagedTarError(path, str(error)) from error
    except (OSError, tarfile.TarError, zlib.error, lzma.LZMAError) as error:
        cut = "unexpected end of data" in str(error)
        text = " ".join(str(error).split()) or type(error).__name__
        raise DamagedTarError(path, "truncated" if cut else f"unreadable: {text}") from error
