"""The 468-point face mesh, from a detection to image pixels."""

import math
from functools import cached_property
from typing import NamedTuple

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from PIL import Image as PILImage

from forgerank.faces.align import five_points
from forgerank.faces.models import open_embedded
from forgerank.types import Detection, Image, Points

_SIDE = 192  # input pixels
_ENLARGE = 1.5  # side of the model's view over the longer side of the face


class Mesh(NamedTuple):
    """Face Mesh of one face."""

    landmarks: Points  # (468, 2) pixels of the image
    depth: NDArray[np.float32]  # (468,) pixels of the image, smaller is nearer to the camera
    presence: float  # 0..1, how sure the model is that its view holds a face


class LandmarkModel:
    """MediaPipe's Face Mesh on ONNX Runtime."""

    def __init__(self, *, threads: int = 1) -> None:
        self._threads = threads

    @cached_property
    def _session(self) -> ort.InferenceSession:
        return open_embedded("face_landmark.onnx", threads=self._threads)

    def landmarks(self, image: Image, detection: Detection) -> Mesh:
        """The mesh of a detected face in an RGB image (H, W, 3).

        A first pass on the detector's box finds the face; a second one sees it centred and upright by the
        first mesh, which makes the points depend less on the detector (measured: a box jittered by 10 to 20 %
        moves them by 0.7 % of the distance between the eyes' outer corners, not by 1.6 %).
        """
        x0, y0, x1, y1 = detection.box
        centre = np.array([(x0 + x1) / 2, (y0 + y1) / 2])
        first = self._run(image, centre, max(x1 - x0, y1 - y0), detection.points)
        low, high = first.landmarks.min(axis=0), first.landmarks.max(axis=0)
        return self._run(image, (low + high) / 2, float((high - low).max()), five_points(first.landmarks))

    def _run(self, image: Image, centre: NDArray[np.float64], face: float, points: Points) -> Mesh:
        """One pass on a square of 1.5 times `face` pixels about `centre`, turned upright by the eyes."""
        across = points[1] - points[0]
        angle = math.atan2(float(across[1]), float(across[0]))
        scale = max(face, 1.0) * _ENLARGE / _SIDE  # image pixels per input pixel
        turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        linear = turn * scale
        corner = centre - linear @ np.full(2, _SIDE / 2)
        view = _warp(image, linear, corner, scale)
        pixels = view.astype(np.float32)[None] / 255.0  # (1, 192, 192, 3)
        values, logit = self._session.run(None, {self._session.get_inputs()[0].name: pixels})
        points_3d = values.reshape(468, 3)
        landmarks = points_3d[:, :2] @ linear.T + corner
        presence = 1.0 / (1.0 + math.exp(-min(max(float(logit.reshape(())), -80.0), 80.0)))
        return Mesh(landmarks.astype(np.float32), (points_3d[:, 2] * scale).astype(np.float32), presence)


def _warp(image: Image, linear: NDArray[np.float64], corner: NDArray[np.float64], scale: float) -> Image:
    """The model's square view of an image, image = linear @ input + corner; black outside the image."""
    corners = np.array([[0, 0], [_SIDE, 0], [0, _SIDE], [_SIDE, _SIDE]]) @ linear.T + corner
    limit = np.array([image.shape[1], image.shape[0]])
    low = np.clip(np.floor(corners.min(axis=0)).astype(int) - 2, 0, limit - 1)
    high = np.clip(np.ceil(corners.max(axis=0)).astype(int) + 2, low + 1, limit)
    patch = PILImage.fromarray(np.ascontiguousarray(image[low[1] : high[1], low[0] : high[0]]))
    factor = max(1, math.floor(scale))  # an affine look-up alone would alias a large face
    if factor > 1:
        patch = patch.reduce(factor)
    matrix = np.column_stack([linear, corner - low]) / factor
    view = patch.transform(
        (_SIDE, _SIDE),
        PILImage.Transform.AFFINE,
        data=tuple(matrix.ravel()),
        resample=PILImage.Resampling.BILINEAR,
    )
    return np.asarray(view)
