import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from forgerank.data.clip import Clip
from forgerank.data.formats.faceforensics import as_names, dfd, faceforensics
from forgerank.types import InputError
from layouts import METHODS, PAIRS, write_dfd, write_faceforensics


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every method at c23, one also at c40, lists of the splits."""
    root = tmp_path_factory.mktemp("ff")
    write_faceforensics(root)
    write_faceforensics(root, compressions=("c40",), methods=("FaceSwap",), splits=False)
    return root


@pytest.fixture(scope="module")
def actors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("dfd")
    write_dfd(root)
    return root


def test_every_method_and_split_is_counted(root: Path) -> None:
    clips = faceforensics(root)
    counts = Counter((clip.split, clip.method) for clip in clips)
    assert counts == {(split, method): 2 for split in PAIRS for method in ("", *METHODS)}
    assert all(clip.path.is_file() for clip in clips)
    assert len({clip.name for clip in clips}) == len(clips)
    assert {clip.sequence for clip in clips if clip.method} == {(1,)}
    assert {clip.sequence for clip in clips if not clip.method} == {()}
    assert {(clip.dataset, clip.compression) for clip in clips} == {("faceforensics", "c23")}


def test_both_orders_of_a_pair_and_its_reals_are_one_group_and_split(root: Path) -> None:
    members = {clip.path.stem: (clip.group, clip.split) for clip in faceforensics(root)}
    for split, (first, second) in PAIRS.items():
        expected = (f"faceforensics/{min(first, second)}", split)
        for name in (first, second, f"{first}_{second}", f"{second}_{first}"):
            assert members[name] == expected


def test_compressions_and_methods_are_chosen(root: Path) -> None:
    both = faceforensics(root, compression=("c23", "c40"), methods="FaceSwap")
    assert Counter(clip.compression for clip in both) == {"c23": 12, "c40": 12}
    assert {clip.method for clip in both} == {"", "FaceSwap"}
    assert len({clip.name for clip in both}) == 24
    # What has no folder is left out unless it is named.
    assert {clip.method for clip in faceforensics(root, compression="c40")} == {"", "FaceSwap"}
    with pytest.raises(InputError, match=r"Deepfakes/c40/videos: no such folder"):
        faceforensics(root, compression="c40", methods="Deepfakes")
    with pytest.raises(InputError, match="no videos of compression raw, found c23, c40"):
        faceforensics(root, compression="raw")
    with pytest.raises(InputError, match=r"methods must be of Deepfakes, .* got DeepFake"):
        faceforensics(root, methods=("FaceSwap", "DeepFake"))


def test_masks_are_not_videos(root: Path) -> None:
    assert not any("masks" in clip.name for clip in faceforensics(root))


def test_missing_videos_are_promised_by_the_lists(tmp_path: Path) -> None:
    write_faceforensics(tmp_path, methods=("Deepfakes",))
    before = faceforensics(tmp_path)
    for name in (
        "original_sequences/youtube/c23/videos/071",
        "manipulated_sequences/Deepfakes/c23/videos/054_071",
    ):
        (tmp_path / f"{name}.mp4").unlink()
    after = faceforensics(tmp_path)
    assert after == before
    assert [clip.path.stem for clip in after if not clip.path.exists()] == ["071", "054_071"]


def test_without_lists_there_is_no_split_and_videos_join_the_group(tmp_path: Path) -> None:
    write_faceforensics(tmp_path, methods=("Deepfakes",), splits=False)
    (tmp_path / "manipulated_sequences/Deepfakes/c23/videos/054_720.mp4").touch()
    clips = faceforensics(tmp_path)
    assert {clip.split for clip in clips} == {""}
    groups = {clip.path.stem: clip.group for clip in clips}
    assert groups["071"] == groups["054_720"] == groups["672"] == "faceforensics/054"
    assert groups["953"] == groups["974"] == "faceforensics/953"


def test_a_video_across_pairs_belongs_to_no_split(tmp_path: Path) -> None:
    write_faceforensics(tmp_path, methods=("Deepfakes",))
    for name in ("071_720", "555"):
        (tmp_path / f"manipulated_sequences/Deepfakes/c23/videos/{name}.mp4").touch()
    splits = {clip.path.stem: clip.split for clip in faceforensics(tmp_path)}
    assert splits["071_720"] == splits["555"] == ""
    assert splits["071_054"] == "train"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"a": 1}, "expected a list of pairs"),
        ([["071"]], r"expected pairs of ids as strings, got \['071'\]"),
        ([[71, 54]], "expected pairs of ids as strings"),
        ([["953", "001"]], "953 is already in train.json"),
    ],
)
def test_bad_lists_are_reported(tmp_path: Path, content: object, reason: str) -> None:
    (tmp_path / "original_sequences/youtube/c23/videos").mkdir(parents=True)
    (tmp_path / "splits").mkdir()
    (tmp_path / "splits/train.json").write_text(json.dumps([["953", "974"]]))
    (tmp_path / "splits/val.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=rf"val\.json: .*{reason}"):
        faceforensics(tmp_path)


def test_a_missing_list_is_reported(tmp_path: Path) -> None:
    (tmp_path / "original_sequences/youtube/c23/videos").mkdir(parents=True)
    (tmp_path / "splits").mkdir()
    with pytest.raises(InputError, match=r"train\.json: cannot be read"):
        faceforensics(tmp_path)


@pytest.mark.parametrize(("reader", "name"), [(faceforensics, r"FaceForensics\+\+"), (dfd, "DFD")])
def test_a_root_without_the_layout_is_refused(
    tmp_path: Path, reader: Callable[[Path], list[Clip]], name: str
) -> None:
    with pytest.raises(InputError, match=f"no {name} here: expected original_sequences/"):
        reader(tmp_path)
    with pytest.raises(InputError, match="nowhere: no such folder"):
        reader(tmp_path / "nowhere")


def test_dfd_has_no_split_and_joins_actors(actors: Path) -> None:
    clips = dfd(actors)
    assert Counter(clip.method for clip in clips) == {"": 4, "DeepFakeDetection": 3}
    assert {clip.split for clip in clips} == {""}
    assert {clip.group for clip in clips if not clip.path.stem.startswith("09")} == {"dfd/01"}
    assert {clip.group for clip in clips if clip.path.stem.startswith("09")} == {"dfd/09"}
    assert all(clip.path.is_file() and clip.name.endswith(clip.path.name) for clip in clips)


def test_dfd_groups_by_the_actor_of_the_scene(actors: Path) -> None:
    groups = {clip.path.stem: clip.group for clip in dfd(actors, groups="target")}
    assert groups["02_01__kitchen_pan__A1B2C3D4"] == groups["02__kitchen_pan"] == "dfd/02"
    assert groups["01_02__exit_phone_room__YVGY8LOK"] == "dfd/01"


def test_the_two_data_sets_of_one_download_stay_apart(tmp_path: Path) -> None:
    write_faceforensics(tmp_path, methods=("Deepfakes",))
    write_dfd(tmp_path)
    assert len(faceforensics(tmp_path)) == 12
    assert len(dfd(tmp_path)) == 7
    with pytest.raises(InputError, match="no videos of compression raw, found c23"):
        dfd(tmp_path, compression="raw")


def test_an_option_is_one_name_or_several() -> None:
    assert as_names("c23", ("raw", "c23"), "compression") == ("c23",)
    assert as_names(["raw", "c23"], ("raw", "c23"), "compression") == ("raw", "c23")
    for value in ("c24", [], ["raw", "c24"]):
        with pytest.raises(InputError, match="compression must be of raw, c23"):
            as_names(value, ("raw", "c23"), "compression")
