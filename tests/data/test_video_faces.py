"""Faces out of every layout, the account of every frame, and a run that is killed."""

import csv
import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PILImage

import layouts
from forgerank.data.clip import Clip
from forgerank.data.formats.prepared import SETTINGS, read_index
from forgerank.data.formats.registry import CLIPS
from forgerank.data.prepare.face_crops import CutConfig, cut_face
from forgerank.data.prepare.video_faces import Summary, prepare
from forgerank.faces.align import estimate_alignment, five_points
from forgerank.faces.analyze import FaceAnalyzer
from forgerank.media.frame_access import evenly_spaced
from forgerank.media.images import read_photo
from forgerank.types import InputError

SMALL = CutConfig(frames=1, size=96)
COLUMNS = ("file", "clip", "frame", "split", "method", "compression", "group", "label", "points", "square")


@pytest.fixture(scope="module")
def face() -> np.ndarray:
    from skimage.data import astronaut

    return np.ascontiguousarray(astronaut()[20:200, 130:310])


def skipped_in(out: Path) -> list[tuple[str, str, str]]:
    with (out / "skipped.csv").open(newline="", encoding="utf-8") as stream:
        return [(row["clip"], row["frame"], row["reason"].split(":")[0]) for row in csv.DictReader(stream)]


LAYOUTS: dict[str, tuple[str, Callable[..., None], dict[str, Any], int]] = {
    "faceforensics": (
        "faceforensics",
        layouts.write_faceforensics,
        {"methods": ("Deepfakes",), "compressions": ("c40",)},
        12,
    ),
    "dfd": ("dfd", layouts.write_dfd, {}, 7),
    "celebdf": ("celebdf", layouts.write_celebdf, {"level": True}, 9),
    "dfdc": ("dfdc", layouts.write_dfdc, {}, 8),
    "dfdcpreview": ("dfdcpreview", layouts.write_dfdc_preview, {}, 7),
    "tars": ("wilddeepfake", layouts.write_wilddeepfake, {"spaces": True}, 16),
    "folders": ("wilddeepfake", layouts.write_wilddeepfake, {"tars": False}, 16),
    "deepfakebench": ("deepfakebench", layouts.write_deepfakebench, {}, 12),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_a_face_per_frame(layout: str, face: np.ndarray, tmp_path: Path) -> None:
    dataset, write, options, count = LAYOUTS[layout]
    write(tmp_path / "in", face=face, **options)
    chosen = {"compression": "c40"} if layout == "faceforensics" else {}
    clips = CLIPS[dataset](tmp_path / "in", **chosen)
    summary = prepare(clips, tmp_path / "out", SMALL)
    assert summary == Summary(count, 0, count, count, count, {})
    assert skipped_in(tmp_path / "out") == []
    rows = read_index(tmp_path / "out", COLUMNS)
    wanted = {(clip.split, clip.name): clip for clip in clips}
    assert {(row["split"], row["clip"]) for row in rows} == set(wanted)
    for row in rows:
        clip = wanted[row["split"], row["clip"]]
        assert tuple(row["label"]) == clip.sequence
        assert (row["method"], row["compression"]) == (clip.method, clip.compression)
        assert row["group"] == clip.group
        assert row["file"] == f"faces/{clip.split or 'all'}/{clip.name}/{row['frame']:06d}.jpg"
        assert read_photo(tmp_path / "out" / row["file"]).shape == (96, 96, 3)


def test_crop_holds_what_alignment_takes_and_its_points_are_the_frames(face: np.ndarray) -> None:
    frame = np.pad(face, ((60, 20), (45, 70), (0, 0)), mode="edge")
    [seen] = FaceAnalyzer().analyze(frame)
    config = CutConfig(size=384, margin=0.15)
    cut, (x0, y0, side) = cut_face(frame, seen, config)
    points = (five_points(seen.landmarks) - (x0, y0)) * (384 / side)
    [again] = FaceAnalyzer().analyze(cut)
    assert np.abs(five_points(again.landmarks) - points).max() < 384 * 0.02
    corners = estimate_alignment(points.astype(np.float32), 1).to_image(
        np.array([[0, 0], [1, 0], [0, 1], [1, 1]], np.float32)
    )
    room = 384 * 0.15 / 1.3
    assert corners.min() > room - 3
    assert corners.max() < 384 - room + 3


def test_frames_times_and_landmarks_of_the_index(face: np.ndarray, tmp_path: Path) -> None:
    layouts.write_video(tmp_path / "a.mp4", face=face, count=20)
    clip = Clip(tmp_path / "a.mp4", (1,), "g", "val", "d", "a.mp4", method="M", compression="c23")
    prepare([clip], tmp_path / "out", CutConfig(frames=4, size=128))
    columns = ("frame", "time_s", "landmarks", "points", "box", "square", "score", "width", "height", "track")
    rows = read_index(tmp_path / "out", columns)
    assert [row["frame"] for row in rows] == evenly_spaced(20, 4)
    assert [row["time_s"] for row in rows] == pytest.approx([row["frame"] / layouts.RATE for row in rows])
    for row in rows:
        landmarks = np.array(row["landmarks"], np.float32).reshape(468, 2)
        assert np.abs(five_points(landmarks) - np.reshape(row["points"], (5, 2))).max() < 0.2
        x0, y0, x1, y1 = row["box"]
        left, top, side = row["square"]
        assert left < x0 < x1 < left + side
        assert top < y0 < y1 < top + side
        assert 0.5 < row["score"] <= 1
        assert (row["width"], row["height"], row["track"]) == (180, 180, 0)


def test_every_frame_is_accounted_for(face: np.ndarray, tmp_path: Path) -> None:
    root = tmp_path / "in"
    layouts.write_video(root / "good.mp4", face=face)
    layouts.write_video(root / "nobody.mp4")
    (root / "bad.mp4").write_bytes(b"no video")
    layouts.write_images(root / "folder", {"3.png": face, "12.png": np.zeros_like(face)})
    clips = [Clip(root / name, (), name, "test", "d", name) for name in ("good.mp4", "nobody.mp4", "bad.mp4")]
    clips.append(Clip(root / "gone.mp4", (1,), "g", "test", "d", "gone.mp4"))
    frames = ("3.png", "7.png", "12.png")
    clips.append(Clip(root / "folder", (1,), "f", "test", "d", "folder", frames=frames))
    summary = prepare(clips, tmp_path / "out", CutConfig(frames=3, size=64))
    assert skipped_in(tmp_path / "out") == [
        ("bad.mp4", "", "unreadable"),
        ("folder", "7", "missing"),
        ("folder", "12", "no face"),
        ("gone.mp4", "", "missing"),
        ("nobody.mp4", "1", "no face"),
        ("nobody.mp4", "3", "no face"),
        ("nobody.mp4", "5", "no face"),
    ]
    # Three frames each of good, nobody and the folder, one for each of the clips that do not open.
    assert summary == Summary(5, 0, 11, 4, 4, {"missing": 2, "no face": 4, "unreadable": 1})
    assert summary.asked == len(read_index(tmp_path / "out", ["file"])) + len(skipped_in(tmp_path / "out"))
    assert summary.damaged


def test_all_faces_are_joined_by_track(face: np.ndarray, tmp_path: Path) -> None:
    smaller = np.asarray(PILImage.fromarray(face).resize((120, 120)))
    small = np.pad(smaller, ((30, 30), (0, 0), (0, 0)))
    both = np.concatenate([face, small], axis=1)
    moved = np.concatenate([small, face], axis=1)  # the larger face now lies where the smaller one was
    layouts.write_images(tmp_path / "c", {"0.png": both, "1.png": both, "2.png": moved})
    clip = Clip(tmp_path / "c", (), "g", "", "d", "c")
    summary = prepare([clip], tmp_path / "out", CutConfig(frames=None, size=64, faces="all"))
    assert (summary.asked, summary.framed, summary.faces) == (3, 3, 6)
    rows = read_index(tmp_path / "out", ["file", "frame", "track", "box"])
    assert [(row["frame"], row["track"]) for row in rows[:4]] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert len({row["file"] for row in rows}) == 6
    assert rows[1]["file"] == "faces/all/c/000000-1.jpg"
    largest = prepare([clip], tmp_path / "largest", CutConfig(frames=None, size=64))
    assert (largest.framed, largest.faces) == (3, 3)


def test_a_person_who_comes_back_elsewhere_keeps_the_track(face: np.ndarray, tmp_path: Path) -> None:
    other = np.ascontiguousarray(face[:, ::-1, ::-1])  # mirrored, red and blue exchanged
    nobody = np.zeros_like(face)
    frames = ([face, other], [nobody, other], [other, face])
    images = {f"{i}.png": np.concatenate(scenes, axis=1) for i, scenes in enumerate(frames)}
    layouts.write_images(tmp_path / "c", images)
    clip = Clip(tmp_path / "c", (), "g", "", "d", "c")
    prepare([clip], tmp_path / "out", CutConfig(frames=None, size=64, faces="all"))
    rows = read_index(tmp_path / "out", ["frame", "track", "box"])
    on_left = {(row["frame"], row["box"][0] < face.shape[1] - 20): row["track"] for row in rows}
    assert on_left[0, True] == on_left[2, False] != on_left[0, False]
    assert on_left[0, False] == on_left[1, False] == on_left[2, True]


# Each part takes its time, so that the kill comes before the last one; the workers import this file as well.
RUN = """
import sys, time
from pathlib import Path
import forgerank.data.prepare.video_faces as prepare
from forgerank.data.prepare.face_crops import CutConfig
from forgerank.data.formats.registry import CLIPS
write_clip_faces = prepare.write_clip_faces
def slow(*arguments):
    write_clip_faces(*arguments)
    time.sleep(0.5)
prepare.write_clip_faces = slow
if __name__ == "__main__":
    clips = CLIPS["wilddeepfake"](Path(sys.argv[1]))
    prepare.prepare(clips, Path(sys.argv[2]), CutConfig(frames=2, size=96), workers=2)
"""


def is_running(group: int) -> bool:
    """Whether any process of a group is alive, where /proc tells."""
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, found = file.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue  # it ended meanwhile
        if int(found) == group and state != "Z":
            return True
    return False


def test_a_killed_run_goes_on_and_gives_the_same_index(face: np.ndarray, tmp_path: Path) -> None:
    layouts.write_wilddeepfake(tmp_path / "in", face=face)
    clips, config = CLIPS["wilddeepfake"](tmp_path / "in"), CutConfig(frames=2, size=96)
    parts = tmp_path / "out/parts"
    (tmp_path / "run.py").write_text(RUN)
    command = [sys.executable, tmp_path / "run.py", tmp_path / "in", tmp_path / "out"]
    process = subprocess.Popen(command, start_new_session=True)
    while len(list(parts.glob("*.parquet"))) < 3:
        assert process.poll() is None
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    while is_running(process.pid):  # its workers follow it
        time.sleep(0.01)
    finished = {path: path.stat().st_mtime_ns for path in parts.glob("*.parquet")}
    assert 3 <= len(finished) < 16
    assert not (tmp_path / "out/index.parquet").exists()
    # What a kill may leave behind: half a crop, a crop that no row names, half a part.
    torn = tmp_path / "out/faces/train" / clips[-1].name
    assert clips[-1] == max(clips, key=lambda clip: clip.name)
    torn.mkdir(parents=True, exist_ok=True)
    (torn / "000999.jpg").write_bytes(b"half")
    (parts / "0.partial").write_bytes(b"half")
    summary = prepare(clips, tmp_path / "out", config)
    assert (summary.kept, summary.faces) == (len(finished), 32)
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    prepare(clips, tmp_path / "whole", config)
    for name in ("index.parquet", "skipped.csv", "prepare.json"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    crops = [
        {p.relative_to(root): p.read_bytes() for p in root.rglob("*.jpg")}
        for root in (tmp_path / "out/faces", tmp_path / "whole/faces")
    ]
    assert crops[0] == crops[1]
    assert prepare(clips, tmp_path / "out", config).kept == 16


def test_a_file_that_arrives_later_is_looked_at(face: np.ndarray, tmp_path: Path) -> None:
    clip = Clip(tmp_path / "a.mp4", (), "g", "test", "d", "a.mp4")
    assert prepare([clip], tmp_path / "out", SMALL).skipped == {"missing": 1}
    layouts.write_video(tmp_path / "a.mp4", face=face)
    summary = prepare([clip], tmp_path / "out", SMALL)
    assert (summary.kept, summary.faces, summary.skipped) == (0, 1, {})


def test_another_request_does_not_go_into_the_same_folder(face: np.ndarray, tmp_path: Path) -> None:
    layouts.write_images(tmp_path / "c", {"0.png": face})
    clip = Clip(tmp_path / "c", (), "g", "", "d", "c")
    prepare([clip], tmp_path / "out", SMALL, request={"dataset": "d"})
    with pytest.raises(InputError, match="was made with size=96, not 80: give another folder"):
        prepare([clip], tmp_path / "out", CutConfig(frames=1, size=80), request={"dataset": "d"})
    with pytest.raises(InputError, match="was made with dataset=d, not e"):
        prepare([clip], tmp_path / "out", SMALL, request={"dataset": "e"})
    (tmp_path / "out" / SETTINGS).write_text("[]")
    with pytest.raises(InputError, match="cannot be used: it holds no settings"):
        prepare([clip], tmp_path / "out", SMALL, request={"dataset": "d"})


@pytest.mark.parametrize(
    ("names", "line"),
    [
        ([], "no clips"),
        (["a", "a"], "a: names 2 clips"),
        (["../a"], "must be a path below"),
        (["/a"], "must be a path below"),
    ],
)
def test_clips_that_cannot_have_a_folder_each(names: list[str], line: str, tmp_path: Path) -> None:
    clips = [Clip(tmp_path / "none.mp4", (), "g", "", "d", name) for name in names]
    with pytest.raises(InputError, match=line):
        prepare(clips, tmp_path / "out", SMALL)
    assert not (tmp_path / "out").exists()


def test_options_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least 1 frame"):
        CutConfig(frames=0)
    clip = Clip(tmp_path / "none.mp4", (), "g", "", "d", "a")
    with pytest.raises(InputError, match="retinaface detector needs its weights"):
        prepare([clip], tmp_path / "out", CutConfig(detector="retinaface"))
    (tmp_path / "a.onnx").write_bytes(b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()
    settings = CutConfig(detector="retinaface", detector_weights=tmp_path / "a.onnx").settings()
    assert settings["detector_weights"] == digest  # and no path of this machine
    # As the paper, wherever its weights are given.
    assert CutConfig(detector_weights=tmp_path / "a.onnx").detector == "retinaface"
    assert CutConfig().settings()["detector"] == "blazeface"
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file"):
        prepare([clip], tmp_path / "file", SMALL)
