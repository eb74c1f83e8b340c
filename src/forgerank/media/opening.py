"""Image files opened by the decoder that their first bytes name; a one-line reason for what is not read."""

import ctypes
import struct
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from io import BytesIO
from pathlib import Path

from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
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
from forgerank.media.files import MediaError
from forgerank.media.mending import close_webp, shown_png
from forgerank.media.structure import StructureError, read_structure, unread_coding
from forgerank.media.suffixes import (
    HEAD_BYTES,
    archive_format,
    document_format,
    image_format,
    known_format,
    sound_format,
    unread_video,
)

READ = "JPEG, PNG, WebP, GIF, AVIF, HEIC, BMP and TIFF"
MAX_EXIF = 1 << 17  # bytes; its entries may all name the same bytes, and Pillow copies them for each
TOO_MUCH_EXIF = f"more than {MAX_EXIF} bytes of EXIF"
_UNREAD = "an image of a kind that is not read ({}): save it as JPEG or PNG"
_RAW = "a camera's raw file, which is not read: export it as JPEG or PNG"
# Tags of TIFF.
_DNG_VERSION, KIND_OF_IMAGE, _INNER_DIRECTORIES = 50706, 254, 330
ODD_PIXELS = "its pixels are stored in a way that is not read: save it as PNG, or with 8 bits a channel"
_SAID_OF_ODD_PIXELS = ("unknown pixel mode", "unknown raw mode")  # by Pillow
# What stands in the way of Pillow's decoders, taken out of a file.
_MADE_WHOLE: dict[str, Callable[[bytes], bytes]] = {"WebP": close_webp, "PNG": shown_png}


class UnknownFormatError(MediaError):
    """Content of no format that is read."""


class TooManyPixelsError(MediaError):
    """An image over a limit of pixels."""


class OverMaxPixelsError(TooManyPixelsError):
    """An image over `max_pixels`."""


def with_remedy(error: Exception, text: str) -> str:
    """`text` on an error, for commands with the option `--max-pixels`: where that helps, it says so."""
    return f"{text}; --max-pixels raises it" if isinstance(error, OverMaxPixelsError) else text


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
                raise UnknownFormatError(path, unknown(content[:HEAD_BYTES]))
            if (coding := unread_coding(structure.format, content)) is not None:
                raise UnknownFormatError(path, _UNREAD.format(coding))
            made_whole = _MADE_WHOLE.get(structure.format)
            whole = content if made_whole is None else made_whole(content)
            image = decoder_of(structure.format, path)(Content(whole))
        except (SyntaxError, IndexError, TypeError, struct.error) as error:
            kind = known_format(content[:HEAD_BYTES])
            if kind in (None, "BMP"):  # two bytes make a BMP: it only begins like one
                raise UnknownFormatError(path, unknown(content[:HEAD_BYTES])) from None
            if str(error).startswith(_SAID_OF_ODD_PIXELS):
                raise MediaError(path, ODD_PIXELS) from None
            raise MediaError(path, f"truncated or damaged image (no {kind} can be made of it)") from None
    if isinstance(image, TiffImagePlugin.TiffImageFile) and _is_raw(image):
        image.close()
        raise UnknownFormatError(path, _RAW)
    return image


def _is_raw(image: TiffImagePlugin.TiffImageFile) -> bool:
    """Whether a TIFF is a camera's raw file, whose first image is but a small preview."""
    tags = image.tag_v2
    return _DNG_VERSION in tags or bool(tags.get(KIND_OF_IMAGE, 0) & 1 and _INNER_DIRECTORIES in tags)


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
        return MediaError(path, ODD_PIXELS)
    return MediaError(path, f"truncated or damaged image ({str(error) or type(error).__name__})")


def decoder_of(name: str, path: str | Path) -> Callable[[BytesIO], ImageFile]:
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


def unknown(head: bytes) -> str:
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


class Content(BytesIO):
    """A file in memory with a limit on what a decoder may read of it in all.

    Each of the 65,535 entries and more of a TIFF's directory can name the whole file, and a JPEG's pieces of
    EXIF are joined: a hostile file may cost far more than its size.
    """

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self._left = 4 * len(content) + (1 << 20)
        self._exif = MAX_EXIF

    def read(self, size: int | None = -1, /) -> bytes:
        part = super().read(size)
        self._left -= len(part)
        if part.startswith(b"Exif\x00\x00"):
            self._exif -= len(part)
        if self._left < 0 or self._exif < 0:
            raise OSError("its parts overlap" if self._left < 0 else TOO_MUCH_EXIF)
        return part
