"""Prepared faces as a data set."""

import os
from pathlib import Path

import numpy as np
import pytest

import layouts
from forgerank.data.batches import Crops
from forgerank.data.clip import Clip
from forgerank.data.formats.prepared import Prepared, detector_of
from forgerank.data.formats.registry import DATASETS
from forgerank.data.prepare.face_crops import CutConfig
from forgerank.data.prepare.video_faces import prepare
from forgerank.faces.align import TEMPLATE, estimate_alignment
from forgerank.labels import face_labels
from forgerank.media.images import read_photo
from forgerank.train.config import DataConfig
from forgerank.train.loaders import open_source
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
    out = root / os.fsdecode(b"not UTF-8 \xe9")
    prepare(clips, out, CutConfig(frames=None, size=128))
    return out


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


def test_real_faces_come_again_as_self_blends_in_training(root: Path) -> None:
    plain, source = Prepared(root, "train"), Prepared(root, "train", self_blends=2)
    real = [index for index, sample in enumerate(plain.samples) if not sample.sequence]
    assert len(source) == len(plain) + 2 * len(real)
    # Those on disk, from which shards are written, stay as they are.
    assert [sample.image for sample in source.samples] == [sample.image for sample in plain.samples]
    for index, original in enumerate(real * 2, start=len(plain)):
        sample = source.sample(index)
        assert (sample.forged, sample.method, sample.image) == (
            True,
            "self_blend",
            plain.sample(original).image,
        )
        assert sample.group == plain.sample(original).group
    untouched = source.load(real[0], np.random.default_rng(0))
    blended = [source.load(len(plain), np.random.default_rng(seed)) for seed in (0, 0, 1)]
    assert np.array_equal(blended[0].image, blended[1].image)
    assert not np.array_equal(blended[0].image, blended[2].image)
    for made in blended:
        truth = face_labels(made.sequence, 1, parts=made.parts, fake=made.fake)
        assert (truth.forged, truth.presence, truth.sequence) == (True, (1,), (1,))
        assert np.array_equal(made.points, untouched.points)
        # The face changes, and by little: it remains that of the person.
        change = np.abs(made.image.astype(int) - untouched.image).mean(axis=2)
        assert change[45:95, 40:90].mean() > 0.5
        assert change.mean() < 40
    # Never where anything is measured.
    for split in ("val", "test"):
        assert len(Prepared(root, split, self_blends=2)) == len(Prepared(root, split))


def test_self_blends_are_trained_on(root: Path) -> None:
    data = DataConfig(
        dataset="prepared", roots=(root,), vocabulary="binary", options={"self_blends": 1}, align=False
    )
    source = open_source(data, "train")
    items = Crops(source, size=128, length=1, align=False)
    forged = [bool(items[index]["forged"]) for index in range(len(source))]
    assert forged == [source.sample(index).forged for index in range(len(source))]
    assert sum(forged) == 20  # two forged clips and the self-blends of two real ones, five frames each
    # The network sees the pixels of the crop, not an enlarged part of it.
    assert np.array_equal(items[0]["image"].numpy().transpose(1, 2, 0), read_photo(source.sample(0).image))


def test_a_data_set_without_validation_split_can_hold_clips_out(root: Path, tmp_path: Path) -> None:
    parts = {split: videos(Prepared(root, split, val_share=0.5)) for split in ("train", "val", "test")}
    assert sorted(parts["train"] + parts["val"]) == ["f1", "f2", "r1", "r2"]
    assert [name[0] for name in parts["val"]] == ["f", "r"]  # of either class
    assert parts["test"] == ["f3", "u1"]
    # Where there is a split val, it stays as it is.
    assert videos(Prepared(root, "train", unsplit="val", val_share=0.5)) == ["f1", "f2", "r1", "r2"]


def test_a_prepared_folder_says_which_detector_cut_it(root: Path, tmp_path: Path) -> None:
    assert detector_of(root) == "blazeface"
    assert detector_of(tmp_path) == "unknown"


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"self_blends": -1}, "self_blends: give a number"),
        ({"val_share": 1.5}, "val_share: give a share"),
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
