"""Whose fault it is: the server's own troubles are told from those of files."""

import errno
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from forgerank.judging import judge_file
from forgerank.media.files import MediaError
from forgerank.media.images import read_photo
from forgerank.serving.trouble import trouble
from forgerank.types import InputError

MEMORY, FILES = "it is out of memory", "it has too many open files"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "its disk is full"),
        (OSError(errno.EROFS, "Read-only file system"), "its disk cannot be written to"),
        (OSError(errno.EMFILE, "Too many open files"), FILES),
        (FileExistsError(errno.EEXIST, "File exists"), "its folder cannot be used"),
        (PermissionError(errno.EACCES, "Permission denied"), "its folder cannot be used"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory"), None),
        (RuntimeError("can't start new thread"), "it has too much in work"),
        (RuntimeError("[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : std::bad_alloc"), MEMORY),
        (MemoryError(), MEMORY),
        (ValueError("of another shape"), None),
        (InputError("a.jpg: unable to allocate memory, says the file"), None),
    ],
)
def test_an_error_by_itself(error: Exception, expected: str | None) -> None:
    assert trouble(error) == expected


@contextmanager
def no_file_to_spare() -> Iterator[None]:
    lowest = os.open(os.devnull, os.O_RDONLY)
    os.close(lowest)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("name", ["a.png", "a.mp4"])
def test_a_process_without_a_file_to_spare_blames_no_file(name: str, tmp_path: Path) -> None:
    detector: Any = None  # which is not reached
    path = tmp_path / name
    if name == "a.png":
        Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(path)
    else:
        path.write_bytes(b"\0\0\0\x18ftypisom\0\0\0\0isommp42" + bytes(64))
    with pytest.raises(MediaError) as damaged:
        judge_file(detector, tmp_path / "lost.png", name="b")
    assert trouble(damaged.value) is None
    with no_file_to_spare(), pytest.raises(MediaError) as met:
        judge_file(detector, path, name="b")
    assert met.value.reason == "too many open files"
    assert trouble(met.value) == FILES


def test_an_image_that_memory_does_not_suffice_for_is_not_blamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: object) -> None:
        raise MemoryError

    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(tmp_path / "a.png")
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", fail)
    with pytest.raises(MediaError, match="not enough memory to decode it") as met:
        read_photo(tmp_path / "a.png")
    assert trouble(met.value) == MEMORY
