"""Images and videos recognised by their content, and by their name where the content says nothing."""

import os
from pathlib import Path, PurePath

import numpy as np
import pytest
from PIL import Image as PILImage

from forgerank.media.files import MediaError
from forgerank.media.images import read_photo
from forgerank.media.suffixes import (
    IMAGE_SUFFIXES,
    VIDEO_SUFFIXES,
    file_format,
    image_format,
    is_litter,
    kind_by_content,
    kind_by_name,
    known_format,
    media_kind,
)
from forgerank.media.videos import open_video
from videos import write_video

NOISE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    "name", ["a.mp4", "a.mov", "a.mkv", "a.avi", "a.ts", "a.flv", "a.mpg", "a.wmv", "a.ogv"]
)
def test_videos_by_content(name: str, tmp_path: Path) -> None:
    codec = {"a.mpg": "mpeg2video", "a.wmv": "wmv2", "a.avi": "mpeg4"}.get(name, "libx264")
    if name == "a.ogv":
        (tmp_path / "a").write_bytes(b"OggS" + bytes(40))
    else:
        write_video(tmp_path / name, [NOISE] * 25, rate=25, codec=codec).rename(tmp_path / "a")
    assert kind_by_content(tmp_path / "a") == "video"


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "bmp", "tif"])
def test_images_by_content(suffix: str, tmp_path: Path) -> None:
    PILImage.fromarray(NOISE).save(tmp_path / f"a.{suffix}")
    (tmp_path / f"a.{suffix}").rename(tmp_path / "a.mp4")
    assert kind_by_content(tmp_path / "a.mp4") == "image"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"#EXTM3U\n",
        b"G" + bytes(2000),
        b"text",
        b"RIFF\0\0\0\0WAVEfmt ",
    ],
)
def test_other_files_by_content(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(content)
    assert kind_by_content(tmp_path / "a.mp4") == "other"


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"....ftypavif", "AVIF"),
        (b"....ftypavis", "AVIF"),
        (b"....ftypheic", "HEIC"),
        (b"....ftypmif1\0\0\0\0mif1heic", "HEIC"),
        (b"....ftypmif1\0\0\0\0mif1avif", "AVIF"),
        (b"GIF89a", "GIF"),
        (b"....ftypisom", None),
        (b"8BPS", None),
    ],
)
def test_formats_by_their_first_bytes(head: bytes, expected: str | None) -> None:
    assert image_format(head) == expected


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"8BPS\0\1", "PSD"),
        (b"\xff\x4f\xff\x51", "JPEG 2000"),
        (b"GIF89a", "GIF"),
        (b'\xef\xbb\xbf\n<?xml version="1.0"?><svg xmlns="', "SVG"),
        (b"<!DOCTYPE html><HTML><body><svg>", None),
        (bytes(128) + b"DICM", "DICOM"),
        (b"\0\0\1\0\7\0", "ICO"),
        (b"\0\0\1\0ftypisom", None),
        (b"text", None),
        (bytes(100), None),
        (bytes(range(100)), None),
    ],
)
def test_formats_that_are_known_though_not_read(head: bytes, expected: str | None) -> None:
    assert known_format(head) == expected


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"\0\0\0\x01\x67\x64\0\x0d", "bare H.264"),
        (b"\0\0\0\x01\x40\x01\x0c", "bare HEVC"),
        (b"YUV4MPEG2 W64", "Y4M"),
        (b"\x06\x0e\x2b\x34\x02\x05\x01\x01", "MXF"),
        (b"CWS\x09", "Flash"),
    ],
)
def test_videos_that_are_known_though_not_read(head: bytes, kind: str, tmp_path: Path) -> None:
    (tmp_path / "a.dat").write_bytes(head + bytes(99))
    assert file_format(tmp_path / "a.dat") == ("video", kind)
    with pytest.raises(MediaError, match=rf"a video of a kind that is not read \({kind}\): put it into MP4"):
        read_photo(tmp_path / "a.dat")


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.mp4")
    assert kind_by_content(tmp_path / "a.mp4") == "other"
    assert media_kind(tmp_path / "a.mp4") == "video"
    with pytest.raises(MediaError, match="not a regular file"), open_video(tmp_path / "a.mp4"):
        pass


def test_a_transport_stream_may_begin_like_a_bmp(tmp_path: Path) -> None:
    packet = b"G" + bytes(187)
    (tmp_path / "a.m2ts").write_bytes(b"BM\0\0" + packet + 9 * (bytes(4) + packet))
    assert kind_by_content(tmp_path / "a.m2ts") == "video"


def test_unreadable_files_are_of_no_kind(tmp_path: Path) -> None:
    assert kind_by_content(tmp_path / "missing") == "other"
    assert kind_by_content(tmp_path) == "other"
    assert kind_by_content("a\0b") == "other"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (".IMG_0001.HEIC.icloud", ("image", "ICLOUD")),
        ("IMG-1.jpg.crypt14", ("image", "CRYPT14")),
        ("a.MP4.gpg", ("video", "GPG")),
        ("msgstore.db.crypt14", ("other", "CRYPT14")),
        ("IMG_0001.jpg.json", ("other", "JSON")),
    ],
)
def test_what_is_withheld_counts_as_what_it_is(name: str, expected: tuple[str, str], tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"\x85\x01\x0c")
    assert file_format(tmp_path / name) == file_format(PurePath(name)) == expected


def test_suffixes_in_upper_and_lower_case() -> None:
    assert {kind_by_name("a" + suffix.upper()) for suffix in IMAGE_SUFFIXES} == {"image"}
    assert {kind_by_name(Path("folder.png", "a" + suffix)) for suffix in VIDEO_SUFFIXES} == {"video"}
    assert {kind_by_name(name) for name in ("", "png", ".png", "a.png.txt", "a.mp3")} == {"other"}


def test_the_name_counts_where_the_content_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"text")
    assert media_kind(tmp_path / "a.mp4") == "video"
    assert media_kind(tmp_path / "a.mp4", "theirs.png") == "image"
    assert media_kind(tmp_path / "a.mp4", "") == "other"
    PILImage.fromarray(NOISE).save(tmp_path / "a.mp4", format="PNG")
    assert media_kind(tmp_path / "a.mp4") == "image"


@pytest.mark.parametrize(
    "name",
    [
        "._a.jpg",
        "trip/._a.jpg",
        "__MACOSX/",
        "__MACOSX/trip/a.jpg",
        "a\\.DS_Store",
        "THUMBS.DB",
        "x/desktop.ini",
        "x/ehthumbs_vista.db",
        "Thumbs.db:encryptable",
        "photos/@eaDir/a.jpg/SYNOPHOTO_THUMB_M.jpg",
        ".Spotlight-V100/Store-V2/1.db",
        "System Volume Information/x",
        "Icon\r",
        "a.jpg:Zone.Identifier",
        ".thumbnails/1.jpg",
        "~$letter.docx",
        ".~lock.letter.odt#",
        ".BridgeCache",
        "$RECYCLE.BIN/S-1-5-21-1/$I2QX7AB.jpg",
        "$I2QX7AB",
        "RECYCLER/S-1-5-21-1/INFO2",
        ".Trash-1000/info/a.jpg.trashinfo",
        ".Trash-1000/directorysizes",
        "DCIM/.thumbnails/1.jpg",
        "DCIM/.thumbdata4--1967290299",
        "a.jpg.Zone.Identifier",
        "a.jpg_Zone.Identifier",
        ".com.apple.timemachine.supported",
        ".metadata_never_index",
        ".AppleDB/cnid2.db",
        ".stfolder",
    ],
)
def test_litter(name: str) -> None:
    assert is_litter(name)
    assert is_litter(Path(name))


@pytest.mark.parametrize(
    "name",
    ["a.jpg", "_a.jpg", ".a.jpg", "Thumbs.db.jpg", "MACOSX/a.jpg", "trip/", "", "/", "$RECYCLE.BIN/a.jpg"],
)
def test_what_people_own_is_no_litter(name: str) -> None:
    assert not is_litter(name)


@pytest.mark.parametrize("name", ["$R2QX7AB.jpg", "$I.jpg", ".Trash-1000/files/a.jpg", ".trashed-1-a.jpg"])
def test_what_people_deleted_is_no_litter(name: str) -> None:
    assert not is_litter(name)
