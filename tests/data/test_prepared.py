"""Prepared faces as a data set."""

from pathlib import Path

import numpy as np
import pytest

import layouts
from forgerank.data.clip import Clip
from forgerank.data.formats.prepared import Prepared
from forgerank.data.formats.registry import DATASETS
from forgerank.data.prepare.face_crops import CutConfig
from forgerank.data.prepare.video_faces import prepare
from forgerank.faces.align import TEMPLATE, estimate_alignment
from forgerank.types import InputError


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two reals and two forged clips by two methods for training, one for testing, one of no split."""
    from skimage.data import astronaut

    face = np.ascontiguousarray(astronaut()[20:200, 130:310])
    root = tmp_path_factory.mktemp("prepared")
    layouts.write_images(root / "clip", {f"{number}.png": face for number in range(5)})
    table = [
        ("train", "r1", "", "c23"),
        ("train", "r2", "", "c40"),
        ("train", "f1", "Deepfakes", "c23"),
        ("train", "f2", "FaceSwap", "c23"),
        ("test", "f3", "FaceSwap", "c23"),
        ("", "u1", "", ""),
    ]
    clips = [
        Clip(root / "clip", (1,) if method else (), f"g{name}", split, "d", name, method, level)
        for split, name, method, level in table
    ]
    prepare(clips, root / "out", CutConfig(frames=None, size=128))
    return root / "out"


def videos(source: Prepared) -> list[str]:
    return sorted({sample.video for sample in source.samples})


def test_samples_carry_everything_of_their_clip(root: Path) -> None:
    source = DATASETS["prepared"](root, "train", length=1)
    assert len(source) == 20
    sample = next(sample for sample in source.samples if sample.video == "f1")
    assert (sample.sequence, sample.group, sample.dataset) == ((1,), "gf1", "d")
    assert (sample.method, sample.compression, sample.split) == ("Deepfakes", "c23", "train")
    image = source.load(0, np.random.default_rng(0))
    assert image.image.shape == (128, 128, 3)
    aligned = estimate_alignment(image.points, 128).to_crop(image.points)
    assert np.abs(aligned - TEMPLATE * 128).max() < 10


def test_filters_keep_real_clips(root: Path) -> None:
    assert videos(Prepared(root, "train", methods=["FaceSwap"])) == ["f2", "r1", "r2"]
    assert videos(Prepared(root, "train", compressions=["c40"])) == ["r2"]
    assert videos(Prepared(root, "val")) == []


def test_clips_of_no_split_belong_to_one(root: Path) -> None:
    assert videos(Prepared(root, "test")) == ["f3", "u1"]
    assert videos(Prepared(root, "train", unsplit="train"))[-1] == "u1"
    assert {sample.split for sample in Prepared(root, "test").samples} == {"test"}


def test_fewer_frames_are_evenly_spaced(root: Path) -> None:
    source = Prepared(root, "train", frames_per_clip=2)
    frames = [(sample.video, sample.image.stem) for sample in source.samples]
    assert frames == [(name, frame) for name in ("f1", "f2", "r1", "r2") for frame in ("000001", "000003")]


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"methods": ["Face2Face"]}, "no method Face2Face, only Deepfakes, FaceSwap"),
        ({"compressions": ["raw"]}, "no compression raw, only c23, c40"),
        ({"frames_per_clip": 0}, "give at least 1"),
        ({"length": 0}, "f1: labels must lie in"),
    ],
)
def test_options_that_cannot_be(root: Path, options: dict, line: str) -> None:
    with pytest.raises(InputError, match=line):
        Prepared(root, "train", **options)


def test_folders_without_a_whole_index(root: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"index\.parquet: no such file; `forgerank data prepare`"):
        Prepared(tmp_path, "train")
    data = (root / "index.parquet").read_bytes()
    (tmp_path / "index.parquet").write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match="cannot be read"):
        Prepared(tmp_path, "train")
