"""`forgerank detect` from the outside: outputs, bad input, exit codes."""

import csv
import errno
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as PILImage
from rich.console import Console
from typer.testing import CliRunner

from commands import detect
from forgerank.cli.detect import Outputs, print_left_out
from forgerank.cli.main import app
from forgerank.types import InputError
from locked import lock

Pixels = NDArray[np.uint8]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory, astronaut: Pixels, forged_astronaut: Pixels) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    PILImage.fromarray(astronaut).save(folder / "real.png")
    PILImage.fromarray(forged_astronaut).save(folder / "forged.png")
    PILImage.fromarray(np.zeros((64, 64, 3), np.uint8)).save(folder / "empty.png")
    return folder


def test_table_of_a_folder(photos: Path, weights: list[str]) -> None:
    result = detect(photos, *weights)
    assert result.exit_code == 0
    rows = [line.split() for line in result.stdout.splitlines()[:-2]]
    verdicts = [word for row in rows for word in row if word in ("real", "forged", "undetermined")]
    assert verdicts == ["undetermined", "forged", "real"]  # sorted by name: empty, forged, real
    assert "1 nose" in result.stdout
    assert "2 lip" in result.stdout
    assert "no face found" in result.stdout
    assert result.stdout.splitlines()[-2] == "3 images: 1 forged, 1 real, 1 undetermined"
    assert result.stdout.splitlines()[-1].startswith("forged from ")
    assert result.stderr == ""


@pytest.mark.parametrize("output", ["-", "/dev/stdout"])
def test_json_on_standard_output_comes_alone(photos: Path, weights: list[str], output: str) -> None:
    result = detect(photos / "forged.png", "--json", output, *weights)
    report = json.loads(result.stdout)
    assert [entry["verdict"] for entry in report["reports"]] == ["forged"]
    ranks = {
        component["name"]: component["rank"] for component in report["reports"][0]["faces"][0]["components"]
    }
    assert ranks == {"nose": 1, "eye": None, "eyebrow": None, "lip": 2, "hair": None}


def test_csv_on_standard_output_comes_alone(photos: Path, weights: list[str], tmp_path: Path) -> None:
    result = detect(photos, "--csv", "-", "--json", tmp_path / "r.json", *weights)
    assert result.exit_code == 0
    rows = list(csv.DictReader(result.stdout.splitlines()))
    assert [row["verdict"] for row in rows] == ["undetermined", "forged", "real"]
    assert len(json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))["reports"]) == 3


def test_all_outputs_at_once(photos: Path, weights: list[str], tmp_path: Path) -> None:
    maps, page, data = tmp_path / "new/maps", tmp_path / "r.html", tmp_path / "r.json"
    result = detect(photos, "--heatmaps", maps, "--html", page, "--json", data, *weights)
    assert result.exit_code == 0
    assert {path.name.split("-", 1)[0] for path in maps.iterdir()} == {"0002", "0003"}
    assert len(list(maps.iterdir())) == 2 * 6
    assert page.read_text(encoding="utf-8").count('<section class="item') == 3
    assert len(json.loads(data.read_text(encoding="utf-8"))["reports"]) == 3


def bad_inputs(folder: Path, good: bytes) -> dict[str, Path]:
    paths = {
        "missing": folder / "missing.jpg",
        "empty": folder / "empty.jpg",
        "truncated": folder / "truncated.png",
        "text": folder / "text.jpg",
        "bomb": folder / "bomb.png",
        "loop": folder / "loop",
        "device": folder / "device.jpg",
        "markup": folder / "[red]<script>\x1b[0m.jpg",
        "unreadable": folder / "unreadable.jpg",
    }
    paths["empty"].touch()
    paths["truncated"].write_bytes(good[:50])  # nothing of its pixels
    paths["text"].write_text("not an image")
    PILImage.new("1", (30_000, 30_000)).save(paths["bomb"])
    paths["loop"].symlink_to(paths["loop"])
    paths["device"].symlink_to("/dev/null")
    paths["markup"].write_bytes(b"\x00")
    paths["unreadable"].write_bytes(good)
    paths["unreadable"].chmod(0)
    return paths


def not_as_root(patch: pytest.MonkeyPatch, unreadable: Path) -> None:
    """Root may read everything."""
    access, opened = os.access, open
    if os.geteuid() != 0:
        return

    def may(path: Any, mode: int, **options: Any) -> bool:
        return Path(path) != unreadable and access(path, mode, **options)

    def refuse(path: Any, *arguments: Any, **options: Any) -> Any:
        if not isinstance(path, int) and Path(path) == unreadable:
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return opened(path, *arguments, **options)

    patch.setattr("os.access", may)
    patch.setattr("builtins.open", refuse)


def test_bad_input_is_one_line_each_and_stops_nothing(
    photos: Path, weights: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = bad_inputs(tmp_path, (photos / "real.png").read_bytes())
    not_as_root(monkeypatch, paths["unreadable"])
    arguments = [photos / "real.png", *paths.values(), photos / "forged.png"]
    result = detect(*arguments, "--json", tmp_path / "r.json", *weights)
    assert result.exit_code == 2
    lines = result.stderr.splitlines()
    assert len(lines) == len(paths), result.stderr
    assert all(line.startswith("forgerank: ") for line in lines)
    for path in paths.values():
        assert sum(path.name.split("<")[0] in line for line in lines) == 1, (path, lines)
    assert "\x1b" not in result.stderr
    report = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
    assert report["model"]["thorough"] is False
    assert [entry["verdict"] for entry in report["reports"]] == ["real", "forged"]
    assert {error["path"] for error in report["errors"]} == {str(path) for path in paths.values()}
    assert all(error["reason"] and "\n" not in error["reason"] for error in report["errors"])


def test_a_folder_that_a_pattern_cannot_search_is_said(
    photos: Path, weights: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b/locked", ".hidden"):
        (tmp_path / name).mkdir(parents=True)
    shutil.copy(photos / "real.png", tmp_path / "a")
    with monkeypatch.context() as patch:
        lock(patch, tmp_path / ".hidden")
        assert detect(tmp_path / "**/*.png", *weights).exit_code == 0
    lock(monkeypatch, tmp_path / "b/locked")
    result = detect(tmp_path / "**/*.png", *weights)
    assert (result.exit_code, result.stderr) == (
        2,
        f"forgerank: {tmp_path / 'b/locked'}: permission denied\n",
    )
    assert "1 image: 1 real" in result.stdout


def test_heatmaps_of_earlier_reports_are_no_photographs(
    photos: Path, weights: list[str], tmp_path: Path
) -> None:
    (tmp_path / "trip").mkdir()
    photo = tmp_path / "trip/me-face1-nose.png"
    shutil.copy(photos / "real.png", photo)
    assert detect(tmp_path / "trip", *weights, "--heatmaps", tmp_path / "trip/maps").exit_code == 0
    result = detect(tmp_path / "trip", *weights)
    line = "forgerank: left out 6 heatmaps of earlier reports\n"
    assert (result.exit_code, result.stderr) == (0, line)
    assert "1 image: 1 real" in result.stdout
    assert len(list((tmp_path / "trip/maps").iterdir())) == 6
    mixed = Counter(heatmap=1, TXT=1)
    with io.StringIO() as text:
        print_left_out(Console(file=text), mixed)
        assert text.getvalue().splitlines()[0] == "forgerank: left out 1 heatmap of earlier reports"
    assert mixed["heatmap"] == 1


def test_what_is_left_out_of_a_folder_is_said_by_kind() -> None:
    with io.StringIO() as text:
        print_left_out(Console(file=text), Counter(AAE=2, TXT=1, XMP=1))
        assert text.getvalue().splitlines() == [
            "forgerank: 3 edit lists (AAE 2, XMP 1) were not read: such a file says how an application "
            "changed a photograph",
            "forgerank: left out 1 file that is no image or video: TXT 1",
        ]


def test_a_folder_that_links_back_to_itself_ends_with_one_line(
    photos: Path, weights: list[str], tmp_path: Path
) -> None:
    (tmp_path / "real.png").write_bytes((photos / "real.png").read_bytes())
    (tmp_path / "again").symlink_to(tmp_path)
    result = detect(tmp_path, "--json", "-", *weights)
    assert [Path(entry["path"]).name for entry in json.loads(result.stdout)["reports"]] == ["real.png"]
    assert result.exit_code == 2
    assert result.stderr == f"forgerank: {tmp_path / 'again'}: leads back to a folder that it lies in\n"


def test_nothing_but_bad_input(weights: list[str], tmp_path: Path) -> None:
    result = detect(tmp_path / "a.jpg", tmp_path / "b.jpg", *weights)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 2


def test_more_images_than_a_chunk(photos: Path, weights: list[str], tmp_path: Path) -> None:
    names = [f"{number:02d}.png" for number in range(10)]
    for name in names:
        os.link(photos / "empty.png", tmp_path / name)
    (tmp_path / "05b.png").touch()
    result = detect(tmp_path, "--json", "-", *weights)
    report = json.loads(result.stdout)
    assert [Path(entry["path"]).name for entry in report["reports"]] == names
    assert [Path(entry["path"]).name for entry in report["errors"]] == ["05b.png"]


@pytest.mark.parametrize(
    ("outputs", "reason"),
    [
        (Outputs(html=Path("no/such/r.html")), "its folder does not exist"),
        (Outputs(json="no/such/r.json"), "its folder does not exist"),
        (Outputs(html=Path("/")), "is a folder"),
        (Outputs(heatmaps=Path(__file__)), "is no folder"),
        (Outputs(json="-", csv="-"), "standard output takes one report"),
        (Outputs(html=Path("-")), "does not go to standard output"),
        (Outputs(heatmaps=Path("-")), "does not go to standard output"),
    ],
)
def test_outputs_are_checked_before_the_work(outputs: Outputs, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        outputs.prepare()


def test_console_script_ends_with_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from forgerank.cli.main import main; main()"]
    done = subprocess.run(
        [*command, "detect", "x.jpg", "--weights", str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        f"forgerank: {tmp_path}/forgerank.json: cannot read the weights (no such file or folder)"
    ]


def test_the_table_in_csv_the_case_and_what_was_written(
    photos: Path, weights: list[str], tmp_path: Path
) -> None:
    table, page, data = tmp_path / "t.csv", tmp_path / "r.html", tmp_path / "r.json"
    outputs = ["--csv", table, "--html", page, "--json", data]
    result = detect(photos, *outputs, "--case", "2026/17 <b>", *weights)
    assert result.stdout.splitlines()[-2].endswith(f"; wrote {page}, {data}, {table}")
    rows = list(csv.DictReader(table.read_text(encoding="utf-8").splitlines()))
    assert [row["verdict"] for row in rows] == ["undetermined", "forged", "real"]
    assert (rows[0]["reason"], rows[0]["face"], rows[0]["likelihood_ratio"]) == ("no face found", "", "")
    assert rows[1]["sequence"] == "nose lip"
    assert float(rows[1]["forged_probability"]) > 0.8
    assert float(rows[1]["nose"]) > float(rows[1]["eye"])
    report = json.loads(data.read_text(encoding="utf-8"))
    assert report["case"] == "2026/17 <b>"
    assert datetime.fromisoformat(report["created"]).tzinfo is not None
    face = report["reports"][1]["faces"][0]
    odds = face["forged_probability"] / (1 - face["forged_probability"])
    assert face["likelihood_ratio"] == pytest.approx(odds, rel=1e-3)
    assert "2026/17 &lt;b&gt;" in page.read_text(encoding="utf-8")


def test_the_most_suspicious_first(photos: Path, weights: list[str]) -> None:
    rows = detect(photos, "--sort", "probability", *weights).stdout.splitlines()[1:4]
    assert [Path(row.split()[0]).name for row in rows] == ["forged.png", "real.png", "empty.png"]


def test_quiet_prints_errors_alone(photos: Path, weights: list[str], tmp_path: Path) -> None:
    result = detect(photos / "real.png", tmp_path / "missing.jpg", "-q", *weights)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"forgerank: {tmp_path / 'missing.jpg'}: no such file or folder\n"


def test_patterns_are_expanded_and_one_that_matches_nothing_is_named(
    photos: Path, weights: list[str], tmp_path: Path
) -> None:
    (tmp_path / "a[1].png").write_bytes((photos / "real.png").read_bytes())
    (tmp_path / "Thumbs.db").touch()
    result = detect(photos / "*e*.png", tmp_path / "a[1].png", photos / "*.gif", *weights)
    names = [Path(line.split()[0]).name for line in result.stdout.splitlines()[1:5]]
    assert names == ["empty.png", "forged.png", "real.png", "a[1].png"]
    assert result.exit_code == 2
    assert result.stderr.endswith("*.gif: no file matches this pattern\n")
    assert detect(tmp_path / "[aT]*", *weights).exit_code == 0


def test_the_same_file_is_judged_once(photos: Path, weights: list[str], tmp_path: Path) -> None:
    link = tmp_path / "link.png"
    link.symlink_to(photos / "real.png")
    result = detect(photos / "real.png", photos / "real.png", link, *weights)
    assert result.exit_code == 0
    assert "1 image: 1 real" in result.stdout
    assert result.stderr.splitlines() == [
        f"forgerank: {photos / 'real.png'}: named twice, judged once",
        f"forgerank: {link}: the same file as {photos / 'real.png'}, judged once",
    ]


def test_standard_input(photos: Path, weights: list[str], tmp_path: Path) -> None:
    data = tmp_path / "r.json"
    content = (photos / "forged.png").read_bytes()
    arguments = ["detect", "-", "--json", str(data), *weights]
    result = CliRunner().invoke(app, arguments, input=content)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines()[1].startswith("<stdin>")
    report = json.loads(data.read_text(encoding="utf-8"))["reports"][0]
    assert (report["path"], report["sha256"]) == ("<stdin>", hashlib.sha256(content).hexdigest())


def test_a_face_that_cannot_be_judged_shows_no_percentage(
    forged_astronaut: Pixels, weights: list[str], tmp_path: Path
) -> None:
    small = PILImage.fromarray(forged_astronaut).resize((180, 180))
    small.save(tmp_path / "small.png")
    result = detect(tmp_path / "small.png", "--html", tmp_path / "r.html", *weights)
    row = result.stdout.splitlines()[1]
    assert "undetermined" in row
    assert "face too small" in row
    assert "%" not in row
    assert "Probability of forgery" not in (tmp_path / "r.html").read_text(encoding="utf-8")
