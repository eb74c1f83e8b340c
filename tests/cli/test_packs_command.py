"""`forgerank data pack | check pack | autoencoder | reconstruct` and `forgerank curve`."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner, Result

from forgerank.cli.main import app
from forgerank.data.formats.pack import Pack, Reconstructions
from forgerank.train.curve import COLUMNS
from forgerank.types import InputError
from forgerank.weights.description import ASSETS
from packs import recipe_of


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)), env={"COLUMNS": "120"})


@pytest.mark.parametrize(
    "command", [("data", "pack"), ("data", "autoencoder"), ("data", "reconstruct"), ("curve",)]
)
def test_every_command_documents_itself_and_its_exit_codes(command: tuple[str, ...]) -> None:
    result = call(*command, "--help")
    assert result.exit_code == 0
    assert f"forgerank {' '.join(command)}" in result.stdout
    assert "Exit codes" in result.stdout


def test_a_pack_is_finished_described_and_checked(
    pack_root: Path, pack_sources: Path, tmp_path: Path
) -> None:
    out, recipe = tmp_path / "pack", tmp_path / "recipe.yaml"
    shutil.copytree(pack_root, out)
    (out / "manifest.json").unlink()
    result = call("data", "check", "pack", out)
    assert isinstance(result.exception, InputError)
    recipe.write_text(yaml.safe_dump(recipe_of(pack_sources).model_dump(mode="json")))
    result = call("data", "pack", recipe, "--out", out)
    assert result.exit_code == 2, result.exception  # one image could not be read
    assert re.fullmatch(r"forgerank: .*/beta/\S+: .+\n", result.stderr)
    assert f"{out}: 14 faces in 3 parts" in result.stdout
    assert "left out: 1 beta: unreadable, 1 beta: no face" in result.stdout or (
        "left out: 1 beta: no face, 1 beta: unreadable" in result.stdout
    )
    assert "near-duplicates: " in result.stdout
    assert (out / "manifest.json").read_bytes() == (pack_root / "manifest.json").read_bytes()
    result = call("data", "check", "pack", out)
    assert result.exit_code == 0, result.exception
    assert "every part is there, every near-duplicate left out" in result.stdout
    (out / "00001.tar").unlink()
    result = call("data", "check", "pack", out)
    assert result.exit_code == 2
    assert "00001.tar: missing" in result.stdout


def test_bad_recipes_are_one_line(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("sources: []\n")
    result = call("data", "pack", recipe, "--out", tmp_path / "out")
    assert isinstance(result.exception, InputError)
    assert str(result.exception).startswith(f"{recipe}: sources: ")
    assert not (tmp_path / "out").exists()


def test_an_autoencoder_is_trained_on_a_pack_and_reconstructs_it(pack_root: Path, tmp_path: Path) -> None:
    weights, out = tmp_path / "ae", tmp_path / "reconstructions"
    command = ("data", "autoencoder", pack_root, "--out", weights, "--size", 16)
    result = call(*command, "--minutes", 0.1, "--faces", 3)
    assert result.exit_code == 0, result.exception
    assert f"{weights}/autoencoder.safetensors: " in result.stdout.replace("\n", "")
    result = call("data", "reconstruct", pack_root, "--autoencoder", weights, "--out", out, "--limit", 2)
    assert result.exit_code == 0, result.exception
    assert result.stdout.splitlines() == [f"{out}: 2 train", f"{out}: 2 val"]
    keys = {
        pack.entry(i).key
        for pack in (Pack(pack_root, split, label="real") for split in ("train", "val"))
        for i in range(len(pack))
    }
    store = Reconstructions(out)
    assert len(store) == 4
    changed = bytearray((out / "train.tar").read_bytes())
    changed[600] ^= 1  # of the first image
    (out / "train.tar").write_bytes(changed)
    damaged, lost = Reconstructions(out), 0
    landmarks = np.random.default_rng(0).uniform(0, 16, (468, 2)).astype(np.float32)
    for key in damaged.keys:
        try:
            damaged.load(key, landmarks)
        except InputError as error:
            lost += str(error).endswith(".jpg: changed since it was written")
    assert lost == 1
    assert sum(key in store for key in keys) == 4
    for option in (("--size", 20), ("--decoder", "other")):
        result = call(*command, *option)
        assert isinstance(result.exception, InputError)
        assert str(result.exception).startswith(f"{option[0]}: ")


def test_a_curve_is_shown_and_drawn(tmp_path: Path) -> None:
    rows = [",".join(COLUMNS)]
    for images in (80, 160):
        rows += [f"{images},1.0,{name},0.{images},0.5,,,," for name in ("alpha", "all")]
    (tmp_path / "curve.csv").write_text("\n".join(rows) + "\n")
    result = call("curve", tmp_path, "--out", tmp_path / "curve.png")
    assert result.exit_code == 0, result.exception
    lines = [line.split() for line in result.stdout.splitlines()]
    assert lines[0] == ["crops", "alpha", "all"]
    assert ["160", "0.160", "0.160"] in lines
    assert (tmp_path / "curve.png").stat().st_size > 1000
    assert call("curve", tmp_path / "curve.csv", "--metric", "map").exit_code == 0
    for arguments in (("--metric", "loss"), ("--metric", "order", "--out", tmp_path / "other.png")):
        assert isinstance(call("curve", tmp_path, *arguments).exception, InputError)
    assert isinstance(call("curve", tmp_path / "none.csv").exception, InputError)


def test_evaluate_by_source_needs_sources(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(json.dumps({"output": "runs/x", "data": {"roots": [str(tmp_path)]}}))
    result = call("evaluate", ASSETS, "--sources", config)
    assert isinstance(result.exception, InputError)
    assert "name no data.sources" in str(result.exception)


def test_evaluate_by_source_refuses_what_would_say_nothing(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(json.dumps({"output": "runs/x", "data": {"roots": [str(tmp_path)]}}))
    options = ("--sources", config, "--data", tmp_path, "--no-reverse", "--tune", "train")
    result = call("evaluate", tmp_path / "none.ckpt", tmp_path / "other.ckpt", *options)
    assert isinstance(result.exception, InputError)
    assert str(result.exception).endswith(": leave out --data, --reverse, --tune, further weights")
