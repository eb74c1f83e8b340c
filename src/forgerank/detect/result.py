"""Results of the detector: `Report` for an image, `VideoReport` for a video, and their parts."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from forgerank.faces.align import Alignment
from forgerank.types import Image, Quality, Verdict

Map = NDArray[np.float32]

NO_EVIDENCE = "no clear evidence either way"  # the reason of a face that lies between the thresholds
_LARGEST_RATIO = 1000.0  # validation holds some thousand faces of a class: they tell no more


@dataclass(frozen=True, slots=True, eq=False)
class LoadedImage:
    """An image in memory and where it came from; from `image` on, the fields of `media.images.Page`."""

    path: str | None  # as given by the caller; None for an array
    sha256: str  # of the file's bytes, of the pixels for an array
    image: Image  # (H, W, 3)
    page: int = 1  # of a file of several images, such as a TIFF
    pages: int = 1
    warnings: tuple[str, ...] = ()  # what of the file is not in the image, in words
    unjudged: str | None = None  # why no face of it can be judged


@dataclass(frozen=True, slots=True)
class Component:
    """One facial component of one face."""

    name: str
    probability: float  # of having been manipulated, 0..1
    rank: int | None  # 1 = manipulated first; None where it was not manipulated


@dataclass(frozen=True, slots=True, eq=False)
class FaceReport:
    """The answer for one face."""

    box: tuple[float, float, float, float]  # x0, y0, x1, y1 in pixels of the image
    detection_score: float  # 0..1
    quality: Quality  # what decides whether it can be judged
    verdict: Verdict  # "real", "forged" or "undetermined"
    reason: str | None  # why it is undetermined
    forged_probability: float  # calibrated P(x), 0..1
    components: tuple[Component, ...]  # all of them, in the order of the weights' labels
    alignment: Alignment  # image <-> crop, lays the maps back over the image
    component_maps: Map  # (L, h, w) over the crop, 0..1
    dissimilarity: Map  # (h, w) over the crop, mean over tokens of 1 - S (Eq. 4, 5), 0..1
    order_scores: tuple[float, ...] = ()  # (L,) decide the ranks; `Order` of the weights says which is first

    @property
    def sequence(self) -> tuple[Component, ...]:
        """The manipulated components, first to last."""
        return _ranked(self.components)

    @property
    def likelihood_ratio(self) -> float | None:
        """`likelihood_ratio` of its probability; None for a face that cannot be judged."""
        return likelihood_ratio(self.forged_probability) if is_judged(self.reason) else None


@dataclass(frozen=True, slots=True, eq=False)
class Report:
    """The answer for one image."""

    path: str | None  # as given by the caller; None for what has no name
    sha256: str  # of the file's bytes, of the pixels for an array
    width: int  # pixels
    height: int  # pixels
    verdict: Verdict  # "forged" if a face is; else "undetermined" if one is or none was found; else "real"
    reason: str | None  # why it is undetermined
    faces: tuple[FaceReport, ...]  # biggest first
    page: int = 1  # of a file of several images, such as a TIFF
    pages: int = 1
    warnings: tuple[str, ...] = ()  # what could not be read or was not looked for, in words

    @property
    def name(self) -> str | None:
        """The path, with the page where there are several."""
        if self.path is None or self.pages == 1:
            return self.path
        return f"{self.path}, page {self.page} of {self.pages}"


@dataclass(frozen=True, slots=True)
class Moment:
    """One face in one sampled frame of a video."""

    frame: int  # counted from 0 in the order of display, skipped and damaged ones included where known
    time: float  # seconds as the stream stores them
    box: tuple[float, float, float, float]  # x0, y0, x1, y1 in pixels of the upright frame
    detection_score: float  # 0..1
    forged_probability: float  # calibrated P(x), 0..1
    verdict: Verdict  # of this face in this frame alone
    reason: str | None  # why it is undetermined


@dataclass(frozen=True, slots=True, eq=False)
class KeyFrame:
    """One of the most suspicious frames of a track, with everything that its heatmaps need."""

    moment: Moment
    image: Image  # the upright frame, its longer side at most 1280 pixels
    face: FaceReport  # its box and alignment are in pixels of `image`


@dataclass(frozen=True, slots=True)
class Stretch:
    """A run of moments at which a face is forged, more than a real face would show: docs/video.md."""

    start: float  # seconds, half a sampling step before the first of them
    end: float  # seconds, half a sampling step after the last
    moments: int  # that are forged
    forged_probability: float  # median over the stretch, 0..1
    chance: float  # that a real face shows such a run anywhere in so many moments, 0..1


@dataclass(frozen=True, slots=True, eq=False)
class TrackReport:
    """The answer for one person's face over a video. How it is pooled: docs/video.md."""

    number: int  # from 1, by first appearance
    start: float  # seconds: the first sampled frame with this face
    end: float  # seconds: the last one
    verdict: Verdict
    reason: str | None  # why it is undetermined
    forged_probability: float  # pooled over the usable moments, 0..1
    components: tuple[Component, ...]  # all of them, by consensus, in the order of the weights' labels
    moments: tuple[Moment, ...]  # by time
    key_frames: tuple[KeyFrame, ...]  # at most 3, most suspicious first
    quality: Quality  # medians over the moments
    # By time, where the face is forged, or where it is not called real for them; empty where the verdict
    # follows from the whole track.
    stretches: tuple[Stretch, ...] = ()

    @property
    def sequence(self) -> tuple[Component, ...]:
        """The manipulated components, first to last."""
        return _ranked(self.components)

    @property
    def likelihood_ratio(self) -> float | None:
        """`likelihood_ratio` of the probability that decided; None for a face that cannot be judged."""
        return likelihood_ratio(deciding_probability(self)) if is_judged(self.reason) else None


@dataclass(frozen=True, slots=True, eq=False)
class VideoReport:
    """The answer for one video."""

    path: str  # as given by the caller
    sha256: str  # of the file's bytes
    width: int  # pixels of an upright frame
    height: int  # pixels of an upright frame
    duration: float | None  # seconds, as the container states it
    decoded_seconds: float  # how much of that could be decoded
    decoded_share: float  # the same as a share of what the container states, 0..1
    frame_rate: float | None  # mean, 1/s
    codec: str  # as FFmpeg calls it, such as h264
    sampled_frames: int  # frames in which faces were looked for
    sampling_rate: float  # frames per second of video; below the rate asked for where the cap took hold
    warnings: tuple[str, ...]  # what could not be read, in words
    verdict: Verdict  # by the rule of an image, over its tracks
    reason: str | None  # why it is undetermined
    tracks: tuple[TrackReport, ...]  # one per person, by first appearance


def likelihood_ratio(probability: float) -> float:
    """How much more probable this evidence is if the face is forged than if it is real, 0.001 to 1000.

    The odds of a calibrated probability: it is calibrated at even prior odds.

    >>> likelihood_ratio(0.5), round(likelihood_ratio(0.9), 2), likelihood_ratio(0.0)
    (1.0, 9.0, 0.001)
    """
    odds = probability / max(1.0 - probability, 1e-9)
    return min(max(odds, 1 / _LARGEST_RATIO), _LARGEST_RATIO)


def is_judged(reason: str | None) -> bool:
    """Whether a verdict with this reason is one on what was seen: not where there is too little to see."""
    return reason is None or reason.endswith(NO_EVIDENCE)


def deciding_probability(face: FaceReport | TrackReport) -> float:
    """The probability that a verdict follows from: of a track that is judged by a stretch, the stretch's."""
    stretches = face.stretches if isinstance(face, TrackReport) else ()
    return max((stretch.forged_probability for stretch in stretches), default=face.forged_probability)


def _ranked(components: tuple[Component, ...]) -> tuple[Component, ...]:
    ranked = [(component.rank, component) for component in components if component.rank is not None]
    return tuple(component for _, component in sorted(ranked, key=lambda pair: pair[0]))


def faces_of(report: Report | VideoReport) -> tuple[FaceReport | TrackReport, ...]:
    """The faces of an image, the tracks of a video."""
    return report.tracks if isinstance(report, VideoReport) else report.faces
