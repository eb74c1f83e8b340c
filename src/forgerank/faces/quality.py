"""What decides whether a face can be judged: size, sharpness, exposure and pose."""

import math

import numpy as np
from numpy.typing import NDArray

from forgerank.faces.align import Alignment
from forgerank.faces.boxes import Box
from forgerank.faces.regions import face_oval, fill_polygons
from forgerank.types import Image, Points, Quality

CROP_SIZE = 224  # pixels of the aligned crop on which sharpness and exposure are measured
_DARK, _BRIGHT = 2, 253  # grey levels at or beyond which a pixel is clipped
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601

# Mirrored Face Mesh vertices that expressions hardly move: eye corners, sides of the head, cheeks, nostrils.
_LEFT, _RIGHT = (33, 133, 127, 234, 93, 129), (263, 362, 356, 454, 323, 358)
# Vertices down the middle, forehead to chin, whose line is upright in depth in faces that look straight ahead
# (measured on studio portraits: median pitch within 1 degree).
_TOP, _BOTTOM = (10, 151, 9, 8), (2, 164, 199, 175)


_WINDOW = 256  # pixels of the face's middle that are measured, at most
_INNER = 0.36  # of the face's longer side: half the side of that window
_COARSEST = 100.0  # pixels of a face: where it is smaller, no coarser scale is measured
_LAPLACIAN_OF_NOISE = 0.6745 * math.sqrt(20)  # median of its amount over the deviation of white noise
_FINE, _COARSE = 2.0, 10.0  # grey levels: the histogram of a photograph looks the same to both deviations
_CONTRAST = 0.28  # of the deviation of the luma, which the coarse one is at most
_GRIDS = np.arange(3, 33, 0.25)  # pixels between the lines of a mosaic, which may have been scaled


def measure_quality(
    image: Image,
    crop: Image,
    alignment: Alignment,
    landmarks: Points,
    depth: NDArray[np.float32],
    box: Box,
) -> Quality:
    """Quality of a face from its aligned crop, its mesh (468, 2), the mesh's depth (468,) and its box.

    `image` (H, W, 3) is what the face lies in. Sharpness and exposure are measured in the crop, at
    `CROP_SIZE`, over the pixels inside the face's outline, so they compare across images; a small face is
    enlarged for it and so counts as blurred.
    """
    luma = crop.astype(np.float32) @ _LUMA  # (side, side)
    outline = fill_polygons([alignment.to_crop(face_oval(landmarks))], (CROP_SIZE, CROP_SIZE))
    inside = outline & alignment.covered(image.shape)
    x0, y0, x1, y1 = box
    yaw, pitch, roll = head_pose(landmarks, depth)
    return Quality(
        size=max(x1 - x0, y1 - y0),
        sharpness=_laplacian_variance(luma, inside),
        brightness=float(luma[inside].mean()) / 255.0 if inside.any() else 0.0,
        clipped=float(((luma <= _DARK) | (luma >= _BRIGHT))[inside].mean()) if inside.any() else 1.0,
        yaw=yaw,
        pitch=pitch,
        roll=roll,
        **reduction(image, landmarks),
    )


def reduction(image: Image, landmarks: Points) -> dict[str, float]:
    """What tells a photograph from one that was reduced to dots, few levels or blocks: the fields `grain`,
    `noise`, `flat`, `steps` and `blocks` of `Quality`.

    Measured in the middle of the face (468, 2) on the pixels of the image (H, W, 3) itself, because a crop
    averages dots away; grain also at every half of that size, as dots may be large.
    """
    low, high = landmarks.min(axis=0), landmarks.max(axis=0)
    side, (x, y) = float((high - low).max()), (low + high) / 2
    grain, measures = 0.0, {"noise": 0.0, "flat": 0.0, "steps": 0.0, "blocks": 0.0}
    factor = 1
    while factor == 1 or side / factor >= _COARSEST:
        half = min(_INNER * side, _WINDOW / 2 * factor)
        window = image[max(0, int(y - half)) : int(y + half), max(0, int(x - half)) : int(x + half)]
        rows, columns = window.shape[0] // factor, window.shape[1] // factor
        if min(rows, columns) < 16:
            break
        parts = window[: rows * factor, : columns * factor].reshape(rows, factor, columns, factor, 3)
        luma = parts.mean(axis=(1, 3), dtype=np.float32) @ _LUMA
        laplacian = _laplacian(luma)
        grain = max(grain, float(laplacian.var()) / (float(luma.var()) + 1e-3))
        if factor == 1:
            noise = float(np.median(np.abs(laplacian))) / _LAPLACIAN_OF_NOISE
            near = _neighbours(luma)
            measures = {"noise": noise, "flat": _flat(near), "steps": _steps(near), "blocks": _blocks(luma)}
        factor *= 2
    return {"grain": grain, **measures}


def _neighbours(luma: NDArray[np.float32]) -> NDArray[np.float32]:
    """The 3 x 3 pixels about each one, (9, H - 2, W - 2)."""
    rows, columns = luma.shape[0] - 2, luma.shape[1] - 2
    return np.stack([luma[i : i + rows, j : j + columns] for i in range(3) for j in range(3)])


def _flat(near: NDArray[np.float32]) -> float:
    """The share of pixels, of `_neighbours`, that equal all about them."""
    return float((near.max(axis=0) - near.min(axis=0) <= 1.0).mean())


def _steps(near: NDArray[np.float32]) -> float:
    """How far the histogram lies in lumps: the distance, 0..2, between its fine and its coarse smoothing.

    The median of `_neighbours` first undoes what a save in JPEG or a change of size adds beside the levels.
    What is clipped is left out, up to half of it: too much light is no sign of few levels.
    """
    median = np.median(near, axis=0)
    middle = median[(median > _DARK) & (median < _BRIGHT)]
    if len(middle) < median.size / 2:
        return float(2 * (1 - len(middle) / median.size))  # black and white are lumps
    coarse = min(_COARSE, _CONTRAST * float(middle.std()))
    if coarse <= _FINE:
        return 0.0
    shares = np.histogram(middle, np.arange(_DARK + 1, _BRIGHT + 1))[0] / len(middle)
    return float(np.abs(_smoothed(shares, _FINE) - _smoothed(shares, coarse)).sum())


def _smoothed(shares: NDArray[np.float64], deviation: float) -> NDArray[np.float64]:
    reach = np.arange(-4 * math.ceil(deviation), 4 * math.ceil(deviation) + 1)
    weights = np.exp(-0.5 * (reach / deviation) ** 2)
    padded = np.pad(shares, len(reach) // 2, mode="symmetric")  # clipping is an edge, and no lump
    return np.convolve(padded, weights / weights.sum(), mode="valid")


def _blocks(luma: NDArray[np.float32]) -> float:
    """The highest ratio over all square grids and their places; those of JPEG count half."""
    gradients = [np.abs(np.diff(luma, axis=axis)).mean(axis=1 - axis) for axis in (0, 1)]
    highest = 0.0
    for period in _GRIDS:
        if min(map(len, gradients)) < 4 * period:
            break
        ratio = min(_at_lines(gradient, period) for gradient in gradients)
        of_jpeg = abs(period - 8 * round(period / 8)) < _GRIDS[1] - _GRIDS[0]
        highest = max(highest, ratio / 2 if of_jpeg else ratio)
    return highest


def _at_lines(gradient: NDArray[np.float32], period: float) -> float:
    """The mean gradient at the best place of lines `period` apart, over that everywhere."""
    place = np.floor(np.arange(len(gradient)) % period).astype(np.intp)
    counts = np.bincount(place)
    means = np.bincount(place, gradient) / counts
    # Of a period that is no whole number, the last place is less than a pixel: too few gradients fall there.
    whole = counts >= len(gradient) / period / 2
    return float(means[whole].max() / (gradient.mean() + 1e-6))


def head_pose(landmarks: Points, depth: NDArray[np.float32]) -> tuple[float, float, float]:
    """Yaw, pitch and roll in degrees from the mesh (468, 2) and its depth (468,), signs as in `Quality`."""
    mesh = np.column_stack([landmarks, depth]).astype(np.float64)  # (468, 3): right, down, away
    across = (mesh[list(_RIGHT)] - mesh[list(_LEFT)]).mean(axis=0)
    down = mesh[list(_BOTTOM)].mean(axis=0) - mesh[list(_TOP)].mean(axis=0)
    roll = math.atan2(across[1], across[0])
    yaw = math.atan2(across[2], math.hypot(across[0], across[1]))
    down_in_image = -math.sin(roll) * down[0] + math.cos(roll) * down[1]
    pitch = math.atan2(-down[2], down_in_image)
    return math.degrees(yaw), math.degrees(pitch), math.degrees(roll)


def _laplacian_variance(luma: NDArray[np.float32], inside: NDArray[np.bool_]) -> float:
    """Variance of the four-neighbour Laplacian over the pixels inside, (grey levels)^2."""
    values = _laplacian(luma)[inside[1:-1, 1:-1]]
    return float(values.var()) if values.size else 0.0


def _laplacian(luma: NDArray[np.float32]) -> NDArray[np.float32]:
    centre = luma[1:-1, 1:-1]
    return np.asarray(luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:] - 4.0 * centre)
