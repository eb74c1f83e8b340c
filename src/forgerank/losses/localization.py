"""Where each component was manipulated: an auxiliary loss on masks, not of the paper."""

import torch
import torch.nn.functional as F
from torch import Tensor


def mask_loss(mask_logits: Tensor, masks: Tensor) -> Tensor:
    """Binary cross-entropy against the share of each cell that was edited, mean over all cells.

    mask_logits (B, L, h, w); masks (B, L, h', w') in [0, 1]; returns a scalar >= 0. The share is the target
    itself: a threshold on it would lose small components, an eyebrow being thinner than a cell.

    >>> mask_loss(torch.zeros(1, 1, 1, 1), torch.tensor([[[[0.0, 1.0], [1.0, 1.0]]]]))
    tensor(0.6931)
    """
    logits = mask_logits.to(torch.promote_types(mask_logits.dtype, torch.float32))
    target = F.adaptive_avg_pool2d(masks.to(logits.dtype), (logits.shape[2], logits.shape[3]))
    return F.binary_cross_entropy_with_logits(logits, target)
