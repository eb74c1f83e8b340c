"""Sources as batches: a torch data set of aligned crops and the sampler that makes a run resumable."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypedDict, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from forgerank.data.augmentation import AugmentConfig, Level, Tensors, draw_level, to_tensors
from forgerank.data.sample import LabelledImage, Sample, Source
from forgerank.labels import face_labels
from forgerank.media.files import counted
from forgerank.types import InputError, Points

T = TypeVar("T")
ImageTest = Callable[[LabelledImage], int]
Share = tuple[int, int]  # (rank, processes): which part of every batch a process sees
ALONE: Share = (0, 1)
_TRIES = 20  # images that may be unreadable one after the other


class Key(NamedTuple):
    """Which item of a stream: the same key gives the same item."""

    draw: int  # number of the pass over the data, or of the batch
    item: int  # position in the source
    size: int  # side of the crop, pixels
    twin: int | None = None  # position of the image that must not differ in size and encoding


class Item(TypedDict, total=False):
    """One face; a batch has the same keys with a leading B."""

    image: Tensor  # (3, S, S) uint8 RGB
    presence: Tensor  # (L,) float, Eq. 1; 0 where unknown
    sequence: Tensor  # (L,) long, padded; 0 throughout where the order is unknown
    forged: Tensor  # () float in {0, 1}
    known: Tensor  # (L,) bool, whether the presence is
    ordered: Tensor  # () bool, whether the order is known
    whole: Tensor  # () bool, whether the whole image was resized in place of an alignment
    masks: Tensor  # (L, m, m) float 0..1; only where a mask size is set; 0 where unknown
    masks_known: Tensor  # (L,) bool, beside `masks`
    index: Tensor  # () long, position in the source
    judged: Tensor  # () long, `judgeable` of the image; only where that is asked for
    lost: Tensor  # () long, the same where the image cannot be read and another of its class is here; else -1


class Crops(Dataset[Item]):
    """Aligned crops of a source, of `size` unless the key names another. The same (seed, draw, index) gives
    the same item. An image that cannot be read is replaced by another of its class, and `lost` says so.
    `judgeable` gives `judged`; it sees the images as the source gives them.
    """

    def __init__(
        self,
        source: Source,
        *,
        size: int,
        length: int,
        seed: int = 0,
        mask_size: int | None = None,
        augment: AugmentConfig | None = None,
        zoom: float = 1.0,
        align: bool = True,
        judgeable: ImageTest | None = None,
    ) -> None:
        self.source = source
        self.judgeable = judgeable
        self.align = align
        self.zoom = zoom
        self.size = size
        self.length = length
        self.seed = seed
        self.mask_size = mask_size
        self.augment = augment

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, key: int | Key) -> Item:
        draw, index, size, twin = Key(*key) if isinstance(key, tuple) else Key(0, key, self.size)
        place, tries = index, _TRIES
        while True:
            try:
                image, tensors = self._load(draw, place, size, twin)
                break
            except InputError:
                tries -= 1
                if not tries:
                    raise
                place = self._another(draw, index, tries)
        truth = face_labels(image.sequence, self.length, parts=image.parts, fake=image.fake)
        item = Item(
            image=torch.from_numpy(np.ascontiguousarray(tensors.image.transpose(2, 0, 1))),
            presence=torch.tensor([part or 0 for part in truth.presence], dtype=torch.float32),
            sequence=torch.tensor(truth.sequence),
            forged=torch.tensor(float(truth.forged)),
            known=torch.tensor([part is not None for part in truth.presence]),
            ordered=torch.tensor(truth.ordered),
            whole=torch.tensor(image.points is None or not self.align),
            index=torch.tensor(index),
            lost=torch.tensor(-1 if place == index else index),
        )
        if self.judgeable is not None:
            item["judged"] = torch.tensor(self.judgeable(image))
        if tensors.masks is not None:
            item["masks"] = torch.from_numpy(np.ascontiguousarray(tensors.masks))
            # A label that was left alone has an empty mask, whether or not the image comes with masks.
            item["masks_known"] = torch.tensor(
                [part == 0 or (part == 1 and image.mask is not None) for part in truth.presence]
            )
        return item

    def _load(self, draw: int, index: int, size: int, twin: int | None) -> tuple[LabelledImage, Tensors]:
        rng = np.random.default_rng([self.seed, draw, index])
        image = self.source.load(index, rng)
        try:
            tensors = to_tensors(
                image,
                size=size,
                length=self.length,
                mask_size=self.mask_size,
                augment=self.augment,
                rng=rng,
                zoom=self.zoom,
                level=self._level(draw, index, twin, image),
                align=self.align,
            )
        except ValueError as error:
            raise InputError(f"{self.source.sample(index).image}: {error}") from error
        return image, tensors

    def _another(self, draw: int, index: int, tries: int) -> int:
        """The position of another image of the same class, real or forged, drawn from the key."""
        rng = np.random.default_rng([self.seed, draw, index, tries])
        order = rng.permutation(len(self.source))
        forged = self.source.sample(index).forged
        alike = (int(i) for i in order if i != index and self.source.sample(int(i)).forged == forged)
        return next(alike, index)

    def _level(self, draw: int, index: int, twin: int | None, image: LabelledImage) -> Level | None:
        """What both images of a pair go through, as seen from the first."""
        if twin is None or self.augment is None:
            return None
        # Chance of the pair, not of one of the two.
        rng = np.random.default_rng([self.seed, draw, *sorted((index, twin)), 1])
        return level_of_pair(self.source, index, twin, image, self.augment, rng)


def level_of_pair(
    source: Source,
    index: int,
    twin: int,
    image: LabelledImage,
    augment: AugmentConfig,
    rng: np.random.Generator,
) -> Level:
    """For `image`, the image at `index`, what brings it and the image at `twin` to one size and encoding;
    `rng` in the same state gives the twin's.
    """
    eyes = [eye_distance(source.sample(place)) for place in (index, twin)]
    level = draw_level(eyes[0], eyes[1], augment, rng)
    # A forge may have shrunk the image already.
    own = _eye_distance(image.points, source.sample(index))
    return level._replace(factor=min(1.0, level.factor * eyes[0] / max(own, 1.0)))


def eye_distance(sample: Sample) -> float:
    """Pixels of the image. Raises InputError where no points are known."""
    return _eye_distance(sample.points, sample)


def _eye_distance(points: Points | None, sample: Sample) -> float:
    if points is None:
        raise InputError(f"{sample.image}: no points of the face are known")
    return float(np.linalg.norm(points[1] - points[0]))


def shared_out(keys: list[T], parts: int, share: Share) -> Iterator[list[T]]:
    """A batch in `parts` pieces, and of each what this process is to see. InputError for a remainder."""
    rank, processes = share
    if len(keys) % (parts * processes):
        raise InputError(f"a batch of {len(keys)} cannot be split over {processes} processes x {parts} parts")
    count = len(keys) // (parts * processes)
    for part in range(parts):
        start = (part * processes + rank) * count
        yield keys[start : start + count]


def shuffled(groups: Sequence[str], together: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """A permutation of the items in which those of one group stand `together` at a time.

    With 1 it is a plain shuffle. A batch that shows the same face forged and not forged leaves less to tell
    its images apart but the forgery.
    """
    order = rng.permutation(len(groups))
    if together == 1:
        return order
    members: dict[str, list[int]] = {}
    for index in order.tolist():
        members.setdefault(groups[index], []).append(index)
    chunks = [some[i : i + together] for some in members.values() for i in range(0, len(some), together)]
    return np.concatenate([chunks[place] for place in rng.permutation(len(chunks))])


class StreamBatches(Sampler[list[Key]]):
    """Batches of keys from an endless stream of shuffled passes over the items.

    Each iteration yields one epoch of `batches` batches, starting at the global batch that `position()`
    names: a run that is resumed within an epoch goes on with the very next batch. With `parts` every batch
    comes in as many pieces, and with `share=(rank, processes)` of each piece only what this process is to
    see: together they make up the same batches, however many there are.
    """

    def __init__(
        self,
        groups: Sequence[str],
        *,
        batch_size: int,
        batches: int,
        seed: int,
        position: Callable[[], int],
        size: Callable[[int], int],
        together: int = 1,
        parts: int = 1,
        share: Share = ALONE,
    ) -> None:
        if not groups:
            raise InputError("the training split holds no usable image")
        list(shared_out(list(range(batch_size)), parts, share))  # refuses what cannot be split
        self.groups = groups  # of every item
        self.together = together
        self.batch_size = batch_size
        self.batches = batches
        self.seed = seed
        self.position = position
        self.size = size  # of the crops of a batch, pixels
        self.parts = parts
        self.share = share

    def __len__(self) -> int:
        return self.batches * self.parts

    def __iter__(self) -> Iterator[list[Key]]:
        first = self.position()
        last = (first // self.batches + 1) * self.batches
        order: tuple[int, NDArray[np.int64]] | None = None
        for batch in range(first, last):
            keys: list[Key] = []
            for place in range(batch * self.batch_size, (batch + 1) * self.batch_size):
                draw, offset = divmod(place, len(self.groups))
                if order is None or order[0] != draw:
                    rng = np.random.default_rng([self.seed, draw])
                    order = draw, shuffled(self.groups, self.together, rng)
                keys.append(Key(draw, int(order[1][offset]), self.size(batch)))
            yield from shared_out(keys, self.parts, self.share)


class EvenBatches(Sampler[list[int]]):
    """This process's share of `count` items, each item once, in as many batches on every process.

    Nothing is repeated to fill up, as a distributed sampler would: figures are those of the items. Yet all
    processes meet in every batch, as sharded weights need. A batch holds `batch_size` items over all
    processes, or a few less. Raises InputError where a process would have none.
    """

    def __init__(self, count: int, *, batch_size: int, share: Share = ALONE) -> None:
        rank, processes = share
        if count < processes:
            raise InputError(
                f"{counted(count, 'image')} cannot be split over {counted(processes, 'process', 'processes')}"
            )
        self.indices = np.arange(rank, count, processes)
        # Shares differ by one item at most: batches of two or more leave none of them empty.
        each = max(batch_size // processes, 1 if count % processes == 0 else 2)
        self.batches = math.ceil(math.ceil(count / processes) / each)

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[list[int]]:
        for batch in np.array_split(self.indices, self.batches):
            yield batch.tolist()
