"""`forgerank reproduce` from its arguments to the files that it leaves."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

pytest.importorskip("torch")

from forgerank.cli.main import app
from forgerank.reproduce import figures, tables
from forgerank.reproduce.runs import Request
from squares import write_squares

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
# The size for two cores, once more made smaller.
TINY = {
    "model.backbone": "test_resnet.r160_in1k",
    "model.pretrained": "false",
    "model.fold_norm": "false",
    "model.input_size": "64",
    "model.width": "32",
    "model.layers": "1",
    "model.heads": "2",
    "batch_size": "8",
    "data.workers": "0",
    "precision": "32-true",
    "accelerator": "cpu",
    "threads": "1",
    "log_steps": "1",
}


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def tiny() -> list[str]:
    return [part for key, value in TINY.items() for part in ("--set", f"{key}={value}")]


def test_baselines_of_every_kind_come_out_in_one_table(tmp_path: Path) -> None:
    data = write_squares(tmp_path / "forged", {"train": 24, "val": 16})
    chosen = [part for row in ("ours", "multicls", "decoder", "queries") for part in ("--rows", row)]
    arguments = (
        "--data",
        data,
        "--out",
        tmp_path / "out",
        "--pictures",
        16,
        "--seeds",
        1,
        "--configs",
        CONFIGS,
    )
    result = call("reproduce", "baselines", *arguments, *chosen, *tiny())
    assert result.exit_code == 0, result.exception
    table = tmp_path / "out" / "baselines" / "table.md"
    assert str(table) in result.stdout
    lines = [line for line in table.read_text().splitlines() if line.startswith("|")]
    titles = [line.split("|")[1].strip() for line in lines]
    ours = titles.index("ours, the paper's losses")
    assert titles[ours + 2 :] == ["Multi-Cls", "transformer decoder", "queries"]
    for line in (lines[ours], *lines[ours + 2 :]):
        published, here = (cell.strip() for cell in line.split("|")[2:4])
        assert 60 < float(published) < 80
        assert 0 <= float(here) <= 100
    assert lines[ours + 1].rstrip("| ").endswith("0")
    assert "--pictures 16" in table.read_text()


def test_options_reach_the_request(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[Any] = []

    def make_table(request: Request) -> Path:
        seen.append(request)
        (tmp_path / "table.md").write_text("measured")
        return tmp_path / "table.md"

    monkeypatch.setattr(tables, "make_table", make_table)
    result = call(
        *(
            "reproduce",
            "table3",
            "--data",
            "a",
            "--data",
            "b",
            "--out",
            tmp_path,
            "--budget",
            90,
            "--seeds",
            2,
        ),
        *("--rows", "model-1", "--set", "loss.tau=0.2", "--split", "val"),
    )
    assert result.exit_code == 0, result.exception
    assert result.stdout == f"measured\n{tmp_path / 'table.md'}\n"
    assert seen[0] == Request(
        table=Path("configs/table3.yaml"),
        data=(Path("a"), Path("b")),
        out=tmp_path / "table3",
        seeds=2,
        rows=("model-1",),
        budget=90,
        split="val",
        overrides=("loss.tau=0.2",),
    )


def test_a_figure_finds_its_tables_beside_the_others(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("pytorch_grad_cam")
    seen: list[Any] = []

    def make_figure(name: str, request: Request) -> Path:
        seen.append((name, request.table.parent, request.out, request.seeds))
        return request.out / name / f"{name}.png"

    monkeypatch.setattr(figures, "make_figure", make_figure)
    result = call("reproduce", "figure5", "--data", "d", "--out", tmp_path)
    assert result.exit_code == 0, result.exception
    assert seen == [("figure5", Path("configs"), tmp_path, 1)]
    assert result.stdout == f"{tmp_path / 'figure5' / 'figure5.png'}\n"


def test_the_command_documents_itself() -> None:
    result = call("reproduce", "--help")
    assert result.exit_code == 0
    assert "forgerank reproduce" in result.stdout
    assert "Exit codes" in result.stdout


def test_an_unknown_table_is_one_line(tmp_path: Path) -> None:
    result = call("reproduce", "table9", "--data", tmp_path, "--configs", CONFIGS)
    assert "table9.yaml: cannot be read" in str(result.exception)
