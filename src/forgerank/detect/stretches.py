"""Forged stretches of a track: runs of forged moments that are too long for a real face.

Of real faces, 1 % reach the threshold of "forged": so it was chosen; a single face may do so more often or,
where its other moments lie far below, less. The moments of a track that do are modelled as a stationary
Markov chain with the face's own rate, whose correlation falls exponentially with the time between two
moments. A single moment below the threshold does not end a run. A run is a finding if a real face shows one
of as many forged moments anywhere in the track with a probability of at most 1 %, and if these are as many as
a verdict needs. docs/video.md says how the numbers were chosen.
"""

import math
from collections.abc import Sequence
from functools import cache, lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from forgerank.detect.pooling import MIN_USABLE
from forgerank.detect.result import Stretch
from forgerank.detect.verdict import logit

FALSE_ALARMS = 0.01  # of tracks of real faces that get a stretch, at most
REAL_RATE = 0.01  # of real faces at or above the threshold of "forged"
# A face is not called real where it shows what at most 5 % of real ones do, at the threshold of "forged" or
# at this probability, which 5 % of real faces reach.
DOUBTS, SUSPICIOUS, SUSPICIOUS_RATE = 0.05, 0.8, 0.05
CORRELATION_TIME = 0.55  # seconds in which the correlation of two moments falls to 1 / e
UNSEEN = 1.0  # forged moments that a real face shows besides those seen: few say little of its own rate
SPREAD = 1.0  # deviation of a real face's log-odds over a video, at least
CLEAR_RATE = 0.002  # no face is tested at less, however far below the threshold its other moments lie
_GAP = 2.5  # in steps between moments: from there on a run ends


def find_doubts(times: ArrayLike, probabilities: ArrayLike, threshold: float) -> tuple[Stretch, ...]:
    """As `find_stretches`, where none is found: those for which the face is not called real, either."""
    found = find_stretches(times, probabilities, threshold, false_alarms=DOUBTS)
    return found or find_stretches(
        times, probabilities, SUSPICIOUS, rate=SUSPICIOUS_RATE, false_alarms=DOUBTS
    )


def find_stretches(
    times: ArrayLike,
    probabilities: ArrayLike,
    threshold: float,
    *,
    rate: float = REAL_RATE,
    false_alarms: float = FALSE_ALARMS,
) -> tuple[Stretch, ...]:
    """The runs of forged moments of a track that are too long for a real face, by time.

    times (M,) in seconds, ascending, and calibrated probabilities (M,) of the usable moments; a moment is
    forged from `threshold` on, as `rate` of real faces are. A face is tested at its own rate outside of long
    runs, and of the run that is tested where no other moment is forged.
    """
    at, scores = np.asarray(times, dtype=np.float64), np.asarray(probabilities, dtype=np.float64)
    if len(at) < 2:
        return ()
    step = float(np.median(np.diff(at)))
    correlation = float(np.exp(-step / CORRELATION_TIME))
    forged = scores >= threshold
    runs = [
        (first, last, int(forged[first : last + 1].sum()))
        for first, last in _runs(forged, np.diff(at) > _GAP * step)
    ]
    long = shortest_run(len(at), rate, correlation, false_alarms)
    others = np.ones(len(at), dtype=bool)
    for first, last, count in runs:
        if count >= long:
            others[first : last + 1] = False
    edges = [at[0], *((a + b) / 2 for a, b in pairwise(at)), at[-1]]
    found = []
    for first, last, count in runs:
        if count < MIN_USABLE:
            continue
        rest = others.copy()
        rest[first : last + 1] = False
        if forged[rest].any():  # elsewhere, too: then this run is no exception, unless it is a long one
            rest = others
        own = own_rate(scores[rest], threshold, correlation, rate)
        chance = run_chance(count, len(at), own, correlation)
        if chance <= false_alarms:
            found.append(
                Stretch(
                    start=float(max(edges[first], at[first] - step / 2)),
                    end=float(min(edges[last + 1], at[last] + step / 2)),
                    moments=count,
                    forged_probability=float(np.median(scores[first : last + 1])),
                    chance=chance,
                )
            )
    return tuple(found)


def own_rate(
    probabilities: ArrayLike, threshold: float, correlation: float, least: float = REAL_RATE
) -> float:
    """The share of a real face's moments that reach `threshold`, 0..1, by others of its moments (M,).

    One more than did, and at least `least`. Where none did, and that is less, the tail of Student's t with
    four degrees of freedom about the median of their log-odds, at least `CLEAR_RATE`.
    """
    scores = np.asarray(probabilities, dtype=np.float64)
    seen, count = int((scores >= threshold).sum()), len(scores)
    rate = max(least, (seen + UNSEEN) / (count + UNSEEN))
    if seen or not count:
        return rate
    odds = logit(scores)
    independent = max(count * (1 - correlation) / (1 + correlation), 1e-9)
    spread = max(SPREAD, float(odds.std())) * math.sqrt(1 + 1 / independent)
    distance = float(logit(threshold) - np.median(odds)) / spread
    square = distance**2 / (4 + distance**2)
    tail = 0.5 - 0.75 * math.sqrt(square) * (1 - square / 3) if distance > 0 else 1.0
    return min(rate, max(CLEAR_RATE, tail))


@lru_cache(maxsize=1024)
def run_chance(length: int, moments: int, rate: float, correlation: float) -> float:
    """Probability, 0..1, of a run of at least `length` >= 1 forged ones among so many moments; exact.

    A run goes on over a single moment that is not forged, which does not count. The moments are a stationary
    Markov chain: `rate` of them are forged, 0..1, and of two neighbours the states have that `correlation`,
    0..1.
    """
    stays = rate + correlation * (1 - rate)  # forged after forged
    enters = rate * (1 - correlation)  # forged after not forged
    idle = 1 - rate  # probability of no run
    running, paused = np.zeros(length), np.zeros(length)  # of one of 1, 2, ... forged moments by now
    running[0] = rate
    found = 0.0
    for number in range(moments):
        if number:
            began = idle * enters
            idle = idle * (1 - enters) + float(paused.sum()) * (1 - enters)
            grown = running * stays + paused * enters
            paused = running * (1 - stays)
            running[0], running[1:] = began, grown[:-1]
        found += float(running[-1])
        running[-1] = 0.0
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
    """First and last index of every run; a gap (M - 1,) ends one, and so do two that are not forged."""
    runs: list[tuple[int, int]] = []
    for i in np.flatnonzero(forged):
        if runs and runs[-1][1] >= i - 2 and not gaps[runs[-1][1] : i].any():
            runs[-1] = (runs[-1][0], int(i))
        else:
            runs.append((int(i), int(i)))
    return runs
