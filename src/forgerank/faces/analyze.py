"""Faces of an image with landmarks and quality, in one call."""

from pathlib import Path

import numpy as np

from forgerank.faces.align import estimate_alignment, five_points
from forgerank.faces.boxes import Box, overlaps
from forgerank.faces.detect import DETECTORS, BlazeFaceDetector, FaceDetector
from forgerank.faces.landmarks import LandmarkModel, Mesh
from forgerank.faces.quality import CROP_SIZE, measure_quality
from forgerank.faces.retinaface import RetinaFaceDetector
from forgerank.types import Detection, Face, Image, InputError, Points

_MIN_PRESENCE = 0.5


class FaceAnalyzer:
    """Detector, mesh and quality; the models are opened on first use and then kept."""

    def __init__(
        self, detector: str = "blazeface", detector_weights: str | Path | None = None, *, threads: int = 1
    ) -> None:
        """`detector` names one of `DETECTORS`; only retinaface takes weights, and needs them.

        Raises InputError for an unknown detector, for missing weights, and for weights that it does not take.
        """
        self.detector = _make_detector(detector, detector_weights, threads)
        self._landmarks = LandmarkModel(threads=threads)

    def analyze(self, image: Image) -> list[Face]:
        """Faces of an RGB image (H, W, 3), biggest first; only those that the mesh model confirms."""
        return self.confirm(image, self.detector.detect(image))

    def largest(self, image: Image) -> Points | None:
        """Landmarks (468, 2) of the largest face, in pixels; None without one.

        Faster than `analyze` where a face fills a good part of the image, as in most data sets: all scales
        are searched only where none does.
        """
        quick = self.detector.detect_portrait(image) if isinstance(self.detector, BlazeFaceDetector) else []
        for detection in sorted(quick, key=_side, reverse=True)[:1]:
            mesh = self._landmarks.landmarks(image, detection)
            if mesh.presence >= _MIN_PRESENCE:
                return mesh.landmarks
        faces = self.analyze(image)
        return faces[0].landmarks if faces else None

    def confirm(self, image: Image, detections: list[Detection]) -> list[Face]:
        """The detections that the mesh model confirms as faces, with landmarks and quality, biggest first."""
        found: list[tuple[Detection, Mesh]] = []
        for detection in detections:
            mesh = self._landmarks.landmarks(image, detection)
            if mesh.presence >= _MIN_PRESENCE and not any(_same_face(mesh, other) for _, other in found):
                found.append((detection, mesh))
        faces = [_face(image, detection, mesh) for detection, mesh in found]
        return sorted(faces, key=lambda face: -face.quality.size)


def _make_detector(name: str, weights: str | Path | None, threads: int) -> FaceDetector:
    if name not in DETECTORS:
        raise InputError(f"unknown face detector {name!r}; choose from {', '.join(sorted(DETECTORS))}")
    if name == "retinaface":
        if weights is None:
            raise InputError("the retinaface detector needs its weights: --detector-weights FILE.onnx")
        return RetinaFaceDetector(weights, threads=threads)
    if weights is not None:
        raise InputError(f"{weights}: the {name} detector takes no weights file")
    return BlazeFaceDetector(threads=threads)


def _face(image: Image, detection: Detection, mesh: Mesh) -> Face:
    height, width = image.shape[:2]
    x0, y0, x1, y1 = detection.box
    box = (max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height)))
    alignment = estimate_alignment(five_points(mesh.landmarks), CROP_SIZE)
    crop = alignment.crop(image)
    quality = measure_quality(crop, alignment, (height, width), mesh.landmarks, mesh.depth, box)
    return Face(box, detection.score, mesh.landmarks, quality, crop)


def _same_face(mesh: Mesh, other: Mesh) -> bool:
    """Two detections whose boxes differ can still lead the mesh to one face."""
    return float(overlaps(np.array(_extent(mesh)), np.array([_extent(other)]))[0]) > 0.5


def _side(detection: Detection) -> float:
    x0, y0, x1, y1 = detection.box
    return max(x1 - x0, y1 - y0)


def _extent(mesh: Mesh) -> Box:
    (x0, y0), (x1, y1) = mesh.landmarks.min(axis=0), mesh.landmarks.max(axis=0)
    return float(x0), float(y0), float(x1), float(y1)
