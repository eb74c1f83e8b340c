"""What the commands of `forgerank data` print."""

import json
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from forgerank.files import write_atomic
from forgerank.media.files import counted
from forgerank.types import printable

if TYPE_CHECKING:
    from forgerank.data.check.integrity import CheckReport, Problem
    from forgerank.data.prepare.pack_writer import PackSummary
    from forgerank.data.prepare.video_faces import Summary

_EXAMPLES = 5  # shown of each kind of problem


def summary_line(summary: "Summary") -> str:
    """What became of every frame that was asked for."""
    skipped = ", ".join(f"{count} {kind}" for kind, count in summary.skipped.items())
    clips, frames = counted(summary.clips, "clip"), counted(summary.asked, "frame")
    return (
        f"{clips} ({summary.kept:,} from before), {frames}: "
        f"{summary.framed:,} with a face ({counted(summary.faces, 'face')}), "
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
        out.print(f"{counted(report.items, 'file')}: nothing wrong", style="green")


def _print_problems(problems: Sequence["Problem"], out: Console, style: str) -> None:
    from forgerank.data.check.integrity import KINDS

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


def write_json(report: "CheckReport", target: str) -> None:
    text = json.dumps(report.to_json(), indent=1) + "\n"
    if target == "-":
        sys.stdout.write(text)  # ASCII
    else:
        write_atomic(Path(target), text.encode())


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
    from forgerank.data.check.pack_integrity import check_parts
    from forgerank.data.prepare.pack_writer import load_summary

    print_pack(load_summary(root), console)
    return _print_lines(check_parts(root), "every part is there, every near-duplicate left out", console)


def check_shards(root: Path, console: Console) -> int:
    """Whether all shards are there as they were written; the exit code."""
    from forgerank.data.check import pack_integrity

    problems, unchecked = pack_integrity.check_shards(root)
    for index in unchecked:
        note = f"{index}: of an earlier version, without checksums: contents were not compared"
        console.print(Text(printable(note), style="yellow"), soft_wrap=True)
    return _print_lines(problems, "every shard is there, every face as it was written", console)


def _print_lines(problems: Sequence[str], none: str, console: Console) -> int:
    for problem in problems[:_EXAMPLES]:
        console.print(Text(printable(problem), style="red"), soft_wrap=True)
    if len(problems) > _EXAMPLES:
        console.print(f"and {len(problems) - _EXAMPLES} more", style="red")
    if not problems:
        console.print(none, style="green")
    return 2 if problems else 0
