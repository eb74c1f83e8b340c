import warnings
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

from forgerank.labels import pad_sequences, presence
from forgerank.metrics.torchmetric import KEYS, SequenceMetrics

Rows = dict[str, Tensor]


def make_rows(count: int, *, own: bool = False, seed: int = 0) -> Rows:
    """Random truth and answers; with `own`, sequences as of a step model, repeats and gaps included."""
    rng = np.random.default_rng(seed)
    truth = [rng.permutation(5)[: rng.integers(0, 6)] + 1 for _ in range(count)]
    sequences = torch.from_numpy(pad_sequences(truth, 5))
    rows = {
        "probability": torch.from_numpy(rng.random(count)),
        "components": torch.from_numpy(rng.random((count, 5))),
        "order": torch.from_numpy(rng.random((count, 5))),
        "presence": presence(sequences, 5),
        "sequences": sequences,
    }
    if own:
        rows["predicted"] = torch.from_numpy(rng.integers(0, 6, (count, 5)))
    return rows


def part(rows: Rows, first: int, last: int) -> Rows:
    return {name: values[first:last] for name, values in rows.items()}


def in_one_go(rows: Rows) -> dict[str, float]:
    metric = SequenceMetrics(5, "last_to_first")
    metric.update(**rows)
    return {name: float(value) for name, value in metric.compute().items()}


def test_golden_values() -> None:
    # nose, eye, eyebrow, lip, hair; truth (4, 2), (), (5)
    metric = SequenceMetrics(5, "first_to_last")
    high, low = 0.9, 0.2
    metric.update(
        probability=torch.tensor([0.8, 0.3, 0.1]),
        components=torch.tensor([[0, high, 0, 0.8, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, low]]),
        order=torch.tensor([[0, 0.1, 0, 0.7, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0.5]]),
        presence=torch.tensor([[0, 1, 0, 1, 0], [0] * 5, [0, 0, 0, 0, 1]]),
        sequences=torch.tensor([[4, 2, 0, 0, 0], [0] * 5, [5, 0, 0, 0, 0]]),
    )
    values = {name: float(value) for name, value in metric.compute().items()}
    assert tuple(values) == KEYS
    assert values == pytest.approx(
        {
            "auc": 1 / 2,
            "map": 1,
            "accuracy": 14 / 15,
            "fixed": 14 / 15,
            "adaptive": 3 / 4,
            "complete": 2 / 3,
            "order": 1,
            "floor": 12 / 15,
        }
    )


def test_a_models_own_sequences_are_judged_as_they_are() -> None:
    rows = part(make_rows(1), 0, 1) | {
        "presence": torch.tensor([[1, 0, 1, 0, 0]]),
        "sequences": torch.tensor([[3, 1, 0, 0, 0]]),
        # a repeat and a gap
        "predicted": torch.tensor([[3, 3, 0, 2, 0]]),
    }
    values = in_one_go(rows)
    assert values["fixed"] == pytest.approx(3 / 5)  # positions 1, 3 and 5
    assert values["adaptive"] == pytest.approx(2 / 3)  # three labels predicted: positions 1 and 3 of 3
    assert values["accuracy"] == pytest.approx(3 / 5)  # eyebrow, lip, hair


def test_logits_are_cut_at_zero() -> None:
    rows = make_rows(30)
    logits = rows | {name: rows[name].logit() for name in ("probability", "components", "order")}
    metric = SequenceMetrics(5, "last_to_first", threshold=0)
    metric.update(**logits)
    assert {name: float(value) for name, value in metric.compute().items()} == in_one_go(rows)


@pytest.mark.parametrize("own", [False, True])
def test_batch_by_batch_is_all_at_once(own: bool) -> None:
    rows = make_rows(40, own=own)
    metric = SequenceMetrics(5, "last_to_first")
    metric.update(**make_rows(7, seed=1))
    metric.reset()
    for first in range(0, 40, 16):
        metric.update(**part(rows, first, first + 16))
    assert {name: float(value) for name, value in metric.compute().items()} == in_one_go(rows)


def test_what_is_undefined_is_not_a_number() -> None:
    real = part(make_rows(4), 0, 4) | {
        "presence": torch.zeros(4, 5, dtype=torch.long),
        "sequences": torch.zeros(4, 5, dtype=torch.long),
    }
    values = in_one_go(real)
    assert {name for name, value in values.items() if np.isnan(value)} == {"auc", "map", "order"}
    assert values["floor"] == 1
    metric = SequenceMetrics(5, "first_to_last")
    with pytest.warns(UserWarning, match="before"):
        assert all(bool(torch.isnan(value)) for value in metric.compute().values())


def _process(rank: int, folder: str, bounds: tuple[tuple[int, int], ...], rows: Rows) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/meet",
        rank=rank,
        world_size=2,
        timeout=timedelta(seconds=60),
    )
    metric = SequenceMetrics(5, "last_to_first")
    first, last = bounds[rank]
    for start in range(first, last, 4):
        metric.update(**part(rows, start, min(start + 4, last)))
    values: dict[str, Any] = {name: float(value) for name, value in metric.compute().items()}
    metric.reset()
    if rank == 0:
        metric.update(**rows)
    else:
        warnings.simplefilter("ignore")  # torchmetrics: compute before update
    values["alone"] = float(metric.compute()["fixed"])
    torch.save(values, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_give_what_one_gives(tmp_path: Path) -> None:
    rows = make_rows(23, own=True)
    known = torch.rand(23, 5, generator=torch.Generator().manual_seed(0)) < 0.9
    rows |= {"forged": rows["presence"].amax(dim=1), "known": known, "ordered": known.all(dim=1)}
    # Uneven parts: the second process sees fewer rows, in fewer and shorter batches.
    mp.spawn(_process, args=(str(tmp_path), ((0, 16), (16, 23)), rows), nprocs=2)
    expected = in_one_go(rows)
    assert all(not np.isnan(value) for value in expected.values())
    for rank in range(2):
        # What one process sees alone, the other one knows too.
        assert torch.load(tmp_path / f"{rank}.pt") == expected | {"alone": expected["fixed"]}
    halves = [in_one_go(part(rows, 0, 16)), in_one_go(part(rows, 16, 23))]
    assert all(half["auc"] != expected["auc"] for half in halves)


PARTIAL: Rows = {
    # nose, eye, eyebrow; truth (2), real, forged in the nose and not the eyebrow, forged somewhere
    "probability": torch.tensor([0.8, 0.3, 0.1, 0.9]),
    "components": torch.tensor([[0.1, 0.9, 0.6], [0.2, 0.2, 0.3], [0.7, 0.8, 0.2], [0.9, 0.9, 0.9]]),
    "order": torch.tensor([[0.1, 0.9, 0.6], [0.2, 0.2, 0.3], [0.7, 0.8, 0.2], [0.9, 0.9, 0.9]]),
    "presence": torch.tensor([[0, 1, 0], [0, 0, 0], [1, 0, 0], [0, 0, 0]]),
    "sequences": torch.tensor([[2, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0]]),
    "forged": torch.tensor([1.0, 0, 1, 1]),
    "known": torch.tensor([[True] * 3, [True] * 3, [True, False, True], [False] * 3]),
    "ordered": torch.tensor([True, True, False, False]),
}


def partial_values(rows: Rows, length: int = 3) -> dict[str, float]:
    metric = SequenceMetrics(length, "first_to_last")
    for first in range(len(rows["probability"])):
        metric.update(**part(rows, first, first + 1))
    return {name: float(value) for name, value in metric.compute().items()}


def test_labels_known_in_part() -> None:
    assert partial_values(PARTIAL) == pytest.approx(
        {
            "auc": 2 / 3,  # every image
            "map": 1,  # nose on three, eye on two; the eyebrow never occurs
            "accuracy": 7 / 8,  # of eight known labels the eyebrow of the first is wrong
            "fixed": 5 / 6,  # of the first two images: (2, 3) for (2), () for ()
            "adaptive": 2 / 3,
            "complete": 1 / 2,
            "order": float("nan"),  # no sequence of two
            "floor": 5 / 6,
        },
        nan_ok=True,
    )


@pytest.mark.parametrize("value", [0, 1])
def test_what_stands_where_nothing_is_known_changes_no_figure(value: int) -> None:
    other = PARTIAL | {
        "presence": torch.where(PARTIAL["known"], PARTIAL["presence"], value),
        "sequences": torch.where(PARTIAL["ordered"][:, None], PARTIAL["sequences"], 1),
    }
    assert partial_values(other) == pytest.approx(partial_values(PARTIAL), rel=0, abs=0, nan_ok=True)


def test_all_known_is_as_if_nothing_were_said() -> None:
    rows = make_rows(30)
    said = rows | {
        "forged": rows["presence"].amax(dim=1).float(),
        "known": torch.ones(30, 5, dtype=torch.bool),
        "ordered": torch.ones(30, dtype=torch.bool),
    }
    assert in_one_go(said) == in_one_go(rows)


def test_no_forged_row_with_known_labels() -> None:
    rows = part(PARTIAL, 1, 4) | {"known": torch.tensor([[True] * 3, [False] * 3, [False] * 3])}
    values = partial_values(rows)
    assert values["auc"] == 1 / 2
    assert values["accuracy"] == values["fixed"] == values["floor"] == 1
    assert np.isnan([values["map"], values["order"]]).all()
    nothing = part(PARTIAL, 3, 4)
    assert all(np.isnan(value) for value in partial_values(nothing).values())


def test_a_single_label_is_known_from_forged() -> None:
    scores = torch.tensor([[0.8], [0.3], [0.6]])
    values = partial_values(
        {
            "probability": scores[:, 0],
            "components": scores,
            "order": scores,
            "presence": torch.zeros(3, 1),
            "sequences": torch.zeros(3, 1, dtype=torch.long),
            "forged": torch.tensor([1.0, 0, 0]),
            "known": torch.tensor([[False], [True], [True]]),
            "ordered": torch.tensor([False, True, True]),
        },
        length=1,
    )
    assert values["auc"] == values["map"] == 1
    assert values["accuracy"] == values["fixed"] == pytest.approx(2 / 3)
