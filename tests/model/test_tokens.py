"""2-D sine positions."""

import pytest
import torch

from forgerank.model.tokens import sine_positions


def test_positions_are_unique_and_row_major() -> None:
    positions = sine_positions(3, 5, 16)
    assert positions.shape == (15, 16)
    distances = torch.cdist(positions, positions) + torch.eye(15)
    assert distances.min() > 0.1
    assert torch.equal(positions[0, :8], positions[4, :8])  # same y
    assert torch.equal(positions[1, 8:], positions[11, 8:])  # same x
    torch.testing.assert_close(positions[7, 0], torch.tensor(1.0).sin())  # y = 1 at the fastest rate


def test_positions_need_four_parts() -> None:
    with pytest.raises(ValueError, match="multiple of 4"):
        sine_positions(2, 2, 6)
