"""Examples to try, made on the spot: a photograph that scikit-image ships, and forged versions of it.

The page offers them, and `examples/demo.py` judges some.
"""

import io
import threading
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np
from PIL import Image

from forgerank.faces.analyze import FaceAnalyzer
from forgerank.forge.chain import forge_image
from forgerank.forge.photos import Photo
from forgerank.forge.whole_faces import whole_face
from forgerank.types import Image as LoadedImage

_FRAMES, _REAL_FRAMES, _RATE, _SIDE = 72, 12, 12, 512  # of the video: the rest is forged; 1/s; pixels
_SEED = 0  # of every forgery: the first one, whatever comes out
_QUALITY = 95  # of the JPEG of a whole-face forgery
_KINDS = {
    "face_swap": "another person's face",
    "self_blend": "face blended with a changed copy of itself",
}
_turn = threading.Lock()


@dataclass(frozen=True, slots=True)
class Example:
    """How an example is made, and what the user reads about it."""

    title: str
    media_type: str
    sequence: tuple[str, ...] = ()  # components, first to last
    kind: str | None = None  # of a whole-face forgery, a name of `FORGERIES`
    thumbnail: str | None = None  # another example that stands for it

    @property
    def truth(self) -> str:
        """What was done to it, in words."""
        if self.kind is not None:
            return f"forged: {_KINDS[self.kind]}"
        return f"forged: {', then '.join(self.sequence)}" if self.sequence else "real"


# By file name. NASA's portrait of Eileen Collins, and as donor of a face the US Navy's of Grace Hopper, which
# Matplotlib ships; both are in the public domain.
EXAMPLES = {
    "astronaut.png": Example("Real photograph", "image/png"),
    "four-edits.jpg": Example("Four edits", "image/jpeg", ("eyebrow", "nose", "eye", "lip")),
    "two-edits.jpg": Example("Two edits", "image/jpeg", ("nose", "eye")),
    "face-swap.jpg": Example("Face swap", "image/jpeg", kind="face_swap"),
    "self-blend.jpg": Example("Self-blend", "image/jpeg", kind="self_blend"),
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
    photo, rng = _astronaut(mirrored=False), np.random.default_rng(_SEED)
    if example.sequence:
        return forge_image(
            photo, example.sequence, rng, lambda: ("mirrored", _astronaut(mirrored=True))
        ).encoded
    image = photo.image
    if example.kind is not None:
        donor = _other_person() if example.kind == "face_swap" else photo
        image = whole_face(photo, rng, donor, {example.kind: 1.0}).image
    buffer = io.BytesIO()
    options = {"quality": _QUALITY} if example.media_type == "image/jpeg" else {}
    Image.fromarray(image).save(buffer, example.media_type.removeprefix("image/"), **options)
    return buffer.getvalue()


@cache
def _astronaut(*, mirrored: bool) -> Photo:
    from skimage import data

    image: LoadedImage = data.astronaut()  # type: ignore[no-untyped-call]
    return _prepared(np.ascontiguousarray(image[:, ::-1]) if mirrored else image)


def _other_person() -> Photo:
    content = files("matplotlib").joinpath("mpl-data/sample_data/grace_hopper.jpg").read_bytes()
    return _prepared(np.asarray(Image.open(io.BytesIO(content)).convert("RGB")))


def _prepared(image: LoadedImage) -> Photo:
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
