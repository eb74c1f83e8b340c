"""`forgerank reproduce`: the paper's tables and figures, thin over `forgerank.train`."""

from pathlib import Path
from typing import Annotated

import typer

from forgerank.extras import require

FIGURES_FROM = "table3"  # whose runs the figures show


def reproduce(
    what: Annotated[
        str,
        typer.Argument(
            help="table1 to table4, baselines or alternatives, which are folders of the configs; "
            "or figure3, figure4, figure5."
        ),
    ],
    data: Annotated[
        list[Path],
        typer.Option(
            help="Seq-DeepFake's folder, a forged data set, or a folder of prepared ones; "
            "repeat to join several.",
            metavar="DIR",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Runs, tables and figures go under here.", metavar="DIR")] = Path(
        "runs/reproduce"
    ),
    budget: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Minutes for all runs together, at a size for two CPU cores.",
            show_default="full size; 5 a run on forged data",
        ),
    ] = None,
    pictures: Annotated[
        int | None,
        typer.Option(min=1, help="Training images per run, in place of as many as the budget holds."),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of every row.")] = 3,
    rows: Annotated[
        list[str] | None, typer.Option(help="Only these rows; repeat as needed.", show_default="every row")
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Where to measure.", show_default="test if there is one, else val")
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="Override a key of every row's config; repeat as needed.", metavar="KEY=VALUE"
        ),
    ] = None,
    configs: Annotated[
        Path, typer.Option(help="Folder of the settings of every table.", metavar="DIR")
    ] = Path("configs"),
) -> None:
    """Repeat a table or a figure of the paper: train what is missing, measure it, set it beside the paper's.

    A command that was stopped goes on when it is given again; finished runs are used as they are.

    Examples:

    * `forgerank reproduce table1 --data Seq-DeepFake`

    * `forgerank reproduce table3 --data forged --budget 90`

    * `forgerank reproduce figure5 --data forged`
    """
    figure = what.startswith("figure")
    for extra in ("train", "paper") if figure else ("train",):
        require(extra)
    from forgerank.reproduce.experiments import Request

    table = FIGURES_FROM if figure else Path(what).name
    request = Request(
        folder=configs / table,
        data=tuple(data),
        out=out / table,
        seeds=1 if figure else seeds,
        rows=tuple(rows or ()),
        budget=budget,
        pictures=pictures,
        split=split,
        overrides=tuple(overrides or ()),
    )
    if figure:
        from forgerank.reproduce.figures import make_figure

        typer.echo(make_figure(what, request, out / what))
        return
    from forgerank.reproduce.tables import make_table

    written = make_table(request)
    typer.echo(f"{written.read_text(encoding='utf-8')}\n{written}")
