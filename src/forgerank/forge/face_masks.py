"""Masks of whole-face forgeries: drawn inside an outline of the face, and the components that they cover."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from forgerank.faces.regions import EYEBROWS, EYES, LIPS, NOSE, OVAL, component_polygons
from forgerank.forge.blend import Alpha, Window
from forgerank.forge.filters import pick
from forgerank.forge.photos import Photo
from forgerank.labels import COMPONENTS, Parts
from forgerank.types import Points

# Outlines of a mask, with weights: tools differ in how much of a face they replace.
HULLS: Mapping[str, float] = {
    "whole": 1.0,  # convex hull of all landmarks
    "browless": 0.7,  # without the forehead: up to the brows
    "inner": 1.3,  # convex hull of eyes, brows, nose and mouth
    "lower": 0.5,  # below the eyes
    "oval": 1.0,  # the face's outline
    "forehead": 0.6,  # the outline stretched up towards the hair
}
FEATHER = (0.02, 0.16)  # Gaussian sigma of a mask's edge, eye distances
GROWTH = 0.05  # a component's region beyond its polygon, eye distances
# Covered share of a component's region: manipulated above the first, untouched below the second.
MANIPULATED, UNTOUCHED = 0.5, 0.02
_INNER = (*NOSE, *LIPS, *EYES[0], *EYES[1], *EYEBROWS[0], *EYEBROWS[1])


class FaceMask(NamedTuple):
    """Where a face is replaced, and how the mask was drawn."""

    alpha: Alpha  # (h, w) of the window
    box: Window
    parameters: dict[str, Any]  # plain JSON values


def draw_mask(
    photo: Photo,
    rng: np.random.Generator,
    hulls: Mapping[str, float],
    *,
    shrink: bool = False,
    donor_outline: Points | None = None,
) -> FaceMask:
    """A mask inside a hull of a kind drawn from `hulls`: bent, grown or shrunk, and feathered.

    shrink: never grown. donor_outline: (K, 2) outline of the donor's face on the target; the mask stays
    inside it.
    """
    unit = photo.eye_distance
    kind = pick(rng, hulls)
    sigma = max(0.7, unit * float(np.exp(rng.uniform(*np.log(FEATHER)))))
    first = unit * float(rng.uniform(0.03, 0.14))
    # The first blur and its threshold move the edge: outwards below 0.5, inwards above.
    threshold = float(rng.uniform(0.6, 0.95) if shrink or rng.random() < 0.6 else rng.uniform(0.2, 0.6))
    bend = float(rng.uniform(0.0, 0.09)) * unit
    outline = hull(photo.landmarks, kind)
    box = _window(outline, photo.shape, round(2.5 * sigma + first + bend) + 4)
    hard = _fill([outline], box)
    if donor_outline is not None:
        hard &= _fill([donor_outline], box)
    hard *= np.uint8(255)
    rough = _blur(hard, first, lambda small: _bend(small, bend * len(small) / len(hard), rng))
    hard = np.asarray(cv2.threshold(rough, threshold * 255, 255, cv2.THRESH_BINARY)[1])
    alpha = _blur(hard, sigma).astype(np.float32) * np.float32(1 / 255)
    return FaceMask(alpha, box, {"hull": kind, "feather": sigma, "threshold": threshold})


def hull(landmarks: Points, kind: str) -> Points:
    """Outline (K, 2) in pixels of what a mask of this kind covers; `kind` is one of HULLS."""
    if kind == "oval":
        return landmarks[list(OVAL)]
    if kind == "inner":
        return _convex_hull(landmarks[list(_INNER)])
    up = landmarks[10] - landmarks[152]
    height = (landmarks - landmarks[152]) @ up / max(float(up @ up), 1e-6)  # 0 chin .. 1 forehead
    if kind == "browless":
        return _convex_hull(landmarks[height <= height[list(EYEBROWS[0] + EYEBROWS[1])].max() + 0.01])
    if kind == "lower":
        return _convex_hull(landmarks[height <= height[[145, 374]].mean()])
    if kind == "forehead":
        oval, share = landmarks[list(OVAL)], height[list(OVAL)]
        return (oval + np.outer(np.maximum(share - 0.55, 0) * 0.45, up)).astype(np.float32)
    return _convex_hull(landmarks)


def covered(photo: Photo, alpha: Alpha) -> tuple[NDArray[np.uint8], Parts]:
    """The components that a mask (H, W) covers: one bit per component and pixel (H, W), and partial labels.

    Hair is untouched or unknown: no mask of this module replaces it.
    """
    inside = (alpha > 0.25).astype(np.uint8)
    bits = np.zeros(photo.shape, np.uint8)
    known: dict[str, int | None] = {}
    grown = max(1, round(2 * GROWTH * photo.eye_distance))
    for name, polygons in component_polygons(photo.landmarks).items():
        box = _window(np.concatenate(polygons), photo.shape, grown)
        region = _fill(polygons, box)
        cv2.polylines(region, [_in_window(polygon, box) for polygon in polygons], True, 1, grown)
        size = int(np.count_nonzero(region))
        region &= inside[box]
        bits[box] |= region << np.uint8(COMPONENTS.index(name))
        share = np.count_nonzero(region) / size if size else float("nan")
        known[name] = 1 if share > MANIPULATED else 0 if share < UNTOUCHED else None
    hair = photo.hair > 127
    touched = int(np.count_nonzero(inside[hair]))
    known["hair"] = None if touched > UNTOUCHED * max(int(np.count_nonzero(hair)), 1) else 0
    return bits, tuple(known[name] for name in COMPONENTS)


def component_alpha(photo: Photo, name: str, box: Window, growth: float) -> Alpha:
    """Soft region of a component in a window, grown by `growth` eye distances."""
    polygons = component_polygons(photo.landmarks)[name]
    thick = max(1, round(2 * growth * photo.eye_distance))
    region = _fill(polygons, box)
    cv2.polylines(region, [_in_window(polygon, box) for polygon in polygons], True, 1, thick)
    return np.asarray(cv2.GaussianBlur(region.astype(np.float32), (0, 0), max(0.7, thick / 3)))


def _blur(
    hard: NDArray[np.uint8],
    sigma: float,
    before: Callable[[NDArray[np.uint8]], NDArray[np.uint8]] | None = None,
) -> NDArray[np.uint8]:
    """A Gaussian blur of a mask, at a smaller size where sigma is large; `before` is applied at that size."""
    height, width = hard.shape
    factor = 1 if sigma < 2.4 else 2 if sigma < 4.8 else 4
    small = hard
    if factor > 1:
        size = (max(2, round(width / factor)), max(2, round(height / factor)))
        small = np.asarray(cv2.resize(hard, size, interpolation=cv2.INTER_AREA))
    if before is not None:
        small = before(small)
    soft = cv2.GaussianBlur(small, (0, 0), sigma / factor, borderType=cv2.BORDER_REPLICATE)
    return np.asarray(
        soft if factor == 1 else cv2.resize(soft, (width, height), interpolation=cv2.INTER_LINEAR)
    )


def _bend(hard: NDArray[np.uint8], amount: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Elastic deformation by a smooth random field of `amount` pixels."""
    height, width = hard.shape
    cells = int(rng.integers(4, 8))
    field = rng.normal(0, amount, (cells, cells, 2)).astype(np.float32)
    field = np.asarray(cv2.resize(field, (width, height), interpolation=cv2.INTER_CUBIC))
    field[..., 0] += np.arange(width, dtype=np.float32)
    field[..., 1] += np.arange(height, dtype=np.float32)[:, None]
    across, down = cv2.split(field)
    return np.asarray(cv2.remap(hard, across, down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))


def _convex_hull(points: Points) -> Points:
    outline = cv2.convexHull(np.ascontiguousarray(points, dtype=np.float32))
    return np.asarray(outline, dtype=np.float32)[:, 0]


def _window(points: Points, shape: tuple[int, int], margin: int) -> Window:
    """The window of an image around points, at least 2 x 2 pixels."""
    low, high = np.floor(points.min(0)).astype(int) - margin, np.ceil(points.max(0)).astype(int) + margin + 1
    left, top = np.clip(low, 0, (shape[1] - 2, shape[0] - 2))
    right, bottom = np.minimum(np.maximum(high, (left + 2, top + 2)), (shape[1], shape[0]))
    return slice(int(top), int(bottom)), slice(int(left), int(right))


def _in_window(polygon: Points, box: Window) -> NDArray[np.int32]:
    return np.asarray(np.rint(polygon - np.array([box[1].start, box[0].start])), dtype=np.int32)


def _fill(polygons: list[Points], box: Window) -> NDArray[np.uint8]:
    """Filled polygons as a 0/1 mask of a window."""
    mask = np.zeros((box[0].stop - box[0].start, box[1].stop - box[1].start), np.uint8)
    for polygon in polygons:
        cv2.fillPoly(mask, [_in_window(polygon, box)], 1)
    return mask
