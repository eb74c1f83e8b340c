"""`forgerank data`: options in, tables, JSON, summaries and exit codes out."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

import layouts
from forgerank.cli.main import app
from forgerank.cli.options import parse_settings
from forgerank.extras import MissingExtraError
from forgerank.types import InputError


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["data", *map(str, arguments)], env={"COLUMNS": "120"})


@pytest.mark.parametrize("command", ["prepare", "check", "download"])
def test_every_command_documents_itself_and_its_exit_codes(command: str) -> None:
    result = call(command, "--help")
    assert result.exit_code == 0
    assert f"forgerank data {command}" in result.stdout
    assert "Exit codes" in result.stdout


def test_prepare_says_what_became_of_every_frame(tmp_path: Path, astronaut: np.ndarray) -> None:
    layouts.write_celebdf(tmp_path / "in", face=np.ascontiguousarray(astronaut[20:200, 130:310]))
    out = tmp_path / "out"
    command = ("prepare", "celebdf", tmp_path / "in", "--out", out, "--frames", 2, "--size", 64, "--limit", 3)
    result = call(*command, "--set", "groups=target")
    assert result.exit_code == 0, result.exception
    assert result.stdout == (
        f"{out}: 3 clips (0 from before), 6 frames: 6 with a face (6 faces), 0 skipped; "
        "faces found by blazeface\n"
    )
    (tmp_path / "in/Celeb-real/id0_0001.mp4").write_bytes(b"no video")
    result = call(*command, "--set", "groups=target")
    assert result.exit_code == 2
    assert "(2 from before), 5 frames: 4 with a face (4 faces), 1 skipped (1 unreadable)" in result.stdout
    assert isinstance(call(*command, "--set", "groups=connected").exception, InputError)


def test_retinaface_finds_the_faces_where_its_weights_are_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Blind:
        def __init__(self, detector: str, weights: Path | None) -> None:
            assert (detector, weights) == ("retinaface", tmp_path / "r.onnx")

        def analyze(self, image: np.ndarray) -> list[object]:
            return []

    monkeypatch.setattr("forgerank.data.prepare.video_faces.FaceAnalyzer", Blind)
    layouts.write_dfd(tmp_path / "in")
    (tmp_path / "r.onnx").write_bytes(b"weights")
    out = tmp_path / "out"
    command = ("prepare", "dfd", tmp_path / "in", "--out", out, "--frames", 1)
    result = call(*command, "--detector-weights", tmp_path / "r.onnx")
    assert result.exit_code == 0, result.exception
    assert result.stdout.endswith("7 skipped (7 no face); faces found by retinaface\n")
    assert json.loads((out / "prepare.json").read_text())["detector"] == "retinaface"


def test_check_prints_counts_and_problems(tmp_path: Path) -> None:
    layouts.write_folder(tmp_path / "own", count=12)
    result = call("check", "folder", tmp_path / "own")
    assert result.exit_code == 0, result.output
    assert "24 files: nothing wrong" in result.stdout
    for number in range(7):
        (tmp_path / f"own/real/{number:02d}.png").write_bytes(b"")
    result = call("check", "folder", tmp_path / "own", "--json", tmp_path / "report.json")
    assert result.exit_code == 2
    assert "7 unreadable: unreadable files" in result.stdout
    assert "real/00.png: empty file" in result.stdout
    assert "and 2 more; --json lists all" in result.stdout
    report = json.loads((tmp_path / "report.json").read_text())
    assert [problem["kind"] for problem in report["problems"]] == ["unreadable"] * 7


def test_json_on_standard_output_stands_alone(tmp_path: Path) -> None:
    layouts.write_folder(tmp_path)
    result = call("check", "folder", tmp_path, "--json", "-")
    assert json.loads(result.stdout)["ok"] is True
    assert isinstance(call("check", "folder", tmp_path, "--json", tmp_path).exception, InputError)


WITHOUT_OTHER_EXTRAS = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "torchvision", "timm", "lightning", "cv2", "skimage", "sklearn"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocked())
from forgerank.cli.main import main
main()
"""


def test_the_data_extra_is_enough(tmp_path: Path) -> None:
    layouts.write_dfd(tmp_path / "in")
    for command in (
        ["check", "dfd", tmp_path / "in", "--no-counts"],
        ["prepare", "dfd", tmp_path / "in", "--out", tmp_path / "out", "--frames", "1"],
    ):
        words = [sys.executable, "-c", WITHOUT_OTHER_EXTRAS, "data", *map(str, command)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
    assert "7 frames: 0 with a face (0 faces), 7 skipped (7 no face)" in done.stdout


def test_published_counts_can_be_left_out(tmp_path: Path) -> None:
    layouts.write_dfd(tmp_path)
    result = call("check", "dfd", tmp_path)
    assert result.exit_code == 2
    assert "no split, real, c23: 4 instead of 363" in result.stdout
    assert call("check", "dfd", tmp_path, "--no-counts").exit_code == 0


def test_download_names_the_page_of_a_gated_set(tmp_path: Path) -> None:
    error = call("download", "celebdf", "--out", tmp_path).exception
    assert isinstance(error, InputError)
    assert "ask for it at https://github.com/yuezunli/celeb-deepfakeforensics" in str(error)


def test_download_lists_what_is_to_be_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, object] = {}

    def fetch(dataset: str, out: Path, **options: object) -> list[Path]:
        seen.update(options, dataset=dataset)
        return [out / "a.zip"]

    monkeypatch.setattr("forgerank.data.prepare.download.download", fetch)
    result = call("download", "seq-deepfake", "--out", tmp_path, "--repository", "me/mine")
    assert result.stdout == f"{tmp_path}: downloaded\n{tmp_path / 'a.zip'}: to be unpacked where it lies\n"
    assert seen == {"dataset": "seq-deepfake", "repository": "me/mine", "workers": 4}


@pytest.mark.parametrize("text", ["compression", "=c40", "a=[1", "a=b: c: d"])
def test_options_that_cannot_be_read(text: str) -> None:
    with pytest.raises(InputError, match="--set"):
        parse_settings([text])


def test_unknown_names_are_listed(tmp_path: Path) -> None:
    for arguments in (("prepare", "folder", tmp_path, "--out", tmp_path / "o"), ("check", "x", tmp_path)):
        error = call(*arguments).exception
        assert isinstance(error, InputError)
        assert "choose from faceforensics" in str(error)


@pytest.mark.parametrize(
    "command",
    [["prepare", "dfd", ".", "--out", "o"], ["check", "dfd", "."], ["download", "dfd", "--out", "o"]],
)
def test_missing_extra_names_the_pip_command(monkeypatch: pytest.MonkeyPatch, command: list[str]) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(name=name)

    monkeypatch.setattr("forgerank.extras.import_module", missing)
    assert 'pip install "forgerank[data]"' in str(call(*command).exception)
    assert isinstance(call(*command).exception, MissingExtraError)
