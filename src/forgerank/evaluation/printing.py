"""Results of an evaluation as tables in the terminal and as CSV."""

import csv
import io
import math
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from forgerank.evaluation.protocols import flat_metrics
from forgerank.files import csv_name
from forgerank.media.files import counted

# Of each set, in tables that fit 80 columns: the title of a column, and the key of its metric.
_TABLES = (
    {
        **{"AUC": "auc", "EER": "equal_error_rate", "TPR at\n1 % FPR": "tpr_at_1_percent_fpr"},
        **{"mAP": "map", "order": "order"},
    },
    {
        **{"real →\nforged": "false_positive_rate", "real →\nreal": "real_rate"},
        **{"forged →\nforged": "true_positive_rate", "forged →\nreal": "miss_rate"},
        **{"undeter-\nmined": "undetermined"},
    },
    {"C_llr": "cllr", "least\nC_llr": "min_cllr", "not\njudged": "unjudged"},
)
_COUNTS = ("images", "real", "groups", "whole_images")

Rows = dict[str, dict[str, float]]  # of `set_metrics`, by the name of the set; undefined: NaN or None


def print_sets(rows: Rows, console: Console | None = None) -> None:
    """A row for each set, and the mean over several: how well P(x) parts real from forged, which verdicts it
    gives and what its likelihood ratios are worth, with 95 % intervals over groups.
    """
    console = console or Console()
    means = _means(rows)
    for number, columns in enumerate(_TABLES):
        table = Table("set", *["images"][number:], *columns, box=box.SIMPLE_HEAD, pad_edge=False)
        table.columns[0].no_wrap = True
        for name, row in rows.items():
            table.add_row(
                name, *[str(int(row["images"]))][number:], *(_cell(row, key) for key in columns.values())
            )
        if len(rows) > 1:
            table.add_row("mean", *[""][number:], *(_cell(means, key) for key in columns.values()))
        console.print(table)


def sets_csv(rows: Rows) -> str:
    """A line for each set: counts, then every metric with its interval, `auc`, `auc_low`, `auc_high`."""
    keys = list(dict.fromkeys([*_COUNTS, *(key for row in rows.values() for key in row)]))
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["set", *keys])
    for name, row in rows.items():
        values = (row.get(key) for key in keys)
        table.writerow([csv_name(name), *("" if _undefined(value) else f"{value:.6g}" for value in values)])
    return text.getvalue()


def _cell(row: dict[str, float], key: str) -> str:
    """0.893, and under it 0.85-0.93 where there is an interval."""
    value, low, high = (row.get(name) for name in (key, f"{key}_low", f"{key}_high"))
    if _undefined(value):
        return "-"
    return f"{value:.3f}" + ("" if _undefined(low) else f"\n{low:.2f}-{high:.2f}")


def _means(rows: Rows) -> dict[str, float]:
    """Of each metric over the sets that have a value."""
    means = {}
    for key in (key for columns in _TABLES for key in columns.values()):
        known = [row[key] for row in rows.values() if not _undefined(row.get(key))]
        if known:
            means[key] = sum(known) / len(known)
    return means


def _undefined(value: float | None) -> bool:
    return value is None or math.isnan(value)


def print_evaluation(result: dict[str, Any], console: Console | None = None) -> None:
    """Tables of the metrics: by set, by source, by label, of videos, and the best of several checkpoints."""
    console = console or Console()
    if result.get("sets"):
        print_sets(result["sets"], console)
    if len(result["by_component"]) > 1:
        console.print(_overview(result))
        console.print(_labels_table(result))
    if "binary" in result:
        console.print(_binary_table(result["binary"]))
    if "best_of" in result:
        console.print(_best_table(result))
    console.print(f"thresholds: {result['thresholds']}")
    if result["whole_images"]:
        why = "no face was found in them" if result["aligned"] else "alignment is off"
        console.print(f"judged on the whole image: {result['whole_images']} of {result['pictures']}, {why}")
    if result["reversed"]:
        console.print("sequences from last to first: their Fixed-Acc compares with no other")


def _overview(result: dict[str, Any]) -> Table:
    images, groups = counted(result["pictures"], "image"), counted(result["groups"], "group")
    title = f"{images}, {result['real']:,} real, {groups}"
    table = Table("", "all", "95 %", *result["by_source"], title=title)
    for name, value in result["metrics"].items():
        sources = (_show(part[name]) for part in result["by_source"].values())
        table.add_row(_words(name), _show(value["value"]), _interval(value), *sources)
    return table


def _labels_table(result: dict[str, Any]) -> Table:
    table = Table("", *result["labels"], title="by label")
    table.add_row("average precision", *map(_show, result["by_component"]))
    table.add_row("order R²", *map(_show, result["order_r2_by_component"]))
    return table


def _binary_table(conditions: dict[str, Any]) -> Table:
    """One column for each `dataset/compression/level`, intervals under the values."""
    table = Table("real against forged", *conditions)
    counts = (f"{part['count']} ({part['real']} real)" for part in conditions.values())
    table.add_row("count", *counts)
    for name in next(iter(conditions.values()))["metrics"]:
        cells = (part["metrics"][name] for part in conditions.values())
        table.add_row(_words(name), *(f"{_show(cell['value'])}\n{_interval(cell)}" for cell in cells))
    methods = dict.fromkeys(method for part in conditions.values() for method in part["by_method"])
    for method in methods if len(methods) > 1 else ():
        found = (part["by_method"].get(method, {}).get("auc") for part in conditions.values())
        table.add_row(f"auc, {method}", *map(_show, found))
    return table


def _best_table(result: dict[str, Any]) -> Table:
    """The metrics of the first checkpoint beside the best of all checkpoints."""
    checkpoints = result["best_of"]["checkpoints"]
    first = flat_metrics(result)
    title = f"best of {counted(len(checkpoints), 'checkpoint')}, each chosen on these very images"
    table = Table("", Path(checkpoints[0]).name, "best", "from", title=title)
    for name, best in result["best_of"]["metrics"].items():
        origin = checkpoints[best["checkpoint"]]
        table.add_row(_words(name), _show(first[name]), _show(best["value"]), origin)
    return table


def _words(name: str) -> str:
    return name.replace("_", " ")


def _interval(value: dict[str, float | None]) -> str:
    return f"{_show(value['low'])} to {_show(value['high'])}"


def _show(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
