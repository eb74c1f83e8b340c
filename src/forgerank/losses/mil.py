"""Eq. 4-12, multiple instance learning (MIL): contrast between patch tokens as evidence of forgery."""

import math
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

Reduction = Literal["mean", "sum"]

_SMALLEST_CONTRAST = 1e-6  # keeps log P finite when all tokens are equal
_CACHED_PAIRS = 2**19  # entries of S, 2 MiB in float32


def similarity_map(tokens: Tensor) -> Tensor:
    """Eq. 4. S = max(U~ U~^T, 0); tokens (B, N, d) with rows of unit length; returns (B, N, N) in [0, 1]."""
    return torch.relu_(tokens @ tokens.mT)


def forgery_gap(tokens: Tensor, k_points: int | None = None) -> Tensor:
    """Eq. 7-8. Largest gap max_k D(k) between the k most dissimilar token pairs (Eq. 5) and the other n - k.

    tokens (B, N, d) with rows of unit length, n = N(N-1)/2 pairs; returns (B,) in [0, 1]. Every k in 1..n-1
    is tried; `k_points` tries that many evenly spaced ones, as the paper does with 100. With N = 2 there is
    a single pair: the gap is 0. ValueError for fewer tokens or `k_points` below 1.

    >>> tokens = torch.tensor([[[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]])  # one token apart from two equal ones
    >>> forgery_gap(tokens)
    tensor([1.])
    """
    if tokens.shape[1] < 2:
        raise ValueError(f"a contrast needs at least 2 tokens, got {tokens.shape[1]}")
    if k_points is not None and k_points < 1:
        raise ValueError(f"k_points must be positive, got {k_points}")
    with torch.autocast(tokens.device.type, enabled=False):
        tokens = _at_least_float32(tokens)
        if tokens.requires_grad and torch.is_grad_enabled():
            gap: Tensor = _ForgeryGap.apply(tokens, k_points)
            return gap
        return _best_split(_pairs(similarity_map(tokens)).sort(dim=1).values, k_points)[0]


def forgery_probability(gap: Tensor, tau: float = 0.1) -> Tensor:
    """Eq. 9, with tau of Eq. 6. P(x) = tanh(max_k D(k) / (2 tau)); gap (B,) >= 0; returns (B,) in [0, 1]."""
    return torch.tanh(gap / (2 * tau))


def mil_loss(gap: Tensor, forged: Tensor, *, tau: float = 0.1) -> Tensor:
    """Eq. 10. -J log P - (1 - J) log(1 - P), averaged over the batch, from the gap in closed form.

    gap (B,) as `forgery_gap` gives it; forged (B,) in {0, 1}; returns a scalar >= 0.

    >>> mil_loss(torch.tensor([0.1]), torch.tensor([1.0]))  # -log tanh 0.5
    tensor(0.7719)
    """
    gap = _at_least_float32(gap)
    x = gap / tau
    contrast = x.clamp_min(_SMALLEST_CONTRAST)
    log_forged = torch.log(-torch.expm1(-contrast)) - F.softplus(-contrast)
    log_real = math.log(2) - F.softplus(x)
    return -torch.where(forged > 0.5, log_forged, log_real).mean()


def regularization_loss(tokens: Tensor, forged: Tensor, *, reduction: Reduction = "mean") -> Tensor:
    """Eq. 11. Sum over pairs of |1 - u| on the real images, averaged over the whole batch (Eq. 12).

    tokens (B, N, d) with rows of unit length; forged (B,) in {0, 1}; `reduction="mean"` divides by the n
    pairs, so that the scalar lies in [0, 1]; "sum" is Eq. 11 as printed, of the order of n.
    """
    batch, count = tokens.shape[0], tokens.shape[1]
    with torch.autocast(tokens.device.type, enabled=False):
        real = _at_least_float32(tokens[forged <= 0.5])
        total = (1 - similarity_map(real)).abs().triu(diagonal=1).sum()
    pairs = count * (count - 1) // 2 if reduction == "mean" else 1
    return total / (batch * pairs)


def _at_least_float32(values: Tensor) -> Tensor:
    return values.to(torch.promote_types(values.dtype, torch.float32))


class _ForgeryGap(torch.autograd.Function):
    """max_k D(k) with its gradient in closed form.

    At the best k, dD/dv is 1/k for the k largest v and -1/(n-k) for the others: only k and the k-th value are
    needed, not the order. The forward pass computes these weights from S and keeps only their product with
    the tokens (S is symmetric): nothing of size N x N is kept for the backward pass.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, tokens: Tensor, k_points: int | None) -> Tensor:
        # On the CPU a few images at a time, so that S stays in the cache; on a GPU the whole batch.
        part = max(len(tokens), 1)
        if tokens.device.type == "cpu":
            part = max(_CACHED_PAIRS // tokens.shape[1] ** 2, torch.get_num_threads())
        results = [_gap_and_slope(some, k_points) for some in torch.split(tokens, part)]
        ctx.save_for_backward(torch.cat([slope for _, slope in results]))
        return torch.cat([gap for gap, _ in results])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (slope,) = ctx.saved_tensors
        return slope * grad[:, None, None], None


def _gap_and_slope(tokens: Tensor, k_points: int | None) -> tuple[Tensor, Tensor]:
    """max_k D(k), (B,), and its gradient with respect to tokens, (B, N, d)."""
    similarity = similarity_map(tokens)
    pairs = _sort_pairs_(_pairs(similarity))
    gap, k = _best_split(pairs, k_points)
    return gap, _pair_weights(similarity, pairs, k) @ tokens


def _pairs(similarity: Tensor) -> Tensor:
    """Upper triangle without the diagonal: (B, N, N) to (B, n)."""
    index = torch.from_numpy(_pair_index(similarity.shape[1])).to(similarity.device)
    return similarity.flatten(1).index_select(1, index)


@lru_cache(maxsize=4)
def _pair_index(count: int) -> NDArray[np.int32]:
    # As NumPy: a tensor cached during an export would remain a fake tensor.
    rows, columns = np.triu_indices(count, 1)
    return (rows * count + columns).astype(np.int32)


def _sort_pairs_(pairs: Tensor) -> Tensor:
    """Sort each row, in place on the CPU, where NumPy sorts several times as fast as torch.

    NumPy releases the GIL meanwhile: threads sort the rows in parallel.
    """
    if pairs.device.type != "cpu":
        return pairs.sort(dim=1).values
    rows = list(pairs.numpy())
    with ThreadPoolExecutor(min(len(rows), torch.get_num_threads()) or 1) as pool:
        list(pool.map(np.ndarray.sort, rows))
    return pairs


def _best_split(pairs: Tensor, k_points: int | None) -> tuple[Tensor, Tensor]:
    """max_k D(k) and its k, both (B,), from u (B, n) ascending: the k most dissimilar pairs come first."""
    n = pairs.shape[1]
    if n == 1:
        return torch.zeros_like(pairs[:, 0]), torch.ones_like(pairs[:, 0], dtype=torch.long)
    # In float32 the mean of the last few of many pairs would be inaccurate.
    sums = pairs.cumsum(dim=1, dtype=torch.float64)
    total = sums[:, -1:].clone()
    if k_points is None or k_points >= n - 1:
        k = torch.arange(1, n, device=pairs.device)
        sums = sums[:, :-1]
    else:
        k = torch.linspace(1, n - 1, k_points, dtype=torch.float64, device=pairs.device).round().long()
        sums = sums[:, k - 1]
    share = k.double() / n
    gaps = sums.addcmul_(total, share, value=-1).div_(-n * share * (1 - share))  # (B, K)
    best, index = gaps.max(dim=1)
    return best.to(pairs.dtype).clamp_min(0), k[index]


def _pair_weights(similarity: Tensor, pairs: Tensor, k: Tensor) -> Tensor:
    """dD(k)/du of every pair, (B, N, N), where pairs equal to u_(k) share their weights equally."""
    n = pairs.shape[1]
    if n == 1:
        return torch.zeros_like(similarity)
    last = pairs.gather(1, k[:, None] - 1)  # (B, 1): u_(k)
    before = torch.searchsorted(pairs, last)
    tied = torch.searchsorted(pairs, last, right=True) - before
    inside = ((k[:, None] - before) / tied).to(pairs.dtype)  # share of the tied pairs among the k
    below = -1 / k[:, None].to(pairs.dtype)
    above = 1 / (n - k[:, None]).to(pairs.dtype)
    last, below, above = (values[:, :, None] for values in (last, below, above))
    weights = torch.where(similarity > last, above, below)
    if (inside < 1).any():
        inside = inside[:, :, None]
        weights = torch.where(similarity == last, inside * below + (1 - inside) * above, weights)
    weights.masked_fill_(similarity == 0, 0)  # max(., 0) of Eq. 4 passes no gradient
    weights.triu_(diagonal=1)  # in floating point S is not exactly symmetric
    return weights + weights.mT
