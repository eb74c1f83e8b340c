"""What decides whether a face can be judged: size, sharpness, exposure, pose, light, colours, reduction."""

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PILImage
from PIL import ImageFilter

from forgerank.faces.align import Alignment
from forgerank.faces.boxes import Box
from forgerank.faces.reduction import BRIGHT, DARK, LUMA, laplacian, reduction
from forgerank.faces.regions import face_oval, fill_polygons
from forgerank.types import Image, Points, Quality

CROP_SIZE = 224  # pixels of the aligned crop on which sharpness and exposure are measured

# Mirrored Face Mesh vertices that expressions hardly move: eye corners, sides of the head, cheeks, nostrils.
_LEFT, _RIGHT = (33, 133, 127, 234, 93, 129), (263, 362, 356, 454, 323, 358)
# Vertices down the middle, forehead to chin, whose line is upright in depth in faces that look straight ahead
# (measured on studio portraits: median pitch within 1 degree).
_TOP, _BOTTOM = (10, 151, 9, 8), (2, 164, 199, 175)

# Of the aligned crop, whose eyes and mouth are always in one place.
_FINEST_SHADE, _SHADE = 2.0, 12.0  # pixels: deviations of the blurs that leave details, and light and shade
_EYE_ROWS, _CHEEK_ROWS = slice(88, 112), slice(122, 146)
_EYE_COLUMNS = slice(64, 102), slice(122, 160)  # brows and lids are in them
_CHEEK_COLUMNS = slice(60, 98), slice(126, 164)
_BLOCK = 4  # pixels of the crop's blocks whose colours are compared
_FEWEST_BLOCKS = 50
_TONES = 4  # degree of the polynomial that tells a tone from its luma


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
    luma = crop.astype(np.float32) @ LUMA  # (side, side)
    outline = fill_polygons([alignment.to_crop(face_oval(landmarks))], (CROP_SIZE, CROP_SIZE))
    inside = outline & alignment.covered(image.shape)
    x0, y0, x1, y1 = box
    yaw, pitch, roll = head_pose(landmarks, depth)
    return Quality(
        size=max(x1 - x0, y1 - y0),
        sharpness=_laplacian_variance(luma, inside),
        brightness=float(luma[inside].mean()) / 255.0 if inside.any() else 0.0,
        clipped=float(((luma <= DARK) | (luma >= BRIGHT))[inside].mean()) if inside.any() else 1.0,
        yaw=yaw,
        pitch=pitch,
        roll=roll,
        **reduction(image, landmarks),
        **light_and_shade(crop, inside),
        **colourfulness(crop, inside),
    )


def light_and_shade(crop: Image, inside: NDArray[np.bool_]) -> dict[str, float]:
    """What tells a photograph from a relief, a drawing of edges or a negative: the fields `shade` and `eyes`
    of `Quality`, of the aligned crop (`CROP_SIZE`, `CROP_SIZE`, 3) and where in it the face is seen.

    In a photograph most of the contrast is light and shade over the whole face, and eyes and brows are darker
    than the cheek below them, whatever the skin; that both sides are compared cancels light from one.
    """
    if not inside.any():
        return {}
    grey = PILImage.fromarray(crop).convert("L")
    finest, shade = (
        np.asarray(grey.filter(ImageFilter.GaussianBlur(radius)), dtype=np.float32)
        for radius in (_FINEST_SHADE, _SHADE)
    )
    contrast = float(finest[inside].std()) + 1.0
    lighter = [
        float(finest[_EYE_ROWS, eye].mean() - finest[_CHEEK_ROWS, cheek].mean())
        for eye, cheek in zip(_EYE_COLUMNS, _CHEEK_COLUMNS, strict=True)
    ]
    return {"shade": float(shade[inside].std()) / contrast, "eyes": sum(lighter) / 2 / contrast}


def colourfulness(crop: Image, inside: NDArray[np.bool_]) -> dict[str, float]:
    """What tells a photograph in colour from one in black and white, or toned: the fields `colours` and
    `tone` of `Quality`, of the aligned crop (`CROP_SIZE`, `CROP_SIZE`, 3) and where in it the face is seen.

    Of a toned photograph, luma tells the colour: `tone` is the deviation of what a polynomial of it fits of
    the differences between blue or red and luma, `colours` that of the rest, over blocks that leave out what
    noise and a save in JPEG add.
    """
    whole = _block_means(inside[..., None].astype(np.float32))[..., 0] == 1
    colours = _block_means(crop.astype(np.float32))[whole]  # (n, 3)
    luma = colours @ LUMA
    unclipped = (luma > DARK) & (luma < BRIGHT)
    colours, luma = colours[unclipped], luma[unclipped]
    if len(luma) < _FEWEST_BLOCKS:
        return {}
    powers = np.vander(luma.astype(np.float64) / 127.5 - 1, _TONES + 1)
    differences = colours[:, ::2].astype(np.float64) - luma[:, None]
    fit = powers @ np.linalg.lstsq(powers, differences, rcond=None)[0]
    return {
        "colours": math.sqrt(float(((differences - fit) ** 2).sum(axis=1).mean())),
        "tone": math.sqrt(float(fit.var(axis=0).sum())),
    }


def _block_means(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Of pixels (H, W, C), sides multiples of `_BLOCK`, (H / `_BLOCK`, W / `_BLOCK`, C)."""
    height, width = (side // _BLOCK for side in pixels.shape[:2])
    return np.asarray(pixels.reshape(height, _BLOCK, width, _BLOCK, -1).mean(axis=(1, 3)))


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
    values = laplacian(luma)[inside[1:-1, 1:-1]]
    return float(values.var()) if values.size else 0.0
