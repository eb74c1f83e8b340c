"""Saves: what apps do to an image between two edits, namely resize, filter and re-encode it.

An early edit goes through more saves than a late one; this trace makes the order detectable.
"""

import io
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as PILImage

from forgerank.forge.filters import pick, unsharp_mask
from forgerank.types import Image

Range = tuple[float, float]
KERNELS = {
    "area": cv2.INTER_AREA,
    "linear": cv2.INTER_LINEAR,
    "cubic": cv2.INTER_CUBIC,
    "lanczos": cv2.INTER_LANCZOS4,
}
# How often each is drawn: Lanczos costs ten times the others and leaves nearly what cubic leaves.
DOWN = {"area": 0.2, "linear": 0.4, "cubic": 0.38, "lanczos": 0.02}
UP = {"linear": 0.44, "cubic": 0.54, "lanczos": 0.02}
_WEBP_METHOD = 0  # 0 fast .. 6 small: the bytes differ more than what is decoded
_GRAIN_SIDE = 1024  # pixels


@dataclass(frozen=True, slots=True)
class Trace:
    """Strength of the saves of a chain; probabilities in 0..1, ranges drawn uniformly."""

    quality: Range  # JPEG quality
    webp: float  # probability of WebP instead of JPEG
    webp_quality: Range
    resample: float  # probability of going through another size
    scale: Range  # that size, relative
    smooth: float  # probability of a mild Gaussian blur
    smooth_sigma: Range  # pixels
    sharpen: float  # probability of a mild unsharp mask
    sharpen_amount: Range
    grain: float  # probability of added noise
    grain_sigma: Range  # grey levels


TRACES = {
    "light": Trace(
        (60, 93), 0.08, (60, 90), 0.6, (0.72, 0.95), 0.1, (0.3, 0.5), 0.15, (0.1, 0.4), 0.15, (0.5, 1.5)
    ),
    "medium": Trace(
        (55, 92), 0.08, (50, 88), 0.85, (0.58, 0.88), 0.25, (0.3, 0.7), 0.2, (0.1, 0.5), 0.25, (0.5, 2.0)
    ),
    "strong": Trace(
        (45, 88), 0.08, (40, 82), 0.95, (0.48, 0.75), 0.4, (0.4, 0.9), 0.2, (0.1, 0.5), 0.35, (1.0, 3.0)
    ),
}


@dataclass(frozen=True, slots=True)
class Save:
    """One save with every number drawn: applying it twice gives the same bytes."""

    format: Literal["jpeg", "webp"]
    quality: int
    chroma_full: bool  # JPEG 4:4:4 rather than 4:2:0
    scale: float  # 1 = not resampled
    down: str  # kernel names of KERNELS
    up: str
    smooth_sigma: float  # pixels, 0 = none
    sharpen_amount: float  # 0 = none
    grain_sigma: float  # grey levels, 0 = none
    grain_seed: int

    @property
    def suffix(self) -> str:
        """File name extension of the encoded image."""
        return ".jpg" if self.format == "jpeg" else ".webp"

    def record(self) -> dict[str, Any]:
        """The save as plain JSON values."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def draw_save(rng: np.random.Generator, trace: Trace) -> Save:
    """Draw one save of a trace's strength."""

    def sometimes(probability: float, low_high: Range, otherwise: float) -> float:
        value, drawn = rng.uniform(*low_high), rng.random()
        return round(float(value), 3) if drawn < probability else otherwise

    webp = rng.random() < trace.webp
    return Save(
        format="webp" if webp else "jpeg",
        quality=round(rng.uniform(*(trace.webp_quality if webp else trace.quality))),
        chroma_full=bool(rng.random() < 0.3),
        scale=sometimes(trace.resample, trace.scale, 1.0),
        down=pick(rng, DOWN),
        up=pick(rng, UP),
        smooth_sigma=sometimes(trace.smooth, trace.smooth_sigma, 0.0),
        sharpen_amount=sometimes(trace.sharpen, trace.sharpen_amount, 0.0),
        grain_sigma=sometimes(trace.grain, trace.grain_sigma, 0.0),
        grain_seed=int(rng.integers(2**31)),
    )


def apply_save(image: Image, save: Save) -> tuple[Image, bytes]:
    """Save and read again: the image (H, W, 3) at its own size, and the file's bytes."""
    height, width = image.shape[:2]
    if save.scale < 1.0:
        size = (max(1, round(width * save.scale)), max(1, round(height * save.scale)))
        image = np.asarray(cv2.resize(image, size, interpolation=KERNELS[save.down]))
    if save.smooth_sigma > 0:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), save.smooth_sigma))
    if save.sharpen_amount > 0:
        image = unsharp_mask(image, save.sharpen_amount)
    if save.grain_sigma > 0:
        image = add_grain(image, save.grain_sigma, save.grain_seed)
    if save.scale < 1.0:
        image = np.asarray(cv2.resize(image, (width, height), interpolation=KERNELS[save.up]))
    return encode(image, save)


def add_grain(image: Image, sigma: float, seed: int, size: float = 0.0) -> Image:
    """Gaussian noise of a standard deviation of `sigma` grey levels, independent per channel; with a `size`,
    a film's: alike in all channels, blurred by that deviation in pixels.

    It is cut from a fixed field, ten times faster than drawing.
    """
    height, width = image.shape[:2]
    field = _grain_field(size)
    top, left = seed % _GRAIN_SIDE, seed // _GRAIN_SIDE % _GRAIN_SIDE
    rows = np.arange(top, top + height) % _GRAIN_SIDE
    if left + width <= _GRAIN_SIDE:
        grain = field[rows, left : left + width]
    else:
        grain = field[rows][:, np.arange(left, left + width) % _GRAIN_SIDE]
    if seed >> 20 & 1:
        grain = grain[:, ::-1]
    return np.asarray(cv2.add(image, grain * np.float32(sigma), dtype=cv2.CV_8U), dtype=np.uint8)


@lru_cache(maxsize=4)
def _grain_field(size: float) -> NDArray[np.float32]:
    noise = np.random.default_rng(0).standard_normal((_GRAIN_SIDE, _GRAIN_SIDE, 3), np.float32)
    if size == 0:
        return noise
    soft = cv2.GaussianBlur(noise[..., 0], (0, 0), size)
    return np.asarray(np.repeat(soft[..., None] / soft.std(), 3, axis=2), dtype=np.float32)


def encode(image: Image, save: Save) -> tuple[Image, bytes]:
    """Encode with the save's codec; returns the decoded image and the bytes."""
    if save.format == "webp":
        file = io.BytesIO()
        PILImage.fromarray(image).save(file, "WEBP", quality=save.quality, method=_WEBP_METHOD)
        encoded = file.getvalue()
    else:
        sampling = (
            cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444 if save.chroma_full else cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420
        )
        options = [cv2.IMWRITE_JPEG_QUALITY, save.quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling]
        encoded = cv2.imencode(save.suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)[1].tobytes()
    decoded = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None  # it was encoded just now
    return np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), dtype=np.uint8), encoded
