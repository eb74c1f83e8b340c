"""The summary of a scan as one self-contained HTML file, in the report's own style."""

from collections import Counter
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from forgerank.report.html_pieces import badge, bullets, facts, text
from forgerank.report.words import LIMITS, VIDEO_LIMITS, percent
from forgerank.serving.scan.summary import BINS, Summary, most_common

_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_REASONS = 30  # shown of each kind
_WIDTH, _HEIGHT = 640, 150  # of the histogram, pixels of its own system


def summary_page(summary: Summary, path: Path) -> str:
    """The page; `path` names the results."""
    style = "".join(
        files("forgerank").joinpath(name).read_text(encoding="utf-8")
        for name in ("report/page.css", "scan/page.css")
    )
    limits = bullets((*LIMITS, *VIDEO_LIMITS), "lines")
    sections = (
        _figures(summary),
        f'<section class="figure"><h2>Probability of forgery</h2>{_histogram(summary)}</section>',
        _worst(summary),
        _reasons("Undetermined because", summary.reasons),
        _reasons("Not read because", summary.errors),
        f'<section class="notes"><h2>What the verdict does not mean</h2>{limits}</section>',
    )
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>forgerank: {text(path.name)}</title><style>{style}</style></head><body>",
            '<header class="top"><span class="mark">forgerank</span><h1>Summary of a scan</h1></header>',
            f"<main><h2>{text(str(path))}</h2>{''.join(sections)}</main>",
            f'<footer class="fine">{facts(_model(summary))}</footer></body></html>\n',
        ]
    )


def _figures(summary: Summary) -> str:
    numbers = [(badge(name), summary.verdicts[name]) for name in ("forged", "undetermined", "real")]
    numbers += [("not read", summary.errors.total()), ("duplicates", summary.duplicates)]
    cells = "".join(
        f"<li><b>{count:,}</b> <span>{count / max(1, summary.files):.1%}</span><br>{name}</li>"
        for name, count in numbers
    )
    kinds = ", ".join(f"{count:,} {kind}s" for kind, count in sorted(summary.kinds.items()))
    return (
        f'<p class="headline">{summary.files:,} files, {summary.size / 1e9:,.2f} GB</p>'
        f'<ul class="figures">{cells}</ul><p class="fine">{text(kinds) or "no photograph or video"}</p>'
    )


def _histogram(summary: Summary) -> str:
    """Bars over 0..1 with both thresholds; the counts are in the titles and in the label."""
    most, step = max(1, *summary.histogram), _WIDTH / BINS
    bars = ""
    for i, count in enumerate(summary.histogram):
        height = count / most * _HEIGHT
        bars += (
            f'<rect x="{i * step + 1:.1f}" y="{_HEIGHT - height:.1f}" width="{step - 2:.1f}" '
            f'height="{height:.1f}"><title>{i / BINS:.2f} to {(i + 1) / BINS:.2f}: {count:,}</title></rect>'
        )
    limits = summary.thresholds
    marks = "".join(
        f'<line class="{name}" x1="{value * _WIDTH:.1f}" x2="{value * _WIDTH:.1f}" y1="0" y2="{_HEIGHT}"/>'
        for name, value in (("real", limits.real), ("forged", limits.forged))
    )
    scale = "".join(
        f'<text x="{share * _WIDTH:.0f}" y="{_HEIGHT + 16}" text-anchor="{anchor}">{share:g}</text>'
        for share, anchor in ((0, "start"), (0.25, "middle"), (0.5, "middle"), (0.75, "middle"), (1, "end"))
    )
    label = (
        f"{sum(summary.histogram):,} files with a face by their probability; the highest bar holds {most:,}"
    )
    return (
        f'<svg class="histogram" viewBox="0 0 {_WIDTH} {_HEIGHT + 22}" role="img" aria-label="{label}">'
        f'{bars}{marks}{scale}</svg><p class="fine">{label}. '
        f"Lines: real below {limits.real:.3f}, forged from {limits.forged:.3f}.</p>"
    )


def _worst(summary: Summary) -> str:
    rows = [
        (
            text(row["path"]),
            badge(row["verdict"]),
            text(percent(row["forged_probability"])),
            text(", then ".join(row["sequence"] or ())),
        )
        for row in summary.worst
    ]
    return _table("Most suspicious files", ("File", "Verdict", "Forged", "Manipulated, first to last"), rows)


def _reasons(title: str, reasons: Counter[str]) -> str:
    rows = [(text(reason), f"{count:,}") for reason, count in most_common(reasons, _REASONS)]
    return _table(title, ("Reason", "Files"), rows)


def _table(title: str, names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A headed table of cells that are HTML already; nothing without rows."""
    if not rows:
        return ""
    head = "".join(f"<th>{name}</th>" for name in names)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    table = f'<table class="summary whole"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
    return f"<h2>{title}</h2>{table}"


def _model(summary: Summary) -> dict[str, str]:
    known = summary.facts
    return {
        "Program": f"forgerank {known['version']}",
        "Weights": f"{known['weights']}, SHA-256 {known['weights_sha256']}",
        "Face detector": str(known["detector"]),
        "Videos": f"{known['fps']:g} frames per second, at most {known['max_frames']}",
        "Scanned": ", ".join(known["sources"]),
    }
