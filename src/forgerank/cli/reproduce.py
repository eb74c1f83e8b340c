"""`forgerank reproduce`: the tables and figures of the paper."""

from pathlib import Path
from typing import Annotated

import typer

from forgerank.cli.options import ConfigOverrides
from forgerank.extras import require


def reproduce(
    what: Annotated[
        str,
        typer.Argument(
            help="table1 to table4, baselines or alternatives, which are files of the configs; "
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
    images: Annotated[
        int | None,
        typer.Option(
            "--pictures", min=1, help="Training images per run, in place of as many as the budget holds."
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of every row.")] = 3,
    rows: Annotated[
        list[str] | None, typer.Option(help="Only these rows; repeat as needed.", show_default="every row")
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Where to measure.", show_default="test if there is one, else val")
    ] = None,
    overrides: ConfigOverrides = None,
    configs: Annotated[Path, typer.Option(help="Folder of the tables' files.", metavar="DIR")] = Path(
        "configs"
    ),
) -> None:
    """Repeat a table or a figure of the paper: train the missing runs, measure them, compare with the paper.

    A command that was stopped goes on when it is repeated; finished runs are not trained again.

    Examples:

    * `forgerank reproduce table1 --data Seq-DeepFake`

    * `forgerank reproduce table3 --data forged --budget 90`

    * `forgerank reproduce figure5 --data forged`
    """
    figure = what.startswith("figure")
    for extra in ("train", "paper") if figure else ("train",):
        require(extra)
    from forgerank.files import check_outputs
    from forgerank.reproduce.runs import Request

    table = Path(what).stem
    check_outputs([], [*data, configs], folders=[out] if figure else [out, out / table])
    request = Request(
        table=configs / f"{table}.yaml",
        data=tuple(data),
        out=out if figure else out / table,
        seeds=1 if figure else seeds,
        rows=tuple(rows or ()),
        budget=budget,
        images=images,
        split=split,
        overrides=tuple(overrides or ()),
    )
    if figure:
        from forgerank.reproduce.figures import make_figure

        typer.echo(make_figure(what, request))
        return
    from forgerank.reproduce.tables import make_table

    written = make_table(request)
    typer.echo(f"{written.read_text(encoding='utf-8')}\n{written}")
