import itertools
import math

import numpy as np
import pytest

from forgerank.metrics.ordering import order_pairs, pairwise_order_accuracy
from forgerank.metrics.sequence import pad_sequences


def test_golden_pairs() -> None:
    truth = pad_sequences([[4, 2], [1, 2, 3], [5], []])
    scores = np.array([[0, 0.2, 0, 0.9, 0], [0.5, 0.9, 0.1, 0, 0], [0] * 5, [0] * 5])
    # 4 before 2 right; of (1,2) (1,3) (2,3) two right; single and empty sequences have no pair
    assert order_pairs(truth, scores, "first_to_last") == (3.0, 4)
    assert pairwise_order_accuracy(truth, scores, "last_to_first") == 1 / 4


def test_ties_count_half_so_that_a_constant_answer_is_chance() -> None:
    assert pairwise_order_accuracy(pad_sequences([[1, 2, 3]]), np.zeros((1, 5)), "first_to_last") == 0.5


def test_no_pair_is_not_a_number() -> None:
    assert math.isnan(pairwise_order_accuracy(pad_sequences([[1], []]), np.zeros((2, 5)), "first_to_last"))


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
    found = pairwise_order_accuracy(pad_sequences(sequences), scores, "first_to_last")
    assert found == pytest.approx(np.mean(outcomes))
