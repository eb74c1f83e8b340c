import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from forgerank.metrics.detection import (
    accuracy,
    auc,
    average_precision,
    equal_error_rate,
    false_positive_rate,
    mean_average_precision,
    threshold_at_fpr,
    tpr_at_fpr,
)

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
    labels, scores = np.array(rows).T
    if labels.all():
        return
    threshold = threshold_at_fpr(labels, scores, rate)
    assert false_positive_rate(labels, scores, threshold) <= rate + 1e-9
    lower = scores[scores < threshold]
    if len(lower) and rate < 1:
        assert (
            false_positive_rate(labels, scores, lower.max()) > rate or lower.max() not in scores[labels == 0]
        )


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_agrees_with_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    presence = rng.integers(0, 2, size=(20, 3))
    presence[:2] = [[0, 0, 0], [1, 1, 1]]
    scores = rng.integers(0, 8, size=(20, 3)) / 8
    assert auc(presence[:, 0], scores[:, 0]) == pytest.approx(
        metrics.roc_auc_score(presence[:, 0], scores[:, 0])
    )
    expected = metrics.average_precision_score(presence, scores, average="macro")
    assert mean_average_precision(presence, scores) == pytest.approx(expected)


def test_missing_classes_are_not_a_number() -> None:
    none = np.zeros((4, 2), dtype=int)
    assert math.isnan(auc(none[:, 0], SCORES[:4]))
    assert math.isnan(equal_error_rate(none[:, 0], SCORES[:4]))
    assert math.isnan(mean_average_precision(none, np.zeros((4, 2))))
    assert math.isnan(false_positive_rate([1, 1], [0, 1], 0.5))
    assert math.isnan(tpr_at_fpr([0, 0], [0, 1], 0.5))
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
def test_rates_agree_with_the_roc_curve(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = np.array([0, 1, *rng.integers(0, 2, 40)])
    scores = rng.integers(0, 20, 42) / 20
    false, true, _ = metrics.roc_curve(labels, scores, drop_intermediate=False)
    for rate in (0.01, 0.1, 0.5):
        # The best point of the curve within the rate; between two scores no threshold does better.
        assert tpr_at_fpr(labels, scores, rate) == pytest.approx(true[false <= rate].max())
    error = equal_error_rate(labels, scores)
    assert np.interp(error, false, true) == pytest.approx(1 - error) or error in false
    cut = rng.random()
    assert accuracy(labels, scores, cut) == metrics.accuracy_score(labels, scores >= cut)


def test_precision_of_labels_known_in_part() -> None:
    rng = np.random.default_rng(3)
    presence, scores = rng.integers(0, 2, (40, 3)), rng.random((40, 3))
    known = rng.random((40, 3)) < 0.6
    presence[:, 2] |= ~presence[:, 2] & known[:, 2]  # where the last is known it is present
    found = average_precision(np.where(known, presence, -1), scores, known)
    for i in range(2):
        rows = known[:, i]
        assert found[i] == metrics.average_precision_score(presence[rows, i], scores[rows, i])
    assert math.isnan(found[2])  # of one class
    assert mean_average_precision(presence, scores, known) == pytest.approx(found[:2].mean())
    everything = np.ones((40, 3), dtype=bool)
    assert (
        average_precision(presence, scores, everything).tolist()
        == average_precision(presence, scores).tolist()
    )
    assert math.isnan(mean_average_precision(presence, scores, ~everything))
