import itertools
import math

import numpy as np
import pytest
from sklearn.metrics import r2_score

from forgerank.labels import pad_sequences
from forgerank.metrics.sequence import order_pairs, order_r2, pairwise_order_accuracy


def test_golden_pairs() -> None:
    truth = pad_sequences([[4, 2], [1, 2, 3], [5], []], 5)
    scores = np.array([[0, 0.2, 0, 0.9, 0], [0.5, 0.9, 0.1, 0, 0], [0] * 5, [0] * 5])
    # 4 before 2 right; of (1,2) (1,3) (2,3) two right; single and empty sequences have no pair
    assert order_pairs(truth, scores, "first_to_last") == (3.0, 4)
    assert pairwise_order_accuracy(truth, scores, "last_to_first") == 1 / 4


def test_ties_count_half_so_that_a_constant_answer_is_chance() -> None:
    assert pairwise_order_accuracy(pad_sequences([[1, 2, 3]], 5), np.zeros((1, 5)), "first_to_last") == 0.5


def test_no_pair_is_not_a_number() -> None:
    assert math.isnan(pairwise_order_accuracy(pad_sequences([[1], []], 5), np.zeros((2, 5)), "first_to_last"))


@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_a_loop_over_pairs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sequences = [list(rng.permutation(5)[: rng.integers(0, 6)] + 1) for _ in range(20)]
    scores = rng.integers(0, 4, size=(20, 5)).astype(float)
    outcomes = [
        0.5 if row[a - 1] == row[b - 1] else float(row[a - 1] > row[b - 1])
        for sequence, row in zip(sequences, scores, strict=True)
        for a, b in itertools.combinations(sequence, 2)
    ]
    found = pairwise_order_accuracy(pad_sequences(sequences, 5), scores, "first_to_last")
    assert found == pytest.approx(np.mean(outcomes))


def test_golden_r2() -> None:
    truth = pad_sequences([[1], [2, 1], [2, 3, 1], [3, 2]], 5)
    guess = pad_sequences([[1, 4], [2, 4, 1], [2, 3], [2, 3]], 5)
    # label 1 stood at 1, 2, 3 (mean 2, SST 2), was put at 1, 3 and, missing, at 5: SSE 0 + 1 + 4
    # label 2 stood at 1, 1, 2 (mean 4/3, SST 2/3), was put at 1, 1, 1: SSE 1
    # label 3 stood at 2, 1 (SST 1/2), was put at 2, 2: SSE 1
    found = order_r2(truth, guess, 5)
    assert found[:3] == pytest.approx([1 - 5 / 2, 1 - 3 / 2, 1 - 2])
    assert np.isnan(found[3:]).all()  # never manipulated


def test_r2_has_a_sign() -> None:
    truth = pad_sequences([[1, 2, 3], [3, 2, 1], [2, 1, 3]], 5)
    assert (order_r2(truth, truth, 5)[:3] == 1).all()
    # Perfectly correlated the wrong way round: a squared correlation would call this perfect.
    turned = pad_sequences([[3, 2, 1], [1, 2, 3], [3, 1, 2]], 5)
    assert order_r2(truth, turned, 5)[0] == -3
    assert np.isnan(order_r2(truth[:1], truth[:1], 5)).all()  # one position only


@pytest.mark.parametrize("seed", range(5))
def test_r2_agrees_with_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    draws = [[list(rng.permutation(5)[: rng.integers(0, 6)] + 1) for _ in range(60)] for _ in range(2)]
    found = order_r2(*(pad_sequences(draw, 5) for draw in draws), 5)
    for label in range(1, 6):
        rows = [
            (t.index(label) + 1, g.index(label) + 1 if label in g else 5)
            for t, g in zip(*draws, strict=True)
            if label in t
        ]
        assert found[label - 1] == pytest.approx(r2_score(*zip(*rows, strict=True)))
