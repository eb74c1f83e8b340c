"""Faces of frames that follow each other: a quick look at each, a thorough one where that may not do."""

import numpy as np
from PIL import Image as PILImage

from forgerank.faces.analyze import FaceAnalyzer
from forgerank.faces.boxes import Box, Floats, overlaps
from forgerank.faces.detect import BlazeFaceDetector, suppress
from forgerank.types import Detection, Face, Image

_SMALLEST = 48.0  # pixels: smaller faces of a video are not looked for, since 64 are needed to judge one
_THOROUGH_EVERY = 2.5  # seconds: a small face that enters unnoticed is found this late
_SEEN = 0.1  # IoU with a face that was found
_THUMBNAIL = 32  # pixels, long side
# Correlation of the thumbnails of two frames, under which the scene changed. A fast pan falls below as well,
# which costs time and nothing else.
_SAME_SCENE = 0.7


class FaceFollower:
    """Finds the faces of the sampled frames of one video, which must come in order."""

    def __init__(self, analyzer: FaceAnalyzer) -> None:
        self._analyzer = analyzer
        self._boxes: list[Box] = []  # of the frame before
        self._thumbnail: Floats | None = None
        self._thorough_at = float("-inf")  # seconds

    def find(self, image: Image, time: float) -> tuple[list[Face], bool]:
        """Faces of a frame (H, W, 3), biggest first, and whether the scene changed. `time` in seconds.

        Every frame is searched whole for faces of about 8 % of its long side and more, and where smaller ones
        were before. For all of at least 48 pixels it is searched every 2.5 seconds, when the scene changes
        and when a face is gone.
        """
        thumbnail = _thumbnail(image)
        cut = self._thumbnail is not None and _correlation(thumbnail, self._thumbnail) < _SAME_SCENE
        thorough = cut or not 0 <= time - self._thorough_at < _THOROUGH_EVERY
        faces = [] if thorough else self._analyzer.confirm(image, self._quick(image))
        if thorough or len(faces) < len(self._boxes):
            faces = self._analyzer.confirm(image, self._thorough(image))
            self._thorough_at = time
        self._boxes = [face.box for face in faces]
        self._thumbnail = thumbnail
        return faces, cut

    def _thorough(self, image: Image) -> list[Detection]:
        detector = self._analyzer.detector
        if isinstance(detector, BlazeFaceDetector):
            return detector.detect(image, smallest=_SMALLEST)
        return detector.detect(image)

    def _quick(self, image: Image) -> list[Detection]:
        detector = self._analyzer.detector
        if not isinstance(detector, BlazeFaceDetector):
            return detector.detect(image)
        found = detector.glance(image)
        for box in self._boxes:
            boxes = np.array([face.box for face in found], dtype=np.float32).reshape(-1, 4)
            if not (overlaps(np.array(box, dtype=np.float32), boxes) > _SEEN).any():
                found = suppress(found + detector.look(image, box))
        return found


def _thumbnail(image: Image) -> Floats:
    """Grey levels of a frame drawn tiny, without their mean and of unit length."""
    step = max(1, max(image.shape) // (8 * _THUMBNAIL))  # an eighth of the way by leaving pixels out
    sparse = PILImage.fromarray(np.ascontiguousarray(image[::step, ::step]))
    grey = sparse.reduce(max(1, max(sparse.size) // _THUMBNAIL)).convert("L")
    values = np.asarray(grey, dtype=np.float32).ravel()
    values = values - values.mean()
    return np.asarray(values / max(float(np.linalg.norm(values)), 1e-6), dtype=np.float32)


def _correlation(thumbnail: Floats, before: Floats) -> float:
    """0 for frames of different shapes: a hostile file may turn its frames as it goes."""
    return float((thumbnail * before).sum()) if thumbnail.shape == before.shape else 0.0
