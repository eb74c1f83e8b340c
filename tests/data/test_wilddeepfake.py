import io
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from forgerank.data.formats.wilddeepfake import wilddeepfake
from forgerank.data.tar_files import read_archive, tar_names
from forgerank.types import InputError
from layouts import write_tar, write_wilddeepfake


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("packed")
    write_wilddeepfake(root)
    return root


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("unpacked")
    write_wilddeepfake(root, tars=False, spaces=True)
    return root


def test_every_folder_of_frames_is_a_sequence(packed: Path) -> None:
    clips = wilddeepfake(packed)
    counts = Counter((clip.split, clip.method, clip.sequence) for clip in clips)
    assert counts == {
        ("train", "", ()): 4,
        ("test", "", ()): 4,
        ("train", "fake", (1,)): 4,
        ("test", "fake", (1,)): 4,
    }
    assert len({clip.name for clip in clips}) == 16
    assert len({clip.group for clip in clips}) == 8
    assert clips[0].path == packed / "fake_test/0.tar.gz"
    assert clips[0].group == clips[1].group == "wilddeepfake/fake_test/0"


def test_packed_and_unpacked_differ_in_paths_alone(packed: Path, unpacked: Path) -> None:
    def described(root: Path) -> list[tuple[object, ...]]:
        return [
            (clip.name, clip.group, clip.split, clip.sequence, tuple(Path(name).name for name in clip.frames))
            for clip in wilddeepfake(root)
        ]

    assert described(packed) == described(unpacked)
    assert all((clip.path / clip.frames[0]).is_file() for clip in wilddeepfake(unpacked))
    assert wilddeepfake(packed)[0].name == "fake_test/0/fake/0"


def test_frames_are_in_the_order_of_their_numbers(packed: Path, unpacked: Path) -> None:
    for root in (packed, unpacked):
        for clip in wilddeepfake(root):
            assert [Path(name).name for name in clip.frames] == ["0.png", "2.png", "10.png"]


def test_frames_of_a_tar_are_what_reading_it_gives(packed: Path) -> None:
    path = packed / "real_train/1.tar.gz"
    listed = [name for clip in wilddeepfake(packed) if clip.path == path for name in clip.frames]
    named = list(tar_names(path))
    assert named == [
        f"1/real/{sequence}/{name}" for sequence in "01" for name in ("10.png", "2.png", "0.png")
    ]
    assert set(listed) == set(named)
    read = read_archive(path, listed).contents
    pixels = {name: np.asarray(Image.open(io.BytesIO(data or b""))) for name, data in read.items()}
    assert pixels["1/real/0/0.png"].shape == (48, 64, 3)
    assert not np.array_equal(pixels["1/real/0/0.png"], pixels["1/real/1/0.png"])


def test_a_damaged_tar_costs_no_other(tmp_path: Path) -> None:
    write_wilddeepfake(tmp_path)
    noise = np.random.default_rng(0).integers(0, 256, size=(3, 64, 64, 3), dtype=np.uint8)
    path = tmp_path / "fake_test/0.tar.gz"
    write_tar(path, {f"0/fake/{number}/0.png": image for number, image in enumerate(noise)})
    path.write_bytes(path.read_bytes()[:-10_000])
    (tmp_path / "fake_test/2.tar.gz").write_bytes(b"no tar")
    clips = [clip for clip in wilddeepfake(tmp_path) if clip.name.startswith("fake_test")]
    assert [(clip.name, len(clip.frames)) for clip in clips] == [
        ("fake_test/0/fake/0", 1),
        ("fake_test/0/fake/1", 1),
        ("fake_test/0 (damaged)", 0),
        ("fake_test/1/fake/0", 3),
        ("fake_test/1/fake/1", 3),
        ("fake_test/2 (damaged)", 0),
    ]
    with pytest.raises(InputError, match=r"2\.tar\.gz: cannot be read as a tar file"):
        list(tar_names(tmp_path / "fake_test/2.tar.gz"))


def test_a_tar_that_leads_out_of_the_folder_is_damaged(tmp_path: Path) -> None:
    image = np.zeros((4, 4, 3), dtype=np.uint8)
    write_tar(tmp_path / "real_test/0.tar", {"../../0.png": image})
    assert [(clip.name, clip.frames) for clip in wilddeepfake(tmp_path)] == [("real_test/0 (damaged)", ())]


def test_packed_beside_unpacked_is_refused(tmp_path: Path) -> None:
    write_wilddeepfake(tmp_path)
    (tmp_path / "real_train/0").mkdir()
    with pytest.raises(InputError, match=r"real_train: holds both .*: remove one of them"):
        wilddeepfake(tmp_path)


def test_the_level_of_the_download_may_be_kept(tmp_path: Path) -> None:
    write_wilddeepfake(tmp_path / "deepfake_in_the_wild", tars=False)
    assert wilddeepfake(tmp_path)[0].name == "fake_test/0/fake/0"


def test_a_root_without_the_layout_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    with pytest.raises(InputError, match="no WildDeepfake here: expected real_train/"):
        wilddeepfake(tmp_path)
