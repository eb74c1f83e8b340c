"""Component vocabularies and the label algebra of the paper (Eq. 1, 2)."""

from collections.abc import Sequence
from typing import NamedTuple

COMPONENTS = ("nose", "eye", "eyebrow", "lip", "hair")
ATTRIBUTES = ("bangs", "eyeglasses", "beard", "smiling", "young")
BINARY = ("face",)

VOCABULARIES = {"components": COMPONENTS, "attributes": ATTRIBUTES, "binary": BINARY}

Parts = tuple[int | None, ...]  # (L,) partial labels: 1 manipulated, 0 not, None unknown


class Answer(NamedTuple):
    """What is known about one face. Whether it is forged always is; the rest may be unknown in part."""

    forged: bool
    presence: Parts  # (L,), Eq. 1 where known
    ranks: tuple[int, ...]  # (L,), Eq. 2; L throughout where the order is unknown
    ordered: bool  # whether the ranks are known


def answer(sequence: Sequence[int], length: int, *, parts: Parts | None = None, fake: bool = False) -> Answer:
    """The labels of one face from its sequence, or from what is known in part.

    parts None: the sequence says everything, and an empty one is a real face, unless `fake` says that it is a
    forged one of which no more is known. The order of a single manipulation is known when all labels are.

    Raises ValueError for a bad sequence, parts of another length, and parts beside a sequence.

    >>> answer([4, 2], 5)
    Answer(forged=True, presence=(0, 1, 0, 1, 0), ranks=(5, 2, 5, 1, 5), ordered=True)
    >>> answer([], 5, parts=(1, 0, None, 1, 0))
    Answer(forged=True, presence=(1, 0, None, 1, 0), ranks=(5, 5, 5, 5, 5), ordered=False)
    >>> answer([], 5, fake=True)
    Answer(forged=True, presence=(None, None, None, None, None), ranks=(5, 5, 5, 5, 5), ordered=False)
    """
    labels = check_sequence(sequence, length)
    if parts is not None and labels:
        raise ValueError("a sequence leaves nothing to be known in part")
    if length == 1:  # a single label says what is always known
        forged = bool(labels) or fake or parts == (1,)
        return Answer(forged, (int(forged),), (1,), True)
    if parts is None and fake and not labels:
        parts = (None,) * length
    if parts is None:
        return Answer(bool(labels), presence(labels, length), ranks(labels, length), True)
    if len(parts) != length or any(part not in (0, 1, None) for part in parts):
        raise ValueError(f"expected {length} labels of 1, 0 and unknown, got {list(parts)}")
    if None not in parts and sum(filter(None, parts)) <= 1:
        sequence = [parts.index(1) + 1] if 1 in parts else []
        known = not (fake and not sequence)  # forged elsewhere than in any label
        return Answer(fake or bool(sequence), parts, ranks(sequence, length), known)
    return Answer(fake or 1 in parts, parts, (length,) * length, False)


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


def presence(sequence: Sequence[int], length: int) -> tuple[int, ...]:
    """Eq. 1: y_i = 1 if component i (1-based) is in the sequence, else 0.

    >>> presence([4, 2], 5)
    (0, 1, 0, 1, 0)
    """
    labels = check_sequence(sequence, length)
    return tuple(int(i in labels) for i in range(1, length + 1))


def ranks(sequence: Sequence[int], length: int) -> tuple[int, ...]:
    """Eq. 2: r_i = 1-based position of component i in the sequence, else L = length.

    >>> ranks([4, 2], 5)
    (5, 2, 5, 1, 5)
    """
    labels = check_sequence(sequence, length)
    return tuple(labels.index(i) + 1 if i in labels else length for i in range(1, length + 1))
