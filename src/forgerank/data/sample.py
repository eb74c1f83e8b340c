"""What a data set yields: samples on disk, and images ready to be aligned."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from forgerank.labels import Parts
from forgerank.types import Image, Points


@dataclass(frozen=True, slots=True)
class Sample:
    """One annotated face on disk."""

    image: Path
    sequence: tuple[int, ...]  # 1-based labels in order of manipulation; empty where real or unknown
    group: str  # who is shown: samples of one group are never independent
    split: str
    dataset: str
    points: Points | None = None  # (5, 2) pixels of the stored image
    mask: Path | None = None  # 8-bit image, bit i-1 set where label i was edited
    source: str = ""  # where the photograph came from, for the breakdown of an evaluation
    video: str = ""  # whose frame it is: frames of one video are scored together; empty for a photograph
    method: str = ""  # how it was forged, as the data set calls it
    compression: str = ""  # of the video, as the data set calls it
    # Of each label 1 manipulated, 0 not, None unknown; None: the sequence says all there is to know.
    parts: Parts | None = None
    fake: bool = False  # forged, whatever is known of the labels

    @property
    def forged(self) -> bool:
        """Whether anything was manipulated: always known."""
        return self.fake or bool(self.sequence) or 1 in (self.parts or ())


class LabelledImage(NamedTuple):
    """One annotated face in memory, before the alignment."""

    image: Image
    points: Points  # (5, 2)
    sequence: tuple[int, ...]
    mask: NDArray[np.uint8] | None  # (H, W), bit i-1 set where label i was edited
    parts: Parts | None = None  # as in `Sample`
    fake: bool = False  # as in `Sample`


class Source(Protocol):
    """A data set of annotated faces: read from disk or made on the fly, the transforms see no difference."""

    def __len__(self) -> int: ...

    def load(self, index: int, rng: np.random.Generator) -> LabelledImage:
        """The image at `index`; all chance comes from `rng`."""

    def sample(self, index: int) -> Sample:
        """Its annotation, without decoding anything."""
