"""The table of `forgerank detect` on terminals of any width, and where its output is no terminal."""

from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from forgerank.cli.table import break_parts, legend, print_table, report_table, shorten, totals
from forgerank.detect.result import Component, FaceReport, Report, VideoReport
from forgerank.types import Verdict
from forgerank.weights.description import Thresholds
from results import face_report, moments, track, video_report

GOLDEN = Path(__file__).parent / "golden"
NAMES = ("nose", "eye", "eyebrow", "lip", "hair")


def face(verdict: Verdict, probability: float, named: str = "", reason: str | None = None) -> FaceReport:
    ranks = {name: rank for rank, name in enumerate(named.split(), start=1)}
    components = tuple(Component(name, 0.61 + 0.07 * ranks.get(name, -8), ranks.get(name)) for name in NAMES)
    made = replace(face_report(verdict, components), forged_probability=probability)
    return made if reason is None else replace(made, reason=reason)


def image(path: str, *faces: FaceReport) -> Report:
    first = next((f for v in ("forged", "undetermined", "real") for f in faces if f.verdict == v), None)
    verdict: Verdict = "undetermined" if first is None else first.verdict
    reason = "no face found" if first is None else first.reason
    return Report(path, "0" * 64, 640, 480, verdict, reason, faces)


def mixed_files() -> list[Report | VideoReport]:
    """Thirty files of every kind of answer."""
    small = "face too small (41 px, at least 64 are needed)"
    kinds = [
        image("astronaut-forged.jpg", face("forged", 0.981, "eye nose hair lip")),
        image("IMG_0001.jpg", face("real", 0.031)),
        image("holiday/2024/august/the-whole-family-at-the-lake.jpeg",
              face("real", 0.0004), face("undetermined", 0.47), face("undetermined", 0.2, reason=small)),
        image("фото.png", face("undetermined", 0.83)),
        image("cat.jpg"),
        image("scan.tif", face("forged", 0.9997, "nose eye eyebrow lip hair")),
        image("a", face("forged", 0.97)),
        video_report(
            track(1, moments(0.0, "urfff  uu"), "forged"), track(2, moments(61.0, "rrr"), "real"),
            path="interviews/take-2.mp4"),
        image("line\nbreak\x1b[31m.jpg", face("real", 0.02)),
        image("uploads/8f14e45fceea167a5a36dedd4bea2543.webp", face("undetermined", 0.55)),
    ]  # fmt: skip
    return [
        replace(kind, path=f"{number}/{kind.path}" if number else kind.path)
        for number in range(3)
        for kind in kinds
    ]


def printed(width: int | None) -> str:
    results, text = mixed_files(), StringIO()
    out = Console(file=text, width=width or 80, force_terminal=width is not None, color_system=None)
    print_table(out, report_table(results, width))
    out.print(totals(results, 2, ["report.html"]), soft_wrap=True)
    out.print(legend(Thresholds(forged=0.93, real=0.05, components=(0.5,))), soft_wrap=width is None)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines()) + "\n"


@pytest.mark.parametrize("width", [60, 80, 120, None])
def test_the_table_is_as_it_was_when_people_looked_at_it(width: int | None) -> None:
    golden = GOLDEN / f"detect-{width or 'piped'}.txt"
    assert printed(width) == golden.read_text(encoding="utf-8")


@pytest.mark.parametrize("width", [60, 80, 120])
def test_lines_fit_the_terminal_and_break_between_parts_only(width: int) -> None:
    lines = printed(width).splitlines()
    table = lines[: next(i for i, line in enumerate(lines) if line.startswith("27 images"))]
    assert all(len(line) <= width for line in table)
    assert not any(line.strip().startswith("%") for line in table)
    assert sum(line.count("%") for line in table) == printed(None).count("%") - 2  # two in the legend


def test_away_from_a_terminal_every_row_is_one_line() -> None:
    lines = printed(None).splitlines()
    rows = sum(
        max(1, len(result.tracks if isinstance(result, VideoReport) else result.faces))
        for result in mixed_files()
    )
    warnings = sum(len(result.warnings) for result in mixed_files())
    assert len(lines) == 1 + rows + warnings + 2
    assert "holiday/2024/august/the-whole-family-at-the-lake.jpeg" in lines[3]


def test_a_short_name_is_whole_and_a_long_one_keeps_its_end() -> None:
    assert shorten("a.jpg", 5) == "a.jpg"
    for width in range(4, 40):
        short = shorten("some/folder/of/photographs/IMG_0001.jpg", width)
        assert len(short) <= width
        assert short.endswith("g")


def test_a_list_is_broken_after_commas_and_words_that_are_too_long_stay_whole() -> None:
    assert break_parts("1 eyebrow 61 %, 2 hair 89 %", 5) == ["1 eyebrow 61 %,", "2 hair 89 %"]
    assert break_parts("face too small (41 px)", 10) == ["face too", "small (41", "px)"]
    assert break_parts("", 5) == [""]
