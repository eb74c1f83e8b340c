"""Calibration and thresholds, chosen on predictions of the validation split and stored with the weights."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.linear_model import LogisticRegression

from forgerank.detect.verdict import calibrated, logit
from forgerank.evaluation.scorers import Predictions, join
from forgerank.metrics.detection import threshold_at_fpr
from forgerank.types import InputError
from forgerank.weights.description import Calibration, Thresholds

FALSE_POSITIVES = 0.01  # share of real validation faces that may be called forged
FALSE_NEGATIVES = 0.05  # share of forged validation faces that may be called real


def fit_calibration(probability: ArrayLike, forged: ArrayLike) -> Calibration:
    """Platt scaling of logit P(x), both classes with equal weight: the prior is 0.5 for any mixture.

    Raises InputError where a class is missing or forged images have no larger P(x).
    """
    labels = np.asarray(forged)
    if labels.min() == labels.max():
        raise InputError("calibration needs real and forged images")
    model = LogisticRegression(C=1e6, class_weight="balanced", max_iter=1000)
    model.fit(logit(probability)[:, None], labels)
    slope = float(model.coef_[0, 0])
    if slope <= 0:
        raise InputError("calibration failed: forged images have no larger P(x) than real ones")
    return Calibration(slope=slope, intercept=float(model.intercept_[0]))


def choose_thresholds(
    probability: ArrayLike, components: ArrayLike, presence: ArrayLike, *, forged: ArrayLike | None = None
) -> Thresholds:
    """Thresholds on calibrated P(x), (M,), and on component probabilities, (M, L).

    `forged`: at most FALSE_POSITIVES of the real faces reach it, and it is at least 0.5. `real`: at most
    FALSE_NEGATIVES of the forged faces are below it, and it is at most `forged`. The threshold of a component
    maximises its accuracy over the rows where its presence is 0 or 1 (negative: unknown); it is 0.5 where
    some rows are unknown and the others are all of one class. forged (M,) in {0, 1}; None: where any
    component is present.
    """
    values, truth = np.asarray(probability, dtype=np.float64), np.asarray(presence)
    labels = truth.max(axis=1) if forged is None else np.asarray(forged)
    # Of separable classes the threshold may be low: below 0.5 nothing is called forged.
    upper = min(1.0, max(0.5, threshold_at_fpr(labels, values, FALSE_POSITIVES)))
    found = np.sort(values[labels == 1])
    lower = min(upper, float(found[int(FALSE_NEGATIVES * len(found))]))
    scores = np.asarray(components, dtype=np.float64)
    best = []
    for i, rows in enumerate((truth >= 0).T):
        known = truth[rows, i]
        # With known values of one class alone, the threshold would be 0 or 1: always or never present.
        one_class = not rows.all() and (known.all() or not known.any())
        best.append(0.5 if one_class else _most_accurate(scores[rows, i], known))
    return Thresholds(forged=upper, real=lower, components=tuple(best))


def calibrate(predictions: Predictions) -> tuple[Calibration, Thresholds]:
    """Calibration first, then the thresholds on its result."""
    calibration = fit_calibration(predictions.probability, predictions.forged)
    probability = calibrated(predictions.probability, calibration)
    thresholds = choose_thresholds(
        probability, predictions.components, predictions.presence, forged=predictions.forged
    )
    return calibration, thresholds


def held_out_rates(
    predictions: Predictions, degraded: Predictions, *, folds: int = 5, seed: int = 0
) -> dict[str, dict[str, float]]:
    """How often faces reach the `forged` threshold when it was chosen on other people: cross-validation.

    The groups are split at random into `folds`. Calibration and threshold of a fold are chosen on the plain
    and degraded images of the others. Returns the rates of both kinds of images, 0..1.
    """
    both = join(predictions, degraded)
    names = sorted(set(both.groups))
    dealt = dict(zip(names, np.random.default_rng(seed).permutation(len(names)) % folds, strict=True))
    fold = np.array([dealt[group] for group in both.groups])
    judged = np.zeros(len(fold), dtype=bool)
    for number in range(folds):
        calibration, thresholds = calibrate(both.rows(fold != number))
        out = fold == number
        judged[out] = calibrated(both.probability[out], calibration) >= thresholds.forged
    count = len(predictions.forged)
    return {
        "plain": _rates(judged[:count], predictions.forged),
        "wild": _rates(judged[count:], degraded.forged),
    }


def _rates(judged: NDArray[np.bool_], forged: NDArray[np.int64]) -> dict[str, float]:
    return {
        "false_positive_rate": float(judged[forged == 0].mean()),
        "true_positive_rate": float(judged[forged == 1].mean()),
    }


def _most_accurate(scores: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """The threshold with the highest accuracy; among equals the one nearest to 0.5."""
    order = np.argsort(scores, kind="stable")
    values = scores[order]
    cuts = np.concatenate([[0.0], (values[1:] + values[:-1]) / 2, [1.0]])
    # The i smallest scores are below cut i: correct are the absent among them, the present among the rest.
    absent = np.concatenate([[0], np.cumsum(1 - labels[order])])
    right = (absent + (labels.sum() - np.arange(len(values) + 1) + absent)).astype(np.float64)
    # A cut between two equal scores does not separate them.
    right[1:-1][values[1:] == values[:-1]] = -1
    candidates = cuts[right == right.max()]
    return float(candidates[np.argmin(np.abs(candidates - 0.5))])
