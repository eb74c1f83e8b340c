"""Warps of one face onto another by landmarks: similarity, affine map or thin-plate spline."""

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from forgerank.faces.align import similarity
from forgerank.faces.regions import OVAL
from forgerank.forge.blend import Window
from forgerank.forge.face_masks import hull
from forgerank.forge.photos import Photo
from forgerank.types import Image, Points

_BENDING = 0.09  # eye distances: mean misfit of the affine map above which a spline would fold the face
# Control points of a warp: half of the outline, corners and rims of eyes, brows, nose and lips.
_CONTROL = (
    *OVAL[::2], 33, 133, 159, 145, 263, 362, 386, 374, 70, 105, 107, 300, 334, 336,
    168, 1, 129, 358, 2, 61, 291, 0, 17, 13, 14,
)  # fmt: skip


def correspondence(photo: Photo, donor: Photo, kind: str) -> tuple[Callable[[Window], Points], Points]:
    """A function that maps a window of the target to donor pixels (h, w, 2), and the donor's outline (K, 2)
    on the target. kind: "similarity", "affine" or "mesh".
    """
    ours, theirs = photo.landmarks[list(_CONTROL)], donor.landmarks[list(_CONTROL)]
    outline = hull(donor.landmarks, "forehead")
    matrix = similarity(theirs, ours)
    if kind != "similarity":
        padded = np.column_stack([theirs, np.ones(len(theirs))])
        affine = np.linalg.lstsq(padded, ours.astype(np.float64), rcond=None)[0].T
        misfit = np.abs(theirs @ affine[:, :2].T + affine[:, 2] - ours).mean() / photo.eye_distance
        if kind == "mesh" and misfit < _BENDING:
            cell = int(np.clip(photo.eye_distance / 7, 4, 12))
            spline = _spline(ours, theirs, photo.eye_distance)
            return (lambda box: _on_grid(spline, box, cell)), hull(photo.landmarks, "forehead")
        # Between heads turned too differently, an affine map would squeeze the face.
        stretch = np.linalg.svd(affine[:, :2], compute_uv=False)
        if stretch[1] > 0.65 * stretch[0]:
            matrix = affine
    inverse = np.asarray(cv2.invertAffineTransform(matrix), dtype=np.float64)
    return (lambda box: _affine_grid(inverse, box)), (outline @ matrix[:, :2].T + matrix[:, 2]).astype(
        np.float32
    )


def sample_donor(donor: Photo, field: Points, photo: Photo) -> Image:
    """The donor's image at the points of `field` (h, w, 2); reduced first where it is much larger."""
    image = donor.image
    ratio = photo.eye_distance / max(donor.eye_distance, 1.0)
    if ratio < 0.7:
        low, high = field.min((0, 1)), field.max((0, 1))
        left, top = np.clip(np.floor(low).astype(int) - 4, 0, None)
        right, bottom = np.maximum(np.ceil(high).astype(int) + 5, (left + 8, top + 8))
        image = image[top:bottom, left:right]
        height, width = image.shape[:2]
        size = (max(2, round(width * ratio)), max(2, round(height * ratio)))
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA))
        scale = np.array([size[0] / width, size[1] / height], np.float32)
        field = (field - np.array([left, top], np.float32) + np.float32(0.5)) * scale - np.float32(0.5)
    across, down = cv2.split(field)
    return np.asarray(cv2.remap(image, across, down, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101))


def warp(image: Image, matrix: NDArray[np.float64], box: Window) -> Image:
    """The window `box` of an image after an affine map (2, 3)."""
    shifted = matrix - np.array([[0, 0, box[1].start], [0, 0, box[0].start]])
    size = (box[1].stop - box[1].start, box[0].stop - box[0].start)
    return np.asarray(
        cv2.warpAffine(image, shifted, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
    )


def _spline(source: Points, target: Points, unit: float) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """Thin-plate spline (Bookstein 1989) from points (n, 2) to points (n, 2), slightly regularised."""
    centre, count = source.mean(0), len(source)
    nodes = (source - centre).astype(np.float64) / unit
    system = np.zeros((count + 3, count + 3))
    system[:count, :count] = _radial(nodes, nodes) + 0.02 * np.eye(count)
    system[:count, count] = system[count, :count] = 1
    system[:count, count + 1 :], system[count + 1 :, :count] = nodes, nodes.T
    weights = np.linalg.solve(system, np.concatenate([target, np.zeros((3, 2))]))
    bends, flat = weights[:count].astype(np.float32), weights[count:].astype(np.float32)
    nodes32 = nodes.astype(np.float32)

    def apply(points: NDArray[Any]) -> NDArray[Any]:
        scaled = ((points - centre) / unit).astype(np.float32)
        return np.asarray(_radial(scaled, nodes32) @ bends + flat[0] + scaled @ flat[1:])

    return apply


def _radial(points: NDArray[Any], nodes: NDArray[Any]) -> NDArray[Any]:
    """r^2 log r between points (m, 2) and nodes (n, 2), as (m, n)."""
    squared = ((points[:, None] - nodes) ** 2).sum(-1)
    return np.asarray(0.5 * squared * np.log(squared + 1e-9))


def _on_grid(transform: Callable[[NDArray[Any]], NDArray[Any]], box: Window, cell: int) -> Points:
    """A transform at every pixel of a window (h, w, 2), computed every `cell` pixels and interpolated."""
    height, width = box[0].stop - box[0].start, box[1].stop - box[1].start
    # A cell more on every side: the outer half of a cell is not interpolated.
    down, across = -(-height // cell) + 2, -(-width // cell) + 2
    rows, columns = np.mgrid[0:down, 0:across] * cell - 0.5 * (cell + 1)
    nodes = np.column_stack([columns.ravel() + box[1].start, rows.ravel() + box[0].start])
    coarse = transform(nodes).astype(np.float32).reshape(down, across, 2)
    fine = cv2.resize(coarse, (across * cell, down * cell), interpolation=cv2.INTER_LINEAR)
    return np.ascontiguousarray(fine[cell : cell + height, cell : cell + width])


def _affine_grid(matrix: NDArray[np.float64], box: Window) -> Points:
    """An affine map at every pixel of a window (h, w, 2)."""
    across = np.outer(np.arange(box[1].start, box[1].stop), matrix[:, 0])
    down = np.outer(np.arange(box[0].start, box[0].stop), matrix[:, 1]) + matrix[:, 2]
    return across.astype(np.float32) + down.astype(np.float32)[:, None]
