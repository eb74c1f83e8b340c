"""An image in the HTML report: boxes and heatmaps over it, a card per face."""

from collections.abc import Sequence

import numpy as np

from forgerank.detect.result import FaceReport, LoadedImage, Report
from forgerank.report.entries import Credentials
from forgerank.report.heatmap import crop_layer, face_maps
from forgerank.report.html_pieces import (
    badge,
    components_list,
    credentials_note,
    gauge,
    layer_uri,
    photo_uri,
    quality_lines,
    text,
    who,
)
from forgerank.report.words import face_sentence, image_sentence
from forgerank.types import Image
from forgerank.weights.description import Thresholds

_LONGEST_SIDE = 1280  # pixels of the embedded image
_MAP_SIDE, _THUMBNAIL_SIDE = 160, 128


def image_section(
    number: int,
    report: Report,
    image: LoadedImage,
    thresholds: Thresholds,
    credentials: Credentials | None = None,
) -> str:
    """One image: boxes and heatmaps over it, its verdict, and a card per face. `number` counts from 1."""
    shown = _first_map(report)
    cards = "".join(
        _face_card(i, face, image.image, thresholds) for i, face in enumerate(report.faces, start=1)
    )
    faces = tuple(enumerate(report.faces, start=1))
    bar = controls(f"map-{number}", report.faces[0], shown) if report.faces else ""
    return (
        f'<section class="item {report.verdict}" id="item-{number}">'
        f"<h2>{text(report.path or f'image {number}')}</h2>"
        f'<p class="headline">{badge(report.verdict)} {text(image_sentence(report))}</p>'
        f'<div class="columns"><figure class="maps">'
        f"{canvas(image.image, faces, shown, 'the image with its faces')}{bar}</figure>"
        f'<div class="cards">{cards}{credentials_note(credentials)}</div></div>'
        f'<p class="fine">{report.width} by {report.height} px · SHA-256 <code>{report.sha256}</code></p>'
        "</section>"
    )


def canvas(
    image: Image,
    faces: Sequence[tuple[int, FaceReport]],
    shown: str,
    label: str,
    longest: int = _LONGEST_SIDE,
) -> str:
    """The image (H, W, 3) under the maps of its numbered faces and their boxes.

    `shown` names the map to begin with, or is "none"; `longest` limits the embedded image, in pixels.
    """
    height, width = image.shape[:2]
    stroke = max(width, height) / 320
    layers = "".join(_layers(face, shown) for _, face in faces)
    boxes = "".join(_box(number, face, stroke) for number, face in faces)
    return (
        f'<svg class="canvas" viewBox="0 0 {width} {height}" role="img" aria-label="{text(label)}">'
        f'<image width="{width}" height="{height}" href="{photo_uri(image, longest)}"/>'
        f'<g class="heat">{layers}</g>{boxes}</svg>'
    )


def _layers(face: FaceReport, shown: str) -> str:
    size = face.alignment.size
    place = f'width="{size}" height="{size}" transform="{_crop_to_image(face)}"'
    return "".join(
        f'<image class="layer{"" if name == shown else " hidden"}" data-map="{text(name)}" {place} '
        f'href="{layer_uri(crop_layer(values, _MAP_SIDE))}"/>'
        for name, values in face_maps(face).items()
    )


def _box(number: int, face: FaceReport, stroke: float) -> str:
    x0, y0, x1, y1 = face.box
    radius = 6 * stroke
    label_x, label_y = max(x0, radius), max(y0 - radius, radius)
    return (
        f'<g class="box {face.verdict}" stroke-width="{stroke:.2f}">'
        f'<rect x="{x0:.1f}" y="{y0:.1f}" width="{x1 - x0:.1f}" height="{y1 - y0:.1f}"/>'
        f'<circle cx="{label_x:.1f}" cy="{label_y:.1f}" r="{radius:.1f}"/>'
        f'<text x="{label_x:.1f}" y="{label_y:.1f}" font-size="{8 * stroke:.1f}">{number}</text></g>'
    )


def _crop_to_image(face: FaceReport) -> str:
    size = float(face.alignment.size)
    origin, right, down = face.alignment.to_image(
        np.array([[0.0, 0.0], [size, 0.0], [0.0, size]], dtype=np.float32)
    )
    (a, b), (c, d) = (right - origin) / size, (down - origin) / size
    return f"matrix({a:.6f} {b:.6f} {c:.6f} {d:.6f} {origin[0]:.3f} {origin[1]:.3f})"


def _first_map(report: Report) -> str:
    """What the page shows at first: the first component of the first forged face; nothing if none is."""
    for face in report.faces:
        if face.verdict == "forged":
            return face.sequence[0].name if face.sequence else "dissimilarity"
    return "none"


def controls(group: str, face: FaceReport, shown: str) -> str:
    """Choice of a map and its opacity, for all canvases inside the element of class "maps" around them.

    `group` is the name of the radio buttons, one of its own on the page.
    """
    choices = "".join(
        f'<label><input type="radio" name="{group}" value="{text(name)}"'
        f"{' checked' if name == shown else ''}><span>{text(name)}</span></label>"
        for name in ("none", *face_maps(face))
    )
    return (
        f'<figcaption><div class="choices" role="radiogroup" aria-label="Heatmap">{choices}</div>'
        '<label class="opacity">Opacity <input type="range" min="0" max="1" step="0.05" value="0.75"></label>'
        '<div class="scale" aria-hidden="true"><span>0</span><i></i><span>1</span></div></figcaption>'
    )


def _face_card(number: int, face: FaceReport, image: Image, thresholds: Thresholds) -> str:
    return (
        f'<article class="face {face.verdict}">'
        f"{who(f'Face {number}', thumbnail(number, face, image), face.verdict, face_sentence(face))}"
        f"{gauge(face.forged_probability, thresholds)}{components_list(face.components, face.sequence)}"
        f"{quality_lines(face.quality, f'found with score {face.detection_score:.2f}')}</article>"
    )


def thumbnail(number: int, face: FaceReport, image: Image) -> str:
    """The aligned face as a small image."""
    return f'<img alt="face {number}" src="{photo_uri(face.alignment.crop(image), _THUMBNAIL_SIDE)}">'
