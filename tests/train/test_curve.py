"""The curve of a run: rows in a table that is always whole, repeated ones dropped, and a plot."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from forgerank.train.curve import ALL, COLUMNS, CURVE, Curve, plot_curve, read_curve
from forgerank.types import InputError

NAN = float("nan")


def validate(
    folder: Path, step: int, auc: float = 0.8, *, fn: str = "fit", rank: bool = True, rows: Any = None
) -> None:
    """One validation at a step, of two sources."""
    metrics = {"map": 0.5, "accuracy": 0.4, "fixed": 0.3, "adaptive": 0.2, "order": NAN}
    sources = [{"source": name, "auc": auc} | metrics for name in ("a", "b, c")] if rows is None else rows
    module = SimpleNamespace(curve=sources, config=SimpleNamespace(batch_size=8), elapsed_minutes=1.25)
    trainer = SimpleNamespace(
        state=SimpleNamespace(fn=fn),
        is_global_zero=rank,
        global_step=step,
        callback_metrics={"val/sources": torch.tensor(auc - 0.1)},
    )
    Curve(folder).on_validation_end(trainer, module)  # type: ignore[arg-type]


def test_no_name_of_a_source_is_a_formula(tmp_path: Path) -> None:
    sources: list[dict[str, Any]] = [{"source": name, "auc": 0.5} for name in ("=1+2", "a\udcff")]
    for step in (10, 20):
        validate(tmp_path, step, rows=sources)
    names = [row["source"] for row in read_curve(tmp_path / CURVE)]
    assert names == ["./=1+2", "a\\udcff", ALL] * 2


def test_every_validation_adds_a_row_for_each_source(tmp_path: Path) -> None:
    validate(tmp_path, 10)
    validate(tmp_path, 20, 0.9)
    assert [path.name for path in tmp_path.iterdir()] == [CURVE]
    rows = read_curve(tmp_path / CURVE)
    assert [(row["images"], row["source"], row["auc"]) for row in rows] == [
        ("80", "a", "0.8000"),
        ("80", "b, c", "0.8000"),
        ("80", ALL, "0.7000"),
        ("160", "a", "0.9000"),
        ("160", "b, c", "0.9000"),
        ("160", ALL, "0.8000"),
    ]
    assert tuple(rows[0]) == COLUMNS
    assert (rows[0]["minutes"], rows[0]["map"], rows[0]["order"]) == ("1.2", "0.5000", "")
    assert rows[2]["map"] == ""


def test_a_resumed_run_drops_the_rows_that_it_repeats(tmp_path: Path) -> None:
    for step in (10, 20, 30):
        validate(tmp_path, step)
    validate(tmp_path, 20, 0.95)
    rows = read_curve(tmp_path / CURVE)
    assert [row["images"] for row in rows if row["source"] == "a"] == ["80", "160"]
    assert [row["auc"] for row in rows if row["source"] == "a"] == ["0.8000", "0.9500"]


def test_only_the_validations_of_training_count(tmp_path: Path) -> None:
    validate(tmp_path, 10, fn="validate")
    validate(tmp_path, 10, rank=False)
    validate(tmp_path, 10, rows=[])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_a_curve_is_drawn(tmp_path: Path, suffix: str) -> None:
    for step in (10, 20):
        validate(tmp_path, step)
    rows, out = read_curve(tmp_path / CURVE), tmp_path / f"curve.{suffix}"
    plot_curve(rows, out)
    assert out.stat().st_size > 1000
    with pytest.raises(InputError, match="the curve holds no order"):
        plot_curve(rows, out, metric="order")
    with pytest.raises(InputError, match="cannot be written"):
        plot_curve(rows, tmp_path / "curve.xyz")
    with pytest.raises(InputError, match="cannot be written"):
        plot_curve(rows, tmp_path / "nowhere" / "curve.png")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not the curve of a run"),
        ("images,auc\n1,2\n", "not the curve of a run: expected the columns images, minutes"),
        (",".join(COLUMNS) + "\n80,1\n", "cannot be read"),
        (",".join(COLUMNS) + "\nx,1,a,.5,.5,.5,.5,.5,.5\n", "cannot be read"),
        (",".join(COLUMNS) + "\n80,1,a,high,.5,.5,.5,.5,.5\n", "cannot be read"),
        (",".join(COLUMNS) + "\n80,1,a,.5,.5,.5,.5,.5,.5,.5\n", "cannot be read"),
        ("\xff", "cannot be read"),
    ],
)
def test_what_is_no_curve_is_one_line(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / CURVE
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=reason) as caught:
        read_curve(path)
    assert "\n" not in str(caught.value)


def test_a_missing_curve_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"curve\.csv: cannot be read"):
        read_curve(tmp_path / CURVE)
