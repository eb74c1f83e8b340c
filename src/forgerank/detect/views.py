"""Views of a face: which way round the network sees it, and those that a thorough judgement averages, two
scales of its crop, each plain and mirrored."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from forgerank.detect.runtime import Prediction
from forgerank.detect.verdict import logit
from forgerank.faces.align import FACE_CENTRE, brighter_on_the_left
from forgerank.types import Image

# How large the face stands in the crop, relative to the zoom that the network was trained at. Under 1, so
# that the second crop holds all of the first and its maps cover it.
SCALES = (1.0, 0.9)


class View(NamedTuple):
    """One way to look at a face."""

    scale: float  # of `SCALES`
    mirrored: bool  # left and right change places

    def seen(self, crop: Image) -> Image:
        """What the network gets of a crop of this scale, (S, S, 3)."""
        return np.ascontiguousarray(crop[:, ::-1]) if self.mirrored else crop

    def resampling(self, side: int) -> NDArray[np.float32]:
        """(N, N), N = side * side: takes the values at this view's cells to those of the plain crop."""
        rows, columns = (_interpolation(side, float(centre), self.scale) for centre in FACE_CENTRE[::-1])
        return np.kron(rows, columns[:, ::-1] if self.mirrored else columns).astype(np.float32)


VIEWS = tuple(View(scale, mirrored) for scale in SCALES for mirrored in (False, True))


def seen_one_way(crops: Sequence[Image], run: Callable[[Sequence[Image]], Prediction]) -> Prediction:
    """What `run` says of crops (S, S, 3), each mirrored where it is brighter on the left, laid on the crops.

    A face and its mirror image so get one answer, for which averaging over both would need twice the time.
    """
    mirrored = [brighter_on_the_left(crop) for crop in crops]
    found = run([View(1.0, turn).seen(crop) for crop, turn in zip(crops, mirrored, strict=True)])
    maps, similarity = found.component_maps.copy(), found.similarity.copy()
    maps[mirrored] = maps[mirrored, ..., ::-1]
    side = maps.shape[-1]
    tokens = np.arange(side * side).reshape(side, side)[:, ::-1].ravel()
    similarity[mirrored] = similarity[mirrored][:, tokens][:, :, tokens]
    return replace(found, component_maps=maps, similarity=similarity)


def mean_odds(probabilities: Sequence[ArrayLike]) -> NDArray[np.float64]:
    """The mean of the log-odds of equal shapes of probabilities, as probabilities.

    >>> mean_odds([0.8, 0.5]).round(3).tolist()
    0.667
    """
    mean = np.mean([logit(part) for part in probabilities], axis=0)
    return np.asarray(np.exp(-np.logaddexp(0, -mean)))


def merged(predictions: Sequence[Prediction]) -> Prediction:
    """One prediction out of those of `VIEWS`, in their order, laid on the plain crop.

    Probabilities, order scores and maps are averaged in log-odds, gaps and similarities as they are.
    """
    side = predictions[0].component_maps.shape[-1]
    resampled = [view.resampling(side) for view in VIEWS]
    maps = [
        (part.component_maps.reshape(*part.component_maps.shape[:2], -1) @ matrix.T).reshape(
            part.component_maps.shape
        )
        for part, matrix in zip(predictions, resampled, strict=True)
    ]
    similarity = [
        matrix @ part.similarity @ matrix.T for part, matrix in zip(predictions, resampled, strict=True)
    ]

    def mean(name: str) -> NDArray[np.float32]:
        return mean_odds([getattr(part, name) for part in predictions]).astype(np.float32)

    return Prediction(
        gap=np.mean([part.gap for part in predictions], axis=0, dtype=np.float32),
        probability=mean("probability"),
        component_probabilities=mean("component_probabilities"),
        component_maps=mean_odds(maps).astype(np.float32),
        similarity=np.mean(similarity, axis=0, dtype=np.float32),
        order_scores=mean("order_scores"),
    )


def _interpolation(side: int, centre: float, scale: float) -> NDArray[np.float64]:
    """(side, side): linear interpolation at the cells of a plain crop along an axis; `centre` stays, 0..1."""
    cells = (np.arange(side) + 0.5) / side
    places = (centre + (cells - centre) * scale) * side - 0.5
    return np.maximum(0.0, 1.0 - np.abs(places[:, None] - np.arange(side)))
