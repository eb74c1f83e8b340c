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
_SPIKE = 9  # grey levels over which the histogram of a photograph is smooth
_GRIDS = range(3, 33)  # pixels between the lines of a mosaic


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
    `flat`, `steps` and `blocks` of `Quality`.

    Measured in the middle of the face (468, 2) on the pixels of the image (H, W, 3) itself, because a crop
    averages dots away; grain also at every half of that size, as dots may be large.
    """
    low, high = landmarks.min(axis=0), landmarks.max(axis=0)
    side, (x, y) = float((high - low).max()), (low + high) / 2
    grain, measures = 0.0, {"flat": 0.0, "steps": 0.0, "blocks": 0.0}
    factor = 1
    while factor == 1 or side / factor >= _COARSEST:
        half = min(_INNER * side, _WINDOW / 2 * factor)
        window = image[max(0, int(y - half)) : int(y + half), max(0, int(x - half)) : int(x + half)]
        rows, columns = window.shape[0] // factor, window.shape[1] // factor
        if min(rows, columns) < 16:
            break
        parts = window[: rows * factor, : columns * factor].reshape(rows, factor, columns, factor, 3)
        luma = parts.mean(axis=(1, 3), dtype=np.float32) @ _LUMA
        grain = max(grain, float(_laplacian(luma).var()) / (float(luma.var()) + 1e-3))
        if factor == 1:
            steps = min(_steps(window[..., channel]) for channel in range(3))
            measures = {"flat": _flat(luma), "steps": steps, "blocks": _blocks(luma)}
        factor *= 2
    return {"grain": grain, **measures}


def _flat(luma: NDArray[np.float32]) -> float:
    rows, columns = luma.shape[0] - 2, luma.shape[1] - 2
    near = np.stack([luma[i : i + rows, j : j + columns] for i in range(3) for j in range(3)])
    return float((near.max(axis=0) - near.min(axis=0) <= 1.0).mean())


def _steps(channel: NDArray[np.uint8]) -> float:
    """Mass of a histogram above or below its running mean: 2 for lonely levels, 0 for a smooth one."""
    counts = np.bincount(channel.ravel(), minlength=256).astype(np.float64)
    smooth = np.convolve(counts, np.full(_SPIKE, 1 / _SPIKE), mode="same")
    return float(np.abs(counts - smooth).sum() / counts.sum())


def _blocks(luma: NDArray[np.float32]) -> float:
    """The highest ratio over both directions, all grids and their places; those of JPEG count half."""
    highest = 0.0
    for axis in (0, 1):
        gradient = np.abs(np.diff(luma, axis=axis)).mean(axis=1 - axis)
        for period in _GRIDS:
            if len(gradient) < 3 * period:
                break
            whole = gradient[: len(gradient) // period * period].reshape(-1, period)
            ratio = float(whole.mean(axis=0).max() / (gradient.mean() + 1e-6))
            highest = max(highest, ratio / 2 if period % 8 == 0 else ratio)
    return highest


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
