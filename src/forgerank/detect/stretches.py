"""Forged stretches of a track: runs of forged moments that are too long for a real face.

Of real faces, 1 % reach the threshold of "forged": so it was chosen; a single face may do so more often. The
moments of a track that do are modelled as a stationary Markov chain with the face's own rate, whose
correlation falls exponentially with the time between two moments. A run is a finding if a real face shows
one as long anywhere in so many moments with a probability of at most 1 %, and if it has as many moments as a
verdict needs. docs/video.md says how the numbers were chosen.
"""

from collections.abc import Sequence
from functools import cache
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from forgerank.detect.pooling import MIN_USABLE
from forgerank.detect.result import Stretch

FALSE_ALARMS = 0.01  # of tracks of real faces that get a stretch, at most
REAL_RATE = 0.01  # of real faces at or above the threshold of "forged"; no face is tested at less
CORRELATION_TIME = 0.55  # seconds in which the correlation of two moments falls to 1 / e
UNSEEN = 1.0  # forged moments that a real face shows besides those seen: few say little of its own rate
_GAP = 2.5  # in steps between moments: from there on a run ends


def find_stretches(times: ArrayLike, probabilities: ArrayLike, threshold: float) -> tuple[Stretch, ...]:
    """The runs of forged moments of a track that are too long for a real face, by time.

    times (M,) in seconds, ascending, and calibrated probabilities (M,) of the usable moments; a moment is
    forged from `threshold` on. A face is tested at its own rate outside of the long runs, with one forged
    moment more than was seen.
    """
    at, scores = np.asarray(times, dtype=np.float64), np.asarray(probabilities, dtype=np.float64)
    if len(at) < 2:
        return ()
    step = float(np.median(np.diff(at)))
    correlation = float(np.exp(-step / CORRELATION_TIME))
    forged = scores >= threshold
    runs = _runs(forged, np.diff(at) > _GAP * step)
    needed = shortest_run(len(at), REAL_RATE, correlation)
    rest = np.ones(len(at), dtype=bool)
    for first, last in runs:
        if last + 1 - first >= needed:
            rest[first : last + 1] = False
    rate = max(REAL_RATE, (int(forged[rest].sum()) + UNSEEN) / (int(rest.sum()) + UNSEEN))
    needed = max(MIN_USABLE, shortest_run(len(at), rate, correlation))
    edges = [at[0], *((a + b) / 2 for a, b in pairwise(at)), at[-1]]
    return tuple(
        Stretch(
            start=float(max(edges[first], at[first] - step / 2)),
            end=float(min(edges[last + 1], at[last] + step / 2)),
            moments=last + 1 - first,
            forged_probability=float(np.median(scores[first : last + 1])),
            chance=run_chance(last + 1 - first, len(at), rate, correlation),
        )
        for first, last in runs
        if last + 1 - first >= needed
    )


def run_chance(length: int, moments: int, rate: float, correlation: float) -> float:
    """Probability, 0..1, of a run of at least `length` >= 1 forged ones among so many moments; exact.

    They are a stationary Markov chain: `rate` of them are forged, 0..1, and of two neighbours the states
    have that `correlation`, 0..1.
    """
    stays = rate + correlation * (1 - rate)  # forged after forged
    enters = rate * (1 - correlation)  # forged after not forged
    full = stays ** (length - 1)  # of a run that began
    idle = [1 - rate]  # probability of no such run by now and the last moment not forged
    running = rate  # of no such run by now and the last moment forged
    found = 0.0
    for last in range(moments):
        if last:
            idle.append(idle[-1] * (1 - enters) + running * (1 - stays))
            running = running * stays + idle[-2] * enters
        began = last - length + 1
        ended = 0.0 if began < 0 else full * (idle[began - 1] * enters if began else rate)
        found, running = found + ended, running - ended
    return found


@cache
def shortest_run(moments: int, rate: float, correlation: float, chance: float = FALSE_ALARMS) -> int:
    """The least length whose `run_chance` is at most `chance`; one more than `moments` if none is."""
    low, high = 1, moments + 1  # of `high`, the chance is 0
    while low < high:
        middle = (low + high) // 2
        if run_chance(middle, moments, rate, correlation) <= chance:
            high = middle
        else:
            low = middle + 1
    return low


def _runs(forged: NDArray[np.bool_], gaps: NDArray[np.bool_]) -> Sequence[tuple[int, int]]:
    """First and last index of every run; a gap (M - 1,) ends one."""
    runs: list[tuple[int, int]] = []
    for i in np.flatnonzero(forged):
        if runs and runs[-1][1] == i - 1 and not gaps[i - 1]:
            runs[-1] = (runs[-1][0], int(i))
        else:
            runs.append((int(i), int(i)))
    return runs
