"""Faces reduced to dots, few levels or blocks are not judged; ordinary copies of a photograph are."""

import io
import math
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image as PILImage
from PIL import ImageFilter, ImageOps

from forgerank.detect.verdict import unusable
from forgerank.faces.analyze import FaceAnalyzer

Pixels = np.ndarray


@pytest.fixture(scope="module")
def analyzer() -> FaceAnalyzer:
    return FaceAnalyzer()


@pytest.fixture(scope="module")
def portraits(astronaut: Pixels) -> list[PILImage.Image]:
    """One face in four sizes and lights; its box has 110 to 320 pixels."""
    whole = PILImage.fromarray(np.ascontiguousarray(astronaut[:300, 80:380]))
    mirrored = ImageOps.mirror(whole).resize((450, 450), PILImage.Resampling.LANCZOS)
    darker = whole.resize((600, 600), PILImage.Resampling.LANCZOS).point(lambda value: round(0.7 * value))
    turned = whole.rotate(12, PILImage.Resampling.BICUBIC).resize((900, 900), PILImage.Resampling.LANCZOS)
    return [whole, mirrored, darker, turned]


def jpeg(image: PILImage.Image, quality: int) -> PILImage.Image:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return PILImage.open(io.BytesIO(stream.getvalue())).convert("RGB")


def against(image: PILImage.Image, screen: Pixels) -> PILImage.Image:
    """Black or white by a screen (H, W) of grey levels."""
    return PILImage.fromarray(((np.asarray(image.convert("L")) > screen) * 255).astype(np.uint8)).convert(
        "RGB"
    )


def ordered(image: PILImage.Image, side: int) -> PILImage.Image:
    matrix = np.zeros((1, 1))
    while len(matrix) < side:
        matrix = np.block([[4 * matrix, 4 * matrix + 2], [4 * matrix + 3, 4 * matrix + 1]])
    tiled = np.tile(matrix, (-(-image.height // side), -(-image.width // side)))
    return against(image, (tiled[: image.height, : image.width] + 0.5) / side**2 * 255)


def halftone(image: PILImage.Image, cell: float, degrees: float) -> PILImage.Image:
    y, x = np.mgrid[: image.height, : image.width] * 2 * math.pi / cell
    angle = math.radians(degrees)
    waves = np.cos(x * math.cos(angle) + y * math.sin(angle)) + np.cos(
        y * math.cos(angle) - x * math.sin(angle)
    )
    ranks = np.argsort(np.argsort(waves.ravel())).reshape(waves.shape)
    return against(image, ranks / ranks.size * 255)


def pixelated(image: PILImage.Image, across: int) -> PILImage.Image:
    """About so many blocks across the face, which has 0.36 of the image's side."""
    side = max(3, round(0.36 * image.width / across))
    small = image.resize((image.width // side, image.height // side), PILImage.Resampling.BOX)
    return small.resize((small.width * side, small.height * side), PILImage.Resampling.NEAREST)


LAUNDERED: dict[str, Callable[[PILImage.Image], PILImage.Image]] = {
    "fax": lambda image: image.convert("1").convert("RGB"),
    "fax, as JPEG": lambda image: jpeg(image.convert("1").convert("RGB"), 80),
    "fax, enlarged": lambda image: image.convert("1").convert("RGB").resize((1350, 1350), 3),
    "photocopy": lambda image: image.convert("L").point(lambda v: 255 * (v > 110)).convert("RGB"),
    "ordered 4": lambda image: ordered(image, 4),
    "ordered 8": lambda image: ordered(image, 8),
    "ordered 8, as JPEG": lambda image: jpeg(ordered(image, 8), 60),
    **{
        f"halftone {cell} at {degrees}": lambda image, cell=cell, degrees=degrees: halftone(
            image, cell, degrees
        )
        for cell in (3, 4, 6)
        for degrees in (0, 45)
    },
    "halftone 4, as JPEG": lambda image: jpeg(halftone(image, 4, 45), 75),
    **{f"{bits} bits": lambda image, bits=bits: ImageOps.posterize(image, bits) for bits in (1, 2, 3)},
    **{f"{n} colours": lambda image, n=n: image.quantize(n, dither=0).convert("RGB") for n in (4, 8, 16)},
    **{f"{n} blocks": lambda image, n=n: pixelated(image, n) for n in (8, 12, 16, 24)},
    "12 blocks, as JPEG": lambda image: jpeg(pixelated(image, 12), 85),
}

ORDINARY: dict[str, Callable[[PILImage.Image], PILImage.Image]] = {
    "as it is": lambda image: image,
    **{f"JPEG {quality}": lambda image, quality=quality: jpeg(image, quality) for quality in (90, 50, 30)},
    "grey": lambda image: image.convert("L").convert("RGB"),
    "sharpened": lambda image: image.filter(ImageFilter.UnsharpMask(2, 100, 0)),
    "darker": lambda image: image.point(lambda value: value // 2),
    "more contrast": lambda image: image.point(lambda value: max(0, min(255, round(1.4 * value - 51)))),
    "noise": lambda image: PILImage.fromarray(
        np.clip(
            np.asarray(image) + np.random.default_rng(0).normal(0, 8, (image.height, image.width, 3)), 0, 255
        ).astype(np.uint8)
    ),
}


@pytest.mark.parametrize("name", LAUNDERED)
def test_too_little_is_left_to_judge(
    name: str, analyzer: FaceAnalyzer, portraits: list[PILImage.Image]
) -> None:
    for portrait in portraits:
        for face in analyzer.analyze(np.asarray(LAUNDERED[name](portrait))):
            reason = unusable(face.quality)
            assert reason is not None, (portrait.size, face.quality)


@pytest.mark.parametrize("name", ORDINARY)
def test_ordinary_copies_are_judged(
    name: str, analyzer: FaceAnalyzer, portraits: list[PILImage.Image]
) -> None:
    for portrait in portraits:
        [face] = analyzer.analyze(np.asarray(ORDINARY[name](portrait)))
        assert unusable(face.quality) is None
