"""Folders searched for photographs and videos: what is found, in what order, and what is said of the rest."""

import os
from pathlib import Path

import pytest

from forgerank.media.files import find_media, find_photos


def test_find_photos_expands_folders_in_order(tmp_path: Path) -> None:
    for name in ("b/2.png", "b/1.JPG", "a/x.webp", "c.tif", "a/notes.txt", "video.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "b" / "loop").symlink_to(tmp_path)
    (tmp_path / "empty").mkdir()
    missing = tmp_path / "missing"
    paths, errors = find_photos([tmp_path, missing, tmp_path / "video.mp4", tmp_path / "empty", "a\0"])
    names = [str(path.relative_to(tmp_path)) for path in paths]
    assert names == ["c.tif", "a/x.webp", "b/1.JPG", "b/2.png", "video.mp4"]
    assert [error.reason for error in errors] == [
        "leads back to a folder that it lies in",
        "no such file or folder",
        "no photograph in this folder",
        "not a valid path",
    ]
    assert [error.path for error in errors[:2]] == [str(tmp_path / "b" / "loop"), str(missing)]


def test_find_media_finds_videos_as_well(tmp_path: Path) -> None:
    for name in ("b.MP4", "a.webm", "c.png", "notes.txt"):
        (tmp_path / name).touch()
    (tmp_path / "empty").mkdir()
    paths, errors = find_media([tmp_path, tmp_path / "empty"])
    assert [path.name for path in paths] == ["a.webm", "b.MP4", "c.png"]
    assert [error.reason for error in errors] == ["no photograph or video in this folder"]


def test_find_photos_reports_an_unreadable_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scandir = os.scandir

    def refuse(path: str) -> object:
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    (tmp_path / "locked").mkdir()
    (tmp_path / "a.png").touch()
    monkeypatch.setattr(os, "scandir", refuse)
    paths, errors = find_photos([tmp_path])
    assert paths == [tmp_path / "a.png"]
    assert [str(error) for error in errors] == [f"{tmp_path / 'locked'}: permission denied"]
