"""Padded sequences, Eq. 1 and Eq. 2, on NumPy arrays and on torch tensors, against plain Python."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from forgerank.labels import face_labels, largest_first, pad_sequences, presence, ranks, reverse

LENGTHS = st.integers(1, 6)


def sequences_of(length: int) -> st.SearchStrategy[list[list[int]]]:
    """Batches of sequences without repeats."""
    one = st.permutations(range(1, length + 1)).flatmap(
        lambda labels: st.integers(0, length).map(lambda count: list(labels[:count]))
    )
    return st.lists(one, min_size=1, max_size=4)


@given(st.data(), LENGTHS)
def test_arrays_and_tensors_agree_with_plain_python(data: st.DataObject, length: int) -> None:
    sequences = data.draw(sequences_of(length))
    labels = range(1, length + 1)
    padded = pad_sequences(sequences, length)
    for values in (padded, torch.from_numpy(padded)):
        assert presence(values, length).tolist() == [[int(i in s) for i in labels] for s in sequences]
        assert ranks(values, length).tolist() == [
            [s.index(i) + 1 if i in s else length for i in labels] for s in sequences
        ]
        backwards = pad_sequences([s[::-1] for s in sequences], length).tolist()
        assert reverse(values).tolist() == largest_first(values, "last_to_first").tolist() == backwards
        assert largest_first(values, "first_to_last") is values
    for sequence in sequences:
        assert face_labels(sequence, length).sequence == tuple(pad_sequences([sequence], length)[0])


@given(st.lists(st.lists(st.integers(0, 3), min_size=4, max_size=4), min_size=1, max_size=5))
def test_predicted_sequences_may_have_gaps_and_repeats(rows: list[list[int]]) -> None:
    for values in (np.array(rows), torch.tensor(rows)):
        assert presence(values, 3).tolist() == [[int(i in row) for i in (1, 2, 3)] for row in rows]
        # Of a repeated label the first position counts.
        assert ranks(values, 3).tolist() == [
            [row.index(i) + 1 if i in row else 3 for i in (1, 2, 3)] for row in rows
        ]
        ends = [max((place + 1 for place, label in enumerate(row) if label), default=0) for row in rows]
        expected = [row[:end][::-1] + row[end:] for row, end in zip(rows, ends, strict=True)]
        assert reverse(values).tolist() == expected


@pytest.mark.parametrize("values", [np.array([[4, 2, 0]]), torch.tensor([[4, 2, 0]])])
def test_what_goes_in_comes_out(values: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> None:
    for found in (presence(values, 5), ranks(values, 5), reverse(values)):
        assert type(found) is type(values)
        assert found.dtype == values.dtype
    assert presence(values, 5).tolist() == [[0, 1, 0, 1, 0]]
    assert ranks(values, 5).tolist() == [[5, 2, 5, 1, 5]]


def test_a_longer_sequence_is_refused() -> None:
    with pytest.raises(ValueError, match="longer than 2"):
        pad_sequences([[1, 2, 3]], 2)
