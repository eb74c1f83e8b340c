"""Soft regions, colour matching and blending: what every edit is made of."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from forgerank.faces.regions import component_polygons, face_oval
from forgerank.forge.photos import Photo
from forgerank.types import Image, Points

Alpha = NDArray[np.float32]  # (H, W), 0 untouched .. 1 replaced
Window = tuple[slice, slice]  # rows and columns of the picture that an edit touches

# How far a region may grow beyond its polygon, in eye distances: neighbours overlap, as eye and brow.
GROWTH = {
    "nose": (0.02, 0.14),
    "eye": (0.06, 0.2),
    "eyebrow": (0.05, 0.17),
    "lip": (0.03, 0.15),
    "hair": (0.0, 0.04),
    "face": (-0.1, 0.05),
}
FEATHER = (0.02, 0.07)  # eye distances


@dataclass(frozen=True, slots=True)
class Softness:
    """How a region's outline becomes an alpha, drawn once per edit."""

    radius: int  # pixels the outline grows by, negative to shrink
    sigma: float  # pixels, Gaussian feather

    def alpha(self, hard: NDArray[np.uint8]) -> Alpha:
        """Grow and feather a 0/255 mask (H, W)."""
        side = 2 * abs(self.radius) + 1
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
        grown = cv2.dilate(hard, kernel) if self.radius >= 0 else cv2.erode(hard, kernel)
        soft = np.asarray(cv2.GaussianBlur(grown, (0, 0), self.sigma), dtype=np.float32)
        return soft / np.float32(255)


def draw_softness(photo: Photo, component: str, rng: np.random.Generator) -> Softness:
    """Growth and feather of a component's region at the photograph's scale."""
    unit = photo.eye_distance
    growth = rng.uniform(*GROWTH[component])
    return Softness(round(unit * growth), max(0.6, float(unit * rng.uniform(*FEATHER))))


def hard_region(photo: Photo, component: str) -> NDArray[np.uint8]:
    """The region of one component as a 0/255 mask (H, W), empty where the picture does not show it."""
    if component == "hair":
        return photo.hair
    return fill(region_polygons(photo.landmarks, component), photo.shape)


def region_alpha(photo: Photo, component: str, softness: Softness) -> Alpha:
    """The soft region of one component; 'face' is the whole oval."""
    return softness.alpha(hard_region(photo, component))


def fill(polygons: list[Points], shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Filled polygons as a 0/255 mask (H, W)."""
    mask = np.zeros(shape, np.uint8)
    for polygon in polygons:
        cv2.fillPoly(mask, [np.rint(polygon).astype(np.int32)], 255)
    return mask


def region_polygons(landmarks: Points, component: str) -> list[Points]:
    """Polygons of a component, or of the whole face for 'face'."""
    return [face_oval(landmarks)] if component == "face" else component_polygons(landmarks)[component]


def window(alpha: Alpha, margin: int = 8) -> Window:
    """The part of the picture where alpha is not 0, with a margin; empty slices where it is 0 everywhere."""
    rows, columns = np.flatnonzero(alpha.max(1) > 0.004), np.flatnonzero(alpha.max(0) > 0.004)
    if len(rows) == 0:
        return slice(0, 0), slice(0, 0)
    return (
        slice(max(0, int(rows[0]) - margin), min(alpha.shape[0], int(rows[-1]) + margin + 1)),
        slice(max(0, int(columns[0]) - margin), min(alpha.shape[1], int(columns[-1]) + margin + 1)),
    )


def mix(image: Image, other: Image, alpha: Alpha) -> Image:
    """alpha * other + (1 - alpha) * image, rounded."""
    weight = alpha[..., None]
    mixed = image.astype(np.float32) * (1 - weight) + other.astype(np.float32) * weight
    return np.clip(np.rint(mixed), 0, 255).astype(np.uint8)


def match_colour(donor: Image, target: Image, alpha: Alpha, strength: float) -> Image:
    """Move the donor's mean and spread in Lab, measured where alpha is high, towards the target's.

    strength 0 leaves the donor as it is, 1 matches it (Reinhard et al. 2001).
    """
    inside = alpha > 0.3
    if inside.sum() < 16:
        return donor
    donor_lab = cv2.cvtColor(donor, cv2.COLOR_RGB2LAB).astype(np.float32)
    target_lab = cv2.cvtColor(target, cv2.COLOR_RGB2LAB).astype(np.float32)
    donor_mean, donor_spread = donor_lab[inside].mean(0), donor_lab[inside].std(0) + 1.0
    target_mean, target_spread = target_lab[inside].mean(0), target_lab[inside].std(0) + 1.0
    gain = np.clip(target_spread / donor_spread, 0.6, 1.6)
    matched = (donor_lab - donor_mean) * gain + target_mean
    blended = donor_lab + (matched - donor_lab) * strength
    return np.asarray(cv2.cvtColor(np.clip(blended, 0, 255).astype(np.uint8), cv2.COLOR_LAB2RGB))


def paste(image: Image, other: Image, alpha: Alpha, *, poisson: bool) -> Image:
    """Blend `other` into `image` by alpha, or by gradients (Perez et al. 2003) inside alpha."""
    if not poisson:
        return mix(image, other, alpha)
    hard = (alpha > 0.5).astype(np.uint8) * 255
    # seamlessClone needs its mask clear of the border.
    hard[:2], hard[-2:], hard[:, :2], hard[:, -2:] = 0, 0, 0, 0
    x, y, width, height = cv2.boundingRect(hard)
    if min(width, height) < 3:
        return mix(image, other, alpha)
    centre = (x + width // 2, y + height // 2)
    cloned = np.asarray(cv2.seamlessClone(other, image, hard, centre, cv2.NORMAL_CLONE), dtype=np.uint8)
    return mix(image, cloned, np.clip(alpha * 1.5, 0, 1))
