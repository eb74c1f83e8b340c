"""Component vocabularies and the label algebra of the paper (Eq. 1, 2)."""

from collections.abc import Sequence

COMPONENTS = ("nose", "eye", "eyebrow", "lip", "hair")
ATTRIBUTES = ("bangs", "eyeglasses", "beard", "smiling", "young")
BINARY = ("face",)

VOCABULARIES = {"components": COMPONENTS, "attributes": ATTRIBUTES, "binary": BINARY}


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
