"""One self-contained HTML file: no request leaves it, it reads in light and dark, and it prints."""

from collections.abc import Iterable, Sequence
from importlib.resources import files

from forgerank import __version__
from forgerank.detect.result import Report, VideoReport
from forgerank.report.entries import ErrorEntry
from forgerank.report.heatmap import palette
from forgerank.report.html_image import image_section
from forgerank.report.html_pieces import badge, bullets, facts, text
from forgerank.report.html_video import video_section
from forgerank.report.words import LIMITS, VIDEO_LIMITS, image_sentence, printable, video_sentence
from forgerank.weights.description import WeightsMetadata

__all__ = ["html_page", "image_section", "video_section"]

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def html_page(
    sections: Sequence[str],
    reports: Sequence[Report | VideoReport],
    metadata: WeightsMetadata,
    sha256: str,
    errors: Sequence[ErrorEntry] = (),
) -> str:
    """The page around sections made by `image_section` and `video_section`, one per report, in its order.

    `sha256` is that of the ONNX file. The page also works inside an `iframe srcdoc` that allows scripts.
    """
    style = _asset("page.css").replace("SCALE", ", ".join(f"rgb({r} {g} {b})" for r, g, b in palette()[::15]))
    title = _name(1, reports[0]) if len(reports) == 1 else f"{len(reports)} files"
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>forgerank: {text(title)}</title><style>{style}</style></head><body>",
            '<header class="top"><span class="mark">forgerank</span><h1>Face forgery report</h1></header>',
            f"<main>{_summary(reports)}{''.join(sections)}{_errors(errors)}{_limits(reports)}</main>",
            f"{_model(metadata, sha256)}<script>{_asset('page.js')}</script></body></html>\n",
        ]
    )


def _asset(name: str) -> str:
    return files("forgerank.report").joinpath(name).read_text(encoding="utf-8")


def _name(number: int, report: Report | VideoReport) -> str:
    return report.path or f"image {number}"


def _summary(reports: Sequence[Report | VideoReport]) -> str:
    if len(reports) < 2:
        return ""
    rows = "".join(
        f'<tr><td><a href="#item-{i}">{text(_name(i, report))}</a></td>'
        f"<td>{badge(report.verdict)}</td><td>{text(_sentence(report))}</td></tr>"
        for i, report in enumerate(reports, start=1)
    )
    head = "<tr><th>File</th><th>Verdict</th><th>Why</th></tr>"
    return f'<table class="summary"><thead>{head}</thead><tbody>{rows}</tbody></table>'


def _sentence(report: Report | VideoReport) -> str:
    return video_sentence(report) if isinstance(report, VideoReport) else image_sentence(report)


def _errors(errors: Sequence[ErrorEntry]) -> str:
    lines = [f"{printable(error.path)}: {error.reason}" for error in errors]
    return _listed("Not read", lines) if lines else ""


def _limits(reports: Sequence[Report | VideoReport]) -> str:
    films = any(isinstance(report, VideoReport) for report in reports)
    return _listed("What the verdict does not mean", (*LIMITS, *(VIDEO_LIMITS if films else ())))


def _listed(title: str, lines: Iterable[str]) -> str:
    return f'<section class="notes"><h2>{text(title)}</h2>{bullets(tuple(lines), "lines")}</section>'


def _model(metadata: WeightsMetadata, sha256: str) -> str:
    thresholds = metadata.thresholds
    components = ", ".join(
        f"{name} {value:.2f}" for name, value in zip(metadata.labels, thresholds.components, strict=True)
    )
    rows = {
        "Program": f"forgerank {__version__}",
        "Weights": f"{metadata.name} {metadata.version}, SHA-256 {sha256}",
        "Made by revision": metadata.git_revision,
        "Licence of the weights": metadata.licence,
        "Thresholds": f"forged from {thresholds.forged:.3f}, real below {thresholds.real:.3f}; {components}",
    }
    return f'<footer class="fine">{facts(rows)}</footer>'
