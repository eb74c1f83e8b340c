"""Eq. 13-14 and the direct ranking losses against nested loops in float64."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from forgerank.labels import Order, largest_first, pad_sequences, ranks
from forgerank.losses.ranking import (
    pairwise_rank_loss,
    plackett_luce_loss,
    predicted_ranks,
    rank_loss,
    rank_weights,
)

LENGTH = 5
LOGITS = st.sampled_from([-1e4, -1.0, 0.0, 0.5, 1e4]) | st.floats(-30, 30, width=32)
SEQUENCES = st.permutations(range(1, LENGTH + 1)).flatmap(
    lambda labels: st.integers(0, LENGTH).map(lambda count: labels[:count])
)
BATCHES = st.lists(
    st.tuples(SEQUENCES, st.lists(LOGITS, min_size=LENGTH, max_size=LENGTH)), min_size=1, max_size=4
)
ORDERS = st.sampled_from(["first_to_last", "last_to_first"])
Batch = list[tuple[list[int], list[float]]]


def padded(*sequences: list[int]) -> torch.Tensor:
    return torch.from_numpy(pad_sequences(sequences, LENGTH))


def tensors(batch: Batch, order: Order) -> tuple[torch.Tensor, torch.Tensor]:
    logits = torch.tensor([row for _, row in batch], dtype=torch.float64)
    return logits, largest_first(padded(*(sequence for sequence, _ in batch)), order)


def softplus(x: float) -> float:
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


def best_first(sequence: list[int], order: Order) -> list[int]:
    """0-based components, the one that must get the largest logit first."""
    labels = [label - 1 for label in sequence]
    return labels if order == "first_to_last" else labels[::-1]


def reference_rank_loss(batch: Batch, alpha: float, order: Order) -> float:
    total = 0.0
    for sequence, row in batch:
        best = best_first(sequence, order)
        for i in range(LENGTH):
            o = 1 + sum(row[j] > row[i] or (row[j] == row[i] and j < i) for j in range(LENGTH))
            r = best.index(i) + 1 if i in best else LENGTH
            weight = alpha if i not in best and o > len(best) else alpha * abs(o - r)
            total += weight * softplus(-row[i] if i in best else row[i])
    return total / len(batch)


def reference_pairwise(batch: Batch, order: Order) -> float:
    losses = []
    for sequence, row in batch:
        best = best_first(sequence, order)
        for i in range(len(best)):
            losses += [softplus(row[best[j]] - row[best[i]]) for j in range(i + 1, len(best))]
    return sum(losses) / max(len(losses), 1)


def reference_plackett_luce(batch: Batch, order: Order) -> float:
    losses = []
    for sequence, row in batch:
        best = best_first(sequence, order)
        for i in range(len(best) - 1):
            left = [row[j] for j in best[i:]]
            top = max(left)
            losses.append(top + math.log(sum(math.exp(f - top) for f in left)) - row[best[i]])
    return sum(losses) / max(len(losses), 1)


@settings(max_examples=80, deadline=None)
@given(BATCHES, ORDERS, st.sampled_from([0.5, 1.0]))
def test_rank_loss_matches_nested_loops(batch: Batch, order: Order, alpha: float) -> None:
    found = rank_loss(*tensors(batch, order), alpha=alpha).item()
    assert found == pytest.approx(reference_rank_loss(batch, alpha, order), rel=1e-9, abs=1e-12)


@settings(max_examples=80, deadline=None)
@given(BATCHES, ORDERS)
def test_direct_losses_match_nested_loops(batch: Batch, order: Order) -> None:
    found = pairwise_rank_loss(*tensors(batch, order)).item()
    assert found == pytest.approx(reference_pairwise(batch, order), rel=1e-9, abs=1e-12)
    found = plackett_luce_loss(*tensors(batch, order)).item()
    assert found == pytest.approx(reference_plackett_luce(batch, order), rel=1e-9, abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(BATCHES, ORDERS)
def test_gradients_are_finite_and_batch_order_is_free(batch: Batch, order: Order) -> None:
    for loss in (rank_loss, pairwise_rank_loss, plackett_luce_loss):
        logits, sequences = tensors(batch, order)
        logits.requires_grad_()
        value = loss(logits, sequences)
        value.backward()
        assert logits.grad is not None
        assert logits.grad.isfinite().all()
        turned = loss(logits.flip(0), sequences.flip(0))
        torch.testing.assert_close(value, turned)


@pytest.mark.parametrize("order", ["first_to_last", "last_to_first"])
@pytest.mark.parametrize("loss", [rank_loss, pairwise_rank_loss, plackett_luce_loss])
def test_gradcheck(loss: object, order: Order) -> None:
    assert callable(loss)
    batch = [
        ([4, 2, 5], [0.3, -0.2, 0.9, 1.4, -1.0]),
        ([], [0.1, 0.2, 0.3, 0.4, 0.5]),
        ([1], [2.0, 0, 1, -1, 3]),
    ]
    logits, sequences = tensors(batch, order)
    assert torch.autograd.gradcheck(lambda f: loss(f, sequences), (logits.requires_grad_(),))


def test_golden_labels_of_the_paper() -> None:
    """L = 5, Y = {4, 2}: r = (5, 2, 5, 1, 5), and Eq. 14 worked out by hand."""
    sequences = padded([4, 2])
    assert ranks(sequences, 5).tolist() == [[5, 2, 5, 1, 5]]
    logits = torch.tensor([[0.4, 0.9, 0.7, 0.5, -1.0]])
    assert predicted_ranks(logits).tolist() == [[4, 1, 2, 3, 5]]
    # 1 and 5 are absent, below |Y| = 2: alpha; 3 is absent but ranked 2: |2 - 5|; 2 and 4 are off by 1 and 2
    assert rank_weights(logits, sequences, alpha=0.5).tolist() == [[0.5, 0.5, 1.5, 1.0, 0.5]]
    backwards = rank_weights(logits, largest_first(sequences, "last_to_first"))
    assert backwards.tolist() == [[1.0, 0.0, 3.0, 1.0, 1.0]]


def test_a_full_sequence_differs_from_one_without_its_last() -> None:
    """Both have r = (1, 2, 3, 4, 5): only the presence differs."""
    assert ranks(padded([1, 2, 3, 4, 5], [1, 2, 3, 4]), 5).tolist() == [[1, 2, 3, 4, 5]] * 2
    logits = torch.tensor([[4.0, 3.0, 2.0, 0.0, 1.0]])
    weights = [rank_weights(logits, padded(sequence)) for sequence in ([1, 2, 3, 4, 5], [1, 2, 3, 4])]
    assert weights[0].tolist() == [[0, 0, 0, 1, 1]]
    assert weights[1].tolist() == [[0, 0, 0, 1, 1]]
    logits = torch.tensor([[4.0, 3.0, 2.0, 1.0, 0.0]])
    full, short = rank_weights(logits, padded([1, 2, 3, 4, 5])), rank_weights(logits, padded([1, 2, 3, 4]))
    assert full[0, 4] == 0
    assert short[0, 4] == 1


@pytest.mark.parametrize("order", ["first_to_last", "last_to_first"])
@pytest.mark.parametrize("loss", [pairwise_rank_loss, plackett_luce_loss])
def test_descent_finds_the_order(loss: object, order: Order) -> None:
    assert callable(loss)
    logits, sequences = tensors([([3, 1, 4, 2], [0.0] * 5)], order)
    logits.requires_grad_()
    optimizer = torch.optim.SGD([logits], lr=1.0)
    for _ in range(50):
        optimizer.zero_grad()
        loss(logits, sequences).backward()
        optimizer.step()
    found = [i + 1 for i in logits[0].argsort(descending=True).tolist() if i != 4]
    assert found == ([3, 1, 4, 2] if order == "first_to_last" else [2, 4, 1, 3])
    assert logits[0, 4] == 0
