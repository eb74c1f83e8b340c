"""Networks on disk: checkpoints of a run, and weights with their description."""

import hashlib
import json
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
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn

from forgerank.data.listing import write_whole
from forgerank.model.baselines import build_network
from forgerank.train.config import TrainConfig, parse_config
from forgerank.types import InputError
from forgerank.weights.hub import safetensors_bytes

LAST, BEST = "last.ckpt", "best.ckpt"


class Checkpoints(Callback):
    """`last.ckpt` every few steps and after validation, `best.ckpt` by the monitored figure, and one such as
    `best-fixed.ckpt` by each of the others; never half a file.
    """

    def __init__(self, folder: Path, *, every: int, monitor: str, others: Sequence[str] = ()) -> None:
        self.folder = folder
        self.every = every
        self.monitors = {BEST: monitor} | {f"best-{name.rpartition('/')[2]}.ckpt": name for name in others}
        self.best = dict.fromkeys(self.monitors, float("-inf"))

    def state_dict(self) -> dict[str, float]:
        """The best figure so far, by file."""
        return dict(self.best)

    def load_state_dict(self, state_dict: dict[str, float]) -> None:
        """Go on from the best figures so far."""
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
        """Write beside the target, then replace it: a kill leaves the old file or the new one.

        Every process takes part, the first one writes.
        """
        partial = self.folder / f"{name}.partial"
        trainer.save_checkpoint(partial)
        if trainer.is_global_zero:
            os.replace(partial, self.folder / name)


def _step_is_over(trainer: L.Trainer) -> bool:
    """Whether the last batch completed a step: no checkpoint holds the gradients of half a step."""
    seen = trainer.fit_loop.epoch_loop.batch_progress.current.ready
    return bool(seen % trainer.accumulate_grad_batches == 0)


class TimeLimit(Callback):
    """Ends training after `minutes` over all sessions."""

    def __init__(self, minutes: float) -> None:
        self.minutes = minutes

    def on_train_batch_end(self, trainer: L.Trainer, module: Any, *_: Any) -> None:
        """Let the loop stop after this batch."""
        if module.elapsed_minutes >= self.minutes and _step_is_over(trainer):
            trainer.should_stop = True


def save_weights(network: nn.Module, config: TrainConfig, path: Path, metrics: Mapping[str, float]) -> None:
    """Write `path` (.safetensors) and beside it a .json with settings, labels, hash and origin."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = safetensors_bytes(network.state_dict())
    write_whole(path, content)  # safetensors' own file would be closed to other users
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
    path.with_suffix(".json").write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")


def load_network(path: Path) -> tuple[nn.Module, TrainConfig]:
    """The averaged network of a checkpoint (.ckpt) or of weights (.safetensors with their .json), and its
    settings.

    Raises InputError for files that are missing, broken or of another shape.
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
        return state, checkpoint["settings"]
    except (OSError, RuntimeError, KeyError, ValueError, pickle.UnpicklingError) as error:
        raise InputError(
            f"{path}: cannot be read as a checkpoint: {' '.join(str(error).split())[:160]}"
        ) from error


def _read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    sidecar = path.with_suffix(".json")
    try:
        content = path.read_bytes()
        description = json.loads(sidecar.read_text(encoding="utf-8"))
        settings, recorded = description["settings"], description["files"]["safetensors"]["sha256"]
        if hashlib.sha256(content).hexdigest() != recorded:
            raise InputError(f"{path}: not the file that {sidecar.name} describes: its SHA-256 differs")
        return load(content), settings
    except (OSError, SafetensorError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read with {sidecar.name}: {error}") from error


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
    """What a run depends on beside its settings."""
    versions = {"python": platform.python_version(), "platform": platform.platform(), "git": git_revision()}
    for name in ("forgerank", "torch", "torchvision", "timm", "lightning", "numpy", "pillow"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed"
    return versions
