"""Sources as batches: a torch data set of aligned crops and the sampler that makes a run resumable."""

from collections.abc import Callable, Iterator
from typing import TypedDict

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from forgerank.data.sample import Source
from forgerank.data.transforms import AugmentConfig, to_tensors
from forgerank.labels import presence, ranks
from forgerank.types import InputError


class Item(TypedDict, total=False):
    """One face; a batch has the same keys with a leading B."""

    image: Tensor  # (3, S, S) uint8 RGB
    presence: Tensor  # (L,) float, Eq. 1
    ranks: Tensor  # (L,) long, Eq. 2
    masks: Tensor  # (L, m, m) float 0..1; only where a mask size is set
    index: Tensor  # () long, position in the source


class Crops(Dataset[Item]):
    """Aligned crops of a source, of `size` unless the key names another. The same (seed, draw, index) gives
    the same item.
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
    ) -> None:
        self.source = source
        self.size = size
        self.length = length
        self.seed = seed
        self.mask_size = mask_size
        self.augment = augment

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, key: int | tuple[int, int, int]) -> Item:
        draw, index, size = key if isinstance(key, tuple) else (0, key, self.size)
        rng = np.random.default_rng([self.seed, draw, index])
        picture = self.source.load(index, rng)
        try:
            tensors = to_tensors(
                picture,
                size=size,
                length=self.length,
                mask_size=self.mask_size,
                augment=self.augment,
                rng=rng,
            )
        except ValueError as error:
            raise InputError(f"{self.source.sample(index).image}: {error}") from error
        item = Item(
            image=torch.from_numpy(np.ascontiguousarray(tensors.image.transpose(2, 0, 1))),
            presence=torch.tensor(presence(picture.sequence, self.length), dtype=torch.float32),
            ranks=torch.tensor(ranks(picture.sequence, self.length)),
            index=torch.tensor(index),
        )
        if tensors.masks is not None:
            item["masks"] = torch.from_numpy(np.ascontiguousarray(tensors.masks))
        return item


class StreamBatches(Sampler[list[tuple[int, int, int]]]):
    """Batches of (draw, index, size) keys from an endless stream of shuffled passes over `count` items.

    Each iteration yields one epoch of `batches` batches, starting at the global batch that `position()`
    names: a run that is resumed within an epoch goes on with the very next batch.
    """

    def __init__(
        self,
        count: int,
        *,
        batch_size: int,
        batches: int,
        seed: int,
        position: Callable[[], int],
        size: Callable[[int], int],
    ) -> None:
        if count < 1:
            raise InputError("the training split holds no usable picture")
        self.count = count
        self.batch_size = batch_size
        self.batches = batches
        self.seed = seed
        self.position = position
        self.size = size  # of the crops of a batch, pixels

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[list[tuple[int, int, int]]]:
        first = self.position()
        last = (first // self.batches + 1) * self.batches
        order: tuple[int, np.ndarray[tuple[int], np.dtype[np.int64]]] | None = None
        for batch in range(first, last):
            keys: list[tuple[int, int, int]] = []
            for place in range(batch * self.batch_size, (batch + 1) * self.batch_size):
                draw, offset = divmod(place, self.count)
                if order is None or order[0] != draw:
                    order = draw, np.random.default_rng([self.seed, draw]).permutation(self.count)
                keys.append((draw, int(order[1][offset]), self.size(batch)))
            yield keys
