"""Video containers: a file opened safely with PyAV, its packets, and decoded frames as RGB arrays."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from forgerank.extras import require
from forgerank.media.files import MediaError
from forgerank.media.hdr import TRANSFERS, tone_map
from forgerank.media.images import MAX_PIXELS
from forgerank.media.opening import OverMaxPixelsError
from forgerank.types import Image

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

# Only containers that hold their own streams: a playlist would make FFmpeg read other files.
_FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,ogg,asf"
# What may come before the index of an MP4 or QuickTime file.
_BOXES = frozenset({b"ftyp", b"mdat", b"free", b"skip", b"wide", b"uuid"})
_INDEX = b"moov"
_PIECES = frozenset({b"moof", b"styp", b"sidx"})  # what a piece of a stream begins with
_MOST_BOXES = 100
_ROUNDED = 2  # pixels by which sizes of one shape may differ
_IMAGE_CODECS = frozenset({"mjpeg", "png", "apng", "bmp", "gif", "webp", "tiff", "jpeg2000"})
# Codings of colour as H.273 numbers them. Reserved numbers, codings of constant luminance and those that are
# derived from the primaries FFmpeg does not convert: players take them for what is near to them.
_BT709, _UNSTATED, _BT2020 = 1, 2, 9
_NEAR = {3: _UNSTATED, 10: _BT2020, 12: _BT709, 13: _BT709}
# Those whose planes are other than light and two differences: shown as what is near they would be wrong.
_OTHERS = {8: "YCgCo", 11: "Y'D'zD'x", 14: "ICtCp", 15: "IPT-C2", 16: "YCgCo-Re", 17: "YCgCo-Ro"}
_BACKWARDS = 1  # seconds: where decoding times fall by more, the clock of a stream was reset
_MPEG_CLOCK = Fraction(1, 90_000)  # seconds
_OVERFLOW = 1 << 32  # of its units; FFmpeg takes a clock that was set back for one that overflowed
_WIDEST_PIXEL = 4  # width : height or height : width; a file that states more is not believed


class _ColoursError(Exception):
    """Names a coding of colours that is not read."""


@contextmanager
def open_container(
    path: str | Path, *, threads: int = 1, max_pixels: int = MAX_PIXELS
) -> Iterator[tuple["InputContainer", list["VideoStream"]]]:
    """A file's container and its video streams, cover images left out. The first stream can be decoded.

    Streams of images come last: not every file says which stream is its cover.

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
            streams.sort(key=_holds_images)
            if not streams:
                raise MediaError(path, _cut_index(path) or "no video in the file")
            context = streams[0].codec_context
            if context is None:  # PyAV's stubs do not say so
                raise MediaError(path, "no decoder for its codec")
            width, height = square_pixels(pixel_ratio(streams[0]), context.width, context.height)
            if width * height > max_pixels:
                size = f"{width} x {height} pixels"
                raise OverMaxPixelsError(path, f"frames of {size}, over the limit of {max_pixels}")
            context.thread_count, context.thread_type = threads, "AUTO"
            context.options = {"max_pixels": str(max_pixels)}
            yield container, streams
    except _ColoursError as error:
        raise MediaError(path, f"its colours are coded as {error}: convert it to BT.709 first") from None
    except av.FFmpegError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise MediaError(path, str(error.strerror).lower()) from error
        reason = f"damaged or no video ({error.strerror or type(error).__name__})"
        raise MediaError(path, _cut_index(path) or reason) from None


def _holds_images(stream: "VideoStream") -> bool:
    """Whether each frame of a stream is an image file, as a cover is, and the videos of some cameras."""
    return stream.codec_context is not None and stream.codec_context.name in _IMAGE_CODECS


def _cut_index(path: str | Path) -> str | None:
    """Says so of an MP4 or QuickTime file that ends before or inside its index, which many recorders write
    last, or that is a piece of a stream without one.
    """
    try:
        with open(path, "rb") as file:
            size, at = os.fstat(file.fileno()).st_size, 0
            for _ in range(_MOST_BOXES):
                file.seek(at)
                head = file.read(16)
                if head[4:8] in _PIECES:
                    return "a piece of a stream, without its first piece (moov): join it to that one (cat)"
                if head[4:8] not in _BOXES | {_INDEX}:
                    return None
                length = int.from_bytes(head[:4], "big")
                if length == 1:  # the size follows, in 64 bits
                    length = int.from_bytes(head[8:16], "big")
                at += length
                if head[4:8] == _INDEX:
                    return "cut off inside its index (moov)" if at > size else None
                if length == 0 or at >= size:
                    return "cut off before its index (moov), without which no frame can be found"
                if length < 8:
                    return None
    except OSError:
        pass
    return None


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


def clock_was_reset(packet: "Packet[VideoStream]", last: int | None) -> bool:
    """Whether the times of a stream begin anew, as where files were joined, at a packet that follows one of
    the decoding time `last` (in the stream's unit).
    """
    if packet.dts is None or last is None or packet.time_base is None:
        return False
    step = packet.dts - last
    overflowed = packet.time_base == _MPEG_CLOCK and step > _OVERFLOW
    return overflowed or step * packet.time_base < -_BACKWARDS


def overflows(stream: "VideoStream", seconds: float) -> bool:
    """Whether a duration is one that FFmpeg has of a clock that was set back."""
    return stream.time_base == _MPEG_CLOCK and seconds > _OVERFLOW * _MPEG_CLOCK


def states_no_times(container: "InputContainer", stream: "VideoStream") -> bool:
    """Whether the times of frames are guessed, and wrong: an AVI knows only the order of decoding, and of
    these codecs that is not the order of display. The frames come out of the decoder in the right order.
    """
    return container.format.name == "avi" and stream.codec_context.codec.canonical_name in ("h264", "hevc")


def pixel_ratio(stream: "VideoStream", first: Fraction | None = None) -> Fraction:
    """Width : height of the pixels of the frame that was decoded last.

    `first` is what the coded video said at its start. Where it says otherwise now, as where a broadcast
    changes between 4:3 and 16:9, that counts, before it what the file says.
    """
    now = stream.codec_context.sample_aspect_ratio
    if first and now and now != first:
        return now
    return stream.sample_aspect_ratio or Fraction(1)


def square_pixels(ratio: Fraction, width: int, height: int) -> tuple[int, int]:
    """The size at which a frame whose pixels have this ratio has square ones: the side that is too short is
    enlarged.
    """
    if not Fraction(1, _WIDEST_PIXEL) <= ratio <= _WIDEST_PIXEL:
        return width, height
    return (round(width * ratio), height) if ratio > 1 else (width, round(height / ratio))


def upright(frame: "VideoFrame", ratio: Fraction, size: tuple[int, int] | None = None) -> Image | None:
    """A frame as a player shows it, RGB (H, W, 3); None for pixels that cannot be converted.

    Turned and mirrored by its display matrix, with square pixels, HDR tone-mapped to BT.709; of two fields
    the first, with lines between its own. `ratio` is that of its pixels, `size` the width and height with
    square pixels into which it is fitted before it is turned; its own by default. For colours whose coding is
    not read it raises what `open_container` makes a MediaError of.
    """
    import av
    from av.sidedata.sidedata import SideDataContainer

    own = square_pixels(ratio, frame.width, frame.height)
    whole = size or own
    width, height = _fitted(own, whole)
    coding = int(frame.colorspace)
    if coding in _OTHERS:
        raise _ColoursError(_OTHERS[coding])
    near = _UNSTATED if coding > max(_OTHERS) else _NEAR.get(coding)
    if near is not None:
        frame.colorspace = _BT2020 if frame.color_primaries == _BT2020 else near
    transfer = TRANSFERS.get(frame.color_trc)
    pixel_format = "rgb24" if transfer is None else "rgb48le"
    try:
        progressive = _first_field(frame) if frame.interlaced_frame else frame
        pixels: Any = progressive.to_ndarray(format=pixel_format, width=width, height=height, threads=1)
        # `frame.side_data` and its frame would keep each other, pixels included, until the next collection.
        matrix: Any = SideDataContainer(frame).get("DISPLAYMATRIX")  # type: ignore[call-arg]
    except (av.FFmpegError, ValueError):
        return None
    if transfer is None:
        image = pixels.astype(np.uint8, copy=False)
    else:
        image = tone_map(pixels.astype(np.uint16, copy=False), transfer)
    if (width, height) != whole:  # black beside it, as players have it
        left, top = (whole[0] - width) // 2, (whole[1] - height) // 2
        right, bottom = whole[0] - width - left, whole[1] - height - top
        image = np.pad(image, ((top, bottom), (left, right), (0, 0)))
    if matrix is not None:
        image = displayed(image, np.frombuffer(matrix, np.int32))
    return np.ascontiguousarray(image)


def _first_field(frame: "VideoFrame") -> "VideoFrame":
    """The first of the two fields of an interlaced frame, with lines between its lines.

    The other is of a later moment. Together they tear what moves into lines, in which a forgery looks real.
    """
    import av

    graph = av.filter.Graph()
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base or Fraction(1)
    )
    fill, sink = graph.add("estdif", "mode=frame:deint=all"), graph.add("buffersink")
    source.link_to(fill)
    fill.link_to(sink)
    graph.configure()
    source.push(frame)
    source.push(None)
    return cast("VideoFrame", sink.pull())


def _fitted(size: tuple[int, int], into: tuple[int, int]) -> tuple[int, int]:
    """The width and height of a frame that is enlarged or reduced to lie in another; all of that where their
    shapes differ by rounding alone.
    """
    scale = min(into[0] / size[0], into[1] / size[1])
    width, height = max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
    return into if abs(width - into[0]) + abs(height - into[1]) <= _ROUNDED else (width, height)


def displayed(pixels: Image, matrix: NDArray[np.int32]) -> Image:
    """Pixels (H, W, 3) after the turn and flip of a display matrix (9,), the nearest of the eight.

    A stored x, y is shown at a x + c y, b x + d y, where the matrix is a, b, u, c, d, v, ...
    """
    a, b, _, c, d = (int(value) for value in matrix[:5])
    if abs(b) + abs(c) > abs(a) + abs(d):
        pixels, a, d = pixels.transpose(1, 0, 2), c, b
    return pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]
