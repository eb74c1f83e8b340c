"""Runs of a table, beside the published figures, as Markdown and CSV."""

import csv
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from forgerank.reproduce.experiments import (
    Clock,
    Experiment,
    Plan,
    Request,
    choose_rows,
    load_experiment,
    make_plan,
    row_config,
    train_missing,
)
from forgerank.reproduce.measure import measure_run

NAMES = {
    "fixed_accuracy": "Fixed-Acc",
    "adaptive_accuracy": "Adaptive-Acc",
    "multi_label_accuracy": "multi-label",
    "fixed_accuracy_tuned": "Fixed-Acc, tuned",
    "adaptive_accuracy_tuned": "Adaptive-Acc, tuned",
    "multi_label_accuracy_tuned": "multi-label, tuned",
    "component_map": "mAP",
    "pairwise_order": "pairs in order",
    "complete_sequences": "complete",
    "auc": "AUC",
    "r2": "R²",
}
# Answering "nothing was manipulated" throughout scores the same in both.
FLOORED = ("fixed_accuracy", "multi_label_accuracy")
FLOOR = "all_none_floor"
FACTS = ("evaluated", "split", "pictures", "input_size", "backbone", "machine")  # named above the table


@dataclass
class Results:
    """What has been measured so far."""

    runs: dict[str, list[dict[str, Any]]] = field(default_factory=dict)  # row -> one evaluation per seed
    missing: dict[str, str] = field(default_factory=dict)  # row -> why it was not run

    def values(self, row: str, figure: str) -> list[float]:
        """The figure of every seed that has it."""
        return [run["figures"][figure] for run in self.runs.get(row, []) if figure in run["figures"]]

    def facts(self, name: str) -> list[Any]:
        """The different values of a fact over all runs."""
        return list(dict.fromkeys(run["facts"][name] for runs in self.runs.values() for run in runs))


def make_table(request: Request) -> Path:
    """Train what is missing, measure it, and write table.md and table.csv into `request.out`.

    All rows of the first seed come before the second: whenever the command stops, the rows are comparable.
    Run again, it goes on. The files are rewritten after every run. Returns the path of table.md.
    """
    experiment = load_experiment(request.folder)
    rows = choose_rows(experiment, request.rows)
    clock = Clock(request.budget)
    plan = make_plan(request, experiment, rows)
    results = Results()
    table = request.out / "table.md"
    for seed in range(request.seeds):
        for row in rows:
            if row in results.missing:
                continue
            result = run_row(request, experiment, plan, row, seed, clock)
            if isinstance(result, str):
                results.missing[row] = result
            else:
                results.runs.setdefault(row, []).append(result)
            write_table(request, experiment, plan, results)
    return table


def run_row(
    request: Request, experiment: Experiment, plan: Plan | None, row: str, seed: int, clock: Clock
) -> dict[str, Any] | str:
    """The evaluation of one run, trained first if need be, or why there is none."""
    config = row_config(request, experiment, row, seed=seed, images=plan.pictures if plan else None)
    if config is None:
        return "no data with its labels"
    if clock.over and not (config.output / "evaluation.json").is_file():
        return f"the budget was used up before seed {seed}: the same command goes on"
    if request.progress:
        Console(stderr=True).print(f"{request.folder.name}: {experiment.rows[row].title}, seed {seed}")
    checkpoint = train_missing(config, progress=request.progress)
    evaluation = measure_run(
        config,
        checkpoint,
        request.data,
        split=request.split,
        cross=experiment.cross,
        limit=plan.evaluated if plan else None,
        progress=request.progress,
    )
    clock.lap()
    return evaluation


def write_table(request: Request, experiment: Experiment, plan: Plan | None, results: Results) -> None:
    """table.md for people, table.csv for programs; figures in percent."""
    request.out.mkdir(parents=True, exist_ok=True)
    lines = [f"# {experiment.title}", ""]
    lines += [line for note in _notes(request, experiment, plan, results) for line in (note, "")]
    lines += _markdown_rows([*_rows(experiment, results)])
    (request.out / "table.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    with (request.out / "table.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["row", "title", "figure", "paper", "mean", "deviation", "seeds", "values"])
        writer.writerows(_csv_rows(experiment, results))


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float]:
    """Mean and sample standard deviation; NaN for what too few values do not tell.

    >>> mean_and_deviation([1.0, 3.0])
    (2.0, 1.4142135623730951)
    """
    if not values:
        return math.nan, math.nan
    return statistics.mean(values), statistics.stdev(values) if len(values) > 1 else math.nan


def _rows(experiment: Experiment, results: Results) -> Iterator[list[str]]:
    published = [e.paper for e in experiment.rows.values()] + list(experiment.others.values())
    columns = [(figure, any(figure in row for row in published)) for figure in experiment.figures]
    heading = [""]
    for figure, is_published in columns:
        name = _column(figure)
        heading += [f"{name}, published", f"{name}, here"] if is_published else [name]
    yield [*heading, "pictures/s", "seeds"]
    for title, paper in experiment.others.items():
        yield [title, *_cells(columns, paper, {}), "", ""]
    floor = [value for row in results.runs for value in results.values(row, FLOOR)]
    if floor:
        yield ["answering “none” throughout", *_cells(columns, {}, {name: floor for name in FLOORED}), "", ""]
    for name, row in experiment.rows.items():
        measured = {figure: results.values(name, figure) for figure in experiment.figures}
        speeds = [run["facts"]["pictures_per_second"] for run in results.runs.get(name, [])]
        speed = f"{statistics.mean(speeds):.1f}" if speeds else ""
        yield [row.title, *_cells(columns, row.paper, measured), speed, str(len(speeds))]


def _cells(
    columns: Sequence[tuple[str, bool]], paper: Mapping[str, float], measured: Mapping[str, Sequence[float]]
) -> Iterator[str]:
    for figure, is_published in columns:
        if is_published:
            yield f"{paper[figure]:.2f}" if figure in paper else ""
        mean, deviation = mean_and_deviation(measured.get(figure, ()))
        spread = "" if math.isnan(deviation) else f" ± {100 * deviation:.1f}"
        yield "" if math.isnan(mean) else f"{100 * mean:.1f}{spread}"


def _csv_rows(experiment: Experiment, results: Results) -> Iterator[list[object]]:
    for title, paper in experiment.others.items():
        for figure, value in paper.items():
            yield ["", title, figure, value, "", "", 0, ""]
    for name, row in experiment.rows.items():
        measured = [figure for run in results.runs.get(name, ()) for figure in run["figures"]]
        for figure in dict.fromkeys([*experiment.figures, *row.paper, *measured]):
            values = [100 * value for value in results.values(name, figure)]
            mean, deviation = mean_and_deviation(values)
            numbers = ["" if math.isnan(value) else round(value, 4) for value in (mean, deviation)]
            each = " ".join(f"{value:.4f}" for value in values)
            yield [name, row.title, figure, row.paper.get(figure, ""), *numbers, len(values), each]


def _notes(request: Request, experiment: Experiment, plan: Plan | None, results: Results) -> Iterator[str]:
    """What a reader must know to judge the figures."""
    yield f"Published: {experiment.origin}; percent."
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
    if plan:
        yield (
            "The published figures are of full training on the academic data, those here of short runs: "
            "compare rows, not columns. "
            f"Repeat with `forgerank reproduce {request.folder.name} --images {plan.pictures}`."
        )
    for row, reason in results.missing.items():
        yield f"Left out: {experiment.rows[row].title}: {reason}."
    skipped = [run["skipped"] for runs in results.runs.values() for run in runs]
    for name, reason in {name: reason for some in skipped for name, reason in some.items()}.items():
        yield f"Not tested on {name}: {reason}."


def _markdown_rows(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    for number, row in enumerate(rows):
        yield "| " + " | ".join(cell or "-" if place else cell for place, cell in enumerate(row)) + " |"
        if number == 0:
            yield "|" + "---|" * len(row)


def _column(figure: str) -> str:
    """`celebdf/auc` -> `celebdf AUC`."""
    return " ".join(NAMES.get(part, part.replace("_", " ")) for part in figure.split("/"))
