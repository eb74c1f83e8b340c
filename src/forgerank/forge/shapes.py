"""Regions of edits: drawn around a component, narrow or wide, by a rule that keeps the labels true.

The rule: an edit of one component never changes more than half of the region of another that is not edited
later in the same chain. Where a drawn mask would cover more than COVERED of a polygon of it (one brow, the
nose), that polygon is taken out of the mask, with a soft edge. So a mask around the eyes may be as wide as
one drawn by hand, and "eye" remains the complete label.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from forgerank.faces.regions import component_polygons, face_oval
from forgerank.forge.blend import Alpha, Window
from forgerank.forge.filters import pick
from forgerank.forge.photos import Photo
from forgerank.types import Points

# How far a region grows beyond its outline, in eye distances: a little, as in retouching (neighbours such as
# eye and brow still overlap), or far, as in composites made by hand, which include the skin around.
CLOSE = {"nose": (0.02, 0.14), "eye": (0.06, 0.2), "eyebrow": (0.05, 0.17), "lip": (0.03, 0.15)}
WIDE = {"nose": (0.12, 0.36), "eye": (0.18, 0.42), "eyebrow": (0.15, 0.32), "lip": (0.14, 0.42)}
WIDE_SHARE = 0.45
HAIR_GROWTH = (0.0, 0.04)
OUTLINES: Mapping[str, float] = {"polygon": 0.4, "hull": 0.2, "ellipse": 0.2, "lasso": 0.2}
# Of eyes and brows: each side by itself, one side alone, both in one band across the nose's bridge.
SIDES: Mapping[str, float] = {"each": 0.65, "one": 0.15, "band": 0.2}
# Gaussian sigma in eye distances, log-uniform: nearly hard to very soft.
FEATHER = (0.008, 0.14)
MASKED = 0.25  # alpha above which a pixel counts as manipulated
COVERED = 0.25  # share of another component's polygon that a mask may cover


class Part(NamedTuple):
    """One connected piece of an edit's region."""

    alpha: Alpha  # (h, w) in the window, 0 untouched .. 1 replaced
    box: Window
    sides: tuple[int, ...]  # which polygons of the component it holds: 0 the image's left, 1 its right


class Regions(NamedTuple):
    """The region of an edit and how it was drawn."""

    parts: tuple[Part, ...]
    parameters: dict[str, str | float]


def draw_regions(photo: Photo, component: str, rng: np.random.Generator, *, sided: bool = True) -> Regions:
    """Draw the region of one component; without parts where the image does not show it.

    sided: a paired component may be edited on one side only, or as one band.
    """
    unit = photo.eye_distance
    if component == "hair":
        growth, sigma = float(rng.uniform(*HAIR_GROWTH)), draw_feather(rng, 0.1)
        part = raster_part(photo, "hair", photo.hair, growth * unit, sigma * unit)
        return Regions((part,) if part else (), _record("hair", growth, sigma))
    wide = bool(rng.random() < WIDE_SHARE)
    growth = float(rng.uniform(*(WIDE if wide else CLOSE)[component]))
    sigma = draw_feather(rng, 0.6 * (growth + 0.05))
    outline = pick(rng, OUTLINES)
    polygons = component_polygons(photo.landmarks)[component]
    groups: list[tuple[int, ...]] = [(i,) for i in range(len(polygons))]
    layout = pick(rng, SIDES) if sided and len(polygons) > 1 else "each"
    if layout == "one":
        groups = [groups[int(rng.integers(len(groups)))]]
    elif layout == "band":
        groups, outline = [tuple(range(len(polygons)))], "ellipse" if outline == "ellipse" else "hull"
    bends = rng.normal(0, 1, (3, 2))
    parts = []
    for group in groups:
        points = np.concatenate([polygons[i] for i in group])
        shape = _outline(points, outline, photo, bends)
        part = _polygon_part(photo, component, shape, growth * unit, sigma * unit, group)
        if part is not None:
            parts.append(part)
    return Regions(tuple(parts), _record(f"{layout} {outline}", growth, sigma))


def draw_feather(rng: np.random.Generator, most: float) -> float:
    """A Gaussian sigma in eye distances, at most `most`."""
    low, high = FEATHER
    return float(np.exp(rng.uniform(math.log(low), math.log(max(low, min(high, most))))))


def raster_part(
    photo: Photo, component: str, mask: NDArray[np.uint8], growth: float, sigma: float
) -> Part | None:
    """A part from a 0/255 mask (H, W), grown and feathered by so many pixels; None where it is empty."""
    x, y, width, height = cv2.boundingRect(mask)
    if width == 0:
        return None
    sigma, radius = max(0.5, sigma), round(growth)
    box = clip_box((x, y), (x + width, y + height), radius + 3 * sigma + 2, photo.shape)
    hard = mask[box]
    if radius > 0:
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
        hard = np.asarray(cv2.dilate(hard, kernel))
    return Part(_keep_others(photo, component, _feather(hard, sigma), box), box, (0,))


def clip_box(
    low: Points | tuple[float, float],
    high: Points | tuple[float, float],
    margin: float,
    shape: tuple[int, int],
) -> Window:
    """The window between two corners x, y, with a margin, as far as the image goes; it may be empty."""
    columns, rows = (
        slice(
            min(max(math.floor(low[axis] - margin), 0), limit),
            min(max(math.ceil(high[axis] + margin), 0), limit),
        )
        for axis, limit in ((0, shape[1]), (1, shape[0]))
    )
    return rows, columns


def region_polygons(landmarks: Points, component: str) -> list[Points]:
    """Polygons (K, 2) of a component, or of the whole face for 'face'."""
    return [face_oval(landmarks)] if component == "face" else component_polygons(landmarks)[component]


def hard_size(photo: Photo, component: str) -> int:
    """How many pixels of the image show a component; 'face' is the whole oval."""
    if component == "hair":
        return int(np.count_nonzero(photo.hair))
    everywhere = (slice(0, photo.shape[0]), slice(0, photo.shape[1]))
    return int(np.count_nonzero(fill(region_polygons(photo.landmarks, component), everywhere, 0)))


def _record(outline: str, growth: float, sigma: float) -> dict[str, str | float]:
    return {"outline": outline, "growth": growth, "feather": sigma}


def _outline(points: Points, kind: str, photo: Photo, bends: NDArray[np.float64]) -> Points:
    """The outline (K, 2) before it grows: the polygon, its hull, an ellipse, or a wavy hull."""
    if kind == "polygon":
        return points
    if kind == "ellipse":
        across = photo.landmarks[263] - photo.landmarks[33]
        across = across / max(float(np.linalg.norm(across)), 1e-6)
        axes = np.stack([across, [-across[1], across[0]]])
        along = points @ axes.T
        low, high = along.min(0), along.max(0)
        turn = np.linspace(0, 2 * np.pi, 36, endpoint=False)
        ring = (low + high) / 2 + np.stack([np.cos(turn), np.sin(turn)], 1) * (high - low) / 2 * 1.15
        return np.asarray(ring @ axes, np.float32)
    hull = np.asarray(cv2.convexHull(points.astype(np.float32)), np.float32)[:, 0]
    if kind == "lasso":
        steps = np.linspace(0, 1, 4, endpoint=False)[:, None]
        between = hull[:, None] * (1 - steps) + np.roll(hull, -1, 0)[:, None] * steps
        hull = np.asarray(between, np.float32).reshape(-1, 2)
        offset = hull - hull.mean(0)
        angle = np.arctan2(offset[:, 1], offset[:, 0])
        wave = sum(a * np.cos(k * angle) + b * np.sin(k * angle) for k, (a, b) in enumerate(bends, start=1))
        hull = hull.mean(0) + offset * (1.08 + 0.09 * np.asarray(wave, np.float32))[:, None]
    return np.asarray(hull, np.float32)


def _polygon_part(
    photo: Photo, component: str, outline: Points, growth: float, sigma: float, sides: tuple[int, ...]
) -> Part | None:
    sigma, radius = max(0.5, sigma), round(growth)
    box = clip_box(outline.min(0), outline.max(0), radius + 3 * sigma + 2, photo.shape)
    hard = fill([outline], box, radius)
    if not hard.any():
        return None
    return Part(_keep_others(photo, component, _feather(hard, sigma), box), box, sides)


def fill(polygons: list[Points], box: Window, radius: int) -> NDArray[np.uint8]:
    """Filled polygons, grown by a radius in pixels, as a 0/255 mask in the window."""
    mask = np.zeros((box[0].stop - box[0].start, box[1].stop - box[1].start), np.uint8)
    if mask.size == 0:
        return mask
    for polygon in polygons:
        corners = [np.rint(polygon - (box[1].start, box[0].start)).astype(np.int32)]
        cv2.fillPoly(mask, corners, 255)
        if radius > 0:  # a thick line with round joints: ten times faster than a dilation
            cv2.polylines(mask, corners, True, 255, thickness=2 * radius + 1)
    return mask


def _feather(hard: NDArray[np.uint8], sigma: float) -> Alpha:
    soft = np.asarray(cv2.GaussianBlur(hard, (0, 0), sigma), np.float32)
    return soft / np.float32(255)


def _keep_others(photo: Photo, component: str, alpha: Alpha, box: Window) -> Alpha:
    """The alpha without the polygons of other components that it covers too much of."""
    kept = kept_out(photo, component, alpha, box)
    return alpha if kept is None else alpha * (1 - kept)


def _meets(polygon: Points, box: Window) -> bool:
    (left, top), (right, bottom) = polygon.min(0), polygon.max(0)
    return bool(right >= box[1].start and left < box[1].stop and bottom >= box[0].start and top < box[0].stop)


def kept_out(photo: Photo, component: str, alpha: Alpha, box: Window) -> Alpha | None:
    """Soft masks (h, w) of the polygons that an alpha covers more of than allowed; None without any."""
    masked = alpha > MASKED
    soft: Alpha | None = None
    edge = max(0.7, 0.02 * photo.eye_distance)
    for other, polygons in component_polygons(photo.landmarks).items():
        if other == component or other in photo.free:
            continue
        for polygon in polygons:
            if not _meets(polygon, box):
                continue
            hard = fill([polygon], box, 0)
            area = max(float(cv2.contourArea(polygon.astype(np.float32))), 1.0)
            if np.count_nonzero(masked & (hard > 0)) > COVERED * area:
                core = _feather(fill([polygon], box, math.ceil(1.5 * edge)), edge)
                soft = core if soft is None else np.maximum(soft, core)
    if component != "hair" and "hair" not in photo.free and photo.hair.any():
        hard = photo.hair[box]
        if np.count_nonzero(masked & (hard > 0)) > COVERED * np.count_nonzero(photo.hair):
            core = _feather(np.asarray(cv2.dilate(hard, np.ones((3, 3), np.uint8))), edge)
            soft = core if soft is None else np.maximum(soft, core)
    return soft
