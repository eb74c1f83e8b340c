"""The network in training as a LightningModule: losses, optimiser, schedule, averaged weights, validation."""

import copy
import math
import time
from collections.abc import Mapping
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from forgerank.data.batches import Item
from forgerank.labels import largest_first
from forgerank.losses.total import LOSSES, Targets
from forgerank.metrics.scores import Scores, to_scores
from forgerank.metrics.torchmetric import SequenceMetrics
from forgerank.model.baselines import TEACHER_FORCED
from forgerank.train.config import OptimConfig, TrainConfig
from forgerank.train.sharding import own_tensors, shard_blocks
from forgerank.train.sharpness import Ascent

ASCENT_PART = 4  # the way up is chosen by a quarter of the batch: a step costs a quarter more
VALIDATED = ("auc", "map", "accuracy", "fixed", "adaptive", "order")  # metrics that are logged under val/


def learning_rate_factor(progress: float, config: OptimConfig) -> float:
    """The learning rate relative to its configured value, 0..1, at `progress` (0..1) of a run.

    Not one of torch's schedulers: these count steps, while `progress` may follow the clock (`max_minutes`).
    """
    if progress < config.warmup:
        return progress / config.warmup
    if config.schedule == "step":
        return float(config.gamma ** sum(progress >= milestone for milestone in config.milestones))
    rest = min(1.0, (progress - config.warmup) / (1 - config.warmup))
    return config.min_lr_factor + (1 - config.min_lr_factor) * (1 + math.cos(math.pi * rest)) / 2


def to_images(batch: Item, *, channels_last: bool = False, device: torch.device | None = None) -> Tensor:
    """The images of a batch as the network takes them: (B, 3, S, S) float 0..1, on `device` if given.

    A batch holds uint8, which becomes float on the device only: a quarter of the bytes is moved there.
    """
    images = batch["image"].to(device=device).float().div_(255)
    return images.contiguous(memory_format=torch.channels_last) if channels_last else images


class ForgeryModule(L.LightningModule):
    """Trains `network`; `average` is a copy with the exponential moving average of its weights.

    The averaged network is validated and saved.
    """

    def __init__(
        self,
        config: TrainConfig,
        network: nn.Module,
        *,
        max_steps: int,
        val_sources: Mapping[str, int] | None = None,
    ) -> None:
        """max_steps: of the whole run. val_sources: number of validation images of each source, in the order
        of the loader; None: there are no sources.
        """
        super().__init__()
        self.config = config
        self.max_steps = max_steps
        layout = torch.channels_last if config.channels_last else torch.contiguous_format
        self.network = network.to(memory_format=layout)
        self.average = copy.deepcopy(self.network).requires_grad_(False)
        self._elapsed_before = 0.0  # seconds of the earlier sessions of this run
        self._started = time.monotonic()
        self.elapsed_minutes = 0.0  # of the run so far, over all its sessions
        self._batch_ended: float | None = None
        self._waited = 0.0  # seconds without a batch, since the session began
        self.losses = LOSSES[config.model.kind]
        radius = config.optim.sharpness
        self._ascent = Ascent(self.network.parameters(), radius) if radius else None
        self.metrics = SequenceMetrics(config.model.components, config.loss.order)
        self.val_sources = dict(val_sources or {})
        self._ends = torch.tensor(list(self.val_sources.values())).cumsum(0)
        self.by_source = nn.ModuleList(
            SequenceMetrics(config.model.components, config.loss.order) for _ in self.val_sources
        )
        # positions of images that could not be read, in training and in validation, since the session began
        self.unread: tuple[set[int], set[int]] = (set(), set())
        self._row: tuple[int, dict[str, Tensor | float]] = (0, {})  # step and metrics of the last batch
        self.resumed_row: tuple[int, dict[str, float]] = (0, {})  # that of the checkpoint, where there is one
        self.curve: list[dict[str, float | str]] = []  # of the last validation, a row for each source
        self.validated: tuple[int, Mapping[str, float]] = (-1, {})  # step and metrics of the last validation

    def configure_model(self) -> None:
        """Shard both networks over the processes, in the same way, where the strategy is FSDP."""
        if self.device_mesh is not None:
            for network in (self.network, self.average):
                shard_blocks(network, self.device_mesh["data_parallel"])

    @property
    def progress(self) -> float:
        """The share of the run that is over, 0..1: by steps or by the clock, whichever is larger."""
        by_steps = self.global_step / self.max_steps
        by_clock = self.elapsed_minutes / self.config.max_minutes if self.config.max_minutes else 0.0
        return min(1.0, max(by_steps, by_clock))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW, with a separate rate for the backbone, without weight decay for one-dimensional tensors."""
        optim = self.config.optim
        groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
        for name, parameter in self.network.named_parameters():
            if parameter.requires_grad:
                key = name.startswith("backbone."), parameter.ndim > 1
                groups.setdefault(key, []).append(parameter)
        return torch.optim.AdamW(
            [
                {
                    "params": parameters,
                    "lr": optim.backbone_lr if backbone else optim.lr,
                    "full_lr": optim.backbone_lr if backbone else optim.lr,
                    "weight_decay": optim.weight_decay if decays else 0.0,
                }
                for (backbone, decays), parameters in groups.items()
            ]
        )

    def on_fit_start(self) -> None:
        """Start the clock: reading the data set before does not count."""
        self._started = time.monotonic()
        self._read_clock()
        self._batch_ended, self._waited = None, 0.0

    def on_train_batch_start(self, batch: Item, batch_idx: int) -> None:
        """Set the seed from the number of the step, its part and the process, and the learning rate from the
        step: a resumed run repeats both exactly.
        """
        if self._batch_ended is not None:
            self._waited += time.monotonic() - self._batch_ended
        self._read_clock()
        part = self.global_step * self.config.accumulate + batch_idx % self.config.accumulate
        stream = part * self.trainer.world_size + self.trainer.global_rank
        torch.manual_seed((self.config.seed << 32) + stream)
        # Half a step is added: steps are counted from 0, where the warm-up has rate 0.
        factor = learning_rate_factor(min(1.0, self.progress + 0.5 / self.max_steps), self.config.optim)
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = group["full_lr"] * factor
        if self._ascent is not None:
            # The first images: pairs of both classes, in random order. Each process climbs by its own.
            count = max(2, len(batch["index"]) // ASCENT_PART)
            some = Item(**{name: value[:count] for name, value in batch.items()})  # type: ignore[typeddict-item, index]
            with self.trainer.precision_plugin.train_step_context():
                loss = self._losses_of(some)["total"]
            self._ascent.climb(loss)

    def on_after_backward(self) -> None:
        """Take the step from where the weights were, with the gradient of where they are."""
        if self._ascent is not None:
            self._ascent.descend()

    def _losses_of(self, batch: Item) -> dict[str, Tensor]:
        inputs = [to_images(batch, channels_last=self.config.channels_last)]
        if self.config.model.kind in TEACHER_FORCED:
            inputs.append(largest_first(batch["sequence"], self.config.loss.order))
        return self.losses(self.network(*inputs), to_targets(batch), self.config.loss)

    def training_step(self, batch: Item, batch_idx: int) -> Tensor:
        """The loss on one batch, Eq. 15 or a baseline's. Raises FloatingPointError where it is not finite."""
        losses = self._losses_of(batch)
        total = losses["total"]
        if not torch.isfinite(total):
            terms = {name: float(value.detach()) for name, value in losses.items()}
            raise FloatingPointError(f"the loss is not finite at step {self.global_step}: {terms}")
        values = {f"train/{name}": value.detach() for name, value in losses.items()}
        self.log_dict({name: value for name, value in values.items() if name != "train/total"})
        self.log("train/total", values["train/total"], prog_bar=True)
        self.log("train/lr", self.trainer.optimizers[0].param_groups[0]["lr"])
        # The share of this session spent waiting for batches.
        spent = max(time.monotonic() - self._started, 1e-9)
        self.log("time/waited", self._waited / spent)
        self.unread[0].update(unread_of(batch))
        rate = self.trainer.optimizers[0].param_groups[0]["lr"]
        self._row = self.global_step, values | {"train/lr": rate, "time/waited": self._waited / spent}
        return total

    def on_train_batch_end(self, *_: Any) -> None:
        """Start to measure how long the next batch takes."""
        self._batch_ended = time.monotonic()

    def on_validation_start(self) -> None:
        """Do not count validation as waiting."""
        self._batch_ended = None

    def optimizer_step(self, *args: Any, **options: Any) -> None:
        """Step, and update the moving average here, so that every checkpoint has both after the same step."""
        super().optimizer_step(*args, **options)
        # A smaller decay at the beginning: else the initial weights would stay in the average for long.
        # torch's AveragedModel would overwrite the average in the first step, and average integers as well.
        decay = min(self.config.ema_decay, self.global_step / (10 + self.global_step))
        with torch.no_grad():
            means, values = own_tensors(self.average), own_tensors(self.network)
            floats = [i for i, mean in enumerate(means) if mean.is_floating_point()]
            torch._foreach_lerp_([means[i] for i in floats], [values[i] for i in floats], 1 - decay)

    def validation_step(self, batch: Item, batch_idx: int) -> None:
        """Log the losses of the averaged network and add its scores to the metrics."""
        self.average.eval()
        output = self.average(to_images(batch, channels_last=self.config.channels_last))
        losses = self.losses(output, to_targets(batch), self.config.loss)
        self.log_dict(
            {f"val/loss_{name}": loss for name, loss in losses.items()},
            # As a float: Lightning would round an integer down when it averages over processes.
            batch_size=float(len(batch["index"])),  # type: ignore[arg-type]
            sync_dist=True,
        )
        scores = to_scores(output, self.config.loss)
        unread = unread_of(batch)
        self.unread[1].update(unread)
        # Another image came in the place of one that cannot be read: it counts once.
        kept = torch.tensor([int(i) not in unread for i in batch["index"]]).to(scores.probability.device)
        add_to_metrics(self.metrics, scores, batch, kept)
        if not self.val_sources:
            return
        numbers = torch.searchsorted(self._ends, batch["index"].cpu(), right=True)
        for number in sorted(set(numbers.tolist())):
            metrics = self.by_source[number]
            assert isinstance(metrics, SequenceMetrics)
            rows = (numbers == number).to(scores.probability.device) & kept
            add_to_metrics(metrics, scores, batch, rows)

    def on_validation_epoch_end(self) -> None:
        """Log the metrics over the images of all processes; they choose the best checkpoint.

        With several sources `val/sources` is the mean of their AUCs in which the lowest counts twice.
        """
        values = self.metrics.compute()
        self.metrics.reset()
        known = {f"val/{name}": values[name] for name in VALIDATED if not values[name].isnan()}
        if self.val_sources:
            known |= self._validate_sources()
        self.log_dict(known, prog_bar=True, sync_dist=True)

    def on_validation_end(self) -> None:
        """Keep the metrics, which Lightning has averaged over the batches and the processes by now."""
        metrics = self.trainer.callback_metrics
        self.validated = (
            self.global_step,
            {name: float(value) for name, value in metrics.items() if name.startswith("val/")},
        )

    def _validate_sources(self) -> dict[str, Tensor]:
        self.curve = []
        areas = []
        for name, metrics in zip(self.val_sources, self.by_source, strict=True):
            assert isinstance(metrics, SequenceMetrics)
            values = metrics.compute()
            metrics.reset()
            self.curve.append({"source": name} | {key: float(values[key]) for key in VALIDATED})
            areas.append(values["auc"])
        defined = torch.stack([area for area in areas if not area.isnan()] or [torch.tensor(torch.nan)])
        return {"val/sources": (defined.sum() + defined.min()) / (len(defined) + 1)}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the settings, the elapsed time and the metrics of the last step with the weights."""
        checkpoint["settings"] = self.config.model_dump(mode="json")
        self._read_clock()
        checkpoint["elapsed_seconds"] = self.elapsed_minutes * 60
        step, row = self._row
        metrics = {name: float(value) for name, value in row.items()}
        checkpoint["logged"] = {"step": step, "metrics": metrics | {"epoch": self.current_epoch}}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the time of the earlier sessions to the clock."""
        self._elapsed_before = float(checkpoint["elapsed_seconds"])
        if logged := checkpoint.get("logged"):  # earlier versions saved none
            self.resumed_row = logged["step"], logged["metrics"]

    def _read_clock(self) -> None:
        seconds = self._elapsed_before + time.monotonic() - self._started
        if self.config.max_minutes is not None:
            # All processes use the first one's clock: their rates and their last step must be the same.
            seconds = self.trainer.strategy.broadcast(seconds)
        self.elapsed_minutes = seconds / 60


def unread_of(batch: Item) -> set[int]:
    """Positions in the source of the images in whose place another came, as they cannot be read."""
    if "lost" not in batch:
        return set()
    return {int(index) for index in batch["lost"].tolist() if index >= 0}


def add_to_metrics(metrics: SequenceMetrics, scores: Scores, batch: Item, rows: Tensor | None = None) -> None:
    """Add the scores and labels of a batch, or of the rows where `rows`, (B,) bool, is true."""
    if rows is None:
        rows = torch.ones(len(scores.probability), dtype=torch.bool, device=scores.probability.device)
    known = {name: batch.get(name) for name in ("forged", "known", "ordered")}
    some = {name: value[rows] if isinstance(value, Tensor) else None for name, value in known.items()}
    metrics.update(
        scores.probability[rows],
        scores.components[rows],
        scores.order[rows],
        batch["presence"][rows],
        batch["sequence"][rows],
        None if scores.sequences is None else scores.sequences[rows],
        forged=some["forged"],
        known=some["known"],
        ordered=some["ordered"],
    )


def to_targets(batch: Item) -> Targets:
    """What the losses compare with, out of a batch of a loader; without masks where it has none."""
    return Targets(
        batch["presence"],
        batch["sequence"],
        batch.get("masks"),
        batch.get("forged"),
        batch.get("known"),
        batch.get("ordered"),
        batch.get("masks_known"),
    )
