"""The total loss of Eq. 15 and those of the baselines. Every term of Eq. 15 can be switched off alone."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from forgerank.labels import Order, largest_first
from forgerank.losses.cross_entropy import mask_loss, multilabel_loss, step_loss
from forgerank.losses.mil import Reduction, forgery_gap, mil_loss, regularization_loss
from forgerank.losses.ranking import pairwise_rank_loss, plackett_luce_loss, rank_loss
from forgerank.model.config import Kind
from forgerank.model.network import LinearOutput, Output, StepOutput

DIRECT = {"pairwise": pairwise_rank_loss, "plackett_luce": plackett_luce_loss}


class Targets(NamedTuple):
    """The labels of a batch.

    None for `known`, `ordered` and `masks_known`: all is known. None for `forged`: an image with any
    manipulated label is.
    """

    presence: Tensor  # (B, L) float in {0, 1}, Eq. 1; 0 where unknown
    sequences: Tensor  # (B, L) long, padded, first to last; 0 throughout where the order is unknown
    masks: Tensor | None = None  # (B, L, h', w') float in [0, 1], share of each cell that was edited
    forged: Tensor | None = None  # (B,) float in {0, 1}, J of Eq. 10
    known: Tensor | None = None  # (B, L) bool, where the presence is known
    ordered: Tensor | None = None  # (B,) bool, whether the order is known
    masks_known: Tensor | None = None  # (B, L) bool, where the mask of a label is known


class LossConfig(BaseModel):
    """Weights and forms of the terms; a weight of 0 or a switch set to false leaves its term out.

    Table 3: I is `lambda_cls=0, bce_v=False, lambda2=0`; II `bce_v=False, lambda2=0`; III `lambda_cls=0,
    bce_v=False`; IV `bce_v=False`; V `bce_u=False`; VI the default.

    The baselines have one term each and read `order` alone.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    tau: float = Field(default=0.1, gt=0)  # Eq. 6
    lambda_cls: float = Field(default=1.0, ge=0)  # weight of L_CLS = l_MIL + (1 - J) l_Reg, Eq. 12
    lambda1: float = Field(default=1.0, ge=0)  # weight of L_BCE, Eq. 17, of f^U and f^V (Eq. 16)
    lambda2: float = Field(default=1.0, ge=0)  # weight of L_Rank, Eq. 13
    lambda_direct: float = Field(default=1.0, ge=0)  # weight of the direct ranking loss
    lambda_mask: float = Field(default=0.0, ge=0)  # weight of the auxiliary mask loss
    bce_u: bool = True  # L_BCE^U: Eq. 17 of f^U
    bce_v: bool = True  # L_BCE^V: Eq. 17 of f^V
    alpha: float = Field(default=1.0, gt=0)  # Eq. 14
    direct: Literal["none", "pairwise", "plackett_luce"] = "none"
    order: Order = "first_to_last"  # which end of the sequence gets the largest logit
    k_points: int | None = Field(default=None, ge=1)  # None: every k; the paper has 100
    regularization: Reduction = "mean"  # over the pairs of Eq. 11; "sum": Eq. 11 as printed


def total_loss(output: Output, targets: Targets, config: LossConfig) -> dict[str, Tensor]:
    """Eq. 15. The weighted "total" and each term that is switched on, unweighted, all scalars in float32.

    Terms: "mil", "reg", "bce_u", "bce_v", "rank", "direct", "mask". L_MIL and L_Reg take every image, L_BCE
    the known components, L_Rank and the direct loss the rows of known order, the mask loss the known masks;
    what is unknown gets no gradient.
    """
    terms = weighted_terms(output, targets, config)
    if not terms:
        raise ValueError("every term of the loss is switched off")
    losses = {name: loss for name, (_, loss) in terms.items()}
    losses["total"] = torch.stack([weight * loss for weight, loss in terms.values()]).sum()
    return losses


def weighted_terms(output: Output, targets: Targets, config: LossConfig) -> dict[str, tuple[float, Tensor]]:
    """The weight and the value, a scalar in float32, of each term of `total_loss` that is switched on."""
    targets = _settled(targets)
    sequences = largest_first(targets.sequences, config.order)
    terms: dict[str, tuple[float, Tensor]] = {}
    if config.lambda_cls:
        forged = targets.presence.amax(dim=1) if targets.forged is None else targets.forged  # (B,)
        gap = forgery_gap(output.tokens, config.k_points)
        terms["mil"] = config.lambda_cls, mil_loss(gap, forged, tau=config.tau)
        regularization = regularization_loss(output.tokens, forged, reduction=config.regularization)
        terms["reg"] = config.lambda_cls, regularization
    if config.lambda1 and config.bce_u:
        bce_u = multilabel_loss(output.logits_u, targets.presence, known=targets.known)
        terms["bce_u"] = config.lambda1, bce_u
    if config.lambda1 and config.bce_v:
        bce_v = multilabel_loss(output.logits_v, targets.presence, known=targets.known)
        terms["bce_v"] = config.lambda1, bce_v
    if config.lambda2:
        rank = rank_loss(output.logits, sequences, alpha=config.alpha, ordered=targets.ordered)
        terms["rank"] = config.lambda2, rank
    if config.direct != "none" and config.lambda_direct:
        direct = DIRECT[config.direct](output.order_logits, sequences, ordered=targets.ordered)
        terms["direct"] = config.lambda_direct, direct
    if config.lambda_mask:
        terms["mask"] = config.lambda_mask, _mask_term(output, targets)
    return terms


def steps_total(output: StepOutput, targets: Targets, config: LossConfig) -> dict[str, Tensor]:
    """ "steps" and the "total", the same: cross-entropy over the steps, the first of which is the end of the
    sequence that has the largest score. Rows of unknown order are left out.
    """
    targets = _settled(targets)
    sequences = largest_first(targets.sequences, config.order)
    loss = step_loss(output.step_logits, sequences, ordered=targets.ordered)
    return {"steps": loss, "total": loss}


def linear_total(output: LinearOutput, targets: Targets, config: LossConfig) -> dict[str, Tensor]:
    """ "bce" and the "total", the same: binary cross-entropy over the known components."""
    targets = _settled(targets)
    loss = multilabel_loss(output.logits, targets.presence, known=targets.known)
    return {"bce": loss, "total": loss}


# The loss of each kind of network: its output, the targets and the settings -> "total" and its terms.
LOSSES: dict[Kind, Callable[[Any, Targets, LossConfig], dict[str, Tensor]]] = {
    "ranking": total_loss,
    "multicls": steps_total,
    "decoder": steps_total,
    "queries": steps_total,
    "linear": linear_total,
}


def _mask_term(output: Output, targets: Targets) -> Tensor:
    if output.mask_logits is None:
        raise ValueError("lambda_mask > 0 needs a network with mask_head=True")
    if targets.masks is None:
        raise ValueError("lambda_mask > 0 needs targets with masks")
    return mask_loss(output.mask_logits, targets.masks, known=targets.masks_known)


def _settled(targets: Targets) -> Targets:
    """With a single label, `forged` is the presence and the sequence, whatever else is given."""
    if targets.forged is None or targets.presence.shape[1] > 1:
        return targets
    forged = targets.forged[:, None]
    presence, sequences = forged.to(targets.presence.dtype), forged.long()
    return targets._replace(presence=presence, sequences=sequences, known=None, ordered=None)
