"""Accuracy of predicted sequences, as the Seq-DeepFake benchmark defines it (Shao, Wu, Liu, ECCV 2022)."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from forgerank.labels import Order, Sequences


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
