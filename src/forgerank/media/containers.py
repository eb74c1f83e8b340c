"""Video containers: a file opened safely with PyAV, its packets, and decoded frames as RGB arrays."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from forgerank.extras import require
from forgerank.media.files import MediaError
from forgerank.media.images import MAX_PIXELS
from forgerank.types import Image

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

# Only containers that hold their own streams: a playlist would make FFmpeg read other files.
_FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,ogg,asf"


@contextmanager
def open_container(
    path: str | Path, *, threads: int = 1, max_pixels: int = MAX_PIXELS
) -> Iterator[tuple["InputContainer", list["VideoStream"]]]:
    """A file's container and its video streams, cover images left out. The first stream can be decoded.

    FFmpeg reads this file and no other; `threads` decode. Raises MediaError for a file without a video stream
    that can be decoded, for frames of more than `max_pixels` pixels, and in place of FFmpeg's own errors, of
    the body of the `with` statement as well; MissingExtraError without PyAV.
    """
    require("video")
    import av

    # "file:" keeps a name with a colon from being taken for a protocol.
    url = f"file:{os.path.abspath(path)}"
    options = {"protocol_whitelist": "file", "format_whitelist": _FORMATS}
    try:
        with av.open(url, metadata_errors="ignore", options=options) as container:
            streams = [s for s in container.streams.video if not s.disposition & s.disposition.attached_pic]
            if not streams:
                raise MediaError(path, "no video in the file")
            context = streams[0].codec_context
            if context is None:  # PyAV's stubs do not say so
                raise MediaError(path, "no decoder for its codec")
            if context.width * context.height > max_pixels:
                size = f"{context.width} x {context.height} pixels"
                raise MediaError(path, f"frames of {size}, over the limit of {max_pixels}")
            context.thread_count, context.thread_type = threads, "AUTO"
            context.options = {"max_pixels": str(max_pixels)}
            yield container, streams
    except av.FFmpegError as error:
        raise MediaError(path, f"damaged or no video ({error.strerror or type(error).__name__})") from None


def read_packets(
    container: "InputContainer", stream: "VideoStream", start: int | None = None
) -> Iterator["Packet[VideoStream]"]:
    """Packets of a stream from `start` (in the stream's unit) on, or from the current position.

    Where the file cannot be read any further, the packets end.
    """
    import av

    try:
        if start is not None:
            container.seek(start, stream=stream)
        yield from container.demux(stream)
    except (av.FFmpegError, IndexError):  # the latter from PyAV, where a stream turns up late
        return  # the caller notices missing frames by their number


def upright(frame: "VideoFrame", size: tuple[int, int] | None = None) -> Image | None:
    """A frame as RGB (H, W, 3), rotated as a player shows it; None for pixels that cannot be converted.

    `size` is the width and height before the rotation, the frame's own by default.
    """
    import av

    width, height = size or (None, None)
    try:
        pixels = frame.to_ndarray(format="rgb24", width=width, height=height)
    except (av.FFmpegError, ValueError):
        return None
    return np.ascontiguousarray(np.rot90(pixels, round(frame.rotation / 90)))
