"""Labels known in part: what is unknown has no gradient, and all known is as if nothing were said of it."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from forgerank.labels import Order, face_labels, largest_first
from forgerank.losses.cross_entropy import mask_loss, multilabel_loss, step_loss
from forgerank.losses.ranking import pairwise_rank_loss, plackett_luce_loss, rank_loss
from forgerank.losses.total import LossConfig, Targets, linear_total, steps_total, total_loss
from forgerank.model.network import LinearOutput, Output, StepOutput

LENGTH = 5
EXTREME = [-1e4, -88.0, 0.0, 88.0, 1e4]
ORDERS: st.SearchStrategy[Order] = st.sampled_from(["first_to_last", "last_to_first"])
DIRECT = st.sampled_from(["pairwise", "plackett_luce"])
SEQUENCES = st.permutations(range(1, LENGTH + 1)).flatmap(
    lambda labels: st.integers(0, LENGTH).map(lambda count: tuple(labels[:count]))
)
PARTS = st.lists(st.sampled_from([1, 0, None]), min_size=LENGTH, max_size=LENGTH).map(tuple)
# (sequence, parts, fake) of a face
FACES = st.one_of(
    st.tuples(SEQUENCES, st.none(), st.just(False)),
    st.tuples(st.just(()), PARTS, st.booleans()),
    st.just(((), None, True)),
)
BATCHES = st.lists(FACES, min_size=1, max_size=5)
SEEDS = st.integers(0, 2**16)


def make_targets(faces: list[tuple], seed: int) -> Targets:  # type: ignore[type-arg]
    truth = [face_labels(sequence, LENGTH, parts=parts, fake=fake) for sequence, parts, fake in faces]
    generator = torch.Generator().manual_seed(seed)
    known = torch.tensor([[part is not None for part in row.presence] for row in truth])
    return Targets(
        presence=torch.tensor([[float(part or 0) for part in row.presence] for row in truth]),
        sequences=torch.tensor([row.sequence for row in truth]),
        masks=torch.rand(len(faces), LENGTH, 6, 6, generator=generator),
        forged=torch.tensor([float(row.forged) for row in truth]),
        known=known,
        ordered=torch.tensor([row.ordered for row in truth]),
        masks_known=known & (torch.rand(known.shape, generator=generator) > 0.3),
    )


def make_leaves(batch: int, seed: int) -> dict[str, torch.Tensor]:
    """Logits of every head, some of them extreme, as leaves of the graph."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {
        "tokens": (batch, 9, 6),
        "u": (batch, LENGTH),
        "v": (batch, LENGTH),
        "logits": (batch, LENGTH),
        "order": (batch, LENGTH),
        "mask": (batch, LENGTH, 3, 3),
    }
    leaves = {}
    for name, shape in shapes.items():
        values = torch.randn(shape, generator=generator)
        if name != "tokens":
            extreme = torch.tensor(EXTREME)[torch.randint(len(EXTREME), shape, generator=generator)]
            values = torch.where(torch.rand(shape, generator=generator) < 0.3, extreme, values)
        leaves[name] = values.requires_grad_()
    return leaves


def make_output(leaves: dict[str, torch.Tensor]) -> Output:
    tokens = F.normalize(leaves["tokens"], dim=-1)
    heads = (leaves[name] for name in ("u", "v", "logits", "order", "mask"))
    u, v, logits, order, mask = heads
    return Output(tokens, u, v, logits, order, mask, mask)


def config(direct: str, order: Order) -> LossConfig:
    return LossConfig.model_validate({"direct": direct, "order": order, "lambda_mask": 0.5})


@settings(max_examples=60, deadline=None)
@given(BATCHES, SEEDS, DIRECT, ORDERS)
def test_what_is_unknown_has_no_gradient_and_changes_nothing(
    faces: list,
    seed: int,
    direct: str,
    order: Order,  # type: ignore[type-arg]
) -> None:
    targets, leaves = make_targets(faces, seed), make_leaves(len(faces), seed)
    assert targets.masks is not None
    assert targets.masks_known is not None
    assert targets.known is not None
    assert targets.ordered is not None
    losses = total_loss(make_output(leaves), targets, config(direct, order))
    assert all(loss.isfinite() for loss in losses.values())
    losses["total"].backward()
    gradients = {name: leaf.grad for name, leaf in leaves.items()}
    unknown = {
        "u": ~targets.known,
        "v": ~targets.known,
        "logits": ~targets.ordered,
        "order": ~targets.ordered,
        "mask": ~targets.masks_known,
    }
    for name, rows in unknown.items():
        gradient = gradients[name]
        assert gradient is not None
        assert gradient.isfinite().all(), name
        assert not gradient[rows].any(), name
    # Other labels, other sequences and other masks where nothing is known: the same loss, the same gradient.
    turned = targets._replace(
        presence=torch.where(
            targets.known & targets.ordered[:, None], targets.presence, 1 - targets.presence
        ),
        sequences=torch.where(targets.ordered[:, None], targets.sequences, torch.arange(1, LENGTH + 1)),
        masks=torch.where(targets.masks_known[:, :, None, None], targets.masks, 1 - targets.masks),
    )
    turned = turned._replace(presence=torch.where(targets.known, targets.presence, turned.presence))
    again = {name: leaf.detach().clone().requires_grad_() for name, leaf in leaves.items()}
    others = total_loss(make_output(again), turned, config(direct, order))
    assert {name: loss.item() for name, loss in others.items()} == {
        name: loss.item() for name, loss in losses.items()
    }
    others["total"].backward()
    for name, leaf in again.items():
        assert torch.equal(leaf.grad, gradients[name]), name  # type: ignore[arg-type]


@settings(max_examples=60, deadline=None)
@given(st.lists(SEQUENCES, min_size=1, max_size=5), SEEDS, DIRECT, ORDERS)
def test_all_known_is_bit_for_bit_as_if_nothing_were_said(
    sequences: list[tuple[int, ...]], seed: int, direct: str, order: Order
) -> None:
    said = make_targets([(sequence, None, False) for sequence in sequences], seed)
    said = said._replace(masks_known=torch.ones(len(sequences), LENGTH, dtype=torch.bool))
    results = []
    for targets in (said, Targets(said.presence, said.sequences, said.masks)):
        leaves = make_leaves(len(sequences), seed)
        losses = total_loss(make_output(leaves), targets, config(direct, order))
        losses["total"].backward()
        values = {name: loss.item() for name, loss in losses.items()}
        gradients = [leaf.grad for leaf in leaves.values()]
        results.append((values, gradients))
    (values, gradients), (plain, plain_gradients) = results
    assert values == plain
    for one, other in zip(gradients, plain_gradients, strict=True):
        assert one is not None
        assert other is not None
        assert torch.equal(one, other)


@settings(max_examples=40, deadline=None)
@given(st.lists(SEQUENCES, min_size=2, max_size=5), SEEDS, ORDERS)
def test_a_row_of_unknown_order_counts_in_the_mean_and_brings_no_pair(
    sequences: list[tuple[int, ...]], seed: int, order: Order
) -> None:
    """L_Rank is a mean over the batch; pairs and choices are those of the other rows."""
    targets = make_targets([(sequence, None, False) for sequence in sequences], seed)
    labels = largest_first(targets.sequences, order)
    logits = make_leaves(len(sequences), seed)["logits"].detach().double()
    ordered = torch.arange(len(sequences)) > 0
    share = (len(sequences) - 1) / len(sequences)
    torch.testing.assert_close(
        rank_loss(logits, labels, ordered=ordered),
        rank_loss(logits[1:], labels[1:]) * share,
    )
    for loss in (pairwise_rank_loss, plackett_luce_loss):
        torch.testing.assert_close(loss(logits, labels, ordered=ordered), loss(logits[1:], labels[1:]))


def test_means_are_over_the_whole_batch_worked_out_by_hand() -> None:
    log2 = torch.tensor(2.0).log()
    known = torch.tensor([[True, False], [False, False]])
    loss = multilabel_loss(torch.zeros(2, 2), torch.ones(2, 2), known=known)
    torch.testing.assert_close(loss, log2 / 2)  # one known label of two images
    loss = mask_loss(torch.zeros(2, 2, 3, 3), torch.ones(2, 2, 3, 3), known=known)
    torch.testing.assert_close(loss, log2 / 4)  # one known mask of four
    nothing = torch.zeros(2, 2, dtype=torch.bool)
    assert multilabel_loss(torch.zeros(2, 2), torch.ones(2, 2), known=nothing) == 0
    assert mask_loss(torch.zeros(2, 2, 3, 3), torch.ones(2, 2, 3, 3), known=nothing) == 0


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_even_what_is_no_number_is_left_out(value: float) -> None:
    """A logit, a label or a mask that is not finite reaches neither the loss nor a gradient."""
    known = torch.tensor([[True, False, True]])
    broken = torch.where(known, torch.zeros(1, 3), value)
    logits = broken.clone().requires_grad_()
    multilabel_loss(logits, broken, known=known).backward()
    maps = broken[:, :, None, None].expand(1, 3, 2, 2).clone().requires_grad_()
    mask_loss(maps, broken[:, :, None, None].expand(1, 3, 4, 4), known=known).backward()
    assert logits.grad is not None
    assert maps.grad is not None
    assert logits.grad.tolist() == [[0.5, 0, 0.5]]
    assert maps.grad[0, 1].tolist() == [[0, 0], [0, 0]]
    assert maps.grad.isfinite().all()
    sequences = torch.tensor([[1, 2, 0], [3, 1, 2]])
    ordered = torch.tensor([True, False])
    for loss in (rank_loss, pairwise_rank_loss, plackett_luce_loss):
        rows = torch.tensor([[0.0, 1, 2], [value] * 3]).requires_grad_()
        result = loss(rows, sequences, ordered=ordered)
        result.backward()
        assert result.isfinite()
        assert rows.grad is not None
        assert rows.grad[0].isfinite().all()
        assert rows.grad[0].any()
        assert not rows.grad[1].any()


@settings(max_examples=60, deadline=None)
@given(BATCHES, SEEDS, ORDERS)
def test_steps_leave_out_rows_of_unknown_order(faces: list, seed: int, order: Order) -> None:  # type: ignore[type-arg]
    targets = make_targets(faces, seed)
    assert targets.ordered is not None
    generator = torch.Generator().manual_seed(seed)
    logits = (10 * torch.randn(len(faces), LENGTH, LENGTH + 1, generator=generator)).requires_grad_()
    steps = StepOutput(logits, torch.zeros(len(faces), LENGTH, dtype=torch.long))
    settings_ = LossConfig(order=order)
    loss = steps_total(steps, targets, settings_)["total"]
    loss.backward()
    assert logits.grad is not None
    assert not logits.grad[~targets.ordered].any()
    rows = targets.ordered
    wanted = largest_first(targets.sequences, order)
    assert 0 <= wanted.min() <= wanted.max() <= LENGTH  # of unknown rows too: the decoder reads them
    assert loss == (step_loss(logits[rows], wanted[rows]) if rows.any() else 0)
    if rows.all():
        assert loss == steps_total(steps, Targets(targets.presence, targets.sequences), settings_)["total"]


def test_the_linear_baseline_learns_known_labels() -> None:
    logits = torch.zeros(2, 2, requires_grad=True)
    known = torch.tensor([[True, False], [True, True]])
    targets = Targets(torch.tensor([[1.0, 0], [0, 0]]), torch.tensor([[1, 0], [0, 0]]), known=known)
    linear_total(LinearOutput(logits), targets, LossConfig())["total"].backward()
    assert logits.grad is not None
    assert logits.grad.tolist() == [[-0.25, 0], [0.25, 0.25]]


def test_a_single_label_is_known_from_forged() -> None:
    nothing = torch.zeros(2, 1, dtype=torch.bool)
    truth, zeros = torch.tensor([[1.0], [0.0]]), torch.zeros(2, 1, dtype=torch.long)
    unknown = Targets(zeros.float(), zeros, None, truth[:, 0], nothing, nothing[:, 0])
    plain = Targets(truth, truth.long())
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 1, generator=generator)
    tokens = F.normalize(torch.randn(2, 4, 6, generator=generator), dim=-1)
    output = Output(tokens, logits, logits, logits, logits, logits[:, :, None, None], None)
    steps = StepOutput(torch.randn(2, 1, 2, generator=generator), torch.zeros(2, 1, dtype=torch.long))
    for loss, answered in (
        (total_loss, output),
        (steps_total, steps),
        (linear_total, LinearOutput(logits)),
    ):
        assert loss(answered, unknown, LossConfig()) == loss(answered, plain, LossConfig())  # type: ignore[operator]


def test_every_image_teaches_real_from_forged() -> None:
    """Forged somewhere, nothing known: L_MIL takes it as forged, L_Reg leaves it alone."""
    leaves = make_leaves(2, 0)
    faces = [((), None, True), ((), None, False)]
    losses = total_loss(make_output(leaves), make_targets(faces, 0), LossConfig())
    as_labelled = total_loss(
        make_output(leaves), make_targets([((1,), None, False), faces[1]], 0), LossConfig()
    )
    assert losses["mil"] == as_labelled["mil"]
    assert losses["reg"] == as_labelled["reg"]
    assert losses["bce_u"] != as_labelled["bce_u"]
