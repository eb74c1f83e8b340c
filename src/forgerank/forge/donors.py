"""Transplants: components of a donor, or from elsewhere in the same face, fitted into a photograph."""

from typing import Any, Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from forgerank.faces.align import similarity
from forgerank.forge.blend import match_colour, paste
from forgerank.forge.filters import pick
from forgerank.forge.photos import Photo
from forgerank.forge.shapes import (
    MASKED,
    Part,
    draw_feather,
    draw_regions,
    fill,
    raster_part,
    region_polygons,
)
from forgerank.forge.warps import warp
from forgerank.types import Image, Points

Matrix = NDArray[np.float64]  # (2, 3), donor pixels -> photograph pixels
Source = Literal["donor", "scaled", "other side"]
# Least squares with one scale; with shear and two scales; with one scale and a small random affine map after.
FITS = {"similarity": 0.45, "affine": 0.3, "loose": 0.25}
CLONES = {"alpha": 0.72, "poisson": 0.18, "mixed": 0.1}  # mixed: the stronger of both gradients
MIRRORED_SHARE = 0.25
UNMATCHED_SHARE = 0.15  # of transplants whose colours stay the donor's, or nearly
TRANSLUCENT_SHARE = 0.15
_MOST_STRETCH = 1.4  # ratio of an affine fit's two scales above which the similarity is used
# First point of a mirrored polygon, whose points run backwards from it, so that points still correspond.
_MIRROR_START = {"nose": 0, "lip": 10}


class Transplant(NamedTuple):
    """A photograph with a component from elsewhere."""

    image: Image  # (H, W, 3)
    mask: NDArray[np.bool_]  # (H, W) where it was replaced
    parameters: dict[str, Any]


def transplant(
    photo: Photo, component: str, rng: np.random.Generator, donor: Photo, source: Source
) -> Transplant:
    """Replace a component by the donor's, by itself at another size, or by the person's other eye or brow."""
    if component == "hair":
        return _transplant_hair(photo, rng, donor)
    strength, opacity = _draw_strengths(rng)
    clone = pick(rng, CLONES)
    fit = pick(rng, FITS) if source == "donor" else "loose"
    mirrored = bool(rng.random() < MIRRORED_SHARE) if source == "donor" else source == "other side"
    scale = float(rng.choice([rng.uniform(0.7, 0.86), rng.uniform(1.15, 1.4)])) if source == "scaled" else 1.0
    turn = float(rng.normal(0, 0.06)) if source == "scaled" else 0.0
    slip = rng.uniform(-1, 1, (2, 3)) * [0.06, 0.06, 0.05 * photo.eye_distance] * (fit == "loose")
    regions = draw_regions(photo, component, rng, sided=source == "donor")
    parts = regions.parts
    if source == "other side" and parts:
        parts = (parts[int(rng.integers(len(parts)))],)
    theirs, ours = (region_polygons(face.landmarks, component) for face in (donor, photo))
    edited, mask = photo.image.copy(), np.zeros(photo.shape, bool)
    for part in parts:
        target = np.concatenate([ours[side] for side in part.sides])
        if source == "scaled":
            matrix = _scaled(target, scale, turn)
        else:
            matrix = _placement(theirs, target, component, part.sides, mirrored, fit)
        matrix = _slipped(matrix, target.mean(0), slip)
        _insert(edited, mask, part, warp(donor.image, matrix, part.box), strength, opacity, clone)
    drawn = {"colour_match": strength, "opacity": opacity, "clone": clone, "fit": fit, "mirrored": mirrored}
    return Transplant(
        edited, mask, drawn | ({"scale": scale} if source == "scaled" else {}) | regions.parameters
    )


def _draw_strengths(rng: np.random.Generator) -> tuple[float, float]:
    """Strength of the colour match and opacity of the part, both 0..1."""
    unmatched, translucent = rng.random(2) < (UNMATCHED_SHARE, TRANSLUCENT_SHARE)
    strength = rng.uniform(0.0, 0.4) if unmatched else rng.uniform(0.6, 1.0)
    return float(strength), float(rng.uniform(0.6, 0.9)) if translucent else 1.0


def _insert(
    edited: Image,
    mask: NDArray[np.bool_],
    part: Part,
    other: Image,
    strength: float,
    opacity: float,
    clone: str,
) -> None:
    """Blend `other` (the part's window) into `edited` and set `mask` where it did, both in place."""
    box = part.box
    other = match_colour(other, edited[box], part.alpha, strength)
    edited[box] = paste(edited[box], other, part.alpha * np.float32(opacity), clone=clone)
    mask[box] |= part.alpha > MASKED


def _placement(
    theirs: list[Points], target: Points, component: str, sides: tuple[int, ...], mirrored: bool, fit: str
) -> Matrix:
    """The transform of the donor's component onto the target's; a mirrored one swaps left and right."""
    if not mirrored:
        source = np.concatenate([theirs[side] for side in sides])
        return _fit(source, target, fit)
    flip = np.array([-1, 1], np.float32)
    if len(theirs) == 2:
        source = np.concatenate([theirs[1 - side] for side in sides])
    else:
        points = theirs[0]
        source = points[(_MIRROR_START[component] - np.arange(len(points))) % len(points)]
    matrix = _fit(source * flip, target, fit)
    matrix[:, 0] *= -1
    return matrix


def _fit(source: Points, target: Points, fit: str) -> Matrix:
    plain = similarity(source, target)
    if fit != "affine":
        return plain
    # Relative to the mean, for the conditioning of the least squares.
    centre = source.mean(0, dtype=np.float64)
    system = np.column_stack([source - centre, np.ones(len(source))])
    solved = np.linalg.lstsq(system, target.astype(np.float64), rcond=None)[0].T
    scales = np.linalg.svd(solved[:, :2], compute_uv=False)
    if scales[1] <= 0 or scales[0] > _MOST_STRETCH * scales[1] or np.linalg.det(solved[:, :2]) <= 0:
        return plain
    solved[:, 2] -= solved[:, :2] @ centre
    return np.asarray(solved, np.float64)


def _scaled(target: Points, scale: float, turn: float) -> Matrix:
    """A component scaled and rotated (radians) about its own centre."""
    cosine, sine = scale * np.cos(turn), scale * np.sin(turn)
    linear = np.array([[cosine, -sine], [sine, cosine]])
    centre = target.mean(0, dtype=np.float64)
    return np.column_stack([linear, centre - linear @ centre])


def _slipped(matrix: Matrix, centre: Points, slip: NDArray[np.float64]) -> Matrix:
    """The transform followed by a small affine map about the component's centre."""
    after = np.eye(2) + slip[:, :2]
    moved = after @ matrix
    moved[:, 2] += centre - after @ centre + slip[:, 2]
    return np.asarray(moved, np.float64)


def _transplant_hair(photo: Photo, rng: np.random.Generator, donor: Photo) -> Transplant:
    """Another person's hair where both have hair, or all of it; the inner face is left out."""
    strength, opacity = _draw_strengths(rng)
    whole = bool(rng.random() < 0.4)
    growth, sigma = float(rng.uniform(0.0, 0.04)), draw_feather(rng, 0.1)
    everywhere = (slice(0, photo.shape[0]), slice(0, photo.shape[1]))
    oval = region_polygons(photo.landmarks, "face")[0]
    matrix = similarity(region_polygons(donor.landmarks, "face")[0], oval)
    size = photo.shape[::-1]
    theirs = np.asarray(cv2.warpAffine(donor.hair, matrix, size, borderMode=cv2.BORDER_CONSTANT), np.uint8)
    hair = np.maximum(photo.hair, theirs) if whole else np.minimum(photo.hair, theirs)
    inner = oval.mean(0) + (oval - oval.mean(0)) * np.array([0.86, 0.9], np.float32)
    hair[fill([inner], everywhere, 0) > 0] = 0
    hair = np.where(hair > 127, np.uint8(255), np.uint8(0))
    edited, mask = photo.image.copy(), np.zeros(photo.shape, bool)
    unit = photo.eye_distance
    part = raster_part(photo, "hair", hair, growth * unit, sigma * unit)
    if part is not None:
        _insert(edited, mask, part, warp(donor.image, matrix, part.box), strength, opacity, "alpha")
    return Transplant(edited, mask, {"colour_match": strength, "opacity": opacity, "whole_hair": whole})
