"""What a network of any kind says about a batch, in one shape."""

from typing import NamedTuple

import torch
from torch import Tensor

from forgerank.losses.mil import forgery_gap, forgery_probability
from forgerank.losses.total import LossConfig
from forgerank.model.network import LinearOutput, Output, StepOutput


class Scores(NamedTuple):
    """Float32 probabilities, none of them calibrated."""

    probability: Tensor  # (B,) the image is forged: P(x) of the paper's network
    components: Tensor  # (B, L) component probabilities
    order: Tensor  # (B, L) tell the order, 0..1: which end is larger says `LossConfig.order`
    sequences: Tensor | None = None  # (B, P) its own answer, first to last; None: what the others say


def to_scores(output: Output | StepOutput | LinearOutput, config: LossConfig) -> Scores:
    """The scores of a batch, whatever kind of network gave `output`."""
    if isinstance(output, StepOutput):
        return _step_scores(output, last_first=config.order == "last_to_first")
    if isinstance(output, LinearOutput):
        logits = output.logits.float()
        clean = torch.nn.functional.logsigmoid(-logits).sum(dim=1)  # (B,) log P(no component)
        return Scores(-torch.expm1(clean), logits.sigmoid(), logits.sigmoid())
    probability = forgery_probability(forgery_gap(output.tokens, config.k_points), config.tau)
    return Scores(probability, output.logits.float().sigmoid(), output.order_logits.float().sigmoid())


def _step_scores(output: StepOutput, *, last_first: bool) -> Scores:
    """Forged: the first step is not none. A component: any step says it. The order: how early, as the mean
    over the steps that may say it; the first step is the end of the sequence that gets the largest score.
    """
    logs = output.step_logits.float().log_softmax(dim=2)  # (B, P, L + 1)
    labels = logs[:, :, 1:]  # (B, P, L)
    steps = labels.shape[1]
    components = -torch.expm1(torch.log1p(-labels.exp()).sum(dim=1))
    early = torch.arange(steps, 0, -1, device=logs.device) / steps  # 1 for the first step
    order = (labels.softmax(dim=1) * early[:, None]).sum(dim=1)
    sequences = _turned(output.sequences) if last_first else output.sequences
    return Scores(-torch.expm1(logs[:, 0, 0]), components, order, sequences)


def _turned(sequences: Tensor) -> Tensor:
    """Padded sequences (B, P) from their last label to their first; a 0 between labels keeps its place."""
    places = torch.arange(sequences.shape[1], device=sequences.device)
    count = ((sequences > 0) * (places + 1)).amax(dim=1, keepdim=True)  # (B, 1)
    source = count - 1 - places  # (B, P)
    return torch.where(source >= 0, sequences.gather(1, source.clamp_min(0)), 0)
