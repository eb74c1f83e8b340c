"""One alignment for training and inference: a similarity transform from five points to a square crop."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PILImage

from forgerank.types import Image, Points

# Mean five points of frontal portraits and of their mirror images, in a unit square that holds the whole
# head with its hair.
TEMPLATE = np.array(
    [[0.3665, 0.472], [0.6335, 0.472], [0.5, 0.641], [0.3805, 0.744], [0.6195, 0.744]], dtype=np.float32
)

MIRRORED_POINTS = (1, 0, 2, 4, 3)  # the five points with left and right exchanged

FACE_CENTRE = np.array([0.5, 0.56], dtype=np.float32)  # of the unit square: stays in place under a zoom

# Face Mesh vertices: rims of the eyes, tip of the nose, corners of the mouth.
_IMAGE_LEFT_EYE = (33, 133, 159, 145, 160, 144, 158, 153)
_IMAGE_RIGHT_EYE = (263, 362, 386, 374, 387, 373, 385, 380)
_NOSE_TIP, _IMAGE_LEFT_MOUTH, _IMAGE_RIGHT_MOUTH = 1, 61, 291


def five_points(landmarks: Points) -> Points:
    """The five points of a 468-point mesh, (468, 2) -> (5, 2), in the order of `Detection.points`."""
    return np.stack(
        [
            landmarks[list(_IMAGE_LEFT_EYE)].mean(0),
            landmarks[list(_IMAGE_RIGHT_EYE)].mean(0),
            landmarks[_NOSE_TIP],
            landmarks[_IMAGE_LEFT_MOUTH],
            landmarks[_IMAGE_RIGHT_MOUTH],
        ]
    ).astype(np.float32)


def quarter_turns(roll: float) -> int:
    """How often `numpy.rot90` turns an image until a face of this roll in degrees stands upright: 0..3.

    >>> [quarter_turns(roll) for roll in (-20, 80, 170, -170, -90)]
    [0, 1, 2, 2, 3]
    """
    return round(roll / 90.0) % 4


def brighter_on_the_left(image: Image) -> bool:
    """Whether an image (H, W, 3) is brighter in its left half than in its right one.

    Where it is, the models are shown its mirror image: a face and its mirror image so get one answer.
    """
    half = image.shape[1] // 2
    return bool(image[:, :half].sum(dtype=np.int64) > image[:, -half:].sum(dtype=np.int64))


def turned_back(points: NDArray[Any], turn: int, shape: tuple[int, ...]) -> NDArray[Any]:
    """Points (K, 2) of `numpy.rot90(image, turn)` as points of the image, which has the shape (H, W, ...).

    >>> turned_back(np.array([[1.0, 2.0]]), 2, (10, 20))
    array([[19.,  8.]])
    """
    for number in range(turn):
        width = shape[1] if (turn - number) % 2 else shape[0]
        points = np.column_stack([width - points[:, 1], points[:, 0]])
    return points


@dataclass(frozen=True, slots=True)
class Alignment:
    """Image <-> aligned crop. Pixel centres lie at integer + 0.5, as in Pillow's transforms."""

    matrix: NDArray[np.float64]  # (2, 3), image x, y -> crop x, y, both in pixels
    size: int  # side of the crop, pixels

    @property
    def scale(self) -> float:
        """Crop pixels per image pixel."""
        return math.sqrt(abs(float(np.linalg.det(self.matrix[:, :2]))))

    @property
    def reduction(self) -> int:
        """How many times smaller an image may be made before it is sampled: 2 for a crop of half its size."""
        return max(1, math.floor(1.0 / self.scale + 1e-6))  # half a size is 2 in spite of rounding

    def opencv_matrix(self) -> NDArray[np.float64]:
        """The matrix (2, 3) for `cv2.warpAffine`, whose pixel centres lie at whole numbers."""
        matrix = self.matrix.copy()
        matrix[:, 2] += matrix[:, :2] @ np.full(2, 0.5) - 0.5
        return matrix

    def to_crop(self, points: Points) -> Points:
        """Image points (K, 2) -> crop points (K, 2)."""
        return self._to_crop(points).astype(np.float32)

    def _to_crop(self, points: NDArray[Any]) -> NDArray[np.float64]:
        return np.asarray(points @ self.matrix[:, :2].T + self.matrix[:, 2])

    def to_image(self, points: Points) -> Points:
        """Crop points (K, 2) -> image points (K, 2)."""
        inverse = self._inverse()
        return (points @ inverse[:, :2].T + inverse[:, 2]).astype(np.float32)

    def crop(self, image: Image) -> Image:
        """The aligned crop, (size, size, 3); black where the image ends.

        Of an image turned by quarters, or of one on its head, it is the same as of the upright image.
        """
        turn = quarter_turns(-math.degrees(math.atan2(self.matrix[1, 0], self.matrix[0, 0])))
        if turn:
            corners = np.array([[0, 0], [1, 0], [0, 1]], dtype=np.float64)
            origin, right, down = self._to_crop(turned_back(corners, turn, image.shape))
            matrix = np.column_stack([right - origin, down - origin, origin])
            return Alignment(matrix, self.size).crop(np.rot90(image, turn))
        # A bicubic look-up alone would alias when a large face shrinks to the crop.
        factor = self.reduction
        left, top, right, bottom = self._reach(image, factor)
        if left >= right or top >= bottom:
            return np.zeros((self.size, self.size, 3), dtype=np.uint8)
        part = image[top:bottom, left:right]
        # `reduce` counts its blocks from the left: so that a mirror image has the mirrored ones, they are
        # counted from the darker side.
        mirrored = factor > 1 and brighter_on_the_left(part)
        if mirrored:
            width = image.shape[1]
            right = width - (width - right) // factor * factor
            left = max(0, width + (left - width) // factor * factor)
            part = image[top:bottom, left:right][:, ::-1]
            left -= (left - right) % factor  # where a whole block would begin
        pil = PILImage.fromarray(np.ascontiguousarray(part))
        if factor > 1:
            pil = pil.reduce(factor)
        if mirrored:
            pil = pil.transpose(PILImage.Transpose.FLIP_LEFT_RIGHT)
        to_image = self._inverse()
        to_image[:, 2] -= (left, top)
        to_image /= factor
        return np.asarray(self._sample(pil, to_image, PILImage.Resampling.BICUBIC))

    def _reach(self, image: Image, factor: int) -> tuple[int, int, int, int]:
        """The part of an image that its crop at 1 / `factor` can depend on: left, top, right, bottom."""
        corners = np.array([[0, 0], [self.size, 0], [0, self.size], [self.size, self.size]], dtype=np.float32)
        points = self.to_image(corners)
        limit = np.array([image.shape[1], image.shape[0]])
        # Whole blocks of `reduce`, and a margin for the interpolation.
        low = np.floor(points.min(axis=0) / factor - 4).astype(int) * factor
        high = np.ceil(points.max(axis=0) / factor + 4).astype(int) * factor
        (left, top), (right, bottom) = np.clip(low, 0, limit), np.clip(high, 0, limit)
        return int(left), int(top), int(right), int(bottom)

    def covered(self, shape: tuple[int, ...]) -> NDArray[np.bool_]:
        """Where the crop shows the image (H, W, ...) and not what lies beyond its border, (size, size)."""
        inverse, centres = self._inverse(), np.arange(self.size) + 0.5
        x, y = (row[0] * centres + row[1] * centres[:, None] + row[2] for row in inverse)
        return np.asarray((x >= 0) & (x < shape[1]) & (y >= 0) & (y < shape[0]))

    def crop_mask(self, mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A label image (H, W) under the same transform, nearest neighbour, 0 outside."""
        return np.asarray(
            self._sample(PILImage.fromarray(mask), self._inverse(), PILImage.Resampling.NEAREST)
        )

    def paste(self, values: NDArray[np.float32], shape: tuple[int, int]) -> NDArray[np.float32]:
        """A map over the crop, (size, size), laid back over the image (H, W); 0 outside the crop."""
        laid = PILImage.fromarray(values.astype(np.float32)).transform(
            (shape[1], shape[0]),
            PILImage.Transform.AFFINE,
            data=tuple(self.matrix.ravel()),
            resample=PILImage.Resampling.BILINEAR,
        )
        return np.asarray(laid)

    def _sample(
        self, image: PILImage.Image, inverse: NDArray[np.float64], resample: PILImage.Resampling
    ) -> PILImage.Image:
        """The crop out of an image; `inverse` takes crop pixels to its pixels."""
        return image.transform(
            (self.size, self.size),
            PILImage.Transform.AFFINE,
            data=tuple(inverse.ravel()),
            resample=resample,
        )

    def _inverse(self) -> NDArray[np.float64]:
        linear = np.linalg.inv(self.matrix[:, :2])
        return np.column_stack([linear, -linear @ self.matrix[:, 2]])


def estimate_alignment(points: Points, size: int, zoom: float = 1.0) -> Alignment:
    """The alignment that takes five points (5, 2) of an image to the template at `size` pixels.

    zoom: how many times larger the face stands in the crop than in one of the whole head. Raises ValueError
    where the points coincide, so that no transform exists.
    """
    template = FACE_CENTRE + (TEMPLATE - FACE_CENTRE) * np.float32(zoom) if zoom != 1.0 else TEMPLATE
    return Alignment(similarity(points, template * np.float32(size)), size)


def whole_image(shape: tuple[int, int], size: int) -> Alignment:
    """In place of an alignment: the whole image of `shape` (H, W), resized to a square of `size` pixels."""
    height, width = shape
    return Alignment(np.array([[size / width, 0.0, 0.0], [0.0, size / height, 0.0]]), size)


def similarity(source: Points, target: Points) -> NDArray[np.float64]:
    """Least-squares similarity transform (Umeyama 1991) of points (K, 2) onto points (K, 2), as (2, 3).

    Raises ValueError where the source points coincide.
    """
    source_mean, target_mean = source.mean(0, dtype=np.float64), target.mean(0, dtype=np.float64)
    centred = source - source_mean
    variance = float((centred**2).sum() / len(source))
    if not math.isfinite(variance) or variance < 1e-6:
        raise ValueError("the points to align coincide")
    covariance = (target - target_mean).T @ centred / len(source)
    left, singular, right = np.linalg.svd(covariance)
    # A mirror image is no similarity: the smallest direction turns instead.
    sign = np.array([1.0, np.sign(np.linalg.det(left) * np.linalg.det(right)) or 1.0])
    linear = float((singular * sign).sum()) / variance * (left @ np.diag(sign) @ right)
    return np.column_stack([linear, target_mean - linear @ source_mean])
