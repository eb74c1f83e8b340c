"""Accuracy of predicted sequences, as the Seq-DeepFake benchmark defines it (design, section 3)."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Order = Literal["first_to_last", "last_to_first"]
Labels = NDArray[np.int64]  # (M, P) 1-based labels in order of manipulation, right-padded with 0


def pad_sequences(sequences: Sequence[Sequence[int]], length: int = 5) -> Labels:
    """Sequences of labels -> (M, length), right-padded with 0. Raises ValueError where one is longer.

    >>> pad_sequences([[4, 2], []], 3).tolist()
    [[4, 2, 0], [0, 0, 0]]
    """
    padded = np.zeros((len(sequences), length), dtype=np.int64)
    for row, sequence in zip(padded, sequences, strict=True):
        if len(sequence) > length:
            raise ValueError(f"the sequence {list(sequence)} is longer than {length}")
        row[: len(sequence)] = sequence
    return padded


def predict_sequences(
    scores: ArrayLike, thresholds: ArrayLike, order: Order, ranking_scores: ArrayLike | None = None
) -> Labels:
    """The labels whose score reaches its threshold, in the order that the scores tell.

    scores (M, L) and thresholds (L,) on one scale, probabilities or logits; ranking_scores (M, L), by default
    the scores, tell the order of what reached its threshold; returns (M, L).

    >>> predict_sequences([[0.9, 0.1, 0.6]], [0.5, 0.5, 0.5], "last_to_first").tolist()
    [[3, 1, 0]]
    """
    values = np.asarray(scores, dtype=np.float64)
    present = values >= np.asarray(thresholds)
    telling = values if ranking_scores is None else np.asarray(ranking_scores, dtype=np.float64)
    signed = -telling if order == "first_to_last" else telling
    # Absent labels sort behind all present ones; among equals the smaller label comes first.
    ranking = np.argsort(np.where(present, signed, np.inf), axis=1, kind="stable")
    return np.where(np.take_along_axis(present, ranking, axis=1), ranking + 1, 0)


def reverse_sequences(sequences: ArrayLike) -> Labels:
    """Padded sequences (M, P) from their last label to their first; the padding stays on the right.

    >>> reverse_sequences([[4, 2, 0], [0, 0, 0], [3, 0, 1]]).tolist()
    [[2, 4, 0], [0, 0, 0], [1, 0, 3]]
    """
    labels = np.asarray(sequences, dtype=np.int64)
    width = labels.shape[1]
    lengths = width - (labels[:, ::-1] > 0).argmax(axis=1)
    lengths = np.where((labels > 0).any(axis=1), lengths, 0)[:, None]
    places = np.arange(width)
    mirrored = np.where(places < lengths, lengths - 1 - places, places)
    return np.take_along_axis(labels, mirrored, axis=1)


def labels_present(sequences: ArrayLike, length: int) -> Labels:
    """Which labels occur in padded sequences (M, P), whatever their place: (M, length) in {0, 1}.

    >>> labels_present([[3, 0, 0], [2, 1, 2]], 3).tolist()
    [[0, 0, 1], [1, 1, 0]]
    """
    labels = np.arange(1, length + 1)
    present: Labels = (np.asarray(sequences)[:, :, None] == labels).any(axis=1).astype(np.int64)
    return present


def multi_label_accuracy(truth: ArrayLike, predicted: ArrayLike, known: ArrayLike | None = None) -> float:
    """Share of right yes-or-no answers over the known labels of all images.

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

    m = the larger number of labels in truth and prediction; an image where both are empty counts 1 right of
    1.

    >>> adaptive_accuracy([[4, 2, 0, 0, 0], [0, 0, 0, 0, 0]], [[4, 3, 1, 0, 0], [0, 0, 0, 0, 0]])
    0.5
    """
    true, guess = _same_shape(truth, predicted)
    counts = np.maximum((true > 0).sum(1), (guess > 0).sum(1))
    positions = np.arange(true.shape[1]) < np.maximum(counts, 1)[:, None]
    return float(((true == guess) & positions).sum() / positions.sum())


def complete_sequence_share(truth: ArrayLike, predicted: ArrayLike) -> float:
    """Share of images whose whole sequence is right; both (M, P)."""
    true, guess = _same_shape(truth, predicted)
    return float((true == guess).all(1).mean())


def all_none_floor(truth: ArrayLike) -> float:
    """Fixed-Acc of answering "nothing was manipulated" throughout; truth (M, P)."""
    true = np.asarray(truth)
    return fixed_accuracy(true, np.zeros_like(true))


def _same_shape(truth: ArrayLike, predicted: ArrayLike) -> tuple[Labels, Labels]:
    true, guess = np.asarray(truth), np.asarray(predicted)
    if true.ndim != 2 or true.shape != guess.shape or true.size == 0:
        raise ValueError(f"expected two equal shapes (M, P), got {true.shape} and {guess.shape}")
    return true, guess
