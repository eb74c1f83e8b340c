"""Photographs decoded to uint8 RGB arrays, with a one-line reason for everything that is refused."""

import re
import warnings
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import ExifTags, UnidentifiedImageError
from PIL import Image as PillowImage

from forgerank.media.files import MediaError, read_file
from forgerank.types import Image

MAX_PIXELS = 80_000_000  # of a photograph, or of a frame of a video
_FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF")
# What a hostile file may cost. An image is at most as large as its pixels without compression.
_MAX_SIDE = 1 << 24  # pixels; of some modes, Pillow cannot hold a longer row
_MAX_EXIF = 1 << 17  # bytes; its entries may all name the same bytes, and Pillow copies them for each
_TOO_MUCH_EXIF = f"more than {_MAX_EXIF} bytes of EXIF"
_MAX_SCANNED = 4_000_000_000  # pixels times scans of a JPEG: seconds
_MARKER = re.compile(rb"\xff+([\x01-\xcf\xd8-\xfe])")  # of a JPEG; 0 and the restart markers are data
_TURNS = {
    2: PillowImage.Transpose.FLIP_LEFT_RIGHT,
    3: PillowImage.Transpose.ROTATE_180,
    4: PillowImage.Transpose.FLIP_TOP_BOTTOM,
    5: PillowImage.Transpose.TRANSPOSE,
    6: PillowImage.Transpose.ROTATE_270,
    7: PillowImage.Transpose.TRANSVERSE,
    8: PillowImage.Transpose.ROTATE_90,
}
_UNKNOWN = "not an image (JPEG, PNG, WebP, BMP and TIFF are read)"


class UnknownFormatError(MediaError):
    """Content of no format that is read."""


class TooManyPixelsError(MediaError):
    """An image over the limit of pixels."""


def read_photo(path: str | Path, *, data: bytes | None = None, max_pixels: int = MAX_PIXELS) -> Image:
    """Decode a photograph to uint8 RGB (H, W, 3), turned upright by its EXIF orientation.

    JPEG, PNG, WebP, BMP and TIFF, recognised by content and not by name; of several frames, the first.
    Transparent pixels are composited on white, as a browser shows them; 16 bits are scaled to 8; CMYK is
    converted without its profile and embedded ICC profiles are ignored: stored values stay as they are.
    `data` is the file's content where it lies in an archive; `path` only names it then. Raises MediaError for
    anything else, more than `max_pixels` pixels included (Pillow's own hard limit, about 179 million, holds
    above that), and for files made to cost much more than their size: docs/security.md.
    """
    content = read_file(path) if data is None else data
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of odd metadata and of bombs; the limits are ours
        try:
            with PillowImage.open(_Content(content), formats=_FORMATS) as image:
                width, height = image.size
                if width * height > max_pixels:
                    reason = f"{width} x {height} pixels, over the limit of {max_pixels}"
                    raise TooManyPixelsError(path, reason)
                if max(width, height) > _MAX_SIDE:
                    raise TooManyPixelsError(path, f"{width} x {height} pixels, a side over {_MAX_SIDE}")
                if image.format in ("JPEG", "MPO") and width * height * _scans(content) > _MAX_SCANNED:
                    raise MediaError(path, f"more scans than an image of {width} x {height} pixels needs")
                image.load()
                return np.array(_to_rgb(_upright(image, path), path), dtype=np.uint8)
        except MediaError:
            raise
        except UnidentifiedImageError:
            raise UnknownFormatError(path, _UNKNOWN) from None
        except PillowImage.DecompressionBombError:
            raise TooManyPixelsError(path, f"far over the limit of {max_pixels} pixels") from None
        except MemoryError:
            raise MediaError(path, "not enough memory to decode it") from None
        except Exception as error:  # a decoder raises whatever its code stumbles over
            cause = str(error) or type(error).__name__
            raise MediaError(path, f"truncated or damaged image ({cause})") from None


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
    """Number of scans of a JPEG up to the end of its first image, or a few more."""
    most = content.count(b"\xff\xda")
    if most < 20:  # the usual case, and fast
        return most
    at, scans = 2, 0
    while (found := _MARKER.search(content, at)) and (marker := found[1][0]) != 0xD9:
        scans += marker == 0xDA
        at = found.end()
        if marker >= 0xC0 and marker != 0xD8:  # the others are no segments
            at += int.from_bytes(content[at : at + 2], "big")
    return scans


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


def _to_rgb(image: PillowImage.Image, path: str | Path) -> PillowImage.Image:
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image)
        if image.mode == "F" or values.min() < 0 or values.max() > 65535:
            raise MediaError(path, "its 32-bit pixels have no defined white level; save it with 8 or 16 bits")
        grey = np.rint(values.astype(np.float32) / 257).astype(np.uint8)  # 65535 / 257 = 255
        return PillowImage.fromarray(grey).convert("RGB")
    if image.has_transparency_data:
        layered = image if image.mode == "RGBA" else image.convert("RGBA")
        white = PillowImage.new("RGB", layered.size, "white")
        white.paste(layered, mask=layered)  # in place: a large image is not held a third time
        return white
    return image.convert("RGB")
