"""Faces drawn over their picture: boxes, points and component regions."""

from collections.abc import Sequence

import numpy as np
from PIL import Image as PILImage
from PIL import ImageChops, ImageDraw, ImageFilter, ImageFont

from forgerank.faces.align import five_points
from forgerank.faces.regions import Mask, component_masks
from forgerank.types import Face, Image, Points

COLOURS = {
    "nose": (255, 176, 0),
    "eye": (0, 190, 255),
    "eyebrow": (190, 120, 255),
    "lip": (255, 60, 90),
    "hair": (60, 220, 100),
}  # RGB, told apart by most colour-blind readers by lightness as well
_BOX = (255, 255, 255)
_SHORTEST_SIDE = 480  # a smaller picture is enlarged, so that names stay readable
_FILL = 0.30  # opacity of a region


def draw_faces(image: Image, faces: Sequence[Face]) -> Image:
    """The picture (H, W, 3) with each face's box, score, five points and named component regions.

    Pictures with a long side under 480 pixels come back enlarged by a whole factor.
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
    """Tint and outline the regions inside a window about the head: elsewhere a large picture has none."""
    x0, y0, x1, y1 = _head_window(landmarks, image.shape[:2])
    offset = np.array([x0, y0], dtype=np.float32)
    masks = component_masks(np.ascontiguousarray(image[y0:y1, x0:x1]), landmarks - offset)
    size = ((x1 - x0) * factor, (y1 - y0) * factor)
    corner = (x0 * factor, y0 * factor)
    line = _line_width(landmarks, factor)
    for name, mask in masks.items():
        region = PILImage.fromarray(mask.astype(np.uint8) * 255).resize(size, PILImage.Resampling.BILINEAR)
        edge = ImageChops.subtract(region, region.filter(ImageFilter.MinFilter(2 * line + 1)))
        tint = ImageChops.lighter(region.point(lambda value: round(value * _FILL)), edge)
        canvas.paste(COLOURS[name], corner, tint)
    draw, font = ImageDraw.Draw(canvas), _font(landmarks, factor)
    for name, mask in masks.items():
        anchor = _label_anchor(mask)
        if anchor is not None:
            x, y = (anchor + offset) * factor
            draw.text((x, y), name, font=font, fill=COLOURS[name], anchor="mm", stroke_width=2, stroke_fill=(0, 0, 0))


def _draw_box(canvas: PILImage.Image, face: Face, factor: int) -> None:
    draw = ImageDraw.Draw(canvas)
    line = _line_width(face.landmarks, factor)
    x0, y0, x1, y1 = (value * factor for value in face.box)
    draw.rectangle((x0, y0, x1, y1), outline=_BOX, width=line)
    font = _font(face.landmarks, factor)
    label = f"{face.score:.2f}"
    draw.text((x0 + 2 * line, y0 + 2 * line), label, font=font, fill=_BOX, stroke_width=2, stroke_fill=(0, 0, 0))
    radius = 1.5 * line
    for x, y in five_points(face.landmarks) * factor:
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=_BOX, outline=(0, 0, 0))


def _head_window(landmarks: Points, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    low, high = landmarks.min(axis=0), landmarks.max(axis=0)
    margin = 0.9 * float((high - low).max())
    limit = np.array([shape[1], shape[0]])
    x0, y0 = np.clip(np.floor(low - margin), 0, limit - 1).astype(int)
    x1, y1 = np.clip(np.ceil(high + margin), 1, limit).astype(int)
    return int(x0), int(y0), max(int(x1), int(x0) + 1), max(int(y1), int(y0) + 1)


def _label_anchor(mask: Mask) -> Points | None:
    """A point of the region near its middle, so that a name never floats beside an arc of hair."""
    rows, columns = np.nonzero(mask)
    if not len(rows):
        return None
    distance = np.hypot(rows - rows.mean(), columns - columns.mean())
    nearest = int(distance.argmin())
    return np.array([columns[nearest], rows[nearest]], dtype=np.float32)


def _line_width(landmarks: Points, factor: int) -> int:
    return max(1, round(_face_size(landmarks) * factor / 220))


def _font(landmarks: Points, factor: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=float(np.clip(_face_size(landmarks) * factor / 16, 11, 96)))


def _face_size(landmarks: Points) -> float:
    return float((landmarks.max(axis=0) - landmarks.min(axis=0)).max())
