import json
from pathlib import Path

import pytest

from forgerank.data.formats.dfdc import dfdc
from forgerank.types import InputError
from layouts import write_dfdc


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("dfdc")
    write_dfdc(root)
    return root


def test_parts_and_labels_are_read_together(root: Path) -> None:
    clips = {clip.path.stem: clip for clip in dfdc(root)}
    assert {name for name, clip in clips.items() if clip.sequence == (1,)} == {"cccc", "dddd", "ffff", "hhhh"}
    assert {name for name, clip in clips.items() if clip.method == "FAKE"} == {"cccc", "dddd", "ffff", "hhhh"}
    assert {name for name, clip in clips.items() if clip.split == "test"} == {"gggg", "hhhh"}
    assert len(clips) == 8
    assert clips["aaaa"].name == "dfdc_train_part_0/aaaa.mp4"
    assert all(clip.path.is_file() for clip in clips.values())


def test_a_forged_video_and_its_original_are_one_group_over_the_parts(root: Path) -> None:
    groups = {clip.path.stem: clip.group for clip in dfdc(root)}
    assert groups["aaaa"] == groups["cccc"] == groups["dddd"] == "dfdc/aaaa"
    assert groups["bbbb"] == groups["ffff"] == "dfdc/bbbb"
    assert len(set(groups.values())) == 5


def test_one_part_can_be_the_root(root: Path) -> None:
    assert [clip.name for clip in dfdc(root / "dfdc_train_part_1")] == ["eeee.mp4", "ffff.mp4"]
    tested = dfdc(root / "test", split="val")
    assert {(clip.name, clip.split) for clip in tested} == {("gggg.mp4", "val"), ("hhhh.mp4", "val")}


def test_missing_videos_are_listed_and_splits_mapped(tmp_path: Path) -> None:
    entries = {
        "a.mp4": {"label": "REAL", "split": "validation"},
        "b.mp4": {"label": "FAKE", "original": "a.mp4"},
    }
    (tmp_path / "metadata.json").write_text(json.dumps(entries))
    clips = dfdc(tmp_path)
    assert [(clip.split, clip.group) for clip in clips] == [("val", "dfdc/a"), ("test", "dfdc/a")]
    assert not any(clip.path.exists() for clip in clips)


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ([], "expected an object"),
        ({"a.mp4": {"label": "fake"}}, "a.mp4: label must be REAL or FAKE, got 'fake'"),
        ({"a.mp4": "FAKE"}, "label must be REAL or FAKE, got None"),
        ({"a.mp4": {"label": "REAL", "split": "dev"}}, "split must be of .*got 'dev'"),
        ({"../a.mp4": {"label": "REAL"}}, "not a path inside"),
    ],
)
def test_bad_metadata_is_reported(tmp_path: Path, entries: object, reason: str) -> None:
    (tmp_path / "metadata.json").write_text(json.dumps(entries))
    with pytest.raises(InputError, match=rf"metadata\.json: .*{reason}"):
        dfdc(tmp_path)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("file,label\na.mp4,1\n", "1: expected the columns filename and label"),
        ("filename,label\na.mp4,FAKE\n", "2: label must be 1 .forged. or 0, got 'FAKE'"),
        ("filename,label\na.mp4,1\nb.mp4\n", "3: label must be 1"),
        ("filename,label\n,1\n", "2: '' is not a path"),
    ],
)
def test_bad_labels_are_reported(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(InputError, match=rf"labels\.csv:{reason}"):
        dfdc(tmp_path)


def test_a_root_without_annotations_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    with pytest.raises(InputError, match=r"no DFDC here: expected metadata\.json or labels\.csv"):
        dfdc(tmp_path)
    with pytest.raises(InputError, match="split must be of train, val, test, validation, got dev"):
        dfdc(tmp_path, split="dev")
