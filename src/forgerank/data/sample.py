"""Samples of a data set, on disk and decoded, and the protocol of all data sets of faces."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PILImage
from PIL import UnidentifiedImageError

from forgerank.files import os_reason
from forgerank.labels import Parts
from forgerank.media.images import read_photo
from forgerank.types import Image, InputError, Points


@dataclass(frozen=True, slots=True)
class Sample:
    """One annotated face on disk."""

    image: Path
    sequence: tuple[int, ...]  # 1-based labels in order of manipulation; empty where real or unknown
    group: str  # who is shown: samples of one group are never independent
    split: str
    dataset: str
    points: Points | None = None  # (5, 2) pixels of the stored image; None: unknown, or no face was found
    mask: Path | None = None  # 8-bit image, bit i-1 set where label i was edited
    source: str = ""  # where the photograph came from, for the breakdown of an evaluation
    video: str = ""  # whose frame it is: frames of one video are scored together; empty for a photograph
    method: str = ""  # how it was forged, as the data set calls it
    compression: str = ""  # of the video, as the data set calls it
    # Of each label 1 manipulated, 0 not, None unknown; None: the sequence is complete.
    parts: Parts | None = None
    fake: bool = False  # forged, even where no label is known

    @property
    def forged(self) -> bool:
        """Whether anything was manipulated: always known."""
        return self.fake or bool(self.sequence) or 1 in (self.parts or ())


class LabelledImage(NamedTuple):
    """One annotated face in memory, before the alignment."""

    image: Image
    points: Points | None  # (5, 2); None: the whole image is resized in place of an alignment
    sequence: tuple[int, ...]
    mask: NDArray[np.uint8] | None  # (H, W), bit i-1 set where label i was edited
    parts: Parts | None = None  # as in `Sample`
    fake: bool = False  # as in `Sample`


class Source(Protocol):
    """A data set of annotated faces, read from disk or made on the fly."""

    def __len__(self) -> int: ...

    def load(self, index: int, rng: np.random.Generator) -> LabelledImage:
        """The image at `index`; every random choice comes from `rng`."""

    def sample(self, index: int) -> Sample:
        """The annotation at `index`, without decoding anything."""


class Samples:
    """Samples on disk as a `Source`."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def sample(self, index: int) -> Sample:
        """The annotation at `index`."""
        return self.samples[index]

    def load(self, index: int, rng: np.random.Generator) -> LabelledImage:
        """Decode the image and its mask; `rng` is not used. Raises InputError for an unreadable file."""
        return load_sample(self.samples[index])


def load_sample(sample: Sample) -> LabelledImage:
    """Decode one sample. Raises InputError for an unreadable file."""
    image = read_image(sample.image)
    mask = None if sample.mask is None else read_mask(sample.mask, image)
    return LabelledImage(image, sample.points, sample.sequence, mask, sample.parts, sample.fake)


def read_image(path: Path, content: bytes | None = None) -> Image:
    """An image as RGB (H, W, 3), turned upright; `content` replaces that of the file.

    Raises InputError for an unreadable file.
    """
    return read_photo(path, data=content)


def read_mask(path: Path, image: Image, content: bytes | None = None) -> NDArray[np.uint8]:
    """The mask (H, W) of an image's edited labels, one bit per label; `content` as in `read_image`.

    Raises InputError for an unreadable file and for a mask of another size than the image.
    """
    try:
        with PILImage.open(path if content is None else io.BytesIO(content)) as opened:
            if opened.mode != "L":
                raise InputError(f"{path}: a mask must be 8-bit grey, got mode {opened.mode}")
            mask = np.asarray(opened)
    except InputError:
        raise
    except UnidentifiedImageError:
        raise InputError(f"{path}: cannot be read as a mask: not an image") from None
    except Exception as error:  # decoders raise errors of every kind
        reason = os_reason(error) if isinstance(error, OSError) else error
        raise InputError(f"{path}: cannot be read as a mask: {reason}") from error
    if mask.shape != image.shape[:2]:
        sizes = [f"{width} x {height}" for height, width in (mask.shape, image.shape[:2])]
        raise InputError(f"{path}: a mask of {sizes[0]} pixels for an image of {sizes[1]}")
    return mask
