"""`forgerank detect` from the outside: outputs, bad input, exit codes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as PILImage

from commands import detect
from forgerank.cli.detect import Outputs
from forgerank.types import InputError

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
    rows = [line.split() for line in result.stdout.splitlines()]
    verdicts = [word for row in rows for word in row if word in ("real", "forged", "undetermined")]
    assert verdicts == ["undetermined", "forged", "real"]  # sorted by name: empty, forged, real
    assert "1 nose" in result.stdout
    assert "2 lip" in result.stdout
    assert "no face found" in result.stdout
    assert result.stderr == ""


def test_json_on_standard_output_comes_alone(photos: Path, weights: list[str]) -> None:
    result = detect(photos / "forged.png", "--json", "-", *weights)
    report = json.loads(result.stdout)
    assert [entry["verdict"] for entry in report["reports"]] == ["forged"]
    ranks = {
        component["name"]: component["rank"] for component in report["reports"][0]["faces"][0]["components"]
    }
    assert ranks == {"nose": 1, "eye": None, "eyebrow": None, "lip": 2, "hair": None}


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
    }
    paths["empty"].touch()
    paths["truncated"].write_bytes(good[:50])  # nothing of its pixels
    paths["text"].write_text("not an image")
    PILImage.new("1", (30_000, 30_000)).save(paths["bomb"])
    paths["loop"].symlink_to(paths["loop"])
    paths["device"].symlink_to("/dev/null")
    paths["markup"].write_bytes(b"\x00")
    if os.geteuid() != 0:  # root may read everything
        paths["unreadable"] = folder / "unreadable.jpg"
        paths["unreadable"].write_bytes(good)
        paths["unreadable"].chmod(0)
    return paths


def test_bad_input_is_one_line_each_and_stops_nothing(
    photos: Path, weights: list[str], tmp_path: Path
) -> None:
    paths = bad_inputs(tmp_path, (photos / "real.png").read_bytes())
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
    assert [entry["verdict"] for entry in report["reports"]] == ["real", "forged"]
    assert {error["path"] for error in report["errors"]} == {str(path) for path in paths.values()}
    assert all(error["reason"] and "\n" not in error["reason"] for error in report["errors"])


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
        (Outputs(heatmaps=Path(__file__)), "cannot make this folder"),
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
        f"forgerank: {tmp_path}/forgerank.json: cannot read the weights (No such file or directory)"
    ]
