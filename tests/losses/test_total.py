"""Eq. 15: the sum, its switches, and that it teaches."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from forgerank.labels import Order
from forgerank.losses.cross_entropy import mask_loss, multilabel_loss
from forgerank.losses.mil import forgery_gap
from forgerank.losses.total import LossConfig, Targets, total_loss
from forgerank.model.network import Output

SEQUENCES = torch.tensor([[4, 2, 0, 0, 0], [0, 0, 0, 0, 0], [5, 1, 0, 0, 0]])
PRESENCE = torch.tensor([[0.0, 1, 0, 1, 0], [0, 0, 0, 0, 0], [1, 0, 0, 0, 1]])

Terms = dict[str, float]

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
    losses = total_loss(make_output(make_parameters()), Targets(PRESENCE, SEQUENCES), config)
    assert set(losses) == terms | {"total"}


def softplus(x: float) -> float:
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


def reference_mil(tokens: list[list[float]], forged: bool, tau: float) -> tuple[float, float]:
    """Eq. 4-10 and Eq. 11 of one image: l_MIL and (1 - J) l_Reg, averaged over the pairs."""
    pairs = itertools.combinations(tokens, 2)
    v = sorted(1 - max(sum(a * b for a, b in zip(*pair, strict=True)), 0.0) for pair in pairs)[::-1]
    n = len(v)
    gap = max(sum(v[:k]) / k - sum(v[k:]) / (n - k) for k in range(1, n))
    probability = math.tanh(gap / (2 * tau))
    if forged:
        return -math.log(probability), 0.0
    return -math.log(1 - probability), sum(v) / n


def reference_rank(logits: list[float], best: list[int], alpha: float) -> float:
    """Eq. 13-14 of one image; `best`: labels, the one that must get the largest logit first."""
    total, length = 0.0, len(logits)
    for i, logit in enumerate(logits):
        o = 1 + sum(other > logit for other in logits)
        r = best.index(i + 1) + 1 if i + 1 in best else length
        present = i + 1 in best
        weight = alpha if not present and o > len(best) else alpha * abs(o - r)
        total += weight * softplus(-logit if present else logit)
    return total


def reference_terms(output: Output, masks: Tensor | None, order: str, alpha: float, tau: float) -> Terms:
    """Every term of Eq. 15 in loops over the three images of SEQUENCES."""
    batch = range(len(SEQUENCES))
    sequences = [[label for label in row if label] for row in SEQUENCES.tolist()]
    best = sequences if order == "first_to_last" else [row[::-1] for row in sequences]
    mil = [reference_mil(output.tokens[b].tolist(), bool(sequences[b]), tau) for b in batch]

    def entropy(logits: Tensor) -> float:
        rows = zip(logits.tolist(), sequences, strict=True)
        return sum(
            softplus(-f if i in labels else f) for row, labels in rows for i, f in enumerate(row, start=1)
        ) / len(batch)

    logits, order_logits = output.logits.tolist(), output.order_logits.tolist()
    pairs = [(b, i, j) for b in batch for i, j in itertools.combinations(best[b], 2)]
    terms = {
        "mil": sum(loss for loss, _ in mil) / len(batch),
        "reg": sum(loss for _, loss in mil) / len(batch),
        "bce_u": entropy(output.logits_u),
        "bce_v": entropy(output.logits_v),
        "rank": sum(reference_rank(logits[b], best[b], alpha) for b in batch) / len(batch),
        "direct": sum(softplus(order_logits[b][j - 1] - order_logits[b][i - 1]) for b, i, j in pairs)
        / len(pairs),
    }
    if masks is not None:
        shares = masks.unflatten(2, (3, 2)).unflatten(4, (3, 2)).mean(dim=(3, 5)).flatten().tolist()
        assert output.mask_logits is not None
        cells = zip(output.mask_logits.flatten().tolist(), shares, strict=True)
        terms["mask"] = sum(softplus(f) - f * share for f, share in cells) / len(shares)
    return terms


@pytest.mark.parametrize("order", ["first_to_last", "last_to_first"])
def test_total_is_the_weighted_sum_of_equation_15(order: Order) -> None:
    config = LossConfig(
        tau=0.3,
        lambda_cls=0.5,
        lambda1=2,
        lambda2=0.25,
        lambda_direct=3,
        lambda_mask=4,
        direct="pairwise",
        alpha=0.5,
        order=order,
    )
    masks = torch.rand(3, 5, 6, 6, generator=torch.Generator().manual_seed(0))
    output = make_output(make_parameters())
    output = output._replace(order_logits=output.logits.flip(1))
    losses = {k: v.item() for k, v in total_loss(output, Targets(PRESENCE, SEQUENCES, masks), config).items()}
    terms = reference_terms(output, masks, order, alpha=0.5, tau=0.3)
    total = (
        0.5 * (terms["mil"] + terms["reg"])
        + 2 * (terms["bce_u"] + terms["bce_v"])
        + 0.25 * terms["rank"]
        + 3 * terms["direct"]
        + 4 * terms["mask"]
    )
    assert losses == pytest.approx({**terms, "total": total}, rel=1e-5)


def test_by_default_every_weight_is_one() -> None:
    output = make_output(make_parameters())
    terms = reference_terms(output, None, "first_to_last", alpha=1.0, tau=0.1)
    del terms["direct"]
    losses = {k: v.item() for k, v in total_loss(output, Targets(PRESENCE, SEQUENCES), LossConfig()).items()}
    assert losses == pytest.approx({**terms, "total": sum(terms.values())}, rel=1e-5)


def test_the_direct_loss_reads_the_order_logits() -> None:
    output = make_output(make_parameters())
    targets = Targets(PRESENCE, SEQUENCES)
    turned = output._replace(order_logits=-output.order_logits)
    first = total_loss(output, targets, LossConfig(direct="pairwise"))
    second = total_loss(turned, targets, LossConfig(direct="pairwise"))
    assert first["direct"] != second["direct"]
    assert first["rank"] == second["rank"]


@pytest.mark.parametrize("present", [0.0, 1.0])
def test_batch_of_one_class_only(present: float) -> None:
    """No forged image, or no real one: no term is undefined and every gradient stays finite."""
    parameters = make_parameters()
    labels = torch.full((3, 5), present)
    sequences = labels.long() * torch.arange(1, 6)
    config = LossConfig(direct="plackett_luce", regularization="sum", k_points=4)
    output = make_output(parameters)
    tokens, logits = output.tokens.tolist(), output.order_logits.tolist()
    losses = total_loss(output, Targets(labels, sequences), config)
    losses["total"].backward()
    assert all(loss.isfinite() for loss in losses.values())
    assert all(p.grad is None or p.grad.isfinite().all() for p in parameters)
    real = 0.0 if present else sum(9 * 8 / 2 * reference_mil(row, False, 0.1)[1] for row in tokens) / 3
    assert losses["reg"].item() == pytest.approx(real, rel=1e-5)
    choices = [math.log(sum(map(math.exp, row[i:]))) - row[i] for row in logits for i in range(4)]
    direct = sum(choices) / len(choices) if present else 0.0
    assert losses["direct"].item() == pytest.approx(direct, rel=1e-5)


def test_a_single_label() -> None:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(2, 1, generator=generator)
    tokens = F.normalize(torch.randn(2, 4, 6, generator=generator), dim=-1)
    maps = torch.randn(2, 1, 2, 2, generator=generator)
    output = Output(tokens, logits, 2 * logits, logits, logits, maps, None)
    targets = Targets(torch.tensor([[1.0], [0.0]]), torch.tensor([[1], [0]]))
    losses = total_loss(output, targets, LossConfig(lambda2=0))
    forged, real = (reference_mil(tokens[b].tolist(), b == 0, 0.1) for b in (0, 1))
    first, second = logits[:, 0].tolist()
    expected = {
        "mil": (forged[0] + real[0]) / 2,
        "reg": real[1] / 2,
        "bce_u": (softplus(-first) + softplus(second)) / 2,
        "bce_v": (softplus(-2 * first) + softplus(2 * second)) / 2,
    }
    expected["total"] = sum(expected.values())
    assert {name: loss.item() for name, loss in losses.items()} == pytest.approx(expected, rel=1e-5)


def test_what_cannot_be_computed_is_named() -> None:
    output, targets = make_output(make_parameters()), Targets(PRESENCE, SEQUENCES)
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
        total_loss(make_output(parameters), Targets(PRESENCE, SEQUENCES), config)["total"].backward()
        optimizer.step()
    output = make_output(parameters)
    assert ((output.logits > 0).float() == PRESENCE).all()
    assert output.logits[0, 3] > output.logits[0, 1]
    assert output.logits[2, 4] > output.logits[2, 0]
    gap = forgery_gap(output.tokens)
    assert gap[0] > 0.5
    assert gap[2] > 0.5
    assert gap[1] < 0.1
