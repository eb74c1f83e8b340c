"""Box arithmetic that the detectors share. Boxes are float32 (K, 4): x0, y0, x1, y1."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Box = tuple[float, float, float, float]  # x0, y0, x1, y1


def overlaps(box: Floats, boxes: Floats) -> Floats:
    """Intersection over union of one box (4,) with each of `boxes` (K, 4); returns (K,) in [0, 1]."""
    inter, area, areas = _areas(box, boxes)
    return np.asarray(inter / np.maximum(area + areas - inter, 1e-9), dtype=np.float32)


def containment(box: Floats, boxes: Floats) -> Floats:
    """Intersection over the smaller area of one box (4,) and each of `boxes` (K, 4); (K,) in [0, 1]."""
    inter, area, areas = _areas(box, boxes)
    return np.asarray(inter / np.maximum(np.minimum(area, areas), 1e-9), dtype=np.float32)


def non_maximum_suppression(boxes: Floats, scores: Floats, *, threshold: float) -> list[int]:
    """Indices kept, best score first; a box goes if it overlaps a better one by more than `threshold` IoU."""
    order = np.argsort(-scores, kind="stable")
    kept: list[int] = []
    while len(order):
        best, rest = order[0], order[1:]
        kept.append(int(best))
        order = rest[overlaps(boxes[best], boxes[rest]) <= threshold]
    return kept


def _areas(box: Floats, boxes: Floats) -> tuple[Floats, Floats, Floats]:
    corner = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    inter = np.prod(np.maximum(corner, 0), axis=1)
    area = np.prod(np.maximum(box[2:] - box[:2], 0))
    areas = np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1)
    return inter, area, areas
