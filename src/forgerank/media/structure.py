"""The outer structure of image files: segments, chunks and frames, counted before a decoder sees them.

Pillow walks over them in Python, at microseconds each: a file made of millions of empty ones would take
minutes and gigabytes. The limits here are far above what cameras and programs write.
"""

import re
from collections import deque
from collections.abc import Callable, Iterator
from itertools import count
from typing import Literal, NamedTuple

from forgerank.media.suffixes import HEAD_BYTES, image_format

_MAX_SEGMENTS = 4_096  # of a JPEG, before its pixels
_MAX_METADATA = 64_000_000  # bytes of a file that hold no pixels and come before them
_MAX_JUNK = 65_536  # bytes of a JPEG between its segments
_SPARE_CHUNKS, _BYTES_PER_CHUNK = 2_000, 512  # of PNG and WebP: so many, and one more for so many bytes
_MAX_FRAMES = 20_000  # frames and extensions of a GIF
_SPARE_BLOCKS, _BYTES_PER_BLOCK = 10_000, 48  # of a GIF's data, which has blocks of at most 255 bytes
_MAX_BOXES = 2_000  # of AVIF and HEIF, at the top
_MAX_PAGES = 2_000  # directories of a TIFF
_MAX_ENTRIES = 40_000  # of all of them: 20 of each describe a page
_MAX_VALUES = 800_000  # of those entries: places and sizes of 16 x 16 tiles of 80 million pixels are 625,000
# Bytes of a value, by its type; bytes and texts cost nothing.
_VALUE_BYTES = {**dict.fromkeys((3, 8), 2), **dict.fromkeys((4, 9, 11, 13), 4)}
_VALUE_BYTES |= dict.fromkeys((5, 10, 12, 16, 17, 18), 8)
_ENTRIES_OF_CODING = 1_000  # of a directory, that are looked at for the coding of its pixels
JPEG_SCAN, JPEG_CODES, JPEG_END = 0xDA, 0xC4, 0xD9  # markers of segments
_MARKER = re.compile(rb"\xff[\x01-\xfe]")
_NO_DATA = re.compile(rb"\xff+([^\x00\x01\xd0-\xd7\xff])")  # the other markers stand amid the codes of pixels


# Segments that describe the frame of a JPEG, and those whose coding no decoder here knows.
_FRAMES = frozenset({*range(0xC0, 0xD0), 0xF7} - {JPEG_CODES, 0xC8, 0xCC})
_JPEG_CODINGS = {
    **dict.fromkeys((0xC3, 0xCB), "lossless JPEG"),
    **dict.fromkeys((0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF), "hierarchical JPEG"),
    0xF7: "JPEG-LS",
}
_COMPRESSION = 259  # tag of TIFF
_TIFF_CODINGS = {
    **dict.fromkeys((22610, 34934), "JPEG XR"),
    **dict.fromkeys((33003, 33005, 34712), "JPEG 2000"),
    **dict.fromkeys((34927, 50001), "WebP"),
    **dict.fromkeys((50002, 52546), "JPEG XL"),
    34887: "LERC",
    34933: "PNG",
}


class StructureError(Exception):
    """A file that would cost more than it can be worth: `str()` is the reason."""


class Structure(NamedTuple):
    """What the walk over a file found."""

    format: str | None  # as `image_format` names it
    frames: int  # shown one after another; 1 for a still image, 0 where only the decoder knows


def read_structure(content: bytes) -> Structure:
    """Walk over an image file. Raises StructureError for more segments, chunks or metadata than are read.

    Damage is not its business: the walk ends where the file makes no sense.
    """
    name = image_format(content[:HEAD_BYTES])
    if name == "JPEG":
        deque(jpeg_segments(content), maxlen=0)
    elif name == "PNG":
        return Structure(name, _walk_png(content))
    elif name == "GIF":
        return Structure(name, _walk_gif(content))
    elif name == "WebP":
        return Structure(name, _walk_webp(content))
    elif name == "TIFF":
        _walk_tiff(content)
    elif name in ("AVIF", "HEIC"):
        deque(boxes(content), maxlen=0)
        return Structure(name, 0 if content[8:12] in (b"avis", b"msf1", b"hevc", b"hevx") else 1)
    return Structure(name, 1)


def jpeg_segments(content: bytes) -> Iterator[tuple[int, int, int]]:
    """The segments of a JPEG up to that of its first scan: marker, and where its content begins and ends.

    Raises StructureError as `read_structure` does.
    """
    at, segments, junk = 2, 0, 0
    while (found := _MARKER.search(content, at)) is not None:
        junk += found.start() - at
        _limit(junk, _MAX_JUNK, "bytes between the segments of a JPEG")
        marker, at = content[found.start() + 1], found.end()
        if marker == 0x01 or 0xD0 <= marker <= JPEG_END:
            junk += 2  # they have no content; decoders go on behind an end before the first scan
            continue
        size = max(2, int.from_bytes(content[at : at + 2], "big"))
        yield marker, at + 2, at + size
        if marker == JPEG_SCAN:
            return
        segments += 1
        _limit(segments, _MAX_SEGMENTS, "segments of metadata")
        at += size
        _limit(at, _MAX_METADATA, "bytes of metadata")
    _limit(junk + len(content) - at, _MAX_JUNK, "bytes between the segments of a JPEG")


class JpegSegment(NamedTuple):
    """A segment of a JPEG from its first scan on."""

    marker: int
    place: int  # of the marker
    content: bytes  # from its size on
    end: int


def jpeg_scans(content: bytes) -> Iterator[JpegSegment]:
    """The segments of a JPEG from that of its first scan on, and what else stands there like a marker.

    Raises StructureError for more than an image can need.
    """
    at = next((start - 4 for marker, start, _ in jpeg_segments(content) if marker == JPEG_SCAN), len(content))
    for number in count():
        found = _NO_DATA.search(content, at)
        if found is None:
            return
        _limit(number, _MAX_SEGMENTS, "segments between the scans of a JPEG")
        at = found.end() + max(2, int.from_bytes(content[found.end() : found.end() + 2], "big"))
        yield JpegSegment(found[1][0], found.start(), content[found.end() : at], at)


def unread_coding(name: str, content: bytes) -> str | None:
    """What a JPEG or TIFF is called whose pixels are coded in a way that no decoder here knows; else None."""
    return _jpeg_coding(content) if name == "JPEG" else _tiff_coding(content) if name == "TIFF" else None


def _jpeg_coding(content: bytes) -> str | None:
    start, marker = next(
        ((start, marker) for marker, start, _ in jpeg_segments(content) if marker in _FRAMES), (0, None)
    )
    if marker is None or start + 6 > len(content):
        return None
    bits, channels = content[start], content[start + 5]
    if (kind := _JPEG_CODINGS.get(marker)) is None and bits != 8:
        kind = f"JPEG of {bits} bits"
    return f"JPEG of {channels} channels" if kind is None and channels not in (1, 3, 4) else kind


def _tiff_coding(content: bytes) -> str | None:
    """By the first directory."""
    number, at, (offset, entries, entry) = _tiff(content)
    directory = range(at + entries, at + entries + entry * number(at, entries), entry)
    for place in directory[:_ENTRIES_OF_CODING]:
        if number(place, 2) == _COMPRESSION:
            kind = _TIFF_CODINGS.get(number(place + entry - offset, 2))
            return None if kind is None else f"TIFF of {kind}"
    return None


def behind_jpeg(content: bytes) -> bytes:
    """What follows the end of a JPEG; nothing where it has no end.

    Raises StructureError as `jpeg_scans` does.
    """
    if content.find(b"\xff\xd9") + 2 == len(content):  # the usual case, and fast
        return b""
    end = next((segment.place + 2 for segment in jpeg_scans(content) if segment.marker == JPEG_END), None)
    return b"" if end is None else content[end:]


def png_chunks(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """The chunks of a PNG, up to IEND or where the file is cut: name, place and size of the data."""
    at = 8
    while at + 8 <= len(content):
        size, name = int.from_bytes(content[at : at + 4], "big"), content[at + 4 : at + 8]
        yield name, at + 8, size
        if name == b"IEND":
            return
        at += 12 + size


def webp_chunks(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """The chunks of a WebP, of which the last may be cut: name, place and size of the data."""
    at = 12
    while at + 8 <= len(content):
        size = int.from_bytes(content[at + 4 : at + 8], "little")
        yield content[at : at + 4], at + 8, size
        at += 8 + size + size % 2


def webp_end(content: bytes) -> int:
    """Where a WebP ends, as it says."""
    return 8 + int.from_bytes(content[4:8], "little")


def _walk_png(content: bytes) -> int:
    most, metadata, frames = _SPARE_CHUNKS + len(content) // _BYTES_PER_CHUNK, 0, 1
    in_animation = False  # whether the image that programs show that know no animations is its first frame
    for number, (name, at, size) in enumerate(png_chunks(content)):
        _limit(number, most, "chunks in a PNG of its size")
        if name not in (b"IDAT", b"fdAT"):
            metadata += size
            _limit(metadata, _MAX_METADATA, "bytes of metadata")
        if name == b"acTL":
            frames = max(1, int.from_bytes(content[at : at + 4], "big"))
        elif name == b"fcTL":
            in_animation = True
        elif name == b"IDAT" and not in_animation:
            frames += frames > 1
            in_animation = True
    return frames


def _walk_webp(content: bytes) -> int:
    most, frames = _SPARE_CHUNKS + len(content) // _BYTES_PER_CHUNK, 0
    for number, (name, _, _) in enumerate(webp_chunks(content), start=1):
        _limit(number, most, "chunks in a WebP of its size")
        frames += name == b"ANMF"
    return max(1, frames)


def _walk_gif(content: bytes) -> int:
    most = _SPARE_BLOCKS + len(content) // _BYTES_PER_BLOCK
    at, frames, parts, blocks = 13 + _gif_palette(content[10:11]), 0, 0, 0
    while at < len(content):
        kind = content[at]
        if kind == 0x2C:  # a frame: place, size, palette, then one byte before its data
            frames += 1
            at += 10 + _gif_palette(content[at + 9 : at + 10]) + 1
        elif kind == 0x21:  # an extension
            at += 2
        else:
            break
        parts += 1
        _limit(parts, _MAX_FRAMES, "frames and extensions in a GIF")
        while at < len(content) and content[at]:
            blocks += 1
            _limit(blocks, most, "blocks in a GIF of its size")
            at += 1 + content[at]
        at += 1
    return max(1, frames)


def _gif_palette(flags: bytes) -> int:
    """Bytes of a palette, by the flags that announce it."""
    return 3 << ((flags[0] & 7) + 1) if flags and flags[0] & 0x80 else 0


def _tiff(content: bytes) -> tuple[Callable[[int, int], int], int, tuple[int, int, int]]:
    """What reads a number of so many bytes at a place, the place of the first directory, and the bytes of an
    offset, of the number of a directory's entries, and of an entry.
    """
    order: Literal["little", "big"] = "little" if content[:2] == b"II" else "big"

    def number(at: int, size: int) -> int:
        return int.from_bytes(content[at : at + size], order)

    sizes = (8, 8, 20) if number(2, 2) == 43 else (4, 2, 12)
    return number, number(sizes[0], sizes[0]), sizes


def _walk_tiff(content: bytes) -> None:
    number, at, (offset, entries, entry) = _tiff(content)
    pages = held = values = 0
    while at and at + entries <= len(content):
        pages += 1
        _limit(pages, _MAX_PAGES, "directories in a TIFF")
        count = number(at, entries)
        held += min(count, (len(content) - at) // entry)
        _limit(held, _MAX_ENTRIES, "entries in the directories of a TIFF")
        for place in range(at + entries, min(at + entries + entry * count, len(content) - entry + 1), entry):
            if (size := _VALUE_BYTES.get(number(place + 2, 2))) is not None:
                values += min(number(place + 4, offset), len(content) // size)
        _limit(values, _MAX_VALUES, "values in the directories of a TIFF")
        at = number(at + entries + entry * count, offset)


def boxes(content: bytes) -> Iterator[bytes]:
    """The names of the boxes of an AVIF or HEIF at the top. Raises StructureError for more than are read."""
    at, number = 0, 0
    while at + 8 <= len(content):
        number += 1
        _limit(number, _MAX_BOXES, "boxes")
        yield content[at + 4 : at + 8]
        size = int.from_bytes(content[at : at + 4], "big")
        if size == 1:  # the size follows, in 64 bits
            size = int.from_bytes(content[at + 8 : at + 16], "big")
        if size < 8:  # 0: up to the end
            return
        at += size


def _limit(count: int, most: int, what: str) -> None:
    if count > most:
        raise StructureError(f"more than {most} {what}")
