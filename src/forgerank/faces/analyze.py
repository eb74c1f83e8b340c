"""Faces of an image with landmarks and quality, in one call."""

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from forgerank.faces.align import estimate_alignment, five_points, turned_back
from forgerank.faces.boxes import Box, overlaps
from forgerank.faces.detect import DETECTORS, BlazeFaceDetector, FaceDetector
from forgerank.faces.landmarks import LandmarkModel, Mesh, eye_line, upright_turn
from forgerank.faces.quality import CROP_SIZE, measure_quality
from forgerank.faces.retinaface import RetinaFaceDetector
from forgerank.types import Detection, Face, Image, InputError, Points

T = TypeVar("T")
U = TypeVar("U")

# Log-odds of the mesh model. Of 645 real faces, down to 32 pixels, none scored below 6.1; of 60 places that
# the detector took for one, in textures, clothes and turned images, none above 3.6.
_MIN_SCORE = 5.0
# Faces in deep shadow, behind a hand, from the side, or smeared by a forgery score less, but the detector is
# sure of them, and both models place eyes and nose alike: mean distance as a share of that between the eyes.
# Of 232 images that showed no face by the first score alone, 76 show one so, and 8 of 1,450 others one more,
# all of them faces; of 31 places in twenty pictures without a face, in four turns, none.
_MIN_AGREED_SCORES = 1.0, 0.6  # of the mesh model, log-odds; of the detector, 0..1
_SAME_PLACE = 0.25
# Of a face that is sought where the others stand upright: a place that is none, one in 1,110 real
# photographs, scored 5.8, and of 25 such faces none scored below 6.4.
_MIN_SCORE_NOT_UPRIGHT = 6.0
_SAME = 0.3  # overlap of two meshes of one face; one that the wrong way up is fitted beside it has 0.4
_MAX_DISAGREEMENT = (
    45.0  # degrees between detector and mesh; of real faces, 99 % are within 26, all within 34
)


class FaceAnalyzer:
    """Detector, mesh and quality; the models are opened on first use and then kept."""

    def __init__(
        self, detector: str = "blazeface", detector_weights: str | Path | None = None, *, threads: int = 1
    ) -> None:
        """`detector` names one of `DETECTORS`; only retinaface takes weights, and needs them.

        On several `threads` the faces of an image are measured side by side; a network of its own has one,
        but for retinaface.

        Raises InputError for an unknown detector, for missing weights, and for weights that it does not take.
        """
        self.detector = _make_detector(detector, detector_weights, threads)
        self._landmarks = LandmarkModel()
        self._threads = threads

    def each(self, work: Callable[[T], U], items: Sequence[T]) -> list[U]:
        """What `work` returns for each of the items, in their order; on several threads, side by side."""
        if self._threads == 1 or len(items) < 2:
            return [work(item) for item in items]
        # Made anew each time, in a fraction of a millisecond: a process that is forked has none of the
        # threads of one that was kept, and would wait for them for ever.
        with ThreadPoolExecutor(self._threads, "faces") as pool:
            return list(pool.map(work, items))

    def analyze(self, image: Image) -> list[Face]:
        """Faces of an RGB image (H, W, 3), biggest first; only those that the mesh model confirms.

        An image that lies on its side or stands on its head, by its largest face or because it shows none as
        it is, is searched turned upright as well: the faces are those of the upright image, in its own
        pixels. Beside them, those on their side or head are looked for, from 15 % of the image's long side
        on.
        """
        found, upright = self._find(image, self.detector.detect, 0)
        return self._faces(image, _distinct([*found, *self._not_upright(image, found, upright)]))

    def analyze_turned(
        self, image: Image, detect: Callable[[Image], list[Detection]], turn: int = 0
    ) -> tuple[list[Face], int]:
        """As `analyze`, with a detector's search of one's own; and how often `numpy.rot90` turns the image
        until it stands upright, where `turn` is the first guess.
        """
        found, upright = self._find(image, detect, turn)
        return self._faces(image, found), upright

    def _find(
        self, image: Image, detect: Callable[[Image], list[Detection]], turn: int
    ) -> tuple[list["_Found"], int]:
        found = self._confirmed(image, self.detect_turned(image, detect, turn))
        upright = self._turn(image, found, turn)
        if upright != turn:
            found = _distinct([*self._confirmed(image, self.detect_turned(image, detect, upright)), *found])
        return found, upright

    def _not_upright(self, image: Image, found: Sequence["_Found"], upright: int) -> list["_Found"]:
        """Faces on their side or head where those that were found stand upright; none where none was."""
        if not found or not isinstance(self.detector, BlazeFaceDetector):
            return []
        known = np.array([detection.box for detection, _ in found])
        turned = self.detect_turned(image, self.detector.detect_not_upright, upright)
        new = [face for face in turned if overlaps(np.array(face.box), known).max() <= _SAME]
        return self._confirmed(image, new, _MIN_SCORE_NOT_UPRIGHT)

    def detect_turned(
        self, image: Image, detect: Callable[[Image], list[Detection]], turn: int
    ) -> list[Detection]:
        """What `detect` finds in the image, turned so often by `numpy.rot90`, in pixels of the image."""
        if not turn:
            return detect(image)
        turned = np.ascontiguousarray(np.rot90(image, turn))
        return [_turned_back(face, turn, image.shape) for face in detect(turned)]

    def _turn(self, image: Image, found: Sequence["_Found"], tried: int) -> int:
        """How often `numpy.rot90` turns the image until its largest face stands upright."""
        if found:
            _, mesh = max(found, key=lambda pair: _side(pair[0]))
            return upright_turn(five_points(mesh.landmarks))
        best, score = tried, -math.inf
        for turn in sorted({0, 1, 2, 3} - {tried}):
            upright = np.ascontiguousarray(np.rot90(image, turn))
            for _, mesh in self._confirmed(upright, self._glance(upright)):
                if mesh.score > score and not upright_turn(five_points(mesh.landmarks)):
                    best, score = turn, mesh.score
        return best

    def _glance(self, image: Image) -> list[Detection]:
        if isinstance(self.detector, BlazeFaceDetector):
            return self.detector.detect_large(image)
        return self.detector.detect(image)

    def largest(self, image: Image) -> Points | None:
        """Landmarks (468, 2) of the largest face, in pixels; None without one.

        Faster than `analyze` where a face fills a good part of the image, as in most data sets: all scales
        are searched only where none does.
        """
        quick = self.detector.detect_portrait(image) if isinstance(self.detector, BlazeFaceDetector) else []
        for detection in sorted(quick, key=_side, reverse=True)[:1]:
            mesh = self._landmarks.landmarks(image, detection)
            if _agree(detection, mesh):
                return mesh.landmarks
        faces = self.analyze(image)
        return faces[0].landmarks if faces else None

    def confirm(self, image: Image, detections: list[Detection]) -> list[Face]:
        """The detections that the mesh model confirms as faces, with landmarks and quality, biggest first."""
        return self._faces(image, self._confirmed(image, detections))

    def _confirmed(
        self, image: Image, detections: Sequence[Detection], least: float = -math.inf
    ) -> list["_Found"]:
        """The detections that the mesh model confirms, with a score of at least `least`; each face once."""
        meshes = self.each(partial(self._landmarks.landmarks, image), detections)
        pairs = zip(detections, meshes, strict=True)
        return _distinct([pair for pair in pairs if pair[1].score >= least and _agree(*pair)])

    def _faces(self, image: Image, found: Sequence["_Found"]) -> list[Face]:
        faces = self.each(lambda pair: _face(image, *pair), found)
        return sorted(faces, key=lambda face: -face.quality.size)


_Found = tuple[Detection, Mesh]


def _agree(detection: Detection, mesh: Mesh) -> bool:
    """Whether both models see a face, and in one direction, whichever way up; where the mesh model is not
    sure of it alone, with eyes and nose in one place.
    """
    points = five_points(mesh.landmarks)
    if mesh.score >= _MIN_SCORE:
        apart = math.degrees(eye_line(points) - eye_line(detection.points)) % 180
        return min(apart, 180 - apart) <= _MAX_DISAGREEMENT
    if mesh.score < _MIN_AGREED_SCORES[0] or detection.score < _MIN_AGREED_SCORES[1]:
        return False
    across = max(float(np.linalg.norm(five[1] - five[0])) for five in (points, detection.points))
    distances = np.linalg.norm(points[:3] - detection.points[:3], axis=1)
    return float(distances.mean()) <= _SAME_PLACE * across


def _distinct(found: Sequence[_Found]) -> list[_Found]:
    """Each face once, the first of those that are the same."""
    kept: list[_Found] = []
    for detection, mesh in found:
        if not any(_same_face(mesh, other) for _, other in kept):
            kept.append((detection, mesh))
    return kept


def _turned_back(detection: Detection, turn: int, shape: tuple[int, ...]) -> Detection:
    """A detection in `numpy.rot90(image, turn)` as one in the image of this shape."""
    points = turned_back(detection.points, turn, shape).astype(np.float32)
    return Detection(turned_back_box(detection.box, turn, shape), detection.score, points)


def turned_back_box(box: Box, turn: int, shape: tuple[int, ...]) -> Box:
    """A box in `numpy.rot90(image, turn)` as one in the image of this shape."""
    corners = turned_back(np.reshape(box, (2, 2)), turn, shape)
    (x0, y0), (x1, y1) = corners.min(axis=0), corners.max(axis=0)
    return float(x0), float(y0), float(x1), float(y1)


def _make_detector(name: str, weights: str | Path | None, threads: int) -> FaceDetector:
    if name not in DETECTORS:
        raise InputError(f"unknown face detector {name!r}; choose from {', '.join(sorted(DETECTORS))}")
    if name == "retinaface":
        if weights is None:
            raise InputError("the retinaface detector needs its weights: --detector-weights FILE.onnx")
        return RetinaFaceDetector(weights, threads=threads)
    if weights is not None:
        raise InputError(f"{weights}: the {name} detector takes no weights file")
    return BlazeFaceDetector()


def _face(image: Image, detection: Detection, mesh: Mesh) -> Face:
    height, width = image.shape[:2]
    x0, y0, x1, y1 = detection.box
    box = (max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height)))
    alignment = estimate_alignment(five_points(mesh.landmarks), CROP_SIZE)
    crop = alignment.crop(image)
    quality = measure_quality(image, crop, alignment, mesh.landmarks, mesh.depth, box)
    return Face(box, detection.score, mesh.landmarks, quality, crop)


def _same_face(mesh: Mesh, other: Mesh) -> bool:
    """Two detections whose boxes differ can still lead the mesh to one face."""
    return float(overlaps(np.array(_extent(mesh)), np.array([_extent(other)]))[0]) > _SAME


def _side(detection: Detection) -> float:
    x0, y0, x1, y1 = detection.box
    return max(x1 - x0, y1 - y0)


def _extent(mesh: Mesh) -> Box:
    (x0, y0), (x1, y1) = mesh.landmarks.min(axis=0), mesh.landmarks.max(axis=0)
    return float(x0), float(y0), float(x1), float(y1)
