"""The table that `forgerank detect` prints: a row for each face, on terminals of any width."""

import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from io import StringIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from forgerank.detect.result import (
    FaceReport,
    Report,
    TrackReport,
    VideoReport,
    deciding_probability,
    faces_of,
)
from forgerank.media.files import counted
from forgerank.report.words import (
    clock,
    percent,
    ratio,
    stretches_phrase,
    support,
    verdict_label,
)
from forgerank.types import printable
from forgerank.weights.description import Thresholds

_COLOURS = {"forged": "bold red", "real": "green", "undetermined": "yellow"}
_TITLES = {
    **{"name": "File", "face": "Face", "seen": "Seen", "verdict": "Verdict", "forged": "Forged"},
    **{"ratio": "Ratio", "found": "Manipulated, first to last"},
}
_NUMBERS = ("face", "forged", "ratio")  # stand at the right of their columns
_GAP, _NARROW = 2, 72  # columns of the terminal
_SHORTEST = 8  # name


def report_table(results: Sequence[Report | VideoReport], width: int | None = None) -> Table:
    """A row per face or track, or one with the reason for a file without any.

    `width` in columns: names are shortened in the middle and the last column is broken between its parts;
    None: nothing is.
    """
    rows = [row for result in results for row in _rows(result)]
    titles = dict(_TITLES)
    if not any(isinstance(result, VideoReport) for result in results):
        titles["name"] = "Image"
        del titles["seen"]
    if width is not None and width < _NARROW:
        titles = {key: title for key, title in titles.items() if key not in ("seen", "ratio")}
    widths = {key: max(len(title), *(len(row[key]) for row in rows)) for key, title in titles.items()}
    if width is not None:
        taken = sum(size for key, size in widths.items() if key not in ("name", "found"))
        room = width - taken - _GAP * (len(titles) - 1)
        parts = [part for row in rows for part in break_parts(row["found"], 1)]
        least = max(map(len, parts), default=0)
        widths["found"] = min(widths["found"], max(room - widths["name"], room * 3 // 5, least))
        widths["name"] = min(widths["name"], max(room - widths["found"], _SHORTEST))
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="dim")
    for key, title in titles.items():
        table.add_column(
            "\n".join(break_parts(title, widths[key])),
            justify="right" if key in _NUMBERS else "left",
            no_wrap=True,
            overflow="crop",
            min_width=widths[key],
        )
    for row in rows:
        cells = {**row, "name": shorten(row["name"], widths["name"])}
        cells["found"] = "\n".join(break_parts(row["found"], widths["found"]))
        table.add_row(
            *(Text(cells[key], style=_COLOURS[row["colour"]] if key == "verdict" else "") for key in titles)
        )
    return table


def print_table(out: Console, table: Table) -> None:
    """The table as it is on a terminal; elsewhere each row on one line, however long."""
    if out.is_terminal:
        out.print(table)
        return
    wide = Console(file=StringIO(), width=100_000, color_system=None)
    wide.print(table)
    for line in wide.file.getvalue().splitlines():  # type: ignore[attr-defined]
        out.file.write(line.rstrip() + "\n")


def _rows(result: Report | VideoReport) -> Iterator[dict[str, str]]:
    """The cells of a file by the keys of _TITLES, and the verdict as "colour"."""
    name, faces = printable(name_of(result)), faces_of(result)
    nothing = dict.fromkeys(_TITLES, "")
    for number, face in enumerate(faces, start=1):
        row = {**nothing, "name": name if number == 1 else "", "face": str(number), "colour": face.verdict}
        if isinstance(face, TrackReport):
            row["seen"] = f"{clock(face.start, digits=0)}-{clock(face.end, digits=0)}"
        if face.likelihood_ratio is not None:  # else a probability says nothing
            row |= {"forged": percent(deciding_probability(face)), "ratio": ratio(face.likelihood_ratio)}
        yield {**row, "verdict": verdict_label(face.verdict, face.reason), "found": _components(face)}
    if not faces:
        verdict = verdict_label(result.verdict, result.reason)
        found = result.reason or ""
        yield {**nothing, "name": name, "verdict": verdict, "found": found, "colour": result.verdict}
    for warning in result.warnings:
        yield {**nothing, "found": warning, "colour": result.verdict}


def shorten(path: str, width: int) -> str:
    """A path in at most `width` characters, its middle left out: the name tells more than its folders.

    >>> shorten("holiday/2024/august/IMG_0001.jpg", 20)
    'holiday…IMG_0001.jpg'
    """
    if len(path) <= width:
        return path
    end = min(max(len(path) - path.rfind("/") - 1, width // 2), width * 2 // 3, width - 1)
    return f"{path[: width - 1 - end]}…{path[len(path) - end :]}"


def break_parts(text: str, width: int) -> list[str]:
    """Lines of at most `width` characters where that can be: a list is broken after its commas, a sentence
    between words.

    >>> break_parts("1 nose 82 %, 2 lip 94 %, 3 hair 89 %", 25)
    ['1 nose 82 %, 2 lip 94 %,', '3 hair 89 %']
    """
    space = "\N{NO-BREAK SPACE}"  # which is not broken at
    listed = text.endswith("%")
    kept = ", ".join(part.replace(" ", space) for part in text.split(", ")) if listed else text
    lines = textwrap.wrap(kept, width, break_long_words=False, break_on_hyphens=False)
    return [line.replace(space, " ") for line in lines] or [""]


def totals(results: Sequence[Report | VideoReport], failed: int, written: Sequence[str]) -> str:
    """How many files had which verdict, and what was written."""
    images = sum(isinstance(result, Report) for result in results)
    kinds = ((images, "image"), (len(results) - images, "video"))
    files = " and ".join(counted(count, kind) for count, kind in kinds if count)
    verdicts = Counter(verdict_label(result.verdict, result.reason) for result in results)
    order = ("forged", "real", "no clear evidence", "undetermined")
    parts = [f"{verdicts[name]} {name}" for name in order if verdicts[name]]
    if failed:
        parts.append(f"{failed} not read")
    line = f"{files or 'nothing judged'}: {', '.join(parts)}"
    return line + (f"; wrote {', '.join(written)}" if written else "")


def legend(thresholds: Thresholds) -> str:
    """What decides, in words."""
    forged, real = (f"{value:.1%}".replace("%", " %") for value in (thresholds.forged, thresholds.real))
    return (
        f"forged from {forged}, real below {real}; ratio: how much more probable this is of a forged face "
        "than of a real one"
    )


def name_of(result: Report | VideoReport) -> str:
    """What a file is called in tables and messages."""
    return (result.name if isinstance(result, Report) else result.path) or "image"


def _components(face: FaceReport | TrackReport) -> str:
    stretches = stretches_phrase(face) if isinstance(face, TrackReport) else ""
    if face.verdict == "undetermined" and face.likelihood_ratio is not None:
        worth = support(face.likelihood_ratio)
        return f"{stretches}: {worth}" if stretches else worth
    if face.verdict != "forged":
        return face.reason or ""
    named = [
        f"{component.rank} {component.name} {percent(component.probability)}" for component in face.sequence
    ]
    listed = ", ".join(named) or "no single component stands out"
    return f"forged {stretches}, {listed}" if stretches else listed
