"""From the frames of one person to one answer: probability, components and order. Pure functions.

`POOLS` holds every rule that was compared (docs/video.md says how and what came out); `POOL` is the one used.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from forgerank.detect.verdict import judge_usable, logit, unusable
from forgerank.media.files import counted
from forgerank.types import Quality, Verdict
from forgerank.weights.description import Thresholds

Floats = NDArray[np.float64]

MIN_USABLE = 3  # frames of good enough quality that a verdict needs
_FULL_SIZE, _FULL_SHARPNESS = 160.0, 100.0  # from here on a face counts fully
_TRIM, _TOP = 0.2, 0.3  # shares


def mean(probabilities: Floats, weights: Floats) -> float:
    """The mean."""
    return float(probabilities.mean())


def median(probabilities: Floats, weights: Floats) -> float:
    """The median."""
    return float(np.median(probabilities))


def trimmed_mean(probabilities: Floats, weights: Floats) -> float:
    """The mean without the 20 % at either end."""
    cut = int(_TRIM * len(probabilities))
    return float(np.sort(probabilities)[cut : len(probabilities) - cut].mean())


def mean_logit(probabilities: Floats, weights: Floats) -> float:
    """The mean of the logits, as a probability: one frame that is sure weighs more than one that is not."""
    return float(1.0 / (1.0 + np.exp(-logit(probabilities).mean())))


def top_share_mean(probabilities: Floats, weights: Floats) -> float:
    """The mean of the highest 30 %."""
    return float(np.sort(probabilities)[-max(1, round(_TOP * len(probabilities))) :].mean())


def weighted_mean(probabilities: Floats, weights: Floats) -> float:
    """The mean, weighted by quality."""
    return float(np.average(probabilities, weights=weights))


POOLS = {
    "mean": mean,
    "median": median,
    "trimmed mean": trimmed_mean,
    "mean logit": mean_logit,
    "top-share mean": top_share_mean,
    "quality-weighted mean": weighted_mean,
}
POOL = "median"


def quality_weight(quality: Quality) -> float:
    """How much a face counts in a weighted mean, 0.05..1: less where it is small, soft or turned."""
    size = min(1.0, quality.size / _FULL_SIZE)
    sharpness = min(1.0, quality.sharpness / _FULL_SHARPNESS)
    turn = max(0.0, float(np.cos(np.radians(quality.yaw)) * np.cos(np.radians(quality.pitch))))
    return max(0.05, size * sharpness * turn)


def pool(probabilities: ArrayLike, weights: ArrayLike, rule: str = POOL) -> float:
    """One probability, 0..1, out of calibrated ones (M,), M >= 1, with quality weights (M,) > 0."""
    return POOLS[rule](np.asarray(probabilities, dtype=np.float64), np.asarray(weights, dtype=np.float64))


def consensus(values: ArrayLike, probabilities: ArrayLike, threshold: float) -> NDArray[np.float32]:
    """One value per component: the mean over the frames that are forged by themselves, or over all.

    values (M, L), probabilities (M,) calibrated; a frame is forged from `threshold` on. Returns (L,).
    """
    table = np.asarray(values, dtype=np.float64)
    forged = np.asarray(probabilities, dtype=np.float64) >= threshold
    return np.asarray((table[forged] if forged.any() else table).mean(axis=0), dtype=np.float32)


def judge_track(
    probability: float, usable: int, quality: Quality, thresholds: Thresholds
) -> tuple[Verdict, str | None]:
    """Verdict on a person and, where undetermined, the reason.

    `probability` is pooled over the `usable` frames, those that can be judged; `quality` is the median.
    """
    if usable >= MIN_USABLE:
        return judge_usable(probability, quality, thresholds)
    few = f"only {counted(usable, 'frame')} of this face can be judged, {MIN_USABLE} are needed"
    return "undetermined", unusable(quality) or few
