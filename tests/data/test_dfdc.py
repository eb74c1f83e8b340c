import json
from pathlib import Path

import pytest

from forgerank.data.formats.dfdc import dfdc, dfdc_preview
from forgerank.types import InputError
from layouts import DFDC_PREVIEW, write_dfdc, write_dfdc_preview


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


def test_the_preview_is_read_by_its_own_annotation(tmp_path: Path) -> None:
    write_dfdc_preview(tmp_path)
    clips = {clip.name: clip for clip in dfdc_preview(tmp_path)}
    assert list(clips) == sorted(DFDC_PREVIEW)
    for path, (split, _, swapped) in DFDC_PREVIEW.items():
        clip = clips[path]
        assert (clip.split, clip.dataset) == (split, "dfdcpreview")
        assert clip.sequence == (() if swapped is None else (1,))
        assert clip.method == ("" if swapped is None else path.partition("/")[0])
        assert clip.path == tmp_path / path
    groups = {name: clip.group for name, clip in clips.items()}
    # Swaps connect 111 with 222, and 333 with 444.
    assert set(groups.values()) == {"dfdcpreview/111", "dfdcpreview/333"}
    by_target = {clip.group for clip in dfdc_preview(tmp_path, groups="target")}
    assert by_target == {f"dfdcpreview/{person}" for person in (111, 222, 333, 444)}


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ([], "expected an object"),
        (
            {"a.mp4": {"label": "FAKE", "set": "train", "target_id": 1}},
            "label must be real or fake, got 'FAKE'",
        ),
        ({"a.mp4": {"label": "real", "set": "dev", "target_id": 1}}, "set must be of .*got 'dev'"),
        ({"a.mp4": {"label": "real", "set": "test"}}, "target_id must be a number, got None"),
        (
            {"a.mp4": {"label": "fake", "set": "test", "target_id": 1}},
            "swapped_id must be a number, got None",
        ),
        ({"a.mp4": "real"}, "label must be real or fake, got None"),
        ({"../a.mp4": {"label": "real", "set": "test", "target_id": 1}}, "not a path inside"),
    ],
)
def test_a_bad_annotation_of_the_preview_is_reported(tmp_path: Path, entries: object, reason: str) -> None:
    (tmp_path / "dataset.json").write_text(json.dumps(entries))
    with pytest.raises(InputError, match=rf"dataset\.json: .*{reason}") as caught:
        dfdc_preview(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_root_without_the_preview_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no DFDC preview here: expected dataset\.json"):
        dfdc_preview(tmp_path)
