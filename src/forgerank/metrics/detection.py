"""Metrics of binary decisions: real against forged, and each component. Larger scores mean forged."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn import metrics
from sklearn.isotonic import IsotonicRegression


def lacking_class(labels: ArrayLike) -> str | None:
    """The class, "real" or "forged", that labels (M,) in {0, 1} lack; None where there are both."""
    truth = np.asarray(labels, bool)
    return None if truth.any() and not truth.all() else "real" if truth.any() else "forged"


def auc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Area under the ROC curve, ties counted half; labels (M,) in {0, 1}; NaN where a class is missing."""
    truth = np.asarray(labels)
    if truth.min() == truth.max():
        return float("nan")
    return float(metrics.roc_auc_score(truth, scores))


def average_precision(
    presence: ArrayLike, scores: ArrayLike, known: ArrayLike | None = None
) -> NDArray[np.float64]:
    """Average precision of each label, (L,), over the rows where it is known.

    presence, scores and known, by default all true, (M, L). NaN where a label never occurs, and where it is
    known in some rows only, of one class.
    """
    truth, values = np.asarray(presence), np.asarray(scores)
    certain = np.ones(truth.shape, dtype=bool) if known is None else np.asarray(known, dtype=bool)
    found = np.full(truth.shape[1], np.nan)
    for i, rows in enumerate(certain.T):
        labels = truth[rows, i]
        # A label that is known in forged images alone has average precision 1 whatever the scores.
        if labels.any() and (rows.all() or not labels.all()):
            found[i] = metrics.average_precision_score(labels, values[rows, i])
    return found


def mean_average_precision(presence: ArrayLike, scores: ArrayLike, known: ArrayLike | None = None) -> float:
    """The mean of `average_precision` over the labels where it is defined; NaN where it is for none."""
    values = average_precision(presence, scores, known)
    return float(np.nanmean(values)) if not np.isnan(values).all() else float("nan")


def threshold_at_fpr(
    labels: ArrayLike, scores: ArrayLike, rate: float, weights: ArrayLike | None = None
) -> float:
    """The smallest threshold t for which at most `rate` of the real images score t or more.

    labels (M,) in {0, 1}; weights (M,) >= 0: what each image counts, None: all the same. Raises ValueError
    where none is real.
    """
    rows = np.asarray(labels) == 0
    real = np.asarray(scores, dtype=np.float64)[rows]
    if not len(real):
        raise ValueError("a threshold needs at least one real image")
    counts = np.ones(len(real)) if weights is None else np.asarray(weights, dtype=np.float64)[rows]
    order = np.argsort(-real, kind="stable")
    over = np.cumsum(counts[order]) / counts.sum() > rate + 1e-9
    # Where a rate of 1 allows all of them, the lowest score is low enough.
    return float(np.nextafter(real[order[over.argmax()]], np.inf)) if over.any() else float(real.min())


def threshold_at_fnr(
    labels: ArrayLike, scores: ArrayLike, rate: float, weights: ArrayLike | None = None
) -> float:
    """The largest threshold t for which at most `rate` of the forged images, a rate below 1, score below t.

    labels, weights as in `threshold_at_fpr`. Raises ValueError where none is forged.
    """
    if not np.any(np.asarray(labels) == 1):
        raise ValueError("a threshold needs at least one forged image")
    flipped = 1 - np.asarray(labels), -np.asarray(scores, dtype=np.float64)
    return -float(np.nextafter(threshold_at_fpr(*flipped, rate, weights), -np.inf))


def tpr_at_fpr(labels: ArrayLike, scores: ArrayLike, rate: float) -> float:
    """True positive rate where at most `rate` of the real images are called forged.

    NaN where a class is missing.
    """
    if np.min(labels) == np.max(labels):
        return float("nan")
    return true_positive_rate(labels, scores, threshold_at_fpr(labels, scores, rate))


def false_positive_rate(labels: ArrayLike, scores: ArrayLike, threshold: float) -> float:
    """Share of the real images that score `threshold` or more; NaN where none is real."""
    real = np.asarray(scores)[np.asarray(labels) == 0]
    return float((real >= threshold).mean()) if len(real) else float("nan")


def true_positive_rate(labels: ArrayLike, scores: ArrayLike, threshold: float) -> float:
    """Share of the forged images that score `threshold` or more; NaN where none is forged."""
    return false_positive_rate(1 - np.asarray(labels), scores, threshold)


def accuracy(labels: ArrayLike, scores: ArrayLike, threshold: float) -> float:
    """Share of correct decisions where a score of `threshold` or more calls an image forged."""
    truth = np.asarray(labels)
    return float(((np.asarray(scores) >= threshold) == (truth == 1)).mean())


def equal_error_rate(labels: ArrayLike, scores: ArrayLike) -> float:
    """Where false positive and false negative rate are equal, interpolated linearly on the ROC curve."""
    truth = np.asarray(labels)
    if truth.min() == truth.max():
        return float("nan")
    fpr, tpr, _ = metrics.roc_curve(truth, scores, drop_intermediate=False)
    difference = fpr - (1 - tpr)  # rises from -1 to 1
    right = int(np.argmax(difference >= 0))
    low, high = difference[right - 1], difference[right]
    return float(fpr[right - 1] + (fpr[right] - fpr[right - 1]) * (-low / (high - low)))


def cllr(labels: ArrayLike, odds: ArrayLike) -> float:
    """Cost of likelihood ratios, bits (Brümmer and du Preez 2006): 0 for perfect ones, 1 for ratios of 1.

    labels (M,) in {0, 1}; odds (M,) > 0: of forged against real. Above 1, the ratios mislead more than they
    help. NaN where a class is missing.

    >>> cllr([0, 1], [1.0, 1.0])
    1.0
    """
    truth, ratios = np.asarray(labels), np.asarray(odds, dtype=np.float64)
    if truth.min() == truth.max():
        return float("nan")
    forged, real = np.log2(1 + 1 / ratios[truth == 1]), np.log2(1 + ratios[truth == 0])
    return float((forged.mean() + real.mean()) / 2)


def min_cllr(labels: ArrayLike, scores: ArrayLike) -> float:
    """`cllr` of the best calibration that keeps the order of the scores: what they could tell at most.

    The pool-adjacent-violators algorithm finds it. NaN where a class is missing.
    """
    truth = np.asarray(labels)
    if truth.min() == truth.max():
        return float("nan")
    weights = np.where(truth == 1, 1 / (truth == 1).sum(), 1 / (truth == 0).sum())
    isotonic = IsotonicRegression(y_min=0.0, y_max=1.0)
    fitted = isotonic.fit_transform(np.asarray(scores, dtype=np.float64), truth, sample_weight=weights)
    kept = np.clip(fitted, 1e-12, 1 - 1e-12)
    return cllr(truth, kept / (1 - kept))


def video_scores(
    scores: ArrayLike, videos: Sequence[str], tracks: Sequence[int] | None = None
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """One score per video: the mean over frames for each face, and of these means the largest.

    scores (M,) of faces; videos (M,): names of their videos; tracks (M,): number of the face in its video, by
    default one face per video. Returns scores (V,) in the order of the videos' names, and the video of each
    row, (M,) in 0..V-1.

    >>> video_scores([0.0, 1.0, 0.25], ["b", "b", "a"])[0].tolist()
    [0.25, 0.5]
    >>> video_scores([0.0, 1.0, 0.25], ["b", "b", "a"], [0, 1, 0])[0].tolist()
    [0.25, 1.0]
    """
    values = np.asarray(scores, dtype=np.float64)
    names, video = np.unique(np.asarray(videos), return_inverse=True)
    faces = np.stack([video, np.zeros_like(video) if tracks is None else np.asarray(tracks)], axis=1)
    tracked, track = np.unique(faces, axis=0, return_inverse=True)
    means = np.bincount(track.ravel(), weights=values) / np.bincount(track.ravel())
    largest = np.full(len(names), -np.inf)
    np.maximum.at(largest, tracked[:, 0], means)
    return largest, video
