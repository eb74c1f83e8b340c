"""Networks on disk: the checkpoints of a run, and its weights with their description."""

import hashlib
import os
import pickle
import platform
import subprocess
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn

from forgerank.files import write_atomic
from forgerank.model.baselines import build_network
from forgerank.train.config import TrainConfig, parse_config
from forgerank.types import InputError
from forgerank.weights.description import read_description, sealed_json
from forgerank.weights.hub import read_tensors, safetensors_bytes
from forgerank.weights.renamed_keys import convert_settings

LAST, BEST = "last.ckpt", "best.ckpt"


class Checkpoints(Callback):
    """Saves `last.ckpt` every few steps and after validation, `best.ckpt` by the monitored metric, and by
    each of the other metrics a file such as `best-fixed.ckpt`. A file is always complete.
    """

    def __init__(self, folder: Path, *, every: int, monitor: str, others: Sequence[str] = ()) -> None:
        self.folder = folder
        self.every = every
        self.monitors = {BEST: monitor} | {f"best-{name.rpartition('/')[2]}.ckpt": name for name in others}
        self.best = dict.fromkeys(self.monitors, float("-inf"))

    def state_dict(self) -> dict[str, float]:
        """The best value so far, by file."""
        return dict(self.best)

    def load_state_dict(self, state_dict: dict[str, float]) -> None:
        """Continue from the best values so far."""
        self.best |= state_dict

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Save between validations; the last batch of an epoch is saved after its validation."""
        if trainer.global_step % self.every == 0 and _step_is_over(trainer) and not trainer.is_last_batch:
            self.save(trainer, LAST)

    def on_validation_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Save, and keep the best."""
        if trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        for file, monitor in self.monitors.items():
            value = float(trainer.callback_metrics.get(monitor, torch.tensor(float("-inf"))))
            if value > self.best[file]:
                self.best[file] = value
                self.save(trainer, file)
        self.save(trainer, LAST)

    def save(self, trainer: L.Trainer, name: str) -> None:
        """Write to another name, then replace `name`: when the process is killed, either the old file or the
        new one is there. All processes must call it; the first one writes.
        """
        partial = self.folder / f"{name}.partial"
        trainer.save_checkpoint(partial)
        if trainer.is_global_zero:
            os.replace(partial, self.folder / name)


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
    path.parent.mkdir(parents=True, exist_ok=True)
    content = safetensors_bytes(network.state_dict())
    write_atomic(path, content)  # `safetensors.save_file` would write a file that only its owner may read
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
    path.with_suffix(".json").write_bytes(sealed_json(description))


def load_network(path: Path) -> tuple[nn.Module, TrainConfig]:
    """The network, in evaluation mode and on the CPU, and the settings of a checkpoint (.ckpt), whose
    averaged weights are taken, or of a .safetensors with its .json.

    Raises InputError, one line, for files that are missing, broken, changed or of another shape.
    """
    state, settings = _read_checkpoint(path) if path.suffix == ".ckpt" else _read_weights(path)
    config = parse_config(settings, str(path))
    network = build_network(config.model.model_copy(update={"pretrained": False}))
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise InputError(
            f"{path}: does not fit its own settings: {str(error).splitlines()[-1].strip()}"
        ) from error
    return network.eval(), config


def _read_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        prefix = "average."
        state = {
            name.removeprefix(prefix): value
            for name, value in checkpoint["state_dict"].items()
            if name.startswith(prefix)
        }
        return state, convert_settings(checkpoint["settings"])
    except (OSError, RuntimeError, KeyError, ValueError, pickle.UnpicklingError) as error:
        raise InputError(
            f"{path}: cannot be read as a checkpoint: {' '.join(str(error).split())[:160]}"
        ) from error


def _read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    description_path = path.with_suffix(".json")
    if path.is_file() and not description_path.is_file():
        raise InputError(f"{path}: its description, {description_path.name}, is not beside it")
    description = read_description(description_path)
    return read_tensors(description_path, description, file=path), description.get("settings", {})


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
