"""Cross-entropies: of components (Eq. 16-18), of masks and of the steps of a decoder."""

import torch
import torch.nn.functional as F
from torch import Tensor


def multilabel_loss(logits: Tensor, presence: Tensor, *, known: Tensor | None = None) -> Tensor:
    """Eq. 17, of f^U or f^V: cross-entropy (Eq. 18), summed over components, mean over the batch.

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
