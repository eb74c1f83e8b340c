"""Every layout is clean as it is written, and every trap that is planted in it is found."""

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PILImage

import layouts
from forgerank.data.check import integrity as check
from forgerank.data.check.integrity import CheckReport, check_dataset
from forgerank.data.check.near_duplicates import nearest_earlier, perceptual_hash
from forgerank.types import InputError
from locked import lock

# Writer, and clips per (split, class) as the layout promises them: masks, tars and levels apart.
LAYOUTS: dict[str, tuple[str, Callable[[Path], None], dict[tuple[str, str], int]]] = {
    "both orders of a pair": (
        "faceforensics",
        lambda root: layouts.write_faceforensics(root, methods=("Deepfakes",), compressions=("c23", "c40")),
        {(split, kind): 2 for split in ("train", "val", "test") for kind in ("real", "forged")},
    ),
    "no split": ("dfd", layouts.write_dfd, {("", "real"): 4, ("", "forged"): 3}),
    "1 is real": (
        "celebdf",
        layouts.write_celebdf,
        {("train", "real"): 4, ("train", "forged"): 2, ("test", "real"): 2, ("test", "forged"): 1},
    ),
    "extra level": (
        "celebdf",
        lambda root: layouts.write_celebdf(root, level=True),
        {("train", "real"): 4, ("train", "forged"): 2, ("test", "real"): 2, ("test", "forged"): 1},
    ),
    "original in another folder": (
        "dfdc",
        layouts.write_dfdc,
        {("train", "real"): 3, ("train", "forged"): 3, ("test", "real"): 1, ("test", "forged"): 1},
    ),
    "tars": (
        "wilddeepfake",
        layouts.write_wilddeepfake,
        {(split, kind): 4 for split in ("train", "test") for kind in ("real", "forged")},
    ),
    "folders with spaces": (
        "wilddeepfake",
        lambda root: layouts.write_wilddeepfake(root, tars=False, spaces=True),
        {(split, kind): 4 for split in ("train", "test") for kind in ("real", "forged")},
    ),
}


def found_in(report: CheckReport) -> Counter[str]:
    return Counter(problem.kind for problem in report.problems)


def names_of(report: CheckReport, kind: str) -> list[str]:
    return [problem.name for problem in report.problems if problem.kind == kind]


def run(dataset: str, root: Path, **options: Any) -> CheckReport:
    return check_dataset(dataset, root, **{"counts": False, **options})


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_are_counted_exactly_and_clean(layout: str, tmp_path: Path) -> None:
    dataset, write, counts = LAYOUTS[layout]
    write(tmp_path / "d")
    report = run(dataset, tmp_path / "d")
    assert report.problems == []
    rows = [row for row in report.counts if row.split is not None and row.method is not None and row.found]
    assert {(row.split, "forged" if row.method else "real"): row.found for row in rows} == counts
    assert report.items == sum(counts.values())


def test_copies_that_an_annotation_puts_into_two_splits(tmp_path: Path) -> None:
    """DeepfakeBench: reversed slashes are no missing files; Celeb-DF's test videos are its validation too."""
    layouts.write_deepfakebench(tmp_path)
    report = run("deepfakebench", tmp_path)
    assert report.items == 12
    assert sorted(names_of(report, "same video")) == [
        "Celeb-DF-v2/Celeb-real/frames/id2_0000",
        "Celeb-DF-v2/Celeb-synthesis/frames/id2_id3_0000",
    ]
    assert {problem.kind for problem in report.problems} == {"same video"}
    assert [note.name for note in report.notes] == ["celebdf/id2"]


@pytest.fixture
def celeb(tmp_path: Path) -> Path:
    layouts.write_celebdf(tmp_path / "celeb")
    return tmp_path / "celeb"


def test_files_that_are_missing_empty_cut_or_no_video(celeb: Path) -> None:
    (celeb / "Celeb-real/id2_0000.mp4").unlink()  # a test video, known from the list
    (celeb / "Celeb-real/id0_0000.mp4").write_bytes(b"")
    (celeb / "Celeb-real/id1_0000.mp4").write_bytes(b"<html>quota exceeded</html>" * 9)
    whole = celeb / "Celeb-synthesis/id0_id1_0000.mp4"
    layouts.write_video(whole.with_suffix(".mkv"), count=3)  # another container is a video like any other
    report = run("celebdf", celeb)
    assert names_of(report, "missing") == ["Celeb-real/id2_0000.mp4"]
    assert sorted(names_of(report, "unreadable")) == ["Celeb-real/id0_0000.mp4", "Celeb-real/id1_0000.mp4"]
    assert set(found_in(report)) == {"missing", "unreadable"}
    real = [row for row in report.counts if (row.split, row.method) == ("test", "")]
    assert [row.found for row in real] == [1]


def test_truncated_video(celeb: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "count_frames", lambda path: (4, 6) if path.stem == "00000" else (6, 6))
    [problem] = run("celebdf", celeb).problems
    assert (problem.kind, problem.name, problem.detail) == (
        *("truncated", "YouTube-real/00000.mp4"),
        "4 of 6 frames",
    )


def test_test_video_copied_into_training_under_another_name(celeb: Path) -> None:
    shutil.copy(celeb / "YouTube-real/00170.mp4", celeb / "YouTube-real/00555.mp4")
    [problem] = run("celebdf", celeb).problems
    assert problem.kind == "near-duplicate"
    assert problem.name == "test: YouTube-real/00170.mp4"
    assert problem.detail == "train: YouTube-real/00555.mp4, 0 of 64 bits differ"


def test_people_in_two_splits(tmp_path: Path) -> None:
    """Celeb-DF's own split shares people, which is said; anybody else's is a fault."""
    layouts.write_celebdf(tmp_path / "celeb")
    layouts.write_video(tmp_path / "celeb/Celeb-synthesis/id2_id0_0000.mp4")
    report = run("celebdf", tmp_path / "celeb")
    assert report.problems == []
    assert [note.kind for note in report.notes] == ["same source"]
    rows = [
        {"path": "a.png", "label": "0", "group": "anna", "split": "train"},
        {"path": "b.png", "label": "1", "group": "anna", "split": "test"},
        {"path": "c.png", "label": "1", "group": "carl", "split": "test"},
    ]
    layouts.write_table(tmp_path / "own", rows)
    report = run("folder", tmp_path / "own")
    assert [(p.kind, p.name, p.detail) for p in report.problems] == [
        ("same source", "anna", "1 in test, 1 in train")
    ]


def test_damaged_and_cut_tars(tmp_path: Path) -> None:
    layouts.write_wilddeepfake(tmp_path)
    cut = tmp_path / "real_train/1.tar.gz"
    cut.write_bytes(cut.read_bytes()[:-300])
    (tmp_path / "fake_test/0.tar.gz").write_bytes(b"no tar")
    report = run("wilddeepfake", tmp_path)
    assert {problem.name.split(" ")[0] for problem in report.problems} >= {"real_train/1", "fake_test/0"}
    assert set(found_in(report)) <= {"truncated", "unreadable"}


def test_archives_that_nobody_unpacked_are_named(tmp_path: Path) -> None:
    layouts.write_dfdc(tmp_path)
    for name in ("dfdc_train_part_02.zip", "a/1.TAR.GZ", "a/x.7z.001", "a/._1.zip"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    report = run("dfdc", tmp_path)
    assert [(note.kind, note.name) for note in report.notes] == [
        ("archive", "a/1.TAR.GZ"),
        ("archive", "a/x.7z.001"),
        ("archive", "dfdc_train_part_02.zip"),
    ]
    assert report.to_json()["ok"]
    layouts.write_wilddeepfake(tmp_path / "wild")
    assert run("wilddeepfake", tmp_path / "wild").notes == []  # these tars are read


def test_missing_frames_are_all_named(tmp_path: Path) -> None:
    layouts.write_deepfakebench(tmp_path)
    folder = tmp_path / "FaceForensics++/original_sequences/youtube/c23/frames/071"
    (folder / "002.png").unlink()
    (folder / "000.png").unlink()
    missing = names_of(run("deepfakebench", tmp_path), "missing")
    assert missing == [f"{folder.relative_to(tmp_path)}/{name}.png" for name in ("000", "002")]


def test_sequences_with_bad_rows(tmp_path: Path) -> None:
    root = tmp_path / "facial_attributes"
    layouts.write_attributes(root)
    report = run("seqdeepfake", root)
    assert report.problems == []
    # The numbers start anew in each split here: whether they mean a source, only a record could tell.
    assert {note.kind for note in report.notes} == {"same source"}
    with (root / "annotations/val.csv").open("a") as table:
        table.write('facial_attributes/images/val/original/77777.png,"[0, 0, 0, 0, 0]"\n')
        table.write('facial_attributes/images/val/original/00001.png,"[1, 1, 0, 0, 0]"\n')
    report = run("seqdeepfake", root)
    assert names_of(report, "missing") == ["images/val/original/77777.png"]
    [annotation] = [problem for problem in report.problems if problem.kind == "annotation"]
    assert "val.csv:5: a label is repeated" in annotation.detail


def test_counts_against_the_published_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layouts.write_faceforensics(tmp_path, methods=("Deepfakes",))
    published = {("train", ""): 2, ("train", "Deepfakes"): 3, ("train", "FaceSwap"): 3, (None, ""): 6}
    monkeypatch.setattr(check, "PUBLISHED", {"faceforensics": published})
    report = run("faceforensics", tmp_path, counts=True)
    # Of FaceSwap nothing is there: its owner may not want it.
    assert [(problem.kind, problem.name, problem.detail) for problem in report.problems] == [
        ("count", "train, Deepfakes, c23", "2 instead of 3")
    ]
    assert {(row.split, row.method): row.found for row in report.counts if row.published} == {
        ("train", ""): 2,
        ("train", "Deepfakes"): 2,
        ("train", "FaceSwap"): 0,
        (None, ""): 6,
    }


def portrait(astronaut: np.ndarray) -> PILImage.Image:
    return PILImage.fromarray(astronaut[:256, 90:346])


def test_near_duplicates_in_other_splits(tmp_path: Path, astronaut: np.ndarray) -> None:
    (tmp_path / "p").mkdir()
    image = portrait(astronaut)
    image.save(tmp_path / "p/first.png")
    image.resize((150, 150)).save(tmp_path / "p/small.jpg", quality=60)
    image.transpose(PILImage.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / "p/other.png")
    PILImage.new("RGB", (99, 99)).save(tmp_path / "p/black.png")
    PILImage.new("RGB", (88, 88)).save(tmp_path / "p/dark.png")
    rows = ["first.png,0,a,train", "other.png,0,b,test", "small.jpg,0,c,val", "black.png,0,d,train"]
    text = "\n".join(["path,label,group,split", *(f"p/{row}" for row in rows), "p/dark.png,0,e,test"])
    (tmp_path / "labels.csv").write_text(text + "\n")
    [problem] = run("folder", tmp_path).problems
    assert (problem.kind, problem.name) == ("near-duplicate", "val: p/small.jpg")
    assert problem.detail.startswith("train: p/first.png, ")


def test_perceptual_hash_of_a_image_survives_its_saving(astronaut: np.ndarray) -> None:
    image = portrait(astronaut)
    value = perceptual_hash(np.asarray(image))
    small = perceptual_hash(np.asarray(image.resize((120, 120))))
    turned = perceptual_hash(np.asarray(image.rotate(90)))
    assert value is not None
    assert small is not None
    assert turned is not None
    assert (value ^ small).bit_count() <= 4
    assert (value ^ turned).bit_count() > 12
    assert perceptual_hash(np.zeros((50, 50, 3), np.uint8)) is None


@pytest.mark.parametrize("distance", [0, 3, 7])
def test_nearest_earlier_equals_comparing_all_with_all(distance: int) -> None:
    rng = np.random.default_rng(distance)
    seeds = [int(value) for value in rng.integers(0, 1 << 63, 40, dtype=np.int64)]
    hashes = []
    for _ in range(400):
        value = seeds[rng.integers(len(seeds))]
        for bit in rng.integers(0, 64, rng.integers(0, 6)).tolist():
            value ^= 1 << bit
        hashes.append(value)
    ranks = rng.integers(0, 3, len(hashes)).tolist()
    found = nearest_earlier(hashes, ranks, distance=distance)
    for place, value in enumerate(hashes):
        bits = [
            (value ^ other).bit_count()
            for other, rank in zip(hashes, ranks, strict=True)
            if rank < ranks[place]
        ]
        nearest = min(bits, default=65)
        assert (place in found) == (nearest <= distance)
        if place in found:
            other, differ = found[place]
            assert differ == nearest == (value ^ hashes[other]).bit_count()
            assert ranks[other] < ranks[place]
    assert found


def test_nothing_to_compare() -> None:
    assert nearest_earlier([], [], distance=4) == {}
    assert nearest_earlier([5, 5], [1, 1], distance=4) == {}


def test_processes_find_the_same(tmp_path: Path) -> None:
    layouts.write_wilddeepfake(tmp_path, tars=False)
    (tmp_path / "real_train/0/real/0/2.png").write_bytes(b"")
    assert run("wilddeepfake", tmp_path, workers=2) == run("wilddeepfake", tmp_path)


def test_report_is_json(tmp_path: Path) -> None:
    layouts.write_deepfakebench(tmp_path)
    written = json.loads(json.dumps(run("deepfakebench", tmp_path).to_json()))
    assert (written["ok"], written["items"], len(written["problems"])) == (False, 12, 2)


def test_a_table_of_faces_known_in_part(tmp_path: Path) -> None:
    rows = [
        {"path": "a.png", "label": "fake", "method": "swap", "nose": "1", "split": "train"},
        {"path": "b.png", "label": "fake", "method": "", "nose": "", "split": "train"},
        {"path": "c.png", "label": "real", "method": "", "nose": "", "split": "train"},
    ]
    layouts.write_table(tmp_path, rows)
    options = {"length": 5, "parts": [None, 1, 1, 1, 0], "table": "labels.csv"}
    report = run("folder", tmp_path, options=options)
    assert report.problems == []
    assert {row.method: row.found for row in report.counts} == {"": 1, "forged": 1, "swap": 1}
    (tmp_path / "faces.csv").write_text("file\na.png\nb.png\n")
    options = {"table": "faces.csv", "label": "real", "shares": [0, 1, 0]}
    [row] = run("folder", tmp_path, options=options).counts
    assert (row.split, row.method, row.found) == ("val", "", 2)


@pytest.mark.parametrize(
    ("dataset", "options", "line"),
    [
        ("imagenet", {}, "unknown data set 'imagenet'; choose from faceforensics, "),
        ("dfd", {"compresion": "c40"}, "dfd: no option compresion"),
        ("seqdeepfake", {}, "no annotations/train.csv"),
        ("folder", {}, "no images here"),
    ],
)
def test_what_cannot_be_listed(dataset: str, options: dict, line: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=line):
        run(dataset, tmp_path, options=options)


def test_a_folder_that_may_not_be_entered_costs_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        PILImage.effect_noise((64, 64), 50).save(tmp_path / name / "0.png")
    (tmp_path / "labels.csv").write_text("path,label\na/0.png,0\nb/0.png,0\n", encoding="utf-8")
    lock(monkeypatch, tmp_path / "b")
    report = run("folder", tmp_path)
    assert report.items == 2
    assert [(problem.name, problem.detail) for problem in report.problems] == [
        ("b/0.png", "permission denied"),
        (str(tmp_path / "b"), "permission denied"),
    ]
