"""A table: its rows trained and measured, and written beside the published metrics as Markdown and CSV."""

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from forgerank.files import csv_bytes, csv_name, make_folder, write_atomic
from forgerank.reproduce.run_metrics import measure_run
from forgerank.reproduce.runs import Clock, Plan, Request, make_plan, row_config, train_missing
from forgerank.reproduce.table_file import Printed, Table, choose_rows, load_table, row_values, scale_of
from forgerank.train.config import merge

NAMES = {
    "fixed_accuracy": "Fixed-Acc",
    "adaptive_accuracy": "Adaptive-Acc",
    "multi_label_accuracy": "multi-label",
    "fixed_accuracy_tuned": "Fixed-Acc, tuned",
    "adaptive_accuracy_tuned": "Adaptive-Acc, tuned",
    "multi_label_accuracy_tuned": "multi-label, tuned",
    "component_ap": "mAP",
    "pairwise_order": "pairs in order",
    "complete_sequences": "complete",
    "auc": "AUC",
    "r2": "R²",
}
# Both metrics of a network that finds no manipulation in any image have this value.
FLOOR, FLOORED = "all_none_floor", ("fixed_accuracy", "multi_label_accuracy")
FACTS = ("evaluated", "split", "pictures", "input_size", "backbone", "machine")  # of the notes


@dataclass
class Results:
    """The evaluations of the finished runs, and the rows that were left out."""

    runs: dict[str, list[dict[str, Any]]] = field(default_factory=dict)  # row -> one evaluation per seed
    missing: dict[str, str] = field(default_factory=dict)  # row -> why it was not run

    def values(self, row: str, metric: str) -> list[float]:
        """The metric of every seed that has it, in 0..1."""
        return [run["figures"][metric] for run in self.runs.get(row, []) if metric in run["figures"]]

    def facts(self, name: str) -> list[Any]:
        """The different values of a fact over all runs."""
        return list(dict.fromkeys(facts[name] for facts in self.every_facts()))

    def every_facts(self) -> list[dict[str, Any]]:
        """The facts of every run."""
        return [run["facts"] for runs in self.runs.values() for run in runs]


def make_table(request: Request) -> Path:
    """Train and measure the runs that are missing; write table.md and table.csv into `request.out`.

    All rows of a seed come before the next seed, so that the rows are comparable whenever the command stops.
    A further call goes on. Both files are rewritten after every run. Returns the path of table.md.
    """
    table = load_table(request.table)
    rows = choose_rows(table, request.rows)
    clock = Clock(request.budget)
    plan = make_plan(request, table, rows)
    results = Results()
    for seed in range(request.seeds):
        for row in rows:
            if row in results.missing:
                continue
            result = run_row(request, table, plan, row, seed, clock)
            if isinstance(result, str):
                results.missing[row] = result
            else:
                results.runs.setdefault(row, []).append(result)
            write_table(request, table, plan, results)
    return request.out / "table.md"


def run_row(
    request: Request, table: Table, plan: Plan | None, row: str, seed: int, clock: Clock
) -> dict[str, Any] | str:
    """The evaluation of one run, trained first where it is missing; or, in words, why there is none."""
    config = row_config(request, table, row, seed=seed, images=plan.images if plan else None)
    if config is None:
        return "no data with its labels"
    if clock.over and not (config.output / "evaluation.json").is_file():
        return f"the budget was used up before seed {seed}: the same command goes on"
    if request.progress:
        Console(stderr=True).print(f"{request.table.stem}: {table.rows[row].title}, seed {seed}")
    checkpoint = train_missing(config, progress=request.progress)
    evaluation = measure_run(
        config,
        checkpoint,
        request.data,
        split=request.split,
        folder=table.rows[row].folder,
        cross=() if table.rows[row].folder else table.cross,
        limit=plan.evaluated if plan else None,
        progress=request.progress,
    )
    clock.lap()
    return evaluation


def write_table(request: Request, table: Table, plan: Plan | None, results: Results) -> None:
    """Write table.md for people and table.csv for programs; metrics in percent."""
    make_folder(request.out)
    lines = [f"# {table.title}", ""]
    lines += [line for note in _notes(request, table, plan, results) for line in (note, "")]
    if table.printed:
        lines += ["## As printed", "", *_markdown_rows([*_printed_rows(table.printed, results)]), ""]
        lines += ["## Every metric", ""]
    lines += _markdown_rows([*_rows(table, results)])
    write_atomic(request.out / "table.md", ("\n".join(lines) + "\n").encode())
    header = ["row", "title", "figure", "paper", "mean", "deviation", "seeds", "values"]
    write_atomic(request.out / "table.csv", csv_bytes([header, *_csv_rows(table, results)]))


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float]:
    """Mean and sample standard deviation; NaN where there are too few values.

    >>> mean_and_deviation([1.0, 3.0])
    (2.0, 1.4142135623730951)
    """
    if not values:
        return math.nan, math.nan
    return statistics.mean(values), statistics.stdev(values) if len(values) > 1 else math.nan


def _printed_rows(printed: Printed, results: Results) -> Iterator[list[str]]:
    """The paper's table, each of its columns as published and as measured here."""
    names = [name for name in ("backbone", "losses") if any(getattr(line, name) for line in printed.lines)]
    yield ["", *names, *(f"{name}, {whose}" for name in printed.columns for whose in ("published", "here"))]
    for line in printed.lines:
        cells = []
        for cell in printed.cells(line):
            cells.append("" if cell.value is None else f"{cell.value:.2f}")
            here = _measured(cell.metric, results.values(cell.row, cell.metric)) if cell.row else ""
            cells.append("cited" if cell.value is not None and not line.rows else here)
        yield [line.method, *(getattr(line, name) for name in names), *cells]


def _measured(metric: str, values: Sequence[float]) -> str:
    """Mean ± deviation of a metric on the scale and with the digits that it is printed with."""
    mean, deviation = mean_and_deviation(values)
    scale = scale_of(metric)
    digits = 1 if scale == 100 else 2
    spread = "" if math.isnan(deviation) else f" ± {scale * deviation:.{digits}f}"
    return "" if math.isnan(mean) else f"{scale * mean:.{digits}f}{spread}"


def _rows(table: Table, results: Results) -> Iterator[list[str]]:
    published = [*map(table.published, table.rows), *table.others.values()]
    columns = [(metric, any(metric in values for values in published)) for metric in table.columns]
    heading = [""]
    for metric, is_published in columns:
        name = _column(metric)
        heading += [f"{name}, published", f"{name}, here"] if is_published else [name]
    yield [*heading, "images/s", "seeds"]
    for title, known in table.others.items():
        yield [title, *_cells(columns, known, {}), "", ""]
    floors: dict[str, list[float]] = {}  # of each kind of labels: their images differ
    for name in results.runs:
        floors.setdefault(_vocabulary(table, name), []).extend(results.values(name, FLOOR))
    for vocabulary, floor in floors.items():
        title = "answering “none” throughout" + (f", {vocabulary}" if len(floors) > 1 else "")
        if floor and set(FLOORED) & set(table.columns):
            yield [title, *_cells(columns, {}, {name: floor for name in FLOORED}), "", ""]
    for name, row in table.rows.items():
        measured = {metric: results.values(name, metric) for metric in table.columns}
        speeds = [run["facts"]["pictures_per_second"] for run in results.runs.get(name, [])]
        speed = f"{statistics.mean(speeds):.1f}" if speeds else ""
        yield [row.title, *_cells(columns, table.published(name), measured), speed, str(len(speeds))]


def _vocabulary(table: Table, row: str) -> str:
    data: dict[str, str] = merge(table.overrides, table.rows[row].overrides).get("data", {})
    return data.get("vocabulary", "components")


def _cells(
    columns: Sequence[tuple[str, bool]],
    published: Mapping[str, float],
    measured: Mapping[str, Sequence[float]],
) -> Iterator[str]:
    for metric, is_published in columns:
        if is_published:
            known = metric in published
            yield f"{published[metric] * scale_of(metric) / 100:.2f}" if known else ""
        yield _measured(metric, measured.get(metric, ()))


def _csv_rows(table: Table, results: Results) -> Iterator[list[object]]:
    if table.printed:
        for line in table.printed.lines:
            title = ", ".join(filter(None, (line.method, line.backbone)))
            for cell in table.printed.cells(line):
                if cell.value is not None and cell.row is None:
                    yield ["", csv_name(title), csv_name(cell.heading), cell.value, "", "", 0, ""]
    for title, published in table.others.items():
        for metric, value in published.items():
            yield ["", csv_name(title), csv_name(metric), value, "", "", 0, ""]
    for name, row in table.rows.items():
        measured = [metric for run in results.runs.get(name, ()) for metric in run["figures"]]
        published = table.published(name)
        for metric in dict.fromkeys([*table.columns, *published, *measured]):
            values = [100 * value for value in results.values(name, metric)]
            mean, deviation = mean_and_deviation(values)
            numbers = ["" if math.isnan(value) else round(value, 4) for value in (mean, deviation)]
            each = " ".join(f"{value:.4f}" for value in values)
            names = [csv_name(text) for text in (name, row.title, metric)]
            yield [*names, published.get(metric, ""), *numbers, len(values), each]


def _notes(request: Request, table: Table, plan: Plan | None, results: Results) -> Iterator[str]:
    """What a reader must know to judge the table."""
    yield f"Published: {table.origin}; percent{', R² in 0..1' if _has_r2(table) else ''}."
    if results.runs:
        known = {name: ", ".join(map(str, results.facts(name))) for name in FACTS}
        sets = ", ".join(root.name for root in request.data)
        yield (
            f"Here: {known['evaluated']} images of the split {known['split']} of {sets}; percent, "
            "mean ± standard deviation over the seeds."
        )
        yield (
            f"Every run saw {known['pictures']} images, {known['input_size']} px, {known['backbone']}. "
            f"Machine: {known['machine']}."
        )
        yield from _whole_images(results)
        cut = {
            place: by
            for facts in results.every_facts()
            for place, by in facts.get("faces_cut_by", {}).items()
        }
        if cut:
            yield f"Faces cut by: {', '.join(f'{by} ({place})' for place, by in sorted(cut.items()))}."
        used = {option for facts in results.every_facts() for option in facts.get("options", {})}
        asked = {option for row in results.runs for option in _options(request, table, row)}
        if asked - used:
            yield f"Not applied, as these data do not offer it: {', '.join(sorted(asked - used))}."
    if plan:
        yield (
            "The published metrics are of full training on the academic data, those here of short runs: "
            "compare rows, not columns. "
            f"Repeat with `forgerank reproduce {request.table.stem} --pictures {plan.images}`."
        )
    for row, reason in results.missing.items():
        yield f"Left out: {table.rows[row].title}: {reason}."
    skipped = [run["skipped"] for runs in results.runs.values() for run in runs]
    for name, reason in {name: reason for some in skipped for name, reason in some.items()}.items():
        yield f"Not tested on {name}: {reason}."


def _options(request: Request, table: Table, row: str) -> dict[str, Any]:
    options: dict[str, Any] = row_values(request.table, table, row)["data"].get("options") or {}
    return {name: value for name, value in options.items() if value}


def _whole_images(results: Results) -> Iterator[str]:
    """How many images were judged as a whole. Runs of earlier versions do not say."""
    known = [facts for facts in results.every_facts() if "whole_images" in facts]
    counts = [(facts["aligned"], facts) for facts in known]
    counts += [(facts["aligned"], counted) for facts in known for counted in facts["cross"].values()]
    for aligned, why in ((False, "alignment is off"), (True, "no face was found in them")):
        found = {(c["whole_images"], c["evaluated"]) for on, c in counts if on == aligned}
        if found:
            parts = ", ".join(f"{whole} of {images}" for whole, images in sorted(found))
            yield f"Judged on the whole image, resized: {parts} images ({why})."


def _has_r2(table: Table) -> bool:
    return any(scale_of(metric) == 1 for metric in table.columns)


def _markdown_rows(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    for number, row in enumerate(rows):
        yield "| " + " | ".join(cell or "-" if place else cell for place, cell in enumerate(row)) + " |"
        if number == 0:
            yield "|" + "---|" * len(row)


def _column(metric: str) -> str:
    """`celebdf/auc` -> `celebdf AUC`."""
    return " ".join(NAMES.get(part, part.replace("_", " ")) for part in metric.split("/"))
