"""`forgerank data pack | autoencoder | reconstruct` and `forgerank curve`: from many sources to one run."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from forgerank.extras import require
from forgerank.types import InputError

if TYPE_CHECKING:
    from forgerank.data.prepare.packs import PackSummary

_EXAMPLES = 5  # of what is wrong with a pack

PackRoot = Annotated[Path, typer.Argument(help="Folder of a pack.", metavar="PACK")]


def pack(
    recipe: Annotated[Path, typer.Argument(help="YAML file that lists the sources.", metavar="RECIPE")],
    out: Annotated[Path, typer.Option(help="Folder for the pack.", metavar="DIR")],
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
) -> None:
    """Find every face of many data sets once, and keep the crops with landmarks and labels in one pack.

    The pack comes in parts of at most 40 MiB, each a mixture of all sources. Near-duplicates across sources,
    splits and labels are looked for over all of them and left out; manifest.json says which. Start it again
    after an interruption: finished parts are kept.

    Example: `forgerank data pack configs/pack.yaml --out packs --workers 2`
    """
    require("train")
    require("data")
    from forgerank.cli.progress import progress_bar
    from forgerank.data.prepare.packs import LARGEST_PART, load_recipe, write_pack

    with progress_bar("Packing faces") as progress:
        summary = write_pack(load_recipe(recipe), out, workers=workers, progress=progress)
    print_pack(summary, Console())
    typer.echo(f"{out}: {summary.faces} faces in {summary.parts} parts")
    if summary.largest_part > LARGEST_PART:
        typer.echo("a part is larger than 40 MiB: choose a smaller faces_per_part", err=True)
    raise typer.Exit(2 if any("unreadable" in reason for reason in summary.skipped) else 0)


def print_pack(summary: "PackSummary", console: Console) -> None:
    """Faces by source, class and split, then what was left out and why."""
    table = Table("Source", "train real", "train forged", "val real", "val forged", box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    columns = ("train real", "train fake", "val real", "val fake")
    for source, counts in summary.counts.items():
        table.add_row(source, *(str(counts.get(name, 0)) for name in columns))
    total = [sum(counts.get(name, 0) for counts in summary.counts.values()) for name in columns]
    table.add_row("all", *map(str, total), style="bold")
    console.print(table)
    for title, reasons in (("left out", summary.skipped), ("near-duplicates", summary.dropped)):
        if reasons:
            console.print(f"{title}: " + ", ".join(f"{count} {reason}" for reason, count in reasons.items()))


def check_pack(root: Path, console: Console) -> int:
    """Whether all parts are there as they were written, and near-duplicates are left out; the exit code."""
    from forgerank.data.prepare.packs import check_parts, load_summary

    print_pack(load_summary(root), console)
    problems = check_parts(root)
    for problem in problems[:_EXAMPLES]:
        console.print(problem, style="red", soft_wrap=True)
    if len(problems) > _EXAMPLES:
        console.print(f"and {len(problems) - _EXAMPLES} more", style="red")
    if not problems:
        console.print("every part is there, every near-duplicate left out", style="green")
    return 2 if problems else 0


def autoencoder(
    root: PackRoot,
    out: Annotated[Path, typer.Option(help="Folder for weights and checkpoint.", metavar="DIR")],
    decoder: Annotated[str, typer.Option(help="transposed, nearest or shuffle.")] = "nearest",
    size: Annotated[int, typer.Option(min=16, help="Side of the crops, pixels.")] = 128,
    minutes: Annotated[float, typer.Option(min=0.1, help="Over all sessions.")] = 30,
    faces: Annotated[int, typer.Option(min=1, help="Real training faces that it sees.")] = 9000,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint.")] = False,
    threads: Annotated[int, typer.Option(min=1, help="Threads.")] = 1,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    precision: Annotated[str, typer.Option(help="32-true; bf16-mixed with AVX512-BF16 or AMX.")] = "32-true",
) -> None:
    """Train a small autoencoder on the real faces of a pack, for forgeries that left a decoder.

    Example: `forgerank data autoencoder packs --out ae/transposed --decoder transposed --size 128`
    """
    require("train")
    from pydantic import ValidationError

    from forgerank.data.formats.pack import Pack
    from forgerank.data.prepare.autoencoder import AutoencoderConfig, train_autoencoder
    from forgerank.data.prepare.reconstruct import cached_crops

    try:
        config = AutoencoderConfig.model_validate(
            {"decoder": decoder, "size": size, "seed": seed, "precision": precision}
        )
    except ValidationError as error:
        raise InputError(f"--{error.errors()[0]['loc'][0]}: {error.errors()[0]['msg']}") from error
    crop, count = cached_crops(Pack(root, "train", label="real"), size, faces, seed)
    trained = train_autoencoder(crop, count, config, minutes=minutes, out=out, resume=resume, threads=threads)
    typer.echo(
        f"{trained.path}: {trained.steps} steps, {trained.minutes:.1f} minutes, loss {trained.loss:.4f}"
    )


def reconstruct(
    root: PackRoot,
    out: Annotated[Path, typer.Option(help="Folder for the reconstructions.", metavar="DIR")],
    weights: Annotated[
        list[Path], typer.Option("--autoencoder", help="Folder of one; repeat for several.", metavar="DIR")
    ],
    limit: Annotated[
        int | None, typer.Option(min=1, help="So many faces of a split.", show_default="all")
    ] = None,
    splits: Annotated[list[str] | None, typer.Option("--split", show_default="train and val")] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Reconstruct the real faces of a pack by autoencoders, for the forge of `data.dataset=packforge`.

    Example: `forgerank data reconstruct packs --autoencoder ae/a --autoencoder ae/b --out reconstructions`
    """
    require("train")
    from forgerank.cli.progress import progress_bar
    from forgerank.data.formats.pack import Pack
    from forgerank.data.prepare.autoencoder import load_autoencoder
    from forgerank.data.prepare.reconstruct import reconstruct_pack

    models = [load_autoencoder(path) for path in weights]
    for split in splits or ("train", "val"):
        with progress_bar(f"Reconstructing {split}") as progress:
            faces = Pack(root, split, label="real")
            count = reconstruct_pack(
                faces, models, out, name=split, limit=limit, seed=seed, progress=progress
            )
        typer.echo(f"{out}: {count} {split}")


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
    from forgerank.train.curve import COLUMNS, CURVE, plot_curve, read_curve

    if metric not in COLUMNS[3:]:
        raise InputError(f"--metric must be of {', '.join(COLUMNS[3:])}, got {metric}")
    rows = read_curve(run / CURVE if run.is_dir() else run)
    sources = list(dict.fromkeys(row["source"] for row in rows))
    table = Table("crops", *sources, box=None, pad_edge=False)
    for images in dict.fromkeys(row["images"] for row in rows):
        found = {row["source"]: row[metric] for row in rows if row["images"] == images}
        table.add_row(images, *(found.get(source, "") for source in sources))
    Console().print(table)
    if out is not None:
        require("paper")
        plot_curve(rows, out, metric=metric)
        typer.echo(f"{out}: written")
