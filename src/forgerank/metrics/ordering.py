"""How well scores tell which manipulation came first."""

import numpy as np
from numpy.typing import ArrayLike

from forgerank.metrics.sequence import Order


def order_pairs(sequences: ArrayLike, scores: ArrayLike, order: Order) -> tuple[float, int]:
    """(pairs ranked right, pairs) over all pairs of the true sequences; a tie counts half.

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
    """Share of all pairs of the true sequences whose scores stand in the right order; NaN without a pair.

    Chance is 0.5, and so is a constant answer.

    >>> pairwise_order_accuracy([[1, 2, 3]], [[0.9, 0.4, 0.6]], "first_to_last")
    0.6666666666666666
    """
    right, pairs = order_pairs(sequences, scores, order)
    return right / pairs if pairs else float("nan")
