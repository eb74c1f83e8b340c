"""What the detector answers: one frozen result type, whatever was put in."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from forgerank.faces.align import Alignment
from forgerank.types import Image, Quality, Verdict

Map = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A picture in memory and where it came from."""

    path: str | None  # as given by the caller; None for an array
    sha256: str  # of the file's bytes, of the pixels for an array
    image: Image  # (H, W, 3)


@dataclass(frozen=True, slots=True)
class Component:
    """One facial component of one face."""

    name: str
    probability: float  # of having been manipulated, 0..1
    rank: int | None  # 1 = manipulated first; None where it was not manipulated


@dataclass(frozen=True, slots=True, eq=False)
class FaceReport:
    """The answer for one face."""

    box: tuple[float, float, float, float]  # x0, y0, x1, y1 in pixels of the picture
    detection_score: float  # 0..1
    quality: Quality
    verdict: Verdict
    reason: str | None  # why it is undetermined
    forged_probability: float  # calibrated P(x), 0..1
    components: tuple[Component, ...]  # all of them, in the order of the weights' labels
    alignment: Alignment  # picture <-> crop, lays the maps back over the picture
    component_maps: Map  # (L, h, w) over the crop, 0..1
    dissimilarity: Map  # (h, w) over the crop, mean over tokens of 1 - S (Eq. 4, 5), 0..1

    @property
    def sequence(self) -> tuple[Component, ...]:
        """The manipulated components, first to last."""
        ranked = [(component.rank, component) for component in self.components if component.rank is not None]
        return tuple(component for _, component in sorted(ranked, key=lambda pair: pair[0]))


@dataclass(frozen=True, slots=True, eq=False)
class Report:
    """The answer for one picture."""

    path: str | None
    sha256: str
    width: int  # pixels
    height: int  # pixels
    verdict: Verdict
    reason: str | None  # why it is undetermined
    faces: tuple[FaceReport, ...]  # biggest first
