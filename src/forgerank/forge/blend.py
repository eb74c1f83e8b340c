"""Colour matching and blending inside a window: what every edit ends with."""

import cv2
import numpy as np
from numpy.typing import NDArray

from forgerank.types import Image

Alpha = NDArray[np.float32]  # (H, W), 0 untouched .. 1 replaced
Window = tuple[slice, slice]  # rows and columns of the image that an edit touches


def mix(image: Image, other: Image, alpha: Alpha) -> Image:
    """alpha * other + (1 - alpha) * image, rounded."""
    weight = np.ascontiguousarray(alpha, np.float32)
    return np.asarray(cv2.blendLinear(image, other, 1 - weight, weight), np.uint8)


def match_colour(donor: Image, target: Image, alpha: Alpha, strength: float) -> Image:
    """Move the donor's mean and spread in Lab, measured where alpha is high, towards the target's.

    strength 0 leaves the donor as it is, 1 matches it (Reinhard et al. 2001).
    """
    inside = (alpha > 0.3).astype(np.uint8)
    if strength <= 0 or np.count_nonzero(inside) < 16:
        return donor
    donor_lab = cv2.cvtColor(donor, cv2.COLOR_RGB2LAB)
    target_lab = cv2.cvtColor(target, cv2.COLOR_RGB2LAB)
    donor_mean, donor_spread = (value.ravel() for value in cv2.meanStdDev(donor_lab, mask=inside))
    target_mean, target_spread = (value.ravel() for value in cv2.meanStdDev(target_lab, mask=inside))
    gain = np.clip((target_spread + 1.0) / (donor_spread + 1.0), 0.6, 1.6)
    # Every channel changes by itself, so a table of its 256 values does.
    levels = np.arange(256, dtype=np.float64)[:, None]
    matched = (levels - donor_mean) * gain + target_mean
    table = np.clip(np.rint(levels + (matched - levels) * strength), 0, 255).astype(np.uint8)
    return np.asarray(cv2.cvtColor(cv2.LUT(donor_lab, table[None]), cv2.COLOR_LAB2RGB), np.uint8)


def paste(image: Image, other: Image, alpha: Alpha, *, clone: str = "alpha") -> Image:
    """Blend `other` into `image` by alpha, or by gradients (Perez et al. 2003) inside alpha.

    clone: "alpha", "poisson" (the other's gradients) or "mixed" (the stronger of both).
    """
    if clone == "alpha":
        return mix(image, other, alpha)
    hard = (alpha > 0.5).astype(np.uint8) * 255
    # seamlessClone needs its mask clear of the border.
    hard[:2], hard[-2:], hard[:, :2], hard[:, -2:] = 0, 0, 0, 0
    x, y, width, height = cv2.boundingRect(hard)
    if min(width, height) < 3:
        return mix(image, other, alpha)
    centre = (x + width // 2, y + height // 2)
    flag = cv2.MIXED_CLONE if clone == "mixed" else cv2.NORMAL_CLONE
    cloned = np.asarray(cv2.seamlessClone(other, image, hard, centre, flag), dtype=np.uint8)
    return mix(image, cloned, np.clip(alpha * 1.5, 0, 1))
