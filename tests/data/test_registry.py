import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from forgerank.data.check.integrity import PUBLISHED
from forgerank.data.formats.registry import CLIPS, DATASETS, find_folders, open_dataset
from forgerank.labels import ATTRIBUTES
from forgerank.types import InputError
from layouts import (
    ATTRIBUTE_ROWS,
    write_attributes,
    write_celebdf,
    write_deepfakebench,
    write_dfd,
    write_dfdc,
    write_dfdc_preview,
    write_faceforensics,
    write_wilddeepfake,
)

WRITERS: dict[str, Callable[..., None]] = {
    "faceforensics": write_faceforensics,
    "dfd": write_dfd,
    "celebdf": write_celebdf,
    "dfdc": write_dfdc,
    "dfdcpreview": write_dfdc_preview,
    "wilddeepfake": write_wilddeepfake,
    "deepfakebench": write_deepfakebench,
}


@pytest.mark.parametrize("name", CLIPS)
def test_clips_of_every_data_set_keep_their_promises(name: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {"methods": ("Deepfakes",)} if name == "faceforensics" else {}
    root, moved = tmp_path / "root", tmp_path / "moved"
    root.mkdir()
    WRITERS[name](root, **options)
    clips = CLIPS[name](root)
    assert {clip.sequence for clip in clips} == {(), (1,)}
    assert all(bool(clip.method) == bool(clip.sequence) for clip in clips)
    assert len({(clip.split, clip.name) for clip in clips}) == len(clips)
    # Forged videos and their sources are never in two groups by accident: a group holds more than one clip.
    assert len({clip.group for clip in clips}) < len(clips)
    for clip in clips:
        assert clip.path.exists()
        assert clip.path.is_relative_to(root)
        assert not Path(clip.name).is_absolute()
    # Nothing but the path depends on the machine.
    root.rename(moved)
    described = [(clip.name, clip.group, clip.split, clip.method, clip.frames) for clip in clips]
    again = CLIPS[name](moved)
    assert [(clip.name, clip.group, clip.split, clip.method, clip.frames) for clip in again] == described


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_counts_use_the_names_of_the_reader(name: str, tmp_path: Path) -> None:
    WRITERS[name](tmp_path)
    clips = CLIPS[name](tmp_path)
    assert {clip.dataset for clip in clips} == {name}
    for split, method in PUBLISHED[name]:
        assert split is None or split in {clip.split for clip in clips}
        assert method is None or method in {clip.method for clip in clips}


def test_published_counts_add_up() -> None:
    for counts in PUBLISHED.values():
        for (split, method), count in counts.items():
            parts = [n for (s, m), n in counts.items() if s == split and m is not None]
            if method is None and parts:
                assert count == sum(parts)
            splits = [n for (s, m), n in counts.items() if m == method and s is not None]
            if split is None and splits:
                assert count == sum(splits)


def test_options_of_another_data_set_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the data set seqdeepfake takes no option self_blends"):
        open_dataset("seqdeepfake", tmp_path, "train", self_blends=1)


def test_every_data_set_takes_the_number_of_labels(tmp_path: Path) -> None:
    """Which training gives to all of them."""
    for name, reader in DATASETS.items():
        assert "length" in inspect.signature(reader).parameters, name
    (tmp_path / "a.png").touch()
    (tmp_path / "labels.csv").write_text("file,label,split\na.png,fake,train\n")
    assert len(open_dataset("folder", tmp_path, "train", length=5)) == 1
    assert len(open_dataset("folder", tmp_path, "train", length=1, shares=(1, 0, 0))) == 1


def test_any_data_can_be_asked_whether_they_are_forged(tmp_path: Path) -> None:
    """Without a binary data set, the components' labels are read as one."""
    write_attributes(tmp_path / "facial_components")
    assert find_folders((tmp_path,), "binary") == [tmp_path / "facial_components"]
    source = DATASETS["seqdeepfake"](tmp_path / "facial_components", "val", length=1)
    assert [source.sample(index).sequence for index in range(len(source))] == [(1,), ()]
    assert find_folders((tmp_path,), "binary", "celebdf") == []


def test_attributes_are_read_by_their_own_vocabulary(tmp_path: Path) -> None:
    write_attributes(tmp_path / "facial_attributes")
    for split, rows in ATTRIBUTE_ROWS.items():
        source = DATASETS["seqdeepfake"](tmp_path / "facial_attributes", split, length=len(ATTRIBUTES))
        for index, (folder, labels) in enumerate(rows):
            sample = source.sample(index)
            assert sample.image.is_file()
            assert sample.sequence == tuple(label for label in labels if label)
            if folder != "original":
                assert folder == "-".join(ATTRIBUTES[label - 1].capitalize() for label in sample.sequence)
            assert (sample.dataset, sample.split) == ("facial_attributes", split)
