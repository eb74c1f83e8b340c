"""Photographs: paths and folders in, uint8 RGB arrays out, one-line reasons for everything else."""

import os
import stat
import struct
import warnings
import zlib
from collections.abc import Iterable, Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageOps, UnidentifiedImageError

from forgerank.types import Image, InputError

PHOTO_EXTENSIONS = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff"})
_FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF")
# What Pillow's decoders raise for damaged files, by what they stumble over.
_DECODER_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    EOFError,
    OverflowError,
    MemoryError,
    ZeroDivisionError,
    struct.error,
    zlib.error,
)


class MediaError(InputError):
    """A path that gives no picture: `path` as asked for and `reason`; `str()` is both on one line."""

    def __init__(self, path: str | Path, reason: str) -> None:
        self.path = str(path)
        self.reason = " ".join(reason.split())
        printable = "".join(c if c.isprintable() else repr(c)[1:-1] for c in self.path)
        super().__init__(f"{printable}: {self.reason}")


def read_photo(path: str | Path, *, data: bytes | None = None, max_pixels: int = 80_000_000) -> Image:
    """Decode a photograph to uint8 RGB (H, W, 3), turned upright by its EXIF orientation.

    JPEG, PNG, WebP, BMP and TIFF, told by their content and not by the name; of several frames, the first.
    Transparent pixels are composited on white, as a browser shows them; 16 bits are scaled to 8; CMYK is
    converted without its profile and embedded ICC profiles are ignored: stored values stay as they are.
    `data` is the file's content where it lies in an archive; `path` only names it then. Raises MediaError for
    anything else, more than `max_pixels` pixels included (Pillow's own hard limit, about 179 million, holds
    above that).
    """
    if data is None:
        _check_file(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of odd metadata and of bombs; the limit below is ours
        try:
            with PillowImage.open(path if data is None else BytesIO(data), formats=_FORMATS) as picture:
                width, height = picture.size
                if width * height > max_pixels:
                    raise MediaError(path, f"{width} x {height} pixels, over the limit of {max_pixels}")
                picture.load()
                return np.array(_to_rgb(_upright(picture), path), dtype=np.uint8)
        except UnidentifiedImageError:
            raise MediaError(path, "not a picture (JPEG, PNG, WebP, BMP and TIFF are read)") from None
        except PillowImage.DecompressionBombError:
            raise MediaError(path, f"far over the limit of {max_pixels} pixels") from None
        except PermissionError:
            raise MediaError(path, "permission denied") from None
        except _DECODER_ERRORS as error:
            cause = str(error) or type(error).__name__
            raise MediaError(path, f"truncated or damaged picture ({cause})") from None


def _check_file(path: str | Path) -> None:
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


def _upright(picture: PillowImage.Image) -> PillowImage.Image:
    try:
        return ImageOps.exif_transpose(picture)
    except _DECODER_ERRORS:
        return picture  # unreadable EXIF says nothing about orientation; the pixels are fine


def _to_rgb(picture: PillowImage.Image, path: str | Path) -> PillowImage.Image:
    if picture.mode.startswith("I") or picture.mode == "F":
        values = np.asarray(picture)
        if picture.mode == "F" or values.min() < 0 or values.max() > 65535:
            raise MediaError(path, "its 32-bit pixels have no defined white level; save it with 8 or 16 bits")
        grey = np.rint(values.astype(np.float32) / 257).astype(np.uint8)  # 65535 / 257 = 255
        return PillowImage.fromarray(grey).convert("RGB")
    if picture.has_transparency_data:
        layered = picture.convert("RGBA")
        white = PillowImage.new("RGBA", layered.size, "white")
        return PillowImage.alpha_composite(white, layered).convert("RGB")
    return picture.convert("RGB")


def find_photos(paths: Iterable[str | Path]) -> tuple[list[Path], list[MediaError]]:
    """Expand folders to the photographs in them: recursive, sorted, each folder once if links form a loop.

    A path to a file is kept whatever its extension. Missing paths, unreadable folders and folders without a
    photograph come back as errors and stop nothing.
    """
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
        inside = list(_walk(Path(path), errors))
        if not inside and not any(Path(error.path).is_relative_to(path) for error in errors):
            errors.append(MediaError(path, "no photograph in this folder"))
        found.extend(inside)
    return found, errors


def _walk(folder: Path, errors: list[MediaError]) -> Iterator[Path]:
    visited: set[tuple[int, int]] = set()

    def note(error: OSError) -> None:
        errors.append(MediaError(str(error.filename), _os_reason(error)))

    for root, folders, files in os.walk(folder, followlinks=True, onerror=note):
        status = os.stat(root)
        if (status.st_dev, status.st_ino) in visited:
            if Path(root).parent.resolve().is_relative_to(Path(root).resolve()):
                errors.append(MediaError(root, "leads back to a folder that it lies in"))
            folders.clear()
            continue
        visited.add((status.st_dev, status.st_ino))
        folders.sort()
        for name in sorted(files):
            if Path(name).suffix.lower() in PHOTO_EXTENSIONS:
                yield Path(root, name)
