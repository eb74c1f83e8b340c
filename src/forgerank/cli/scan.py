"""`forgerank scan` and `forgerank summarize`: millions of files into one table, and what it says."""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from forgerank.cli.options import MaxPixels, Thorough, print_error
from forgerank.extras import require
from forgerank.types import InputError, printable

if TYPE_CHECKING:
    from forgerank.serving.scan.summary import Summary

EXIT_CODES = (
    "Exit codes: 0 every file has its row, whatever is in it; 1 the scan had to stop (a full disk, processes "
    "that keep dying): repeat the command to go on; 2 an option or a source was bad."
)
_REASONS = 12  # shown of each kind


class Engine(StrEnum):
    """What the work runs on."""

    local = "local"
    ray = "ray"


def scan(
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            help="Folders, globs, files, URLs of fsspec (s3://bucket/folder), @FILE with a path per line.",
            metavar="SOURCE",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path,
        typer.Option(
            help="Parquet file for the results; OUT.journal lies beside it until they are complete."
        ),
    ] = Path("results.parquet"),
    lists: Annotated[
        list[Path] | None,
        typer.Option(
            "--list", help="File with a path or URL per line; the same as @FILE.", show_default=False
        ),
    ] = None,
    all_files: Annotated[
        bool,
        typer.Option("--all", help="In folders, take every file, not only names of images and videos."),
    ] = False,
    engine: Annotated[
        Engine,
        typer.Option(help="Processes of this machine, or Ray: the cluster of RAY_ADDRESS, else local."),
    ] = Engine.local,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes, one core each.", show_default="every core")
    ] = None,
    fps: Annotated[
        float | None, typer.Option(help="Frames per second of video to look at.", show_default="2")
    ] = None,
    max_frames: Annotated[
        int | None, typer.Option(min=1, help="Most frames of one video.", show_default="that of detect")
    ] = None,
    max_pixels: MaxPixels = 80_000_000,
    thorough: Thorough = False,
    time_limit: Annotated[float, typer.Option(help="Seconds for one file; longer is an error row.")] = 600.0,
    storage_option: Annotated[
        list[str] | None,
        typer.Option(
            help="Option of the URL's file system, such as endpoint_url=http://host:9000; repeatable.",
            metavar="KEY=VALUE",
        ),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(help="Folder with forgerank.json and its files.", show_default="the package's own"),
    ] = None,
    detector: Annotated[str, typer.Option(help="Face detector: blazeface or retinaface.")] = "blazeface",
    detector_weights: Annotated[
        Path | None, typer.Option(help="ONNX file, needed for retinaface.", show_default=False)
    ] = None,
) -> None:
    """Judge very many photographs and videos into one Parquet file: a row per file, errors included.

    A stopped or killed scan goes on when the command is repeated. Files of equal content are judged once.
    Columns and costs: docs/scanning.md.

    Examples:

    * `forgerank scan holiday/ --out results.parquet`

    * `forgerank scan s3://uploads/today --out today.parquet --engine ray --workers 256`
    """
    require("scan")
    if engine is Engine.ray:
        require("cluster")
    named = [*(sources or ()), *(f"@{path}" for path in lists or ())]
    judging = {
        **{"weights": weights, "detector": detector, "detector_weights": detector_weights, "fps": fps},
        **{"max_frames": max_frames, "max_pixels": max_pixels, "time_limit": time_limit},
        "thorough": thorough,
        "storage": dict(_option(text) for text in storage_option or ()),
    }
    _scan(named, out, all_files, engine, workers, judging)


def _scan(
    sources: list[str],
    out: Path,
    all_files: bool,
    engine: Engine,
    workers: int | None,
    judging: dict[str, Any],
) -> None:
    from pydantic import ValidationError

    from forgerank.cli.detect import print_left_out
    from forgerank.detect.runtime import usable_cores
    from forgerank.media.files import counted
    from forgerank.serving.scan.run import scan as run_scan
    from forgerank.serving.scan.scan_settings import Judging, ScanSettings, StoppedError
    from forgerank.serving.scan.summary import summarize as sum_up

    if not sources:
        raise InputError("name at least one SOURCE, or a --list")
    try:
        settings = ScanSettings(
            sources=tuple(sources),
            out=out,
            all_files=all_files,
            engine=engine.value,
            workers=workers or usable_cores(),
            judging=Judging(**{name: value for name, value in judging.items() if value is not None}),
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(f"--{str(first['loc'][-1]).replace('_', '-')}: {first['msg']}") from None
    err, start = Console(stderr=True), time.monotonic()
    try:
        with _progress(err) as progress:
            done = run_scan(settings, progress)
    except StoppedError as error:
        print_error(err, str(error))
        raise typer.Exit(1) from None
    seconds = time.monotonic() - start
    rate = f", {done.judged / seconds:.3g} per second" if done.judged else ""
    console = Console()
    print_summary(sum_up(out, worst=5), console)
    print_left_out(err, done.others)
    judged = f"{counted(done.judged, 'file')} in {seconds:,.0f} s{rate}"
    console.print(f"{judged}; results: {out}", soft_wrap=True)


def summarize(
    results: Annotated[Path, typer.Argument(help="Parquet file of `forgerank scan`.")],
    html: Annotated[
        Path | None, typer.Option(help="Write one self-contained HTML page, too.", metavar="FILE")
    ] = None,
    worst: Annotated[int, typer.Option(min=0, help="How many of the most suspicious files to list.")] = 20,
) -> None:
    """Sum up the results of a scan: counts, histogram, most suspicious files, errors by reason.

    Example: `forgerank summarize results.parquet --html summary.html`
    """
    require("scan")
    from forgerank.files import check_outputs, write_atomic
    from forgerank.serving.scan.summary import summarize as sum_up
    from forgerank.serving.scan.summary import summary_page

    check_outputs([], [results], texts=[html])
    summary = sum_up(results, worst)
    if html is not None:
        write_atomic(html, summary_page(summary, results).encode())
    print_summary(summary, Console())


def _option(text: str) -> tuple[str, Any]:
    """KEY=VALUE; a value that is JSON counts as such.

    >>> _option("anon=true"), _option("endpoint_url=http://localhost:9000")
    (('anon', True), ('endpoint_url', 'http://localhost:9000'))
    """
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise InputError(f"--storage-option {text}: give KEY=VALUE")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


class _Rate(ProgressColumn):
    """Files per second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.3g}/s", style="dim")


@contextmanager
def _progress(err: Console) -> Iterator[Callable[[str, int, int | None], None]]:
    """A bar per stage with its rate and the time left; silent where standard error is no terminal."""
    columns = (
        *(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()),
        *(_Rate(), TimeRemainingColumn()),
    )
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bars:
        known: dict[str, Any] = {}

        def told(stage: str, done: int, total: int | None) -> None:
            if stage not in known:
                known[stage] = bars.add_task(stage, total=total)
            bars.update(known[stage], completed=done, total=total)

        yield told


def print_summary(summary: "Summary", console: Console) -> None:
    """Counts, histogram, the most suspicious files and the reasons, as text."""
    from forgerank.report.words import percent, ratio
    from forgerank.serving.scan.summary import counts, left_out, row_label

    table = _table("Files", "", f"{summary.files:,}")
    for name, count in counts(summary):
        table.add_row(name, f"{count / max(1, summary.files):.1%}", f"{count:,}")
    console.print(table, "")
    table = _table("Probability of forgery", "", "Files")
    most, bar = max(1, *summary.histogram), _bar(console)
    for i, count in enumerate(summary.histogram):
        low, high = i / len(summary.histogram), (i + 1) / len(summary.histogram)
        table.add_row(f"{low:.2f} to {high:.2f}", bar * round(24 * count / most), f"{count:,}")
    console.print(table, "")
    if summary.worst:
        table = _table("Most suspicious", "Verdict", "Ratio", "Forged", "Manipulated, first to last")
        for row in summary.worst:
            names = ", then ".join(row["sequence"] or ())
            value = row["likelihood_ratio"]
            table.add_row(
                Text(printable(row["path"])),
                row_label(row),
                "" if value is None else ratio(value),
                percent(row["forged_probability"]),
                names,
            )
        console.print(table, "")
    if said := left_out(summary):
        console.print(said, "", soft_wrap=True)
    for title, reasons in (("Undetermined because", summary.reasons), ("Not read because", summary.errors)):
        _print_reasons(title, reasons, console)


def _bar(console: Console) -> str:
    """What bars are made of, where the console's encoding has it."""
    try:
        "█".encode(console.encoding)
    except UnicodeEncodeError:
        return "#"
    return "█"


def _print_reasons(title: str, reasons: Counter[str], console: Console) -> None:
    from forgerank.serving.scan.summary import most_common

    if reasons:
        table = _table(title, "Files")
        for reason, count in most_common(reasons, _REASONS):
            table.add_row(Text(printable(reason)), f"{count:,}")
        console.print(table, "")


def _table(*columns: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for number, name in enumerate(columns):
        table.add_column(name, overflow="fold", justify="left" if number == 0 else "right")
    return table
