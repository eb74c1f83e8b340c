"""Sequences as answers step by step, for the networks that give one class per step."""

import torch
import torch.nn.functional as F
from torch import Tensor

from forgerank.losses.ranking import Order, target_ranks


def step_targets(presence: Tensor, ranks: Tensor, order: Order = "first_to_last") -> Tensor:
    """The label of each step, 1-based and right-padded with 0.

    presence (B, L) in {0, 1}; ranks (B, L) as Eq. 2; returns (B, L) long. `order="last_to_first"` begins with
    the last manipulation. Rows of unknown order come out as anything that a network can read.

    >>> step_targets(torch.tensor([[0, 1, 0, 1, 0]]), torch.tensor([[5, 2, 5, 1, 5]]))
    tensor([[4, 2, 0, 0, 0]])
    """
    length = presence.shape[1]
    # L stands for unknown ranks: counted from the end of a sequence, it can lie before its beginning.
    steps = (target_ranks(presence, ranks.long(), order) - 1).clamp_min(0)
    places = torch.where(presence > 0.5, steps, length)  # absent labels go behind the end
    labels = torch.arange(1, length + 1, device=ranks.device).expand_as(places)
    return places.new_zeros(len(places), length + 1).scatter(1, places, labels)[:, :length]


def step_loss(step_logits: Tensor, sequences: Tensor, *, ordered: Tensor | None = None) -> Tensor:
    """Cross-entropy of each step's class, none and padding included, mean over steps and rows of known order.

    step_logits (B, P, L + 1), class 0 = none; sequences (B, P) in 0..L; ordered (B,) bool, whether the order
    is known, None: of every row; returns a scalar >= 0, 0 where it is known of none.

    >>> step_loss(torch.zeros(1, 2, 4), torch.tensor([[3, 0]]))  # log 4
    tensor(1.3863)
    """
    logits = step_logits.to(torch.promote_types(step_logits.dtype, torch.float32))
    if ordered is not None:
        logits, sequences = logits[ordered], sequences[ordered]
    if not len(logits):
        return logits.sum()  # 0, with a gradient of zeros; a mean over nothing is not a number
    return F.cross_entropy(logits.flatten(0, 1), sequences.flatten())
