"""Image files that are damaged: how that is found out, and their end made whole again as far as they go."""

import re
import struct
import zlib
from io import BytesIO
from typing import NamedTuple

import numpy as np
import simplejpeg
from PIL.ImageFile import ImageFile
from PIL.WebPImagePlugin import WebPImageFile

from forgerank.media.structure import (
    JPEG_CODES,
    JPEG_SCAN,
    jpeg_scans,
    jpeg_segments,
    png_chunks,
    webp_chunks,
    webp_end,
)

_HOLE = bytes(512)  # in the pixels of most JPEGs these were never written
_TABLES = frozenset((0xC4, 0xCC, 0xDB, 0xDC, 0xDD, 0xFE, *range(0xE0, 0xF0)))  # may stand between two scans
_COEFFICIENTS = 64  # of a block
# Chunks of a PNG that it can be shown without, and of which programs pass over what makes no sense. The least
# bytes of those that say how its pixels are shown; of texts only some do.
_PNG_COLOURS = {b"gAMA": 4, b"sRGB": 1, b"cICP": 4, b"tRNS": 1, b"eXIf": 8}
_PNG_TEXTS = frozenset({b"tEXt", b"zTXt", b"iTXt"})
_PNG_TURNS = frozenset({b"Raw profile type exif", b"XML:com.adobe.xmp"})  # keywords; these may turn it
_PNG_FRAMES = frozenset({b"acTL", b"fcTL", b"fdAT"})
_MOST_INFLATED = 1 << 20  # bytes of a compressed text or profile; Pillow refuses the image for more
_WEBP_PIXELS = (b"VP8 ", b"VP8L")  # chunks
_MOST_MISSING = 1 << 26  # bytes of a WebP that are filled in
# What libjpeg warns of, and decodes on: bits that are no code of the image, codes too many or too few.
_CORRUPT = re.compile(
    r"Corrupt JPEG data(?:: (\d+) extraneous bytes before marker 0xd9)?|Inconsistent progression"
)


class Mended(NamedTuple):
    """A file made whole again."""

    content: bytes
    share: float | None  # of its rows that the file really holds, 0..1; None where the decoder shows it


def mend(image: ImageFile, content: bytes) -> Mended | None:
    """The file with its missing end filled in, so that a decoder takes it; None where that cannot be done."""
    width, height = image.size
    if image.format in ("JPEG", "MPO"):
        return Mended(content[: _end(content)] + b"\xff\xd9", None)
    if image.format == "PNG":
        return _mend_png(content)
    if image.format == "WEBP":
        return _mend_webp(content)
    if image.format == "BMP" and image.tile and image.tile[0][0] == "raw":
        start, stride = int(image.tile[0][2]), -(-int.from_bytes(content[28:30], "little") * width // 32) * 4
    elif image.format == "TIFF" and image.tile and image.tile[0][0] == "raw":
        start = min(int(tile[2]) for tile in image.tile)
        stride = -(-sum(_samples(image)) * width // 8)
    else:
        return None
    return Mended(content + bytes(stride * height), min(1.0, (len(content) - start) / (stride * height)))


def _end(content: bytes) -> int | None:
    """Where the pixels of a JPEG end, or something stands amid them that makes no sense there."""
    for marker, place, segment, end in jpeg_scans(content):
        is_table = marker in _TABLES and content[end : end + 1] == b"\xff"
        if not (is_table or (marker == JPEG_SCAN and _is_scan(segment))):
            return place
    return None


def _is_scan(segment: bytes) -> bool:
    """Whether these can be the size and the content of a scan's segment."""
    return 6 < len(segment) == 6 + 2 * segment[2] and segment[-3] <= segment[-2] < _COEFFICIENTS


def lacks_details(content: bytes, *, last_is_whole: bool) -> bool:
    """Whether a progressive JPEG, cut off, lacks more of its brightness than the last bit of coefficients.

    Of a scan that was cut off nothing counts: of the last one, unless only what follows it is missing.
    """
    scans = [segment if marker == JPEG_SCAN else b"" for marker, _, segment, _ in jpeg_scans(content)]
    missing = [_COEFFICIENTS] * _COEFFICIENTS  # bits of each coefficient
    for scan in filter(_is_scan, scans if last_is_whole else scans[:-1]):
        if scan[3] == scans[0][3]:  # the component that comes first
            missing[scan[-3] : scan[-2] + 1] = [scan[-1] & 15] * (scan[-2] + 1 - scan[-3])
    return max(missing) > 1


def _samples(image: ImageFile) -> tuple[int, ...]:
    """Bits of each sample of a TIFF's pixel."""
    bits = image.tag_v2.get(258, (1,))  # type: ignore[attr-defined]
    return tuple(bits) if isinstance(bits, tuple) else (int(bits),)


def shown_png(content: bytes) -> bytes:
    """A PNG without the chunks that change nothing of how it is shown, and without those of the others that
    make no sense or have a wrong checksum: Pillow would refuse the image for them.
    """
    kept, start, seen = [], 0, set[bytes]()
    for name, at, size in png_chunks(content):
        end = at + size + 4
        is_kept = bool(name[:1].isupper() or name in _PNG_FRAMES) or (
            not is_damaged_note(content, name, at, size) and _shows(name, content[at : at + size], seen)
        )
        if not is_kept:
            kept.append(content[start : at - 8])
            start = end
    return b"".join((*kept, content[start:])) if start else content


def is_damaged_note(content: bytes, name: bytes, at: int, size: int) -> bool:
    """Whether the checksum of a PNG's chunk (`png_chunks`) that holds no pixels is wrong."""
    if name[:1].isupper() or name in _PNG_FRAMES or at + size + 4 > len(content):
        return False
    said = int.from_bytes(content[at + size : at + size + 4], "big")
    return zlib.crc32(content[at : at + size], zlib.crc32(name)) != said


def _shows(name: bytes, data: bytes, seen: set[bytes]) -> bool:
    """Whether a chunk can change how its PNG is shown. `seen` is told of the texts and profiles looked at."""
    keyword, _, rest = data.partition(b"\0")
    if name in _PNG_TEXTS:
        if keyword in seen or keyword not in _PNG_TURNS:
            return False
    elif name != b"iCCP":
        return len(data) >= _PNG_COLOURS.get(name, len(data) + 1)
    elif b"" in seen:  # one profile
        return False
    seen.add(keyword if name in _PNG_TEXTS else b"")
    packed = b""
    if name in (b"zTXt", b"iCCP"):
        if rest[:1] != b"\0":  # packed in a way that is not known
            return False
        packed = rest[1:]
    elif name == b"iTXt" and rest[:1] != b"\0":  # two flags, a language, and the keyword in that
        packed = rest[2:].split(b"\0", 2)[-1]
    inflate = zlib.decompressobj()
    try:
        inflate.decompress(packed, _MOST_INFLATED)
    except zlib.error:
        return False
    return not inflate.unconsumed_tail


def _mend_png(content: bytes) -> Mended | None:
    """The rows of a PNG up to the damage, the others black; None for one that is interlaced."""
    content = shown_png(content)
    data, before = bytearray(), bytearray(content[:8])
    header = None
    for name, at, size in png_chunks(content):
        if name == b"IHDR":
            header = struct.unpack(">IIBBBBB", content[at : at + 13])
        if name == b"IDAT":
            part, said = content[at : at + size], content[at + size : at + size + 4]
            if len(said) == 4 and zlib.crc32(name + part) != int.from_bytes(said, "big"):
                break
            data += part
        elif not data and at + size + 4 <= len(content):
            before += content[at - 8 : at + size + 4]
    if header is None or header[6] != 0:
        return None
    width, height, bits, colour = header[:4]
    stride = 1 + -(-width * bits * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(colour, 1) // 8)
    rows, inflate = bytearray(), zlib.decompressobj()
    try:
        for at in range(0, len(data), 4096):
            rows += inflate.decompress(data[at : at + 4096], stride * height - len(rows) + 1)
            if len(rows) >= stride * height:
                break
    except zlib.error:
        pass  # the rows before the damage are good
    share = len(rows) // stride / height
    rows = rows[: len(rows) // stride * stride].ljust(stride * height, b"\0")
    packed = zlib.compress(rows, 0)
    for name, part in ((b"IDAT", packed), (b"IEND", b"")):
        before += struct.pack(">I", len(part)) + name + part + struct.pack(">I", zlib.crc32(name + part))
    return Mended(bytes(before), min(1.0, share))


def is_cut_webp(content: bytes) -> bool:
    """Whether the end of a WebP is missing; the byte that makes its size even may be."""
    missing = webp_end(content) - len(content)
    return missing > 1 or (
        missing == 1 and any(at + size > len(content) for _, at, size in webp_chunks(content))
    )


def close_webp(content: bytes, filling: bytes = b"") -> bytes:
    """A WebP whose end is missing as a decoder takes it, with `filling` and zeros in place of its pixels.

    Other chunks that are cut, such as a frame of an animation, are left out. Any other file comes back as it
    is.
    """
    if len(content) >= webp_end(content):
        return content
    body = bytearray(b"WEBP")
    for name, at, size in webp_chunks(content):
        data = content[at : at + size]
        if len(data) < size:
            if name not in _WEBP_PIXELS:
                break
            data += filling + bytes(min(size - len(data), _MOST_MISSING))
        body += name + len(data).to_bytes(4, "little") + data + bytes(len(data) % 2)
    return b"RIFF" + len(body).to_bytes(4, "little") + body


def _lacks_modes(content: bytes) -> bool:
    """Whether a lossy WebP ends before the codes of its pixels, in the part that tells how they are made."""
    return any(
        name == b"VP8 " and at + 10 + (int.from_bytes(content[at : at + 3], "little") >> 5) > len(content)
        for name, at, _ in webp_chunks(content)
    )


def _mend_webp(content: bytes) -> Mended | None:
    """Of a WebP the rows that are the same whatever follows; None where nothing can be decoded."""
    if _lacks_modes(content):
        return None
    closed, decoded = [close_webp(content, filling) for filling in (b"", b"\xff")], []
    try:
        for whole in closed:
            with WebPImageFile(BytesIO(whole)) as image:
                decoded.append(np.asarray(image))
    except OSError:  # without loss, not every code makes sense
        return None
    differing = np.flatnonzero((decoded[0] != decoded[1]).any(axis=(1, 2)))
    share = differing[0] / len(decoded[0]) if len(differing) else 1.0
    return Mended(closed[0], float(share))


def find_hole(image: ImageFile, content: bytes) -> int | None:
    """Where the pixels of a JPEG turn to zeros, as where a download or a memory card failed; else None.

    Where zeros can be an even area, in a progressive file and where they are the code that ends a block, only
    those at the end of the file count.
    """
    if image.format not in ("JPEG", "MPO"):
        return None
    even = bool(image.info.get("progressive"))
    for marker, start, end in jpeg_segments(content):
        even = even or (marker == JPEG_CODES and _zeros_end_blocks(content[start:end]))
        if marker != JPEG_SCAN:
            continue
        hole = content.find(_HOLE, end) if not even else len(content.rstrip(b"\0"))
        if 0 <= hole <= len(content) - len(_HOLE) and not 0 <= content.find(b"\xff\xd9", end) < hole:
            return hole
    return None


def is_corrupt(image: ImageFile, content: bytes) -> bool:
    """Whether the codes of a JPEG's pixels make no sense, as where other bytes stand amid them.

    libjpeg decodes such a file nevertheless, and Pillow passes its warnings on nowhere. At an eighth of the
    size the codes are read, and hardly more. Zeros before the end are the padding of some cameras.
    """
    if image.format not in ("JPEG", "MPO"):
        return False
    colours = "CMYK" if image.mode == "CMYK" else "GRAY"
    try:
        simplejpeg.decode_jpeg(content, colours, min_height=1, min_width=1, strict=True)
    except (ValueError, RuntimeError) as error:
        found = _CORRUPT.match(str(error))
        return found is not None and not (found[1] and bytes(int(found[1])) + b"\xff\xd9" in content)
    return False


def _zeros_end_blocks(codes: bytes) -> bool:
    """Whether in Huffman tables of a JPEG the code of zeros ends a block of the first component."""
    while len(codes) > 17:
        if codes[0] == 0x10 and codes[17] == 0:  # of each table, the first symbol has that code
            return True
        codes = codes[17 + sum(codes[1:17]) :]
    return False
