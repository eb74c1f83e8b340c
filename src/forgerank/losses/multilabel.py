"""Which components were manipulated: Eq. 16-18."""

import torch
import torch.nn.functional as F
from torch import Tensor


def multilabel_loss(logits: Tensor, presence: Tensor, *, known: Tensor | None = None) -> Tensor:
    """Eq. 17 on f^U, Eq. 18 on f^V. Binary cross-entropy: sum over components, mean over the batch.

    logits (B, L); presence (B, L) in {0, 1}; known (B, L) bool, None: all; returns a scalar >= 0. Unknown
    labels add 0 and get no gradient, whatever their value.

    >>> multilabel_loss(torch.zeros(1, 2), torch.tensor([[0.0, 1.0]]))
    tensor(1.3863)
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if known is not None:
        logits, presence = torch.where(known, logits, 0), torch.where(known, presence, 0)
    entropy = F.binary_cross_entropy_with_logits(logits, presence.to(logits.dtype), reduction="none")
    if known is not None:
        entropy = torch.where(known, entropy, 0)
    return entropy.sum(dim=1).mean()
