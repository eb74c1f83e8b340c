"""Photographs: paths in, uint8 RGB arrays out, one-line reasons for everything else; folders searched."""

import os
import re
import stat
import warnings
from collections.abc import Iterable, Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import ExifTags, UnidentifiedImageError
from PIL import Image as PillowImage

from forgerank.types import Image, InputError

PHOTO_EXTENSIONS = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff"})
VIDEO_EXTENSIONS = frozenset(
    {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".flv", ".ogv"}
    | {".3gp", ".wmv"}
)
MAX_PIXELS = 80_000_000  # of a photograph, or of a frame of a video
_FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF")
_MAGICS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"II*\0", b"MM\0*")  # and WebP, in a RIFF
# What a hostile file may cost. An image is at most as large as its pixels without compression.
_MAX_BYTES = 1_000_000_000
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


class MediaError(InputError):
    """A path that gives no image: `path` as asked for and `reason`; `str()` is both on one line."""

    def __init__(self, path: str | Path, reason: str) -> None:
        self.path = str(path)
        self.reason = " ".join(reason.split())
        super().__init__(f"{self.path}: {self.reason}")


class UnknownFormatError(MediaError):
    """Content of no kind that is read."""


class TooManyPixelsError(MediaError):
    """An image over the limit of pixels."""


def read_photo(path: str | Path, *, data: bytes | None = None, max_pixels: int = MAX_PIXELS) -> Image:
    """Decode a photograph to uint8 RGB (H, W, 3), turned upright by its EXIF orientation.

    JPEG, PNG, WebP, BMP and TIFF, told by their content and not by the name; of several frames, the first.
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


def read_file(path: str | Path, *, max_bytes: int = _MAX_BYTES) -> bytes:
    """The content of a regular file. Raises MediaError for anything else, more than `max_bytes` included."""
    check_file(path)
    try:
        with open(path, "rb") as file:
            content = file.read(max_bytes + 1)
    except OSError as error:
        raise MediaError(path, _os_reason(error)) from None
    if len(content) > max_bytes:
        raise MediaError(path, f"over the limit of {max_bytes} bytes")
    return content


class _Content(BytesIO):
    """A file in memory that shows a decoder no more than an honest one does: each of the 65,535 entries and
    more of a TIFF's directory can name the whole file, and a JPEG's pieces of EXIF are joined.
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
    """Scans of a JPEG to the end of its first image, or a few more."""
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


def is_photo(path: str | Path) -> bool:
    """Whether a file's first bytes are those of a format that `read_photo` reads; False where it has none."""
    try:
        with open(path, "rb") as file:
            head = file.read(12)
    except (OSError, ValueError):
        return False
    return head.startswith(_MAGICS) or (head[:4] == b"RIFF" and head[8:] == b"WEBP")


def check_file(path: str | Path) -> None:
    """Raises MediaError for what is no regular file with content."""
    try:
        status = os.stat(path)
    except ValueError:
        raise MediaError(path, "not a valid path") from None
    except OSError as error:
        raise MediaError(path, _os_reason(error)) from None
    if stat.S_ISDIR(status.st_mode):
        raise MediaError(path, "is a directory")
    if not stat.S_ISREG(status.st_mode):
        raise MediaError(path, "not a regular file")
    if status.st_size == 0:
        raise MediaError(path, "empty file")


def _os_reason(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file or folder"
    return (error.strerror or type(error).__name__).lower()


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


def find_photos(paths: Iterable[str | Path]) -> tuple[list[Path], list[MediaError]]:
    """Expand folders to the photographs in them: recursive, sorted, each folder once if links form a loop.

    A path to a file is kept whatever its extension. Missing paths, unreadable folders and folders without a
    photograph come back as errors and stop nothing.
    """
    return _find(paths, PHOTO_EXTENSIONS, "no photograph in this folder")


def find_media(paths: Iterable[str | Path]) -> tuple[list[Path], list[MediaError]]:
    """`find_photos` that finds videos, too."""
    return _find(paths, PHOTO_EXTENSIONS | VIDEO_EXTENSIONS, "no photograph or video in this folder")


def _find(
    paths: Iterable[str | Path], extensions: frozenset[str], nothing: str
) -> tuple[list[Path], list[MediaError]]:
    found: list[Path] = []
    errors: list[MediaError] = []
    for path in paths:
        try:
            is_folder = stat.S_ISDIR(os.stat(path).st_mode)
        except ValueError:
            errors.append(MediaError(path, "not a valid path"))
            continue
        except OSError as error:
            errors.append(MediaError(path, _os_reason(error)))
            continue
        if not is_folder:
            found.append(Path(path))
            continue
        inside = list(walk(Path(path), extensions, errors))
        if not inside and not any(Path(error.path).is_relative_to(path) for error in errors):
            errors.append(MediaError(path, nothing))
        found.extend(inside)
    return found, errors


def walk(folder: Path, extensions: frozenset[str] | None, errors: list[MediaError]) -> Iterator[Path]:
    """Files below a folder by name, of these extensions or all (None), held one folder at a time.

    Links are followed, each folder is entered once; what cannot be read is appended to `errors`.
    """
    visited: set[tuple[int, int]] = set()

    def note(error: OSError) -> None:
        errors.append(MediaError(str(error.filename), _os_reason(error)))

    for root, folders, files in os.walk(folder, followlinks=True, onerror=note):
        try:
            status = os.stat(root)
        except OSError as error:
            note(error)
            continue
        if (status.st_dev, status.st_ino) in visited:
            if Path(root).parent.resolve().is_relative_to(Path(root).resolve()):
                errors.append(MediaError(root, "leads back to a folder that it lies in"))
            folders.clear()
            continue
        visited.add((status.st_dev, status.st_ino))
        folders.sort()
        for name in sorted(files):
            if extensions is None or Path(name).suffix.lower() in extensions:
                yield Path(root, name)
