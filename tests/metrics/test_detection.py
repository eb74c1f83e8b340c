import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from forgerank.metrics.detection import (
    accuracy,
    auc,
    average_precision,
    cllr,
    equal_error_rate,
    false_positive_rate,
    mean_average_precision,
    min_cllr,
    threshold_at_fnr,
    threshold_at_fpr,
    tpr_at_fpr,
    true_positive_rate,
)

Array = NDArray[np.float64]
LABELS = np.array([0, 0, 0, 0, 1, 1, 1, 1])
SCORES = np.array([0.1, 0.2, 0.3, 0.8, 0.25, 0.6, 0.7, 0.9])


def test_golden_values() -> None:
    # 16 pairs, wrongly ordered: (0.3, 0.25), (0.8, 0.25), (0.8, 0.6), (0.8, 0.7)
    assert auc(LABELS, SCORES) == 12 / 16
    # at ranks 1, 3, 4, 6 the precision is 1, 2/3, 3/4, 4/6
    assert average_precision(LABELS[:, None], SCORES[:, None])[0] == pytest.approx(
        (1 + 2 / 3 + 3 / 4 + 4 / 6) / 4
    )
    assert tpr_at_fpr(LABELS, SCORES, 0.25) == 3 / 4
    assert tpr_at_fpr(LABELS, SCORES, 0.0) == 1 / 4
    assert equal_error_rate(LABELS, SCORES) == pytest.approx(0.25)
    assert false_positive_rate(LABELS, SCORES, 0.3) == 2 / 4


def test_perfect_and_reversed_scores() -> None:
    assert equal_error_rate(LABELS, LABELS) == 0
    assert equal_error_rate(LABELS, 1 - LABELS) == 1
    assert tpr_at_fpr(LABELS, LABELS, 0.0) == 1


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 1), st.integers(0, 6)), min_size=2, max_size=30),
    st.floats(0, 1),
)
def test_thresholds_keep_the_rate_and_could_not_be_lower(rows: list[tuple[int, int]], rate: float) -> None:
    labels, scores = np.array([(0, 3), *rows]).T
    threshold = threshold_at_fpr(labels, scores, rate)
    assert false_positive_rate(labels, scores, threshold) <= rate + 1e-9
    lower = scores[scores < threshold]
    if len(lower) and rate < 1:
        assert (
            false_positive_rate(labels, scores, lower.max()) > rate or lower.max() not in scores[labels == 0]
        )


def test_weights_count_as_copies_and_both_sides_mirror_each_other() -> None:
    rng = np.random.default_rng(0)
    labels, scores = rng.integers(0, 2, 60), rng.integers(0, 12, 60) / 12
    copies = rng.integers(1, 4, 60)
    repeated = np.repeat(labels, copies), np.repeat(scores, copies)
    for rate in (0.0, 0.05, 0.3, 1.0):
        assert threshold_at_fpr(labels, scores, rate, copies) == threshold_at_fpr(*repeated, rate)
    for rate in (0.0, 0.05, 0.3):
        threshold = threshold_at_fnr(labels, scores, rate)
        forged = scores[labels == 1]
        assert (forged < threshold).mean() <= rate < (forged < np.nextafter(threshold, 2)).mean()
        assert threshold_at_fnr(labels, scores, rate, copies) == threshold_at_fnr(*repeated, rate)
    with pytest.raises(ValueError, match="at least one forged"):
        threshold_at_fnr([0, 0], [0, 1], 0.1)


def pairs_won(labels: Array, scores: Array) -> float:
    """AUC as a probability: a forged image scores higher than a real one; ties count half."""
    wins = [
        1.0 if forged > real else 0.5 if forged == real else 0.0
        for forged in scores[labels == 1]
        for real in scores[labels == 0]
    ]
    return sum(wins) / len(wins)


def precision_at_each_recall(labels: Array, scores: Array) -> float:
    """AP = sum over thresholds, from the highest down, of (R_n - R_(n-1)) P_n."""
    total, last = 0.0, 0.0
    for threshold in sorted(set(scores.tolist()), reverse=True):
        called = scores >= threshold
        recall = labels[called].sum() / labels.sum()
        total += (recall - last) * labels[called].mean()
        last = recall
    return total


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_areas_are_their_definitions(seed: int) -> None:
    rng = np.random.default_rng(seed)
    presence = rng.integers(0, 2, size=(20, 3))
    presence[:2] = [[0, 0, 0], [1, 1, 1]]
    scores = rng.integers(0, 8, size=(20, 3)) / 8  # with ties
    assert auc(presence[:, 0], scores[:, 0]) == pytest.approx(pairs_won(presence[:, 0], scores[:, 0]))
    expected = [precision_at_each_recall(presence[:, i], scores[:, i]) for i in range(3)]
    assert average_precision(presence, scores).tolist() == pytest.approx(expected)
    assert mean_average_precision(presence, scores) == pytest.approx(sum(expected) / 3)


def test_missing_classes_are_not_a_number() -> None:
    none = np.zeros((4, 2), dtype=int)
    assert math.isnan(auc(none[:, 0], SCORES[:4]))
    assert math.isnan(equal_error_rate(none[:, 0], SCORES[:4]))
    assert math.isnan(mean_average_precision(none, np.zeros((4, 2))))
    assert math.isnan(false_positive_rate([1, 1], [0, 1], 0.5))
    assert math.isnan(true_positive_rate([0, 0], [0, 1], 0.5))
    assert math.isnan(tpr_at_fpr([0, 0], [0, 1], 0.5))
    assert math.isnan(tpr_at_fpr([1, 1], [0, 1], 0.5))
    one = np.array([[1, 0], [0, 0]])
    assert average_precision(one, one)[0] == 1
    assert math.isnan(average_precision(one, one)[1])
    assert mean_average_precision(one, one) == 1
    with pytest.raises(ValueError, match="at least one real"):
        threshold_at_fpr([1, 1], [0, 1], 0.1)


def test_golden_accuracy_and_rare_false_alarms() -> None:
    assert accuracy(LABELS, SCORES, 0.25) == (2 + 4) / 8  # the threshold itself counts as forged
    assert accuracy(LABELS, SCORES, 0.65) == (3 + 2) / 8
    real, forged = np.arange(2000) / 2000, np.array([0.5, 0.985, 0.9993, 1.1])
    labels = np.concatenate([np.zeros(2000, dtype=int), np.ones(4, dtype=int)])
    scores = np.concatenate([real, forged])
    # 1 % are the real ones from 0.99 on, 0.1 % the two from 0.999 on
    assert tpr_at_fpr(labels, scores, 0.01) == 2 / 4
    assert tpr_at_fpr(labels, scores, 0.001) == 2 / 4
    assert tpr_at_fpr(labels, scores, 0.0) == 1 / 4


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_rates_by_trying_every_threshold(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = np.array([0, 1, *rng.integers(0, 2, 40)])
    scores = rng.integers(0, 20, 42) / 20
    real, forged = scores[labels == 0], scores[labels == 1]
    # (false positive rate, true positive rate) at every threshold, from "none is forged" to "all are".
    curve = [
        (float((real >= cut).mean()), float((forged >= cut).mean()))
        for cut in (np.inf, *sorted(set(scores.tolist()), reverse=True))
    ]
    for rate in (0.01, 0.1, 0.5):
        assert tpr_at_fpr(labels, scores, rate) == max(true for false, true in curve if false <= rate)
    error = equal_error_rate(labels, scores)
    # On the segment of the curve where the false positive rate overtakes the false negative rate.
    (x0, y0), (x1, y1) = next(
        (before, after) for before, after in itertools.pairwise(curve) if after[0] >= 1 - after[1]
    )
    assert min(x0, x1) <= error <= max(x0, x1)
    assert (error - x0) * (y1 - y0) == pytest.approx((1 - error - y0) * (x1 - x0))
    cut = rng.random()
    decisions = [(score >= cut) == (label == 1) for score, label in zip(scores, labels, strict=True)]
    assert accuracy(labels, scores, cut) == sum(decisions) / 42
    assert true_positive_rate(labels, scores, cut) == (forged >= cut).sum() / len(forged)
    assert false_positive_rate(labels, scores, cut) == (real >= cut).sum() / len(real)


def test_precision_of_labels_known_in_part() -> None:
    rng = np.random.default_rng(3)
    presence, scores = rng.integers(0, 2, (40, 3)), rng.random((40, 3))
    known = rng.random((40, 3)) < 0.6
    presence[:, 2] |= ~presence[:, 2] & known[:, 2]  # where the last is known it is present
    found = average_precision(np.where(known, presence, -1), scores, known)
    for i in range(2):
        rows = known[:, i]
        assert found[i] == pytest.approx(precision_at_each_recall(presence[rows, i], scores[rows, i]))
    assert math.isnan(found[2])  # of one class
    assert mean_average_precision(presence, scores, known) == pytest.approx(found[:2].mean())
    everything = np.ones((40, 3), dtype=bool)
    assert (
        average_precision(presence, scores, everything).tolist()
        == average_precision(presence, scores).tolist()
    )
    assert math.isnan(mean_average_precision(presence, scores, ~everything))


def test_cllr_is_one_for_ratios_that_say_nothing_and_more_for_those_that_mislead() -> None:
    labels = [0, 0, 1, 1, 1]
    assert cllr(labels, np.ones(5)) == 1.0
    assert cllr(labels, [1e-9, 1e-9, 1e9, 1e9, 1e9]) == pytest.approx(0, abs=1e-6)
    assert cllr(labels, [1e9, 1e9, 1e-9, 1e-9, 1e-9]) > 20
    # By hand: log2(1 + 1/4) for the forged, log2(1 + 1/2) for the real one.
    assert cllr([0, 1], [0.5, 4.0]) == pytest.approx((np.log2(1.25) + np.log2(1.5)) / 2)
    assert np.isnan(cllr([1, 1], [1.0, 2.0]))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_no_calibration_costs_less_than_the_least(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = np.concatenate([[0, 1], rng.integers(0, 2, 60)])
    scores = rng.normal(1.5 * labels, 1.0)
    least = min_cllr(labels, scores)
    assert 0 <= least <= 1 + 1e-9
    for slope, shift in ((1.0, 0.0), (1.5, -1.1), (0.3, 0.4)):
        assert least <= cllr(labels, np.exp(slope * scores + shift)) + 1e-9
    assert min_cllr(labels, np.exp(scores)) == pytest.approx(least)  # the order alone counts
    assert np.isnan(min_cllr([0, 0], [1.0, 2.0]))
