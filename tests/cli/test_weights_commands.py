"""`forgerank card` and `forgerank push`."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from forgerank.cli.main import app
from forgerank.types import InputError
from forgerank.weights import hub
from forgerank.weights.description import ASSETS

FIGURES = {"pictures": 7, "real": 3, "metrics": {"auc": {"value": 0.5, "low": 0.4, "high": 0.6}}}


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_a_card_is_printed_or_written(tmp_path: Path) -> None:
    printed = call("card", ASSETS)
    assert printed.exit_code == 0
    version = json.loads((ASSETS / "forgerank.json").read_text())["version"]
    assert f"# Model card: forgerank-default {version}" in printed.stdout
    assert call("card", ASSETS, "--out", tmp_path / "card.md").stdout == ""
    assert (tmp_path / "card.md").read_text(encoding="utf-8") == printed.stdout


def test_evaluations_are_columns_named_after_their_files_or_by_themselves(tmp_path: Path) -> None:
    (tmp_path / "plain.json").write_text(json.dumps(FIGURES))
    (tmp_path / "all.json").write_text(json.dumps({"light": FIGURES, "strong": FIGURES}))
    (tmp_path / "notes.md").write_text("Nothing else is known.")
    card = call(
        *("card", ASSETS, "--evaluation", tmp_path / "plain.json", "--evaluation", tmp_path / "all.json"),
        *("--notes", tmp_path / "notes.md"),
    ).stdout
    assert "|  | plain | light | strong |" in card
    assert card.endswith("Nothing else is known.\n")


@pytest.mark.parametrize("content", ["{", "[]", '{"a": 1}', '{"metrics": {}}'])
def test_what_is_no_evaluation_is_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "bad.json").write_text(content)
    error = call("card", ASSETS, "--evaluation", tmp_path / "bad.json").exception
    assert isinstance(error, InputError)
    assert str(error).startswith(f"{tmp_path / 'bad.json'}: ")


def test_weights_of_another_kind_have_no_card(tmp_path: Path) -> None:
    (tmp_path / "autoencoder.json").write_text(json.dumps({"files": {}, "settings": {"decoder": "nearest"}}))
    error = call("card", tmp_path / "autoencoder.safetensors").exception
    assert isinstance(error, InputError)
    assert str(error).endswith("autoencoder.json: describes no network of forgerank: it names no labels")


def test_weights_that_are_not_there_are_one_line(tmp_path: Path) -> None:
    error = call("card", tmp_path / "none").exception
    assert isinstance(error, InputError)
    assert "no folder of weights" in str(error)
    error = call("push", tmp_path, "someone/thing").exception
    assert isinstance(error, InputError)
    assert "holds no forgerank.json" in str(error)


@pytest.mark.parametrize(("options", "private"), [([], None), (["--private"], True)])
def test_push_hands_the_folder_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, options: list[str], private: bool | None
) -> None:
    seen: list[object] = []

    def push_folder(folder: Path, repo: str, *, private: bool | None) -> str:
        seen.extend([folder, repo, private])
        return "https://hub/commit"

    monkeypatch.setattr(hub, "push_folder", push_folder)
    assert call("push", tmp_path, "someone/thing", *options).stdout == "https://hub/commit\n"
    assert seen == [tmp_path, "someone/thing", private]
