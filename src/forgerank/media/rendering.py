"""Decoded images as viewers show them: RGB, upright, on white, with their colour profile and HDR."""

import re
from collections.abc import Callable, Mapping
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, TiffImagePlugin
from PIL import Image as PillowImage
from PIL.ImageFile import ImageFile

from forgerank.media.files import MediaError
from forgerank.media.hdr import TRANSFERS, Transfer, tone_map
from forgerank.media.opening import MAX_EXIF, ODD_PIXELS, TOO_MUCH_EXIF
from forgerank.media.structure import png_chunks
from forgerank.types import Image

_BITS, _COMPRESSION, _PHOTOMETRIC, _PLANES = 258, 259, 262, 284  # tags of TIFF
_MAX_PROFILE = 4_000_000  # bytes of a colour profile: those of presses have 2 million
_FEW = 64, 64  # pixels on which a profile is tried
_LOOKS_OTHERWISE = 5.0  # levels of 255 on average; those of cameras and screens change fewer
_TURNS = {
    2: PillowImage.Transpose.FLIP_LEFT_RIGHT,
    3: PillowImage.Transpose.ROTATE_180,
    4: PillowImage.Transpose.FLIP_TOP_BOTTOM,
    5: PillowImage.Transpose.TRANSPOSE,
    6: PillowImage.Transpose.ROTATE_270,
    7: PillowImage.Transpose.TRANSVERSE,
    8: PillowImage.Transpose.ROTATE_90,
}


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


def pixels(image: ImageFile, path: str | Path, hdr: Transfer | None = None) -> Image:
    """The decoded frame of an opened image as RGB (H, W, 3), upright, as `read_photo` describes it."""
    tags = image.tag_v2 if isinstance(image, TiffImagePlugin.TiffImageFile) else {}
    if _is_misread(image.mode, tags):
        raise MediaError(path, ODD_PIXELS)
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


def _upright(image: PillowImage.Image, path: str | Path) -> PillowImage.Image:
    # A TIFF's has been read, and has been applied, with its pixels.
    if image.format != "TIFF":
        exif = image.info.get("exif") or image.info.get("Raw profile type exif") or b""
        if len(exif) > MAX_EXIF:
            raise MediaError(path, TOO_MUCH_EXIF)
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
