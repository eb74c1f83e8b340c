"""RetinaFace (Deng et al., CVPR 2020) with weights from a file of the user: priors, decoding, suppression."""

import itertools
from functools import cached_property, lru_cache
from math import ceil
from pathlib import Path

import numpy as np
import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors
from PIL import Image as PILImage

from forgerank.faces.boxes import Floats, non_maximum_suppression
from forgerank.faces.models import session_options
from forgerank.types import Detection, Image, InputError

STEPS = (8, 16, 32)
MIN_SIZES = ((16, 32), (64, 128), (256, 512))
VARIANCES = (0.1, 0.2)
MEAN_BGR = (104.0, 117.0, 123.0)

_ORT_ERRORS = (
    ort_errors.Fail,
    ort_errors.InvalidArgument,
    ort_errors.InvalidGraph,
    ort_errors.InvalidProtobuf,
    ort_errors.NoSuchFile,
    ort_errors.NotImplemented,
    ort_errors.RuntimeException,
)


class RetinaFaceDetector:
    """RetinaFace with the common three-level layout, weights from an ONNX file.

    The graph takes (1, 3, H, W) float32 BGR minus its mean and gives, in any order, boxes (1, P, 4), class
    probabilities after the softmax (1, P, 2) and landmarks (1, P, 10) for the P priors of the input. A graph
    with fixed H and W gets the image scaled to fit and padded; one with free axes gets it with a long side
    of at most `max_side` pixels.
    """

    def __init__(
        self,
        weights: str | Path,
        *,
        min_score: float = 0.6,
        overlap: float = 0.4,
        max_side: int = 1280,
        threads: int = 1,
    ) -> None:
        self._weights = Path(weights)
        self._min_score, self._overlap, self._max_side, self._threads = min_score, overlap, max_side, threads
        if not self._weights.is_file():
            raise InputError(f"{weights}: no such RetinaFace weights file")

    @cached_property
    def _session(self) -> ort.InferenceSession:
        try:
            session = ort.InferenceSession(
                str(self._weights), session_options(self._threads), providers=["CPUExecutionProvider"]
            )
        except _ORT_ERRORS:
            raise InputError(f"{self._weights}: not an ONNX model") from None
        inputs, outputs = session.get_inputs(), session.get_outputs()
        if len(inputs) != 1 or len(inputs[0].shape) != 4 or len(outputs) != 3:
            raise InputError(f"{self._weights}: not a RetinaFace graph (one image in, three outputs)")
        return session

    def detect(self, image: Image) -> list[Detection]:
        """See `FaceDetector.detect`. Raises InputError where the file is no RetinaFace of this layout."""
        height, width, scale = self._input_size(image.shape[0], image.shape[1])
        pixels = _prepare(image, height, width, scale)
        locations, confidences, landmarks = self._run(pixels)
        priors = retinaface_priors(height, width)
        if len(priors) != len(locations):
            raise InputError(f"{self._weights}: gives {len(locations)} boxes, RetinaFace has {len(priors)}")
        scores = confidences[:, 1]
        keep = scores >= self._min_score
        size = np.array([width, height], dtype=np.float32)
        boxes = decode_boxes(locations[keep], priors[keep]) * np.tile(size, 2) / scale
        points = decode_landmarks(landmarks[keep], priors[keep]) * size / scale
        scores = scores[keep]
        return [
            Detection(
                (float(boxes[i, 0]), float(boxes[i, 1]), float(boxes[i, 2]), float(boxes[i, 3])),
                float(scores[i]),
                points[i].astype(np.float32),
            )
            for i in non_maximum_suppression(boxes, scores, threshold=self._overlap)
        ]

    def smallest(self, shape: tuple[int, ...]) -> float:
        """See `FaceDetector.smallest`: the smallest prior box."""
        return MIN_SIZES[0][0] / self._input_size(shape[0], shape[1])[2]

    def _input_size(self, height: int, width: int) -> tuple[int, int, float]:
        """Height, width and scale of the model's input for an image."""
        fixed_height, fixed_width = self._session.get_inputs()[0].shape[2:]
        if isinstance(fixed_height, int) and isinstance(fixed_width, int):
            return fixed_height, fixed_width, min(fixed_height / height, fixed_width / width)
        scale = min(1.0, self._max_side / max(height, width))
        return max(1, round(height * scale)), max(1, round(width * scale)), scale

    def _run(self, pixels: Floats) -> tuple[Floats, Floats, Floats]:
        """Boxes (P, 4), class probabilities (P, 2), landmarks (P, 10), recognised by their width."""
        try:
            outputs = self._session.run(None, {self._session.get_inputs()[0].name: pixels})
        except _ORT_ERRORS:
            raise InputError(f"{self._weights}: does not take a (1, 3, H, W) float32 image") from None
        by_width = {output.shape[-1]: output[0] for output in outputs if output.ndim == 3}
        if set(by_width) != {2, 4, 10}:
            raise InputError(f"{self._weights}: outputs are not (1, P, 4), (1, P, 2) and (1, P, 10)")
        return by_width[4], by_width[2], by_width[10]


@lru_cache(maxsize=8)  # one input size for each size of image, 36 ms at 1280 x 720
def retinaface_priors(height: int, width: int) -> Floats:
    """Priors (P, 4) of an input: centre x, y, width, height as shares of it; level by level, row by row.

    Computed once per input size and shared: the array is read-only.
    """
    parts = []
    for step, sizes in zip(STEPS, MIN_SIZES, strict=True):
        cells = itertools.product(range(ceil(height / step)), range(ceil(width / step)))
        for (row, column), size in itertools.product(cells, sizes):
            centre = ((column + 0.5) * step / width, (row + 0.5) * step / height)
            parts.append((*centre, size / width, size / height))
    priors = np.array(parts, dtype=np.float32)
    priors.setflags(write=False)
    return priors


def decode_boxes(locations: Floats, priors: Floats) -> Floats:
    """Offsets (K, 4) against priors (K, 4) -> boxes x0, y0, x1, y1 (K, 4) as shares of the input."""
    centres = priors[:, :2] + locations[:, :2] * VARIANCES[0] * priors[:, 2:]
    halves = priors[:, 2:] * np.exp(locations[:, 2:] * VARIANCES[1]) / 2
    return np.concatenate([centres - halves, centres + halves], axis=1).astype(np.float32)


def decode_landmarks(offsets: Floats, priors: Floats) -> Floats:
    """Offsets (K, 10) against priors (K, 4) -> five points (K, 5, 2) as shares of the input."""
    pairs = offsets.reshape(-1, 5, 2)
    return (priors[:, None, :2] + pairs * VARIANCES[0] * priors[:, None, 2:]).astype(np.float32)


def _prepare(image: Image, height: int, width: int, scale: float) -> Floats:
    """The image at `scale` in the top left corner of the input, BGR minus the mean, (1, 3, H, W)."""
    rows = min(height, max(1, round(image.shape[0] * scale)))
    columns = min(width, max(1, round(image.shape[1] * scale)))
    small = PILImage.fromarray(image).resize((columns, rows), PILImage.Resampling.BILINEAR, reducing_gap=2.0)
    bgr = np.asarray(small, dtype=np.float32)[:, :, ::-1]
    pixels = np.zeros((height, width, 3), dtype=np.float32)  # zero is the mean colour
    pixels[:rows, :columns] = bgr - np.array(MEAN_BGR, dtype=np.float32)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)[None])
