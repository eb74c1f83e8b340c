"""`forgerank train`, `evaluate` and `curve`: networks trained and measured."""

import json as json_library
import os
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from forgerank.cli.options import (
    ConfigOverrides,
    EachLimit,
    EvaluatedData,
    Readers,
    Thorough,
    print_unread,
)
from forgerank.extras import require
from forgerank.types import Copies, InputError


def train(
    config: Annotated[Path, typer.Argument(help="YAML file of the settings, or of a table.")],
    row: Annotated[
        str | None,
        typer.Option(help="Row of the table that is trained.", metavar="NAME", show_default=False),
    ] = None,
    overrides: ConfigOverrides = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the run's last checkpoint.")] = False,
) -> None:
    """Train a network.

    Examples:

    * `forgerank train configs/default.yaml`

    * `forgerank train configs/table3.yaml --row model-4`

    * `forgerank train configs/default.yaml --set model.input_size=160 --set seed=1 --resume`
    """
    require("train")
    from forgerank.reproduce.table_file import load_run
    from forgerank.train.fit import run

    unread: list[str] = []
    weights = run(load_run(config, row, overrides or ()), resume=resume, unread=unread)
    if os.environ.get("RANK", "0") == "0":  # one of several processes that torchrun started
        print_unread(unread)
        typer.echo(weights)
    raise typer.Exit(2 if unread else 0)


def evaluate(
    weights: Annotated[
        list[Path],
        typer.Argument(
            help="Checkpoint, .safetensors, or folder with forgerank.json. Further ones, or the folder of a "
            "run, add the best of each metric over all checkpoints.",
        ),
    ],
    data: EvaluatedData = None,
    dataset: Annotated[
        str | None, typer.Option(help="What DIR holds: a data set's name.", show_default="what it looks like")
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(help="train, val or test.", show_default="val, or the val_split of --sources"),
    ] = None,
    copies: Annotated[
        Copies | None,
        typer.Option(
            help="Measure on copies: re-encoded at quality 40 to 95 and resized by 0.5 to 2, colourless, "
            "in two tones, with a cast or a film's grain, sharpened, under text, photographed from a screen "
            "or scanned from a print.",
            show_default="the images as they are",
        ),
    ] = None,
    reverse: Annotated[
        bool | None,
        typer.Option(
            "--reverse/--no-reverse",
            help="Compare sequences from last to first, as some follow-ups of Seq-DeepFake do.",
            show_default="as the network was trained",
        ),
    ] = None,
    tune: Annotated[
        str | None,
        typer.Option(
            help="Choose the thresholds on this other split, or on so many images of it.",
            metavar="SPLIT[/LIMIT]",
            show_default="saved ones, else 0.5",
        ),
    ] = None,
    sources: Annotated[
        Path | None,
        typer.Option(help="Measure on each validation source of this config instead.", metavar="CONFIG"),
    ] = None,
    limit: EachLimit = None,
    workers: Readers = None,
    thorough: Thorough = False,
    abstain: Annotated[
        bool,
        typer.Option("--abstain", help="No verdict for faces that detect would not judge; takes longer."),
    ] = False,
    json: Annotated[
        Path | None, typer.Option(help="Write the metrics to this file too.", metavar="FILE")
    ] = None,
    csv: Annotated[
        Path | None, typer.Option(help="Write a line for each data set, or source.", metavar="FILE")
    ] = None,
    plots: Annotated[
        Path | None,
        typer.Option(help="Write reliability.png and det.png into this folder.", metavar="DIR"),
    ] = None,
) -> None:
    """Measure a network on images with known answers: a row for each data set, with 95 % bootstrap intervals.

    Examples:

    * `forgerank evaluate src/forgerank/assets --data forged/ --data packs/ --csv sets.csv --plots plots/`

    * `forgerank evaluate runs/default/best.ckpt --data forged/ --split val`

    * `forgerank evaluate runs/default/best.ckpt runs/default --split test --tune val/2000`

    * `forgerank evaluate runs/default/best.ckpt --sources configs/default.yaml --limit 600`
    """
    require("train")
    from forgerank.evaluation.printing import print_evaluation, print_sets, sets_csv
    from forgerank.files import check_outputs, make_folder, write_atomic

    if plots is not None:
        require("paper")
    if csv is not None and sources is None and not data:
        raise InputError("--csv has a line for each --data, or for each source of --sources: name some")
    if sources is not None:
        _check_alone(
            {
                "--data": data,
                "--dataset": dataset,
                "--reverse": reverse is not None,
                "--tune": tune,
                "further weights": weights[1:],
            }
        )
    for file in (json, csv):
        if file is not None:
            make_folder(file.parent)
    inputs = [sources, *(data or ()), *(file for place in weights for file in _files_of(place))]
    check_outputs([], inputs, folders=[plots], texts=[json, csv])
    options: dict[str, Any] = {"limit": limit, "workers": workers, "plots": plots}
    options |= {"thorough": thorough, "abstain": abstain, "split": split, "copies": copies}
    result: dict[str, Any] = {}
    if sources is not None:
        rows = _evaluate_sources(weights[0], sources, json, **options)
    else:
        from forgerank.evaluation.evaluate import evaluate as evaluate_weights

        options |= {"dataset": dataset, "split": split or "val"}
        options |= {"reverse": reverse, "tune": tune}
        result = evaluate_weights(weights[0], others=weights[1:], roots=data or (), output=json, **options)
        rows = result["sets"]
    if csv is not None:  # before anything is printed: that may fail
        write_atomic(csv, sets_csv(rows).encode())
    if sources is None:
        print_evaluation(result)
    else:
        print_sets(rows)
    print_unread(result.get("unread", ()))
    raise typer.Exit(2 if "unread" in result else 0)


def _check_alone(others: dict[str, Any]) -> None:
    """Raises InputError for options that say nothing about the sources of a config."""
    if given := [name for name, value in others.items() if value]:
        raise InputError(
            f"--sources takes the data and its labels from the config: leave out {', '.join(given)}"
        )


def _files_of(weights: Path) -> list[Path]:
    """The files that weights may be read from."""
    return list(weights.iterdir()) if weights.is_dir() else [weights, weights.with_suffix(".json")]


def _evaluate_sources(
    weights: Path, config: Path, json: Path | None, **options: Any
) -> dict[str, dict[str, float]]:
    from forgerank.evaluation.evaluate import evaluate_sources
    from forgerank.evaluation.protocols import plain
    from forgerank.files import write_atomic
    from forgerank.train.config import load_config

    found = evaluate_sources(weights, load_config(config).data, **options)
    if json is not None:
        write_atomic(json, (json_library.dumps(plain(found), indent=2) + "\n").encode())
    return found


def curve(
    run: Annotated[Path, typer.Argument(help="Folder of a run, or its curve.csv.", metavar="RUN")],
    out: Annotated[
        Path | None, typer.Option(help="Draw it into this PNG, SVG or PDF.", metavar="FILE")
    ] = None,
    metric: Annotated[str, typer.Option(help="auc, map, accuracy, fixed, adaptive or order.")] = "auc",
) -> None:
    """Show how a run learns, source by source: a column for each source, a row for each validation.

    Example: `forgerank curve runs/default --out curve.png`
    """
    require("train")
    from forgerank.files import check_outputs
    from forgerank.train.curve import COLUMNS, CURVE, plot_curve, read_curve

    check_outputs([out], [run, run / CURVE])
    if metric not in COLUMNS[3:]:
        raise InputError(f"--metric must be of {', '.join(COLUMNS[3:])}, got {metric}")
    rows = read_curve(run / CURVE if run.is_dir() else run)
    if out is not None:
        require("paper")
        plot_curve(rows, out, metric=metric)
    sources = list(dict.fromkeys(row["source"] for row in rows))
    table = Table("crops", *sources, box=None, pad_edge=False)
    for images in dict.fromkeys(row["images"] for row in rows):
        found = {row["source"]: row[metric] for row in rows if row["images"] == images}
        table.add_row(images, *(found.get(source, "") for source in sources))
    Console().print(table)
    if out is not None:
        typer.echo(f"{out}: written")
