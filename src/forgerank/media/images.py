"""Photographs decoded to uint8 RGB arrays, with a one-line reason for everything that is refused."""

import re
import struct
from collections.abc import Iterator
from contextlib import suppress
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import JpegImagePlugin, TiffImagePlugin
from PIL.ImageFile import ImageFile

from forgerank.media.files import MediaError, counted, read_file, read_head
from forgerank.media.hdr import Transfer
from forgerank.media.mending import (
    Mended,
    find_hole,
    is_corrupt,
    is_cut_webp,
    is_damaged_note,
    lacks_details,
    mend,
)
from forgerank.media.opening import (
    KIND_OF_IMAGE,
    Content,
    OverMaxPixelsError,
    TooManyPixelsError,
    UnknownFormatError,
    decoder_of,
    opened,
    unknown,
)
from forgerank.media.rendering import hdr_transfer, pixels
from forgerank.media.structure import (
    JPEG_END,
    JPEG_SCAN,
    StructureError,
    behind_jpeg,
    boxes,
    jpeg_scans,
    png_chunks,
    read_structure,
    webp_end,
)
from forgerank.media.suffixes import HEAD_BYTES, image_format
from forgerank.types import Image

MAX_PIXELS = 80_000_000  # of a photograph, or of a frame of a video
MAX_PAGES = 100  # of one file
# What a hostile file may cost. An image is at most as large as its pixels without compression.
_MAX_SIDE = 1 << 24  # pixels; of some modes, Pillow cannot hold a longer row
_MAX_SCANNED = 4_000_000_000  # pixels times scans of a JPEG: seconds
_MAX_RUN_LENGTH_CODED = 4_000_000  # pixels of a BMP: what a line leaves out Pillow fills in one by one
_HALVED = 4  # a JPEG of so many times the pixels allowed is decoded at half its size
_MAX_PROGRESSIVE = 2 * MAX_PIXELS  # where it is progressive: its coefficients are all held in memory
_MAX_PIXELS_PER_BYTE = 10_000  # of a damaged file; PNG stores up to 8,256 of one colour in a byte
_SMALLER = 0.5  # a page with at most this share of the first one's pixels, in its shape, is a reduced copy
_MISSING = 128  # what libjpeg puts in place of blocks that are not there; Pillow inverts it in CMYK
_NO_DETAILS = "too little left to judge (the file ends before the details of its image)"
_OLD_KIND, _COPY_OR_MASK = 255, 0b101  # a tag of TIFF, and bits of `KIND_OF_IMAGE`
_MOTION = "it also holds a video (a motion photo), not judged"
_COPY = "it also holds a reduced copy or map of this image"
_GAIN_MAP = b"urn:iso:std:iso:ts:21496:-1"
_VIDEO_INSIDE = re.compile(rb"\0\0\0.ftyp(mp4|iso|qt|avc|M4V|3gp|MSNV)", re.DOTALL)


class Page(NamedTuple):
    """One image of a file."""

    image: Image  # (H, W, 3), upright by its EXIF orientation
    number: int  # from 1
    total: int  # of images in the file that are judged one by one
    warnings: tuple[str, ...] = ()  # what of the file is not in the image, in words
    unjudged: str | None = None  # why no face of it can be judged


def read_photo(path: str | Path, *, data: bytes | None = None, max_pixels: int = MAX_PIXELS) -> Image:
    """Decode a photograph to uint8 RGB (H, W, 3), turned upright by its EXIF orientation.

    JPEG, PNG, WebP, GIF, AVIF, BMP, TIFF and, with the extra `heif`, HEIC, recognised by content and not by
    name; of several frames or pages, the first. Transparent pixels are composited on white, as a browser
    shows them; 16 bits are scaled to 8; HDR (PQ, HLG) is tone-mapped to BT.709, from 8 bits, as videos are;
    CIELAB is converted to sRGB. An ICC profile, or the gamma of a PNG, is applied where it has the image look
    otherwise; by those of cameras and screens stored values stay as they are. `data` is the file's content
    where it lies in an archive; `path` only names it then. Raises MediaError for anything else, damaged and
    truncated files and more than `max_pixels` pixels included, and for files made to cost much more than
    their size: docs/security.md.
    """
    content = read_image(path) if data is None else data
    with opened(path, content) as image:
        _check_size(image, path, content, max_pixels)
        _load(image, content)
        return pixels(image, path, hdr_transfer(image, content))


def read_image(path: str | Path) -> bytes:
    """As `read_file`. Raises UnknownFormatError at once for what does not begin as an image: a disk's or an
    archive's gigabytes are not read.
    """
    head = read_head(path)
    if image_format(head) is None:
        raise UnknownFormatError(path, unknown(head))
    return read_file(path)


def read_pages(
    path: str | Path, *, data: bytes | None = None, max_pixels: int = MAX_PIXELS
) -> Iterator[Page]:
    """The images of a file one by one, decoded as by `read_photo`, but as far as it goes.

    Of a photograph whose end is missing, what decodes; a JPEG of up to four times `max_pixels` pixels at half
    its size; of several pages, all up to `MAX_PAGES`, without reduced copies of the first (previews, maps).
    What was left out is in the warnings. Raises MediaError as `read_photo` does where the first image cannot
    be read, and after the last one where another could not.
    """
    content = read_image(path) if data is None else data
    with opened(path, content) as image:
        count = _page_count(image)
        first = _first_page(image, path, content, max_pixels)
        height, width = first.image.shape[:2]
        numbers, left_out = _pages_to_judge(image, count, (width, height), max_pixels)
    total, remarks = 1 + len(numbers), (*first.warnings, *left_out)
    yield first._replace(total=total, warnings=remarks)
    del first
    failed: MediaError | None = None
    for place, number in enumerate(numbers, start=2):
        try:
            with opened(path, content) as image:
                image.seek(number)
                image.load()
                page = Page(pixels(image, path, hdr_transfer(image, content)), place, total, remarks)
        except MediaError as error:
            failed = failed or MediaError(path, f"page {place} of {total}: {error.reason}")
            continue
        yield page
    if failed is not None:
        raise failed


def read_first(path: str | Path, *, data: bytes | None = None, max_pixels: int = MAX_PIXELS) -> Page:
    """The first of `read_pages`; where there are others, its warnings say that they were not judged."""
    first = next(read_pages(path, data=data, max_pixels=max_pixels))
    if first.total == 1:
        return first
    others = f"it holds {first.total} images; the first was judged"
    return first._replace(total=1, warnings=(*first.warnings, others))


def _check_size(image: ImageFile, path: str | Path, content: bytes, max_pixels: int) -> None:
    width, height = image.size
    if max(width, height) > _MAX_SIDE:
        raise TooManyPixelsError(path, f"{width} x {height} pixels, a side over {_MAX_SIDE}")
    if width * height > max_pixels:
        raise OverMaxPixelsError(path, f"{width} x {height} pixels, over the limit of {max_pixels}")
    _check_scans(image, path, content)
    if width * height > _MAX_RUN_LENGTH_CODED and any(tile.codec_name == "bmp_rle" for tile in image.tile):
        what = f"a run-length coded BMP of {width} x {height} pixels"
        raise TooManyPixelsError(path, f"{what}, over the limit of {_MAX_RUN_LENGTH_CODED}: save it as PNG")


def _check_scans(image: ImageFile, path: str | Path, content: bytes) -> None:
    width, height = image.size
    if image.format in ("JPEG", "MPO") and width * height * _scans(content) > _MAX_SCANNED:
        raise MediaError(path, f"more scans than an image of {width} x {height} pixels needs")


def _load(image: ImageFile, content: bytes) -> None:
    """Raises what the decoder does where pixels are missing."""
    if image.format == "WEBP" and is_cut_webp(content):
        raise OSError("its end is missing")
    image.load()


def _first_page(image: ImageFile, path: str | Path, content: bytes, max_pixels: int) -> Page:
    """The first image of a file as far as it can be decoded, and what is missing of it in words."""
    remarks = []
    width, height = image.size
    most = max_pixels * _HALVED
    if image.info.get("progressive"):
        most = max(max_pixels, min(most, _MAX_PROGRESSIVE))
    if image.format in ("JPEG", "MPO") and max_pixels < width * height <= most:
        _check_scans(image, path, content)
        image.draft(image.mode, (max(1, width // 2), max(1, height // 2)))
        remarks.append(f"it has {width} x {height} pixels and was judged at half that size")
    _check_size(image, path, content, max_pixels)
    hdr = hdr_transfer(image, content)
    if hdr is not None:
        remarks.append(f"its HDR ({hdr}) was tone-mapped to BT.709")
    remarks += _further(image, content)
    hole = find_hole(image, content)
    try:
        if hole is not None:
            raise OSError("parts of it were never written")
        corrupt = is_corrupt(image, content)  # before the pixels take memory
        _load(image, content)
    except (OSError, SyntaxError, ValueError, EOFError, struct.error):
        # Of what it states next to nothing is there, and mending takes as much memory as the whole.
        if width * height > _MAX_PIXELS_PER_BYTE * len(content):
            raise
        mended = mend(image, content[:hole])
        if mended is None:
            raise
        mended_pixels, share, how = _decode_mended(image, mended, path, hdr)
        if not share > 0.0:
            raise
        cut = bool(image.info.get("progressive")) and lacks_details(
            mended.content[:-2], last_is_whole=not is_corrupt(image, mended.content)
        )
        remarks.append(f"its end is missing or damaged: {how}")
        return Page(mended_pixels, 1, 1, tuple(remarks), _NO_DETAILS if cut else None)
    if corrupt:
        remarks.append("damaged: a part of its pixels does not decode without errors")
    return Page(pixels(image, path, hdr), 1, 1, tuple(remarks))


def _further(image: ImageFile, content: bytes) -> list[str]:
    """What else telephones and programs put into the file of an image that is no page of it, in words."""
    if image.format == "HEIF":
        return [_MOTION] if b"mpvd" in boxes(content) else []
    if image.format in ("PNG", "WEBP"):
        remarks = []
        behind = content[_end(image.format, content) :]
        if behind.strip(b"\0"):
            remarks.append(f"not looked at: {counted(len(behind), 'byte')} after its end")
        notes = png_chunks(content) if image.format == "PNG" else ()
        if damaged := sum(is_damaged_note(content, *note) for note in notes):
            remarks.append(f"damaged: {counted(damaged, 'chunk')} of its metadata, passed over")
        return remarks
    if image.format not in ("JPEG", "MPO"):
        return []
    remarks = []
    # A tail that makes no sense costs nothing but what could be said of it.
    with suppress(SyntaxError, OSError, ValueError, IndexError, TypeError, struct.error, StructureError):
        tail = behind_jpeg(content)
        if _VIDEO_INSIDE.search(tail):
            remarks.append(_MOTION)
        following = tail.lstrip(b"\0")
        if image.format == "JPEG" and read_structure(following).format == "JPEG":
            size = JpegImagePlugin.JpegImageFile(Content(following)).size
            another = "another image follows the end of this one"
            remarks.append(f"{_COPY if _is_copy(size, image.size) else another}, not judged")
    return remarks


def _end(name: str, content: bytes) -> int:
    """Where a PNG or a WebP ends, as it says. Behind that lies what an editor left, or somebody put there."""
    if name == "WEBP":
        return webp_end(content)
    return max((at + size + 4 for _, at, size in png_chunks(content)), default=len(content))


def _decode_mended(
    image: ImageFile, mended: Mended, path: str | Path, hdr: Transfer | None
) -> tuple[Image, float, str]:
    """The pixels of a mended file, the share of its rows that came out, and how much that is in words."""
    name = image_format(mended.content[:HEAD_BYTES]) or ""
    with decoder_of(name, path)(Content(mended.content)) as whole:
        if whole.size != image.size:
            whole.draft(image.mode, image.size)
        whole.load()
        share = mended.share
        if share is not None and whole.format == "WEBP":  # what was filled in looks like an image
            grey = (_MISSING,) * len(whole.getbands())
            whole.paste(grey, (0, round(share * whole.height), *whole.size))
        if share is None:
            stored = np.asarray(whole).reshape(whole.height, -1)
            missing = stored == _MISSING
            if whole.mode == "CMYK":
                missing |= stored == 255 - _MISSING
            there = np.flatnonzero(~missing.all(axis=1))
            share = (there[-1] + 1) / whole.height if len(there) else 0.0
        shown = f"{share:.1%}".replace(".0%", "%").replace("%", " %")
        how = f"{shown} of its rows could be decoded"
        if share == 1.0:
            details = ", some without their details" if whole.info.get("progressive") else ""
            how = f"all its rows could be decoded{details}"
        return pixels(whole, path, hdr), share, how


def _page_count(image: ImageFile) -> int:
    try:
        return int(getattr(image, "n_frames", 1))
    except Exception:  # a damaged directory of pages; the first page may be good
        return 1


def _pages_to_judge(
    image: ImageFile, count: int, size: tuple[int, int], max_pixels: int
) -> tuple[list[int], list[str]]:
    """The pages behind the first that are judged, counted from 0, and in words which are not."""
    numbers, copies, broken = [], 0, 0
    for number in range(1, min(count, MAX_PAGES)):
        try:
            image.seek(number)
            is_reduced = _is_reduced(image, size)
        except Exception:  # whatever the decoder stumbles over
            broken += 1
            continue
        width, height = image.size
        if is_reduced:
            copies += 1
        elif width * height > max_pixels or max(width, height) > _MAX_SIDE:
            broken += 1
        else:
            numbers.append(number)
    remarks = []
    if copies:
        also = _COPY if copies == 1 else f"it also holds {copies} reduced copies or maps of this image"
        remarks.append(f"{also}, not judged")
    if broken:
        remarks.append(f"{broken} of its {count} pages cannot be read")
    if count > MAX_PAGES:
        remarks.append(f"only the first {MAX_PAGES} of its {count} pages were judged")
    return numbers, remarks


def _is_copy(size: tuple[int, int], of: tuple[int, int]) -> bool:
    """Whether an image of this size looks like a reduced copy of another one, turned or not."""
    if size[0] * size[1] > _SMALLER * of[0] * of[1]:
        return False
    shape = max(size) / max(1, min(size)) / (max(of) / max(1, min(of)))
    return 0.95 < shape < 1.05


def _is_reduced(image: ImageFile, size: tuple[int, int]) -> bool:
    """Whether a page behind the first, which has this size, is a reduced copy or a map of that.

    The pages of a TIFF say so; a smaller one that does not is another image, as of an album that was scanned.
    So are all of a HEIC, whose copies and maps are no pages.
    """
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return bool(image.tag_v2.get(KIND_OF_IMAGE, 0) & _COPY_OR_MASK) or image.tag_v2.get(_OLD_KIND) == 2
    return image.format in ("JPEG", "MPO") and (_is_copy(image.size, size) or _is_gain_map(image))


def _is_gain_map(image: ImageFile) -> bool:
    """Whether a page behind the first of a JPEG says that it holds how much brighter a bright display is to
    show the first (ISO 21496-1, and Adobe's of before).
    """
    segments = getattr(image, "applist", ())
    return any(data.startswith(_GAIN_MAP) or b"hdrgm:" in data for _, data in segments)


def _scans(content: bytes) -> int:
    """Number of scans of a JPEG up to the end of its first image, or a few more. Raises StructureError."""
    most = content.count(b"\xff\xda")
    if most < 20:  # the usual case, and fast
        return most
    markers = (segment.marker for segment in jpeg_scans(content))
    return sum(marker == JPEG_SCAN for marker in takewhile(lambda marker: marker != JPEG_END, markers))
