import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from forgerank.losses.cross_entropy import step_loss


def reference(logits: torch.Tensor, sequences: torch.Tensor) -> float:
    """In nested loops and float64."""
    losses = []
    for b in range(logits.shape[0]):
        for t in range(logits.shape[1]):
            values = [float(value) for value in logits[b, t].double()]
            largest = max(values)
            total = largest + math.log(math.fsum(math.exp(value - largest) for value in values))
            losses.append(total - values[int(sequences[b, t])])
    return math.fsum(losses) / len(losses)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 4),
    st.integers(1, 6),
    st.sampled_from([1.0, 30.0, 1e4]),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
def test_step_loss_matches_loops(batch: int, components: int, scale: float, ties: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(0, scale, size=(batch, components, components + 1))
    logits = torch.tensor(np.round(values) if ties else values).requires_grad_()
    sequences = torch.tensor(rng.integers(0, components + 1, size=(batch, components)))
    loss = step_loss(logits, sequences)
    assert loss.item() == pytest.approx(reference(logits.detach(), sequences), rel=1e-9, abs=1e-12)
    loss.backward()
    assert logits.grad is not None
    # softmax minus one-hot: every step's gradient sums to nothing
    torch.testing.assert_close(logits.grad.sum(dim=2), torch.zeros(batch, components).double())


def test_step_loss_is_computed_in_float32_at_least() -> None:
    logits = torch.tensor([[[0.0, 10.0]]], dtype=torch.bfloat16)
    loss = step_loss(logits, torch.tensor([[1]]))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(math.log1p(math.exp(-10)), rel=1e-2)
