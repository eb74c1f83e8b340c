"""Order of manipulation as an order of logits: Eq. 13-14 and two direct ranking losses."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Order = Literal["first_to_last", "last_to_first"]


def target_ranks(presence: Tensor, ranks: Tensor, order: Order = "first_to_last") -> Tensor:
    """Eq. 2, seen from the end of the sequence that gets the largest logit.

    presence (B, L) in {0, 1}; ranks (B, L), 1-based position in the sequence, L where absent; returns (B, L).

    >>> presence, ranks = torch.tensor([[0, 1, 0, 1, 0]]), torch.tensor([[5, 2, 5, 1, 5]])
    >>> target_ranks(presence, ranks, "last_to_first")
    tensor([[5, 1, 5, 2, 5]])
    """
    if order == "first_to_last":
        return ranks
    length = presence.sum(dim=1, keepdim=True).to(ranks.dtype)
    return torch.where(presence > 0.5, length + 1 - ranks, ranks)


def predicted_ranks(logits: Tensor) -> Tensor:
    """Rank o_i of each logit in its row, 1 = largest, the earlier index first among equals; (B, L) to (B, L).

    >>> predicted_ranks(torch.tensor([[0.1, 3.0, -2.0]]))
    tensor([[2, 1, 3]])
    """
    return logits.argsort(dim=1, descending=True, stable=True).argsort(dim=1) + 1


def rank_weights(
    logits: Tensor, presence: Tensor, ranks: Tensor, *, alpha: float = 1.0, order: Order = "first_to_last"
) -> Tensor:
    """Eq. 14. w_i = alpha if i is absent and o_i > |Y|, else alpha |o_i - r_i|; all (B, L).

    Carries no gradient. The paper prints r_i > |Y|, which contradicts its prose; o_i is what that describes.
    """
    predicted = predicted_ranks(logits.detach())
    manipulated = presence > 0.5
    settled = ~manipulated & (predicted > manipulated.sum(dim=1, keepdim=True))
    distance = (predicted - target_ranks(presence, ranks, order)).abs()
    return alpha * torch.where(settled, 1, distance).to(logits.dtype)


def rank_loss(
    logits: Tensor,
    presence: Tensor,
    ranks: Tensor,
    *,
    alpha: float = 1.0,
    order: Order = "first_to_last",
    ordered: Tensor | None = None,
) -> Tensor:
    """Eq. 13. Cross-entropy weighted by the error in rank: sum over components, mean over the batch.

    logits, presence in {0, 1} and ranks (Eq. 2) are (B, L); ordered (B,) bool, whether the order is
    known, None: of every row; returns a scalar >= 0. A row of unknown order adds 0 and gets no gradient.
    """
    logits, presence = _where_ordered(logits, presence, ordered)
    weights = rank_weights(logits, presence, ranks, alpha=alpha, order=order)
    entropy = F.binary_cross_entropy_with_logits(logits, presence.to(logits.dtype), reduction="none")
    losses = (weights * entropy).sum(dim=1)  # (B,)
    return (losses if ordered is None else torch.where(ordered, losses, 0)).mean()


def pairwise_rank_loss(
    logits: Tensor,
    presence: Tensor,
    ranks: Tensor,
    *,
    order: Order = "first_to_last",
    ordered: Tensor | None = None,
) -> Tensor:
    """Logistic loss on the difference of logits, mean over all pairs inside the true sequences of the batch.

    logits, presence in {0, 1} and ranks (Eq. 2) are (B, L); ordered as for `rank_loss`: rows of unknown order
    have no pair; returns a scalar >= 0, 0 without a pair.
    """
    logits, presence = _where_ordered(logits, presence, ordered)
    manipulated = presence > 0.5
    target = target_ranks(presence, ranks, order)
    ahead = target[:, :, None] < target[:, None, :]  # (B, L, L): i must beat j
    pairs = ahead & manipulated[:, :, None] & manipulated[:, None, :]
    losses = F.softplus(logits[:, None, :] - logits[:, :, None])  # (B, L, L)
    return torch.where(pairs, losses, 0).sum() / pairs.sum().clamp_min(1)


def plackett_luce_loss(
    logits: Tensor,
    presence: Tensor,
    ranks: Tensor,
    *,
    order: Order = "first_to_last",
    ordered: Tensor | None = None,
) -> Tensor:
    """Plackett-Luce: negative log-likelihood of the true sequences, mean over choices among two or more.

    logits, presence in {0, 1} and ranks (Eq. 2) are (B, L); ordered as for `rank_loss`: rows of unknown order
    have no choice; returns a scalar >= 0, 0 without a choice.
    """
    logits, presence = _where_ordered(logits, presence, ordered)
    manipulated = presence > 0.5
    target = target_ranks(presence, ranks, order)
    # (B, L, L): when i is chosen, j is still to come
    behind = (target[:, :, None] < target[:, None, :]) & manipulated[:, None, :]
    itself = torch.eye(logits.shape[1], dtype=torch.bool, device=logits.device)
    scores = logits[:, None, :].masked_fill(~(behind | itself), torch.finfo(logits.dtype).min)
    losses = scores.logsumexp(dim=2) - logits  # (B, L)
    choices = manipulated & behind.any(dim=2)
    return torch.where(choices, losses, 0).sum() / choices.sum().clamp_min(1)


def _where_ordered(logits: Tensor, presence: Tensor, ordered: Tensor | None) -> tuple[Tensor, Tensor]:
    """Logits in float32 or more, and presence; zeros in the rows whose order is unknown."""
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if ordered is None:
        return logits, presence
    rows = ordered[:, None]
    return torch.where(rows, logits, 0), torch.where(rows, presence, 0)
