"""Face search in the frames of a video: quick in most of them, thorough where faces may have been missed."""

import numpy as np
from PIL import Image as PILImage

from forgerank.faces.analyze import FaceAnalyzer, turned_back_box
from forgerank.faces.boxes import Box, Floats, overlaps
from forgerank.faces.detect import BlazeFaceDetector, suppress
from forgerank.types import Detection, Face, Image

_SMALLEST = 48.0  # pixels: smaller faces of a video are not looked for, since 64 are needed to judge one
_THOROUGH_EVERY = 2.5  # seconds: a small face that enters unnoticed is found this late
_FOUND = 0.1  # IoU above which a known box belongs to a face that was found
_THUMBNAIL = 32  # pixels, long side
# Correlation of the thumbnails of two frames below which the scene changed. A fast pan of the camera is below
# it as well, which costs time and nothing else.
_SAME_SCENE = 0.7


class VideoFaceSearch:
    """Finds the faces of the sampled frames of one video, which must come in order."""

    def __init__(self, analyzer: FaceAnalyzer) -> None:
        self._analyzer = analyzer
        self._boxes: list[Box] = []  # of the frame before
        self._turn = 0  # how often `numpy.rot90` turns the frames until they stand upright
        self._thumbnail: Floats | None = None
        self._thorough_at = float("-inf")  # seconds

    def find(self, image: Image, time: float) -> tuple[list[Face], bool]:
        """Faces of a frame (H, W, 3), biggest first, and whether the scene changed. `time` in seconds.

        The quick search finds faces of about 8 % of the frame's long side and more, and smaller ones near
        their place in the frame before. The thorough search finds all of at least 48 pixels: every 2.5
        seconds, when the scene changes and when a face is gone. It finds out which way up the frames are, as
        `FaceAnalyzer.analyze` does; until the next one all are searched turned upright.
        """
        thumbnail = _thumbnail(image)
        cut = self._thumbnail is not None and _correlation(thumbnail, self._thumbnail) < _SAME_SCENE
        thorough = cut or not 0 <= time - self._thorough_at < _THOROUGH_EVERY
        faces = [] if thorough else self._analyzer.confirm(image, self._quick_turned(image))
        if thorough or len(faces) < len(self._boxes):
            faces, self._turn = self._analyzer.analyze_turned(image, self._thorough, self._turn)
            self._thorough_at = time
        self._boxes = [face.box for face in faces]
        self._thumbnail = thumbnail
        return faces, cut

    def _thorough(self, image: Image) -> list[Detection]:
        detector = self._analyzer.detector
        if isinstance(detector, BlazeFaceDetector):
            return detector.detect(image, smallest=_SMALLEST)
        return detector.detect(image)

    def _quick_turned(self, image: Image) -> list[Detection]:
        def quick(upright: Image) -> list[Detection]:
            return self._quick(
                upright, [turned_back_box(box, -self._turn % 4, upright.shape) for box in self._boxes]
            )

        return self._analyzer.detect_turned(image, quick, self._turn)

    def _quick(self, image: Image, known: list[Box]) -> list[Detection]:
        detector = self._analyzer.detector
        if not isinstance(detector, BlazeFaceDetector):
            return detector.detect(image)
        found = detector.detect_large(image)
        for box in known:
            boxes = np.array([face.box for face in found], dtype=np.float32).reshape(-1, 4)
            if not (overlaps(np.array(box, dtype=np.float32), boxes) > _FOUND).any():
                found = suppress(found + detector.detect_near(image, box))
        return found


def _thumbnail(image: Image) -> Floats:
    """Grey levels of the reduced frame, zero mean, unit length."""
    step = max(1, max(image.shape) // (8 * _THUMBNAIL))  # to eight times the size, by leaving pixels out
    sparse = PILImage.fromarray(np.ascontiguousarray(image[::step, ::step]))
    grey = sparse.reduce(max(1, max(sparse.size) // _THUMBNAIL)).convert("L")
    values = np.asarray(grey, dtype=np.float32).ravel()
    values = values - values.mean()
    return np.asarray(values / max(float(np.linalg.norm(values)), 1e-6), dtype=np.float32)


def _correlation(thumbnail: Floats, before: Floats) -> float:
    """-1..1; 0 for frames of different shapes, as a hostile file may have them."""
    return float((thumbnail * before).sum()) if thumbnail.shape == before.shape else 0.0
