"""Heatmaps: maps over the aligned crop, laid back over the image in a perceptually uniform palette; images as
data URIs.
"""

import base64
import io
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image as PILImage
from PIL.PngImagePlugin import PngInfo

from forgerank.detect.result import FaceReport, Map
from forgerank.faces.align import Alignment
from forgerank.files import encodable, make_folder, write_atomic
from forgerank.media.files import HEATMAP_MARK
from forgerank.types import Image

DISSIMILARITY = "dissimilarity"
_STEM_BYTES = 160  # of a file's name in those of its heatmaps; most systems take names of 255

# Our own path through OKLab (lightness, a, b): near black, violet, magenta red, orange, pale yellow.
_ANCHORS = (
    (0.16, 0.010, -0.050),
    (0.34, 0.090, -0.110),
    (0.50, 0.165, -0.030),
    (0.66, 0.150, 0.090),
    (0.80, 0.055, 0.140),
    (0.95, -0.020, 0.090),
)


@lru_cache(maxsize=1)
def palette() -> NDArray[np.uint8]:
    """256 colours (256, 3) RGB, dark to light, at equal steps of OKLab distance."""
    anchors = np.array(_ANCHORS)
    positions = np.linspace(0.0, len(anchors) - 1, 4001)
    path = np.column_stack([np.interp(positions, range(len(anchors)), channel) for channel in anchors.T])
    length = np.concatenate([[0.0], np.linalg.norm(np.diff(path, axis=0), axis=1).cumsum()])
    even = np.linspace(0.0, length[-1], 256)
    return oklab_to_rgb(np.column_stack([np.interp(even, length, channel) for channel in path.T]))


def oklab_to_rgb(colours: NDArray[np.float64]) -> NDArray[np.uint8]:
    """OKLab (K, 3) -> sRGB (K, 3), clipped to 0..255. Coefficients from Ottosson 2020."""
    to_lms = np.array(
        [
            [1.0, 0.3963377774, 0.2158037573],
            [1.0, -0.1055613458, -0.0638541728],
            [1.0, -0.0894841775, -1.2914855480],
        ]
    )
    to_linear = np.array(
        [
            [4.0767416621, -3.3077115913, 0.2309699292],
            [-1.2684380046, 2.6097574011, -0.3413193965],
            [-0.0041960863, -0.7034186147, 1.7076147010],
        ]
    )
    linear = np.clip((colours @ to_lms.T) ** 3 @ to_linear.T, 0.0, 1.0)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.asarray(np.round(encoded * 255.0), dtype=np.uint8)


def face_maps(face: FaceReport) -> dict[str, Map]:
    """The face's maps by name, each (h, w) over the crop, 0..1: every component, then "dissimilarity"."""
    maps = {component.name: face.component_maps[i] for i, component in enumerate(face.components)}
    return {**maps, DISSIMILARITY: face.dissimilarity}


def colourise(values: Map, inside: Map | None = None) -> NDArray[np.uint8]:
    """A map (h, w), 0..1, as a transparent layer (h, w, 4) RGBA.

    Colour is the value on a fixed scale from 0 to 1, so that images compare; opacity grows with it.
    `inside` (h, w), 0..1, limits the layer to a region.
    """
    kept = np.clip(values, 0.0, 1.0)
    alpha = np.sqrt(kept) if inside is None else np.sqrt(kept) * inside
    colours = palette()[np.round(kept * 255.0).astype(np.uint8)]
    return np.dstack([colours, np.round(alpha * 255.0).astype(np.uint8)])


def crop_layer(values: Map, size: int) -> NDArray[np.uint8]:
    """A map (h, w) over the crop as a layer (size, size, 4) RGBA over the crop, its edge faded."""
    return colourise(_resize(values, size), _soft_edge(size))


def image_layer(face: FaceReport, values: Map, shape: tuple[int, int]) -> NDArray[np.uint8]:
    """A map (h, w) over the crop as a layer over the image, (H, W, 4) RGBA, clear outside the crop."""
    size = face.alignment.size
    laid = face.alignment.paste(_resize(values, size), shape)
    return colourise(laid, face.alignment.paste(_soft_edge(size), shape))


def overlay(image: Image, layer: NDArray[np.uint8], opacity: float = 0.75) -> Image:
    """The image (H, W, 3) under a heat layer (H, W, 4), `opacity` 0..1."""
    alpha = layer[..., 3:].astype(np.float32) * np.float32(opacity / 255.0)
    mixed = image * (1.0 - alpha) + layer[..., :3] * alpha
    return np.round(mixed).astype(np.uint8)


def heatmap_stem(path: str | None) -> str:
    """What the names of a file's heatmaps begin with: its own without the suffix, "image" without one.

    A long one is cut, so that there is room for the rest, and bytes that are no UTF-8 appear escaped.
    """
    stem = encodable(Path(path or "image").stem)
    return stem.encode()[:_STEM_BYTES].decode(errors="ignore")


def save_heatmaps(image: Image, faces: Sequence[FaceReport], folder: Path, stem: str) -> list[Path]:
    """One PNG per face and map, `{stem}-face1-nose.png`, in a folder that is made; returns the paths.

    They bear a mark, by which a search of a folder for photographs leaves them out.
    Raises InputError where one cannot be written.
    """
    make_folder(folder)
    mark = PngInfo()
    mark.add_text("Software", HEATMAP_MARK)
    paths = []
    for number, face in enumerate(faces, start=1):
        for name, values in face_maps(face).items():
            path = folder / f"{stem}-face{number}-{name}.png"
            content = io.BytesIO()
            layer = image_layer(face, values, image.shape[:2])
            PILImage.fromarray(overlay(image, layer)).save(content, "PNG", pnginfo=mark)
            write_atomic(path, content.getvalue())
            paths.append(path)
    return paths


def _resize(values: Map, size: int) -> Map:
    smooth = PILImage.fromarray(values.astype(np.float32)).resize((size, size), PILImage.Resampling.BILINEAR)
    return np.asarray(smooth, dtype=np.float32)


def _soft_edge(size: int) -> Map:
    """Opacity over the crop, (size, size): 1 inside, falling to 0 over the outer 4 %."""
    distance = np.minimum(np.arange(size), np.arange(size)[::-1]) + 0.5
    ramp = np.clip(distance / (0.04 * size), 0.0, 1.0)
    return np.minimum.outer(ramp, ramp).astype(np.float32)


_LAYER_SIDE = 160  # pixels of an embedded heatmap


def jpeg(image: Image, longest: int) -> Markup:
    """An image (H, W, 3) as a data URI, its longer side at most `longest` pixels."""
    pil = PILImage.fromarray(image)
    pil.thumbnail((longest, longest))
    return _encode(pil, "JPEG")


def heat_layer(values: Map) -> Markup:
    """A map (h, w) over the crop, 0..1, as the data URI of a transparent image."""
    return _encode(PILImage.fromarray(crop_layer(values, _LAYER_SIDE)), "PNG")


def crop_to_image(alignment: Alignment) -> str:
    """The SVG transform that lays a crop over its image."""
    size = float(alignment.size)
    origin, right, down = alignment.to_image(
        np.array([[0.0, 0.0], [size, 0.0], [0.0, size]], dtype=np.float32)
    )
    (a, b), (c, d) = (right - origin) / size, (down - origin) / size
    return f"matrix({a:.6f} {b:.6f} {c:.6f} {d:.6f} {origin[0]:.3f} {origin[1]:.3f})"


def _encode(image: PILImage.Image, kind: str) -> Markup:
    buffer = io.BytesIO()
    image.save(buffer, kind, quality=85, optimize=True)
    # Base64 needs no escaping, and megabytes of it are not searched for what to escape.
    return Markup(f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}")
