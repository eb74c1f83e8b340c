"""The detector: images in; per face a verdict, components in their order, and heatmaps out."""

import hashlib
import math
from collections.abc import Iterator, Sequence
from copy import copy
from pathlib import Path
from typing import NamedTuple

import numpy as np

from forgerank.detect.result import FaceReport, LoadedImage, Map, Report
from forgerank.detect.runtime import Prediction, Runtime, usable_cores
from forgerank.detect.verdict import (
    MIN_SIZE,
    calibrate,
    judge_face,
    judge_image,
    order_components,
    without_verdict,
)
from forgerank.detect.views import SCALES, VIEWS, merged, seen_one_way
from forgerank.faces.align import Alignment, estimate_alignment, five_points
from forgerank.faces.analyze import FaceAnalyzer
from forgerank.media.images import MAX_PIXELS, read_first, read_image, read_pages
from forgerank.types import Face, Image, InputError
from forgerank.weights.description import METADATA_FILE, load_weights


class AlignedFace(NamedTuple):
    """A face and its crop for the network."""

    face: Face
    alignment: Alignment  # image <-> crop
    crop: Image  # (input_size, input_size, 3)
    further: tuple[Image, ...] = ()  # the crops of the same size at the other `SCALES`, where they are needed


class Detector:
    """Finds the faces of images and decides which were forged, where, and in what order.

    `weights` is a folder with `forgerank.json` and its files, by default the package's own. `detector` names
    the face detector: "blazeface", or "retinaface" with `detector_weights`, an ONNX file. `threads` defaults
    to all usable cores, `batch_size` is the largest number of faces that go through the network together.
    `device` runs the network: "cpu", or "cuda" with onnxruntime-gpu; faces are found on the CPU. `thorough`
    judges each face in four views, mirrored and at two scales, and averages the answers in log-odds;
    calibration and thresholds are those that the weights hold for it, else those of a single view. `metadata`
    has those that apply.
    """

    def __init__(
        self,
        weights: Path | str | None = None,
        detector: str = "blazeface",
        detector_weights: Path | str | None = None,
        *,
        threads: int | None = None,
        batch_size: int = 8,
        device: str = "cpu",
        thorough: bool = False,
    ) -> None:
        """Raises InputError for weights that are missing or foreign, and for an unknown face detector."""
        self._loaded = loaded = load_weights(weights)
        self.metadata = loaded.metadata.with_thorough(thorough)
        self.sha256 = loaded.sha256
        # what was read: no output may replace it
        self.files = [loaded.path.parent / METADATA_FILE, loaded.path]
        self.files += [Path(detector_weights)] if detector_weights else []
        self.threads = threads or usable_cores()
        self.runtime = Runtime(loaded, threads=self.threads, batch_size=batch_size, device=device)
        self.analyzer = FaceAnalyzer(detector, detector_weights, threads=self.threads)
        self.thorough = thorough
        self._twins: dict[tuple[int, bool], Detector] = {(self.threads, thorough): self}
        self._options = (detector, detector_weights, batch_size, device)

    def with_threads(self, threads: int) -> "Detector":
        """This detector on another number of threads, for stages that run side by side; made once."""
        return self._twin(threads, self.thorough)

    def with_thorough(self, thorough: bool) -> "Detector":
        """This detector, thorough or not; both share their models."""
        return self._twin(self.threads, thorough)

    def _twin(self, threads: int, thorough: bool) -> "Detector":
        key = threads, thorough
        if key not in self._twins:
            alike = self._twins.get((threads, not thorough))  # its models are on as many threads
            twin = copy(alike or self)
            twin.thorough = thorough
            twin.metadata = self._loaded.metadata.with_thorough(thorough)
            if alike is None:
                name, detector_weights, batch_size, device = self._options
                twin.threads = threads
                twin.runtime = Runtime(self._loaded, threads=threads, batch_size=batch_size, device=device)
                twin.analyzer = FaceAnalyzer(name, detector_weights, threads=threads)
            self._twins[key] = twin
        return self._twins[key]

    def detect(self, images: Sequence[LoadedImage | Image | Path | str]) -> list[Report]:
        """One report per image, in order; the faces of all images share the network's batches.

        An array is (H, W, 3) uint8 RGB. Of a file of several pages or frames, the first is judged, and the
        report says so: `judging.judge_file` judges all. Raises InputError for a file that cannot be read and
        for an array of another kind.
        """
        loaded = [load_image(image) for image in images]
        found = [self.align(image.image, self.analyzer.analyze(image.image)) for image in loaded]
        aligned = [face for faces in found for face in faces]
        prediction = self.predict(aligned) if aligned else None
        reports, start = [], 0
        for image, faces in zip(loaded, found, strict=True):
            answers = self.face_reports(faces, prediction, start)
            start += len(faces)
            reports.append(_report(image, answers, self.analyzer.detector.smallest(image.image.shape)))
        return reports

    def align(self, image: Image, faces: Sequence[Face]) -> list[AlignedFace]:
        """The faces of an image (H, W, 3), each with the crops that the network sees."""
        return self.analyzer.each(lambda face: self._align(image, face), faces)

    def _align(self, image: Image, face: Face) -> AlignedFace:
        size, zoom = self.metadata.input_size, self.metadata.zoom
        points = five_points(face.landmarks)
        alignment = estimate_alignment(points, size, zoom)
        measured = zoom == 1.0 and len(face.crop) == size  # quality was measured on the same crop
        crop = face.crop if measured else alignment.crop(image)
        scales = SCALES[1:] if self.thorough else ()
        further = (estimate_alignment(points, size, zoom * scale).crop(image) for scale in scales)
        return AlignedFace(face, alignment, crop, tuple(further))

    def predict(self, faces: Sequence[AlignedFace]) -> Prediction:
        """The network's outputs for at least one face, averaged over its views where that is asked for.

        Raises InputError for a network that cannot take them, or whose answers cannot be used.
        """
        if not self.thorough:
            return seen_one_way([face.crop for face in faces], self.runtime.run)
        scales = zip(*((face.crop, *face.further) for face in faces), strict=True)
        crops = dict(zip(SCALES, scales, strict=True))
        return merged([self.runtime.run([view.seen(crop) for crop in crops[view.scale]]) for view in VIEWS])

    def face_reports(
        self, faces: Sequence[AlignedFace], prediction: Prediction | None, start: int = 0
    ) -> tuple[FaceReport, ...]:
        """The results of faces whose crops begin at `start` in a prediction; none for no prediction."""
        if prediction is None:
            return ()
        return tuple(
            self._face_report(aligned.face, aligned.alignment, prediction, i)
            for i, aligned in enumerate(faces, start)
        )

    def _face_report(self, face: Face, alignment: Alignment, prediction: Prediction, i: int) -> FaceReport:
        metadata = self.metadata
        probability = calibrate(float(prediction.probability[i]), metadata.calibration)
        verdict, reason = judge_face(probability, face.quality, metadata.thresholds)
        return FaceReport(
            box=face.box,
            detection_score=face.score,
            quality=face.quality,
            verdict=verdict,
            reason=reason,
            forged_probability=probability,
            components=order_components(
                metadata.labels,
                prediction.component_probabilities[i],
                prediction.order_scores[i],
                verdict,
                metadata.thresholds,
                metadata.order,
            ),
            alignment=alignment,
            component_maps=prediction.component_maps[i],
            dissimilarity=dissimilarity_map(prediction.similarity[i]),
            order_scores=tuple(float(score) for score in prediction.order_scores[i]),
        )


def dissimilarity_map(similarity: Map) -> Map:
    """Mean over tokens of 1 - S (Eq. 4, 5): (N, N) -> (h, w), h = w, 0..1.

    Raises ValueError for an N that is no square.
    """
    tokens = len(similarity)
    side = math.isqrt(tokens)
    if side * side != tokens:
        raise ValueError(f"{tokens} tokens do not form a square map")
    return np.asarray((1.0 - similarity).mean(axis=1).reshape(side, side), dtype=np.float32)


def load_image(image: LoadedImage | Image | Path | str, *, max_pixels: int = MAX_PIXELS) -> LoadedImage:
    """An image with its hash from a file, of at most `max_pixels` pixels, or an array.

    A file is decoded as far as it goes; of several images in it, this is the first
    (`media.images.read_first`). Raises InputError for a file that cannot be read and for an array that is not
    (H, W, 3) uint8.
    """
    if isinstance(image, LoadedImage):
        return image
    if isinstance(image, (str, Path)):
        content = read_image(image)
        page = read_first(image, data=content, max_pixels=max_pixels)
        return LoadedImage(str(image), hashlib.sha256(content).hexdigest(), *page)
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        kind = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise InputError(f"an image must be an (H, W, 3) uint8 array or a path, got {kind}")
    return LoadedImage(None, hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest(), image)


def load_pages(
    path: Path | str, *, content: bytes | None = None, max_pixels: int = MAX_PIXELS
) -> Iterator[LoadedImage]:
    """The images of a file one by one, with the file's hash; see `media.images.read_pages`.

    `content` is that of the file where it is in memory already: nothing is read then.
    """
    content = read_image(path) if content is None else content
    sha256 = hashlib.sha256(content).hexdigest()
    for page in read_pages(path, data=content, max_pixels=max_pixels):
        yield LoadedImage(str(path), sha256, *page)


def load_page(
    path: Path | str, page: int, *, content: bytes | None = None, max_pixels: int = MAX_PIXELS
) -> LoadedImage:
    """The image of `load_pages` with this number, from 1. Raises InputError as `load_pages` does."""
    pages = load_pages(path, content=content, max_pixels=max_pixels)
    return next(image for image in pages if image.page == page)


def _report(image: LoadedImage, faces: tuple[FaceReport, ...], smallest: float) -> Report:
    """`smallest`: pixels of the smallest face that was looked for."""
    if image.unjudged is not None:
        faces = tuple(without_verdict(face, image.unjudged) for face in faces)
    verdict, reason = judge_image(faces)
    height, width = image.image.shape[:2]
    warnings = image.warnings
    if smallest > MIN_SIZE:
        warnings += (f"faces under {math.ceil(smallest)} px were not looked for, because the image is large",)
    return Report(
        path=image.path,
        sha256=image.sha256,
        width=width,
        height=height,
        verdict=verdict,
        reason=reason,
        faces=faces,
        page=image.page,
        pages=image.pages,
        warnings=warnings,
    )
