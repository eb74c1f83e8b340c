"""What goes wrong with a run ends in one line, with everything kept that was learnt."""

import argparse
import csv
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image
from typer.testing import CliRunner

from forgerank.cli.main import app
from forgerank.evaluation.evaluate import evaluate
from forgerank.train import fit
from forgerank.train.checkpoints import Checkpoints, MetricsLog, load_network, logged_steps
from forgerank.train.config import TrainConfig
from forgerank.train.fit import _differences
from forgerank.types import InputError
from forgerank.weights.hub import read_checkpoint
from squares import tiny_settings, write_squares

# Lightning asks torch for a class that torch is about to retire.
pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")

SHORT: dict[str, Any] = {"epochs": 2, "checkpoint_steps": 2, "data": {"train_images": 32, "val_images": 8}}


@pytest.fixture(scope="module")
def finished(squares: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The config file of a short run that is over; its folder is `run` beside it."""
    folder = tmp_path_factory.mktemp("finished")
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(tiny_settings(squares, folder / "run", **SHORT)))
    result = train(path)
    assert result.exit_code == 0, result.exception
    return path


@pytest.fixture
def fresh(finished: Path, tmp_path: Path) -> Path:
    """The config file of a run of the same settings that has not begun."""
    path = tmp_path / "config.yaml"
    path.write_text(finished.read_text().replace(str(finished.parent), str(tmp_path)))
    return path


@pytest.fixture
def stopped(fresh: Path, finished: Path) -> Path:
    """A copy of the finished run that may be changed."""
    shutil.copytree(finished.parent / "run", fresh.parent / "run")
    return fresh


def train(path: Path, *options: str) -> Any:
    return CliRunner().invoke(app, ["train", str(path), *options])


def refusal(path: Path, *options: str) -> str:
    result = train(path, *options)
    assert isinstance(result.exception, InputError), result.exception
    line = str(result.exception)
    assert line.isprintable()
    return line


def unusable(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        load_network(path)
    return str(caught.value)


def test_other_settings_are_named_on_resume(stopped: Path) -> None:
    run = stopped.parent / "run"
    line = refusal(stopped, "--set", "model.width=64", "--resume")
    assert line.startswith(f"{run} was trained with model.width 32, not 64: ")
    assert "seed 0, not 1" in refusal(stopped, "--set", "seed=1", "--resume")
    # The optimiser's state holds it: another value would be said to count and would not.
    assert "optim.weight_decay 0.0001, not 0.5" in refusal(
        stopped, "--set", "optim.weight_decay=0.5", "--resume"
    )
    result = train(stopped, "--set", "epochs=3", "--resume")
    assert result.exit_code == 0, result.exception
    assert "goes on with epochs 3; until now it was 2" in result.stderr


def test_a_run_without_its_checkpoint_is_not_begun_again(stopped: Path) -> None:
    """It would cost its weights."""
    run = stopped.parent / "run"
    weights, last = (run / "weights.safetensors").read_bytes(), run / "last.ckpt"
    last.rename(run / "kept")
    for options in ([], ["--resume"]):
        assert refusal(stopped, *options).startswith(f"{run}: holds the weights of a run, but no last.ckpt")
    last.symlink_to("elsewhere")  # a disk that is not there, say
    assert refusal(stopped, "--resume") == f"{last}: a link to a file that is not there"
    assert (run / "weights.safetensors").read_bytes() == weights
    last.unlink()
    last.symlink_to("kept")
    assert train(stopped, "--resume").exit_code == 0


def test_sources_that_come_and_go_are_named_on_resume() -> None:
    kept = {"name": "b", "share": 1.0, "level": None}
    old = {"data": {"sources": [{"name": "a", "share": 1.0}, kept]}}
    new = {"data": {"sources": [{**kept, "level": 1.0}, {"name": "c", "share": 1.0}]}}
    assert sorted((key, before is None, after is None) for key, before, after in _differences(old, new)) == [
        ("data.sources.a", False, True),
        ("data.sources.b.level", True, False),
        ("data.sources.c", True, False),
    ]


def test_another_metric_chooses_anew(tmp_path: Path) -> None:
    before = Checkpoints(tmp_path, every=1, monitor="val/auc", others=["val/fixed"])
    before.best |= {"best.ckpt": 0.9, "best-fixed.ckpt": 0.8}
    after = Checkpoints(tmp_path, every=1, monitor="val/map", others=["val/fixed"])
    after.load_state_dict(before.state_dict())
    assert after.best == {"best.ckpt": float("-inf"), "best-fixed.ckpt": 0.8}
    after.load_state_dict({"best.ckpt": 0.7})  # as checkpoints of earlier versions have it
    assert after.best["best.ckpt"] == 0.7


def test_a_metric_that_is_not_there_is_said(fresh: Path) -> None:
    result = train(fresh, "--set", "epochs=1", "--set", "monitor=val/nonsense")
    assert result.exit_code == 0, result.exception
    [line] = [line for line in result.stderr.splitlines() if "nonsense" in line]
    assert line.startswith("forgerank: best.ckpt: no val/nonsense to choose it by; there are val/")


@pytest.mark.parametrize("damage", ["empty", "truncated", "flipped", "foreign"])
def test_a_bad_checkpoint_is_one_line(stopped: Path, damage: str) -> None:
    path = stopped.parent / "run" / "last.ckpt"
    content = bytearray(path.read_bytes())
    if damage == "foreign":
        torch.save({"cfg": argparse.Namespace()}, path)
    else:
        content[len(content) // 2] ^= 1
        path.write_bytes({"empty": b"", "truncated": content[:-5000], "flipped": content}[damage])
    reason = {"flipped": "its SHA-256 differs", "foreign": "no checkpoint of forgerank (it holds more"}
    for line in (refusal(stopped, "--resume"), unusable(path)):
        assert line.startswith(f"{path}: ")
        assert reason.get(damage, "truncated, damaged or no checkpoint") in line


def test_weights_of_other_projects_are_one_line(finished: Path, tmp_path: Path) -> None:
    run = finished.parent / "run"
    for name in ("theirs.pth", "LAST.CKPT", "weights"):  # the content does not matter: nobody says what it is
        shutil.copy(run / "last.ckpt", tmp_path / name)
        assert unusable(tmp_path / name).endswith(
            "neither a checkpoint (.ckpt) nor a .safetensors nor a folder"
        )
    shutil.copytree(run, tmp_path / "run.ckpt")  # a folder, whatever its name
    assert isinstance(load_network(tmp_path / "run.ckpt")[0], torch.nn.Module)
    os.mkfifo(tmp_path / "pipe.ckpt")
    assert unusable(tmp_path / "pipe.ckpt").endswith("cannot be read (not a regular file)")
    shutil.copy(run / "weights.safetensors", tmp_path)
    os.mkfifo(tmp_path / "weights.json")
    assert "weights.json, is not beside it" in unusable(tmp_path / "weights.safetensors")
    (tmp_path / "weights.json").unlink()
    description = {"files": {}, "settings": {"decoder": "nearest"}}
    content = (run / "weights.safetensors").read_bytes()
    entry = {"file": "weights.safetensors", "sha256": hashlib.sha256(content).hexdigest()}
    (tmp_path / "weights.json").write_text(json.dumps(description | {"files": {"safetensors": entry}}))
    line = unusable(tmp_path / "weights.safetensors")
    assert "weights.safetensors: holds no network of forgerank (its settings: output: Field required)" in line
    torch.save({"settings": {"lr": 1}, "state_dict": {}}, tmp_path / "settings.ckpt")
    assert "settings.ckpt: holds no network of forgerank (its settings: " in unusable(
        tmp_path / "settings.ckpt"
    )


def test_a_checkpoint_that_cannot_be_opened_costs_no_other(stopped: Path, capsys: Any) -> None:
    run = stopped.parent / "run"
    (run / "last.ckpt").write_bytes(b"half")
    result = evaluate(run, limit=4, resamples=2, workers=0, progress=False)
    assert result["unread"] == [f"{run / 'last.ckpt'}: truncated, damaged or no checkpoint"]
    shutil.copy(run / "best.ckpt", run / "best-fixed.ckpt")
    result = evaluate(run, limit=4, resamples=2, workers=0, progress=False)
    read = [str(run / name) for name in ("best.ckpt", "best-fixed.ckpt")]
    assert result["best_of"]["checkpoints"] == read
    (run / "best.ckpt").write_bytes(b"half")  # whose metrics were asked for
    with pytest.raises(InputError, match=r"best\.ckpt: truncated"):
        evaluate(run, limit=4, resamples=2, workers=0, progress=False)


def test_a_checkpoint_without_hash_opens_with_a_warning(
    stopped: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = stopped.parent / "run" / "best.ckpt"
    checkpoint = read_checkpoint(path)
    assert capsys.readouterr().err == ""
    torch.save(checkpoint, path)
    network, _ = load_network(path)
    assert "carries no hash" in capsys.readouterr().err
    assert isinstance(network, torch.nn.Module)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert "damaged" in unusable(path)


def test_training_needs_both_classes(tmp_path: Path) -> None:
    root = write_squares(tmp_path / "squares", {"train": 8, "val": 8})
    for split in ("train", "val"):
        table = root / "annotations" / f"{split}.csv"
        head, *rows = csv.reader(table.read_text().splitlines())
        with table.open("w", newline="") as stream:
            csv.writer(stream).writerows([head, *(row for row in rows if json.loads(row[1])[0])])
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(tiny_settings(root, tmp_path / "run", batch_size=2)))
    assert refusal(path).startswith("the training split holds no real image")
    both = write_squares(tmp_path / "both", {"train": 8})
    result = train(path, "--set", f"data.roots=[{both}]", "--set", f"data.val_roots=[{root}]")
    assert result.exit_code == 0, result.exception
    assert "the validation split holds no real image: AUC, map and accuracy mean nothing" in result.stderr


def test_a_source_with_one_class_in_validation_is_named(tmp_path: Path) -> None:
    [one, both] = [write_squares(tmp_path / name, {"train": 8, "val": 4}) for name in ("one", "both")]
    table = one / "annotations" / "val.csv"
    rows = [row for row in table.read_text().splitlines() if "[0, 0" not in row]
    table.write_text("\n".join(rows) + "\n")
    settings = tiny_settings(both, tmp_path / "run", batch_size=2, images_per_epoch=2)
    del settings["data"]["roots"]
    settings["data"]["sources"] = [
        {"name": root.name, "dataset": "seqdeepfake", "roots": [str(root)]} for root in (one, both)
    ]
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(settings))
    result = train(path)
    assert result.exit_code == 0, result.exception
    said = [line for line in result.stderr.splitlines() if "mean nothing" in line]
    assert [line.partition(":")[2].partition(":")[0] for line in said] == [
        " the validation split of one holds no real image"
    ]


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_image_is_passed_over_and_named(tmp_path: Path, workers: int) -> None:
    root = write_squares(tmp_path / "squares", {"train": 16, "val": 8})
    bad = [root / "images/train/003.png", root / "images/val/001.png"]
    for path in bad:
        path.write_bytes(b"")
    mask = root / "masks/train/005.png"
    Image.new("L", (3, 5)).save(mask)
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(tiny_settings(root, tmp_path / "run", data={"workers": workers})))
    result = train(path)
    assert result.exit_code == 2, result.exception
    named = [line for line in result.stderr.splitlines() if "png" in line]
    small = f"forgerank: {mask}: a mask of 3 x 5 pixels for an image of 64 x 64"
    assert named == [f"forgerank: {bad[0]}: empty file", small, f"forgerank: {bad[1]}: empty file"]
    weights = tmp_path / "run" / "weights.safetensors"
    assert result.stdout.splitlines()[-1] == str(weights)
    options = ["--data", str(root), "--workers", "0", "--json", str(tmp_path / "m.json")]
    measured = CliRunner().invoke(app, ["evaluate", str(weights), *options])
    assert measured.exit_code == 2, measured.exception
    metrics = json.loads((tmp_path / "m.json").read_text())
    assert metrics["unread"] == [f"{bad[1]}: empty file"]
    assert metrics["pictures"] == 7


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("model.backbone=no_such_network", "no_such_network: timm knows no such backbone"),
        ("data.options={nonsense: 1}", "the data set seqdeepfake takes no option nonsense"),
        ("accelerator=gpu", "the settings cannot be trained with"),
        ("optim.lr=1.0e+30", "the loss is not finite"),
    ],
)
def test_settings_that_cannot_be_used(fresh: Path, setting: str, named: str) -> None:
    if setting == "accelerator=gpu" and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert refusal(fresh, "--set", setting, "--set", "epochs=50").startswith(named)


def test_a_full_disk_keeps_the_checkpoint_before(
    tiny_config: Callable[..., TrainConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config(**SHORT)
    write, saves = Path.write_bytes, list[Path]()

    def full(path: Path, content: bytes) -> int:
        if ".ckpt" in path.name:
            saves.append(path)
            if len(saves) == 2:
                write(path, content[:1000])
                raise OSError(28, "No space left on device")
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(InputError, match=r"\.ckpt: cannot be written \(no space left on device\)"):
        fit.run(config, progress=False)
    assert read_checkpoint(config.output / "last.ckpt")["global_step"] == 2
    assert not list(config.output.glob("*.partial"))


RUN = """
import os, signal, sys, warnings
warnings.simplefilter("ignore")
from forgerank.train.checkpoints import Checkpoints
from forgerank.train.module import ForgeryModule

number, where = int(sys.argv.pop(1)), sys.argv.pop(1)
start, save = ForgeryModule.on_train_batch_start, Checkpoints.save

def started(self, batch, batch_idx):
    if where == "step" and self.global_step == 2:
        os.kill(os.getpid(), number)
    start(self, batch, batch_idx)

def saved(self, trainer, name):
    save(self, trainer, name)
    if where == "save" and trainer.global_step == 2:
        os.kill(os.getpid(), number)

ForgeryModule.on_train_batch_start, Checkpoints.save = started, saved
from forgerank.cli.main import main
main()
"""


def ended(path: Path, number: int, where: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", RUN, str(number), where, "train", str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_sigterm_ends_with_a_checkpoint(fresh: Path) -> None:
    done = ended(fresh, signal.SIGTERM, "step")
    assert done.returncode == -signal.SIGTERM, done.stderr
    run = fresh.parent / "run"
    line = f"forgerank: stopped by SIGTERM after step 3; go on from {run / 'last.ckpt'} with --resume"
    assert done.stderr.splitlines()[-1] == line
    assert "Traceback" not in done.stderr
    assert not (run / "weights.safetensors").exists()
    result = train(fresh, "--resume")
    assert result.exit_code == 0, result.exception
    assert logged_steps(run) == set(range(8))


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe\xd8", b"a,b\n1,2\n", b"step,train/total\none,2\n", b"train/total\n1\n"]
)
def test_damaged_metrics_of_a_session_cost_nothing(
    content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, text in enumerate((b"step,train/total\n3,0.5\n4,\n", content)):
        (tmp_path / f"csv/version_{number}").mkdir(parents=True)
        (tmp_path / f"csv/version_{number}/metrics.csv").write_bytes(text)
    assert logged_steps(tmp_path) == {3}
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == (content not in (b"", b"a,b\n1,2\n"))
    assert all("version_1/metrics.csv: " in line for line in lines)


def test_metrics_are_not_written_through_a_link(tmp_path: Path) -> None:
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(b"evidence")
    log = MetricsLog(tmp_path, every=100)
    path = tmp_path / "csv/version_0/metrics.csv"
    for step in range(3):
        log.log_metrics({"train/total": 0.5, f"val/{step}": 1.0}, step)
        log.save()
        if step == 0:
            path.unlink()
            path.symlink_to(photo)
    assert photo.read_bytes() == b"evidence"
    assert not path.is_symlink()
    assert logged_steps(tmp_path) == {1, 2}


def test_a_session_that_logged_nothing_leaves_no_folder(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path, every=100)
    assert log.experiment is not None
    assert (tmp_path / "csv/version_0").is_dir()
    log.finalize("failed")
    assert list(tmp_path.iterdir()) == []
    log = MetricsLog(tmp_path, every=100)
    log.log_metrics({"train/total": 0.5}, 0)
    log.finalize("success")
    assert logged_steps(tmp_path) == {0}


def test_the_row_that_a_kill_lost_is_written_again(fresh: Path, finished: Path) -> None:
    assert ended(fresh, signal.SIGKILL, "save").returncode == -signal.SIGKILL
    run = fresh.parent / "run"
    assert 1 not in logged_steps(run)
    result = train(fresh, "--resume")
    assert result.exit_code == 0, result.exception
    assert losses(run) == losses(finished.parent / "run")
    assert set(losses(run)) == set(range(8))


def losses(run: Path) -> dict[int, str]:
    found = {}
    for path in sorted(run.glob("csv/version_*/metrics.csv")):
        with path.open(newline="") as stream:
            rows = [row for row in csv.DictReader(stream) if row.get("train/total")]
        found |= {int(row["step"]): row["train/total"] for row in rows}
    return found
