"""Accuracy of predicted sequences, as the Seq-DeepFake benchmark defines it (Shao, Wu, Liu, ECCV 2022), and
of their order alone.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from forgerank.labels import Order, Sequences, presence, ranks


def predict_sequences(
    scores: ArrayLike, thresholds: ArrayLike, order: Order, ranking_scores: ArrayLike | None = None
) -> Sequences:
    """The labels whose scores reach their thresholds, sorted by score: (M, L) padded sequences.

    scores (M, L) and thresholds (L,) on one scale, probabilities or logits; ranking_scores (M, L), by which
    the labels are sorted, are the scores by default. Among equal ones the smaller label comes first.

    >>> predict_sequences([[0.9, 0.1, 0.6]], [0.5, 0.5, 0.5], "last_to_first").tolist()
    [[3, 1, 0]]
    """
    values = np.asarray(scores, dtype=np.float64)
    present = values >= np.asarray(thresholds)
    order_scores = values if ranking_scores is None else np.asarray(ranking_scores, dtype=np.float64)
    signed = -order_scores if order == "first_to_last" else order_scores
    # Absent labels are sorted behind all present ones.
    ranking = np.argsort(np.where(present, signed, np.inf), axis=1, kind="stable")
    return np.where(np.take_along_axis(present, ranking, axis=1), ranking + 1, 0)


def multi_label_accuracy(truth: ArrayLike, predicted: ArrayLike, known: ArrayLike | None = None) -> float:
    """Share of correct decisions over the known labels of all images.

    truth, predicted (M, L) in {0, 1}; known (M, L), by default all true; NaN where no label is known.
    """
    true, guess = _same_shape(truth, predicted)
    right = (true == guess)[
        np.ones(true.shape, dtype=bool) if known is None else np.asarray(known, dtype=bool)
    ]
    return float(right.mean()) if len(right) else float("nan")


def fixed_accuracy(truth: ArrayLike, predicted: ArrayLike) -> float:
    """Fixed-Acc: share of matches over all positions, padding counted; both (M, P) padded sequences.

    >>> fixed_accuracy([[4, 2, 0, 0, 0]], [[4, 3, 0, 0, 0]])
    0.8
    """
    true, guess = _same_shape(truth, predicted)
    return float((true == guess).mean())


def adaptive_accuracy(truth: ArrayLike, predicted: ArrayLike) -> float:
    """Adaptive-Acc: matches over the first m positions / m, summed over images before the division.

    m = the larger number of labels in truth and prediction; where both are empty, 1 match of m = 1.

    >>> adaptive_accuracy([[4, 2, 0, 0, 0], [0, 0, 0, 0, 0]], [[4, 3, 1, 0, 0], [0, 0, 0, 0, 0]])
    0.5
    """
    true, guess = _same_shape(truth, predicted)
    counts = np.maximum((true > 0).sum(1), (guess > 0).sum(1))
    positions = np.arange(true.shape[1]) < np.maximum(counts, 1)[:, None]
    return float(((true == guess) & positions).sum() / positions.sum())


def complete_sequence_share(truth: ArrayLike, predicted: ArrayLike) -> float:
    """Share of images whose whole sequence is correct; both (M, P)."""
    true, guess = _same_shape(truth, predicted)
    return float((true == guess).all(1).mean())


def all_none_floor(truth: ArrayLike) -> float:
    """Fixed-Acc of predicting "nothing was manipulated" for every image; truth (M, P)."""
    true = np.asarray(truth)
    return fixed_accuracy(true, np.zeros_like(true))


def _same_shape(truth: ArrayLike, predicted: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    true, guess = np.asarray(truth), np.asarray(predicted)
    if true.ndim != 2 or true.shape != guess.shape or true.size == 0:
        raise ValueError(f"expected two equal shapes (M, P), got {true.shape} and {guess.shape}")
    return true, guess


def order_pairs(sequences: ArrayLike, scores: ArrayLike, order: Order) -> tuple[float, int]:
    """(pairs in the right order, pairs) over all pairs of the true sequences; a tie counts half.

    sequences (M, P) padded, 1-based; scores (M, L). `order` says which end of the sequence has the larger
    score.
    """
    labels, values = np.asarray(sequences), np.asarray(scores, dtype=np.float64)
    ordered = np.take_along_axis(values, np.maximum(labels - 1, 0), axis=1)  # (M, P)
    sign = 1 if order == "first_to_last" else -1
    difference = sign * (ordered[:, :, None] - ordered[:, None, :])  # > 0: i ranked before j
    earlier = np.triu(np.ones((labels.shape[1],) * 2, dtype=bool), k=1)
    pairs = earlier & (labels[:, :, None] > 0) & (labels[:, None, :] > 0)
    right = (difference > 0)[pairs].sum() + 0.5 * (difference == 0)[pairs].sum()
    return float(right), int(pairs.sum())


def pairwise_order_accuracy(sequences: ArrayLike, scores: ArrayLike, order: Order) -> float:
    """Share of all pairs of the true sequences whose scores are in the right order; NaN without a pair.

    Random and constant scores get 0.5.

    >>> pairwise_order_accuracy([[1, 2, 3]], [[0.9, 0.4, 0.6]], "first_to_last")
    0.6666666666666666
    """
    right, pairs = order_pairs(sequences, scores, order)
    return right / pairs if pairs else float("nan")


def order_r2(truth: ArrayLike, predicted: ArrayLike, length: int) -> NDArray[np.float64]:
    """R^2 = 1 - SSE / SST between the predicted and the true position of each label (Table 4), (length,).

    truth, predicted (M, P) padded sequences. Only images where the label was truly manipulated count; where
    it is not predicted its position is `length`. At most 1; the mean position gets 0, worse predictions are
    negative, without bound. NaN where the true positions do not vary.

    >>> order_r2([[1, 2], [2, 1], [1, 0]], [[1, 2], [2, 1], [0, 0]], 2).tolist()
    [-0.5, 1.0]
    """
    true, guess = np.asarray(truth), np.asarray(predicted)
    manipulated, place = presence(true, length), ranks(true, length)  # (M, L)
    error = place - ranks(guess, length)
    counts = np.maximum(manipulated.sum(axis=0), 1)
    means = (place * manipulated).sum(axis=0) / counts
    total = (((place - means) ** 2) * manipulated).sum(axis=0)
    varies = np.where(total > 1e-9, total, np.nan)
    return np.asarray(1 - ((error**2) * manipulated).sum(axis=0) / varies)
