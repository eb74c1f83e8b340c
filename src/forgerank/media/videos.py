"""Videos: frames at a steady rate with the times of the stream, and how much of the file could be decoded."""

import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from heapq import heappop, heappush
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from forgerank.media.containers import (
    clock_was_reset,
    open_container,
    overflows,
    pixel_ratio,
    read_packets,
    square_pixels,
    states_no_times,
    upright,
)
from forgerank.media.files import MediaError, read_head
from forgerank.media.hdr import TRANSFERS
from forgerank.media.images import MAX_PIXELS
from forgerank.media.opening import unread
from forgerank.media.suffixes import kind_of_head
from forgerank.types import Image

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

_READ = "MP4, MOV, MKV, WebM, AVI, MPEG, FLV, Ogg and WMV"
_SPARSE = 8  # frames per sample from which on the decoder skips frames
_MOST_SKIPPED = 16  # frames in a row that the decoder may skip; of more, all count as lost
_MOST_PENDING = 256  # packets that wait for their frame; beyond it the time stamps are broken


class Sample(NamedTuple):
    """One sampled frame."""

    number: int  # counted from 0 in the order of display, lost frames included
    time: float  # seconds from the start of the file, as a player shows it
    image: Image  # upright, fitted into the size of the first one


class Progress(NamedTuple):
    """How much of a video was decoded so far."""

    seconds: float  # of video whose frames were decoded without damage
    end: float  # seconds: where the last decoded frame ends
    lost: int  # frames that were not decoded, or damaged


@contextmanager
def open_video(path: str | Path, *, threads: int = 1, max_pixels: int = MAX_PIXELS) -> Iterator["Video"]:
    """A video ready to be sampled. `threads` decode; more than `max_pixels` pixels in a frame are refused.

    Raises MediaError for what is no video, and MissingExtraError without PyAV.
    """
    head = read_head(path)
    if kind_of_head(head) != "video":
        raise MediaError(path, unread(head) or f"not a video ({_READ} are read)")
    with open_container(path, threads=threads, max_pixels=max_pixels) as (container, streams):
        yield Video(path, container, streams, max_pixels)


class _Pending(NamedTuple):
    """A packet whose frame the decoder has not returned yet; ordered by time."""

    pts: int
    wanted: bool
    due: bool  # its frame must be decoded; others may be skipped


class Video:
    """An open video: its properties, and its frames, which can be read once."""

    def __init__(
        self,
        path: str | Path,
        container: "InputContainer",
        streams: "Sequence[VideoStream]",
        max_pixels: int,
    ) -> None:
        self.path = path
        self._max_pixels = max_pixels
        self.streams = len(streams)  # the first of these is read
        stream = streams[0]
        self.number = 1 + sum(other.index < stream.index for other in streams)  # of that one, in the file
        duration = float(stream.duration * stream.time_base) if stream.duration and stream.time_base else 0.0
        duration = duration or (container.duration or 0) / 1e6
        rate = stream.average_rate or stream.guessed_rate
        # Seconds, as the file states it.
        self.duration: float | None = duration if duration > 0 and not overflows(stream, duration) else None
        self.frame_rate: float | None = float(rate) if rate else None  # 1/s, mean
        self.codec: str = stream.codec_context.codec.canonical_name
        self.size = (0, 0)  # width and height in pixels of an upright frame, once one was decoded
        self.hdr: str | None = None  # "HLG" or "PQ" where a frame was tone-mapped
        self.interlaced = False  # whether one field of a frame was taken for it
        self.askew = False  # whether the file turns a frame by no multiple of 90 degrees
        self._container, self._stream = container, stream
        self._unit = float(stream.time_base or 0)  # seconds per unit of the stream's times
        self._start = (container.start_time or 0) / 1e6  # seconds
        self._by_order = states_no_times(container, stream)
        self._clock: deque[float] = deque(maxlen=_MOST_PENDING)  # then: seconds of the next frames
        self._sparse = False
        self._slot = 0  # the next wanted time is this many intervals from the start
        self._pending: list[_Pending] = []  # a heap
        self._number = -1  # of the last decoded frame
        self._last: float | None = None  # its time
        self._seconds, self._lost = 0.0, 0
        self._pixels = stream.codec_context.sample_aspect_ratio  # as the coded video says at its start
        self._whole: tuple[int, int] | None = None  # the size of the first frame before it is turned

    @property
    def progress(self) -> Progress:
        """How much was decoded for the samples taken so far."""
        last = 0.0 if self._last is None else 1.0 / (self.frame_rate or math.inf)
        return Progress(self._seconds + last, (self._last or 0.0) + last, self._lost)

    def times(self) -> Iterator[float]:
        """Seconds from the start to every frame that is there, at last to their end; nothing is decoded."""
        end = 0.0
        # Opened again, because not every container can be rewound.
        with open_container(self.path, max_pixels=self._max_pixels) as (container, streams):
            for packet in _one_clock(read_packets(container, streams[0])):
                if packet.pts is not None and packet.size and not packet.is_corrupt:
                    time = packet.pts * self._unit - self._start
                    end = max(end, time + (packet.duration or 0) * self._unit)
                    yield time
        yield end

    def samples(self, rate: float) -> Iterator[Sample]:
        """The first frame, then the first at or after every multiple of 1 / `rate` seconds.

        Where these are far apart, they are chosen among the packets, so that the decoder can skip frames that
        no other frame needs; where the file stores frames out of order, the chosen one may lie a few frames
        later. A lost frame is replaced by the next that can be decoded.
        """
        self._sparse = not self._by_order and rate * _SPARSE <= (self.frame_rate or 0.0)
        waiting = False
        for frame in self._frames(rate):
            waiting = self._count_frame(frame, rate) or waiting
            if not waiting or frame.is_corrupt:
                continue
            ratio = pixel_ratio(self._stream, self._pixels)
            self._whole = self._whole or square_pixels(ratio, frame.width, frame.height)
            image = upright(frame, ratio, self._whole)
            if image is not None:
                waiting = False
                self.size = (image.shape[1], image.shape[0])
                self.hdr = self.hdr or TRANSFERS.get(frame.color_trc)
                self.interlaced |= frame.interlaced_frame
                self.askew |= 1 < frame.rotation % 90 < 89  # PyAV cuts off the fraction
                yield Sample(self._number, self._last or 0.0, image)
        self._lost += _lost(self._pending)

    def _frames(self, rate: float) -> Iterator["VideoFrame"]:
        flushed = False
        for packet in _one_clock(read_packets(self._container, self._stream)):
            flushed = not packet.size
            wanted = not flushed and self._is_wanted(packet, rate)
            due = wanted or not self._sparse or packet.pts is None
            self._stream.codec_context.skip_frame = "DEFAULT" if due else "NONREF"
            frames = None if packet.is_corrupt else self._decode(packet)
            if self._by_order:
                if not flushed and packet.dts is not None:
                    self._clock.append(packet.dts * self._unit - self._start)
                if frames is None:
                    self._lost += 1
                    self._number += 1
                    self._next_time()
            elif not flushed and not packet.is_discard and packet.pts is not None:
                if len(self._pending) >= _MOST_PENDING:
                    self._pending.clear()
                heappush(self._pending, _Pending(packet.pts, wanted, due or frames is None))
            yield from frames or ()
        if not flushed:  # the end of the file is missing
            yield from self._decode(None) or ()

    def _decode(self, packet: "Packet[VideoStream] | None") -> "list[VideoFrame] | None":
        """The frames that the decoder returns for a packet (None: the end); None where it is damaged."""
        import av

        try:
            return self._stream.decode(packet)
        except av.FFmpegError:
            return None

    def _is_wanted(self, packet: "Packet[VideoStream]", rate: float) -> bool:
        if not self._sparse or packet.pts is None or packet.is_discard or packet.is_corrupt:
            return False
        return self._take(packet.pts * self._unit - self._start, rate)

    def _take(self, time: float, rate: float) -> bool:
        """Whether a frame of this time is the first at or after the next wanted time, which then moves on."""
        slot = math.floor(time * rate + 1e-3)
        if slot < self._slot:
            return False
        self._slot = slot + 1
        return True

    def _count_frame(self, frame: "VideoFrame", rate: float) -> bool:
        """Count a decoded frame and those lost before it; returns whether it or one of those is wanted."""
        passed: list[_Pending] = []
        pts = None if self._by_order else frame.pts
        while pts is not None and self._pending and self._pending[0].pts <= pts:
            passed.append(heappop(self._pending))
        missing = [entry for entry in passed if entry.pts != pts]
        lost = _lost(missing) + bool(frame.is_corrupt)
        self._lost += lost
        self._number += max(1, len(passed))
        time = self._next_time() if pts is None else pts * self._unit - self._start
        by_packet = self._sparse and pts is not None
        wanted = any(entry.wanted for entry in passed) if by_packet else self._take(time, rate)
        if self._last is not None:
            self._seconds += max(0.0, time - self._last) * (1.0 - lost / max(1, len(passed), lost))
        self._last = max(time, self._last or 0.0)
        return wanted

    def _next_time(self) -> float:
        """Seconds of the next frame in the order of display, where no packet states its own."""
        return self._clock.popleft() if self._clock else self._number / (self.frame_rate or 25.0)


def _one_clock(packets: "Iterable[Packet[VideoStream]]") -> "Iterator[Packet[VideoStream]]":
    """Packets whose times go on where the clock of their stream is reset, as where files were joined."""
    shift, last = 0, None
    for packet in packets:
        if packet.dts is not None:
            if last is not None and clock_was_reset(packet, last - shift):
                shift = last + (packet.duration or 0) - packet.dts
            last = packet.dts = packet.dts + shift
            if packet.pts is not None:
                packet.pts += shift
        yield packet


def _lost(missing: list[_Pending]) -> int:
    """How many of the missing frames count as lost: those that must be decoded, or all of too many."""
    return len(missing) if len(missing) > _MOST_SKIPPED else sum(entry.due for entry in missing)
