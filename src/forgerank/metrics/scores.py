"""The scores of a batch, in one form for every kind of network."""

from typing import NamedTuple

import torch
from torch import Tensor

from forgerank.labels import Order, largest_first
from forgerank.losses.mil import forgery_gap, forgery_probability
from forgerank.losses.total import LossConfig
from forgerank.model.network import LinearOutput, Output, StepOutput


class Scores(NamedTuple):
    """Float32 probabilities, none of them calibrated."""

    probability: Tensor  # (B,) of being forged: P(x), Eq. 9, of the paper's network
    components: Tensor  # (B, L) component probabilities
    order: Tensor  # (B, L) 0..1; `LossConfig.order` says which end of the sequence has the largest
    sequences: Tensor | None = None  # (B, P) that it predicts itself, first to last; None: from the scores


def to_scores(output: Output | StepOutput | LinearOutput, config: LossConfig) -> Scores:
    """The scores of a batch from the output of any kind of network."""
    if isinstance(output, StepOutput):
        return _step_scores(output, config.order)
    if isinstance(output, LinearOutput):
        logits = output.logits.float()
        clean = torch.nn.functional.logsigmoid(-logits).sum(dim=1)  # (B,) log P(no component)
        return Scores(-torch.expm1(clean), logits.sigmoid(), logits.sigmoid())
    probability = forgery_probability(forgery_gap(output.tokens, config.k_points), config.tau)
    return Scores(probability, output.logits.float().sigmoid(), output.order_logits.float().sigmoid())


def _step_scores(output: StepOutput, order: Order) -> Scores:
    """Scores from the classes of the steps, of which the first is the end with the largest order score.

    Forged: the first step is not "none". A component: at least one step names it. Order: how early it is
    named, 1 for the first step, averaged with the softmax over the steps as weights.
    """
    logs = output.step_logits.float().log_softmax(dim=2)  # (B, P, L + 1)
    labels = logs[:, :, 1:]  # (B, P, L)
    steps = labels.shape[1]
    components = -torch.expm1(torch.log1p(-labels.exp()).sum(dim=1))
    early = torch.arange(steps, 0, -1, device=logs.device) / steps  # 1 for the first step
    order_scores = (labels.softmax(dim=1) * early[:, None]).sum(dim=1)
    sequences = largest_first(output.sequences, order)
    return Scores(-torch.expm1(logs[:, 0, 0]), components, order_scores, sequences)
