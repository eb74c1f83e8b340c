"""Examples to try, made on the spot: a photograph that scikit-image ships, and forged versions of it."""

import io
import threading
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image

from forgerank.faces.analyze import FaceAnalyzer
from forgerank.forge.chain import forge_image
from forgerank.forge.photos import Photo
from forgerank.types import Image as LoadedImage

_FRAMES, _REAL_FRAMES, _RATE, _SIDE = 72, 12, 12, 512  # of the video: the rest is forged; 1/s; pixels
_turn = threading.Lock()


@dataclass(frozen=True, slots=True)
class Example:
    """How an example is made, and what the user reads about it."""

    title: str
    media_type: str
    sequence: tuple[str, ...] = ()  # components, first to last
    seed: int = 0
    thumbnail: str | None = None  # another example that stands for it


# By file name. NASA's portrait of Eileen Collins, in the public domain.
EXAMPLES = {
    "astronaut.png": Example("Real photograph", "image/png"),
    "four-edits.jpg": Example("Four edits", "image/jpeg", ("eyebrow", "nose", "eye", "lip"), seed=16),
    "two-edits.jpg": Example("Two edits", "image/jpeg", ("nose", "eye"), seed=1),
    "half-forged.mp4": Example("Forged video", "video/mp4", thumbnail="four-edits.jpg"),
}


def example_bytes(name: str) -> bytes:
    """The file of an example, made when first asked for and always the same."""
    with _turn:
        return _make(name)


@cache
def _make(name: str) -> bytes:
    example = EXAMPLES[name]
    if example.media_type == "video/mp4":
        return _video(_make("astronaut.png"), _make("four-edits.jpg"))
    photo = _photo(mirrored=False)
    if not example.sequence:
        buffer = io.BytesIO()
        Image.fromarray(photo.image).save(buffer, "PNG")
        return buffer.getvalue()
    rng = np.random.default_rng(example.seed)
    return forge_image(photo, example.sequence, rng, lambda: ("mirrored", _photo(mirrored=True))).encoded


@cache
def _photo(*, mirrored: bool) -> Photo:
    from skimage import data

    image: LoadedImage = data.astronaut()  # type: ignore[no-untyped-call]
    if mirrored:
        image = np.ascontiguousarray(image[:, ::-1])
    return Photo.prepare(image, FaceAnalyzer().analyze(image)[0].landmarks)


def _video(real: bytes, forged: bytes) -> bytes:
    """A camera that moves in slowly on one image and then on the other."""
    import av

    images = [Image.open(io.BytesIO(data)).convert("RGB") for data in (real, forged)]
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        options = {"preset": "superfast", "crf": "20", "threads": "1"}
        stream = container.add_stream("libx264", rate=_RATE, options=options)
        stream.width = stream.height = _SIDE
        stream.pix_fmt = "yuv420p"
        for i in range(_FRAMES):
            image = images[i >= _REAL_FRAMES]
            margin = 0.001 * i * image.width
            box = (margin, 0.2 * margin, image.width - margin, image.height - 1.8 * margin)
            frame = image.resize((_SIDE, _SIDE), Image.Resampling.BICUBIC, box)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.asarray(frame), format="rgb24")))
        container.mux(stream.encode())
    return buffer.getvalue()
