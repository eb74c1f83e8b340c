"""Results of an evaluation as tables in the terminal."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from forgerank.evaluation.protocols import flat_metrics

# Of each source, in two tables that fit 80 columns: the title of a column, and the key of its metric.
_SEPARATION = {
    **{"AUC": "auc", "from": "auc_low", "to": "auc_high", "EER": "equal_error_rate"},
    **{"found at\n1 % FPR": "tpr_at_1_percent_fpr", "mAP": "map", "order": "order"},
}
_VERDICTS = {
    **{"real →\nforged": "false_positive_rate", "real →\nreal": "real_rate"},
    **{"forged →\nforged": "true_positive_rate", "forged →\nreal": "miss_rate", "none": "undetermined"},
    **{"C_llr": "cllr", "least\nC_llr": "min_cllr"},
}


def print_sources(found: dict[str, dict[str, float]], console: Console | None = None) -> None:
    """A row for each source, and the mean over them: how well P(x) parts real from forged, with 95 %
    intervals of the AUC over groups, and which verdicts it gives.
    """
    console = console or Console()
    for columns in (_SEPARATION, _VERDICTS):
        table = Table("source", "images", *columns, box=box.SIMPLE_HEAD, pad_edge=False)
        table.columns[0].no_wrap = True
        rows = {name: (str(int(metrics["images"])), metrics) for name, metrics in found.items()}
        for name, (images, metrics) in {**rows, "mean": ("", _means(found, columns.values()))}.items():
            values = (metrics.get(key, math.nan) for key in columns.values())
            table.add_row(name, images, *("-" if math.isnan(value) else f"{value:.3f}" for value in values))
        console.print(table)


def _means(found: dict[str, dict[str, float]], keys: Iterable[str]) -> dict[str, float]:
    """Over the sources that have a value; none of the bounds of intervals."""
    means = {}
    for key in keys:
        known = [part[key] for part in found.values() if not math.isnan(part.get(key, math.nan))]
        if known and key not in ("auc_low", "auc_high"):
            means[key] = sum(known) / len(known)
    return means


def print_evaluation(result: dict[str, Any], console: Console | None = None) -> None:
    """Tables of the metrics: by source, by label, of videos, and the best of several checkpoints."""
    console = console or Console()
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
    title = f"{result['pictures']} images, {result['real']} real, {result['groups']} groups"
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
    title = f"best of {len(checkpoints)} checkpoints, each chosen on these very images"
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
