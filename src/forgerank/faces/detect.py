"""Face detection: BlazeFace over several views of an image, coarse to fine."""

import math
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import NamedTuple, Protocol

import numpy as np
import onnxruntime as ort
from PIL import Image as PILImage

from forgerank.faces.align import MIRRORED_POINTS, brighter_on_the_left, turned_back
from forgerank.faces.boxes import Box, Floats, containment, overlaps
from forgerank.faces.models import open_embedded
from forgerank.faces.retinaface import RetinaFaceDetector
from forgerank.types import Detection, Image, Points

# Measured on portraits drawn ever smaller: the short-range model finds faces of 15 % of its input and up, of
# 100 % and more with padding; the full-range model finds them from 8 % to 60 %.
_SHORT_RANGE_SHARE = 0.15
_SMALLEST_INPUT_FACE = 17.0  # pixels of the full-range model's input
# Smallest faces that are looked for, as a share of the image's long side; where that is more pixels than the
# smallest face that can be judged has, those, down to half of this share.
_SMALLEST_SHARE = 0.02
SMALLEST_JUDGED = 64.0  # pixels: beneath, a face is not judged
_LONGEST = 3.0  # an image longer than this many times its short side is searched in pieces
_PIECE_OVERLAP = 1.25  # of the short side
_SMALLEST_FACE = 16.0  # pixels: nothing below is found, however large the image is drawn
# Beside a face that is large enough to be judged, one under this many pixels is not worth the time.
_SMALLEST_FACE_BESIDE_JUDGED = 48.0
_WORTH_TILING = 1.2  # below this, tiles would show the image hardly larger than the whole view did
_TILE_OVERLAP = 48  # input pixels
_ROWS_COMPARED = 256  # of an image, evenly spread: enough to say on which side it is brighter
_FLAT = 4.0  # grey levels: a tile with less contrast than this holds no face
_PADDING = 1.6  # a face that fills the image or is cut by its border is found on a canvas this much larger
_EXCHANGED = [1, 0, 2, 3, 5, 4]  # the six key points with left and right exchanged: see `five_of_six`
_MOUTH_HALF_WIDTH = 0.45  # of the distance between the eyes


class FaceDetector(Protocol):
    """The interface of a face detector."""

    def detect(self, image: Image) -> list[Detection]:
        """Faces of an RGB image (H, W, 3) in its pixels, best first; boxes may reach past its border."""
        ...

    def smallest(self, shape: tuple[int, ...]) -> float:
        """The long side, in pixels, of the smallest face that is looked for in an image (H, W, ...)."""
        ...


class _View(NamedTuple):
    """A square model input and where it lies in the image: image = (input - offset) / scale."""

    pixels: Image  # (side, side, 3)
    scale: float  # input pixels per image pixel
    offset: tuple[float, float]  # x, y of the image's corner in the input
    turn: int = 0  # how often `numpy.rot90` turns the input before the model sees it


class _BlazeFace:
    """One BlazeFace graph: a square RGB input in [-1, 1], anchors on one or more grids."""

    def __init__(self, file: str, side: int, grids: tuple[tuple[int, int], ...]) -> None:
        self.side = side
        self._file = file
        self._anchors = blazeface_anchors(grids) * side  # (A, 2) pixels of the input

    @cached_property
    def _session(self) -> ort.InferenceSession:
        return open_embedded(self._file)

    def __call__(self, view: _View, min_score: float) -> tuple[Floats, Floats, Floats]:
        """Boxes (K, 4), key points (K, 6, 2), both in image pixels, and scores (K,) of one view."""
        seen = np.rot90(view.pixels, view.turn)
        mirrored = brighter_on_the_left(seen)
        if mirrored:
            seen = seen[:, ::-1]
        pixels = seen.astype(np.float32)[None] / 127.5 - 1.0  # (1, side, side, 3)
        values, logits = self._session.run(None, {self._session.get_inputs()[0].name: pixels})
        scores = 1.0 / (1.0 + np.exp(-np.clip(logits[0, :, 0], -80.0, 80.0)))
        keep = scores >= min_score
        pairs = values[0, keep].reshape(-1, 8, 2)  # centre, size, six key points
        anchors = self._anchors[keep][:, None]
        centres, points = pairs[:, :1] + anchors, pairs[:, 2:] + anchors
        if mirrored:
            centres, points = (
                places * (-1, 1) + (self.side, 0) for places in (centres, points[:, _EXCHANGED])
            )
        offset = np.asarray(view.offset, dtype=np.float32)
        centres, points = (
            (turned_back(places.reshape(-1, 2), view.turn, seen.shape).reshape(places.shape) - offset)
            / view.scale
            for places in (centres, points)
        )
        halves = pairs[:, 1:2, :: -1 if view.turn % 2 else 1] / (2.0 * view.scale)
        boxes = np.concatenate([centres - halves, centres + halves], axis=2)[:, 0]
        return boxes.astype(np.float32), points.astype(np.float32), scores[keep].astype(np.float32)


class BlazeFaceDetector:
    """The embedded detector: faces from 2 % to over 100 % of the image's long side, of at least 16 pixels.

    In images of 3,200 pixels and more, faces from 64 pixels and 1 % of the long side on; an image longer than
    three times its short side, and than 1,600 pixels, is searched in pieces.

    Coarse to fine, and no finer than it can matter: beside a face that is large enough to be judged, 64
    pixels, only those of at least 48 are looked for, which leaves the common portrait at two small views.

    The mouth corners in `Detection.points` are estimated from the mouth's centre and the line of the eyes;
    the mesh gives the exact ones.
    """

    def __init__(self, *, min_score: float = 0.5) -> None:
        self._min_score = min_score
        self._full_range = _BlazeFace("face_detection_full_range.onnx", 192, ((48, 1),))
        self._short_range = _BlazeFace("face_detection_short_range.onnx", 128, ((16, 2), (8, 6)))

    def detect(self, image: Image, *, smallest: float = 0.0) -> list[Detection]:
        """See `FaceDetector.detect`; faces under `smallest` pixels are not looked for.

        An image that is brighter on the left is searched mirrored: a mirror image so has the same faces, to
        the last pixel.
        """
        rows = max(1, image.shape[0] // _ROWS_COMPARED)
        if not brighter_on_the_left(image[::rows]):
            return self._detect(image, smallest)
        mirrored = self._detect(np.ascontiguousarray(image[:, ::-1]), smallest)
        return [_mirrored(face, image.shape[1]) for face in mirrored]

    def _detect(self, image: Image, smallest: float) -> list[Detection]:
        places = _pieces(image.shape[0], image.shape[1])
        if len(places) == 1:
            return self._detect_piece(image, smallest)
        found = []
        for top, left, bottom, right in places:
            piece = np.ascontiguousarray(image[top:bottom, left:right])
            found += [_moved(face, left, top) for face in self._detect_piece(piece, smallest)]
        return suppress(found)

    def smallest(self, shape: tuple[int, ...]) -> float:
        """See `FaceDetector.smallest`."""
        top, left, bottom, right = _pieces(shape[0], shape[1])[0]
        return _smallest_wanted([], max(bottom - top, right - left))

    def _detect_piece(self, image: Image, smallest: float) -> list[Detection]:
        padded = PILImage.fromarray(image)
        long_side = max(padded.size)
        near, far = self._short_range, self._full_range
        views = [letterbox(padded, near.side), letterbox(padded, near.side, padding=_PADDING)]
        found = self._search(near, views)
        if max(smallest, _smallest_wanted(found, long_side)) >= _SHORT_RANGE_SHARE * long_side:
            return found
        found = suppress(found + self._search(far, [letterbox(padded, far.side)]))
        scale = min(1.0, _SMALLEST_INPUT_FACE / max(smallest, _smallest_wanted(found, long_side)))
        if scale * long_side < _WORTH_TILING * far.side:
            return found
        return suppress(found + self._search(far, tiles(padded, scale, far.side)))

    def detect_large(self, image: Image) -> list[Detection]:
        """Faces of about 8 % of the image's long side and more, from one view for each of the two models."""
        padded = PILImage.fromarray(image)
        views = [(model, [letterbox(padded, model.side)]) for model in (self._short_range, self._full_range)]
        return suppress([face for model, view in views for face in self._search(model, view)])

    def detect_portrait(self, image: Image) -> list[Detection]:
        """Faces of at least 15 % of the image's long side, best first; a second view where one shows none."""
        padded = PILImage.fromarray(image)
        for padding in (1.0, _PADDING):
            found = self._search(
                self._short_range, [letterbox(padded, self._short_range.side, padding=padding)]
            )
            if found:
                return found
        return []

    def detect_not_upright(self, image: Image) -> list[Detection]:
        """Faces on their side or head of about 15 % of the image's long side and more, best first.

        From a view of each; a face may be found in two of them.
        """
        view = letterbox(PILImage.fromarray(image), self._short_range.side)
        turned = (view._replace(turn=turn) for turn in (1, 2, 3))
        found = [face for seen in turned for face in self._search(self._short_range, [seen])]
        return sorted(found, key=lambda face: -face.score)

    def detect_near(self, image: Image, box: Box) -> list[Detection]:
        """Faces near a box and of about its size: within a square of 3 times its longer side."""
        half = 1.5 * max(box[2] - box[0], box[3] - box[1])
        x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        left, top = max(0, math.floor(x - half)), max(0, math.floor(y - half))
        patch = image[top : math.ceil(y + half), left : math.ceil(x + half)]
        if not patch.size:
            return []
        view = letterbox(PILImage.fromarray(np.ascontiguousarray(patch)), self._short_range.side)
        offset = (view.offset[0] - left * view.scale, view.offset[1] - top * view.scale)
        return self._search(self._short_range, [view._replace(offset=offset)])

    def _search(self, model: _BlazeFace, views: Iterable[_View]) -> list[Detection]:
        found: list[Detection] = []
        for view in views:
            for box, points, score in zip(*model(view, self._min_score), strict=True):
                corners = (float(box[0]), float(box[1]), float(box[2]), float(box[3]))
                found.append(Detection(corners, float(score), five_of_six(points)))
        return suppress(found)


def blazeface_anchors(grids: tuple[tuple[int, int], ...]) -> Floats:
    """Anchor centres (A, 2) in [0, 1] for grids of (cells per side, anchors per cell), row by row."""
    parts = []
    for cells, per_cell in grids:
        centres = (np.arange(cells, dtype=np.float32) + 0.5) / cells
        y, x = np.meshgrid(centres, centres, indexing="ij")
        parts.append(np.repeat(np.stack([x, y], axis=-1).reshape(-1, 2), per_cell, axis=0))
    return np.concatenate(parts)


def five_of_six(points: Points) -> Points:
    """BlazeFace's six key points (eyes, nose tip, mouth centre, ears) to the five of `Detection.points`."""
    left_eye, right_eye, nose, mouth = points[:4]
    half = (right_eye - left_eye) * _MOUTH_HALF_WIDTH
    return np.stack([left_eye, right_eye, nose, mouth - half, mouth + half]).astype(np.float32)


def suppress(faces: list[Detection], *, threshold: float = 0.3, inside: float = 0.7) -> list[Detection]:
    """Non-maximum suppression, best score first: a face goes where it overlaps a better one by more than
    `threshold` IoU, or where one of the two lies in the other by `inside` (a tile's border cuts faces).
    """
    if not faces:
        return []
    boxes = np.array([face.box for face in faces], dtype=np.float32)
    order = np.argsort([-face.score for face in faces], kind="stable")
    kept: list[Detection] = []
    while len(order):
        best, rest = order[0], order[1:]
        kept.append(faces[best])
        apart = overlaps(boxes[best], boxes[rest]) <= threshold
        order = rest[apart & (containment(boxes[best], boxes[rest]) <= inside)]
    return kept


def letterbox(image: PILImage.Image, side: int, *, padding: float = 1.0) -> _View:
    """The whole image on a black square, centred, filling it up to 1 / `padding` of the side."""
    scale = side / (max(image.size) * padding)
    small = _resize(image, scale)
    canvas = PILImage.new("RGB", (side, side))
    # Where there is no middle, a mirror image stands in the mirrored place.
    spare = side - small.width + brighter_on_the_left(np.asarray(small))
    left, top = spare // 2, (side - small.height) // 2
    canvas.paste(small, (left, top))
    # Whole pixels are a little more or less than the image at this scale: its middle stays in place.
    offset = (
        left + (small.width - image.width * scale) / 2,
        top + (small.height - image.height * scale) / 2,
    )
    return _View(np.asarray(canvas), scale, offset)


def tiles(image: PILImage.Image, scale: float, side: int) -> Iterator[_View]:
    """Overlapping square tiles that cover the image at `scale`, flat ones left out."""
    small = _resize(image, scale)
    for top in _starts(small.height, side):
        for left in _starts(small.width, side):
            tile = small.crop((left, top, left + side, top + side))
            if np.asarray(tile.convert("L")).std() >= _FLAT:
                yield _View(np.asarray(tile), scale, (-left, -top))


def _starts(length: int, side: int) -> list[int]:
    """Evenly spread tile starts along one axis."""
    if length <= side:
        return [(length - side) // 2]
    count = -(-(length - _TILE_OVERLAP) // (side - _TILE_OVERLAP))
    return [round(i * (length - side) / (count - 1)) for i in range(count)]


def _resize(image: PILImage.Image, scale: float) -> PILImage.Image:
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, PILImage.Resampling.BILINEAR, reducing_gap=2.0)


def _smallest_wanted(found: list[Detection], long_side: int) -> float:
    """Long side in pixels of the smallest face worth a search, given the faces found so far."""
    largest = max((max(x1 - x0, y1 - y0) for x0, y0, x1, y1 in (face.box for face in found)), default=0.0)
    floor = _SMALLEST_FACE_BESIDE_JUDGED if largest >= SMALLEST_JUDGED else _SMALLEST_FACE
    share = _SMALLEST_SHARE * long_side
    return max(floor, min(share, max(SMALLEST_JUDGED, share / 2)))


def _pieces(height: int, width: int) -> list[tuple[int, int, int, int]]:
    """Overlapping pieces of one size that cover an image: top, left, bottom, right; one for most images."""
    short, long = min(height, width), max(height, width)
    # A strip too narrow for a face that can be judged is not worth its thousands of pieces.
    whole = long <= _LONGEST * short or _SMALLEST_SHARE * long < SMALLEST_JUDGED / 2
    if whole or short < SMALLEST_JUDGED:
        return [(0, 0, height, width)]
    side = math.ceil(_LONGEST * short)
    step = side - math.ceil(_PIECE_OVERLAP * short)
    count = 1 + -(-(long - side) // step)
    starts = [round(i * (long - side) / (count - 1)) for i in range(count)] if count > 1 else [0]
    if height >= width:
        return [(start, 0, start + side, width) for start in starts]
    return [(0, start, height, start + side) for start in starts]


def _moved(face: Detection, left: int, top: int) -> Detection:
    x0, y0, x1, y1 = face.box
    offset = np.array([left, top], dtype=np.float32)
    return Detection((x0 + left, y0 + top, x1 + left, y1 + top), face.score, face.points + offset)


def _mirrored(face: Detection, width: int) -> Detection:
    """A detection in the mirror image of an image of this width."""
    x0, y0, x1, y1 = face.box
    points = face.points[list(MIRRORED_POINTS)]
    points[:, 0] = width - points[:, 0]
    return Detection((width - x1, y0, width - x0, y1), face.score, points)


DETECTORS = {"blazeface": BlazeFaceDetector, "retinaface": RetinaFaceDetector}
