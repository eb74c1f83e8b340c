"""Videos of every container and codec that PyAV writes quickly, and damage that keeps their structure."""

import io
import os
from collections.abc import Sequence
from functools import cache
from random import Random
from typing import TYPE_CHECKING

from hostile.damage import change_fields, damage

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

WIDTH, HEIGHT, FRAMES = 64, 48, 8
_FILES = (  # container, codec, pixel format
    ("mp4", "libx264", "yuv420p"),
    ("mp4", "libx265", "yuv420p"),
    ("mov", "mjpeg", "yuvj420p"),
    ("matroska", "libx264", "yuv444p"),
    ("webm", "libvpx-vp9", "yuv420p"),
    ("webm", "libsvtav1", "yuv420p"),
    ("avi", "mpeg4", "yuv420p"),
    ("mpegts", "libx264", "yuv420p"),
    ("mpeg", "mpeg2video", "yuv420p"),
    ("flv", "flv", "yuv420p"),
    ("ogg", "libvpx", "yuv420p"),
    ("asf", "wmv2", "yuv420p"),
)


@cache
def seeds() -> tuple[bytes, ...]:
    """Small valid files; what this build of FFmpeg does not write is left out."""
    import av

    files = []
    for container, codec, pixels in _FILES:
        try:
            files.append(_encoded(container, codec, pixels))
        except (av.FFmpegError, ValueError):
            continue
    return tuple(files)


@cache
def portraits() -> tuple[bytes, ...]:
    """Videos of a face that moves a little."""
    import numpy as np
    from skimage import data

    astronaut = data.astronaut()
    frames = [np.ascontiguousarray(astronaut[20 + i : 212 + i, 120:312]) for i in range(FRAMES)]
    return tuple(_encoded(*_FILES[i], frames) for i in (0, 4))


def hostile_portrait(rng: Random) -> bytes:
    """A video of a face; most of what is damaged behind its header still decodes."""
    data = bytearray(rng.choice(portraits()))
    for _ in range(rng.randint(0, 6)):
        data[rng.randrange(len(data) // 3, len(data))] = rng.randrange(256)
    return bytes(data[: rng.choice((len(data), rng.randrange(len(data))))])


def _stripes() -> "list[NDArray[np.uint8]]":
    import numpy as np

    y, x = np.mgrid[:HEIGHT, :WIDTH]
    channels = ([x * 4 % 256, y * 5 % 256, (x + y + 9 * number) * 3 % 256] for number in range(FRAMES))
    return [np.stack(three, axis=-1).astype(np.uint8) for three in channels]


def _encoded(container: str, codec: str, pixels: str, frames: "Sequence[NDArray[np.uint8]]" = ()) -> bytes:
    import av

    frames = frames or _stripes()
    os.environ.setdefault("SVT_LOG", "1")  # it would print its settings
    stream = io.BytesIO()
    with av.open(stream, "w", format=container) as file:
        video = file.add_stream(codec, rate=25)
        video.height, video.width = frames[0].shape[:2]
        video.pix_fmt = pixels
        video.codec_context.thread_count = 1
        if codec in ("libx264", "libx265"):
            video.options = {"preset": "ultrafast", "g": "4", "x265-params": "log-level=none:pools=none"}
        for frame in frames:
            file.mux(video.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        file.mux(video.encode())
    return stream.getvalue()


def hostile_video(rng: Random) -> bytes:
    """A damaged video: by its structure, byte by byte, or both."""
    content = rng.choice(seeds())
    choice = rng.randrange(4)
    if choice:
        content = change_fields(content, rng, _marks(content))
    return damage(content, rng, seeds()) if choice != 1 else content


_BOXES = b"ftyp moov mvhd trak tkhd mdia mdhd hdlr minf stbl stsd avc1 avcC stts stsc stsz stco elst mdat"
_RIFF = b"RIFF LIST avih strl strh strf movi 00dc idx1"
_ELEMENTS = (
    *(
        b"\x1a\x45\xdf\xa3",
        b"\x18\x53\x80\x67",
        b"\x15\x49\xa9\x66",
        b"\x16\x54\xae\x6b",
        b"\x1f\x43\xb6\x75",
    ),
    *(b"\x1c\x53\xbb\x6b", b"\xa3", b"\xae", b"\xb0", b"\xba", b"\xe7", b"\x44\x89", b"\x2a\xd7\xb1"),
)


def _marks(content: bytes) -> tuple[bytes, ...]:
    if content[4:8] == b"ftyp":
        return tuple(_BOXES.split())
    return tuple(_RIFF.split()) if content[:4] == b"RIFF" else _ELEMENTS
