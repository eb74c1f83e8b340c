"""Data sources and data loaders of a training run, from its settings."""

import math
import os
import signal
import socket
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from multiprocessing import get_all_start_methods, get_context
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.text import Text
from torch.utils.data import DataLoader

from forgerank.data.augmentation import AugmentConfig
from forgerank.data.batches import ALONE, Crops, EvenBatches, ImageTest, Item, Share, StreamBatches
from forgerank.data.forge_sources import FORGED_PHOTOS
from forgerank.data.formats.registry import open_dataset
from forgerank.data.mixture import Ingredient, Levelled, MixedBatches, Mixture
from forgerank.data.prepare.points import detect_points
from forgerank.data.sample import LabelledImage, Sample, Samples, Source
from forgerank.files import os_reason
from forgerank.media.files import counted
from forgerank.metrics.detection import lacking_class
from forgerank.processes import check_shared_memory, end_with_parent
from forgerank.train.config import DataConfig, SourceConfig, TrainConfig
from forgerank.types import InputError


@dataclass(frozen=True)
class Joined:
    """Several sources, concatenated."""

    parts: Sequence[Source]

    def __len__(self) -> int:
        return sum(len(part) for part in self.parts)

    def sample(self, index: int) -> Sample:
        """The annotation at `index`."""
        part, index = self._find(index)
        return part.sample(index)

    def load(self, index: int, rng: np.random.Generator) -> LabelledImage:
        """The image at `index`."""
        part, index = self._find(index)
        return part.load(index, rng)

    def _find(self, index: int) -> tuple[Source, int]:
        for part in self.parts:
            if index < len(part):
                return part, index
            index -= len(part)
        raise IndexError(index)


def joined(parts: Sequence[Source]) -> Source:
    """Several sources, at least one, as one."""
    return parts[0] if len(parts) == 1 else Joined(parts)


def open_source(
    config: DataConfig, split: str, *, roots: Sequence[Path] | None = None, keep_faceless: bool = False
) -> Source:
    """The images of one split, each with its five facial points unless `config.align` is off.

    Where a data set has no points, a face is detected. Images without one are left out or, with
    `keep_faceless`, judged as a whole; either way their number is printed.
    """
    places = config.roots if roots is None else roots
    options = {**config.options, "length": len(config.labels)}
    parts = [open_dataset(config.dataset, root, split, **options) for root in places]
    on_disk = [part for part in parts if isinstance(part, Samples)]
    samples = [sample for part in on_disk for sample in part.samples]
    if not config.align or len(on_disk) < len(parts) or all(s.points is not None for s in samples):
        return joined(parts)
    searched = detect_points(samples, cache=config.points_cache)
    kept = [sample for sample in searched if sample.points is not None]
    if len(kept) < len(searched):
        fate = "judged on the whole image" if keep_faceless else "left out"
        count = counted(len(searched), f"image of {split}", f"images of {split}")
        Console(stderr=True).print(f"no face in {len(searched) - len(kept):,} of {count}: {fate}")
    return Samples(searched if keep_faceless else kept)


def missing_class(source: Source) -> str | None:
    """The class, real or forged, that a source holds no image of; None for neither, and for a forge."""
    samples = [source.sample(index) for index in range(len(source))]
    if any(sample.dataset == FORGED_PHOTOS for sample in samples):
        return None
    return lacking_class([sample.forged for sample in samples])


def why_unread(source: Source, indices: Iterable[int]) -> list[str]:
    """Why the images at some positions cannot be read, a line for each."""
    reasons = []
    for index in sorted(indices):
        try:
            source.load(index, np.random.default_rng(0))
        except InputError as error:
            reasons.append(str(error))
        else:
            reasons.append(f"{source.sample(index).image}: could not be used when it was asked for")
    return reasons


def say_unread(reasons: Iterable[str]) -> None:
    """The images that cannot be read, on standard error."""
    for reason in reasons:
        Console(stderr=True).print(Text(f"left out: {reason}"), soft_wrap=True)


def limited(source: Source, count: int | None) -> Source:
    """`count` images, evenly spread over the source; None, or more than there are: all."""
    if count is None or count >= len(source):
        return source
    return _Subset(source, np.linspace(0, len(source) - 1, count).round().astype(int).tolist())


@dataclass(frozen=True)
class _Subset:
    source: Source
    indices: Sequence[int]

    def __len__(self) -> int:
        return len(self.indices)

    def sample(self, index: int) -> Sample:
        return self.source.sample(self.indices[index])

    def load(self, index: int, rng: np.random.Generator) -> LabelledImage:
        return self.source.load(self.indices[index], rng)


class StreamLoader(DataLoader[Item]):
    """A loader without state: the trainer's step decides which batch is next."""

    def state_dict(self) -> dict[str, Any]:
        """Empty: `StreamBatches.position` gives the position."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to restore."""


def open_mixture(config: DataConfig) -> Mixture:
    """The training split of every source. Raises InputError where neither it nor a partner has a class."""
    return Mixture(
        [
            Ingredient(
                source.name,
                _open_one(config, source, config.train_split),
                source.share,
                source.partners,
                source.level,
            )
            for source in config.sources
        ]
    )


def open_validation(config: DataConfig) -> dict[str, Source]:
    """The validation split of each source by its name, or the one of `roots` under an empty name.

    A source with one class only, real or forged, gets the other one from its partners, so that each has an
    AUC. Where the classes come from two sources, or the pairs of a source are always levelled in training,
    each image is brought to the same size and encoding as one of the other class here too.
    """
    if not config.sources:
        source = open_source(config, config.val_split, roots=config.val_roots, keep_faceless=True)
        return {"": limited(source, config.val_images)}
    opened = {
        source.name: Ingredient(source.name, _open_one(config, source, config.val_split))
        for source in config.sources
    }
    found: dict[str, Source] = {}
    for wanted in config.sources:
        if not wanted.validate_on:
            continue
        own = opened[wanted.name]
        parts: list[Source] = [limited(own.source, config.val_images)]
        for forged in (False, True):
            if len(own.forged if forged else own.real):
                continue
            partners = [opened[name] for name in wanted.partners]
            indices = [partner.forged if forged else partner.real for partner in partners]
            count = None if config.val_images is None else -(-config.val_images // max(len(partners), 1))
            parts += [
                limited(_Subset(partner.source, places.tolist()), count)
                for partner, places in zip(partners, indices, strict=True)
                if len(places)
            ]
        whole = joined(parts)
        levelled = len(parts) > 1 or wanted.level == 1
        if levelled and len({whole.sample(index).forged for index in range(len(whole))}) == 2:
            whole = Levelled(whole, config.augment, seed=0)
        found[wanted.name] = whole
    return found


def _open_one(config: DataConfig, source: SourceConfig, split: str) -> Source:
    one = config.model_copy(
        update={"dataset": source.dataset, "roots": source.roots, "options": source.options, "sources": ()}
    )
    return open_source(one, split)


def train_loader(
    config: TrainConfig, source: Source, *, position: Callable[[], int], share: Share = ALONE
) -> StreamLoader:
    """Augmented crops without end; `position` returns the number of batches that were already trained on.

    Each batch comes in `accumulate` parts, of which this process gets its share.
    """
    data = config.data
    crops = open_crops(config, source, masks=True, augment=data.augment)
    stream: dict[str, Any] = {
        "batch_size": config.batch_size,
        "batches": batches_per_epoch(config, len(source)),
        "seed": config.seed,
        "position": position,
        "size": lambda batch: crop_size(config, batch, len(source)),
        "parts": config.accumulate,
        "share": share,
    }
    batches: Any
    if isinstance(source, Mixture):
        batches = MixedBatches(source, level=data.level, same_face=data.same_face, **stream)
    else:
        groups = [source.sample(index).group for index in range(len(source))]
        batches = StreamBatches(groups, together=data.together, **stream)
    return StreamLoader(crops, batch_sampler=batches, **_worker_options(data.workers, share))


def open_crops(
    config: TrainConfig,
    source: Source,
    *,
    masks: bool,
    augment: AugmentConfig | None,
    judgeable: ImageTest | None = None,
) -> Crops:
    """The crops of a source as the network of `config` takes them."""
    return Crops(
        source,
        size=config.model.input_size,
        length=len(config.data.labels),
        seed=config.seed,
        mask_size=config.data.mask_size if masks else None,
        augment=augment,
        zoom=config.model.zoom,
        align=config.data.align,
        judgeable=judgeable,
    )


def crop_size(config: TrainConfig, batch: int, count: int) -> int:
    """Side of the crops of one batch, in pixels; batches are counted from 0 over the whole run."""
    if not config.early_size:
        return config.model.input_size
    share = config.early_share
    if config.mixed_sizes:
        early = math.floor((batch + 1) * share) > math.floor(batch * share)
    else:
        early = batch < share * config.epochs * batches_per_epoch(config, count)
    return config.early_size if early else config.model.input_size


def batches_per_epoch(config: TrainConfig, count: int) -> int:
    """Whole batches between two validations, at least one. Raises InputError for an empty split."""
    if count == 0:
        raise InputError("the training split holds no usable image")
    return max(1, (config.images_per_epoch or count) // config.batch_size)


def plain_loader(
    config: TrainConfig,
    source: Source,
    *,
    masks: bool = False,
    augment: AugmentConfig | None = None,
    judgeable: ImageTest | None = None,
    share: Share = ALONE,
) -> DataLoader[Item]:
    """Each image once, in order, or this process's share of them; augmented only where `augment` is given."""
    crops = open_crops(config, source, masks=masks, augment=augment, judgeable=judgeable)
    batches = EvenBatches(len(source), batch_size=config.batch_size // config.accumulate, share=share)
    return DataLoader(crops, batch_sampler=batches, **_worker_options(config.data.workers, share))


def _worker_options(workers: int, share: Share = ALONE) -> dict[str, Any]:
    # A generator of its own: drawing the workers' seeds must not advance the generator of training.
    options: dict[str, Any] = {"num_workers": workers, "generator": torch.Generator().manual_seed(0)}
    if workers:
        check_shared_memory()
        _check_temporary_folder()
        options |= {"persistent_workers": True, "worker_init_fn": _start_worker, "prefetch_factor": 4}
        if share != ALONE and "forkserver" in get_all_start_methods():
            options["multiprocessing_context"] = _fork_server()
    return options


def _fork_server() -> ForkServerContext:
    """Forks workers from a process of one thread. Gloo's threads, in processes that train together, take the
    lock of CPython's thread states: a worker that is forked from among them may wait for it for ever.
    """
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__])  # imported once, not by each worker
    return context


def _check_temporary_folder() -> None:
    """Raises InputError where no socket can be in it: workers pass batches on through these, or hang."""
    try:
        place = tempfile.gettempdir()
    except FileNotFoundError as error:
        raise InputError(f"data.workers: {os_reason(error)}") from None
    if not hasattr(socket, "AF_UNIX"):
        return
    try:  # under names as long as multiprocessing's
        with tempfile.TemporaryDirectory(prefix="pymp-") as folder, socket.socket(socket.AF_UNIX) as trial:
            trial.bind(os.path.join(folder, "listener-01234567"))
    except OSError as error:
        raise InputError(
            f"data.workers: {place}: no sockets can be made in this folder for temporary files "
            f"({os_reason(error)}): set TMPDIR to another"
        ) from None


def _start_worker(worker: int) -> None:
    end_with_parent()  # PyTorch looks at the process that forked it, which lives on where that is a server
    torch.set_num_threads(1)
    # Where a whole group of processes is told to end, the main one decides when: it wants a checkpoint first.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if not torch.cuda.is_available():
        # On the CPU a worker that takes a core from one training thread makes all of them wait.
        os.nice(9)
