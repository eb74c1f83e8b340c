"""Names of the labels, and the labels of a face: its padded sequence, Eq. 1 and Eq. 2.

A padded sequence lists 1-based labels in order of manipulation, right-padded with 0. `presence`, `ranks` and
`reverse` take NumPy arrays and torch tensors of shape (..., P) alike, and return what they were given.

>>> sequences = pad_sequences([[4, 2], []], 5)
>>> presence(sequences, 5).tolist()
[[0, 1, 0, 1, 0], [0, 0, 0, 0, 0]]
>>> ranks(sequences, 5).tolist()
[[5, 2, 5, 1, 5], [5, 5, 5, 5, 5]]
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

COMPONENTS = ("nose", "eye", "eyebrow", "lip", "hair")
ATTRIBUTES = ("bangs", "eyeglasses", "beard", "smiling", "young")
BINARY = ("face",)

VOCABULARIES = {"components": COMPONENTS, "attributes": ATTRIBUTES, "binary": BINARY}

Order = Literal["first_to_last", "last_to_first"]  # which end of the sequence has the largest score
Parts = tuple[int | None, ...]  # (L,) partial labels: 1 manipulated, 0 not, None unknown
Sequences = NDArray[np.int64]  # (M, P) padded

Array = TypeVar("Array", NDArray[np.int64], "Tensor")


class FaceLabels(NamedTuple):
    """What is known about one face. Whether it is forged always is; the rest may be unknown in part."""

    forged: bool
    presence: Parts  # (L,), Eq. 1 where known
    sequence: tuple[int, ...]  # (L,) padded; 0 throughout where the order is unknown
    ordered: bool  # whether the order is known


def face_labels(
    sequence: Sequence[int], length: int, *, parts: Parts | None = None, fake: bool = False
) -> FaceLabels:
    """The labels of one face from its sequence, or from labels that are known in part.

    parts None: the sequence is complete, and an empty one is a real face, unless `fake` says that it is a
    forged one of which no more is known. The order of a single manipulation is known when all labels are.

    Raises ValueError for a bad sequence, parts of another length, and parts beside a sequence.

    >>> face_labels([4, 2], 5)
    FaceLabels(forged=True, presence=(0, 1, 0, 1, 0), sequence=(4, 2, 0, 0, 0), ordered=True)
    >>> face_labels([], 5, parts=(1, 0, None, 1, 0))
    FaceLabels(forged=True, presence=(1, 0, None, 1, 0), sequence=(0, 0, 0, 0, 0), ordered=False)
    >>> face_labels([], 5, fake=True)
    FaceLabels(forged=True, presence=(None, None, None, None, None), sequence=(0, 0, 0, 0, 0), ordered=False)
    """
    labels = check_sequence(sequence, length)
    if parts is not None and labels:
        raise ValueError("a sequence leaves nothing to be known in part")
    if length == 1:  # forged or not is the single label
        labels, parts, fake = ((1,) if labels or fake or parts == (1,) else ()), None, False
    if parts is None and fake and not labels:
        parts = (None,) * length
    ordered = True
    if parts is not None:
        if len(parts) != length or any(part not in (0, 1, None) for part in parts):
            raise ValueError(f"expected {length} labels of 1, 0 and unknown, got {list(parts)}")
        found = [label for label, part in enumerate(parts, start=1) if part == 1]
        if None in parts or len(found) > 1:
            ordered = False
        else:
            labels = tuple(found)
            ordered = bool(found) or not fake  # a fake without a label was manipulated somewhere else
    padded = labels + (0,) * (length - len(labels))
    known = tuple(int(label in labels) for label in range(1, length + 1)) if parts is None else parts
    return FaceLabels(fake or bool(labels) or 1 in known, known, padded, ordered)


def check_sequence(sequence: Sequence[int], length: int) -> tuple[int, ...]:
    """Strip the right-padding zeros of a sequence of 1-based labels and check what is left.

    Raises ValueError for a label outside 1..length, a repeated label or a zero in the middle.
    """
    labels = list(sequence)
    while labels and labels[-1] == 0:
        labels.pop()
    if any(not 1 <= label <= length for label in labels):
        raise ValueError(f"labels must lie in 1..{length}, got {list(sequence)}")
    if len(set(labels)) != len(labels):
        raise ValueError(f"a label is repeated in {list(sequence)}")
    return tuple(labels)


def pad_sequences(sequences: Sequence[Sequence[int]], length: int) -> Sequences:
    """Sequences of labels to (M, length), right-padded with 0. Raises ValueError where one is longer.

    >>> pad_sequences([[4, 2], []], 3).tolist()
    [[4, 2, 0], [0, 0, 0]]
    """
    padded = np.zeros((len(sequences), length), dtype=np.int64)
    for row, sequence in zip(padded, sequences, strict=True):
        if len(sequence) > length:
            raise ValueError(f"the sequence {list(sequence)} is longer than {length}")
        row[: len(sequence)] = sequence
    return padded


def presence(sequences: Array, length: int) -> Array:
    """Eq. 1: y_i = 1 if label i is in the sequence, else 0; (..., P) to (..., length).

    >>> presence(np.array([4, 2, 0, 0, 0]), 5).tolist()
    [0, 1, 0, 1, 0]
    """
    present: Array = _found(sequences, length).any(-2) * 1
    return present


def ranks(sequences: Array, length: int) -> Array:
    """Eq. 2: r_i = 1-based position of label i in the sequence, else L = length; (..., P) to (..., length).

    Of a repeated label the first position counts.

    >>> ranks(np.array([4, 2, 0, 0, 0]), 5).tolist()
    [5, 2, 5, 1, 5]
    """
    found = _found(sequences, length)
    positions: Array = length + found.any(-2) * ((found * 1).argmax(-2) + 1 - length)
    return positions


def reverse(sequences: Array) -> Array:
    """From the last label to the first, (..., P); the padding stays on the right.

    A 0 between labels, which a network may predict, keeps its place among them.

    >>> reverse(np.array([[4, 2, 0], [0, 0, 0], [3, 0, 1]])).tolist()
    [[2, 4, 0], [0, 0, 0], [1, 0, 3]]
    """
    labels: Any = sequences
    places = _numbers(labels.shape[-1], labels)
    # Up to the last label, (..., P): where a label stands here or further right.
    inside = ((labels > 0)[..., None, :] & (places >= places[:, None])).any(-1)
    target = places + inside * (inside.sum(-1)[..., None] + 1 - 2 * places)
    reversed_: Array = (labels[..., None] * (target[..., None] == places)).sum(-2)
    return reversed_


def largest_first(sequences: Array, order: Order) -> Array:
    """Sequences, (..., P), that begin at the end which has the largest score. Applied twice: as before."""
    return sequences if order == "first_to_last" else reverse(sequences)


def _found(sequences: Any, length: int) -> Any:
    """Whether a label stands at a position, (..., P, length)."""
    return sequences[..., None] == _numbers(length, sequences)


def _numbers(count: int, like: Any) -> Any:
    """1..count, of the library and on the device of `like`."""
    return np.arange(1, count + 1) if isinstance(like, np.ndarray) else like.new_tensor(range(1, count + 1))
