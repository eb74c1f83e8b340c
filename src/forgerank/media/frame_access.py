"""Frames of a video by their number, with the times of the stream; of a damaged video, those that decode."""

from bisect import bisect_right
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from forgerank.media.containers import (
    clock_was_reset,
    open_container,
    pixel_ratio,
    read_packets,
    states_no_times,
    upright,
)
from forgerank.media.files import MediaError
from forgerank.types import Image

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

_ROUNDING = 1e-3  # seconds: times are kept in milliseconds
_EARLIER = 10  # seconds


class Frame(NamedTuple):
    """One frame that could be read."""

    number: int  # counted from 0; of images whose names are numbers, that number
    time: float | None  # seconds as the stream stores them; None for images
    image: Image


class Lost(NamedTuple):
    """One frame that could not be read; without a number, the whole clip."""

    number: int | None
    reason: str  # "missing", "unreadable", "truncated" or "damaged", in some cases followed by ": detail"


def evenly_spaced(total: int, count: int | None) -> list[int]:
    """The middles of `count` equal parts of 0..total-1; all where `count` is None or at least `total`.

    >>> evenly_spaced(10, 3), evenly_spaced(2, 3)
    ([1, 5, 8], [0, 1])
    """
    if count is None or count >= total:
        return list(range(total))
    return [(2 * part + 1) * total // (2 * count) for part in range(count)]


def count_frames(path: Path) -> tuple[int, int]:
    """The number of frames in a video, and the number that it states, which is larger where it is truncated.

    Nothing is decoded. (0, 0) for a file that cannot be opened.
    """
    try:
        with open_container(path) as (container, streams):
            packets = _scan(container, streams[0])
            return packets.present, packets.stated
    except MediaError:  # `read_video` says why
        return 0, 0


class _Packets(NamedTuple):
    """What a video's packets say of its frames, before any is decoded."""

    present: int  # frames in the file
    stated: int  # frames that the file states; at least `present`
    times: list[int]  # of every frame, ascending, in the stream's unit; empty where some have none
    keys: list[int]  # numbers of the frames that decoding can start at; 0 is one


def read_video(path: Path, count: int | None) -> Iterator[Frame | Lost]:
    """Up to `count` frames, evenly spaced (None: all), as one item each, read or lost.

    Those that need a second attempt come late. A video that cannot be opened is one `Lost` without a number.
    """
    try:
        with open_container(path) as (container, streams):
            packets = _scan(container, streams[0])
            if not packets.present:
                yield Lost(None, "truncated" if packets.stated else "unreadable: no frames in the file")
                return
            planned = evenly_spaced(packets.stated, count)
            yield from (Lost(number, "truncated") for number in planned if number >= packets.present)
            present = [number for number in planned if number < packets.present]
            yield from _decode(container, streams[0], packets, present)
    except MediaError as error:
        yield Lost(None, f"unreadable: {error.reason}")


def read_frame(path: Path, time: float) -> Frame | None:
    """The frame that is shown at `time` seconds from the start of the file. None where it does not decode,
    and where the times of the stream repeat or are guessed, as in files that were joined.

    Raises MediaError for what is no video.
    """
    with open_container(path) as (container, streams):
        stream = streams[0]
        packets = _scan(container, stream)
        start, unit = (container.start_time or 0) / 1e6, float(stream.time_base or 0)
        if not packets.times or not unit:
            return None
        number = max(0, bisect_right(packets.times, round((time + start) / unit) + _ROUNDING / unit) - 1)
        frames = _decode(container, stream, packets, [number])
        return next((frame for frame in frames if isinstance(frame, Frame)), None)


def _scan(container: "InputContainer", stream: "VideoStream") -> _Packets:
    shown: list[tuple[int | None, bool]] = []
    hidden = 0  # before the start that an edit list sets
    last, joined = None, False
    for packet in read_packets(container, stream):
        joined = joined or clock_was_reset(packet, last)
        last = packet.dts if packet.dts is not None else last
        if packet.is_discard:
            hidden += 1
        elif packet.size and not packet.is_corrupt:  # the last packet of a cut file is corrupt
            shown.append((packet.pts, packet.is_keyframe))
    times = sorted({time for time, _ in shown if time is not None})
    stated = max(len(shown), stream.frames - hidden)
    if joined or len(times) < len(shown) or states_no_times(container, stream):
        return _Packets(len(shown), stated, [], [0])
    starts = {time for time, is_key in shown if is_key}
    keys = [number for number, time in enumerate(times) if time in starts]
    return _Packets(len(shown), stated, times, [0, *(key for key in keys if key)])


def _decode(
    container: "InputContainer", stream: "VideoStream", packets: _Packets, planned: list[int]
) -> Iterator[Frame | Lost]:
    """The planned frames, each decoded from the last key frame before it."""
    first = stream.codec_context.sample_aspect_ratio
    for key, group in groupby(planned, lambda number: packets.keys[bisect_right(packets.keys, number) - 1]):
        wanted = set(group)
        # Where the file's index leads to a later key frame than asked for, the second attempt finds the rest;
        # where that goes past the first one, as in transport streams, the third.
        for start, earlier in dict.fromkeys(((key, 0), (0, 0), (0, _EARLIER))):
            last = max(wanted, default=-1)
            for number, frame in _decode_from(container, stream, packets, start, last, earlier):
                if number not in wanted:
                    continue
                if (image := upright(frame, pixel_ratio(stream, first))) is not None:
                    wanted.remove(number)
                    yield Frame(number, frame.time, image)
        for number in sorted(wanted):
            yield Lost(number, "damaged")


def _decode_from(
    container: "InputContainer",
    stream: "VideoStream",
    packets: _Packets,
    start: int,
    last: int,
    earlier: int,
) -> Iterator[tuple[int, "VideoFrame"]]:
    """Frames with their numbers from the key frame `start` up to `last`, without damaged ones. The file is
    searched for what is `earlier` than that by so many seconds.
    """
    import av

    if last < 0:
        return
    places = {time: number for number, time in enumerate(packets.times)}
    number = start - 1
    time = packets.times[start] if packets.times else 0
    for packet in read_packets(container, stream, time - round(earlier / (stream.time_base or 1))):
        try:
            frames = [] if packet.is_corrupt else packet.decode()
        except av.FFmpegError:
            continue  # the frames that it held are missed by their number
        for frame in frames:
            number = places.get(frame.pts, number + 1) if frame.pts is not None else number + 1
            if not frame.is_corrupt:
                yield number, frame
            if number >= last:
                return
