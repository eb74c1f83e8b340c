"""No command overwrites what it was given, or loses what it found out."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as PILImage
from typer.main import get_command
from typer.testing import CliRunner

from commands import detect
from forgerank.cli.detect import Outputs
from forgerank.cli.main import app, one_line_errors
from forgerank.train.curve import COLUMNS
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
    (maps / "heatmaps.partial").mkdir(parents=True)  # of a run that was killed
    assert detect(photo, "--heatmaps", maps, *weights).exit_code == 0
    before = sorted(maps.iterdir())
    assert len(before) == 6
    assert "holds images already" in refusal("detect", photo, "--heatmaps", maps, *weights)
    assert sorted(maps.iterdir()) == before


def options_of_outputs(command: click.Command, *names: str) -> Iterator[tuple[str, ...]]:
    """Every command under this one, with every option or argument that says where something is written."""
    for name, inner in getattr(command, "commands", {}).items():
        yield from options_of_outputs(inner, *names, name)
    kinds = {"json", "html", "csv", "heatmaps", "plots", "draw", "out"}
    yield from ((*names, str(option.name)) for option in command.params if option.name in kinds)


def test_no_command_writes_over_its_inputs(photo: Path, weights: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.png").write_bytes(photo.read_bytes())
    for name in ("labels.csv", "curve.csv", "00000.tar", "forgerank.safetensors"):
        (folder / name).write_text("kept")
    description = folder / "forgerank.json"
    description.write_text("{}")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"sources: [{{name: a, root: {folder}}}]")
    tensors, link, hard = folder / "forgerank.safetensors", tmp_path / "link", tmp_path / "hard"
    calls: dict[tuple[str, ...], tuple[list[object], Path]] = {
        ("detect", "json"): ([photo, *weights, "--json"], photo),
        ("detect", "html"): ([photo, *weights, "--html"], photo),
        ("detect", "csv"): ([photo, *weights, "--csv"], photo),
        ("detect", "heatmaps"): ([photo, *weights, "--heatmaps"], folder),
        ("faces", "draw"): ([photo, "--draw"], photo),
        ("scan", "out"): ([photo, *weights, "--out"], photo),
        ("summarize", "html"): ([description, "--html"], description),
        ("forge", "out"): ([folder, "--out"], folder),
        ("evaluate", "json"): ([tensors, "--json"], tensors),
        ("evaluate", "csv"): ([tensors, "--data", folder, "--csv"], tensors),
        ("evaluate", "plots"): ([tensors, "--data", folder, "--plots"], folder),
        ("export", "out"): ([tensors], folder),
        ("card", "out"): ([tensors, "--out"], description),
        ("curve", "out"): ([folder, "--out"], folder / "curve.csv"),
        ("reproduce", "out"): (["table3", "--data", folder, "--out"], folder),
        ("data", "prepare", "out"): (["dfdc", folder, "--out"], folder),
        ("data", "check", "json"): (["folder", folder, "--json"], folder),
        ("data", "shard", "out"): ([folder, "--out"], folder),
        ("data", "pack", "out"): ([recipe, "--out"], folder),
        ("data", "autoencoder", "out"): ([folder, "--out"], folder),
        ("data", "reconstruct", "out"): ([folder, "--autoencoder", tmp_path / "ae", "--out"], folder),
    }
    assert set(calls) == set(options_of_outputs(get_command(app))) - {("data", "download", "out")}
    there = {("detect", "heatmaps"): "holds images already", ("scan", "out"): "is there already"}
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for names, (arguments, output) in calls.items():
        link.symlink_to(output)
        others = [link]
        if output.is_file():
            hard.hardlink_to(output)
            others.append(hard)
        for path in (output, *others):
            line = refusal(*names[:-1], *arguments, path)
            assert there.get(names, "is an input, too") in line, (names, line)
        for path in others:
            path.unlink()
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "forgerank", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, env={**os.environ, **environment}, check=False)


def test_a_console_without_the_letters_of_a_name(photo: Path, weights: list[str], tmp_path: Path) -> None:
    done = run("detect", photo, "--json", tmp_path / "r.json", *weights, PYTHONIOENCODING="cp1252")
    assert done.returncode == 0, done.stderr
    assert rb"\u0444\u043e\u0442\u043e" in done.stdout
    assert json.loads((tmp_path / "r.json").read_text())["reports"][0]["path"] == str(photo)
    done = run("detect", photo, "--csv", "-", *weights, PYTHONIOENCODING="cp437")
    assert rb"\u0444\u043e\u0442\u043e" in done.stdout
    done = run("detect", photo, "--json", "-", *weights, PYTHONIOENCODING="ascii")
    assert json.loads(done.stdout)["reports"][0]["path"] == str(photo)


def test_one_output_that_cannot_be_written_costs_no_other(
    photo: Path, weights: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Path.write_bytes

    def full(path: Path, content: bytes) -> int:
        if ".html" in path.name or ("maps" in path.parts and "nose" not in path.name):
            write(path, content[:100])
            raise OSError(28, "No space left on device")
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    page, maps = tmp_path / "r.html", tmp_path / "maps"
    result = detect(photo, "--html", page, "--json", tmp_path / "r.json", "--heatmaps", maps, *weights)
    assert result.exit_code == 2
    assert "real" in result.stdout
    reason = "cannot be written (no space left on device)"
    assert result.stderr.splitlines() == [f"forgerank: {maps}, {page}: {reason}"]
    assert json.loads((tmp_path / "r.json").read_text())["reports"]
    assert not list(maps.iterdir())  # not even those of the nose, for which there was room
    assert not page.exists()


def test_the_heatmaps_of_detect_may_share_a_folder_with_its_reports(tmp_path: Path) -> None:
    Outputs(json=str(tmp_path / "r.json"), html=tmp_path / "r.html", heatmaps=tmp_path).prepare()


def test_a_report_replaces_no_file_of_another_kind(photo: Path, weights: list[str], tmp_path: Path) -> None:
    other = tmp_path / "other.jpg"  # `--html *.jpg` names the first of them as the output
    other.write_bytes(b"\xff\xd8\xff\xe0evidence")
    before = other.read_bytes()
    for option in ("--json", "--html", "--csv"):
        assert "holds no text" in refusal("detect", option, other, photo, *weights)
    assert "is there already" in refusal("faces", "--draw", other, photo)
    assert other.read_bytes() == before
    old = tmp_path / "r.json"
    old.write_text("{}")
    assert detect(photo, "--json", old, *weights).exit_code == 0
    assert json.loads(old.read_text())["reports"]


def test_names_that_are_one_file_on_other_systems(photo: Path, weights: list[str], tmp_path: Path) -> None:
    for one, two in (("r.txt", "R.TXT"), ("\u00e9.txt", "e\u0301.txt")):
        outputs = ["--json", tmp_path / one, "--html", tmp_path / two]
        assert "is another output, too" in refusal("detect", photo, *outputs, *weights)


@pytest.mark.parametrize(
    "command",
    [
        ("faces", "{}"),
        ("forge", "{}", "--out", "o"),
        ("train", "{}"),
        ("evaluate", "{}"),
        ("export", "{}", "o"),
        ("card", "{}"),
        ("curve", "{}"),
        ("summarize", "{}"),
        ("serve", "--weights", "{}"),
        ("scan", "a.png", "--out", "{}"),
        ("detect", "a.png", "--weights", "{}"),
        ("detect", "a.png", "--json", "{}"),
        ("detect", "a.png", "--heatmaps", "{}"),
        ("data", "check", "folder", "{}"),
        ("data", "shard", "{}", "--out", "o"),
        ("reproduce", "table3", "--data", "{}"),
    ],
)
def test_an_address_is_no_place_of_this_machine(
    command: tuple[str, ...], photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    photo.rename("a.png")
    line = refusal(*(part.format("https://example.com/x") for part in command))
    assert line.startswith("https://example.com/x")
    assert ": addresses are " in line
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_an_output_that_takes_no_more_costs_no_report(
    photo: Path, weights: list[str], tmp_path: Path
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"junk")
    report = tmp_path / "r.json"
    arguments = [sys.executable, "-m", "forgerank", "detect", photo, broken, "--json", report, *weights]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(arguments, stdout=full, stderr=subprocess.PIPE, check=False)
    first, second = done.stderr.decode().splitlines()
    assert done.returncode == 2
    assert first.startswith(f"forgerank: {broken}: not an image")
    assert second == "forgerank: standard output: cannot be written (no space left on device)"
    assert json.loads(report.read_text())["errors"]
    report.unlink()
    line = " ".join(f"'{part}'" for part in arguments)
    done = subprocess.run(f"{line} >&- <&-", shell=True, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 2
    assert done.stderr.decode().splitlines() == [first]
    assert json.loads(report.read_text())["errors"]


@pytest.mark.parametrize("command", [("--version",), ("curve", "curve.csv", "--out", "curve.png")])
def test_every_command_names_standard_output_where_it_is_full(
    command: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "curve.csv").write_text(f"{','.join(COLUMNS)}\n80,1,a,.5,.5,.5,.5,.5,.5\n")
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "forgerank", *command],
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
            cwd=tmp_path,
        )
    assert done.returncode == 2
    assert done.stderr.decode() == "forgerank: standard output: no space left on device\n"
    assert (tmp_path / "curve.png").exists() == ("curve" in command)


@pytest.mark.parametrize("command", [("--version",), ("curve", "curve.csv")])
def test_a_reader_who_has_had_enough_costs_nothing(command: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "curve.csv").write_text(f"{','.join(COLUMNS)}\n80,1,a,.5,.5,.5,.5,.5,.5\n")
    reader, writer = os.pipe()
    os.close(reader)
    arguments = [sys.executable, "-m", "forgerank", *command]
    done = subprocess.run(arguments, stdout=writer, stderr=subprocess.PIPE, check=False, cwd=tmp_path)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_library_may_name_a_file_in_bytes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit), one_line_errors():
        raise FileNotFoundError(2, "No such file", b"run/events")
    assert capsys.readouterr().err == "forgerank: run/events: no such file or folder\n"


def test_nothing_comes_from_standard_input(weights: list[str]) -> None:
    result = CliRunner().invoke(app, ["detect", "-", *weights], input=b"")
    assert result.exit_code == 2
    assert result.stderr == "forgerank: <stdin>: empty file\n"


def test_files_are_judged_where_nothing_temporary_can_be_written(
    photo: Path, weights: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", list)
    assert detect(photo, "--json", tmp_path / "r.json", *weights).exit_code == 0
    result = detect("-", *weights)
    assert "temporary" in str(result.exception)
