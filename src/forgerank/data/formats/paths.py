"""Paths inside a data set: folders, and the images and videos in them."""

import errno
from collections.abc import Iterator
from pathlib import Path, PurePath, PurePosixPath

from forgerank.files import os_reason
from forgerank.media.files import files_below
from forgerank.media.suffixes import kind_by_name
from forgerank.types import InputError


def check_root(root: Path) -> None:
    """Raises InputError where `root` is not a folder."""
    if not root.is_dir():
        raise InputError(f"{root}: no such folder")


def is_file(path: Path) -> bool:
    """Whether the file exists; False also for a name that the file system refuses, such as a too long one."""
    try:
        return path.is_file()
    except OSError:
        return False


def why_missing(path: Path) -> str | None:
    """Why an image cannot be found under its name; None where it is there."""
    try:
        return None if path.is_file() else "missing image"
    except OSError as error:
        return os_reason(error)


def all_files(folder: Path) -> Iterator[Path]:
    """As `files_below`. Raises InputError for a folder that cannot be read, whose files would be missing."""

    def refuse(error: OSError) -> None:
        if error.errno == errno.ELOOP:  # a link to a folder around it, whose files are there
            return
        raise InputError(f"{error.filename}: cannot be read: {os_reason(error)}")

    return files_below(folder, refuse)


def is_image(path: PurePath) -> bool:
    """Whether the name is that of an image; hidden files, such as `._0.png`, are none."""
    return kind_by_name(path) == "image" and not path.name.startswith(".")


def video_files(folder: Path) -> list[str]:
    """Names of the videos in a folder, sorted, without hidden files; none where the folder does not exist."""
    if not folder.is_dir():
        return []
    return sorted(
        path.name
        for path in folder.iterdir()
        if kind_by_name(path) == "video" and not path.name.startswith(".")
    )


def inner_path(text: str, where: str) -> PurePosixPath:
    """A path inside a data set, of either kind of slashes. Raises InputError for one that leads out of it."""
    path = PurePosixPath(text.replace("\\", "/"))
    if not path.name or path.is_absolute() or ".." in path.parts or ":" in path.parts[0]:
        raise InputError(f"{where}: {text!r} is not a path inside the data set")
    return path
