"""Image filters that the forge shares: colour tables, sharpness, loss of resolution; draws by weight."""

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from forgerank.types import Image


def pick(rng: np.random.Generator, weights: Mapping[str, float]) -> str:
    """One of the names, with a probability proportional to its weight. Raises ValueError for a sum of 0."""
    total = sum(weights.values())
    if total <= 0:
        raise ValueError(f"nothing to draw from in {dict(weights)}")
    position = float(rng.random()) * total
    for name, weight in weights.items():
        position -= weight
        if position < 0:
            return name
    return name  # rounding may leave a little of the sum


_KERNELS = {"area": cv2.INTER_AREA, "linear": cv2.INTER_LINEAR, "cubic": cv2.INTER_CUBIC}


def disturb(image: Image, rng: np.random.Generator) -> tuple[Image, dict[str, Any]]:
    """Slight random changes of colour and sharpness over a whole image, and what they were (JSON values).

    A self-blend may apply them to its background, so real images need them as often.
    """
    changes: dict[str, Any] = {}
    levels = np.arange(256, dtype=np.float64)
    shift, gain, lift = np.zeros(3), 1.0, 0.0
    if rng.random() < 0.5:
        shift = rng.uniform(-16, 16, 3)
        changes["rgb"] = [round(float(value), 1) for value in shift]
    if rng.random() < 0.5:
        gain, lift = float(rng.uniform(0.8, 1.2)), float(rng.uniform(-18, 18))
        changes |= {"contrast": gain, "brightness": lift}
    image = apply_tables(image, *((levels - 128) * gain + 128 + lift + value for value in shift))
    if rng.random() < 0.4:
        hue, saturation, value = (float(rng.uniform(-limit, limit)) for limit in (4, 25, 15))
        hsv = apply_tables(
            np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2HSV)),
            (levels + round(hue)) % 180,
            levels * (1 + saturation / 100),
            levels + value,
        )
        image = np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB))
        changes["hsv"] = [round(hue), round(saturation, 1), round(value, 1)]
    sharpness = pick(rng, {"none": 0.2, "reduce": 0.35, "blur": 0.2, "sharpen": 0.25})
    if sharpness == "reduce":
        image = lose_resolution(image, float(rng.uniform(0.3, 0.85)), rng)
    elif sharpness == "blur":
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.4, 1.4))))
    elif sharpness == "sharpen":
        image = unsharp_mask(image, float(rng.uniform(0.3, 1.2)))
    return image, changes | {"sharpness": sharpness}


def lose_resolution(image: Image, scale: float, rng: np.random.Generator) -> Image:
    """Resize an image by `scale` and back with random kernels; unchanged where the scale is 1 or more."""
    if scale >= 1:
        return image
    height, width = image.shape[:2]
    size = (max(2, round(width * scale)), max(2, round(height * scale)))
    down = _KERNELS[pick(rng, {"area": 0.5, "linear": 0.3, "cubic": 0.2})]
    up = _KERNELS[pick(rng, {"linear": 0.5, "cubic": 0.5})]
    small = cv2.resize(image, size, interpolation=down)
    return np.asarray(cv2.resize(small, (width, height), interpolation=up))


def unsharp_mask(image: Image, amount: float, sigma: float = 1.0) -> Image:
    """Add `amount` times the difference from a Gaussian blur of `sigma` pixels."""
    blurred = cv2.GaussianBlur(image, (0, 0), sigma)
    return np.asarray(cv2.addWeighted(image, 1 + amount, blurred, -amount, 0))


def apply_tables(image: Image, *tables: NDArray[np.float64]) -> Image:
    """Map each channel by its own table of 256 values, rounded and clipped to 0..255."""
    table = np.clip(np.rint(np.stack(tables, -1)), 0, 255).astype(np.uint8)
    return np.asarray(cv2.LUT(image, table[None]))
