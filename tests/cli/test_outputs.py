"""No command overwrites what it was given, or loses what it found out."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as PILImage
from typer.testing import CliRunner

from commands import detect
from forgerank.cli.detect import Outputs
from forgerank.cli.main import app
from forgerank.types import InputError


@pytest.fixture
def photo(tmp_path: Path, astronaut: NDArray[np.uint8]) -> Path:
    path = tmp_path / "фото.png"
    PILImage.fromarray(astronaut[40:240, 120:320]).save(path)
    return path


def refusal(*arguments: object) -> str:
    """The line that a command is refused with."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert isinstance(result.exception, InputError), result.exception
    return str(result.exception)


def test_an_input_is_never_overwritten(photo: Path, weights: list[str], tmp_path: Path) -> None:
    before = photo.read_bytes()
    (tmp_path / "link.json").symlink_to(photo)
    (tmp_path / "hard.json").hardlink_to(photo)
    description = Path(weights[1], "forgerank.json")
    for given in (photo, tmp_path):  # a folder is searched first
        for name in ("фото.png", "link.json", "hard.json"):
            for option in ("--json", "--html"):
                assert "is an input, too" in refusal("detect", given, option, tmp_path / name, *weights)
    for option in ("--json", "--html"):
        assert "is an input, too" in refusal("detect", photo, option, description, *weights)
    assert "is an input, too" in refusal("faces", photo, "--draw", tmp_path / "фото.png")
    assert photo.read_bytes() == before


def test_two_outputs_are_two_files(photo: Path, weights: list[str], tmp_path: Path) -> None:
    same = tmp_path / "same.txt"
    assert "is another output, too" in refusal("detect", photo, "--json", same, "--html", same, *weights)
    assert "is another output, too" in refusal("detect", photo, "--json", same, "--heatmaps", same, *weights)
    assert not same.exists()


def test_heatmaps_of_two_runs_are_not_mixed(photo: Path, weights: list[str], tmp_path: Path) -> None:
    maps = tmp_path / "maps"
    assert detect(photo, "--heatmaps", maps, *weights).exit_code == 0
    before = sorted(maps.iterdir())
    assert len(before) == 6
    assert "holds images already" in refusal("detect", photo, "--heatmaps", maps, *weights)
    assert sorted(maps.iterdir()) == before


def test_other_commands_keep_their_inputs(tmp_path: Path) -> None:
    path = tmp_path / "weights.json"
    path.write_text("{}")
    (tmp_path / "curve.csv").write_text("images\n")
    assert "is an input, too" in refusal("card", tmp_path / "weights.safetensors", "--out", path)
    assert "is an input, too" in refusal("curve", tmp_path, "--out", tmp_path / "curve.csv")
    assert "is an input, too" in refusal("evaluate", tmp_path / "weights.safetensors", "--json", path)
    assert "is an input, too" in refusal("summarize", path, "--html", path)
    assert "is an input, too" in refusal("data", "check", "folder", tmp_path, "--json", path)
    assert path.read_text() == "{}"


def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "forgerank", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, env={**os.environ, **environment}, check=False)


def test_a_console_without_the_letters_of_a_name(photo: Path, weights: list[str], tmp_path: Path) -> None:
    done = run("detect", photo, "--json", tmp_path / "r.json", *weights, PYTHONIOENCODING="cp1252")
    assert done.returncode == 0, done.stderr
    assert rb"\u0444\u043e\u0442\u043e" in done.stdout
    assert json.loads((tmp_path / "r.json").read_text())["reports"][0]["path"] == str(photo)
    done = run("detect", photo, "--json", "-", *weights, PYTHONIOENCODING="ascii")
    assert json.loads(done.stdout)["reports"][0]["path"] == str(photo)


def test_one_output_that_cannot_be_written_costs_no_other(
    photo: Path, weights: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Path.write_bytes

    def full(path: Path, content: bytes) -> int:
        if ".html" in path.name or "maps" in path.parts:
            write(path, content[:100])
            raise OSError(28, "No space left on device")
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    page, maps = tmp_path / "r.html", tmp_path / "maps"
    result = detect(photo, "--html", page, "--json", tmp_path / "r.json", "--heatmaps", maps, *weights)
    assert result.exit_code == 2
    assert "real" in result.stdout
    lines = result.stderr.splitlines()
    assert len(lines) == 2
    assert all("cannot be written (no space left on device)" in line for line in lines)
    assert json.loads((tmp_path / "r.json").read_text())["reports"]
    assert not list(maps.iterdir())
    assert not page.exists()


def test_the_heatmaps_of_detect_may_share_a_folder_with_its_reports(tmp_path: Path) -> None:
    Outputs(json=str(tmp_path / "r.json"), html=tmp_path / "r.html", heatmaps=tmp_path).prepare()
