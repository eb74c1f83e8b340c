"""Frames of a video by their number, with the times of the stream; of a damaged one, what decodes."""

from bisect import bisect_right
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from forgerank.media.videos import open_container, read_packets, upright
from forgerank.types import Image

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream


class Frame(NamedTuple):
    """One frame that could be read."""

    number: int  # counted from 0; of images whose names are numbers, that number
    time: float | None  # seconds as the stream stores them; None for images
    image: Image


class Lost(NamedTuple):
    """One frame that could not; without a number, the whole clip."""

    number: int | None
    reason: (
        str  # a kind ("missing", "unreadable", "truncated", "damaged"), then ": detail" where there is one
    )


def evenly_spaced(total: int, count: int | None) -> list[int]:
    """The middles of `count` equal parts of 0..total-1; all of them where there are no more, or for None.

    >>> evenly_spaced(10, 3), evenly_spaced(2, 3)
    ([1, 5, 8], [0, 1])
    """
    if count is None or count >= total:
        return list(range(total))
    return [(2 * part + 1) * total // (2 * count) for part in range(count)]


def count_frames(path: Path) -> tuple[int, int]:
    """Frames that are in a video, and those that it says it has: more where it is truncated; (0, 0) for none.

    Nothing is decoded.
    """
    import av

    try:
        with open_container(path) as container:
            if container.streams.video:
                packets = _scan(container, container.streams.video[0])
                return packets.present, packets.stated
    except (av.FFmpegError, OSError):
        pass  # whoever reads its frames is told
    return 0, 0


class _Packets(NamedTuple):
    """What a video's packets say before anything is decoded."""

    present: int  # frames that are there
    stated: int  # frames that there should be
    times: list[int]  # of every frame, ascending, in the stream's unit; empty where some have none
    keys: list[int]  # numbers of the frames that decoding can start at; 0 is one


def read_video(path: Path, count: int | None) -> Iterator[Frame | Lost]:
    """Up to `count` frames, evenly spaced: one item for each, read or lost; those that needed a second
    attempt come late. A video that cannot be opened is one `Lost` without a number.
    """
    import av

    try:
        with open_container(path) as container:
            if not container.streams.video:
                yield Lost(None, "unreadable: no video in the file")
                return
            stream = container.streams.video[0]
            if stream.codec_context is None:  # PyAV's stubs do not tell
                yield Lost(None, "unreadable: no decoder for its codec")
                return
            stream.codec_context.thread_count = 1  # clips are read in parallel, not frames
            packets = _scan(container, stream)
            if not packets.present:
                yield Lost(None, "truncated" if packets.stated else "unreadable: no frames in the file")
                return
            for number in (planned := evenly_spaced(packets.stated, count)):
                if number >= packets.present:
                    yield Lost(number, "truncated")
            yield from _decode(
                container, stream, packets, [number for number in planned if number < packets.present]
            )
    except (av.FFmpegError, OSError) as error:
        yield Lost(None, f"unreadable: {error.strerror or type(error).__name__}")


def _scan(container: "InputContainer", stream: "VideoStream") -> _Packets:
    shown: list[tuple[int | None, bool]] = []
    hidden = 0  # before the start that an edit list sets
    for packet in read_packets(container, stream):
        if packet.is_discard:
            hidden += 1
        elif packet.size and not packet.is_corrupt:  # the last packet of a cut file is corrupt
            shown.append((packet.pts, packet.is_keyframe))
    times = sorted({time for time, _ in shown if time is not None})
    stated = max(len(shown), stream.frames - hidden)
    if len(times) < len(shown):
        return _Packets(len(shown), stated, [], [0])
    starts = {time for time, is_key in shown if is_key}
    keys = [number for number, time in enumerate(times) if time in starts]
    return _Packets(len(shown), stated, times, [0, *(key for key in keys if key)])


def _decode(
    container: "InputContainer", stream: "VideoStream", packets: _Packets, planned: list[int]
) -> Iterator[Frame | Lost]:
    """The planned frames, decoding from the last key frame before them."""
    for key, group in groupby(planned, lambda number: packets.keys[bisect_right(packets.keys, number) - 1]):
        wanted = set(group)
        # Where the file's index leads to a later key frame than asked for, the second attempt finds the rest.
        for start in (key, 0) if key else (0,):
            for number, frame in _decode_from(container, stream, packets, start, max(wanted, default=-1)):
                if number in wanted and (image := upright(frame)) is not None:
                    wanted.remove(number)
                    yield Frame(number, frame.time, image)
        for number in sorted(wanted):
            yield Lost(number, "damaged")


def _decode_from(
    container: "InputContainer", stream: "VideoStream", packets: _Packets, start: int, last: int
) -> Iterator[tuple[int, "VideoFrame"]]:
    """Numbered frames up to `last`, the damaged ones left out."""
    import av

    if last < 0:
        return
    places = {time: number for number, time in enumerate(packets.times)}
    number = start - 1
    for packet in read_packets(container, stream, packets.times[start] if packets.times else 0):
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
