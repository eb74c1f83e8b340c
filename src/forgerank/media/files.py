"""Files on the disk: checked and read with one-line reasons, and folders searched for media."""

import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from forgerank.media.suffixes import IMAGE_SUFFIXES, MEDIA_SUFFIXES
from forgerank.types import InputError

_MAX_BYTES = 1_000_000_000


class MediaError(InputError):
    """A path that gives no image: `path` as asked for and `reason`; `str()` is both on one line."""

    def __init__(self, path: str | Path, reason: str) -> None:
        self.path = str(path)
        self.reason = " ".join(reason.split())
        super().__init__(f"{self.path}: {self.reason}")


def check_file(path: str | Path) -> None:
    """Raises MediaError for anything but a regular file with content."""
    try:
        status = os.stat(path)
    except ValueError:
        raise MediaError(path, "not a valid path") from None
    except OSError as error:
        raise MediaError(path, _os_reason(error)) from None
    if stat.S_ISDIR(status.st_mode):
        raise MediaError(path, "is a directory")
    if not stat.S_ISREG(status.st_mode):
        raise MediaError(path, "not a regular file")
    if status.st_size == 0:
        raise MediaError(path, "empty file")


def read_file(path: str | Path, *, max_bytes: int = _MAX_BYTES) -> bytes:
    """The content of a regular file. Raises MediaError for anything else, more than `max_bytes` included."""
    check_file(path)
    try:
        with open(path, "rb") as file:
            content = file.read(max_bytes + 1)
    except OSError as error:
        raise MediaError(path, _os_reason(error)) from None
    if len(content) > max_bytes:
        raise MediaError(path, f"over the limit of {max_bytes} bytes")
    return content


def find_photos(paths: Iterable[str | Path]) -> tuple[list[Path], list[MediaError]]:
    """Expand folders to the photographs in them: recursive, sorted, each folder once if links form a loop.

    A path to a file is kept whatever its suffix. Missing paths, unreadable folders and folders without a
    photograph come back as errors and stop nothing.
    """
    return _find(paths, IMAGE_SUFFIXES, "no photograph in this folder")


def find_media(paths: Iterable[str | Path]) -> tuple[list[Path], list[MediaError]]:
    """Like `find_photos`, for photographs and videos."""
    return _find(paths, MEDIA_SUFFIXES, "no photograph or video in this folder")


def _find(
    paths: Iterable[str | Path], suffixes: frozenset[str], nothing: str
) -> tuple[list[Path], list[MediaError]]:
    found: list[Path] = []
    errors: list[MediaError] = []
    for path in paths:
        try:
            is_folder = stat.S_ISDIR(os.stat(path).st_mode)
        except ValueError:
            errors.append(MediaError(path, "not a valid path"))
            continue
        except OSError as error:
            errors.append(MediaError(path, _os_reason(error)))
            continue
        if not is_folder:
            found.append(Path(path))
            continue
        inside = list(walk(Path(path), suffixes, errors))
        if not inside and not any(Path(error.path).is_relative_to(path) for error in errors):
            errors.append(MediaError(path, nothing))
        found.extend(inside)
    return found, errors


def walk(folder: Path, suffixes: frozenset[str] | None, errors: list[MediaError]) -> Iterator[Path]:
    """Files below a folder, sorted by name, with one of the lower-case suffixes or any (None).

    One folder is held in memory at a time. Links are followed, each folder is entered once; what cannot be
    read is appended to `errors`.
    """
    visited: set[tuple[int, int]] = set()

    def note(error: OSError) -> None:
        errors.append(MediaError(str(error.filename), _os_reason(error)))

    for root, folders, files in os.walk(folder, followlinks=True, onerror=note):
        try:
            status = os.stat(root)
        except OSError as error:
            note(error)
            continue
        if (status.st_dev, status.st_ino) in visited:
            if Path(root).parent.resolve().is_relative_to(Path(root).resolve()):
                errors.append(MediaError(root, "leads back to a folder that it lies in"))
            folders.clear()
            continue
        visited.add((status.st_dev, status.st_ino))
        folders.sort()
        for name in sorted(files):
            if suffixes is None or Path(name).suffix.lower() in suffixes:
                yield Path(root, name)


def _os_reason(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file or folder"
    return (error.strerror or type(error).__name__).lower()
