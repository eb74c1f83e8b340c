"""Images and heatmaps of the HTML report as data in the page."""

import base64
import io

import numpy as np
from markupsafe import Markup
from PIL import Image as PILImage

from forgerank.detect.result import Map
from forgerank.faces.align import Alignment
from forgerank.report.heatmap import crop_layer
from forgerank.types import Image

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
