"""The loss of networks that predict a sequence step by step, one class per step."""

import torch
import torch.nn.functional as F
from torch import Tensor


def step_loss(step_logits: Tensor, sequences: Tensor, *, ordered: Tensor | None = None) -> Tensor:
    """Cross-entropy of each step's class, padding included, mean over steps and rows of known order.

    step_logits (B, P, L + 1), class 0 = none; sequences (B, P) padded, in 0..L; ordered (B,) bool, where the
    order is known, None: in every row; returns a scalar >= 0, 0 where no order is known.

    >>> step_loss(torch.zeros(1, 2, 4), torch.tensor([[3, 0]]))  # log 4
    tensor(1.3863)
    """
    logits = step_logits.to(torch.promote_types(step_logits.dtype, torch.float32))
    if ordered is not None:
        logits, sequences = logits[ordered], sequences[ordered]
    if not len(logits):
        return logits.sum()  # 0, with a gradient of zeros; a mean over nothing is not a number
    return F.cross_entropy(logits.flatten(0, 1), sequences.flatten())
