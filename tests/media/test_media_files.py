"""Folders searched for photographs and videos: what is found, in what order, and what is said of the rest."""

import glob
import os
import unicodedata
from collections import Counter
from functools import partial
from pathlib import Path

import pytest

from forgerank.media.files import MediaError, by_kind, check_file, find_media, find_photos, matches
from forgerank.media.suffixes import is_litter_file


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


@pytest.mark.parametrize("hidden", [False, True])
def test_patterns_match_what_glob_matches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hidden: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a/b/1.jpg", "a/[x]/2.jpg", "a/[x]/b/3.jpg", ".h/4.jpg", "a/.5.jpg", "b/6.png", "7.jpg"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    everything = partial(glob.glob, recursive=True, include_hidden=hidden)
    patterns = ("**/*.jpg", "a/**/*.jpg", "./**//b/*", "**/b/**/*.jpg", "*/**/[[]x]/*", "a**/*", "no/**/*")
    for pattern in (*patterns, f"{tmp_path}/**/*.jpg"):
        found = {os.path.normpath(path) for path in matches(pattern, pytest.fail, hidden=hidden)}
        assert found == {os.path.normpath(path) for path in everything(pattern)}
    files = {path for path in everything("**") if os.path.isfile(path)}
    assert {*matches("**", pytest.fail, hidden=hidden)} == files


def test_a_pattern_enters_a_folder_once_whatever_links_lead_to_it(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/1.jpg").touch()
    for name in ("top", "again", "once/more"):  # glob goes three ways from each, 40 links deep
        (tmp_path / "a" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "a" / name).symlink_to(tmp_path)
    loops: list[OSError] = []
    assert [*matches(f"{tmp_path}/**/*.jpg", loops.append)] == [str(tmp_path / "a/1.jpg")]
    assert {Path(error.filename).name for error in loops} == {"top", "again", "more"}


@pytest.mark.parametrize("kind", [str, Path])
def test_an_address_is_no_file(kind: type) -> None:
    line = "https://example.com/a.jpg: addresses are not fetched: download it first"
    with pytest.raises(MediaError, match=line):
        check_file(kind("https://example.com/a.jpg"))


def test_find_media_finds_videos_as_well(tmp_path: Path) -> None:
    for name in ("b.MP4", "a.webm", "c.png", "notes.txt"):
        (tmp_path / name).touch()
    (tmp_path / "empty").mkdir()
    paths, errors = find_media([tmp_path, tmp_path / "empty"])
    assert [path.name for path in paths] == ["a.webm", "b.MP4", "c.png"]
    assert [error.reason for error in errors] == ["no photograph or video in this folder"]


def test_a_name_in_another_spelling_is_found(tmp_path: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "zoé.jpg") for form in ("NFC", "NFD"))
    (tmp_path / decomposed).touch()
    assert find_media([tmp_path / composed, str(tmp_path / composed)]) == ([tmp_path / decomposed] * 2, [])


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


def test_litter_of_other_systems_is_no_evidence(tmp_path: Path) -> None:
    for name in (
        "__MACOSX/._a.jpg",
        "__MACOSX/deep/b.jpg",
        "._c.png",
        "Thumbs.db",
        "desktop.ini",
        ".DS_Store",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"litter")
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xff")
    others: Counter[str] = Counter()
    assert find_media([tmp_path], others) == ([tmp_path / "a.jpg"], [])
    assert not others


def test_sound_is_counted_by_kind_like_other_files(tmp_path: Path) -> None:
    contents = {
        "PTT-1.opus": b"OggS" + bytes(24) + b"OpusHead",
        "note.m4a": b"\0\0\0\x20ftypM4A \0\0\0\0",
        "phone.m4a": b"\0\0\0\x20ftypisom\0\0\0\0",
        "a.mp3": b"ID3\4",
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content + bytes(99))
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    (tmp_path / "film.ogg").write_bytes(b"OggS" + bytes(24) + b"OpusHead" + bytes(30) + b"\x80theora")
    others: Counter[str] = Counter()
    paths, [error] = find_media([tmp_path], others)
    assert paths == [tmp_path / "a.jpg"]
    assert by_kind(others) == "M4A 2, MP3 1, OPUS 1"
    assert error.reason.endswith("video named .ogg 1")


def test_an_image_with_the_name_of_litter_is_judged(tmp_path: Path) -> None:
    for name in ("._a.jpg", "~$b.jpg", "@eaDir/c.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"\xff\xd8\xff\xe0")
    others: Counter[str] = Counter()
    assert find_media([tmp_path], others) == ([tmp_path / "._a.jpg", tmp_path / "~$b.jpg"], [])
    assert not others
    assert find_media([tmp_path / "@eaDir"])[0] == [tmp_path / "@eaDir/c.jpg"]
    assert is_litter_file("@eaDir/c.jpg", lambda: "image")
    assert not is_litter_file("._a.jpg", lambda: "image")
    assert is_litter_file("._a.jpg", lambda: "other")


def test_what_is_left_out_is_counted_by_kind(tmp_path: Path) -> None:
    jpeg = b"\xff\xd8\xff\xe0" + bytes(20)
    contents = {
        "a.jpg": jpeg,
        "b.JXL": b"\0\0\0\x0cJXL \r\n\x87\n",
        "deep/c.jp2": b"\0\0\0\x0cjP  \r\n\x87\n",
        "deep/d.psd": b"8BPS",
        "e.dat": jpeg,
        "f": b"\x89PNG\r\n\x1a\n",
        "raw.dng": b"II*\0" + bytes(20),
        "empty.psd": b"",
        "notes.txt": b"notes",
        "more.txt": b"notes",
        "letter.pdf": b"%PDF",
    }
    for name, content in contents.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    os.mkfifo(tmp_path / "pipe")
    others: Counter[str] = Counter()
    paths, errors = find_photos([tmp_path], others)
    assert paths == [tmp_path / "a.jpg"]
    assert [str(error) for error in errors] == [
        f"{tmp_path}: 5 images or videos left out, of kinds that are not read: "
        "PSD 2, DNG 1, JPEG 2000 1, JPEG XL 1",
        f"{tmp_path}: 2 images or videos left out, under names that are not looked for: rename them, or name "
        "them one by one: JPEG named .dat 1, PNG without a suffix 1",
    ]
    assert by_kind(others) == "TXT 2, PDF 1, no suffix 1"


@pytest.mark.parametrize("address", ["https://example.com/a.jpg", "s3://bucket/a.jpg", "file:///a.jpg"])
@pytest.mark.parametrize("kind", [str, Path])
def test_addresses_are_not_fetched(address: str, kind: type) -> None:
    _, (error,) = find_media([kind(address)])
    assert str(error) == f"{address}: addresses are not fetched: download it first"
