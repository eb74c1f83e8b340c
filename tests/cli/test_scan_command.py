"""`forgerank scan` and `forgerank summarize` from the outside."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from PIL import Image as PILImage
from typer.testing import CliRunner, Result

from forgerank.cli.main import app
from forgerank.serving.scan import run
from forgerank.serving.scan.scan_settings import StoppedError
from forgerank.weights.description import METADATA_FILE, sealed_json


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def folder(tmp_path: Path, forged_astronaut: NDArray[np.uint8]) -> Path:
    (tmp_path / "in").mkdir()
    PILImage.fromarray(forged_astronaut).save(tmp_path / "in" / "forged.png")
    (tmp_path / "in" / "text.jpg").write_text("not an image")
    return tmp_path / "in"


def test_a_folder_becomes_a_file_a_summary_and_a_page(
    folder: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    out, page = tmp_path / "r.parquet", tmp_path / "s.html"
    result = call("scan", folder, "--out", out, "--weights", tiny_weights, "--workers", 1)
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    assert [row["verdict"] for row in pq.read_table(out).to_pylist()] == ["forged", None]
    assert "2 files in" in result.stdout
    assert "not an image" in result.stdout
    summed = call("summarize", out, "--html", page, "--worst", 1)
    assert summed.exit_code == 0
    assert "nose, then lip" in summed.stdout
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert "is there already" in str(call("scan", folder, "--out", out).exception)


def test_a_list_and_everything_in_a_folder(folder: Path, tiny_weights: Path, tmp_path: Path) -> None:
    (folder / "notes.txt").write_text("x")
    (tmp_path / "list").write_text(f"{folder / 'text.jpg'}\n")
    options = ["--weights", tiny_weights, "--workers", 1]
    call("scan", folder, "--all", "--out", tmp_path / "all.parquet", *options)
    call("scan", "--list", tmp_path / "list", "--out", tmp_path / "list.parquet", *options)
    assert pq.read_metadata(tmp_path / "all.parquet").num_rows == 3
    assert pq.read_metadata(tmp_path / "list.parquet").num_rows == 1


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "name at least one SOURCE, or a --list"),
        (["no/such/folder"], "no/such/folder: no such file or folder"),
        (["x", "--storage-option", "key"], "--storage-option key: give KEY=VALUE"),
        (["x", "--fps", "0"], "--fps: Input should be greater than 0"),
        (["x", "--weights", "no/such"], "cannot read the weights"),
    ],
)
def test_bad_options_and_sources_are_one_line(arguments: list[str], line: str, tmp_path: Path) -> None:
    result = call("scan", *arguments, "--out", tmp_path / "r.parquet")
    assert line in str(result.exception)  # `one_line_errors` prints it and ends with exit code 2
    assert "\n" not in str(result.exception)


def test_a_thorough_scan_says_so(folder: Path, tiny_weights: Path, tmp_path: Path) -> None:
    out = tmp_path / "r.parquet"
    weights = shutil.copytree(tiny_weights, tmp_path / "weights")
    description = json.loads((weights / METADATA_FILE).read_text())
    cuts = {**description["thresholds"], "forged": 0.55}
    description["thorough"] = {"thresholds": cuts, "calibration": description["calibration"]}
    (weights / METADATA_FILE).write_bytes(sealed_json(description))
    result = call("scan", folder, "--out", out, "--weights", weights, "--workers", 1, "--thorough")
    assert result.exit_code == 0, result.output
    written = pq.read_schema(out).metadata
    assert written[b"forgerank.thorough"] == b"true"
    assert json.loads(written[b"forgerank.thresholds"]) == cuts
    assert [row["verdict"] for row in pq.read_table(out).to_pylist()] == ["forged", None]


def test_a_scan_that_must_stop_ends_with_one(
    folder: Path, tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise StoppedError("r.parquet: no space left on the disk")

    monkeypatch.setattr(run, "scan", stop)
    result = call("scan", folder, "--out", tmp_path / "r.parquet", "--weights", tiny_weights)
    assert (result.exit_code, result.stderr) == (1, "forgerank: r.parquet: no space left on the disk\n")
