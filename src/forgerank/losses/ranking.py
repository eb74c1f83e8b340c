"""Order of manipulation as an order of logits: Eq. 13-14 and two direct ranking losses.

All take padded sequences (B, P) that begin with the label that must get the largest logit (`largest_first` in
`forgerank.labels`). `ordered` (B,) bool says where the order is known, None: in every row.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from forgerank.labels import presence, ranks


def predicted_ranks(logits: Tensor) -> Tensor:
    """Rank o_i of each logit in its row, 1 = largest, the earlier index first among equals; (B, L) to (B, L).

    >>> predicted_ranks(torch.tensor([[0.1, 3.0, -2.0]]))
    tensor([[2, 1, 3]])
    """
    return logits.argsort(dim=1, descending=True, stable=True).argsort(dim=1) + 1


def rank_weights(logits: Tensor, sequences: Tensor, *, alpha: float = 1.0) -> Tensor:
    """Eq. 14. w_i = alpha if i is absent and o_i > |Y|, else alpha |o_i - r_i|; logits and result (B, L).

    Carries no gradient. The paper prints r_i > |Y|, which contradicts its prose; o_i is what that describes.
    """
    length = logits.shape[1]
    predicted = predicted_ranks(logits.detach())
    manipulated = presence(sequences, length)
    settled = (manipulated == 0) & (predicted > manipulated.sum(dim=1, keepdim=True))
    distance = (predicted - ranks(sequences, length)).abs()
    return alpha * torch.where(settled, 1, distance).to(logits.dtype)


def rank_loss(
    logits: Tensor, sequences: Tensor, *, alpha: float = 1.0, ordered: Tensor | None = None
) -> Tensor:
    """Eq. 13. Cross-entropy weighted by the error in rank: sum over components, mean over the batch.

    logits (B, L); returns a scalar >= 0. A row of unknown order adds 0 and gets no gradient.
    """
    logits, sequences = _where_ordered(logits, sequences, ordered)
    weights = rank_weights(logits, sequences, alpha=alpha)
    labels = presence(sequences, logits.shape[1]).to(logits.dtype)
    entropy = F.binary_cross_entropy_with_logits(logits, labels, reduction="none")
    losses = (weights * entropy).sum(dim=1)  # (B,)
    return (losses if ordered is None else torch.where(ordered, losses, 0)).mean()


def pairwise_rank_loss(logits: Tensor, sequences: Tensor, *, ordered: Tensor | None = None) -> Tensor:
    """Logistic loss on the difference of logits, mean over all pairs inside the true sequences of the batch.

    logits (B, L); returns a scalar >= 0, 0 without a pair. Rows of unknown order have no pair.
    """
    logits, sequences = _where_ordered(logits, sequences, ordered)
    losses = F.softplus(logits[:, None, :] - logits[:, :, None])  # (B, L, L)
    pairs = pairs_in_order(sequences, logits.shape[1])
    return torch.where(pairs, losses, 0).sum() / pairs.sum().clamp_min(1)


def plackett_luce_loss(logits: Tensor, sequences: Tensor, *, ordered: Tensor | None = None) -> Tensor:
    """Plackett-Luce: negative log-likelihood of the true sequences, mean over choices among two or more.

    logits (B, L); returns a scalar >= 0, 0 without a choice. Rows of unknown order have no choice.
    """
    logits, sequences = _where_ordered(logits, sequences, ordered)
    behind = pairs_in_order(sequences, logits.shape[1])  # when i is chosen, j is still to come
    itself = torch.eye(logits.shape[1], dtype=torch.bool, device=logits.device)
    scores = logits[:, None, :].masked_fill(~(behind | itself), torch.finfo(logits.dtype).min)
    losses = scores.logsumexp(dim=2) - logits  # (B, L)
    choices = behind.any(dim=2)
    return torch.where(choices, losses, 0).sum() / choices.sum().clamp_min(1)


def pairs_in_order(sequences: Tensor, length: int) -> Tensor:
    """Whether labels i and j are in the sequence, i before j; (B, P) to (B, L, L) bool."""
    position, manipulated = ranks(sequences, length), presence(sequences, length) > 0
    ahead = position[:, :, None] < position[:, None, :]
    return ahead & manipulated[:, :, None] & manipulated[:, None, :]


def _where_ordered(logits: Tensor, sequences: Tensor, ordered: Tensor | None) -> tuple[Tensor, Tensor]:
    """Logits in float32 or more, and sequences; zeros in the rows whose order is unknown."""
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if ordered is None:
        return logits, sequences
    rows = ordered[:, None]
    return torch.where(rows, logits, 0), torch.where(rows, sequences, 0)
