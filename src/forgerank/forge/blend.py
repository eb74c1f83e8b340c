"""Colour matching and blending inside a mask: the last steps of every edit."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from forgerank.forge.filters import apply_tables
from forgerank.types import Image

Alpha = NDArray[np.float32]  # (H, W), 0 untouched .. 1 replaced
Window = tuple[slice, slice]  # rows and columns of the image that an edit touches
_SMOOTH = np.array([0.25, 0.5, 0.25], dtype=np.float32)


def mix(image: Image, other: Image, alpha: Alpha) -> Image:
    """alpha * other + (1 - alpha) * image, rounded."""
    weight = np.ascontiguousarray(alpha, np.float32)
    return np.asarray(cv2.blendLinear(image, other, 1 - weight, weight), np.uint8)


def match_colour(part: Image, target: Image, alpha: Alpha, strength: float, *, step: int = 1) -> Image:
    """Move a part's mean and standard deviation in Lab towards the target's (Reinhard et al. 2001).

    Both are measured where alpha is high, on every `step`-th pixel along both axes. strength 0 leaves the
    part as it is, 1 matches it.
    """
    inside = (alpha[::step, ::step] > 0.3).astype(np.uint8)
    if strength <= 0 or np.count_nonzero(inside) < 16:
        return part
    lab = np.asarray(cv2.cvtColor(part, cv2.COLOR_RGB2LAB), np.uint8)
    target_lab = cv2.cvtColor(np.ascontiguousarray(target[::step, ::step]), cv2.COLOR_RGB2LAB)
    mean, spread = _mean_and_spread(np.ascontiguousarray(lab[::step, ::step]), inside)
    target_mean, target_spread = _mean_and_spread(target_lab, inside)
    gain = np.clip((target_spread + 1.0) / (spread + 1.0), 0.6, 1.6)
    levels = np.arange(256, dtype=np.float64)[:, None]
    matched = (levels - mean) * gain + target_mean
    tables = (levels + (matched - levels) * strength).T
    return np.asarray(cv2.cvtColor(apply_tables(lab, *tables), cv2.COLOR_LAB2RGB), np.uint8)


def paste(image: Image, other: Image, alpha: Alpha, *, clone: str = "alpha") -> Image:
    """Blend `other` into `image` by alpha, or by gradients (Perez et al. 2003) inside alpha.

    clone: "alpha", "poisson" (the other's gradients) or "mixed" (the stronger of both).
    """
    if clone == "alpha":
        return mix(image, other, alpha)
    hard = (alpha > 0.5).astype(np.uint8) * 255
    # seamlessClone refuses a mask that touches the border.
    hard[:2], hard[-2:], hard[:, :2], hard[:, -2:] = 0, 0, 0, 0
    x, y, width, height = cv2.boundingRect(hard)
    if min(width, height) < 3:
        return mix(image, other, alpha)
    centre = (x + width // 2, y + height // 2)
    flag = cv2.MIXED_CLONE if clone == "mixed" else cv2.NORMAL_CLONE
    cloned = np.asarray(cv2.seamlessClone(other, image, hard, centre, flag), dtype=np.uint8)
    return mix(image, cloned, np.clip(alpha * 1.5, 0, 1))


def membrane(other: Image, target: Image, alpha: Alpha, cells: int = 40) -> Image:
    """Gradient-domain blending (Perez et al. 2003): `other` plus a smooth surface, so that it equals `target`
    where alpha ends.

    The surface solves Laplace's equation. It is smooth, so a grid of at most `cells` x `cells` is enough.
    """
    height, width = alpha.shape
    factor = max(1.0, max(height, width) / cells)
    size = (max(4, round(width / factor)), max(4, round(height / factor)))
    signed = cv2.subtract(target, other, dtype=cv2.CV_32F)
    difference = np.asarray(cv2.resize(signed, size, interpolation=cv2.INTER_AREA), dtype=np.float32)
    known = (cv2.resize(alpha, size, interpolation=cv2.INTER_AREA) < 0.35).astype(np.float32)
    known[0], known[-1], known[:, 0], known[:, -1] = 1, 1, 1, 1
    surface = _harmonic(difference, known[..., None])
    full = np.asarray(cv2.resize(surface, (width, height), interpolation=cv2.INTER_LINEAR))
    return np.asarray(cv2.add(other, full, dtype=cv2.CV_8U))


def _harmonic(values: NDArray[np.float32], known: NDArray[np.float32]) -> NDArray[np.float32]:
    """Values (h, w, C) filled in smoothly where `known` (h, w, 1) is 0: coarse to fine, then relaxed."""
    height, width = known.shape[:2]
    if min(height, width) > 6:
        half = ((width + 1) // 2, (height + 1) // 2)
        weight = np.asarray(cv2.resize(known, half, interpolation=cv2.INTER_AREA))[..., None]
        total = np.asarray(cv2.resize(values * known, half, interpolation=cv2.INTER_AREA), dtype=np.float32)
        mean = (total / np.maximum(weight, 1e-3)).astype(np.float32)
        coarse = _harmonic(mean, (weight > 0.01).astype(np.float32))
        guess = np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR))
    else:
        guess = np.broadcast_to((values * known).sum((0, 1)) / max(float(known.sum()), 1.0), values.shape)
    filled = values * known + guess * (1 - known)
    fixed, free = values * known, 1 - known
    for _ in range(10):
        filled = fixed + free * cv2.sepFilter2D(filled, -1, _SMOOTH, _SMOOTH)
    return np.asarray(filled, dtype=np.float32)


def _mean_and_spread(
    image: NDArray[Any], inside: NDArray[np.uint8]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation per channel inside a mask."""
    mean, spread = cv2.meanStdDev(image, mask=inside)
    return np.asarray(mean, dtype=np.float64).ravel(), np.asarray(spread, dtype=np.float64).ravel()
