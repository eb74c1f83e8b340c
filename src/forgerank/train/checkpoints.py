"""Networks on disk: the checkpoints of a run, and its weights with their description."""

import hashlib
import os
import platform
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.utilities import rank_zero_only
from rich.console import Console
from rich.text import Text
from torch import Tensor, nn

from forgerank.files import make_folder, open_table, write_atomic, write_together
from forgerank.model.baselines import build_network
from forgerank.train.config import TrainConfig, parse_config
from forgerank.types import InputError, Terminated
from forgerank.weights.description import find_description, read_description, sealed_json
from forgerank.weights.hub import (
    load_state,
    read_checkpoint,
    read_tensors,
    safetensors_bytes,
    sealed_checkpoint,
)
from forgerank.weights.renamed_keys import convert_settings

LAST, BEST = "last.ckpt", "best.ckpt"


def say(line: str) -> None:
    """One line on standard error, by the first of several processes."""
    if os.environ.get("RANK", "0") == "0":
        Console(stderr=True).print(Text(f"forgerank: {line}"), soft_wrap=True)


class Checkpoints(Callback):
    """Saves `last.ckpt` every few steps and after validation, `best.ckpt` by the monitored metric, and by
    each of the other metrics a file such as `best-fixed.ckpt`. A file is always complete.
    """

    def __init__(self, folder: Path, *, every: int, monitor: str, others: Sequence[str] = ()) -> None:
        self.folder = folder
        self.every = every
        self.monitors = {BEST: monitor} | {f"best-{name.rpartition('/')[2]}.ckpt": name for name in others}
        self.best = dict.fromkeys(self.monitors, float("-inf"))
        self._missed: set[str] = set()  # metrics that were not there to choose by

    def state_dict(self) -> dict[str, Any]:
        """The best value so far and the metric that it is of, by file."""
        return {"best": dict(self.best), "monitors": dict(self.monitors)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from the best values of the metrics that still choose; old states do not name them."""
        best = state_dict.get("best", state_dict)
        monitors = state_dict.get("monitors", self.monitors)
        kept = {file for file in best if monitors.get(file) == self.monitors.get(file)}
        self.best |= {file: best[file] for file in kept & self.best.keys()}

    def on_train_start(self, trainer: L.Trainer, module: Any) -> None:
        """Log the last step before the checkpoint again, where a kill came before its row was written."""
        step, row = module.resumed_row
        if row and (step + 1) % module.config.log_steps == 0 and step not in logged_steps(self.folder):
            for logger in trainer.loggers:
                logger.log_metrics(row, step)

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Save between validations; the last batch of an epoch is saved after its validation."""
        if trainer.global_step % self.every == 0 and _step_is_over(trainer) and not trainer.is_last_batch:
            self.save(trainer, LAST)

    def on_validation_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Save, and keep the best."""
        if trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        for file, monitor in self.monitors.items():
            if monitor not in trainer.callback_metrics and monitor not in self._missed:
                self._missed.add(monitor)
                there = sorted(name for name in trainer.callback_metrics if name.startswith("val/"))
                say(f"{file}: no {monitor} to choose it by; there are {', '.join(there)}")
            value = float(trainer.callback_metrics.get(monitor, torch.tensor(float("-inf"))))
            if value > self.best[file]:
                self.best[file] = value
                self.save(trainer, file)
        self.save(trainer, LAST)

    def save(self, trainer: L.Trainer, name: str) -> None:
        """Write a checkpoint: when the process is killed, either the old file or the new one is there. All
        processes must call it; the first one writes.

        What was logged until now is written first: a resumed run does not repeat these steps.
        """
        for logger in trainer.loggers:
            logger.save()
        trainer.save_checkpoint(self.folder / name)


class MetricsLog(CSVLogger):
    """The CSV file of a session, `csv/version_N/metrics.csv` of the run's folder.

    Lightning opens it anew for each writing: a link that came into its place is replaced, not followed. A
    session that logged nothing leaves no folder.
    """

    def __init__(self, output: Path, *, every: int) -> None:
        super().__init__(output, name="csv", flush_logs_every_n_steps=every)

    @rank_zero_only
    def save(self) -> None:
        """Write what was logged since the last time."""
        path = Path(self.log_dir, "metrics.csv")
        path.parent.mkdir(parents=True, exist_ok=True)  # what ended before this may have removed it
        if path.is_symlink():
            path.unlink()
        super().save()

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """The last writing."""
        super().finalize(status)
        with suppress(OSError):  # a folder that is not empty stays
            os.rmdir(self.log_dir)
            os.rmdir(Path(self.log_dir).parent)


def logged_steps(folder: Path) -> set[int]:
    """The steps whose training metrics are in the CSV files of a run, over all its sessions.

    A file that is damaged is said, and costs the run nothing.
    """
    steps: set[int] = set()
    for path in folder.glob("csv/version_*/metrics.csv"):
        try:
            with open_table(path) as rows:
                steps |= {int(row["step"]) for row in rows if row.get("train/total")}
        except InputError as error:
            say(str(error))
        except (KeyError, TypeError, ValueError):
            say(f"{path}: not the metrics of a run")
    return steps


class EndOnSigterm(Callback):
    """Ends training after the step in hand, with a checkpoint; after the validation in hand, if there is one.

    Raises Terminated then, in every process. Lightning's own handler would end the run as if it had been a
    success, and speaks to the other processes from inside of a signal handler, where they may be in another
    exchange.
    """

    def __init__(self, checkpoints: Checkpoints) -> None:
        self.checkpoints = checkpoints
        self._came = False

    def on_train_start(self, *_: Any) -> None:
        """Take over from Lightning, which restores the former handler after the fit."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._note)

    def on_validation_start(self, *_: Any) -> None:
        """Take over for the validation at the end, too."""
        self.on_train_start()

    def _note(self, *_: Any) -> None:
        self._came = True

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Save and end, unless a validation follows."""
        if _step_is_over(trainer) and not trainer.is_last_batch and self._all_end(trainer):
            self.checkpoints.save(trainer, LAST)
            self._end(trainer)

    def on_validation_end(self, trainer: L.Trainer, *_: Any) -> None:
        """End: `Checkpoints`, which comes first, has saved."""
        if self._all_end(trainer):
            self._end(trainer)

    def _all_end(self, trainer: L.Trainer) -> bool:
        """Whether any process is to end: all must take the same steps."""
        if trainer.world_size == 1:
            return self._came
        return bool(trainer.strategy.reduce_boolean_decision(self._came, all=False))

    def _end(self, trainer: L.Trainer) -> None:
        raise Terminated(
            f"stopped by SIGTERM after step {trainer.global_step}; go on from "
            f"{self.checkpoints.folder / LAST} with --resume"
        )


class SealedCheckpoints(TorchCheckpointIO):
    """Checkpoints that carry a hash of themselves and are put in place at once."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Raises InputError, one line, where it cannot be written; the file before it stays then."""
        write_atomic(Path(path), sealed_checkpoint(checkpoint))


def _step_is_over(trainer: L.Trainer) -> bool:
    """Whether the last batch completed a step: a checkpoint does not hold accumulated gradients."""
    seen = trainer.fit_loop.epoch_loop.batch_progress.current.ready
    return bool(seen % trainer.accumulate_grad_batches == 0)


class TimeLimit(Callback):
    """Ends training after `minutes` over all sessions."""

    def __init__(self, minutes: float) -> None:
        self.minutes = minutes

    def on_train_batch_end(self, trainer: L.Trainer, module: Any, *_: Any) -> None:
        """Stop the loop after this batch when the time is over."""
        if module.elapsed_minutes >= self.minutes and _step_is_over(trainer):
            trainer.should_stop = True


def save_weights(network: nn.Module, config: TrainConfig, path: Path, metrics: Mapping[str, float]) -> None:
    """Write `path` (.safetensors) and beside it a sealed .json with settings, labels, hash and origin."""
    make_folder(path.parent)
    content = safetensors_bytes(network.state_dict())
    description = {
        "name": config.name,
        "files": {"safetensors": {"file": path.name, "sha256": hashlib.sha256(content).hexdigest()}},
        "input_size": config.model.input_size,
        "zoom": config.model.zoom,
        "labels": list(config.data.labels),
        "order": config.loss.order,
        "tau": config.loss.tau,
        "metrics": dict(metrics),
        "settings": config.model_dump(mode="json"),
        "git_revision": git_revision(),
    }
    write_together({path: content, path.with_suffix(".json"): sealed_json(description)})


def load_network(path: Path) -> tuple[nn.Module, TrainConfig]:
    """The network, in evaluation mode and on the CPU, and the settings of a checkpoint (.ckpt), whose
    averaged weights are taken, of a .safetensors with its .json, or of a folder of weights.

    Raises InputError, one line, for files that are missing, broken, changed or of another shape.
    """
    checkpoint = path.suffix == ".ckpt" and not path.is_dir()
    state, settings = _read_averaged(path) if checkpoint else _read_weights(path)
    try:
        config = parse_config(settings, "its settings")
    except InputError as error:
        raise InputError(f"{path}: holds no network of forgerank ({error})") from None
    network = build_network(config.model.model_copy(update={"pretrained": False}))
    load_state(network, state, path)
    return network.eval(), config


def _read_averaged(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    checkpoint = read_checkpoint(path)
    prefix = "average."
    try:
        state = {
            name.removeprefix(prefix): value
            for name, value in checkpoint["state_dict"].items()
            if name.startswith(prefix)
        }
    except (KeyError, AttributeError):
        raise InputError(f"{path}: no checkpoint of forgerank (it holds no weights)") from None
    return state, convert_settings(checkpoint["settings"])


def _read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    described = find_description(path) if path.is_dir() else None
    if described is None:
        described = path.with_suffix(".json")
        if not path.exists():
            raise InputError(f"{path}: no such file or folder")
        if path.suffix != ".safetensors":
            raise InputError(f"{path}: neither a checkpoint (.ckpt) nor a .safetensors nor a folder")
        if not described.is_file():
            raise InputError(f"{path}: its description, {described.name}, is not beside it")
    description = read_description(described)
    tensors = read_tensors(described, description, file=None if path.is_dir() else path)
    return tensors, description.get("settings", {})


def git_revision() -> str:
    """The revision of the current directory's repository, with `-dirty` for local changes; empty outside of
    one.
    """
    try:
        command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
        result = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except OSError:
        return ""
    return result.stdout.strip() if result.returncode == 0 else ""


def environment() -> dict[str, str]:
    """What a run depends on besides its settings: versions of the system and of the packages."""
    versions = {"python": platform.python_version(), "platform": platform.platform(), "git": git_revision()}
    for name in ("forgerank", "torch", "torchvision", "timm", "lightning", "numpy", "pillow"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed"
    return versions
