import numpy as np
import pytest

from forgerank.labels import pad_sequences, reverse
from forgerank.metrics.sequence import (
    adaptive_accuracy,
    all_none_floor,
    complete_sequence_share,
    fixed_accuracy,
    multi_label_accuracy,
    predict_sequences,
)

# Worked by hand from the definitions of the benchmark (Shao, Wu, Liu, ECCV 2022).
TRUTH = pad_sequences([[4, 2], [], [1, 2, 3], [5]], 5)
GUESS = pad_sequences([[4, 3, 1], [], [1, 3, 2], []], 5)


def test_golden_fixed_accuracy() -> None:
    # matches per image: 4,_,_,0,0 -> 3 (positions 1, 4, 5); 5; 1,_,_,0,0 -> 3; _,0,0,0,0 -> 4
    assert fixed_accuracy(TRUTH, GUESS) == 15 / 20


def test_golden_adaptive_accuracy() -> None:
    # m = 3, 0 (counts 1 of 1), 3, 1; matches 1, 1, 1, 0
    assert adaptive_accuracy(TRUTH, GUESS) == 3 / 8


def test_golden_floor_and_complete_share() -> None:
    assert all_none_floor(TRUTH) == (3 + 5 + 2 + 4) / 20
    assert complete_sequence_share(TRUTH, GUESS) == 1 / 4


def test_golden_multi_label_accuracy() -> None:
    assert multi_label_accuracy([[1, 0, 1], [0, 0, 0]], [[1, 1, 1], [0, 0, 1]]) == pytest.approx(4 / 6)


@pytest.mark.parametrize(("order", "expected"), [("first_to_last", [3, 1]), ("last_to_first", [1, 3])])
def test_prediction_follows_the_order(order: str, expected: list[int]) -> None:
    scores = [[0.6, 0.2, 0.9, 0.49, 0.1]]
    predicted = predict_sequences(scores, [0.5] * 5, order)  # type: ignore[arg-type]
    assert predicted.tolist() == [[*expected, 0, 0, 0]]


def test_thresholds_are_per_label_and_inclusive() -> None:
    assert predict_sequences([[0.9, 0.6]], [0.5, 0.5], "first_to_last", [[0.1, 0.2]]).tolist() == [[2, 1]]
    assert predict_sequences([[0.5, 0.5]], [0.5, 0.6], "first_to_last").tolist() == [[1, 0]]


def test_a_true_answer_scores_one_everywhere() -> None:
    for metric in (fixed_accuracy, adaptive_accuracy, complete_sequence_share):
        assert metric(TRUTH, TRUTH) == 1


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="equal shapes"):
        fixed_accuracy(TRUTH, TRUTH[:2])
    with pytest.raises(ValueError, match="equal shapes"):
        fixed_accuracy(np.zeros((0, 5)), np.zeros((0, 5)))


def test_reversed_sequences_score_otherwise() -> None:
    # (2, 4) against (1, 3, 4): only positions 4 and 5 match; 5; (3, 2, 1) against (2, 3, 1): 3; 4
    assert fixed_accuracy(reverse(TRUTH), reverse(GUESS)) == 14 / 20
    assert fixed_accuracy(TRUTH, GUESS) == 15 / 20
