"""Photographs decoded to uint8 RGB arrays, with a one-line reason for everything that is refused."""

import ctypes
import re
import struct
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache, partial
from io import BytesIO
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    ExifTags,
    GifImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
    _imaging,
)
from PIL import Image as PillowImage
from PIL.ImageFile import ImageFile

from forgerank.extras import MissingExtraError, require
from forgerank.media.files import MediaError, counted, read_file, read_head
from forgerank.media.hdr import TRANSFERS, Transfer, tone_map
from forgerank.media.mending import (
    Mended,
    close_webp,
    find_hole,
    is_corrupt,
    is_cut_webp,
    is_damaged_note,
    lacks_details,
    mend,
    shown_png,
)
from forgerank.media.structure import (
    JPEG_END,
    JPEG_SCAN,
    StructureError,
    behind_jpeg,
    boxes,
    jpeg_scans,
    png_chunks,
    read_structure,
    unread_coding,
    webp_end,
)
from forgerank.media.suffixes import (
    HEAD_BYTES,
    archive_format,
    document_format,
    image_format,
    known_format,
    sound_format,
    unread_video,
)
from forgerank.types import Image

MAX_PIXELS = 80_000_000  # of a photograph, or of a frame of a video
MAX_PAGES = 100  # of one file
READ = "JPEG, PNG, WebP, GIF, AVIF, HEIC, BMP and TIFF"
# What a hostile file may cost. An image is at most as large as its pixels without compression.
_MAX_SIDE = 1 << 24  # pixels; of some modes, Pillow cannot hold a longer row
_MAX_EXIF = 1 << 17  # bytes; its entries may all name the same bytes, and Pillow copies them for each
_TOO_MUCH_EXIF = f"more than {_MAX_EXIF} bytes of EXIF"
_MAX_SCANNED = 4_000_000_000  # pixels times scans of a JPEG: seconds
_HALVED = 4  # a JPEG of so many times the pixels allowed is decoded at half its size
_MAX_PROGRESSIVE = 2 * MAX_PIXELS  # where it is progressive: its coefficients are all held in memory
_MAX_PIXELS_PER_BYTE = 10_000  # of a damaged file; PNG stores up to 8,256 of one colour in a byte
_SMALLER = 0.5  # a page with at most this share of the first one's pixels, in its shape, is a reduced copy
_MISSING = 128  # what libjpeg puts in place of blocks that are not there; Pillow inverts it in CMYK
_NO_DETAILS = "too little left to judge (the file ends before the details of its image)"
_UNREAD = "an image of a kind that is not read ({}): save it as JPEG or PNG"
_RAW = "a camera's raw file, which is not read: export it as JPEG or PNG"
# Tags of TIFF.
_DNG_VERSION, _KIND_OF_IMAGE, _OLD_KIND, _INNER_DIRECTORIES = 50706, 254, 255, 330
_COPY_OR_MASK = 0b101  # of the kind of an image
_BITS, _COMPRESSION, _PHOTOMETRIC, _PLANES = 258, 259, 262, 284
_ODD_PIXELS = "its pixels are stored in a way that is not read: save it as PNG, or with 8 bits a channel"
_SAID_OF_ODD_PIXELS = ("unknown pixel mode", "unknown raw mode")  # by Pillow
_MOTION = "it also holds a video (a motion photo), not judged"
_COPY = "it also holds a reduced copy or map of this image"
_MAX_PROFILE = 4_000_000  # bytes of a colour profile: those of presses have 2 million
_FEW = 64, 64  # pixels on which a profile is tried
_LOOKS_OTHERWISE = 5.0  # levels of 255 on average; those of cameras and screens change fewer
_GAIN_MAP = b"urn:iso:std:iso:ts:21496:-1"
_VIDEO_INSIDE = re.compile(rb"\0\0\0.ftyp(mp4|iso|qt|avc|M4V|3gp|MSNV)", re.DOTALL)
# What stands in the way of Pillow's decoders, taken out of a file.
_MADE_WHOLE: dict[str, Callable[[bytes], bytes]] = {"WebP": close_webp, "PNG": shown_png}
_TURNS = {
    2: PillowImage.Transpose.FLIP_LEFT_RIGHT,
    3: PillowImage.Transpose.ROTATE_180,
    4: PillowImage.Transpose.FLIP_TOP_BOTTOM,
    5: PillowImage.Transpose.TRANSPOSE,
    6: PillowImage.Transpose.ROTATE_270,
    7: PillowImage.Transpose.TRANSVERSE,
    8: PillowImage.Transpose.ROTATE_90,
}


class UnknownFormatError(MediaError):
    """Content of no format that is read."""


class TooManyPixelsError(MediaError):
    """An image over a limit of pixels."""


class OverMaxPixelsError(TooManyPixelsError):
    """An image over `max_pixels`."""


def with_remedy(error: Exception, text: str) -> str:
    """`text` on an error, for commands with the option `--max-pixels`: where that helps, it says so."""
    return f"{text}; --max-pixels raises it" if isinstance(error, OverMaxPixelsError) else text


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
        raise UnknownFormatError(path, _unknown(head))
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


@contextmanager
def opened(path: str | Path, content: bytes) -> Iterator[ImageFile]:
    """An image file opened by the decoder that its first bytes name; nothing is decoded yet.

    Raises MediaError, in place of any error of the decoder, of the body of the `with` statement as well.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of odd metadata and of bombs; the limits are ours
        with _decoding(path), open_image(path, content) as image:
            yield image


def open_image(path: str | Path, content: bytes) -> ImageFile:
    """As `opened`, for an image that is kept open and whose errors are met one by one."""
    with _decoding(path):
        try:
            structure = read_structure(content)
            if structure.format is None:
                raise UnknownFormatError(path, _unknown(content[:HEAD_BYTES]))
            if (coding := unread_coding(structure.format, content)) is not None:
                raise UnknownFormatError(path, _UNREAD.format(coding))
            made_whole = _MADE_WHOLE.get(structure.format)
            whole = content if made_whole is None else made_whole(content)
            image = _decoder(structure.format, path)(_Content(whole))
        except (SyntaxError, IndexError, TypeError, struct.error) as error:
            kind = known_format(content[:HEAD_BYTES])
            if kind in (None, "BMP"):  # two bytes make a BMP: it only begins like one
                raise UnknownFormatError(path, _unknown(content[:HEAD_BYTES])) from None
            if str(error).startswith(_SAID_OF_ODD_PIXELS):
                raise MediaError(path, _ODD_PIXELS) from None
            raise MediaError(path, f"truncated or damaged image (no {kind} can be made of it)") from None
    if isinstance(image, TiffImagePlugin.TiffImageFile) and _is_raw(image):
        image.close()
        raise UnknownFormatError(path, _RAW)
    return image


def _is_raw(image: TiffImagePlugin.TiffImageFile) -> bool:
    """Whether a TIFF is a camera's raw file, whose first image is but a small preview."""
    tags = image.tag_v2
    return _DNG_VERSION in tags or bool(tags.get(_KIND_OF_IMAGE, 0) & 1 and _INNER_DIRECTORIES in tags)


@contextmanager
def _decoding(path: str | Path) -> Iterator[None]:
    """What a decoder raises becomes MediaError; want of memory, no fault of the file, is its cause."""
    try:
        yield
    except MediaError:
        raise
    except MemoryError as error:
        raise MediaError(path, "not enough memory to decode it") from error
    except Exception as error:  # a decoder raises whatever its code stumbles over
        raise _media_error(path, error) from None


def _media_error(path: str | Path, error: Exception) -> MediaError:
    if isinstance(error, StructureError):
        return MediaError(path, str(error))
    if isinstance(error, PillowImage.DecompressionBombError):
        return TooManyPixelsError(path, "far over the limit of pixels")
    if str(error).startswith(_SAID_OF_ODD_PIXELS):
        return MediaError(path, _ODD_PIXELS)
    return MediaError(path, f"truncated or damaged image ({str(error) or type(error).__name__})")


def _decoder(name: str, path: str | Path) -> Callable[[BytesIO], ImageFile]:
    """Pillow's plugin for a format. `PIL.Image.open` would refuse large images whatever our own limit is."""
    if name == "HEIC":
        try:
            require("heif")
        except MissingExtraError as error:
            raise MediaError(path, f"a HEIC image: {error}; or save it as JPEG") from None
        from pillow_heif import HeifImageFile

        return HeifImageFile
    if name == "TIFF":
        _silence_libtiff()
    return _DECODERS[name]


_DECODERS: dict[str, Callable[[BytesIO], ImageFile]] = {
    "JPEG": JpegImagePlugin.jpeg_factory,
    "PNG": PngImagePlugin.PngImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "WebP": WebPImagePlugin.WebPImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
    "AVIF": AvifImagePlugin.AvifImageFile,
}


@cache
def _silence_libtiff() -> None:
    """Whatever libtiff stumbles over it writes to standard error, a line for every entry of a directory."""
    with suppress(OSError, AttributeError):  # where it is no library of its own
        ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler(None)


def _unknown(head: bytes) -> str:
    return unread(head) or f"not an image ({READ} are read)"


def unread(head: bytes) -> str | None:
    """What a file with such a head (`read_head`) is that is not read, and what to do; None: unknown."""
    kind = known_format(head)
    if kind == "raw":
        return _RAW
    if (archive := archive_format(head)) is not None:
        return f"an archive ({archive}): unpack it first"
    if (video := unread_video(head)) is not None:
        return (
            f"a video of a kind that is not read ({video}): put it into MP4 or MKV, without encoding it again"
        )
    if head.startswith(b"#EXTM3U"):
        return "a playlist, which holds no video: download what it names"
    if (sound := sound_format(head)) is not None:
        return f"a sound recording ({sound}), which holds neither image nor video"
    if (document := document_format(head)) == "HTML":
        return "a web page (HTML), as a failed download leaves: download the image itself"
    if document is not None:
        return f"a document ({document}): take its images out of it, or save its pages as PNG"
    if head.startswith(b"bplist00") and b"NSURL" in head:
        return "a file that is still in iCloud: download it first"
    if head and not head.strip(b"\0"):
        return "it begins with zeros alone, as a failed copy does: get the file again"
    if kind is None or image_format(head):
        return None
    return _UNREAD.format(kind)


def _check_size(image: ImageFile, path: str | Path, content: bytes, max_pixels: int) -> None:
    width, height = image.size
    if max(width, height) > _MAX_SIDE:
        raise TooManyPixelsError(path, f"{width} x {height} pixels, a side over {_MAX_SIDE}")
    if width * height > max_pixels:
        raise OverMaxPixelsError(path, f"{width} x {height} pixels, over the limit of {max_pixels}")
    _check_scans(image, path, content)


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
        damaged = 0
        if image.format == "PNG":
            damaged = sum(is_damaged_note(content, *chunk) for chunk in png_chunks(content))
        if damaged:
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
            size = JpegImagePlugin.JpegImageFile(_Content(following)).size
            another = "another image follows the end of this one"
            remarks.append(f"{_COPY if _is_copy(size, image.size) else another}, not judged")
    return remarks


def _end(name: str, content: bytes) -> int:
    """Where a PNG or a WebP ends, as it says. Behind that lies what an editor left, or somebody put there."""
    if name == "WEBP":
        return webp_end(content)
    return max((at + size + 4 for _, at, size in png_chunks(content)), default=len(content))


def hdr_transfer(image: ImageFile, content: bytes) -> Transfer | None:
    """The transfer of an image that is HDR, by what its file says of its colours."""
    code = None
    if image.format == "PNG":
        found = next((at for name, at, size in png_chunks(content) if name == b"cICP" and size == 4), None)
        code = None if found is None else content[found + 1]
    elif image.format == "HEIF":
        code = (image.info.get("nclx_profile") or {}).get("transfer_characteristics")
    elif image.format == "AVIF":
        boxes = content[: content.find(b"mdat")]
        codes = {content[found.end() + 3] for found in re.finditer(b"colrnclx", boxes[:-7])}
        if len(codes) == 1 and b"tmap" not in boxes:  # a gain map has colours of its own; its image is SDR
            code = codes.pop()
    return None if code is None else TRANSFERS.get(int(code))


def _decode_mended(
    image: ImageFile, mended: Mended, path: str | Path, hdr: Transfer | None
) -> tuple[Image, float, str]:
    """The pixels of a mended file, the share of its rows that came out, and how much that is in words."""
    name = image_format(mended.content[:HEAD_BYTES]) or ""
    with _decoder(name, path)(_Content(mended.content)) as whole:
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
        return bool(image.tag_v2.get(_KIND_OF_IMAGE, 0) & _COPY_OR_MASK) or image.tag_v2.get(_OLD_KIND) == 2
    return image.format in ("JPEG", "MPO") and (_is_copy(image.size, size) or _is_gain_map(image))


def _is_gain_map(image: ImageFile) -> bool:
    """Whether a page behind the first of a JPEG says that it holds how much brighter a bright display is to
    show the first (ISO 21496-1, and Adobe's of before).
    """
    segments = getattr(image, "applist", ())
    return any(data.startswith(_GAIN_MAP) or b"hdrgm:" in data for _, data in segments)


def pixels(image: ImageFile, path: str | Path, hdr: Transfer | None = None) -> Image:
    """The decoded frame of an opened image as RGB (H, W, 3), upright, as `read_photo` describes it."""
    tags = image.tag_v2 if isinstance(image, TiffImagePlugin.TiffImageFile) else {}
    if _is_misread(image.mode, tags):
        raise MediaError(path, _ODD_PIXELS)
    upright = _upright(image, path)
    rgb = _to_rgb(upright, path, tags)
    if hdr is None:
        return np.array(_as_shown(upright, rgb, image.info), dtype=np.uint8)
    return tone_map(np.asarray(rgb).astype(np.uint16) * 257, hdr)


def _as_shown(image: PillowImage.Image, rgb: PillowImage.Image, info: Mapping[Any, Any]) -> PillowImage.Image:
    """`rgb`, which was made of `image`; where its colour profile or a PNG's gamma has it look otherwise, what
    that makes of it. Profiles that cannot be used are passed over, as programs do.
    """
    profile = info.get("icc_profile")
    if profile and len(profile) <= _MAX_PROFILE:
        from PIL import ImageCms

        try:
            given = ImageCms.ImageCmsProfile(BytesIO(profile))
            of_cmyk = given.profile.xcolor_space == "CMYK"
            if of_cmyk != (image.mode == "CMYK"):
                return rgb
            source = image if of_cmyk else rgb.convert("L") if given.profile.xcolor_space == "GRAY" else rgb
            transform = ImageCms.buildTransform(given, ImageCms.createProfile("sRGB"), source.mode, "RGB")
            return _if_otherwise(rgb, source, partial(ImageCms.applyTransform, transform=transform))
        except (ImageCms.PyCMSError, OSError, ValueError):
            return rgb
    gamma = 0 if profile or "srgb" in info else info.get("gamma", 0)
    if gamma > 0:
        levels = (np.linspace(0, 1, 256) ** (1 / (2.2 * gamma)) * 255).round().astype(int).tolist()
        return _if_otherwise(rgb, rgb, lambda few: few.point(3 * levels))
    return rgb


def _if_otherwise(
    rgb: PillowImage.Image,
    source: PillowImage.Image,
    shown: Callable[[PillowImage.Image], PillowImage.Image | None],
) -> PillowImage.Image:
    """What `shown` makes of `source`, where some of its pixels look other than in `rgb`."""
    stored = rgb.resize(_FEW, PillowImage.Resampling.BOX)
    few = stored if source is rgb else source.resize(_FEW, PillowImage.Resampling.BOX)
    if np.abs(np.asarray(shown(few), int) - np.asarray(stored)).mean() < _LOOKS_OTHERWISE:
        return rgb
    return shown(source) or rgb


class _Content(BytesIO):
    """A file in memory with a limit on what a decoder may read of it in all.

    Each of the 65,535 entries and more of a TIFF's directory can name the whole file, and a JPEG's pieces of
    EXIF are joined: a hostile file may cost far more than its size.
    """

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self._left = 4 * len(content) + (1 << 20)
        self._exif = _MAX_EXIF

    def read(self, size: int | None = -1, /) -> bytes:
        part = super().read(size)
        self._left -= len(part)
        if part.startswith(b"Exif\x00\x00"):
            self._exif -= len(part)
        if self._left < 0 or self._exif < 0:
            raise OSError("its parts overlap" if self._left < 0 else _TOO_MUCH_EXIF)
        return part


def _scans(content: bytes) -> int:
    """Number of scans of a JPEG up to the end of its first image, or a few more. Raises StructureError."""
    most = content.count(b"\xff\xda")
    if most < 20:  # the usual case, and fast
        return most
    markers = (segment.marker for segment in jpeg_scans(content))
    return sum(marker == JPEG_SCAN for marker in takewhile(lambda marker: marker != JPEG_END, markers))


def _upright(image: PillowImage.Image, path: str | Path) -> PillowImage.Image:
    # A TIFF's has been read, and has been applied, with its pixels.
    if image.format != "TIFF":
        exif = image.info.get("exif") or image.info.get("Raw profile type exif") or b""
        if len(exif) > _MAX_EXIF:
            raise MediaError(path, _TOO_MUCH_EXIF)
    try:
        turn = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # unreadable EXIF says nothing about orientation; the pixels are fine
        return image
    return image if turn is None else image.transpose(turn)


def _is_misread(mode: str, tags: Mapping[int, Any]) -> bool:
    """Whether Pillow takes the channels of a TIFF, one plane behind the other, for something else."""
    unpacked = tags.get(_COMPRESSION, 1) == 1
    return tags.get(_PLANES) == 2 and (mode == "LA" or (unpacked and max(tags.get(_BITS, (1,))) > 8))


def _to_rgb(image: PillowImage.Image, path: str | Path, tags: Mapping[int, Any]) -> PillowImage.Image:
    """`tags` are those of a TIFF."""
    if image.mode in ("I", "F"):
        reason = "its signed, float or 32-bit pixels have no defined white level; save it with 8 or 16 bits"
        raise MediaError(path, reason)
    if image.mode.startswith("I;16"):
        white = (1 << tags.get(_BITS, (16,))[0]) - 1  # of 12 or 16 bits
        values = np.asarray(image).astype(np.float32)
        if tags.get(_PHOTOMETRIC) == 0:  # white is 0, which Pillow minds up to 8 bits
            values = white - values
        grey = np.rint(values * (255 / white)).clip(0, 255).astype(np.uint8)
        if "transparency" in image.info:  # the one grey level of a PNG that is
            grey[values == image.info["transparency"]] = 255
        return PillowImage.fromarray(grey).convert("RGB")
    if image.mode == "LAB":
        from PIL import ImageCms

        lab, srgb = (ImageCms.createProfile(name) for name in ("LAB", "sRGB"))
        converted = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
        if converted is not None:
            return converted
    if image.has_transparency_data:
        layered = image if image.mode == "RGBA" else image.convert("RGBA")
        # Programs leave the fourth byte of a BMP's pixels at 0.
        if image.format == "BMP" and layered.getchannel("A").getextrema() == (0, 0):
            return layered.convert("RGB")
        white = PillowImage.new("RGB", layered.size, "white")
        white.paste(layered, mask=layered)  # in place: a large image is not held a third time
        return white
    return image.convert("RGB")
