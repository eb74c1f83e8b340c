"""The summary of a scan as one self-contained HTML file, in the report's own style."""

from importlib.resources import files
from pathlib import Path

from markupsafe import Markup

from forgerank.report.environment import template_environment
from forgerank.report.words import LIMITS, VIDEO_LIMITS
from forgerank.serving.scan.summary import BINS, Summary, most_common

_REASONS = 30  # shown of each kind
_WIDTH, _HEIGHT = 640, 150  # of the histogram, pixels of its own system


def summary_page(summary: Summary, path: Path) -> str:
    """The page; `path` names the results."""
    counts = [(verdict, summary.verdicts[verdict]) for verdict in ("forged", "undetermined", "real")]
    return (
        template_environment(__package__)
        .get_template("summary.html")
        .render(
            style=Markup(_asset("report/page.css") + _asset("serving/scan/summary.css")),
            file_name=path.name,
            path=str(path),
            summary=summary,
            counts=[*counts, ("not read", summary.errors.total()), ("duplicates", summary.duplicates)],
            bars=_bars(summary.histogram),
            most=max(1, *summary.histogram),
            width=_WIDTH,
            height=_HEIGHT,
            undetermined=most_common(summary.reasons, _REASONS),
            unread=most_common(summary.errors, _REASONS),
            limits=(*LIMITS, *VIDEO_LIMITS),
        )
    )


def _bars(histogram: list[int]) -> list[dict[str, str]]:
    """The SVG rectangles of a histogram over 0..1, with their counts as titles."""
    most, step = max(1, *histogram), _WIDTH / BINS
    heights = [count / most * _HEIGHT for count in histogram]
    return [
        {
            "x": f"{i * step + 1:.1f}",
            "y": f"{_HEIGHT - height:.1f}",
            "width": f"{step - 2:.1f}",
            "height": f"{height:.1f}",
            "title": f"{i / BINS:.2f} to {(i + 1) / BINS:.2f}: {count:,}",
        }
        for i, (height, count) in enumerate(zip(heights, histogram, strict=True))
    ]


def _asset(name: str) -> str:
    return files("forgerank").joinpath(name).read_text(encoding="utf-8")
