"""Eq. 15: the sum, its switches, and that it teaches."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from forgerank.losses.localization import mask_loss
from forgerank.losses.mil import forgery_gap
from forgerank.losses.multilabel import multilabel_loss
from forgerank.losses.total import LossConfig, Targets, total_loss
from forgerank.model.network import Output

SEQUENCES = torch.tensor([[0.0, 1, 0, 1, 0], [0, 0, 0, 0, 0], [1, 0, 0, 0, 1]])
RANKS = torch.tensor([[5, 2, 5, 1, 5], [5, 5, 5, 5, 5], [2, 5, 5, 5, 1]])

# Table 3's models and the terms each is made of
TABLE_3 = {
    "I": (LossConfig(lambda_cls=0, bce_v=False, lambda2=0), {"bce_u"}),
    "II": (LossConfig(bce_v=False, lambda2=0), {"bce_u", "mil", "reg"}),
    "III": (LossConfig(lambda_cls=0, bce_v=False), {"bce_u", "rank"}),
    "IV": (LossConfig(bce_v=False), {"bce_u", "mil", "reg", "rank"}),
    "V": (LossConfig(bce_u=False), {"bce_v", "mil", "reg", "rank"}),
    "VI": (LossConfig(), {"bce_u", "bce_v", "mil", "reg", "rank"}),
}


def make_output(parameters: list[torch.Tensor]) -> Output:
    tokens, maps, logits_v, mask_logits = parameters
    logits_u = maps.mean(dim=(2, 3))
    logits = (logits_u + logits_v) / 2
    return Output(F.normalize(tokens, dim=-1), logits_u, logits_v, logits, logits, maps, mask_logits)


def make_parameters(batch: int = 3) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(7)
    shapes = [(batch, 9, 6), (batch, 5, 3, 3), (batch, 5), (batch, 5, 3, 3)]
    return [torch.randn(shape, generator=generator).requires_grad_() for shape in shapes]


@pytest.mark.parametrize("name", TABLE_3)
def test_switches_express_table_3(name: str) -> None:
    config, terms = TABLE_3[name]
    losses = total_loss(make_output(make_parameters()), Targets(SEQUENCES, RANKS), config)
    assert set(losses) == terms | {"total"}


def test_total_is_the_weighted_sum() -> None:
    config = LossConfig(
        lambda_cls=0.5, lambda1=2, lambda2=0.25, lambda_direct=3, lambda_mask=4, direct="pairwise", alpha=0.5
    )
    masks = torch.rand(3, 5, 6, 6, generator=torch.Generator().manual_seed(0))
    losses = total_loss(make_output(make_parameters()), Targets(SEQUENCES, RANKS, masks), config)
    weights = {"mil": 0.5, "reg": 0.5, "bce_u": 2, "bce_v": 2, "rank": 0.25, "direct": 3, "mask": 4}
    assert set(losses) == set(weights) | {"total"}
    expected = math.fsum(weight * losses[name].item() for name, weight in weights.items())
    assert losses["total"].item() == pytest.approx(expected, rel=1e-5)


def test_the_direct_loss_reads_the_order_logits() -> None:
    output = make_output(make_parameters())
    targets = Targets(SEQUENCES, RANKS)
    turned = output._replace(order_logits=-output.order_logits)
    first = total_loss(output, targets, LossConfig(direct="pairwise"))
    second = total_loss(turned, targets, LossConfig(direct="pairwise"))
    assert first["direct"] != second["direct"]
    assert first["rank"] == second["rank"]


@pytest.mark.parametrize("present", [0.0, 1.0])
def test_batch_of_one_class_only(present: float) -> None:
    """No forged image, or no real one: every term and every gradient stays finite."""
    parameters = make_parameters()
    labels = torch.full((3, 5), present)
    positions = torch.arange(1, 6).expand(3, 5) if present else torch.full((3, 5), 5)
    config = LossConfig(direct="plackett_luce", regularization="sum", k_points=4)
    losses = total_loss(make_output(parameters), Targets(labels, positions), config)
    losses["total"].backward()
    assert all(loss.isfinite() for loss in losses.values())
    assert all(p.grad is None or p.grad.isfinite().all() for p in parameters)
    assert (losses["reg"] > 0) == (present == 0)
    assert (losses["direct"] > 0) == (present == 1)


def test_binary_mode() -> None:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(2, 1, generator=generator)
    tokens = F.normalize(torch.randn(2, 4, 6, generator=generator), dim=-1)
    maps = torch.randn(2, 1, 2, 2, generator=generator)
    output = Output(tokens, logits, logits, logits, logits, maps, None)
    targets = Targets(torch.tensor([[1.0], [0.0]]), torch.ones(2, 1, dtype=torch.long))
    assert total_loss(output, targets, LossConfig(lambda2=0))["total"].isfinite()


def test_what_cannot_be_computed_is_named() -> None:
    output, targets = make_output(make_parameters()), Targets(SEQUENCES, RANKS)
    with pytest.raises(ValueError, match="switched off"):
        total_loss(output, targets, LossConfig(lambda_cls=0, lambda1=0, lambda2=0))
    with pytest.raises(ValueError, match="targets with masks"):
        total_loss(output, targets, LossConfig(lambda_mask=1))
    with pytest.raises(ValueError, match="mask_head"):
        total_loss(output._replace(mask_logits=None), targets, LossConfig(lambda_mask=1))


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([-1e4, 0.0, 1e4]) | st.floats(-20, 20), st.booleans()),
        min_size=2,
        max_size=8,
    )
)
def test_multilabel_loss_matches_loops(cases: list[tuple[float, bool]]) -> None:
    logits = torch.tensor([[f for f, _ in cases]], dtype=torch.float64)
    labels = torch.tensor([[float(y) for _, y in cases]])
    signed = [-f if y else f for f, y in cases]
    expected = math.fsum(max(x, 0.0) + math.log1p(math.exp(-abs(x))) for x in signed)
    assert multilabel_loss(logits, labels).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("size", [3, 6, 7])
def test_mask_target_is_the_share_of_each_cell(size: int) -> None:
    generator = torch.Generator().manual_seed(2)
    masks = (torch.rand(1, 2, size, size, generator=generator) > 0.6).double()
    logits = torch.randn(1, 2, 3, 3, generator=generator, dtype=torch.float64)
    total = 0.0
    for c in range(2):
        for i in range(3):
            for j in range(3):
                rows = slice(i * size // 3, -(-(i + 1) * size // 3))
                columns = slice(j * size // 3, -(-(j + 1) * size // 3))
                share, f = masks[0, c, rows, columns].mean().item(), logits[0, c, i, j].item()
                total += max(f, 0) - f * share + math.log1p(math.exp(-abs(f)))
    assert mask_loss(logits, masks).item() == pytest.approx(total / 18, rel=1e-9)


def test_total_loss_overfits_a_small_batch() -> None:
    """Free tokens and logits: the loss must find labels, order and the gap between real and forged."""
    parameters = make_parameters()
    config = LossConfig(direct="pairwise", lambda2=0.1)
    optimizer = torch.optim.Adam(parameters, lr=0.1)
    for _ in range(150):
        optimizer.zero_grad()
        total_loss(make_output(parameters), Targets(SEQUENCES, RANKS), config)["total"].backward()
        optimizer.step()
    output = make_output(parameters)
    assert ((output.logits > 0).float() == SEQUENCES).all()
    assert output.logits[0, 3] > output.logits[0, 1]
    assert output.logits[2, 4] > output.logits[2, 0]
    gap = forgery_gap(output.tokens)
    assert gap[0] > 0.5
    assert gap[2] > 0.5
    assert gap[1] < 0.1
