"""Files on the disk: checked and read with one-line reasons, and folders searched for media."""

import errno
import glob
import os
import re
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePath
from typing import BinaryIO

from forgerank.files import address, as_on_disk, os_reason
from forgerank.media.suffixes import (
    DISK_HEAD_BYTES,
    HEAD_BYTES,
    IMAGE_SUFFIXES,
    MEDIA_SUFFIXES,
    VIDEO_SUFFIXES,
    file_format,
    is_litter,
    is_litter_file,
    kind_by_content,
)
from forgerank.types import InputError

HEATMAP = "heatmap"  # what a search counts those as that the package has written
HEATMAP_MARK = "forgerank heatmap"  # the text under "Software" in them
_MAX_BYTES = 1_000_000_000
_HEATMAP_NAME = re.compile(r"-face\d+-.+\.png$")
_SLASH = r"[/\\]" if os.name == "nt" else "/"
_ANY_FOLDERS = re.compile(rf"(^|.*?{_SLASH})\*\*(?:{_SLASH}+|$)", re.DOTALL)


class MediaError(InputError):
    """A path that gives no image: `path` as asked for and `reason`; `str()` is both on one line."""

    def __init__(self, path: str | Path, reason: str) -> None:
        self.path = str(path)
        self.reason = " ".join(reason.split())
        super().__init__(f"{self.path}: {self.reason}")


def check_file(path: str | Path) -> None:
    """Raises MediaError for anything but a regular file with content; of an address, it says so."""
    try:
        status = os.stat(path)
    except ValueError:
        raise MediaError(path, "not a valid path") from None
    except OSError as error:
        raise _unreachable(path, error) from error
    if stat.S_ISDIR(status.st_mode):
        raise MediaError(path, "is a directory")
    if not stat.S_ISREG(status.st_mode):
        raise MediaError(path, "not a regular file")
    if status.st_size == 0:
        raise MediaError(path, "empty file")


def read_file(path: str | Path, *, max_bytes: int = _MAX_BYTES) -> bytes:
    """The content of a regular file. Raises MediaError for anything else, more than `max_bytes` included."""
    with _opened(path) as file:
        # Python takes as much memory as is asked for: a little more than the file holds.
        content = file.read(min(os.fstat(file.fileno()).st_size, max_bytes) + 1)
    if len(content) > max_bytes:
        raise MediaError(path, f"over the limit of {max_bytes} bytes")
    return content


def read_head(path: str | Path) -> bytes:
    """The first HEAD_BYTES bytes of a regular file, DISK_HEAD_BYTES where they are zeros. Raises MediaError
    for anything else.
    """
    with _opened(path) as file:
        head = file.read(HEAD_BYTES)
        return head if head.strip(b"\0") else head + file.read(DISK_HEAD_BYTES - HEAD_BYTES)


@contextmanager
def _opened(path: str | Path) -> Iterator[BinaryIO]:
    check_file(path)
    try:
        with open(path, "rb") as file:
            yield file
    except OSError as error:
        raise MediaError(path, os_reason(error)) from error


def find_photos(
    paths: Iterable[str | Path], others: Counter[str] | None = None
) -> tuple[list[Path], list[MediaError]]:
    """Expand folders to the photographs in them: recursive, sorted, each folder once if links form a loop.

    A path to a file is kept whatever its suffix. Missing paths, unreadable folders, folders without a
    photograph, and the images of a folder that are left out come back as errors and stop nothing. `others`
    is told how many further files were left out, by kind; the litter of operating systems is not counted.
    """
    return _find(paths, IMAGE_SUFFIXES, "no photograph in this folder", others)


def find_media(
    paths: Iterable[str | Path], others: Counter[str] | None = None
) -> tuple[list[Path], list[MediaError]]:
    """Like `find_photos`, for photographs and videos."""
    return _find(paths, MEDIA_SUFFIXES, "no photograph or video in this folder", others)


def _find(
    paths: Iterable[str | Path], suffixes: frozenset[str], nothing: str, others: Counter[str] | None
) -> tuple[list[Path], list[MediaError]]:
    found: list[Path] = []
    errors: list[MediaError] = []
    for named in paths:
        path = as_on_disk(Path(named))
        try:
            is_folder = stat.S_ISDIR(os.stat(path).st_mode)
        except ValueError:
            errors.append(MediaError(named, "not a valid path"))
            continue
        except OSError as error:
            errors.append(_unreachable(named, error))
            continue
        if not is_folder:
            found.append(path)
            continue
        inside = list(walk(path, suffixes, errors, others))
        if not inside and not any(Path(error.path).is_relative_to(path) for error in errors):
            errors.append(MediaError(path, nothing))
        found.extend(inside)
    return found, errors


def unreadable(error: OSError) -> MediaError:
    """What a search notes of the folder or link that it could not read."""
    return MediaError(str(error.filename), os_reason(error))


def walk(
    folder: Path,
    suffixes: frozenset[str] | None,
    errors: list[MediaError],
    others: Counter[str] | None = None,
    passed_over: Callable[[Path], bool] = lambda _: False,
) -> Iterator[Path]:
    """Files below a folder, sorted by name, with one of the lower-case suffixes or any (None).

    One folder is held in memory at a time. Links are followed, each folder is entered once; what cannot be
    read is appended to `errors`. So are, at the end, the counts of the images that are left out, and of the
    videos if `suffixes` has some; `others` counts the rest and own heatmaps. Litter of operating
    systems is passed over, as is what `passed_over` names.
    """
    left_out = LeftOut(suffixes or frozenset())

    def note(error: OSError) -> None:
        errors.append(unreadable(error))

    for path in files_below(folder, note):
        if passed_over(path):
            continue
        if _is_heatmap(path):
            left_out.others[HEATMAP] += 1
        elif suffixes is None or path.suffix.lower() in suffixes:
            yield path
        else:
            left_out.add(path)
    errors += left_out.errors(folder)
    if others is not None:
        others.update(left_out.others)


def _is_heatmap(path: Path) -> bool:
    """Whether the package wrote this image; only where the name is such a one is its head read."""
    if _HEATMAP_NAME.search(path.name) is None:
        return False
    try:
        return HEATMAP_MARK.encode() in read_head(path)
    except MediaError:
        return False


def files_below(folder: Path, note: Callable[[OSError], None]) -> Iterator[Path]:
    """Files below a folder, sorted by name, without the litter of operating systems.

    Links are followed, each folder is entered once. `note` is told what cannot be read.
    """
    for root, folders, files in _walk_once(folder, note):
        folders[:] = sorted(name for name in folders if not is_litter(name))
        for name in sorted(files):
            path = Path(root, name)
            if not is_litter_file(name, partial(kind_by_content, path)):
                yield path


def matches(pattern: str, note: Callable[[OSError], None], *, hidden: bool = False) -> Iterator[str]:
    """What matches a pattern, as `glob` says, and below a last `**` every file.

    In place of `**` each folder is entered once, whatever links lead to it: `glob` goes round their loops.
    `note` is told which of these folders cannot be read. `hidden`: a name may begin with a dot.
    """
    found = _ANY_FOLDERS.search(pattern)
    if found is None:
        yield from glob.iglob(pattern, include_hidden=hidden)
        return
    start, rest = pattern[: found.end(1)], pattern[found.end() :]
    for top in glob.iglob(start, include_hidden=hidden) if start else [os.curdir]:
        for root, folders, files in _walk_once(top, note):
            folders[:] = sorted(name for name in folders if hidden or not name.startswith("."))
            place = root if start else root.removeprefix(os.curdir).removeprefix(os.sep)
            if rest:
                yield from matches(os.path.join(glob.escape(place), rest), note, hidden=hidden)
            else:
                yield from (os.path.join(place, name) for name in files if hidden or not name.startswith("."))


def _walk_once(
    top: str | Path, note: Callable[[OSError], None]
) -> Iterator[tuple[str, list[str], list[str]]]:
    """As `os.walk`, through links too, but each folder once."""
    visited: set[tuple[int, int]] = set()
    for root, folders, files in os.walk(top, followlinks=True, onerror=note):
        try:
            status = os.stat(root)
        except OSError as error:
            note(error)
            continue
        if (status.st_dev, status.st_ino) in visited:
            if Path(root).parent.resolve().is_relative_to(Path(root).resolve()):
                note(OSError(errno.ELOOP, "leads back to a folder that it lies in", root))
            folders.clear()
            continue
        visited.add((status.st_dev, status.st_ino))
        yield root, folders, files


class LeftOut:
    """Counts by kind of the files that a search for some suffixes passes over."""

    def __init__(self, suffixes: frozenset[str]) -> None:
        self._suffixes = suffixes
        self._unread: Counter[str] = Counter()  # images and videos of kinds that are not read
        self._misnamed: Counter[str] = Counter()  # that are read, under a name that is not looked for
        self.others: Counter[str] = Counter()

    def add(self, path: PurePath) -> None:
        """Count a file; the first bytes of a `Path` are read, where they can be."""
        kind, name = file_format(path)
        if kind == "other" or (kind == "video" and VIDEO_SUFFIXES.isdisjoint(self._suffixes)):
            self.others[name] += 1
        elif self._is_read(path, kind) and name.lower() != path.suffix[1:].lower():
            self._misnamed[f"{name} named {path.suffix}" if path.suffix else f"{name} without a suffix"] += 1
        else:
            self._unread[name] += 1

    def _is_read(self, path: PurePath, kind: str) -> bool:
        return isinstance(path, Path) and kind_by_content(path) == kind

    def errors(self, folder: str | Path) -> list[MediaError]:
        """A line on each sort of images and videos that were passed over."""
        sorts = (
            (self._unread, "of kinds that are not read"),
            (self._misnamed, "under names that are not looked for: rename them, or name them one by one"),
        )
        one, many = "image or video", "images or videos"
        return [
            MediaError(folder, f"{counted(counts.total(), one, many)} left out, {reason}: {by_kind(counts)}")
            for counts, reason in sorts
            if counts
        ]


def counted(number: int, one: str, many: str = "") -> str:
    """A number and what it counts; `many` is the plural where that is not `one` with an s.

    >>> counted(1, "image"), counted(1200, "image"), counted(2, "person", "people")
    ('1 image', '1,200 images', '2 people')
    """
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def by_kind(counts: Counter[str]) -> str:
    """Counts in words, the most frequent first.

    >>> by_kind(Counter({"PDF": 1, "TXT": 3}))
    'TXT 3, PDF 1'
    """
    return ", ".join(
        f"{kind} {count}" for kind, count in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    )


def edit_lists_left_out(counts: Counter[str]) -> str:
    """A line on lists of edits by kind, of EDIT_LISTS; at least one.

    >>> edit_lists_left_out(Counter(AAE=2))
    '2 edit lists (AAE 2) were not read: such a file says how an application changed a photograph'
    """
    lists, was = counted(counts.total(), "edit list"), "was" if counts.total() == 1 else "were"
    meaning = "such a file says how an application changed a photograph"
    return f"{lists} ({by_kind(counts)}) {was} not read: {meaning}"


def _unreachable(path: str | Path, error: OSError) -> MediaError:
    url = address(path)
    if url is None:
        return MediaError(path, os_reason(error))
    return MediaError(url, "addresses are not fetched: download it first")
