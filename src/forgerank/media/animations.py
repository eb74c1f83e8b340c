"""Animated images (GIF, WebP, PNG, AVIF): frames in time, sampled as those of a video are."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL.ImageFile import ImageFile

from forgerank.media.files import MediaError, read_file
from forgerank.media.images import MAX_PIXELS
from forgerank.media.opening import OverMaxPixelsError, TooManyPixelsError, open_image, opened
from forgerank.media.rendering import hdr_transfer, pixels
from forgerank.media.structure import StructureError, read_structure
from forgerank.media.suffixes import kind_by_content
from forgerank.media.videos import Progress, Sample

_TIMED_BY_DECODING = ("webp", "avif")  # Pillow tells how long a frame is shown once it is decoded
FEWEST_FRAMES = 3  # a file of fewer is read as pages: a track of a video needs as many
FRAMES_LOOKED_AT = 60  # of an animation are sampled if it has them, however short it is
_MAX_DECODED = 20_000_000_000  # pixels of all frames: minutes
_DEFAULT_MS = 100  # how long a frame is shown that says nothing of it, as browsers do


def is_animation(path: str | Path) -> bool:
    """Whether a file is an image of at least 3 frames in time; False for what cannot be read."""
    if kind_by_content(path) != "image":
        return False
    try:
        content = read_file(path)
        return _frames(path, content) >= FEWEST_FRAMES
    except MediaError:
        return False


def _frames(path: str | Path, content: bytes) -> int:
    try:
        structure = read_structure(content)
    except StructureError as error:
        raise MediaError(path, str(error)) from None
    if structure.frames or structure.format != "AVIF":
        return structure.frames
    with opened(path, content) as image:
        return int(getattr(image, "n_frames", 1))


@contextmanager
def open_animation(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> Iterator["Animation"]:
    """An animated image ready to be sampled. Raises MediaError as `read_photo` does."""
    content = read_file(path)
    with open_image(path, content) as image:
        width, height = image.size
        if width * height > max_pixels:
            reason = f"frames of {width} x {height} pixels, over the limit of {max_pixels}"
            raise OverMaxPixelsError(path, reason)
        frames = _frames(path, content)
        if frames * width * height > _MAX_DECODED:
            raise TooManyPixelsError(path, f"{frames} frames of {width} x {height} pixels")
        yield Animation(path, content, image, frames)


class Animation:
    """The interface of `videos.Video` over the frames of an image file."""

    streams = number = 1
    interlaced = False
    askew = False

    def __init__(self, path: str | Path, content: bytes, image: ImageFile, frames: int) -> None:
        self.path = path
        self.codec = (image.format or "").lower()
        self.size = (0, 0)  # width and height in pixels, once a frame was decoded
        self.frames = frames  # as the file states
        self.hdr = hdr_transfer(image, content)
        self._content = content
        self._times = [0.0]  # seconds at which the frames begin; the last one: where they end
        self._lost = 0
        for number in range(frames):
            try:
                image.seek(number)
                if self.codec in _TIMED_BY_DECODING:
                    image.load()
            except Exception:  # a decoder raises whatever its code stumbles over; the frames so far are good
                break
            milliseconds = image.info.get("duration") or _DEFAULT_MS
            self._times.append(self._times[-1] + float(milliseconds) / 1000)
        self.duration: float | None = self._times[-1]  # seconds
        self.frame_rate: float | None = (len(self._times) - 1) / self._times[-1] if self._times[-1] else None
        self._decoded = 0.0

    @property
    def progress(self) -> Progress:
        """How much was decoded for the samples taken so far."""
        return Progress(self._decoded, self._decoded, self._lost)

    def times(self) -> Iterator[float]:
        """Seconds from the start to every frame, and at last to their end."""
        yield from self._times

    def samples(self, rate: float) -> Iterator[Sample]:
        """The first frame, then the first at or after every multiple of 1 / `rate` seconds."""
        slot, count = 0, len(self._times) - 1
        self._lost = self.frames - count
        # Opened anew: how much a decoder may read of a file is limited, and every pass reads the whole.
        with open_image(self.path, self._content) as image:
            for number in range(count):
                due = math.floor(self._times[number] * rate + 1e-3)
                if due < slot:
                    continue
                try:
                    image.seek(number)
                    image.load()
                    frame = pixels(image, self.path, self.hdr)
                except Exception:  # as above
                    self._lost += 1
                    continue
                slot = due + 1
                self.size = (frame.shape[1], frame.shape[0])
                self._decoded = self._times[number + 1]
                yield Sample(number, self._times[number], frame)
        self._decoded = self._times[-1]
