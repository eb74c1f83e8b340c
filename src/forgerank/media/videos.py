"""Videos: frames at a steady rate with the times of the stream, and how much of the file could be decoded."""

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from heapq import heappop, heappush
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from forgerank.extras import require
from forgerank.media.images import MAX_PIXELS, MediaError, check_file
from forgerank.media.images import VIDEO_EXTENSIONS as VIDEO_EXTENSIONS
from forgerank.types import Image

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

# Only containers that hold their own streams: a playlist would make FFmpeg read other files.
_FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,ogg,asf"
_HEAD_BYTES = 4096
_MAGICS = (
    b"\x1a\x45\xdf\xa3",  # Matroska, WebM
    b"\x00\x00\x01\xba",  # MPEG program stream
    b"\x00\x00\x01\xb3",  # MPEG video
    b"FLV\x01",
    b"OggS",
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11",  # ASF
)
_QUICKTIME_ATOMS = (b"moov", b"mdat", b"wide", b"skip", b"free", b"pnot")  # of files without a type
_PICTURE_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"mif1", b"avif")  # images in the same container

_SPARSE = 8  # frames per sample from which on frames are passed over
_MOST_SKIPPED = 16  # frames in a row that no other frame needs; more than that were lost
_MOST_PENDING = 256  # packets whose frames have not come out; beyond it the time stamps are broken
_BACKWARDS = 1.0  # seconds: where decoding times fall by more, the clock of the stream was set anew


class Sample(NamedTuple):
    """One frame that was asked for."""

    number: int  # counted from 0 in the order of display, lost frames included
    time: float  # seconds from the start of the file, as a player shows it
    image: Image  # upright, scaled to the size of the first one


class Progress(NamedTuple):
    """How much of a video was decoded so far."""

    seconds: float  # of video whose frames came out whole
    end: float  # seconds: where the last frame that came out ends
    lost: int  # frames that did not come out, or came out damaged


def is_video(path: str | Path) -> bool:
    """Whether a file's first bytes are those of a video container; False for what cannot be read.

    MP4 and QuickTime, Matroska and WebM, AVI, MPEG transport and program streams, FLV, Ogg, Windows Media.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(_HEAD_BYTES)
    except (OSError, ValueError):
        return False
    if head[4:8] == b"ftyp":
        return head[8:12] not in _PICTURE_BRANDS
    return (
        head.startswith(_MAGICS)
        or head[4:8] in _QUICKTIME_ATOMS
        or (head[:4] == b"RIFF" and head[8:12] == b"AVI ")
        or any(_is_transport_stream(head, first, step) for first, step in ((0, 188), (4, 192)))
    )


def _is_transport_stream(head: bytes, first: int, step: int) -> bool:
    return len(head) > first + 4 * step and all(head[first + i * step] == 0x47 for i in range(5))


def read_packets(
    container: "InputContainer", stream: "VideoStream", start: int | None = None
) -> Iterator["Packet[VideoStream]"]:
    """Packets from a time on, or from here on; an unreadable place ends them."""
    import av

    try:
        if start is not None:
            container.seek(start, stream=stream)
        yield from container.demux(stream)
    except (av.FFmpegError, IndexError):  # the latter from PyAV, where a stream turns up late
        return  # what is missed is missed by its number


def upright(frame: "VideoFrame", size: tuple[int, int] | None = None) -> Image | None:
    """RGB (H, W, 3), turned as a player turns it; None for pixels that cannot be converted.

    `size` is the width and height before the turn, the frame's own by default.
    """
    import av

    width, height = size or (None, None)
    try:
        pixels = frame.to_ndarray(format="rgb24", width=width, height=height)
    except (av.FFmpegError, ValueError):
        return None
    return np.ascontiguousarray(np.rot90(pixels, round(frame.rotation / 90)))


@contextmanager
def open_video(path: str | Path, *, threads: int = 1, max_pixels: int = MAX_PIXELS) -> Iterator["Video"]:
    """A video ready to be sampled. `threads` decode; more than `max_pixels` pixels in a frame are refused.

    Raises MediaError for what is no video, and MissingExtraError without PyAV.
    """
    check_file(path)
    if not is_video(path):
        raise MediaError(path, "not a video (MP4, MOV, MKV, WebM, AVI, MPEG, FLV, Ogg and WMV are read)")
    require("video")
    import av

    try:
        with open_container(path) as container:
            streams = [s for s in container.streams.video if not s.disposition & s.disposition.attached_pic]
            if not streams:
                raise MediaError(path, "no video in the file")
            context = streams[0].codec_context
            if context is None:  # PyAV's stubs do not tell
                raise MediaError(path, "no decoder for its codec")
            if context.width * context.height > max_pixels:
                size = f"{context.width} x {context.height} pixels"
                raise MediaError(path, f"frames of {size}, over the limit of {max_pixels}")
            context.thread_count, context.thread_type = threads, "AUTO"
            context.options = {"max_pixels": str(max_pixels)}
            yield Video(path, container, streams)
    except av.FFmpegError as error:
        raise MediaError(path, f"damaged or no video ({error.strerror or type(error).__name__})") from None


def open_container(path: str | Path) -> "InputContainer":
    """A video's container, which reads this file and no other. PyAV's errors are the caller's."""
    import av

    # "file:" keeps a name with a colon from being taken for a protocol.
    options = {"protocol_whitelist": "file", "format_whitelist": _FORMATS}
    return av.open(f"file:{os.path.abspath(path)}", metadata_errors="ignore", options=options)


class _Fed(NamedTuple):
    """A packet whose frame has not come out. They sort by time."""

    pts: int
    wanted: bool
    due: bool  # its frame must come out; others may be passed over


class Video:
    """An open video: its facts, and its frames once."""

    def __init__(
        self, path: str | Path, container: "InputContainer", streams: "Sequence[VideoStream]"
    ) -> None:
        self.path = path
        self.streams = len(streams)  # the first is read
        stream = streams[0]
        duration = float(stream.duration * stream.time_base) if stream.duration and stream.time_base else 0.0
        duration = duration or (container.duration or 0) / 1e6
        rate = stream.average_rate or stream.guessed_rate
        self.duration: float | None = duration if duration > 0 else None  # seconds, as the file states it
        self.frame_rate: float | None = float(rate) if rate else None  # 1/s, mean
        self.codec: str = stream.codec_context.codec.canonical_name
        self.size = (0, 0)  # width and height in pixels of an upright frame, once one came out
        self._container, self._stream = container, stream
        self._unit = float(stream.time_base or 0)  # seconds per unit of the stream's times
        self._start = (container.start_time or 0) / 1e6  # seconds
        self._decoding_time: int | None = None  # of the last packet
        self._sparse = False
        self._slot = 0  # the next wanted time is this many intervals from the start
        self._fed: list[_Fed] = []  # a heap
        self._number = -1  # of the last frame that came out
        self._last: float | None = None  # its time
        self._seconds, self._lost = 0.0, 0
        self._stored_size: tuple[int, int] | None = None  # before a frame is turned

    @property
    def progress(self) -> Progress:
        """How far the samples that were taken so far lead."""
        last = 0.0 if self._last is None else 1.0 / (self.frame_rate or math.inf)
        return Progress(self._seconds + last, (self._last or 0.0) + last, self._lost)

    def extent(self) -> float:
        """Seconds from the start to the last packet that is there; nothing is decoded."""
        last = 0.0
        with open_container(self.path) as again:  # not every container leads back to its start
            [stream] = [s for s in again.streams.video if s.index == self._stream.index]
            for packet in read_packets(again, stream):
                if packet.pts is not None and packet.size and not packet.is_corrupt:
                    last = max(last, packet.pts * self._unit - self._start)
        return last

    def samples(self, rate: float) -> Iterator[Sample]:
        """The first frame, then the first at or after every multiple of 1 / `rate` seconds.

        Far apart they are chosen as packets come, so that the decoder can pass over what nothing needs: where
        the file stores frames out of order, one a few frames later is taken. One that is lost is replaced by
        the next that comes out.
        """
        self._sparse = rate * _SPARSE <= (self.frame_rate or 0.0)
        owed = False
        for frame in self._frames(rate):
            owed = self._come_out(frame, rate) or owed
            if not owed or frame.is_corrupt:
                continue
            self._stored_size = self._stored_size or (frame.width, frame.height)
            image = upright(frame, self._stored_size)
            if image is not None:
                owed = False
                self.size = (image.shape[1], image.shape[0])
                yield Sample(self._number, self._last or 0.0, image)
        self._lost += _lost(self._fed)

    def _frames(self, rate: float) -> Iterator["VideoFrame"]:
        flushed = False
        for packet in read_packets(self._container, self._stream):
            flushed = not packet.size
            wanted = not flushed and self._is_wanted(packet, rate)
            due = wanted or not self._sparse or packet.pts is None
            self._stream.codec_context.skip_frame = "DEFAULT" if due else "NONREF"
            frames = None if packet.is_corrupt else self._decode(packet)
            if not flushed and not packet.is_discard and packet.pts is not None:
                if len(self._fed) >= _MOST_PENDING:
                    self._fed.clear()
                heappush(self._fed, _Fed(packet.pts, wanted, due or frames is None))
            yield from frames or ()
        if not flushed:  # the end of the file is missing
            yield from self._decode(None) or ()

    def _decode(self, packet: "Packet[VideoStream] | None") -> "list[VideoFrame] | None":
        """The frames that a packet, or the end, brings out; None where it is damaged."""
        import av

        try:
            return self._stream.decode(packet)
        except av.FFmpegError:
            return None

    def _is_wanted(self, packet: "Packet[VideoStream]", rate: float) -> bool:
        if packet.dts is not None:
            fall = 0 if self._decoding_time is None else packet.dts - self._decoding_time
            if fall * self._unit < -_BACKWARDS:
                self._start += fall * self._unit
                self._fed.clear()
            self._decoding_time = packet.dts
        if not self._sparse or packet.pts is None or packet.is_discard or packet.is_corrupt:
            return False
        return self._take(packet.pts * self._unit - self._start, rate)

    def _take(self, time: float, rate: float) -> bool:
        """Whether a frame of this time is the first at or after the next wanted time; then it is taken."""
        slot = math.floor(time * rate + 1e-3)
        if slot < self._slot:
            return False
        self._slot = slot + 1
        return True

    def _come_out(self, frame: "VideoFrame", rate: float) -> bool:
        """Count a frame and those lost before it; whether it or one of those is wanted."""
        passed: list[_Fed] = []
        while frame.pts is not None and self._fed and self._fed[0].pts <= frame.pts:
            passed.append(heappop(self._fed))
        missing = [fed for fed in passed if fed.pts != frame.pts]
        lost = _lost(missing) + bool(frame.is_corrupt)
        self._lost += lost
        self._number += max(1, len(passed))
        if frame.pts is None:
            time = self._number / (self.frame_rate or 25.0)
        else:
            time = frame.pts * self._unit - self._start
        by_packet = self._sparse and frame.pts is not None
        wanted = any(fed.wanted for fed in passed) if by_packet else self._take(time, rate)
        if self._last is not None:
            self._seconds += max(0.0, time - self._last) * (1.0 - lost / max(1, len(passed), lost))
        self._last = max(time, self._last or 0.0)
        return wanted


def _lost(missing: list[_Fed]) -> int:
    """How many of the frames that did not come out should have."""
    return len(missing) if len(missing) > _MOST_SKIPPED else sum(fed.due for fed in missing)
