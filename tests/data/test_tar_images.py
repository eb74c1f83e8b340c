"""Images in tars, whole and damaged."""

import bz2
import gzip
import io
import lzma
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from forgerank.data import tar_files
from forgerank.data.clip import Clip, read_frames
from forgerank.data.tar_files import DamagedTarError, read_archive, tar_names
from forgerank.media.frame_access import Lost
from forgerank.types import InputError
from layouts import write_tar


def images(count: int) -> dict[str, np.ndarray]:
    noise = np.random.default_rng(0).integers(0, 256, size=(count, 40, 40, 3), dtype=np.uint8)
    return {f"0/real/{count - number}.png": image for number, image in enumerate(noise)}


@pytest.mark.parametrize("name", ["0.tar", "0.tar.gz", "0.tgz"])
def test_members_come_as_they_are_and_in_the_order_of_the_tar(tmp_path: Path, name: str) -> None:
    whole = images(3)
    write_tar(tmp_path / name, {f"./{member}": image for member, image in whole.items()})
    assert list(tar_names(tmp_path / name)) == list(whole)
    archive = read_archive(tmp_path / name, ["0/real/2.png", "./0/real/1.png", "0/real/9.png"])
    assert set(archive.contents) == {"0/real/2.png", "0/real/1.png"}
    assert archive.reason == ""
    content = archive.contents["0/real/2.png"]
    assert content is not None
    assert np.array_equal(Image.open(io.BytesIO(content)), whole["0/real/2.png"])


def test_what_is_no_image_or_hidden_is_passed_over(tmp_path: Path) -> None:
    image = np.zeros((4, 4, 3), dtype=np.uint8)
    write_tar(tmp_path / "0.tar", {"a/._0.png": image, "a/0.png": image, "a/0.txt": image})
    assert list(tar_names(tmp_path / "0.tar")) == ["a/0.png"]


def test_a_truncated_tar_is_named_after_the_names_before_the_damage(tmp_path: Path) -> None:
    path = tmp_path / "0.tar.gz"
    write_tar(path, images(8))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    names = tar_names(path)
    assert next(names) == "0/real/8.png"
    with pytest.raises(DamagedTarError, match=r"0\.tar\.gz: cannot be read as a tar file: truncated") as info:
        list(names)
    assert info.value.reason == "truncated"


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress])
def test_tars_that_were_joined_are_read_to_the_end(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "0.tar"
    for name in ("a/0.png", "a/1.png"):
        write_tar(tmp_path / f"{name[2]}.tgz", {name: images(1)["0/real/1.png"]})
    first, second = (gzip.decompress((tmp_path / f"{name}.tgz").read_bytes()) for name in "01")
    path.write_bytes(pack(first + second))
    assert list(tar_names(path)) == ["a/0.png", "a/1.png"]
    path.write_bytes(pack(first) + pack(second) + pack(first))  # as cat joins them; one comes twice
    assert list(tar_names(path)) == ["a/0.png", "a/1.png"]
    path.write_bytes(pack(first + b"?" * 512 + second))
    names = tar_names(path)
    assert next(names) == "a/0.png"
    with pytest.raises(DamagedTarError, match="it goes on with something else"):
        next(names)
    path.write_bytes(pack(first[: first.index(bytes(1024))] + bytes(512)[:300]))  # cut in a header
    assert read_archive(path, ["a/1.png"]).reason == "truncated"


def test_links_are_listed_and_said_to_be_links(tmp_path: Path) -> None:
    path = tmp_path / "0.tar"
    with tarfile.open(path, "w") as tar:
        for kind, name in (
            (tarfile.LNKTYPE, "0.png"),
            (tarfile.SYMTYPE, "1.png"),
            (tarfile.DIRTYPE, "2.png"),
        ):
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, "9.png"
            tar.addfile(entry)
    clip = Clip(path, (), "group", "train", "set", "name")
    lost = [(frame.number, frame.reason) for frame in read_frames(clip, None) if isinstance(frame, Lost)]
    assert lost == [(0, "unreadable: a link in the tar"), (1, "unreadable: a link in the tar")]


@pytest.mark.parametrize(
    "content", [b"no tar", b"", b"\x1f\x8b\x08rest"], ids=["text", "empty", "head of a gzip file"]
)
def test_what_is_no_tar_says_so(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "0.tar.gz").write_bytes(content)
    with pytest.raises(DamagedTarError, match=r"0\.tar\.gz: cannot be read as a tar file: ") as info:
        list(tar_names(tmp_path / "0.tar.gz"))
    assert info.value.reason.startswith("unreadable: ")
    assert read_archive(tmp_path / "0.tar.gz", ["0.png"]) == ({}, info.value.reason)


def test_a_name_that_leads_out_ends_the_reading(tmp_path: Path) -> None:
    image = np.zeros((4, 4, 3), dtype=np.uint8)
    write_tar(tmp_path / "0.tar", {"a/0.png": image, "../1.png": image, "a/2.png": image})
    archive = read_archive(tmp_path / "0.tar", ["a/0.png", "a/2.png"])
    assert list(archive.contents) == ["a/0.png"]
    assert archive.reason == "unreadable: '../1.png' is not a path inside the data set"


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path) -> None:
    def members() -> Iterator[tuple[str, bytes]]:
        yield "a.jpg", b"content"
        raise OSError(28, "No space left on device")

    with pytest.raises(InputError, match=r"part\.tar: cannot be written \(no space left on device\)"):
        tar_files.write_tar(tmp_path / "part.tar", members())
    assert list(tmp_path.iterdir()) == []
