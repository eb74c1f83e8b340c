"""Near-duplicate pictures by perceptual hash, found without comparing each with each."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PILImage

from forgerank.types import Image

BITS = 64
_FLAT = 2.0  # grey levels: a picture with less contrast has no hash that means anything
_ROWS = 1024  # of a comparison at a time: bounds its memory
_ONES = np.array([value.bit_count() for value in range(1 << 16)], dtype=np.uint8)

Hashes = NDArray[np.uint64]


def perceptual_hash(image: Image) -> int | None:
    """64 bits that a resize or another compression hardly changes; None for a flat picture."""
    import imagehash

    picture = PILImage.fromarray(image).convert("L")
    if np.asarray(picture.resize((32, 32), PILImage.Resampling.BOX)).std() < _FLAT:
        return None
    return int(str(imagehash.phash(picture)), 16)


def nearest_earlier(
    hashes: Sequence[int], ranks: Sequence[int], *, distance: int
) -> dict[int, tuple[int, int]]:
    """For each picture the nearest one of a lower rank, where one differs in at most `distance` of 64 bits.

    Returns position -> (position of the nearest, bits that differ). Two hashes that differ in d bits are
    equal in at least one of d + 1 bands of bits, so only those that share a band are compared.
    """
    if not hashes:
        return {}
    pairs = np.array([ranks, hashes], dtype=np.uint64)  # (2, N)
    nodes, first, inverse = np.unique(pairs, axis=1, return_index=True, return_inverse=True)
    order, values = nodes[0].astype(np.int64), nodes[1]
    best = np.full(len(values), BITS + 1)
    partner = np.zeros(len(values), dtype=np.int64)
    for low, high in _bands(distance + 1):
        keys = (values >> np.uint64(low)) & np.uint64((1 << (high - low)) - 1)
        for members in _runs(keys):
            _compare(members, values, order, best, partner)
    return {
        place: (int(first[partner[node]]), int(best[node]))
        for place, node in enumerate(inverse.ravel().tolist())
        if best[node] <= distance
    }


def _bands(count: int) -> list[tuple[int, int]]:
    edges = [round(part * BITS / count) for part in range(count + 1)]
    return list(pairwise(edges))


def _runs(keys: Hashes) -> list[NDArray[np.int64]]:
    """Positions of equal keys, for keys that occur more than once."""
    order = np.argsort(keys, kind="stable")
    runs = np.split(order, np.flatnonzero(np.diff(keys[order])) + 1)
    return [run for run in runs if len(run) > 1]


def _compare(
    members: NDArray[np.int64],
    values: Hashes,
    order: NDArray[np.int64],
    best: NDArray[np.int64],
    partner: NDArray[np.int64],
) -> None:
    """Bring `best` and `partner` up to date for members that may be near to each other."""
    for start in range(0, len(members), _ROWS):
        rows = members[start : start + _ROWS]
        changed = values[rows][:, None] ^ values[members][None, :]  # (R, M)
        counts = _ONES[changed.view(np.uint16).reshape(*changed.shape, 4)].sum(axis=2, dtype=np.int64)
        counts[order[rows][:, None] <= order[members][None, :]] = BITS + 1
        nearest = counts.argmin(axis=1)
        found = counts[np.arange(len(rows)), nearest]
        better = found < best[rows]
        best[rows[better]] = found[better]
        partner[rows[better]] = members[nearest[better]]
