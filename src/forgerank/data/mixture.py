"""Batches of several sources, half of each real and half forged, so that only the forgery separates them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from forgerank.data.augmentation import AugmentConfig, levelled
from forgerank.data.batches import ALONE, Key, Share, level_of_pair, shared_out
from forgerank.data.sample import LabelledImage, Sample, Source
from forgerank.types import InputError


@dataclass(frozen=True)
class Ingredient:
    """One source of a mixture."""

    name: str
    source: Source
    share: float = 1.0  # of a batch, relative to the others; 0: partner of others only
    partners: tuple[str, ...] = ()  # where a source of one class takes the other class from
    level: float | None = None  # share of its pairs brought to one size and encoding; None: that of all
    real: NDArray[np.int64] = field(init=False)  # positions in `source`
    forged: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        forged = np.array([self.source.sample(i).forged for i in range(len(self.source))], dtype=bool)
        object.__setattr__(self, "real", np.flatnonzero(~forged))
        object.__setattr__(self, "forged", np.flatnonzero(forged))

    @cached_property
    def forgery_of(self) -> dict[int, int]:
        """Positions of real images and of the forged ones of the same file, where the source has both."""
        made_of = {self.source.sample(i).image: i for i in self.forged.tolist()}
        files = {i: self.source.sample(i).image for i in self.real.tolist()}
        return {i: made_of[file] for i, file in files.items() if file in made_of}


class Mixture:
    """Several sources, one after the other, as one `Source` that knows which images are real.

    Raises InputError for a source of one class with a share but without a partner of the other, and for
    unknown partners.
    """

    def __init__(self, ingredients: Sequence[Ingredient]) -> None:
        self.ingredients = list(ingredients)
        self.starts = np.cumsum([0, *(len(part.source) for part in self.ingredients)])
        self._names = {part.name: number for number, part in enumerate(self.ingredients)}
        for part in self.ingredients:
            if unknown := [name for name in part.partners if name not in self._names]:
                raise InputError(f"{part.name}: no source is called {', '.join(unknown)}")
            for forged in (False, True) if part.share else ():
                self.pool(part, forged=forged)

    def __len__(self) -> int:
        return int(self.starts[-1])

    def sample(self, index: int) -> Sample:
        """The annotation at `index`."""
        number, place = self._find(index)
        return self.ingredients[number].source.sample(place)

    def load(self, index: int, rng: np.random.Generator) -> LabelledImage:
        """The image at `index`."""
        number, place = self._find(index)
        return self.ingredients[number].source.load(place, rng)

    def forgery_of(self, index: int) -> int | None:
        """The position of the forgery that a source makes of the real image at `index`; None without one."""
        number, place = self._find(index)
        own = self.ingredients[number].forgery_of.get(place)
        return None if own is None else own + int(self.starts[number])

    def pool(self, part: Ingredient, *, forged: bool) -> tuple[NDArray[np.int64], ...]:
        """Positions in the mixture of one class of a source, or where it lacks it of each partner's."""
        donors = [part] if len(part.forged if forged else part.real) else []
        donors = donors or [self.ingredients[self._names[name]] for name in part.partners]
        pools = [
            (donor.forged if forged else donor.real) + self.starts[self._names[donor.name]]
            for donor in donors
        ]
        pools = [pool for pool in pools if len(pool)]
        if not pools:
            kind = "forged" if forged else "real"
            raise InputError(f"{part.name}: holds no {kind} image: name partners that do")
        return tuple(pools)

    def _find(self, index: int) -> tuple[int, int]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        number = int(np.searchsorted(self.starts, index, side="right")) - 1
        return number, index - int(self.starts[number])


class _Pools(NamedTuple):
    real: tuple[NDArray[np.int64], ...]
    forged: tuple[NDArray[np.int64], ...]
    level: float  # share of the pairs that are brought to one size and encoding


class MixedBatches:
    """Batches of keys, half of them real: pairs of a real and a forged image, each pair out of one source, or
    of a source of one class and a partner.

    How many pairs a source gives follows its share, in every batch to within one. Images are drawn at random,
    from the seed and the batch's number alone: a resumed run goes on with the very next batch. The two images
    of a pair know each other, so that both can be brought to one size and encoding: all pairs out of two
    sources are, and of the others the share `level`. Where a source forges its own images, the share
    `same_face` of its pairs are an image and the forgery of that image. Otherwise as `StreamBatches`.
    """

    def __init__(
        self,
        mixture: Mixture,
        *,
        batch_size: int,
        batches: int,
        seed: int,
        position: Callable[[], int],
        size: Callable[[int], int],
        level: float = 0.5,
        same_face: float = 0.0,
        parts: int = 1,
        share: Share = ALONE,
    ) -> None:
        if batch_size % 2:
            raise InputError(f"a batch of {batch_size} cannot be half real and half forged")
        self.mixture, self.same_face = mixture, same_face
        self.batch_size, self.batches, self.seed = batch_size, batches, seed
        self.position, self.size = position, size
        self.parts, self.share = parts, share
        list(shared_out(list(range(batch_size)), parts, share))  # refuses what cannot be split
        self._pools = []
        chosen = [part for part in mixture.ingredients if part.share]
        if not chosen:
            raise InputError("no source has a share of the batches")
        for part in chosen:
            real, forged = mixture.pool(part, forged=False), mixture.pool(part, forged=True)
            mixed = not (len(part.real) and len(part.forged))
            own = level if part.level is None else part.level
            self._pools.append(_Pools(real, forged, 1.0 if mixed else own))
        shares = np.array([part.share for part in chosen])
        self._edges = np.cumsum(shares / shares.sum())

    def __len__(self) -> int:
        return self.batches * self.parts

    def __iter__(self) -> Iterator[list[Key]]:
        first = self.position()
        for batch in range(first, (first // self.batches + 1) * self.batches):
            yield from shared_out(self.keys(batch), self.parts, self.share)

    def keys(self, batch: int) -> list[Key]:
        """Of one batch, counted over the whole run."""
        rng = np.random.default_rng([self.seed, batch])
        pairs = self.batch_size // 2
        # One draw for all: every source gets its share to within one.
        places = (rng.random() + np.arange(pairs)) / pairs
        chosen = np.minimum(np.searchsorted(self._edges, places, side="right"), len(self._pools) - 1)
        size = self.size(batch)
        keys = []
        for number in rng.permutation(chosen).tolist():
            pools = self._pools[number]
            real, forged = (
                int(rng.choice(some[rng.integers(len(some))])) for some in (pools.real, pools.forged)
            )
            own = self.mixture.forgery_of(real) if self.same_face else None
            if own is not None and rng.random() < self.same_face:
                forged = own
            together = bool(rng.random() < pools.level)
            keys += [
                Key(batch, real, size, forged if together else None),
                Key(batch, forged, size, real if together else None),
            ]
        return keys


class Levelled:
    """A source whose images are brought in pairs, one of each class, to one size and encoding, as training
    brings its own: for evaluation where the two classes were photographed or saved differently.

    Which images make a pair and what both go through follow from the seed. Where one class has fewer images
    each of them stands in several pairs, and itself goes through what the first of those says. Raises
    InputError for a source of one class.
    """

    def __init__(self, source: Source, augment: AugmentConfig, *, seed: int) -> None:
        self.source, self.augment, self.seed = source, augment, seed
        part = Ingredient("", source)
        if not (len(part.real) and len(part.forged)):
            raise InputError("images of one class have none of the other to be brought to one size with")
        rng = np.random.default_rng(seed)
        real, forged = rng.permutation(part.real), rng.permutation(part.forged)
        self._twins = np.empty(len(source), dtype=np.int64)
        self._twins[real] = np.resize(forged, len(real))
        self._twins[forged] = np.resize(real, len(forged))

    def __len__(self) -> int:
        return len(self.source)

    def sample(self, index: int) -> Sample:
        """The annotation at `index`, its points those of the stored image."""
        return self.source.sample(index)

    def load(self, index: int, rng: np.random.Generator) -> LabelledImage:
        """The image at `index`, brought to the size and encoding of its pair."""
        labelled = self.source.load(index, rng)
        twin = int(self._twins[index])
        own = np.random.default_rng([self.seed, *sorted((index, twin))])
        level = level_of_pair(self.source, index, twin, labelled, self.augment, own)
        image = levelled(labelled.image, level)
        size = image.shape[1::-1]
        factors = np.divide(size, labelled.image.shape[1::-1])
        mask = labelled.mask
        if mask is not None:
            mask = np.asarray(cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST), dtype=np.uint8)
        points = None if labelled.points is None else (labelled.points * factors).astype(np.float32)
        return labelled._replace(image=image, points=points, mask=mask)
