"""One training run in one folder: checkpoints, logs, resolved settings and the final weights."""

import json
import logging
from pathlib import Path

import lightning as L
import torch
import yaml
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from forgerank.model.network import Network
from forgerank.train.checkpoints import (
    LAST,
    Checkpoints,
    TimeLimit,
    environment,
    load_network,
    save_weights,
)
from forgerank.train.config import TrainConfig
from forgerank.train.loaders import batches_per_epoch, limited, open_source, plain_loader, train_loader
from forgerank.train.module import ForgeryModule
from forgerank.types import InputError

WEIGHTS = "weights.safetensors"
OPTIONAL_HEADS = ("mask_head.", "order_head.")  # may begin anew where `start` has none


def run(config: TrainConfig, *, resume: bool = False, progress: bool = True) -> Path:
    """Train as `config` says and return the path of the final averaged weights (.safetensors with a .json).

    `config.output` receives config.yaml, environment.json, last.ckpt, best.ckpt, tensorboard/, csv/ and the
    weights. With `resume` a run goes on from last.ckpt, to the same losses as if it had never stopped;
    without one it begins. Raises InputError where the folder holds a run already and `resume` is not set.
    """
    last = config.output / LAST
    if last.exists() and not resume:
        raise InputError(f"{config.output}: holds a run already: resume it or choose another output")
    if config.threads:
        torch.set_num_threads(config.threads)
    L.seed_everything(config.seed, workers=False, verbose=False)
    # Lightning's notes on devices, tips and defaults would bury the run's own figures.
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    source = limited(open_source(config.data, config.data.train_split), config.data.train_pictures)
    validation = limited(
        open_source(config.data, config.data.val_split, roots=config.data.val_roots), config.data.val_pictures
    )
    if not len(validation):
        raise InputError("the validation split holds no usable picture")
    module = ForgeryModule(
        config, _build_network(config), max_steps=config.epochs * batches_per_epoch(config, len(source))
    )
    _describe_run(config)
    trainer = _build_trainer(config, module.max_steps, progress=progress)
    training = train_loader(config, source, position=lambda: trainer.global_step)
    checking = plain_loader(config, validation, masks=True)
    trainer.fit(module, training, checking, ckpt_path=last if last.exists() else None, weights_only=True)
    if trainer.interrupted:
        raise KeyboardInterrupt
    (metrics,) = trainer.validate(module, checking, verbose=False)
    save_weights(module.average, config, config.output / WEIGHTS, metrics)
    return config.output / WEIGHTS


def _build_network(config: TrainConfig) -> Network:
    if config.start is None:
        return Network(config.model)
    earlier, _ = load_network(config.start)
    network = Network(config.model.model_copy(update={"pretrained": False}))
    try:
        missing, extra = network.load_state_dict(earlier.state_dict(), strict=False)
    except RuntimeError as error:
        raise InputError(f"{config.start}: its network differs from the one in the settings") from error
    if extra or any(not name.startswith(OPTIONAL_HEADS) for name in missing):
        raise InputError(f"{config.start}: its network differs from the one in the settings")
    return network.train()


def _build_trainer(config: TrainConfig, max_steps: int, *, progress: bool) -> L.Trainer:
    checkpoints = Checkpoints(config.output, every=config.checkpoint_steps, monitor=config.monitor)
    callbacks: list[L.Callback] = [checkpoints]
    if config.max_minutes is not None:
        callbacks.append(TimeLimit(config.max_minutes))
    if progress:
        callbacks.append(TQDMProgressBar(refresh_rate=10, leave=True))
    return L.Trainer(
        accelerator=config.accelerator,
        devices=1,
        precision=config.precision,
        max_steps=max_steps,
        max_epochs=-1,
        num_sanity_val_steps=0,
        gradient_clip_val=config.optim.clip,
        log_every_n_steps=config.log_steps,
        callbacks=callbacks,
        logger=[
            TensorBoardLogger(config.output, name="tensorboard", version=""),
            CSVLogger(config.output, name="csv", flush_logs_every_n_steps=config.log_steps),
        ],
        default_root_dir=config.output,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=progress,
        use_distributed_sampler=False,
    )


def _describe_run(config: TrainConfig) -> None:
    config.output.mkdir(parents=True, exist_ok=True)
    settings = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
    (config.output / "config.yaml").write_text(settings, encoding="utf-8")
    (config.output / "environment.json").write_text(
        json.dumps(environment(), indent=2) + "\n", encoding="utf-8"
    )
