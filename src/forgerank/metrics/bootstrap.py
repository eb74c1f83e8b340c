"""Percentile bootstrap over groups: all images of a person are drawn together."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Interval(NamedTuple):
    """A statistic with its interval."""

    value: float
    low: float
    high: float


def bootstrap_interval(
    statistic: Callable[[NDArray[np.int64]], float],
    groups: Sequence[str],
    *,
    resamples: int = 500,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """The statistic of all rows and the percentile interval over resampled groups.

    `statistic` takes row indices, with repetitions. Resamples where it is NaN are left out. The bounds are
    NaN if that leaves none, and with a single group.
    """
    _, codes = np.unique(np.asarray(groups), return_inverse=True)
    members = np.split(np.argsort(codes, kind="stable"), np.cumsum(np.bincount(codes))[:-1])
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(resamples if len(members) > 1 else 0):
        drawn = rng.integers(len(members), size=len(members))
        values.append(statistic(np.concatenate([members[group] for group in drawn])))
    kept = np.array(values)[~np.isnan(values)]
    tail = (1 - level) / 2
    low, high = np.quantile(kept, [tail, 1 - tail]) if len(kept) else (np.nan, np.nan)
    return Interval(statistic(np.arange(len(codes))), float(low), float(high))
