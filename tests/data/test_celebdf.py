from collections import Counter
from pathlib import Path

import pytest

from forgerank.data.formats.celebdf import celebdf
from forgerank.types import InputError
from layouts import CELEB_FAKE, CELEB_REAL, CELEB_YOUTUBE, write_celebdf

NAMES = {f"{name}.mp4" for name in (*CELEB_REAL, *CELEB_YOUTUBE, *CELEB_FAKE)}


@pytest.fixture(scope="module", params=[False, True], ids=["flat", "videos"])
def root(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("celeb")
    write_celebdf(root, level=request.param)
    return root


def test_both_layouts_give_the_same_clips(root: Path) -> None:
    clips = celebdf(root)
    assert {clip.name for clip in clips} == NAMES
    assert all(clip.path.is_file() for clip in clips)
    counts = Counter((clip.split, clip.sequence) for clip in clips)
    assert counts == {("train", ()): 4, ("test", ()): 2, ("train", (1,)): 2, ("test", (1,)): 1}
    assert {clip.method for clip in clips if clip.sequence} == {"Celeb-synthesis"}


def test_videos_for_testing_are_not_trained_on(root: Path) -> None:
    train = {clip.name for clip in celebdf(root) if clip.split == "train"}
    assert "YouTube-real/00000.mp4" in train
    for name in ("YouTube-real/00170", "Celeb-real/id2_0000", "Celeb-synthesis/id2_id3_0000"):
        assert f"{name}.mp4" not in train


def test_people_who_share_a_forged_video_are_one_group(root: Path) -> None:
    groups = {Path(clip.name).stem: clip.group for clip in celebdf(root)}
    assert {
        groups[name] for name in ("id0_0000", "id0_0001", "id1_0000", "id0_id1_0000", "id1_id0_0000")
    } == {"celebdf/id0"}
    assert groups["id2_0000"] == groups["id2_id3_0000"] == "celebdf/id2"
    assert groups["00170"] == "celebdf/YouTube-real/00170"
    by_target = {Path(clip.name).stem: clip.group for clip in celebdf(root, groups="target")}
    assert by_target["id1_id0_0000"] == by_target["id1_0000"] == "celebdf/id1"


def test_a_missing_test_video_is_listed(root: Path) -> None:
    with (root / "List_of_testing_videos.txt").open("a") as stream:
        stream.write("1 Celeb-real/videos/id9_0009.mp4\n\n")
    lost = [clip for clip in celebdf(root) if not clip.path.exists()]
    assert [(clip.name, clip.split, clip.path.name) for clip in lost] == [
        ("Celeb-real/id9_0009.mp4", "test", "id9_0009.mp4")
    ]
    assert lost[0].path.parent.is_dir()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("0 YouTube-real/00170.mp4", "1 is real and 0 forged, which YouTube-real contradicts"),
        ("1 Celeb-synthesis/id0_id1_0000.mp4", "which Celeb-synthesis contradicts"),
        ("2 Celeb-real/id0_0000.mp4", "expected 1 .real. or 0 .forged. and a path"),
        ("Celeb-real/id0_0000.mp4", "expected 1 .real."),
        ("1 Real/id0_0000.mp4", "expected a path in Celeb-real"),
        ("1 /data/Celeb-real/id0_0000.mp4", "not a path inside"),
    ],
)
def test_bad_lines_are_reported(tmp_path: Path, line: str, reason: str) -> None:
    (tmp_path / "Celeb-real").mkdir()
    (tmp_path / "List_of_testing_videos.txt").write_text(f"1 Celeb-real/id0_0000.mp4\n{line}\n")
    with pytest.raises(InputError, match=rf"List_of_testing_videos\.txt:2: .*{reason}"):
        celebdf(tmp_path)


def test_without_the_list_or_the_layout_nothing_is_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no Celeb-DF here: expected Celeb-real/, YouTube-real/"):
        celebdf(tmp_path)
    (tmp_path / "Celeb-real").mkdir()
    with pytest.raises(InputError, match=r"List_of_testing_videos\.txt: missing: without it"):
        celebdf(tmp_path)
