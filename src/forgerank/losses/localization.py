"""Auxiliary loss on masks that show where a component was manipulated; not part of the paper."""

import torch
import torch.nn.functional as F
from torch import Tensor


def mask_loss(mask_logits: Tensor, masks: Tensor, *, known: Tensor | None = None) -> Tensor:
    """Binary cross-entropy against the share of each cell that was edited, mean over all cells.

    mask_logits (B, L, h, w); masks (B, L, h', w') in [0, 1]; known (B, L) bool, None: all; returns a
    scalar >= 0. The share itself is the target: thresholded, small components would vanish, as an eyebrow is
    thinner than a cell. The cells of an unknown mask add 0 and get no gradient, whatever their value.

    >>> mask_loss(torch.zeros(1, 1, 1, 1), torch.tensor([[[[0.0, 1.0], [1.0, 1.0]]]]))
    tensor(0.6931)
    """
    logits = mask_logits.to(torch.promote_types(mask_logits.dtype, torch.float32))
    if known is not None:
        known = known[:, :, None, None]
        logits, masks = torch.where(known, logits, 0), torch.where(known, masks, 0)
    target = F.adaptive_avg_pool2d(masks.to(logits.dtype), (logits.shape[2], logits.shape[3]))
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    if known is not None:
        entropy = torch.where(known, entropy, 0)
    return entropy.mean()
