"""One training run in one folder: checkpoints, logs, resolved settings and the final weights."""

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path

import lightning as L
import torch
import yaml
from lightning.pytorch.accelerators import CUDAAccelerator
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy, Strategy
from timm.layers.norm_act import convert_sync_batchnorm
from torch import nn

from forgerank.data.batches import Share
from forgerank.data.sample import Source
from forgerank.model.baselines import build_network
from forgerank.train.checkpoints import (
    LAST,
    Checkpoints,
    TimeLimit,
    environment,
    load_network,
    save_weights,
)
from forgerank.train.config import DataConfig, TrainConfig
from forgerank.train.curve import Curve
from forgerank.train.loaders import (
    Joined,
    batches_per_epoch,
    limited,
    open_mixture,
    open_source,
    open_validation,
    plain_loader,
    train_loader,
)
from forgerank.train.module import ForgeryModule
from forgerank.train.sharding import recompute_blocks
from forgerank.types import InputError

WEIGHTS = "weights.safetensors"
OPTIONAL_HEADS = ("mask_head.", "order_head.")  # initialised anew where the weights of `init_from` have none


def run(config: TrainConfig, *, resume: bool = False, progress: bool = True) -> Path:
    """Train as `config` says and return the path of the final averaged weights (.safetensors with a .json).

    `config.output` receives config.yaml, environment.json, last.ckpt, best.ckpt, tensorboard/, csv/ and the
    weights. With `resume` a run continues from last.ckpt, with exactly the losses of a run that was not
    interrupted; if there is no last.ckpt, it begins. Processes started by torchrun train one run together, on
    the batches that a single process would see. Raises InputError where the folder holds a run already and
    `resume` is not set, and for a batch size that the processes cannot divide evenly.
    """
    last = config.output / LAST
    if last.exists() and not resume:
        raise InputError(f"{config.output}: holds a run already: resume it or choose another output")
    if config.threads:
        torch.set_num_threads(config.threads)
    L.seed_everything(config.seed, workers=False, verbose=False)
    # Lightning's messages on devices, tips and defaults would hide the run's own output.
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    source = _open_training(config.data)
    parts = open_validation(config.data)
    validation = Joined(list(parts.values()))
    if not len(validation):
        raise InputError("the validation split holds no usable image")
    steps = config.epochs * batches_per_epoch(config, len(source))
    trainer = _build_trainer(config, steps, progress=progress)
    share: Share = trainer.global_rank, trainer.world_size
    training = train_loader(config, source, position=lambda: trainer.global_step, share=share)
    checking = plain_loader(config, validation, masks=True, share=share)
    val_sources = {name: len(part) for name, part in parts.items()} if config.data.sources else None
    module = _build_module(config, trainer, steps, val_sources)
    if trainer.is_global_zero:
        _describe_run(config)
    trainer.fit(module, training, checking, ckpt_path=last if last.exists() else None, weights_only=True)
    if trainer.interrupted:
        raise KeyboardInterrupt
    (metrics,) = trainer.validate(module, checking, verbose=False)
    if trainer.is_global_zero:
        # From the checkpoint: this process may hold only a part of the weights.
        save_weights(load_network(last)[0], config, config.output / WEIGHTS, metrics)
    trainer.strategy.barrier()
    return config.output / WEIGHTS


def _open_training(config: DataConfig) -> Source:
    if config.sources:
        return open_mixture(config)
    return limited(open_source(config, config.train_split), config.train_images)


def _build_module(
    config: TrainConfig, trainer: L.Trainer, steps: int, val_sources: Mapping[str, int] | None
) -> ForgeryModule:
    network = _build_network(config)
    if trainer.world_size > 1 and isinstance(trainer.accelerator, CUDAAccelerator):
        # Batch statistics over all processes, as in one process; torch supports this on the GPU only.
        network = convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
    module = ForgeryModule(config, network, max_steps=steps, val_sources=val_sources)
    if config.checkpoint_activations:
        recompute_blocks(module.network)
    if config.compile:
        module.network.compile()
    return module


def _build_network(config: TrainConfig) -> nn.Module:
    if config.init_from is None:
        return build_network(config.model)
    earlier = load_network(config.init_from)[0].state_dict()
    differs = InputError(f"{config.init_from}: its network differs from the one in the settings")
    if config.init_from_only:
        # The two networks may be of different kinds: tensors that are not taken are initialised as usual.
        network = build_network(config.model)
        names = [name for name in network.state_dict() if name.startswith(config.init_from_only)]
        earlier = {name: earlier[name] for name in names if name in earlier}
        optional: tuple[str, ...] = ("",)
    else:
        network = build_network(config.model.model_copy(update={"pretrained": False}))
        optional = OPTIONAL_HEADS
    try:
        missing, extra = network.load_state_dict(earlier, strict=False)
    except RuntimeError as error:
        raise differs from error
    if not earlier or extra or any(not name.startswith(optional) for name in missing):
        raise differs
    return network.train()


def _build_trainer(config: TrainConfig, max_steps: int, *, progress: bool) -> L.Trainer:
    checkpoints = Checkpoints(
        config.output, every=config.checkpoint_steps, monitor=config.monitor, others=config.also_best
    )
    callbacks: list[L.Callback] = [checkpoints, Curve(config.output)]
    if config.max_minutes is not None:
        callbacks.append(TimeLimit(config.max_minutes))
    if progress:
        callbacks.append(TQDMProgressBar(refresh_rate=10, leave=True))
    devices, nodes = _processes(config)
    return L.Trainer(
        accelerator=config.accelerator,
        devices=devices,
        num_nodes=nodes,
        strategy=_strategy(config, devices * nodes),
        accumulate_grad_batches=config.accumulate,
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


def _processes(config: TrainConfig) -> tuple[int, int]:
    """Processes per machine and machines: as configured, else as torchrun says, else one."""
    local = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    return config.devices or local, config.nodes or int(os.environ.get("WORLD_SIZE", local)) // local


def _strategy(config: TrainConfig, processes: int) -> Strategy | str:
    if config.strategy == "fsdp":
        # One file per checkpoint, which a single process can read.
        return ModelParallelStrategy(processes, 1, save_distributed_checkpoint=False)
    if config.strategy == "ddp" or processes > 1:
        # Some rows of Table 3 leave out losses, so that some heads have no gradients.
        return DDPStrategy(find_unused_parameters=True)
    return "auto"


def _describe_run(config: TrainConfig) -> None:
    config.output.mkdir(parents=True, exist_ok=True)
    settings = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
    (config.output / "config.yaml").write_text(settings, encoding="utf-8")
    (config.output / "environment.json").write_text(
        json.dumps(environment(), indent=2) + "\n", encoding="utf-8"
    )
