"""Component regions from the 468-point mesh: polygons for the face, a colour-refined mask for the hair."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PILImage
from PIL import ImageDraw, ImageFilter

from forgerank.types import Image, Points

# Face Mesh vertices in drawing order.
OVAL = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377,
    152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
)  # fmt: skip
NOSE = (
    168, 417, 351, 412, 399, 420, 360, 358, 294, 327, 326, 2, 97,
    98, 64, 129, 131, 198, 174, 188, 122, 193,
)  # fmt: skip
LIPS = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146)
EYES = (
    (33, 246, 161, 160, 159, 158, 157, 173, 133, 155, 154, 153, 145, 144, 163, 7),
    (263, 466, 388, 387, 386, 385, 384, 398, 362, 382, 381, 380, 374, 373, 390, 249),
)
EYEBROWS = (
    (46, 53, 52, 65, 55, 107, 66, 105, 63, 70),
    (276, 283, 282, 295, 285, 336, 296, 334, 293, 300),
)

# Hair is looked for in the head: the oval enlarged about its centre, and never below the mouth.
_HEAD_WIDTH, _HEAD_TOP = 1.5, 2.0
_WORKING_HEIGHT = 140  # pixels from forehead to chin at which hair is segmented
Mask = NDArray[np.bool_]


def component_polygons(landmarks: Points) -> dict[str, list[Points]]:
    """Polygons (K, 2) in pixels for nose, eye, eyebrow and lip; hair has none, see `component_masks`."""
    return {
        "nose": [landmarks[list(NOSE)]],
        "eye": [landmarks[list(eye)] for eye in EYES],
        "eyebrow": [landmarks[list(brow)] for brow in EYEBROWS],
        "lip": [landmarks[list(LIPS)]],
    }


def face_oval(landmarks: Points) -> Points:
    """Outline of the face, (36, 2) pixels, from the forehead's middle clockwise."""
    return landmarks[list(OVAL)]


def fill_polygons(polygons: list[Points], shape: tuple[int, int]) -> Mask:
    """Filled polygons as a mask (H, W)."""
    canvas = PILImage.new("1", (shape[1], shape[0]))
    draw = ImageDraw.Draw(canvas)
    for polygon in polygons:
        draw.polygon([(float(x), float(y)) for x, y in polygon], fill=1)
    return np.asarray(canvas)


def component_masks(image: Image, landmarks: Points) -> dict[str, Mask]:
    """Masks (H, W) of the five components, in the order of `labels.COMPONENTS`."""
    shape = image.shape[:2]
    masks = {name: fill_polygons(polygons, shape) for name, polygons in component_polygons(landmarks).items()}
    masks["hair"] = hair_mask(image, landmarks)
    return masks


def head_region(landmarks: Points, shape: tuple[int, int]) -> Mask:
    """Where hair can be: the head around and above the face oval, down to the mouth, without the face."""
    oval = face_oval(landmarks)
    up = _up_axis(landmarks)
    right = np.array([-up[1], up[0]], dtype=np.float32)
    centre = (landmarks[10] + landmarks[152]) / 2
    offsets = oval - centre
    along_up, along_right = offsets @ up, offsets @ right
    mouth = float((landmarks[13] - centre) @ up)
    stretched = np.where(along_up > 0, along_up * _HEAD_TOP, np.maximum(along_up, mouth))
    outline = centre + np.outer(stretched, up) + np.outer(along_right * _HEAD_WIDTH, right)
    inner = fill_polygons([_shrink(oval, 0.97)], shape)
    return fill_polygons([outline.astype(np.float32)], shape) & ~inner


def hair_mask(image: Image, landmarks: Points) -> Mask:
    """Hair, (H, W): the head region where its colour is nearer to that of the band above the forehead
    than to the background at the sides or to the skin of the cheeks. Large heads are judged reduced.
    """
    shape = image.shape[:2]
    mask = np.zeros(shape, dtype=bool)
    low, high = _window(landmarks, shape)
    if (high <= low).any():
        return mask
    factor = max(1, round(_face_height(landmarks) / _WORKING_HEIGHT))
    window = PILImage.fromarray(np.ascontiguousarray(image[low[1] : high[1], low[0] : high[0]]))
    small = _segment_hair(window.reduce(factor), ((landmarks - low) / factor).astype(np.float32))
    grey = PILImage.fromarray(small.astype(np.uint8) * 255)
    full = grey.resize((grey.width * factor, grey.height * factor), PILImage.Resampling.BILINEAR)
    inside = np.asarray(full)[: window.height, : window.width] > 127
    mask[low[1] : high[1], low[0] : high[0]] = inside
    return mask


def _segment_hair(image: PILImage.Image, landmarks: Points) -> Mask:
    shape = (image.height, image.width)
    head = head_region(landmarks, shape)
    band = head & _crown_band(landmarks, shape, 0.06, 0.30)
    if not band.any():
        return band
    colours = np.asarray(image.filter(ImageFilter.BoxBlur(1)), dtype=np.float32)
    skin = _distance(colours, fill_polygons([_shrink(face_oval(landmarks), 0.7)], shape))
    rim = _background_rim(shape) & ~_dilate(head, 5)
    # Background is seldom one colour: a pixel is dropped only where the rim explains it clearly better.
    other = np.minimum(skin, _distance(colours, rim) + 1.0) if rim.sum() >= 50 else skin
    # The band may hold forehead or backdrop beside hair: its half that is least like them starts the model.
    finite = np.where(np.isfinite(other), other, 0.0)
    keep = band & (finite >= np.median(finite[band]))
    for _ in range(2):
        hair = _distance(colours, keep)
        keep = head & (hair < other)
        if keep.sum() < 0.3 * band.sum():
            return band  # where colour says nothing (a hat, a wig like the backdrop) it is the honest guess
    scalp = head & _crown_band(landmarks, shape, 0.06, 0.18)
    seen = scalp.any() and rim.any()  # neither, where the image ends at the face
    if seen and (skin < hair)[scalp].mean() > 0.7 and (hair < other)[rim].mean() > 0.1:
        return scalp  # a bald head: what was taken for hair is backdrop
    return _majority(keep) & head


def _window(landmarks: Points, shape: tuple[int, int]) -> tuple[NDArray[np.int_], NDArray[np.int_]]:
    """Corners x, y of the part of the image that holds the head and some background beside it."""
    oval = face_oval(landmarks)
    centre, reach = oval.mean(0), 1.5 * _face_height(landmarks)
    limit = np.array([shape[1], shape[0]])
    low = np.clip(np.floor(centre - reach), 0, limit).astype(int)
    return low, np.clip(np.ceil(centre + reach), 0, limit).astype(int)


def _face_height(landmarks: Points) -> float:
    return float(np.linalg.norm(landmarks[10] - landmarks[152]))


def _up_axis(landmarks: Points) -> Points:
    axis = landmarks[10] - landmarks[152]
    return np.asarray(axis / max(float(np.linalg.norm(axis)), 1e-6), dtype=np.float32)


def _shrink(polygon: Points, factor: float) -> Points:
    centre = polygon.mean(0)
    return np.asarray(centre + (polygon - centre) * factor, dtype=np.float32)


def _crown_band(landmarks: Points, shape: tuple[int, int], start: float, end: float) -> Mask:
    """A band from one to another share of the face's height above the forehead, where hair most often is."""
    top = landmarks[[21, 54, 103, 67, 109, 10, 338, 297, 332, 284, 251]]
    height = _face_height(landmarks)
    up = _up_axis(landmarks)
    lower, upper = top + up * start * height, top + up * end * height
    return fill_polygons([np.concatenate([lower, upper[::-1]]).astype(np.float32)], shape)


def _background_rim(shape: tuple[int, int]) -> Mask:
    """The image's upper and side margins: the lower one shows clothes."""
    rim = np.zeros(shape, dtype=bool)
    margin = max(2, round(0.04 * max(shape)))
    half = shape[0] // 2
    rim[:margin] = True
    rim[:half, :margin] = True
    rim[:half, -margin:] = True
    return rim


def _distance(image: NDArray[np.float32], region: Mask) -> NDArray[np.float32]:
    """Half the negative log-likelihood of every pixel under a Gaussian fitted to the region's colours."""
    if region.sum() < 8:
        return np.full(image.shape[:2], np.inf, dtype=np.float32)
    colours = image[region]
    centre = np.median(colours, axis=0)
    covariance = np.cov((colours - centre).T) + 60.0 * np.eye(3)
    inverse = np.linalg.inv(covariance)
    offset = image - centre
    mahalanobis = ((offset @ inverse.astype(np.float32)) * offset).sum(axis=-1)
    return np.asarray((mahalanobis + np.log(np.linalg.det(covariance))) / 2, dtype=np.float32)


def _dilate(mask: Mask, radius: int) -> Mask:
    return _box_mean(mask, radius) > 0


def _majority(mask: Mask) -> Mask:
    """The median of each 5 x 5 window, which for two values is what most of it holds."""
    return _box_mean(mask, 2) > 127


def _box_mean(mask: Mask, radius: int) -> NDArray[np.uint8]:
    return np.asarray(PILImage.fromarray(mask.astype(np.uint8) * 255).filter(ImageFilter.BoxBlur(radius)))
