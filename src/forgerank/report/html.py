"""One self-contained HTML file: no request leaves it, it reads in light and dark, and it prints."""

import base64
import io
from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PILImage

from forgerank import __version__
from forgerank.infer.result import Component, FaceReport, Picture, Report
from forgerank.infer.verdict import quality_warnings
from forgerank.infer.weights import Thresholds, WeightsMetadata
from forgerank.report.heatmap import crop_layer, face_maps, palette
from forgerank.report.schema import ErrorEntry
from forgerank.report.words import LIMITS, face_sentence, percent, picture_sentence, printable
from forgerank.types import Image

_LONGEST_SIDE = 1280  # pixels of the embedded picture
_MAP_SIDE, _THUMBNAIL_SIDE = 160, 128
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
_SIGNS = {"forged": "▲", "real": "●", "undetermined": "◆"}


def html_page(
    sections: Sequence[str],
    reports: Sequence[Report],
    metadata: WeightsMetadata,
    sha256: str,
    errors: Sequence[ErrorEntry] = (),
) -> str:
    """The page around sections made by `picture_section`. `sha256` is that of the ONNX file."""
    style = files("forgerank.report").joinpath("page.css").read_text(encoding="utf-8")
    style = style.replace("SCALE", ", ".join(f"rgb({r} {g} {b})" for r, g, b in palette()[::15]))
    script = files("forgerank.report").joinpath("page.js").read_text(encoding="utf-8")
    title = _text(reports[0].path or "picture") if len(reports) == 1 else f"{len(reports)} pictures"
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>forgerank: {title}</title><style>{style}</style></head><body>",
            '<header class="top"><span class="mark">forgerank</span><h1>Face forgery report</h1></header>',
            f"<main>{_summary(reports)}{''.join(sections)}{_errors(errors)}{_limits()}</main>",
            f"{_model(metadata, sha256)}<script>{script}</script></body></html>\n",
        ]
    )


def picture_section(number: int, report: Report, picture: Picture, thresholds: Thresholds) -> str:
    """One picture: boxes and heatmaps over it, its verdict, and a card per face. `number` counts from 1."""
    shown = _shown_map(report)
    cards = "".join(
        _face_card(i, face, picture.image, thresholds) for i, face in enumerate(report.faces, start=1)
    )
    return (
        f'<section class="picture {report.verdict}" id="picture-{number}" data-map="{_text(shown)}">'
        f"<h2>{_text(report.path or f'picture {number}')}</h2>"
        f'<p class="headline">{_badge(report.verdict)} {_text(picture_sentence(report))}</p>'
        f'<div class="columns"><figure>{_canvas(report, picture.image, shown)}'
        f'{_controls(number, report, shown)}</figure><div class="cards">{cards}</div></div>'
        f'<p class="fine">{report.width} by {report.height} px · SHA-256 <code>{report.sha256}</code></p>'
        "</section>"
    )


def _canvas(report: Report, image: Image, shown: str) -> str:
    width, height = report.width, report.height
    photo = _photo_uri(image, _LONGEST_SIDE)
    stroke = max(width, height) / 320
    parts = [
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="the picture with its faces">',
        f'<image width="{width}" height="{height}" href="{photo}"/><g class="heat">',
    ]
    for face in report.faces:
        size = face.alignment.size
        for name, values in face_maps(face).items():
            hidden = "" if name == shown else " hidden"
            parts.append(
                f'<image class="layer{hidden}" data-map="{_text(name)}" width="{size}" height="{size}" '
                f'transform="{_crop_to_picture(face)}" href="{_uri(crop_layer(values, _MAP_SIDE), "PNG")}"/>'
            )
    parts.append("</g>")
    for number, face in enumerate(report.faces, start=1):
        x0, y0, x1, y1 = face.box
        radius = 6 * stroke
        label_y = max(y0 - radius, radius)
        parts.append(
            f'<g class="box {face.verdict}" stroke-width="{stroke:.2f}">'
            f'<rect x="{x0:.1f}" y="{y0:.1f}" width="{x1 - x0:.1f}" height="{y1 - y0:.1f}"/>'
            f'<circle cx="{x0:.1f}" cy="{label_y:.1f}" r="{radius:.1f}"/>'
            f'<text x="{x0:.1f}" y="{label_y:.1f}" font-size="{8 * stroke:.1f}">{number}</text></g>'
        )
    return "".join(parts) + "</svg>"


def _crop_to_picture(face: FaceReport) -> str:
    size = float(face.alignment.size)
    origin, right, down = face.alignment.to_picture(
        np.array([[0.0, 0.0], [size, 0.0], [0.0, size]], dtype=np.float32)
    )
    (a, b), (c, d) = (right - origin) / size, (down - origin) / size
    return f"matrix({a:.6f} {b:.6f} {c:.6f} {d:.6f} {origin[0]:.3f} {origin[1]:.3f})"


def _shown_map(report: Report) -> str:
    """What the page shows at first: the first component of the first forged face; nothing if none is."""
    for face in report.faces:
        if face.verdict == "forged":
            return face.sequence[0].name if face.sequence else "dissimilarity"
    return "none"


def _controls(number: int, report: Report, shown: str) -> str:
    if not report.faces:
        return ""
    choices = "".join(
        f'<label><input type="radio" name="map-{number}" value="{_text(name)}"'
        f"{' checked' if name == shown else ''}><span>{_text(name)}</span></label>"
        for name in ("none", *face_maps(report.faces[0]))
    )
    return (
        f'<figcaption><div class="choices" role="radiogroup" aria-label="Heatmap">{choices}</div>'
        '<label class="opacity">Opacity <input type="range" min="0" max="1" step="0.05" value="0.75"></label>'
        '<div class="scale" aria-hidden="true"><span>0</span><i></i><span>1</span></div></figcaption>'
    )


def _face_card(number: int, face: FaceReport, image: Image, thresholds: Thresholds) -> str:
    quality = face.quality
    warnings = "".join(f"<li>{_text(warning)}</li>" for warning in quality_warnings(quality))
    ranked = face.sequence
    rest = [component for component in face.components if component.rank is None]
    order = "".join(_chip(component) for component in ranked)
    return (
        f'<article class="face {face.verdict}"><div class="who">'
        f'<img alt="face {number}" src="{_photo_uri(face.alignment.crop(image), _THUMBNAIL_SIDE)}">'
        f"<div><h3>Face {number} {_badge(face.verdict)}</h3><p>{_text(face_sentence(face))}</p></div></div>"
        f"{_gauge(face.forged_probability, thresholds)}"
        + (f'<h4>Manipulated, first to last</h4><ol class="chips ranked">{order}</ol>' if ranked else "")
        + f"<h4>{'Not manipulated' if ranked else 'Components'}</h4>"
        f'<ul class="chips">{"".join(_chip(component) for component in rest)}</ul>'
        + (f'<ul class="warnings">{warnings}</ul>' if warnings else "")
        + f'<p class="fine">{quality.size:.0f} px · sharpness {quality.sharpness:.0f} · '
        f"yaw {quality.yaw:.0f}° pitch {quality.pitch:.0f}° roll {quality.roll:.0f}° · "
        f"found with score {face.detection_score:.2f}</p></article>"
    )


def _chip(component: Component) -> str:
    rank = "" if component.rank is None else f"<b>{component.rank}</b>"
    return f"<li>{rank}{_text(component.name)} <span>{_text(percent(component.probability))}</span></li>"


def _gauge(probability: float, thresholds: Thresholds) -> str:
    return (
        f'<div class="gauge" role="img" aria-label="forged with probability {_text(percent(probability))}" '
        f'style="--p:{probability:.4f};--lo:{thresholds.real:.4f};--hi:{thresholds.forged:.4f}"><i></i>'
        f"<p><span>Probability of forgery</span><b>{_text(percent(probability))}</b></p></div>"
    )


def _badge(verdict: str) -> str:
    return f'<span class="badge {verdict}"><i aria-hidden="true">{_SIGNS[verdict]}</i> {verdict}</span>'


def _summary(reports: Sequence[Report]) -> str:
    if len(reports) < 2:
        return ""
    rows = "".join(
        f'<tr><td><a href="#picture-{i}">{_text(report.path or f"picture {i}")}</a></td>'
        f"<td>{_badge(report.verdict)}</td><td>{_text(picture_sentence(report))}</td></tr>"
        for i, report in enumerate(reports, start=1)
    )
    head = "<tr><th>Picture</th><th>Verdict</th><th>Why</th></tr>"
    return f'<table class="summary"><thead>{head}</thead><tbody>{rows}</tbody></table>'


def _errors(errors: Sequence[ErrorEntry]) -> str:
    return (
        _listed("Not read", (f"{printable(error.path)}: {error.reason}" for error in errors))
        if errors
        else ""
    )


def _limits() -> str:
    return _listed("What the verdict does not mean", LIMITS)


def _listed(title: str, lines: Iterable[str]) -> str:
    items = "".join(f"<li>{_text(line)}</li>" for line in lines)
    return f'<section class="notes"><h2>{_text(title)}</h2><ul>{items}</ul></section>'


def _model(metadata: WeightsMetadata, sha256: str) -> str:
    thresholds = metadata.thresholds
    components = ", ".join(
        f"{name} {value:.2f}" for name, value in zip(metadata.labels, thresholds.components, strict=True)
    )
    facts = {
        "Program": f"forgerank {__version__}",
        "Weights": f"{metadata.name} {metadata.version}, SHA-256 {sha256}",
        "Licence of the weights": metadata.licence,
        "Thresholds": f"forged from {thresholds.forged:.3f}, real below {thresholds.real:.3f}; {components}",
    }
    rows = "".join(f"<dt>{_text(name)}</dt><dd>{_text(value)}</dd>" for name, value in facts.items())
    return f'<footer class="fine"><dl>{rows}</dl></footer>'


def _text(text: str) -> str:
    return escape(printable(text), quote=True)


def _photo_uri(image: Image, longest: int) -> str:
    picture = PILImage.fromarray(image)
    picture.thumbnail((longest, longest))
    return _encode(picture, "JPEG")


def _uri(pixels: NDArray[np.uint8], kind: str) -> str:
    return _encode(PILImage.fromarray(pixels), kind)


def _encode(picture: PILImage.Image, kind: str) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, kind, quality=85, optimize=True)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
