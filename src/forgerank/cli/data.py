"""`forgerank data`: cut faces out of videos, check a data set, download one."""

import json as json_library
import sys
from collections import defaultdict
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from forgerank.extras import require
from forgerank.types import InputError

if TYPE_CHECKING:
    from forgerank.data.check.integrity import CheckReport
    from forgerank.data.check.problem import Problem
    from forgerank.data.prepare.videos import Summary

app = typer.Typer(
    help="Read, check and prepare the field's data sets.", no_args_is_help=True, rich_markup_mode="markdown"
)

Root = Annotated[Path, typer.Argument(help="Folder of the data set, as its authors lay it out.")]
Options = Annotated[
    list[str] | None,
    typer.Option("--set", help="Option of the data set's reader; repeat as needed.", metavar="KEY=VALUE"),
]
Workers = Annotated[int, typer.Option(min=1, help="Processes.")]
_EXAMPLES = 5  # of each kind of problem


class Faces(StrEnum):
    """Which faces of a frame are cut out."""

    largest = "largest"
    all = "all"


def prepare(
    dataset: Annotated[
        str,
        typer.Argument(help="faceforensics, dfd, celebdf, dfdc, wilddeepfake or deepfakebench."),
    ],
    root: Root,
    out: Annotated[Path, typer.Option(help="Folder for crops and index.", metavar="DIR")],
    frames: Annotated[
        int, typer.Option(min=0, help="Frames of each clip, evenly spaced over it; 0 for every one.")
    ] = 32,
    size: Annotated[int, typer.Option(min=16, help="Side of the crops, pixels.")] = 384,
    margin: Annotated[
        float, typer.Option(min=0, max=2, help="Room around the aligned face, share of its side.")
    ] = 0.15,
    faces: Annotated[Faces, typer.Option(help="The largest face, or all, joined by track.")] = Faces.largest,
    detector: Annotated[str, typer.Option(help="Face detector: blazeface or retinaface.")] = "blazeface",
    detector_weights: Annotated[
        Path | None, typer.Option(help="ONNX file, needed for retinaface.", show_default=False)
    ] = None,
    options: Options = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Prepare so many clips, evenly spread.", show_default="all")
    ] = None,
    workers: Workers = 1,
) -> None:
    """Cut faces out of videos, with landmarks and an index in Parquet.

    Start it again after an interruption: finished clips are kept. Frames without a face and files that cannot
    be read are listed in skipped.csv.

    Examples:

    * `forgerank data prepare faceforensics FaceForensics++/ --out ffpp/ --workers 8`

    * `forgerank data prepare faceforensics FaceForensics++/ --out ffpp40/ --set compression=c40 --frames 16`
    """
    require("data")
    from forgerank.cli.progress import progress_bar
    from forgerank.data.check.integrity import list_items
    from forgerank.data.formats.registry import CLIPS
    from forgerank.data.prepare.crops import CutConfig
    from forgerank.data.prepare.videos import prepare as prepare_clips
    from forgerank.media.frame_access import evenly_spaced

    if dataset not in CLIPS:
        raise InputError(f"unknown data set {dataset!r}; choose from {', '.join(CLIPS)}")
    chosen = parse_options(options)
    clips, _ = list_items(dataset, root, chosen)
    if limit is not None:
        clips = [clips[place] for place in evenly_spaced(len(clips), limit)]
    config = CutConfig(frames or None, size, margin, faces.value, detector, detector_weights)
    request = {"dataset": dataset, "options": chosen, "limit": limit}
    with progress_bar("Preparing clips") as progress:
        summary = prepare_clips(clips, out, config, request=request, workers=workers, progress=progress)
    typer.echo(f"{out}: {summary_line(summary)}")
    raise typer.Exit(2 if summary.damaged else 0)


def check(
    dataset: Annotated[
        str,
        typer.Argument(
            help="faceforensics, dfd, celebdf, dfdc, wilddeepfake, deepfakebench, "
            "seqdeepfake, folder or pack."
        ),
    ],
    root: Root,
    counts: Annotated[bool, typer.Option(help="Compare with the published counts.")] = True,
    distance: Annotated[
        int, typer.Option(min=0, max=16, help="Bits of 64 in which near-duplicates may differ.")
    ] = 4,
    json: Annotated[
        str | None, typer.Option(help="Write everything as JSON; - for standard output.", metavar="FILE|-")
    ] = None,
    options: Options = None,
    workers: Workers = 1,
) -> None:
    """Check a data set: counts, missing and unreadable files, and leakage between its splits.

    Examples:

    * `forgerank data check celebdf Celeb-DF-v2/ --workers 8`

    * `forgerank data check seqdeepfake Seq-DeepFake/facial_components --json report.json`

    * `forgerank data check pack packs/`, over all sources of a pack together
    """
    require("data")
    if dataset == "pack":
        from forgerank.cli.packs import check_pack

        raise typer.Exit(check_pack(root, Console()))
    from forgerank.cli.progress import progress_bar
    from forgerank.data.check.integrity import check_dataset

    with progress_bar("Checking files") as progress:
        report = check_dataset(
            dataset,
            root,
            options=parse_options(options),
            counts=counts,
            distance=distance,
            workers=workers,
            progress=progress,
        )
    if json != "-":
        print_report(report, Console())
    if json is not None:
        _write_json(report, json)
    raise typer.Exit(2 if report.problems else 0)


def download(
    dataset: Annotated[str, typer.Argument(help="seq-deepfake, or a gated set to learn where to ask.")],
    out: Annotated[Path, typer.Option(help="Folder for the data set.", metavar="DIR")],
    repository: Annotated[
        str | None,
        typer.Option(help="Repository of the hub.", metavar="OWNER/NAME", show_default="the authors' own"),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Files at a time.")] = 4,
) -> None:
    """Download a public data set from the Hugging Face hub.

    Example: `forgerank data download seq-deepfake --out Seq-DeepFake/`
    """
    require("data")
    from forgerank.data.prepare.download import download as download_dataset

    archives = download_dataset(dataset, out, repository=repository, workers=workers)
    typer.echo(f"{out}: downloaded")
    for path in archives:
        typer.echo(f"{path}: to be unpacked where it lies")


def parse_options(texts: Sequence[str] | None) -> dict[str, Any]:
    """KEY=VALUE with YAML values.

    >>> parse_options(["compression=c40", "methods=[Deepfakes, FaceSwap]"])
    {'compression': 'c40', 'methods': ['Deepfakes', 'FaceSwap']}
    """
    from forgerank.data.listing import parse_setting

    return dict(parse_setting(text) for text in texts or ())


def summary_line(summary: "Summary") -> str:
    """What became of every frame that was asked for."""
    skipped = ", ".join(f"{count} {kind}" for kind, count in summary.skipped.items())
    return (
        f"{summary.clips} clips ({summary.kept} from before), {summary.asked} frames: "
        f"{summary.framed} with a face ({summary.faces} faces), "
        f"{summary.asked - summary.framed} skipped" + (f" ({skipped})" if skipped else "")
    )


def print_report(report: "CheckReport", out: Console) -> None:
    """The counts, then each kind of problem with its first examples."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("Split", "Class", "Method", "Compression"):
        table.add_column(name)
    table.add_column("Found", justify="right")
    table.add_column("Published", justify="right")
    for row in report.counts:
        kind = "all" if row.method is None else "forged" if row.method else "real"
        wrong = row.found and row.published not in (None, row.found)
        table.add_row(
            "all" if row.split is None else row.split or "none",
            kind,
            row.method or "",
            row.compression,
            Text(str(row.found), style="red" if wrong else ""),
            "" if row.published is None else str(row.published),
        )
    out.print(table)
    _print_problems(report.problems, out, "red")
    _print_problems(report.notes, out, "yellow")
    if not report.problems:
        out.print(f"{report.items} files: nothing wrong", style="green")


def _print_problems(problems: Sequence["Problem"], out: Console, style: str) -> None:
    from forgerank.data.check.problem import KINDS
    from forgerank.report.words import printable

    kinds: dict[str, list[Problem]] = defaultdict(list)
    for problem in problems:
        kinds[problem.kind].append(problem)
    for kind, some in kinds.items():
        out.print(Text(f"{len(some)} {kind}: {KINDS[kind]}", style=style))
        for problem in some[:_EXAMPLES]:
            line = f"  {problem.name}" + (f": {problem.detail}" if problem.detail else "")
            out.print(Text(printable(line)), soft_wrap=True)
        if len(some) > _EXAMPLES:
            out.print(f"  and {len(some) - _EXAMPLES} more; --json lists all")


def _write_json(report: "CheckReport", target: str) -> None:
    text = json_library.dumps(report.to_json(), indent=1) + "\n"
    if target == "-":
        sys.stdout.write(text)
        return
    try:
        Path(target).write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{target}: cannot be written ({error.strerror})") from None
