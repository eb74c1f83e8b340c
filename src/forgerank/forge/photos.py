"""Photographs with landmarks and hair mask, as the forge edits them; each is read once."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from forgerank.faces.align import estimate_alignment, five_points
from forgerank.faces.regions import hair_mask
from forgerank.media.images import MAX_PIXELS, read_photo
from forgerank.types import Image, Points

# Largest ratio of the eye distances of a donor and a photograph: a part of a much smaller image is blurred.
LIKE_RESOLUTION = 1.5


@dataclass(frozen=True, slots=True)
class Photo:
    """A photograph of one face, ready to be edited or to donate a component."""

    image: Image  # (H, W, 3)
    landmarks: Points  # (468, 2) pixels
    hair: NDArray[np.uint8]  # (H, W) 0 or 255
    free: frozenset[str] = frozenset()  # components that an edit of another may cover: they are edited later
    eye_distance: float = field(init=False)  # between the eye centres, pixels

    def __post_init__(self) -> None:
        object.__setattr__(self, "eye_distance", eye_distance(self.landmarks))

    @classmethod
    def prepare(cls, image: Image, landmarks: Points) -> "Photo":
        """Find the hair of a face whose landmarks are known."""
        return cls(image, landmarks, hair_mask(image, landmarks).astype(np.uint8) * 255)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width, pixels."""
        return self.image.shape[0], self.image.shape[1]

    def edited(self, image: Image, free: frozenset[str]) -> "Photo":
        """The same face with other pixels (H, W, 3)."""
        return Photo(image, self.landmarks, self.hair, free)

    def resized(self, scale: float) -> "Photo":
        """The photograph at another scale; scale > 0."""
        height, width = (max(1, round(side * scale)) for side in self.image.shape[:2])
        filter_ = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        return Photo(
            np.asarray(cv2.resize(self.image, (width, height), interpolation=filter_)),
            (self.landmarks * np.array([width, height]) / self.image.shape[1::-1]).astype(np.float32),
            np.asarray(cv2.resize(self.hair, (width, height), interpolation=cv2.INTER_LINEAR)),
            self.free,
        )


@dataclass(frozen=True, slots=True, eq=False)
class PhotoEntry:
    """One photograph of a collection, not yet read."""

    path: Path
    subject: str
    split: str
    landmarks: Points  # (468, 2) pixels
    max_pixels: int = MAX_PIXELS  # of the image that is decoded
    # (5, 2) the five points in the aligned face: they depend on the pose of the head
    pose: Points = field(init=False)
    eyes: float = field(init=False)  # distance between the eye centres, pixels

    def __post_init__(self) -> None:
        points = five_points(self.landmarks)
        object.__setattr__(self, "pose", estimate_alignment(points, 1).to_crop(points))
        object.__setattr__(self, "eyes", eye_distance(self.landmarks))

    def load(self) -> Photo:
        """The image and its hair; kept in memory, so that a second call is cheap."""
        return _load(self)


# Photographs and donors are visited at random: about a gigabyte of them stays decoded in each process.
@lru_cache(maxsize=2500)
def _load(entry: PhotoEntry) -> Photo:
    return Photo.prepare(read_photo(entry.path, max_pixels=entry.max_pixels), entry.landmarks)


def choose_donor(entry: PhotoEntry, entries: Sequence[PhotoEntry], rng: np.random.Generator) -> PhotoEntry:
    """Of a few random other people of like resolution, the one with the most similar pose.

    Like means eye distances within LIKE_RESOLUTION; where none of them is, the nearest in resolution. `entry`
    itself if there is no other person.
    """
    candidates = [entries[i] for i in rng.integers(len(entries), size=12)]
    others = [other for other in candidates if other.subject != entry.subject]

    def unlikeness(other: PhotoEntry) -> tuple[float, float]:
        ratio = abs(math.log(max(other.eyes, 1.0) / max(entry.eyes, 1.0)))
        return max(0.0, ratio - math.log(LIKE_RESOLUTION)), float(np.abs(entry.pose - other.pose).sum())

    return min(others, key=unlikeness, default=entry)


def eye_distance(landmarks: Points) -> float:
    """Distance between the eye centres of a mesh (468, 2), pixels."""
    points = five_points(landmarks)
    return math.hypot(*(points[1] - points[0]))
