"""One training run in one folder: checkpoints, logs, resolved settings and the final weights."""

import json
import logging
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import lightning as L
import torch
import yaml
from lightning.pytorch.accelerators import CUDAAccelerator
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy, Strategy
from timm.layers.norm_act import convert_sync_batchnorm
from torch import nn

from forgerank.data.batches import Share
from forgerank.data.mixture import Mixture
from forgerank.data.sample import Source
from forgerank.files import check_outputs, make_folder, write_atomic
from forgerank.model.baselines import build_network
from forgerank.model.network import ImageTokens
from forgerank.processes import sole_writer
from forgerank.train.checkpoints import (
    LAST,
    Checkpoints,
    EndOnSigterm,
    MetricsLog,
    SealedCheckpoints,
    TimeLimit,
    environment,
    load_network,
    save_weights,
    say,
)
from forgerank.train.config import DataConfig, TrainConfig, parse_config
from forgerank.train.curve import Curve
from forgerank.train.loaders import (
    batches_per_epoch,
    joined,
    limited,
    missing_class,
    open_mixture,
    open_source,
    open_validation,
    plain_loader,
    say_unread,
    train_loader,
    why_unread,
)
from forgerank.train.module import ForgeryModule
from forgerank.train.sharding import recompute_blocks
from forgerank.types import InputError
from forgerank.weights.description import RUN_FILE
from forgerank.weights.hub import read_checkpoint
from forgerank.weights.renamed_keys import convert_settings

WEIGHTS = "weights.safetensors"
OPTIONAL_HEADS = ("mask_head.", "order_head.")  # initialised anew where the weights of `init_from` have none


# Settings that a resumed run cannot change: the checkpoint's tensors would not fit, and its optimiser keeps
# the rates and the weight decay that it had.
FIXED = (
    *("model.", "data.vocabulary", "loss.order", "seed", "batch_size"),
    *("optim.lr", "optim.backbone_lr", "optim.frozen_stride", "optim.weight_decay"),
)
_RANKS = ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID")  # of a process that trains with others
FREE = ("model.pretrained",)  # ... of these: it only counts where a run begins


def run(
    config: TrainConfig, *, resume: bool = False, progress: bool = True, unread: list[str] | None = None
) -> Path:
    """Train as `config` says and return the path of the final averaged weights (.safetensors with a .json).

    `config.output` receives config.yaml, environment.json, last.ckpt, best.ckpt, tensorboard/, csv/ and the
    weights. With `resume` a run continues from last.ckpt, with exactly the losses of a run that was not
    interrupted; if there is no last.ckpt, it begins. Processes started by torchrun train one run together, on
    the batches that a single process would see. In the place of an image that cannot be read comes another;
    `unread`, or else standard error, is told why, a line for each. After SIGTERM the step in hand is finished
    and saved.

    Raises InputError, one line, where another process trains into the folder, where it holds a run already
    and `resume` is not set, or one that was trained with other settings, or has ended and lost its last.ckpt;
    for a batch size that the processes cannot divide evenly; for data of one class; and for settings that a
    library refuses.
    """
    make_folder(config.output)
    first = all(os.environ.get(name, "0") == "0" for name in _RANKS)
    with sole_writer(config.output) if first else nullcontext():
        return _run(config, resume=resume, progress=progress, unread=unread)


def _run(config: TrainConfig, *, resume: bool, progress: bool, unread: list[str] | None) -> Path:
    last = config.output / LAST
    if last.exists() and not resume:
        raise InputError(f"{config.output}: holds a run already: resume it or choose another output")
    if last.exists():
        _check_settings(config, last)
    elif last.is_symlink():
        raise InputError(f"{last}: a link to a file that is not there")
    elif (config.output / WEIGHTS).exists():
        raise InputError(
            f"{config.output}: holds the weights of a run, but no {LAST} from which it could go on: "
            "choose another output"
        )
    check_outputs(
        [config.output / name for name in (WEIGHTS, RUN_FILE)],
        [config.init_from, *config.data.roots, *(config.data.val_roots or ())],
        folders=[config.output],
    )
    if config.threads:
        torch.set_num_threads(config.threads)
    L.seed_everything(config.seed, workers=False, verbose=False)
    # Lightning's messages on devices, tips and defaults would hide the run's own output.
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    with _one_line("the data cannot be opened"):
        source = _open_training(config.data)
        parts = open_validation(config.data)
        validation = joined(list(parts.values()))
        _check_classes(source, parts)
    steps = config.epochs * batches_per_epoch(config, len(source))
    with _one_line("the settings cannot be trained with"):
        trainer = _build_trainer(config, steps, progress=progress)
    share: Share = trainer.global_rank, trainer.world_size
    training = train_loader(config, source, position=lambda: trainer.global_step, share=share)
    checking = plain_loader(config, validation, masks=True, share=share)
    val_sources = {name: len(part) for name, part in parts.items()} if config.data.sources else None
    with _one_line("the network cannot be built"):
        module = _build_module(config, trainer, steps, val_sources)
    if trainer.is_global_zero:
        _describe_run(config)
    with _failures_of_training(), _quiet_threads():
        trainer.fit(module, training, checking, ckpt_path=last if last.exists() else None, weights_only=True)
        if trainer.interrupted:
            raise KeyboardInterrupt
        metrics = _validate_end(trainer, module, checking)
    reasons: list[str] = []
    for part, lost in zip((source, validation), module.unread, strict=True):
        reasons += why_unread(part, _of_all_processes(lost, trainer.world_size))
    reasons = list(dict.fromkeys(reasons))  # sources of a run may share an image
    if unread is not None:
        unread += reasons
    elif trainer.is_global_zero:
        say_unread(reasons)
    if trainer.is_global_zero:
        # From the checkpoint: this process may hold only a part of the weights.
        save_weights(load_network(last)[0], config, config.output / WEIGHTS, metrics)
    trainer.strategy.barrier()
    return config.output / WEIGHTS


def _validate_end(trainer: L.Trainer, module: ForgeryModule, checking: Any) -> Mapping[str, float]:
    """The metrics of the final weights; where the last step was validated already, they are known."""
    step, metrics = module.validated
    if step != trainer.global_step:
        (metrics,) = trainer.validate(module, checking, verbose=False)
    return metrics


def _check_settings(config: TrainConfig, last: Path) -> None:
    """Raises InputError for a setting that the run in `last` cannot go on with; others are said to differ."""
    before = parse_config(convert_settings(read_checkpoint(last)["settings"]), str(last))
    for key, old, new in _differences(before.model_dump(mode="json"), config.model_dump(mode="json")):
        if key.startswith(FIXED) and not key.startswith(FREE):
            raise InputError(
                f"{config.output} was trained with {key} {old}, not {new}: resume it as it was, or choose "
                "another output"
            )
        if new is None and isinstance(old, dict):
            say(f"{config.output}: goes on without {key}")
        elif old is None and isinstance(new, dict):
            say(f"{config.output}: goes on with {key}, which is new")
        else:
            say(f"{config.output}: goes on with {key} {new}; until now it was {old}")


def _differences(
    old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, Any, Any]]:
    """Key, old value and new value of every setting that differs; None for a source that is not there."""
    for key in {**old, **new}:
        before, after = _by_name(old.get(key)), _by_name(new.get(key))
        if isinstance(before, dict) and isinstance(after, dict):
            yield from _differences(before, after, f"{prefix}{key}.")
        elif before != after:
            yield f"{prefix}{key}", old.get(key), new.get(key)


def _by_name(value: Any) -> Any:
    """Sources by their names, which tell them apart whatever their places; other values as they are."""
    named = isinstance(value, list) and all(isinstance(one, dict) and "name" in one for one in value)
    return {one["name"]: one for one in value} if named and value else value


def _check_classes(source: Source, validation: Mapping[str, Source]) -> None:
    """Raises InputError for training on one class and for nothing to validate on; one class there is said."""
    if not any(map(len, validation.values())):
        nothing = "holds no usable image" if validation else "is of no source: none has validate_on"
        raise InputError(f"the validation split {nothing}")
    if len(source) and not isinstance(source, Mixture) and (missing := missing_class(source)):
        raise InputError(f"the training split holds no {missing} image: nothing is learnt from one class")
    for name, part in validation.items():
        if missing := missing_class(part):
            split = f"the validation split of {name}" if name else "the validation split"
            say(f"{split} holds no {missing} image: AUC, map and accuracy mean nothing")


@contextmanager
def _one_line(what: str) -> Iterator[None]:
    """What libraries raise over settings and data that they cannot take becomes an InputError."""
    try:
        yield
    except (InputError, OSError, MemoryError):
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(f"{what}: {reason}") from error


@contextmanager
def _failures_of_training() -> Iterator[None]:
    """What is no bug becomes an InputError: a loss that is not finite, and what ends a process that reads."""
    try:
        yield
    except SystemExit:  # what Lightning makes of Ctrl-C
        raise KeyboardInterrupt from None
    except FloatingPointError as error:
        raise InputError(str(error)) from error
    except (InputError, RuntimeError) as error:
        text = str(error.args[0]) if error.args else ""
        if "DataLoader worker" not in text:
            raise
        if "Original Traceback" not in text:  # it was killed
            raise InputError(
                f"{' '.join(text.split())[:200]}: out of memory? Use fewer data.workers"
            ) from error
        kind, _, reason = text.strip().splitlines()[-1].partition(": ")
        if not kind.endswith(("InputError", "MediaError")):
            raise
        raise InputError(reason) from error


@contextmanager
def _quiet_threads() -> Iterator[None]:
    """No traceback of a thread that keeps its exception for the main thread, as TensorBoard's writer does."""
    shown = threading.excepthook

    def show(failure: threading.ExceptHookArgs) -> None:
        if getattr(failure.thread, "exception", None) is not failure.exc_value:
            shown(failure)

    threading.excepthook = show
    try:
        yield
    finally:
        threading.excepthook = shown


def _of_all_processes(found: set[int], processes: int) -> set[int]:
    """The union over all processes, each of which must call it."""
    if processes == 1:
        return found
    parts: list[set[int]] = [set() for _ in range(processes)]
    torch.distributed.all_gather_object(parts, found)
    return set().union(*parts)


def _open_training(config: DataConfig) -> Source:
    if config.sources:
        return open_mixture(config)
    return limited(open_source(config, config.train_split), config.train_images)


def _build_module(
    config: TrainConfig, trainer: L.Trainer, steps: int, val_sources: Mapping[str, int] | None
) -> ForgeryModule:
    network = _build_network(config)
    if config.optim.frozen_stride is not None:
        if not isinstance(network, ImageTokens):
            raise InputError(f"optim.frozen_stride: a network of kind {config.model.kind} has no such layers")
        network.backbone.freeze(config.optim.frozen_stride)
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
    callbacks: list[L.Callback] = [checkpoints, Curve(config.output), EndOnSigterm(checkpoints)]
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
            MetricsLog(config.output, every=config.log_steps),
        ],
        default_root_dir=config.output,
        plugins=[SealedCheckpoints()],
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
    settings = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
    write_atomic(config.output / "config.yaml", settings.encode())
    write_atomic(config.output / "environment.json", (json.dumps(environment(), indent=2) + "\n").encode())
