from pathlib import Path

import pytest
from typer.testing import CliRunner

from forgerank.cli.main import app
from forgerank.data.formats.shards import Shards
from forgerank.types import InputError
from squares import write_squares


def test_every_split_becomes_shards(tmp_path: Path) -> None:
    root = write_squares(tmp_path / "squares", {"train": 5, "val": 3})
    out = tmp_path / "shards"
    command = ["data", "shard", str(root), "--out", str(out), "--shard-size", "2"]
    done = CliRunner().invoke(app, [*command, "--split", "train", "--split", "val"])
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines() == [f"{out}: 5 train", f"{out}: 3 val"]
    assert [len(Shards(out, split)) for split in ("train", "val")] == [5, 3]
    assert len(list(out.glob("*.tar"))) == 3 + 2


def test_shards_are_checked(tmp_path: Path) -> None:
    root, out = write_squares(tmp_path / "squares", {"train": 5}), tmp_path / "shards"
    command = ["data", "shard", str(root), "--out", str(out), "--split", "train"]
    assert CliRunner().invoke(app, command).exit_code == 0
    check = ["data", "check", "shards", str(out)]
    done = CliRunner().invoke(app, check)
    assert done.exit_code == 0, done.output
    assert "every shard is there, every face as it was written" in done.stdout
    shard = out / "train-00000.tar"
    shard.write_bytes(shard.read_bytes()[:700] + b"x" + shard.read_bytes()[701:])
    done = CliRunner().invoke(app, check)
    assert done.exit_code == 2
    assert ".png: changed since it was written" in done.stdout
    done = CliRunner().invoke(app, [*check, "--json", str(tmp_path / "report.json")])
    assert isinstance(done.exception, InputError)


def test_a_broken_image_is_named_and_exit_code_2(tmp_path: Path) -> None:
    root = write_squares(tmp_path / "squares", {"train": 4})
    (root / "images/train/001.png").write_bytes(b"no image")
    command = ["data", "shard", str(root), "--out", str(tmp_path / "out"), "--split", "train"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 2
    assert done.stdout.splitlines() == [f"{tmp_path / 'out'}: 3 train, 1 skipped"]
    assert "001.png" in done.stderr


def test_a_missing_split_leaves_nothing_behind(tmp_path: Path) -> None:
    root = write_squares(tmp_path / "squares", {"train": 4})
    done = CliRunner().invoke(app, ["data", "shard", str(root), "--out", str(tmp_path / "out")])
    assert isinstance(done.exception, InputError)
    assert "val.csv" in str(done.exception)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "reason"), [("films", "unknown data set 'films'"), ("shards", "only images on disk")]
)
def test_what_cannot_be_sharded(tmp_path: Path, name: str, reason: str) -> None:
    root = tmp_path
    (root / "train.jsonl").write_text('{"shards": {}}\n')
    command = [
        "data",
        "shard",
        str(root),
        "--out",
        str(tmp_path / "out"),
        "--dataset",
        name,
        "--split",
        "train",
    ]
    done = CliRunner().invoke(app, command)
    assert isinstance(done.exception, InputError)
    assert reason in str(done.exception)
