"""`forgerank detect` on videos from the outside: rows, files, mixed input, exit codes, Ctrl-C."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as PILImage

import videos
from commands import detect
from videos import beside, shots, write_video

Pixels = NDArray[np.uint8]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, astronaut: Pixels, forged_astronaut: Pixels) -> Path:
    folder = tmp_path_factory.mktemp("files")
    forged, other = videos.first_person(forged_astronaut), videos.second_person(astronaut)
    write_video(folder / "two.mp4", shots((beside(forged, other), 2)))
    write_video(folder / "none.webm", shots((videos.empty_scene(astronaut), 1)), codec="libvpx-vp9")
    PILImage.fromarray(astronaut).save(folder / "real.png")
    return folder


def test_videos_and_photographs_together(files: Path, weights: list[str], tmp_path: Path) -> None:
    page, data, maps = tmp_path / "r.html", tmp_path / "r.json", tmp_path / "maps"
    result = detect(files, "--html", page, "--json", data, "--heatmaps", maps, *weights)
    assert (result.exit_code, result.stderr) == (0, "")
    rows = [line.split() for line in result.stdout.splitlines()]
    assert ["File", "Face", "Seen"] in [row[:3] for row in rows]
    assert "no face found" in result.stdout
    assert "1 nose" in result.stdout
    assert sum("0:00-0:02" in row for row in rows) == 2
    report = json.loads(data.read_text(encoding="utf-8"))
    assert [Path(entry["path"]).name for entry in report["reports"]] == ["real.png"]
    assert [Path(entry["path"]).name for entry in report["videos"]] == ["none.webm", "two.mp4"]
    two = report["videos"][1]
    assert (two["verdict"], len(two["tracks"])) == ("forged", 2)
    assert len(two["tracks"][0]["moments"]) == 6
    assert page.read_text(encoding="utf-8").count('<section class="item') == 3
    names = sorted(path.name for path in maps.iterdir())
    assert {name.split("-face")[0].rsplit("-", 1)[0] for name in names if "two" in name} == {
        "0003-two-track1",
        "0003-two-track2",
    }


def test_a_forged_stretch_is_named_everywhere(
    astronaut: Pixels, forged_astronaut: Pixels, weights: list[str], tmp_path: Path
) -> None:
    real, forged = videos.first_person(astronaut), videos.first_person(forged_astronaut)
    path = write_video(tmp_path / "part.mp4", shots((real, 10), (forged, 3), (real, 10)))
    page, data = tmp_path / "r.html", tmp_path / "r.json"
    result = detect(path, "--json", data, "--html", page, *weights)
    assert (result.exit_code, result.stderr) == (0, "")
    assert "forged from 0:10 to 0:13, 1 nose" in result.stdout
    [track] = json.loads(data.read_text(encoding="utf-8"))["videos"][0]["tracks"]
    [stretch] = track["stretches"]
    assert (track["verdict"], stretch["moments"]) == ("forged", 6)
    assert (stretch["start"], stretch["end"]) == pytest.approx((9.75, 12.75), abs=0.25)
    assert 0 < stretch["chance"] < 0.01
    assert "signs of forgery from 0:10 to 0:13" in page.read_text(encoding="utf-8")


def test_warnings_stand_under_the_table_and_on_stderr(
    files: Path, weights: list[str], tmp_path: Path
) -> None:
    cut = videos.cut_file(files / "two.mp4", 0.5).rename(tmp_path / "cut.mp4")
    both = videos.join_streams(tmp_path / "both.mp4", files / "two.mp4", files / "two.mp4")
    result = detect(cut, both, *weights)
    assert result.exit_code == 0
    shown = " ".join(result.stdout.split())
    for path, warning in ((cut, "of the 2.0 s that it states"), (both, "2 video streams")):
        assert warning in shown
        assert any(str(path) in line and warning in line for line in result.stderr.splitlines())


@pytest.mark.parametrize("container", ["mp4", "mkv"])
def test_a_second_camera_that_was_not_judged_is_named(
    astronaut: Pixels, forged_astronaut: Pixels, weights: list[str], tmp_path: Path, container: str
) -> None:
    """The second of two video streams is forged: the verdict says nothing about it, so a warning does."""
    cameras = [
        write_video(tmp_path / f"{number}.mp4", shots((videos.first_person(person), 2)))
        for number, person in enumerate((astronaut, forged_astronaut))
    ]
    both = videos.join_streams(tmp_path / f"both.{container}", *cameras)
    alone = json.loads(detect(cameras[0], "--json", "-", *weights).stdout)["videos"][0]
    page, data = tmp_path / "r.html", tmp_path / "r.json"
    result = detect(both, "--html", page, "--json", data, *weights)
    warning = "it holds 2 video streams; the first was judged"
    assert warning in " ".join(result.stdout.split())
    [line] = result.stderr.splitlines()
    assert both.name in line
    assert warning in line
    assert warning in page.read_text(encoding="utf-8")
    [entry] = json.loads(data.read_text(encoding="utf-8"))["videos"]
    assert (entry["verdict"], entry["warnings"]) == (alone["verdict"], [warning])


def test_sampling_options(files: Path, weights: list[str]) -> None:
    for options, count in ((("--fps", 5), 10), (("--max-frames", 3), 3)):
        result = detect(files / "two.mp4", "--json", "-", *options, *weights)
        assert json.loads(result.stdout)["videos"][0]["sampled_frames"] == count


def test_bad_videos_are_one_line_each_and_stop_nothing(
    files: Path, weights: list[str], tmp_path: Path
) -> None:
    bad = {
        "sound.m4a": "a sound recording (M4A)",
        "text.mp4": "not a video",
        "empty.mkv": "empty file",
        "missing.mp4": "no such file or folder",
        "index.mp4": "cut off inside its index",
    }
    videos.write_sound(tmp_path / "sound.m4a")
    (tmp_path / "text.mp4").write_text("not a video")
    (tmp_path / "empty.mkv").touch()
    whole = (files / "two.mp4").read_bytes()
    (tmp_path / "index.mp4").write_bytes(whole[:200])
    result = detect(*(tmp_path / name for name in bad), files / "two.mp4", *weights)
    assert result.exit_code == 2
    assert "1 nose" in result.stdout
    lines = result.stderr.splitlines()
    assert len(lines) == len(bad)
    for name, reason in bad.items():
        assert sum(name in line and reason in line for line in lines) == 1, lines


def test_the_same_photograph_twice_is_answered_once(files: Path, weights: list[str]) -> None:
    result = detect(files / "real.png", files / "real.png", "--json", "-", *weights)
    assert len(json.loads(result.stdout)["reports"]) == 1
    assert "real.png" in result.stderr


SLOW = """
import sys, time
import forgerank.detect.videos as video
open_people = video.People.add
def slow(*arguments):
    print("judging", file=sys.stderr, flush=True)
    time.sleep(0.2)
    return open_people(*arguments)
video.People.add = slow
from forgerank.cli.main import main
main()
"""


def test_ctrl_c_ends_at_once_without_a_traceback(files: Path, weights: list[str]) -> None:
    command = [sys.executable, "-c", SLOW, "detect", str(files / "two.mp4"), "--fps", "10", *weights]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    process.stderr.readline()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert [line for line in err.splitlines() if line != "judging"] == ["forgerank: stopped by Ctrl-C"]
    assert "Traceback" not in out
