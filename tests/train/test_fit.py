import csv
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import lightning
import pytest
import torch
import yaml
from safetensors.torch import load_file

from forgerank.model.network import Network
from forgerank.train import fit
from forgerank.train.checkpoints import load_network
from forgerank.train.config import TrainConfig, load_config, parse_config
from forgerank.train.curve import ALL, CURVE, read_curve
from forgerank.types import InputError
from packs import mixture_of
from squares import tiny_settings

# Lightning asks torch for a class that torch is about to retire.
pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")

SHORT = {"epochs": 3, "checkpoint_steps": 2, "data": {"train_images": 44, "val_images": 12}}

KILLED_RUN = """
import os, signal, sys, warnings
warnings.simplefilter("ignore")
from pathlib import Path
from forgerank.train import fit
from forgerank.train.config import load_config
from forgerank.train.module import ForgeryModule

original = ForgeryModule.on_train_batch_start

def killed(self, batch, batch_idx):
    if self.global_step == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    original(self, batch, batch_idx)

ForgeryModule.on_train_batch_start = killed
fit.run(load_config(Path(sys.argv[1])), progress=False)
"""


def read_losses(output: Path) -> dict[int, dict[str, float]]:
    """The training terms of each step, over all sessions of a run."""
    losses: dict[int, dict[str, float]] = {}
    for path in sorted(output.glob("csv/version_*/metrics.csv")):
        with path.open(newline="") as stream:
            for row in csv.DictReader(stream):
                if row.get("train/total"):
                    step = int(row["step"])
                    losses[step] = {name: float(row[name]) for name in row if name.startswith("train/")}
    return losses


@pytest.fixture(scope="module")
def uninterrupted(squares: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The config file and the output folder of a run that nobody disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    settings = tiny_settings(squares, folder / "run", **SHORT)
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(settings))
    fit.run(load_config(path), progress=False)
    return path, folder / "run"


@pytest.mark.parametrize(("death", "saved"), [(9, 8), (5, 5)], ids=["mid-epoch", "epoch-end"])
def test_resume_after_kill_repeats_the_losses(
    uninterrupted: tuple[Path, Path], tmp_path: Path, death: int, saved: int
) -> None:
    path, whole = uninterrupted
    settings = yaml.safe_load(path.read_text())
    settings["output"] = str(tmp_path / "run")
    killed = tmp_path / "config.yaml"
    killed.write_text(yaml.safe_dump(settings))
    command = [sys.executable, "-c", KILLED_RUN, str(killed), str(death)]
    child = subprocess.run(command, capture_output=True, check=False)
    assert child.returncode == -signal.SIGKILL, child.stderr.decode()
    checkpoint = torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == saved

    fit.run(load_config(killed), resume=True, progress=False)

    expected, resumed = read_losses(whole), read_losses(tmp_path / "run")
    assert sorted(expected) == list(range(15))
    assert set(resumed) >= set(range(saved, 15))
    for step in range(saved, 15):
        assert resumed[step] == expected[step]
    first, second = (load_file(folder / "weights.safetensors") for folder in (whole, tmp_path / "run"))
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


def test_a_run_describes_itself(uninterrupted: tuple[Path, Path]) -> None:
    path, folder = uninterrupted
    assert load_config(folder / "config.yaml") == load_config(path)
    assert {"python", "torch", "git"} <= set(json.loads((folder / "environment.json").read_text()))
    description = json.loads((folder / "weights.json").read_text())
    assert description["labels"] == ["nose", "eye", "eyebrow", "lip", "hair"]
    assert description["input_size"] == 64
    assert set(description["metrics"]) >= {"val/auc", "val/map", "val/fixed", "val/order", "val/loss_total"}
    assert list((folder / "tensorboard").glob("events.*"))
    terms = {"mil", "reg", "bce_u", "bce_v", "rank", "direct", "mask", "total", "lr"}
    assert set(read_losses(folder)[0]) == {f"train/{term}" for term in terms}
    with (folder / "csv" / "version_0" / "metrics.csv").open(newline="") as stream:
        waited = [float(row["time/waited"]) for row in csv.DictReader(stream) if row.get("time/waited")]
    assert waited[0] == 0  # the first batch is no waiting
    assert 0 < waited[-1] < 1


def test_the_last_step_is_validated_once(
    uninterrupted: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many sources take minutes; what a finished run that is resumed validates is the same."""
    settings = yaml.safe_load(uninterrupted[0].read_text()) | {"output": str(tmp_path / "run")}
    with monkeypatch.context() as patch:
        patch.setattr(lightning.Trainer, "validate", lambda *_, **__: pytest.fail("validated twice"))
        fit.run(parse_config(settings, "run"), progress=False)
    description = tmp_path / "run" / "weights.json"
    first = json.loads(description.read_text())["metrics"]
    description.unlink()
    fit.run(parse_config(settings, "run"), resume=True, progress=False)
    assert first == json.loads(description.read_text())["metrics"]


def test_an_existing_run_is_not_overwritten(uninterrupted: tuple[Path, Path]) -> None:
    with pytest.raises(InputError, match="holds a run already"):
        fit.run(load_config(uninterrupted[0]), progress=False)


def test_training_learns(trained: Path) -> None:
    metrics = json.loads((trained / "weights.json").read_text())["metrics"]
    assert metrics["val/auc"] > 0.95
    assert metrics["val/map"] > 0.9
    losses = read_losses(trained)
    assert losses[143]["train/total"] < 0.7 * losses[0]["train/total"]


def test_weights_are_as_open_as_other_files(trained: Path) -> None:
    assert (trained / "weights.safetensors").stat().st_mode == (trained / "weights.json").stat().st_mode


def test_weights_and_checkpoint_hold_the_averaged_network(trained: Path) -> None:
    from_weights, config = load_network(trained / "weights.safetensors")
    from_checkpoint, _ = load_network(trained / "last.ckpt")
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(from_weights(images).logits, from_checkpoint(images).logits)
    assert config.model.input_size == 64


def test_a_time_limit_anneals_and_stops(tiny_config: Callable[..., TrainConfig], trained: Path) -> None:
    config = tiny_config(
        epochs=1000, max_minutes=0.03, init_from=str(trained / "weights.safetensors"), data={"val_images": 8}
    )
    fit.run(config, progress=False)
    rates = [losses["train/lr"] for _, losses in sorted(read_losses(config.output).items())]
    assert 2 < len(rates) < 12_000
    assert rates[-1] < 0.5 * max(rates)


def test_starting_weights_must_fit(tiny_config: Callable[..., TrainConfig], trained: Path) -> None:
    config = tiny_config(init_from=str(trained / "weights.safetensors"), model={"width": 48})
    with pytest.raises(InputError, match="its network differs"):
        fit.run(config, progress=False)


def test_a_network_of_another_kind_can_give_its_backbone(
    tiny_config: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    short = {"data": {"train_images": 8, "val_images": 8}}
    plain = tiny_config(
        **short, model={"kind": "multicls", "mask_head": False}, loss={"lambda_mask": 0.0}
    ).model_copy(update={"output": tmp_path / "plain"})
    start = fit.run(plain, progress=False)
    config = tiny_config(
        **short, init_from=str(start), init_from_only="backbone.", optim={"lr": 1e-9, "backbone_lr": 1e-9}
    )
    given, taken = load_file(start), load_file(fit.run(config, progress=False))
    shared = {name for name in taken if name.startswith("backbone.") and taken[name].is_floating_point()}
    assert shared <= set(given)
    assert len(shared) > 10
    for name in shared - {name for name in shared if "running" in name}:
        torch.testing.assert_close(taken[name], given[name], msg=name)
    with pytest.raises(InputError, match="its network differs"):
        fit.run(
            config.model_copy(update={"init_from_only": "heads.", "output": tmp_path / "other"}),
            progress=False,
        )


def test_each_metric_can_keep_its_best(tiny_config: Callable[..., TrainConfig]) -> None:
    config = tiny_config(also_best=["val/fixed", "val/adaptive"], data={"train_images": 16})
    fit.run(config, progress=False)
    names = {path.name for path in config.output.glob("*.ckpt")}
    assert names == {"best.ckpt", "best-fixed.ckpt", "best-adaptive.ckpt", "last.ckpt"}


def test_frozen_layers_keep_their_weights(tiny_config: Callable[..., TrainConfig], tmp_path: Path) -> None:
    small = {"model": {"fold_norm": True}, "data": {"train_images": 8, "val_images": 8}}
    start = fit.run(tiny_config(**small), progress=False)
    second = tiny_config(init_from=str(start), optim={"frozen_stride": 8}, **small)
    second = second.model_copy(update={"output": tmp_path / "second"})
    before, after = load_file(start), load_file(fit.run(second, progress=False))
    network = load_network(start)[0]
    assert isinstance(network, Network)
    network.backbone.freeze(8)
    kept = {name for name, values in before.items() if torch.equal(after[name], values)}
    assert kept == {name for name, value in network.named_parameters() if not value.requires_grad}
    changed = second.model_copy(update={"optim": second.optim.model_copy(update={"frozen_stride": 4})})
    with pytest.raises(InputError, match=r"was trained with optim\.frozen_stride 8, not 4"):
        fit.run(changed, resume=True, progress=False)


def test_a_network_without_maps_has_no_layers_to_freeze(tiny_config: Callable[..., TrainConfig]) -> None:
    model = {"fold_norm": True, "kind": "multicls", "mask_head": False}
    config = tiny_config(model=model, optim={"frozen_stride": 8}, loss={"lambda_mask": 0.0})
    with pytest.raises(InputError, match="frozen_stride: a network of kind multicls"):
        fit.run(config, progress=False)


def test_an_order_head_may_begin_anew(tiny_config: Callable[..., TrainConfig], trained: Path) -> None:
    start = str(trained / "weights.safetensors")
    config = tiny_config(init_from=start, model={"order_head": True}, data={"train_images": 8, "together": 2})
    network, _ = load_network(fit.run(config, progress=False))
    assert network.order_head is not None


def test_parts_and_recomputation_change_nothing(
    tiny_config: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    # Statistics and masks are drawn for each part, so the network has none of either.
    same = {"model": {"fold_norm": True, "dropout": 0.0}, "loss": {"direct": "none"}}
    short = {"data": {"train_images": 24, "val_images": 8}, **same}
    weights = []
    for number, settings in enumerate(({}, {"accumulate": 2, "checkpoint_activations": True})):
        config = tiny_config(**short, **settings)
        config = config.model_copy(update={"output": tmp_path / f"run{number}"})
        weights.append(load_file(fit.run(config, progress=False)))
    whole, parts = weights
    for name, expected in whole.items():
        torch.testing.assert_close(parts[name], expected, rtol=0, atol=1e-4, msg=name)


@pytest.mark.slow
def test_a_compiled_network_learns_the_same(tiny_config: Callable[..., TrainConfig], tmp_path: Path) -> None:
    losses = []
    for compiled in (False, True):
        config = tiny_config(compile=compiled, data={"train_images": 16, "val_images": 8})
        config = config.model_copy(update={"output": tmp_path / f"compiled-{compiled}"})
        fit.run(config, progress=False)
        losses.append([step["train/total"] for _, step in sorted(read_losses(config.output).items())])
    assert losses[0] == pytest.approx(losses[1], rel=1e-2)


def test_workers_see_the_same_images(tiny_config: Callable[..., TrainConfig], tmp_path: Path) -> None:
    short = {"train_images": 16, "val_images": 8}
    results = []
    for workers in (0, 1):
        config = tiny_config(data={**short, "workers": workers})
        config = config.model_copy(update={"output": tmp_path / f"w{workers}"})
        fit.run(config, progress=False)
        results.append(read_losses(config.output))
    assert results[0] == results[1]


def test_a_pack_of_many_sources_is_trained_on(pack_root: Path, tmp_path: Path) -> None:
    settings = tiny_settings(
        pack_root,
        tmp_path / "run",
        data={"roots": [], "sources": mixture_of(pack_root)},
        model={"zoom": 1.3},
        monitor="val/sources",
        batch_size=4,
        images_per_epoch=4,
        epochs=2,
    )
    weights = fit.run(parse_config(settings, "test"), progress=False)
    description = json.loads(weights.with_suffix(".json").read_text())
    assert description["zoom"] == 1.3
    assert set(description["metrics"]) >= {"val/auc", "val/sources"}
    curve = read_curve(tmp_path / "run" / CURVE)
    names = ["alpha", "gamma", "forged", ALL]
    assert [(row["images"], row["source"]) for row in curve] == [
        (images, name) for images in ("4", "8") for name in names
    ]
    assert all(0 <= float(row["auc"]) <= 1 for row in curve)
    assert len(read_losses(tmp_path / "run")) == 2
    # A longer run goes on with the third step, and so does its curve.
    longer = parse_config(settings | {"epochs": 3}, "test")
    fit.run(longer, resume=True, progress=False)
    assert read_curve(tmp_path / "run" / CURVE)[:8] == curve
    assert [row["images"] for row in read_curve(tmp_path / "run" / CURVE)[8:]] == ["12"] * 4
    assert sorted(read_losses(tmp_path / "run")) == [0, 1, 2]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_passes_its_failure_on_is_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[BaseException | None] = []
    monkeypatch.setattr(threading, "excepthook", lambda failure: shown.append(failure.exc_value))
    kept, lost = MemoryError(), MemoryError()

    class Writer(threading.Thread):
        exception: BaseException | None = None

        def run(self) -> None:
            self.exception = kept
            raise kept

    def other() -> None:
        raise lost

    with fit._quiet_threads():
        for thread in (Writer(), threading.Thread(target=other)):
            thread.start()
            thread.join()
    assert shown == [lost]
