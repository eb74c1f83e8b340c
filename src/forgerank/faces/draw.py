"""Faces drawn over their image: boxes, points and component regions."""

from collections.abc import Sequence

import numpy as np
from PIL import Image as PILImage
from PIL import ImageChops, ImageDraw, ImageFilter, ImageFont

from forgerank.faces.align import five_points
from forgerank.faces.regions import component_masks
from forgerank.types import Face, Image, Points

COLOURS = {
    "nose": (255, 176, 0),
    "eye": (0, 190, 255),
    "eyebrow": (190, 120, 255),
    "lip": (255, 60, 90),
    "hair": (60, 220, 100),
}  # RGB; they differ in lightness as well, for colour-blind readers
_BOX = (255, 255, 255)
_SHORTEST_SIDE = 480  # a smaller image is enlarged, so that names stay readable
_FILL = 0.30  # opacity of a region


def draw_faces(image: Image, faces: Sequence[Face]) -> Image:
    """The image (H, W, 3) with each face's box, score, five points and component regions, named beside it.

    Images with a long side under 480 pixels come back enlarged by a whole factor.
    """
    factor = max(1, -(-_SHORTEST_SIDE // max(image.shape[:2])))
    canvas = PILImage.fromarray(image)
    if factor > 1:
        canvas = canvas.resize((canvas.width * factor, canvas.height * factor), PILImage.Resampling.BICUBIC)
    for face in faces:
        _draw_regions(canvas, image, face.landmarks, factor)
    for face in faces:
        _draw_box(canvas, face, factor)
    return np.asarray(canvas)


def _draw_regions(canvas: PILImage.Image, image: Image, landmarks: Points, factor: int) -> None:
    """Tint and outline the regions, computed in a window about the head: the image may be large."""
    x0, y0, x1, y1 = _head_window(landmarks, image.shape[:2])
    offset = np.array([x0, y0], dtype=np.float32)
    masks = component_masks(np.ascontiguousarray(image[y0:y1, x0:x1]), landmarks - offset)
    size = ((x1 - x0) * factor, (y1 - y0) * factor)
    corner = (x0 * factor, y0 * factor)
    line = _line_width(landmarks, factor)
    for name, mask in masks.items():
        grey = PILImage.fromarray(mask.astype(np.uint8) * 255).resize(size, PILImage.Resampling.BILINEAR)
        region = grey.point(lambda value: 255 if value > 127 else 0)
        inner = region.filter(ImageFilter.BoxBlur(line)).point(lambda value: 255 if value == 255 else 0)
        edge = ImageChops.subtract(region, inner)
        tint = ImageChops.lighter(region.point(lambda value: round(value * _FILL)), edge)
        canvas.paste(COLOURS[name], corner, tint)


def _draw_box(canvas: PILImage.Image, face: Face, factor: int) -> None:
    draw = ImageDraw.Draw(canvas)
    line = _line_width(face.landmarks, factor)
    x0, y0, x1, y1 = (value * factor for value in face.box)
    draw.rectangle((x0, y0, x1, y1), outline=_BOX, width=line)
    radius = 1.5 * line
    for x, y in five_points(face.landmarks) * factor:
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=_BOX, outline=(0, 0, 0))
    size = float(np.clip((x1 - x0) / 12, 11, 96))
    font = ImageFont.load_default(size=size)
    # Names stand to the right of the box, or inside it where the image ends.
    left = min(x1 + 2 * line, canvas.width - 4.5 * size)
    names = [(f"{face.score:.2f}", _BOX), *COLOURS.items()]
    for row, (text, colour) in enumerate(names):
        place = (left, y0 + 1.2 * size * row)
        draw.text(place, text, font=font, fill=colour, stroke_width=max(1, line), stroke_fill=(0, 0, 0))


def _head_window(landmarks: Points, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    low, high = landmarks.min(axis=0), landmarks.max(axis=0)
    margin = 0.9 * float((high - low).max())
    limit = np.array([shape[1], shape[0]])
    x0, y0 = np.clip(np.floor(low - margin), 0, limit - 1).astype(int)
    x1, y1 = np.clip(np.ceil(high + margin), 1, limit).astype(int)
    return int(x0), int(y0), max(int(x1), int(x0) + 1), max(int(y1), int(y0) + 1)


def _line_width(landmarks: Points, factor: int) -> int:
    return max(1, round(_face_size(landmarks) * factor / 220))


def _face_size(landmarks: Points) -> float:
    return float((landmarks.max(axis=0) - landmarks.min(axis=0)).max())
