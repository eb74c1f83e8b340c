"""Eq. 4-12 against nested loops in float64."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from forgerank.losses.mil import forgery_gap, forgery_probability, mil_loss, regularization_loss

GRID = st.sampled_from([-1.0, -0.5, 0.0, 0.25, 1.0])  # few values, so that pairs tie often


@st.composite
def token_batches(draw: st.DrawFn) -> torch.Tensor:
    batch, count, width = draw(st.integers(1, 3)), draw(st.integers(2, 7)), draw(st.integers(1, 4))
    size = batch * count * width
    values = draw(st.lists(GRID | st.floats(-1, 1, width=32), min_size=size, max_size=size))
    return F.normalize(torch.tensor(values, dtype=torch.float64).view(batch, count, width), dim=-1)


def reference_pairs(tokens: torch.Tensor) -> list[float]:
    rows = tokens.tolist()
    similarities = []
    for i in range(len(rows)):
        for j in range(i + 1, len(rows)):
            similarities.append(max(sum(a * b for a, b in zip(rows[i], rows[j], strict=True)), 0.0))
    return sorted(similarities)


def reference_gaps(tokens: torch.Tensor) -> list[float]:
    """D(k) for k = 1..n-1 of one image."""
    v = [1 - u for u in reference_pairs(tokens)]
    return [math.fsum(v[:k]) / k - math.fsum(v[k:]) / (len(v) - k) for k in range(1, len(v))]


@settings(max_examples=60, deadline=None)
@given(token_batches())
def test_gap_is_the_largest_of_all_k(tokens: torch.Tensor) -> None:
    expected = [max([0.0, *reference_gaps(image)]) for image in tokens]
    np.testing.assert_allclose(forgery_gap(tokens).numpy(), expected, atol=1e-12)
    with_gradient = forgery_gap(tokens.clone().requires_grad_())
    np.testing.assert_allclose(with_gradient.detach().numpy(), expected, atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(token_batches(), st.integers(1, 6))
def test_sampled_k_are_evenly_spaced_and_never_beat_all(tokens: torch.Tensor, k_points: int) -> None:
    expected = []
    for image in tokens:
        gaps = reference_gaps(image)
        chosen = gaps
        if k_points < len(gaps):
            chosen = [gaps[round(float(k)) - 1] for k in np.linspace(1, len(gaps), k_points)]
        expected.append(max([0.0, *chosen]))
    gap = forgery_gap(tokens, k_points)
    np.testing.assert_allclose(gap.numpy(), expected, atol=1e-12)
    assert (gap <= forgery_gap(tokens) + 1e-12).all()


@settings(max_examples=40, deadline=None)
@given(token_batches())
def test_gradient_is_finite_under_ties(tokens: torch.Tensor) -> None:
    for k_points in (None, 2):
        leaf = tokens.clone().requires_grad_()
        mil_loss(forgery_gap(leaf, k_points), torch.ones(len(leaf))).backward()
        assert leaf.grad is not None
        assert leaf.grad.isfinite().all()


@pytest.mark.parametrize("k_points", [None, 5])
def test_gradcheck(k_points: int | None) -> None:
    generator = torch.Generator().manual_seed(3)
    tokens = torch.randn(3, 6, 5, generator=generator, dtype=torch.float64).requires_grad_()
    forged = torch.tensor([1.0, 0.0, 1.0])
    assert torch.autograd.gradcheck(lambda t: forgery_gap(F.normalize(t, dim=-1), k_points), (tokens,))
    assert torch.autograd.gradcheck(
        lambda t: mil_loss(forgery_gap(F.normalize(t, dim=-1), k_points), forged), (tokens,)
    )
    for reduction in ("mean", "sum"):
        assert torch.autograd.gradcheck(
            lambda t, r=reduction: regularization_loss(F.normalize(t, dim=-1), forged, reduction=r), (tokens,)
        )


def test_tied_pairs_across_the_cut_share_the_gradient() -> None:
    """Two groups of tokens: every pair between them ties at u = 0.5, and k = 2 of these 4 are tried."""
    first, second = [1.0, 0.0], [0.5, math.sqrt(0.75)]
    tokens = torch.tensor([[first, first, second, second]], dtype=torch.float64, requires_grad=True)
    forgery_gap(tokens, k_points=1).sum().backward()  # k = 1 alone
    assert tokens.grad is not None
    # dD/du: 1 of 4 tied pairs is in front (-1/1), 3 behind (+1/5); the 2 pairs at u = 1 are behind
    shared, behind = (1 / 4) * -1 + (3 / 4) * (1 / 5), 1 / 5
    other = 2 * shared * torch.tensor(second) + behind * torch.tensor(first)
    torch.testing.assert_close(tokens.grad[0, 0].float(), other.float())
    torch.testing.assert_close(tokens.grad[0, 0], tokens.grad[0, 1])


@pytest.mark.parametrize("count", [2, 3, 9, 64])
def test_all_tokens_equal_give_no_evidence_and_no_gradient(count: int) -> None:
    tokens = torch.tensor([0.6, 0.8]).expand(2, count, 2).clone().requires_grad_()
    gap = forgery_gap(tokens)
    assert (gap < 1e-6).all()
    loss = mil_loss(gap, torch.tensor([1.0, 0.0]))
    loss.backward()
    assert loss.isfinite()
    assert tokens.grad is not None
    assert tokens.grad.isfinite().all()


@pytest.mark.parametrize("count", [3, 10, 50])
def test_one_token_apart_is_the_greatest_evidence(count: int) -> None:
    tokens = torch.zeros(1, count, 2)
    tokens[:, :, 0] = 1
    tokens[:, 4 % count] = torch.tensor([0.0, 1.0])
    tokens.requires_grad_()
    gap = forgery_gap(tokens)
    torch.testing.assert_close(gap, torch.ones(1))
    mil_loss(gap, torch.ones(1)).backward()
    assert tokens.grad is not None
    assert tokens.grad.isfinite().all()


def test_two_tokens_have_one_pair_and_no_contrast() -> None:
    tokens = torch.eye(2).unsqueeze(0).requires_grad_()
    gap = forgery_gap(tokens)
    gap.sum().backward()
    assert gap.item() == 0
    assert tokens.grad is not None
    assert tokens.grad.eq(0).all()


def test_precision_holds_for_many_pairs() -> None:
    """The last of 130,000 pairs alone: a float32 prefix sum would be off by 1e-2."""
    tokens = torch.zeros(1, 512, 3)
    tokens[:, :, 0] = 1
    tokens[:, ::2, 1] = 0.2
    tokens = F.normalize(tokens, dim=-1)
    gap = forgery_gap(tokens).double()
    u = (tokens[0].double() @ tokens[0].double().mT)[np.triu_indices(512, 1)].clamp_min(0).sort().values
    k = torch.arange(1, len(u))
    expected = ((u.sum() - u.cumsum(0)[:-1]) / (len(u) - k) - u.cumsum(0)[:-1] / k).max()
    torch.testing.assert_close(gap[0], expected, atol=2e-7, rtol=0)


@pytest.mark.parametrize("count", [9, 40])
def test_gradient_in_float32_matches_plain_autograd(count: int) -> None:
    """The best split of random tokens is often a single pair, whose weight rounding must not move."""
    generator = torch.Generator().manual_seed(count)
    tokens = F.normalize(torch.randn(4, count, 100, generator=generator) + 0.3, dim=-1).requires_grad_()
    (slope,) = torch.autograd.grad(forgery_gap(tokens).sum(), tokens)
    exact = tokens.detach().double().requires_grad_()
    rows, columns = torch.triu_indices(count, count, 1)
    v = 1 - (exact @ exact.mT).clamp_min(0)[:, rows, columns].sort(dim=1).values
    k = torch.arange(1, v.shape[1])
    sums = v.cumsum(dim=1)
    gaps = sums[:, :-1] / k - (sums[:, -1:] - sums[:, :-1]) / (v.shape[1] - k)
    (expected,) = torch.autograd.grad(gaps.amax(dim=1).sum(), exact)
    torch.testing.assert_close(slope.double(), expected, rtol=1e-4, atol=1e-5)


def test_batch_order_does_not_matter() -> None:
    tokens = F.normalize(torch.randn(5, 6, 4, generator=torch.Generator().manual_seed(0)), dim=-1)
    order = torch.tensor([3, 1, 4, 0, 2])
    torch.testing.assert_close(forgery_gap(tokens[order]), forgery_gap(tokens)[order])
    moved = tokens[:, torch.randperm(6, generator=torch.Generator().manual_seed(1))]
    torch.testing.assert_close(forgery_gap(moved), forgery_gap(tokens))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.floats(1e-3, 1), st.booleans()), min_size=1, max_size=6),
    st.sampled_from([0.05, 0.1, 1.0]),
)
def test_mil_loss_matches_its_definition(cases: list[tuple[float, bool]], tau: float) -> None:
    expected = []
    for gap, is_forged in cases:
        p = 2 / (1 + math.exp(-gap / tau)) - 1
        log_real = math.log(2) - gap / tau - math.log1p(math.exp(-gap / tau))  # 1 - p would cancel
        expected.append(-math.log(p) if is_forged else -log_real)
    gaps = torch.tensor([gap for gap, _ in cases], dtype=torch.float64)
    forged = torch.tensor([float(is_forged) for _, is_forged in cases])
    assert mil_loss(gaps, forged, tau=tau).item() == pytest.approx(math.fsum(expected) / len(cases), rel=1e-9)
    p = [math.tanh(gap / (2 * tau)) for gap, _ in cases]
    np.testing.assert_allclose(forgery_probability(gaps, tau).numpy(), p)


@pytest.mark.parametrize("gap", [0.0, 1e-30, 1e-8, 1.0, 1e4])
@pytest.mark.parametrize("forged", [0.0, 1.0])
def test_mil_loss_is_finite_at_the_extremes(gap: float, forged: float) -> None:
    value = torch.tensor([gap], requires_grad=True)
    loss = mil_loss(value, torch.tensor([forged]), tau=0.01)
    loss.backward()
    assert loss.isfinite()
    assert loss >= 0
    assert value.grad is not None
    assert value.grad.isfinite().all()


@settings(max_examples=40, deadline=None)
@given(token_batches(), st.lists(st.booleans(), min_size=3, max_size=3))
def test_regularization_matches_nested_loops(tokens: torch.Tensor, labels: list[bool]) -> None:
    forged = torch.tensor(labels[: len(tokens)]).float()
    sums = [
        0.0 if is_forged else math.fsum(abs(1 - u) for u in reference_pairs(image))
        for image, is_forged in zip(tokens, labels, strict=False)
    ]
    pairs = tokens.shape[1] * (tokens.shape[1] - 1) / 2
    total = regularization_loss(tokens, forged, reduction="sum").item()
    assert total == pytest.approx(sum(sums) / len(tokens), abs=1e-9)
    assert regularization_loss(tokens, forged).item() == pytest.approx(total / pairs, abs=1e-9)


def test_gap_is_computed_in_float32_under_autocast() -> None:
    tokens = F.normalize(
        torch.randn(2, 16, 8, generator=torch.Generator().manual_seed(0)), dim=-1
    ).requires_grad_()
    forged = torch.zeros(2)
    expected = forgery_gap(tokens), regularization_loss(tokens, forged)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = forgery_gap(tokens), regularization_loss(tokens, forged)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert forgery_gap(tokens.detach().bfloat16()).dtype == torch.float32


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="at least 2 tokens"):
        forgery_gap(torch.ones(1, 1, 4))
    with pytest.raises(ValueError, match="k_points"):
        forgery_gap(torch.ones(1, 4, 4), 0)
