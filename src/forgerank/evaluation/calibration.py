"""Calibration and thresholds, chosen on predictions of the validation split and stored with the weights."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.linear_model import LogisticRegression

from forgerank.detect.verdict import calibrated, logit
from forgerank.evaluation.scorers import Predictions, join
from forgerank.metrics.detection import lacking_class, threshold_at_fnr, threshold_at_fpr
from forgerank.types import InputError
from forgerank.weights.description import Calibration, Thresholds

FALSE_POSITIVES = 0.01  # share of real validation faces, over all sources, that may be called forged
FALSE_POSITIVES_OF_ONE = 0.02  # and of any one source
FALSE_NEGATIVES = 0.10  # share of forged validation faces, over all sources, that may be called real
_FEWEST = 50  # real people of a source for a rate of its own: of fewer, one alone is over 2 %


def balanced_weights(forged: ArrayLike, sources: Sequence[str] | None = None) -> NDArray[np.float64]:
    """Weights (M,) with which both classes, and in a class all sources, weigh the same; their sum is 2.

    forged (M,) in {0, 1}; sources (M,): names, None: all of one.

    >>> balanced_weights([0, 0, 0, 1], ["a", "a", "b", "a"]).tolist()
    [0.25, 0.25, 0.5, 1.0]
    """
    labels = np.asarray(forged)
    names = np.zeros(len(labels)) if sources is None else np.asarray(sources)
    weights = np.zeros(len(labels))
    for label in np.unique(labels):
        _, source, count = np.unique(names[labels == label], return_inverse=True, return_counts=True)
        weights[labels == label] = 1 / (count[source] * len(count))
    return weights


def fit_calibration(
    probability: ArrayLike, forged: ArrayLike, *, sources: Sequence[str] | None = None
) -> Calibration:
    """Platt scaling of logit P(x), with `balanced_weights`: the prior is 0.5 for any mixture.

    Raises InputError where a class is missing or forged images have no larger P(x).
    """
    labels = np.asarray(forged)
    if labels.min() == labels.max():
        raise InputError("calibration needs real and forged images")
    model = LogisticRegression(C=1e6, max_iter=1000)
    weights = balanced_weights(labels, sources) * len(labels) / 2
    model.fit(logit(probability)[:, None], labels, sample_weight=weights)
    slope = float(model.coef_[0, 0])
    if slope <= 0:
        raise InputError("calibration failed: forged images have no larger P(x) than real ones")
    return Calibration(slope=slope, intercept=float(model.intercept_[0]))


def check_classes(forged: ArrayLike, where: str) -> None:
    """Raises InputError, one line that begins with `where`, unless there are real and forged images."""
    if missing := lacking_class(forged):
        raise InputError(f"{where}: no {missing} image, which calibration needs")


def choose_thresholds(
    probability: ArrayLike,
    components: ArrayLike,
    presence: ArrayLike,
    *,
    forged: ArrayLike | None = None,
    sources: Sequence[str] | None = None,
    groups: Sequence[str] | None = None,
    degraded: ArrayLike | None = None,
) -> Thresholds:
    """Thresholds on calibrated P(x), (M,), and on component probabilities, (M, L).

    `forged`: at most FALSE_POSITIVES of the real faces reach it, all sources weighing the same, and at most
    FALSE_POSITIVES_OF_ONE of those of a source with 50 or more groups of them, all its groups weighing the
    same, so that many images of one person do not decide; it is at least 0.5. `real`: at most FALSE_NEGATIVES
    of the forged faces that are not `degraded` are below it, and it is at most `forged`. The threshold of a
    component maximises its accuracy over the rows where its presence is 0 or 1 (negative: unknown); it is 0.5
    where some rows are unknown and the others are all of one class. forged (M,) in {0, 1}; None: where any
    component is present. sources (M,): names, None: all of one. groups (M,): people, None: each row another.
    degraded (M,) bool: re-encoded and resized; None: no row. Raises ValueError where a class is missing.
    """
    values, truth = np.asarray(probability, dtype=np.float64), np.asarray(presence)
    labels = truth.max(axis=1) if forged is None else np.asarray(forged)
    weights = balanced_weights(labels, sources)
    real = labels == 0
    if real.all() or not real.any():
        raise ValueError("thresholds need real and forged images")
    # Of separable classes the threshold may be low: below 0.5 nothing is called forged.
    upper = max(0.5, threshold_at_fpr(labels, values, FALSE_POSITIVES, weights))
    names = np.asarray(() if sources is None else sources)
    people = np.arange(len(labels)) if groups is None else np.asarray(groups)
    for name in np.unique(names):
        rows = real & (names == name)
        _, person, images = np.unique(people[rows], return_inverse=True, return_counts=True)
        if len(images) >= _FEWEST:
            alone = threshold_at_fpr(labels[rows], values[rows], FALSE_POSITIVES_OF_ONE, 1 / images[person])
            upper = max(upper, alone)
    upper = min(1.0, upper)
    counted = weights if degraded is None else weights * ~np.asarray(degraded, dtype=bool)
    lower = min(upper, threshold_at_fnr(labels, values, FALSE_NEGATIVES, counted))
    scores = np.asarray(components, dtype=np.float64)
    best = []
    for i, rows in enumerate((truth >= 0).T):
        known = truth[rows, i]
        # With known values of one class alone, the threshold would be 0 or 1: always or never present.
        one_class = not rows.all() and (known.all() or not known.any())
        best.append(0.5 if one_class else _most_accurate(scores[rows, i], known))
    return Thresholds(forged=upper, real=lower, components=tuple(best))


def calibrate(plain: Predictions, degraded: Predictions | None = None) -> tuple[Calibration, Thresholds]:
    """Calibration first, then the thresholds on its result; all sources weigh the same.

    degraded: of the same images, re-encoded and resized: all but the threshold `real` is chosen on both.
    """
    predictions = plain if degraded is None else join(plain, degraded)
    calibration = fit_calibration(predictions.probability, predictions.forged, sources=predictions.balanced)
    probability = calibrated(predictions.probability, calibration)
    thresholds = choose_thresholds(
        probability,
        predictions.components,
        predictions.presence,
        forged=predictions.forged,
        sources=predictions.balanced,
        groups=predictions.groups,
        degraded=np.arange(len(predictions.forged)) >= len(plain.forged),
    )
    return calibration, thresholds


def held_out_rates(
    plain: Predictions, degraded: Predictions, *, folds: int = 5, seed: int = 0
) -> dict[str, Any]:
    """How often faces pass the thresholds when these were chosen on other people: cross-validation.

    The groups are split at random into `folds`. Calibration and thresholds of a fold are chosen on the plain
    and degraded images of the others. Returns the `Rates` of "plain" and "wild" (degraded) images, and under
    "sources" those of each source, both kinds together.
    """
    both = join(plain, degraded)
    names = sorted(set(both.groups))
    dealt = dict(zip(names, np.random.default_rng(seed).permutation(len(names)) % folds, strict=True))
    fold = np.array([dealt[group] for group in both.groups])
    found, passed = np.zeros(len(fold), dtype=bool), np.zeros(len(fold), dtype=bool)
    undegraded = np.arange(len(fold)) < len(plain.forged)
    for number in range(folds):
        out = fold == number
        calibration, thresholds = calibrate(plain.rows(~out[undegraded]), degraded.rows(~out[~undegraded]))
        probability = calibrated(both.probability[out], calibration)
        found[out], passed[out] = probability >= thresholds.forged, probability < thresholds.real
    sources = np.asarray(both.balanced)

    def rates(rows: NDArray[np.bool_]) -> dict[str, float]:
        return verdict_rates(both.forged[rows], found[rows], passed[rows], sources[rows])

    return {
        "plain": rates(undegraded),
        "wild": rates(~undegraded),
        "sources": {name: rates(sources == name) for name in sorted(set(both.balanced))},
    }


def verdict_rates(
    forged: ArrayLike, found: ArrayLike, passed: ArrayLike, sources: ArrayLike | None = None
) -> dict[str, float]:
    """Shares of verdicts, all sources weighing the same; those of a class that is missing are left out.

    forged (M,) in {0, 1}; found, passed (M,) bool: called forged, called real. Returns
    `false_positive_rate` and `real_rate` of real faces, called forged and called real; `true_positive_rate`
    and `miss_rate` of forged ones, likewise; and the `undetermined` share of all, both classes weighing the
    same.
    """
    labels, called, cleared = np.asarray(forged), np.asarray(found, bool), np.asarray(passed, bool)
    weights = balanced_weights(labels, None if sources is None else np.asarray(sources).tolist())

    def share(rows: NDArray[np.bool_], mask: NDArray[np.bool_]) -> float:
        return float(weights[rows & mask].sum() / weights[rows].sum())

    rates = {}
    if (labels == 0).any():
        rates["false_positive_rate"] = share(labels == 0, called)
        rates["real_rate"] = share(labels == 0, cleared)
    if (labels == 1).any():
        rates["true_positive_rate"] = share(labels == 1, called)
        rates["miss_rate"] = share(labels == 1, cleared)
    rates["undetermined"] = share(labels >= 0, ~(called | cleared))
    return rates


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
