"""The curve of a run: the metrics of each validation by source, as CSV and as a plot."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from forgerank.files import csv_name, open_table, write_atomic
from forgerank.types import InputError

CURVE = "curve.csv"
ALL = "all"  # in the column `source`: the mean over the sources in which the lowest counts twice
COLUMNS = ("images", "minutes", "source", "auc", "map", "accuracy", "fixed", "adaptive", "order")

Row = dict[str, str]


class Curve(Callback):
    """Adds rows to `curve.csv` after each validation; a resumed run replaces those that it repeats."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / CURVE

    def on_validation_end(self, trainer: L.Trainer, module: Any) -> None:
        """Replace the file by one with the new rows."""
        if trainer.state.fn != "fit" or not module.curve or not trainer.is_global_zero:
            return
        images = trainer.global_step * module.config.batch_size
        rows = (
            [row for row in read_curve(self.path) if int(row["images"]) < images]
            if self.path.is_file()
            else []
        )
        total = {"source": ALL, "auc": float(trainer.callback_metrics["val/sources"])}
        for found in (*module.curve, total):
            row = {"images": images, "minutes": f"{module.elapsed_minutes:.1f}", **found}
            rows.append(
                {name: _text(row.get(name)) for name in COLUMNS} | {"source": csv_name(found["source"])}
            )
        write_atomic(self.path, _table(rows).encode())


def read_curve(path: Path) -> list[Row]:
    """The rows of a curve. Raises InputError for another kind of file."""
    try:
        with open_table(path) as reader:
            if tuple(reader.fieldnames or ()) != COLUMNS:
                raise InputError(f"{path}: not the curve of a run: expected the columns {', '.join(COLUMNS)}")
            rows = list(reader)
            for row in rows:
                _check(row)
            return rows
    except (ValueError, TypeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error


def _check(row: Row) -> None:
    """Raises ValueError or TypeError for a row with missing or wrong values."""
    if None in row or None in row.values():  # more or fewer than there are columns
        raise ValueError(f"expected {len(COLUMNS)} values")
    int(row["images"])
    for name in COLUMNS[3:]:
        float(row[name] or 0)


def plot_curve(rows: Sequence[Row], out: Path, *, metric: str = "auc") -> None:
    """Plot one line per source over the images trained on. Raises InputError where the metric is missing."""
    from matplotlib.figure import Figure

    sources = list(dict.fromkeys(row["source"] for row in rows if row[metric]))
    if not sources:
        raise InputError(f"the curve holds no {metric}")
    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.subplots()
    for source in sources:
        some = [row for row in rows if row["source"] == source and row[metric]]
        axes.plot(
            [int(row["images"]) / 1000 for row in some],
            [float(row[metric]) for row in some],
            label=source,
            marker=".",
            color="black" if source == ALL else None,
            linewidth=2.5 if source == ALL else 1.2,
        )
    axes.set_xlabel("crops seen, thousands")
    axes.set_ylabel(metric)
    axes.grid(alpha=0.3)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    content = io.BytesIO()
    try:
        figure.savefig(content, format=out.suffix[1:] or None)
    except ValueError as error:  # of a suffix that names no format
        raise InputError(f"{out}: cannot be written: {error}") from error
    write_atomic(out, content.getvalue())


def _text(value: object) -> str:
    if isinstance(value, float):
        return "" if value != value else f"{value:.4f}"  # NaN: undefined for this source
    return "" if value is None else str(value)


def _table(rows: Sequence[Row]) -> str:
    text = io.StringIO()
    table = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    return text.getvalue()
