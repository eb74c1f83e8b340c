"""The faces of a video collected frame by frame, and one pooled result for each person."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass, field, replace

import numpy as np
from PIL import Image as PILImage

from forgerank.detect.pooling import MIN_USABLE, consensus, judge_track, pool, quality_weight
from forgerank.detect.result import NO_EVIDENCE, FaceReport, KeyFrame, Moment, Stretch, TrackReport
from forgerank.detect.stretches import find_doubts, find_stretches
from forgerank.detect.verdict import order_components, unusable
from forgerank.faces.align import Alignment
from forgerank.media.videos import Sample
from forgerank.types import Image, Quality
from forgerank.weights.description import WeightsMetadata

KEY_FRAMES = 3  # of one person
_ALL_KEY_FRAMES = 60  # of a video, so that its memory has a bound
_APART = 1.0  # seconds between two key frames of a person
_LONGEST_SIDE = 1280  # pixels


@dataclass(slots=True)
class _Person:
    moments: list[Moment] = field(default_factory=list)
    qualities: list[Quality] = field(default_factory=list)
    components: list[tuple[float, ...]] = field(default_factory=list)  # probabilities, (L,) each
    orders: list[tuple[float, ...]] = field(default_factory=list)  # order scores, (L,) each
    keys: list[KeyFrame] = field(default_factory=list)  # most suspicious first


class People:
    """Collects the faces of a video; keeps a few numbers of each moment and three images of each person."""

    def __init__(self, metadata: WeightsMetadata) -> None:
        self._metadata = metadata
        self._people: list[_Person] = []

    def add(self, sample: Sample, faces: Sequence[FaceReport], numbers: Sequence[int]) -> None:
        """The faces of one frame; `numbers`: the track of each, counted from 0 by first appearance."""
        for face, number in zip(faces, numbers, strict=True):
            while number >= len(self._people):
                self._people.append(_Person())
            person = self._people[number]
            moment = Moment(
                sample.number,
                sample.time,
                face.box,
                face.detection_score,
                face.forged_probability,
                face.verdict,
                face.reason,
            )
            person.moments.append(moment)
            person.qualities.append(face.quality)
            person.components.append(tuple(component.probability for component in face.components))
            person.orders.append(face.order_scores)
            person.keys = _best_key_frames(person.keys, moment, face, sample.image)
        self._drop_key_frames()

    def tracks(self) -> tuple[TrackReport, ...]:
        """The result for every person."""
        return tuple(self._track(number, person) for number, person in enumerate(self._people, start=1))

    def _track(self, number: int, person: _Person) -> TrackReport:
        metadata = self._metadata
        usable = np.array([unusable(quality) is None for quality in person.qualities])
        counted = usable if usable.any() else ~usable
        probabilities = np.array([moment.forged_probability for moment in person.moments])[counted]
        weights = np.array([quality_weight(quality) for quality in person.qualities])[counted]
        quality = Quality(*np.median([astuple(quality) for quality in person.qualities], axis=0).tolist())
        pooled = pool(probabilities, weights)
        verdict, reason = judge_track(pooled, int(usable.sum()), quality, metadata.thresholds)
        stretches: tuple[Stretch, ...] = ()
        if verdict != "forged" and usable.sum() >= MIN_USABLE:
            times = np.array([moment.time for moment in person.moments])[usable]
            stretches = find_stretches(times, probabilities, metadata.thresholds.forged)
            if stretches:
                verdict, reason = "forged", None
            elif verdict == "real":
                stretches = find_doubts(times, probabilities, metadata.thresholds.forged)
                if stretches:
                    verdict, reason = "undetermined", NO_EVIDENCE
        agreed, order = (
            consensus(np.array(values)[counted], probabilities, metadata.thresholds.forged)
            for values in (person.components, person.orders)
        )
        return TrackReport(
            number=number,
            start=person.moments[0].time,
            end=person.moments[-1].time,
            verdict=verdict,
            reason=reason,
            forged_probability=pooled,
            components=order_components(
                metadata.labels, agreed, order, verdict, metadata.thresholds, metadata.order
            ),
            moments=tuple(person.moments),
            key_frames=tuple(person.keys),
            quality=quality,
            stretches=stretches,
        )

    def _drop_key_frames(self) -> None:
        """Keep the limit for all: the least suspicious are dropped, the first of a person last."""
        while sum(len(person.keys) for person in self._people) > _ALL_KEY_FRAMES:
            most = max(len(person.keys) for person in self._people)
            person = min(
                (person for person in self._people if len(person.keys) == most),
                key=lambda person: _suspicion(person.keys[-1].face),
            )
            person.keys.pop()


def _suspicion(face: FaceReport) -> float:
    """The probability of forgery, lowered by 1 for a face that cannot be judged; -1..1."""
    return face.forged_probability - (unusable(face.quality) is not None)


def _best_key_frames(keys: list[KeyFrame], moment: Moment, face: FaceReport, image: Image) -> list[KeyFrame]:
    """The most suspicious frames among `keys` and this one; of those within a second only one."""
    near = [key for key in keys if abs(key.moment.time - moment.time) < _APART]
    apart = [key for key in keys if key not in near]
    rivals = near if near else apart[KEY_FRAMES - 1 :]
    if rivals and max(_suspicion(key.face) for key in rivals) >= _suspicion(face):
        return keys
    kept = sorted([*apart, _key_frame(moment, face, image)], key=lambda key: -_suspicion(key.face))
    return kept[:KEY_FRAMES]


def _key_frame(moment: Moment, face: FaceReport, image: Image) -> KeyFrame:
    """A key frame, scaled down where the frame is larger than a screen."""
    height, width = image.shape[:2]
    scale = min(1.0, _LONGEST_SIDE / max(height, width))
    if scale == 1.0:
        return KeyFrame(moment, image, face)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = np.asarray(PILImage.fromarray(image).resize(size, PILImage.Resampling.BILINEAR, reducing_gap=2.0))
    matrix = face.alignment.matrix.copy()
    matrix[:, :2] /= scale
    x0, y0, x1, y1 = (value * scale for value in face.box)
    return KeyFrame(
        moment, small, replace(face, box=(x0, y0, x1, y1), alignment=Alignment(matrix, face.alignment.size))
    )
