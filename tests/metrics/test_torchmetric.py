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

from forgerank.labels import presence, ranks
from forgerank.metrics.torchmetric import KEYS, SequenceMetrics

Rows = dict[str, Tensor]


def make_rows(count: int, *, own: bool = False, seed: int = 0) -> Rows:
    """Random truth and answers; with `own`, sequences as of a step model, repeats and gaps included."""
    rng = np.random.default_rng(seed)
    truth = [rng.permutation(5)[: rng.integers(0, 6)] + 1 for _ in range(count)]
    rows = {
        "probability": torch.from_numpy(rng.random(count)),
        "components": torch.from_numpy(rng.random((count, 5))),
        "order": torch.from_numpy(rng.random((count, 5))),
        "presence": torch.tensor([presence(sequence, 5) for sequence in truth]),
        "ranks": torch.tensor([ranks(sequence, 5) for sequence in truth]),
    }
    if own:
        rows["sequences"] = torch.from_numpy(rng.integers(0, 6, (count, 5)))
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
        ranks=torch.tensor([[5, 2, 5, 1, 5], [5] * 5, [5, 5, 5, 5, 1]]),
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
        "ranks": torch.tensor([[2, 5, 1, 5, 5]]),
        # a repeat and a gap
        "sequences": torch.tensor([[3, 3, 0, 2, 0]]),
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
        "ranks": torch.full((4, 5), 5),
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
    # Uneven parts: the second process sees fewer rows, in fewer and shorter batches.
    mp.spawn(_process, args=(str(tmp_path), ((0, 16), (16, 23)), rows), nprocs=2)
    expected = in_one_go(rows)
    assert all(not np.isnan(value) for value in expected.values())
    for rank in range(2):
        # What one process sees alone, the other one knows too.
        assert torch.load(tmp_path / f"{rank}.pt") == expected | {"alone": expected["fixed"]}
    halves = [in_one_go(part(rows, 0, 16)), in_one_go(part(rows, 16, 23))]
    assert all(half["auc"] != expected["auc"] for half in halves)
