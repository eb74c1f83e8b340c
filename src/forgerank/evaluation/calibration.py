"""From validation predictions to calibrated probabilities and the thresholds that travel with the weights."""

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
    """Platt's scaling of logit P(x), both classes with equal weight: the prior is 0.5 whatever the data's
    mixture.

    Raises InputError where a class is missing or P(x) does not grow with the evidence.
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

    `forged`: at most FALSE_POSITIVES of the real faces reach it, and it is never below 0.5. `real`: at most
    FALSE_NEGATIVES of the forged faces lie under it, and it never exceeds `forged`. Each component's
    maximises its accuracy where its presence, in {0, 1}, is known (else negative); 0.5 where some are unknown
    and the others all alike.
    forged (M,) in {0, 1}; None: any component is present.
    """
    values, truth = np.asarray(probability, dtype=np.float64), np.asarray(presence)
    labels = truth.max(axis=1) if forged is None else np.asarray(forged)
    # Where the classes part cleanly, any threshold would do: none that calls the unlikely forged.
    upper = min(1.0, max(0.5, threshold_at_fpr(labels, values, FALSE_POSITIVES)))
    found = np.sort(values[labels == 1])
    lower = min(upper, float(found[int(FALSE_NEGATIVES * len(found))]))
    scores = np.asarray(components, dtype=np.float64)
    best = []
    for i, rows in enumerate((truth >= 0).T):
        known = truth[rows, i]
        # Known of some and of one class alone, a label would get a threshold that always or never finds it.
        blind = not rows.all() and (known.all() or not known.any())
        best.append(0.5 if blind else _most_accurate(scores[rows, i], known))
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
    """How often faces reach the `forged` threshold when it was chosen on other people.

    The groups are dealt into `folds`; each is judged by the calibration and threshold of the rest, chosen on
    plain and degraded images together. Returns the rates of both parts, 0..1.
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
    """The threshold with the most right answers; among equals the one nearest to 0.5."""
    order = np.argsort(scores, kind="stable")
    values = scores[order]
    cuts = np.concatenate([[0.0], (values[1:] + values[:-1]) / 2, [1.0]])
    # Below cut i lie the i smallest scores: right are the absent among them and the present among the rest.
    absent = np.concatenate([[0], np.cumsum(1 - labels[order])])
    right = (absent + (labels.sum() - np.arange(len(values) + 1) + absent)).astype(np.float64)
    # A cut between two equal scores does not part them.
    right[1:-1][values[1:] == values[:-1]] = -1
    candidates = cuts[right == right.max()]
    return float(candidates[np.argmin(np.abs(candidates - 0.5))])
