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


def measure_quality(
    crop: Image,
    alignment: Alignment,
    shape: tuple[int, int],
    landmarks: Points,
    depth: NDArray[np.float32],
    box: Box,
) -> Quality:
    """Quality of a face from its aligned crop, its mesh (468, 2), the mesh's depth (468,) and its box.

    `shape` is (H, W) of the image. Sharpness and exposure are measured in the crop, at `CROP_SIZE`, over the
    pixels inside the face's outline, so they compare across images; a small face is enlarged for it and so
    counts as blurred.
    """
    luma = crop.astype(np.float32) @ _LUMA  # (side, side)
    outline = fill_polygons([alignment.to_crop(face_oval(landmarks))], (CROP_SIZE, CROP_SIZE))
    inside = outline & (alignment.crop_mask(np.ones(shape, dtype=np.uint8)) > 0)
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
    )


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
    centre = luma[1:-1, 1:-1]
    laplacian = luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:] - 4.0 * centre
    values = laplacian[inside[1:-1, 1:-1]]
    return float(values.var()) if values.size else 0.0
