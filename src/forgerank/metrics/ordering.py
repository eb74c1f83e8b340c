"""Metrics of the order of manipulations: pairwise accuracy of scores, R^2 of positions."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from forgerank.labels import Order, presence, ranks


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
