import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from forgerank.data.formats.deepfakebench import deepfakebench
from forgerank.types import InputError
from layouts import write_deepfakebench


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("bench")
    write_deepfakebench(root)
    return root


def write_json(root: Path, content: Any, name: str = "x") -> Path:
    (root / "dataset_json").mkdir(exist_ok=True)
    (root / "dataset_json" / f"{name}.json").write_text(json.dumps(content))
    return root


def one_video(frames: Any, *, label: str = "UADFV_Fake", dataset: str = "UADFV") -> dict[str, Any]:
    return {dataset: {label: {"test": {"0000": {"label": label, "frames": frames}}}}}


def test_levels_exist_for_some_data_sets_only(root: Path) -> None:
    clips = deepfakebench(root)
    assert Counter((clip.dataset, clip.compression) for clip in clips) == {
        ("FaceForensics++", "c23"): 6,
        ("Celeb-DF-v2", ""): 6,
    }
    assert Counter(clip.compression for clip in deepfakebench(root, compression=("c23", "c40"))) == {
        "c23": 6,
        "c40": 6,
        "": 6,
    }
    with pytest.raises(
        InputError, match=r"FaceForensics\+\+ has no videos of compression raw, found c23, c40"
    ):
        deepfakebench(root, compression="raw")


def test_a_video_is_its_whole_path(root: Path) -> None:
    clips = deepfakebench(root, datasets="FaceForensics++")
    same = [clip for clip in clips if clip.name.endswith("/071_054")]
    assert {(clip.name, clip.method) for clip in same} == {
        (f"FaceForensics++/manipulated_sequences/{method}/c23/frames/071_054", label)
        for method, label in (("Deepfakes", "FF-DF"), ("FaceSwap", "FF-FS"))
    }
    assert len({clip.name for clip in clips}) == len(clips)


def test_reversed_slashes_lead_to_files(root: Path) -> None:
    for clip in deepfakebench(root):
        assert clip.frames == ("000.png", "001.png", "002.png")
        assert all((clip.path / frame).is_file() for frame in clip.frames)


def test_reals_and_groups_are_those_of_the_readers_of_the_videos(root: Path) -> None:
    clips = deepfakebench(root)
    reals = {clip.name for clip in clips if clip.sequence == ()}
    assert reals == {clip.name for clip in clips if "youtube" in clip.name or "real" in clip.name}
    assert len(reals) == 4
    groups = {(clip.path.name, clip.split): clip.group for clip in clips}
    assert groups["071", "train"] == groups["071_054", "train"] == "faceforensics/054"
    assert groups["id0_0000", "train"] == groups["id0_id1_0000", "train"] == "celebdf/id0"


def test_a_video_of_two_splits_comes_twice(root: Path) -> None:
    clips = deepfakebench(root, datasets=["Celeb-DF-v2"])
    assert Counter(clip.split for clip in clips) == {"train": 2, "val": 2, "test": 2}
    names = {
        split: {clip.name for clip in clips if clip.split == split} for split in ("train", "val", "test")
    }
    assert names["val"] == names["test"]
    assert not names["train"] & names["test"]


def test_a_video_of_two_data_sets_comes_once(tmp_path: Path) -> None:
    for name in ("FaceForensics++", "FaceShifter"):
        video = {"label": "FF-real", "frames": ["FaceForensics++/a/071/000.png"]}
        write_json(tmp_path, {name: {"FF-real": {"train": {"c23": {"071": video}}}}}, name)
    assert [clip.dataset for clip in deepfakebench(tmp_path)] == ["FaceForensics++"]
    assert [clip.dataset for clip in deepfakebench(tmp_path, datasets="FaceShifter")] == ["FaceShifter"]


def test_videos_without_frames_and_missing_frames_are_listed(tmp_path: Path) -> None:
    write_json(tmp_path, one_video([]), "a")
    write_json(tmp_path, one_video(["UADFV\\fake\\frames\\0001\\000.png"]), "b")
    clips = deepfakebench(tmp_path)
    assert [(clip.name, clip.frames) for clip in clips] == [
        ("UADFV/UADFV_Fake/0000", ()),
        ("UADFV/fake/frames/0001", ("000.png",)),
    ]
    assert not any(clip.path.exists() for clip in clips)


def test_frames_may_lie_elsewhere(tmp_path: Path) -> None:
    write_json(tmp_path, one_video(["D:\\data\\rgb\\UADFV\\0001\\000.png"]))
    clips = deepfakebench(tmp_path, images="rgb", strip="D:\\data\\rgb\\")
    assert clips[0].path == tmp_path / "rgb/UADFV/0001"
    with pytest.raises(InputError, match="not a path inside"):
        deepfakebench(tmp_path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ([], "expected an object, got list"),
        ({"A": {"A_fake": {"dev": {}}}}, "A_fake: dev: expected a split"),
        ({"A": {"A_fake": {"test": {"c99": {"0": {"frames": []}}}}}}, "expected a compression.* got 'c99'"),
        ({"A": {"A_fake": {"test": {"c23": {"0": {"label": "x"}}}}}}, "0: a video needs frames"),
        (one_video("a.png"), "frames must be a list of paths"),
        (one_video(["a/0.png"], label="A_unknown"), "label 'A_unknown' is neither of a real nor"),
        (
            {"A": {"A_real": {"test": {"0": {"label": "A_fake", "frames": ["a/0.png"]}}}}},
            "0: its own label A_fake contradicts A_real",
        ),
    ],
)
def test_bad_annotations_are_reported(tmp_path: Path, content: Any, reason: str) -> None:
    with pytest.raises(InputError, match=rf"x\.json: .*{reason}"):
        deepfakebench(write_json(tmp_path, content))


def test_one_place_cannot_be_real_and_forged(tmp_path: Path) -> None:
    write_json(tmp_path, one_video(["a/0.png"]), "a")
    write_json(tmp_path, one_video(["a/0.png"], label="UADFV_Real"), "b")
    with pytest.raises(InputError, match=r"b\.json: .*: a is UADFV_Real here and UADFV_Fake in .*a\.json"):
        deepfakebench(tmp_path)


def test_a_root_without_annotations_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no DeepfakeBench here: expected dataset_json/\*\.json"):
        deepfakebench(tmp_path)
    with pytest.raises(InputError, match="no videos in its JSON files"):
        deepfakebench(write_json(tmp_path, {}))
    write_json(tmp_path, one_video([]))
    with pytest.raises(InputError, match="datasets must be of UADFV, got DFDC"):
        deepfakebench(tmp_path, datasets="DFDC")
