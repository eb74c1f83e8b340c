"""Types that several packages share: frozen, with units in the comments."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Verdict = Literal["real", "forged", "undetermined"]
Image = NDArray[np.uint8]  # (H, W, 3) RGB, 0..255
Points = NDArray[np.float32]  # (K, 2) x, y in pixels of the image, origin at the top left corner
Copies = Literal[  # what a network is measured on
    "reencoded", "grey", "toned", "tinted", "film", "sharpened", "captioned", "screen", "printed"
]
SPLITS = ("train", "val", "test")  # of a data set


def printable(text: str) -> str:
    """Text for a screen: control characters and undecodable bytes of file names appear escaped."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


class InputError(Exception):
    """Bad input from the user: `str()` is one line naming the file and the reason; the CLI exits with 2.

    Names and reasons come from files and other libraries: unprintable characters appear escaped.
    """

    def __str__(self) -> str:
        return printable(super().__str__())

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as it is: kinds that are made of several arguments come back from other processes too."""
        return _as_it_was, (type(self), self.args, self.__dict__)


def _as_it_was(kind: type[InputError], arguments: tuple[Any, ...], values: dict[str, Any]) -> InputError:
    error = kind.__new__(kind, *arguments)
    error.__dict__ |= values
    return error


class Terminated(BaseException):
    """SIGTERM came: the command clears up and ends. `str()` is the line that it ends with."""


@dataclass(frozen=True, slots=True)
class Detection:
    """One face found by a detector."""

    box: tuple[float, float, float, float]  # x0, y0, x1, y1 in pixels of the image
    score: float  # 0..1
    points: Points  # (5, 2) pixels: eyes, nose tip, mouth corners; of each pair the image-left one first


@dataclass(frozen=True, slots=True)
class Quality:
    """Measures that decide whether a face can be judged."""

    size: float  # longer side of the face box, pixels
    sharpness: float  # variance of the Laplacian of the aligned grey crop, (grey levels)^2, >= 0
    brightness: float  # mean luma of the aligned face, 0..1
    clipped: float  # share of face pixels at or below 2 or at or above 253, 0..1
    yaw: float  # degrees, positive when the face turns to image right
    pitch: float  # degrees, positive when the face looks up
    roll: float  # degrees, positive clockwise in the image
    # What an image was reduced to, on its own pixels; 0 where nothing was measured.
    grain: float = 0.0  # variance of the Laplacian over that of the luma, at its worst scale, >= 0
    noise: float = 0.0  # deviation of the finest noise, grey levels, >= 0
    flat: float = 0.0  # share of pixels that equal all their neighbours, 0..1
    steps: float = 0.0  # how far the histogram lies in lumps, as of few grey levels, 0..2
    # how far the lines of a square grid stand out, >= 0: by their gradients, or by the spectrum of these
    blocks: float = 0.0
    reduced: float = 0.0  # log-odds that one of these was done to it, from more measures together
    torn: float = 0.0  # how much more neighbouring lines differ than every second one, >= 0
    shade: float = 1.0  # share of the contrast that is light and shade of more than a feature's size, >= 0
    eyes: float = 0.0  # how much lighter the eyes are than the cheeks, in deviations of the luma
    colours: float = 255.0  # deviation of the colours that luma does not tell, grey levels, >= 0
    tone: float = 0.0  # deviation of the colours that luma does tell, grey levels, >= 0


@dataclass(frozen=True, slots=True)
class Face:
    """A detected and measured face: what alignment and abstention need."""

    box: tuple[float, float, float, float]  # x0, y0, x1, y1 in pixels of the image
    score: float  # detection score, 0..1
    landmarks: Points  # (468, 2) MediaPipe Face Mesh numbering, pixels of the image
    quality: Quality
    crop: Image  # (224, 224, 3): the aligned head, on which the quality was measured
