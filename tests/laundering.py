"""Faces reduced to dots, few levels, blocks or edges, what was done to them afterwards; ordinary copies."""

import io
import math
from collections.abc import Callable

import numpy as np
from PIL import Image as PILImage
from PIL import ImageEnhance, ImageFilter, ImageOps
from scipy.ndimage import gaussian_filter

Photo = PILImage.Image
Change = Callable[[Photo], Photo]

BOX, BICUBIC, LANCZOS = (getattr(PILImage.Resampling, name) for name in ("BOX", "BICUBIC", "LANCZOS"))


def jpeg(image: Photo, quality: int) -> Photo:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return PILImage.open(io.BytesIO(stream.getvalue())).convert("RGB")


def scaled(image: Photo, factor: float) -> Photo:
    size = round(image.width * factor), round(image.height * factor)
    return image.resize(size, LANCZOS if factor < 1 else BICUBIC)


def fax(image: Photo) -> Photo:
    """Black and white with the error of each pixel spread over its neighbours."""
    return image.convert("1").convert("RGB")


def photocopy(image: Photo, quantile: float) -> Photo:
    """Black and white; so much of the image is black."""
    grey = np.asarray(image.convert("L"))
    return PILImage.fromarray(grey > np.quantile(grey, quantile)).convert("RGB")


def against(grey: np.ndarray, screen: np.ndarray) -> np.ndarray:
    """Black or white by a screen (H, W) of grey levels."""
    return np.where(grey > screen, 255, 0).astype(np.uint8)


def ordered(image: Photo, side: int) -> Photo:
    """Bayer's matrix of side^2 levels."""
    matrix = np.zeros((1, 1))
    while len(matrix) < side:
        matrix = np.block([[4 * matrix, 4 * matrix + 2], [4 * matrix + 3, 4 * matrix + 1]])
    tiled = np.tile(matrix, (-(-image.height // side), -(-image.width // side)))
    screen = (tiled[: image.height, : image.width] + 0.5) / side**2 * 255
    return PILImage.fromarray(against(np.asarray(image.convert("L")), screen)).convert("RGB")


def screen(width: int, height: int, cell: float, degrees: float) -> np.ndarray:
    """The screen of a halftone: dots `cell` pixels apart, in rows at an angle."""
    y, x = np.mgrid[:height, :width] * 2 * math.pi / cell
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    waves = np.cos(x * c + y * s) + np.cos(y * c - x * s)
    return np.asarray(np.argsort(np.argsort(waves.ravel())).reshape(waves.shape) / waves.size * 255)


def halftone(image: Photo, cell: float, degrees: float) -> Photo:
    dots = against(np.asarray(image.convert("L")), screen(*image.size, cell, degrees))
    return PILImage.fromarray(dots).convert("RGB")


def print_in_colours(image: Photo, cell: float) -> Photo:
    """A halftone of each colour, turned against the others as printers do."""
    pixels = np.asarray(image)
    planes = [
        against(pixels[..., i], screen(*image.size, cell, degrees)) for i, degrees in enumerate((15, 75, 45))
    ]
    return PILImage.fromarray(np.stack(planes, axis=-1))


def pixelated(image: Photo, across: int) -> Photo:
    """About so many blocks across the face, which has 0.36 of the image's width."""
    side = max(3, round(0.36 * image.width / across))
    small = image.resize((image.width // side, image.height // side), BOX)
    return small.resize((small.width * side, small.height * side), PILImage.Resampling.NEAREST)


def colours(image: Photo, count: int, *, dither: bool = False) -> Photo:
    return image.quantize(count, dither=PILImage.Dither(3 if dither else 0)).convert("RGB")


def relief(image: Photo, radius: float, gain: float, degrees: float) -> Photo:
    """Embossed: grey, and the slope in one direction."""
    grey = np.asarray(blurred(image.convert("L"), radius), np.float64)
    down, right = np.gradient(grey)
    angle = math.radians(degrees)
    slope = math.cos(angle) * right + math.sin(angle) * down
    return PILImage.fromarray(np.clip(128 + gain * slope, 0, 255).astype(np.uint8)).convert("RGB")


def details(image: Photo, radius: float, gain: float) -> Photo:
    """What a blur takes away, on grey."""
    taken = np.asarray(image, np.float64) - np.asarray(blurred(image, radius), np.float64)
    return PILImage.fromarray(np.clip(128 + gain * taken, 0, 255).astype(np.uint8))


def levelled(image: Photo, radius: float) -> Photo:
    """The contrast of every place made the same."""
    grey = np.asarray(image.convert("L"), np.float64)
    apart = grey - gaussian_filter(grey, radius)
    deviation = np.sqrt(gaussian_filter(apart**2, radius))
    return PILImage.fromarray(np.clip(128 + 50 * apart / (deviation + 2), 0, 255).astype(np.uint8)).convert(
        "RGB"
    )


def blurred(image: Photo, radius: float) -> Photo:
    return image.filter(ImageFilter.GaussianBlur(radius))


def film(image: Photo, deviation: float) -> Photo:
    """A scan of a film: grey grain of about a pixel."""
    noise = np.random.default_rng(0).normal(128, 40, (image.height, image.width)).clip(0, 255)
    soft = np.asarray(blurred(PILImage.fromarray(noise.astype(np.uint8)), 0.8), np.float64)
    grain = (soft - soft.mean()) / soft.std() * deviation
    return PILImage.fromarray(np.clip(np.asarray(image) + grain[..., None], 0, 255).astype(np.uint8))


def noisy(image: Photo, deviation: float, channels: int) -> Photo:
    """White noise, of each colour (3) or of all of them alike (1)."""
    noise = np.random.default_rng(0).normal(0, deviation, (image.height, image.width, channels))
    return PILImage.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8))


def smoothed(image: Photo, reach: float) -> Photo:
    """Small differences taken out, as a telephone takes noise and a filter takes pores."""
    pixels = np.asarray(image, np.float64)
    soft = np.asarray(blurred(image.filter(ImageFilter.MedianFilter(5)), 1.5), np.float64)
    kept = pixels - np.exp(-(((pixels - soft) / reach) ** 2)) * (pixels - soft)
    return PILImage.fromarray(np.clip(kept, 0, 255).astype(np.uint8))


def _then(kind: str, name: str, first: Change) -> dict[tuple[str, str], Change]:
    """A reduction followed by saves, scales and blurs."""
    return {
        **{
            (f"{kind}, then JPEG", f"{name}, {q}"): lambda image, q=q: jpeg(first(image), q)
            for q in (90, 75, 50)
        },
        **{
            (f"{kind}, then scaled", f"{name}, {f:g}"): lambda image, f=f: scaled(first(image), f)
            for f in (0.5, 0.75, 1.5, 2)
        },
        (f"{kind}, then scaled, JPEG", f"{name}, 0.75, 75"): lambda image: jpeg(
            scaled(first(image), 0.75), 75
        ),
        (f"{kind}, then scaled, JPEG", f"{name}, 1.5, 75"): lambda image: jpeg(scaled(first(image), 1.5), 75),
        **{
            (f"{kind}, then blurred", f"{name}, {r:g} px"): lambda image, r=r: blurred(first(image), r)
            for r in (0.7, 1, 1.5)
        },
        (f"{kind}, then blurred, JPEG", f"{name}, 1 px, 75"): lambda image: jpeg(
            blurred(first(image), 1), 75
        ),
    }


# By kind and strength. Keyword defaults bind the loops' values.
LAUNDERED: dict[tuple[str, str], Change] = {
    ("fax", "dithered"): fax,
    **{("photocopy", f"{q:g} black"): lambda image, q=q: photocopy(image, q) for q in (0.3, 0.5, 0.7)},
    **{("ordered", f"{side}"): lambda image, side=side: ordered(image, side) for side in (2, 4, 8)},
    **{
        ("halftone", f"{cell} px, {d}°"): lambda image, cell=cell, d=d: halftone(image, cell, d)
        for cell in (3, 4, 6, 8)
        for d in (0, 45)
    },
    **{("print", f"{cell} px"): lambda image, cell=cell: print_in_colours(image, cell) for cell in (3, 4, 6)},
    **{
        ("posterised", f"{bits} bits"): lambda image, bits=bits: ImageOps.posterize(image, bits)
        for bits in (1, 2, 3, 4)
    },
    **{("colours", f"{n}"): lambda image, n=n: colours(image, n) for n in (4, 8, 16, 32)},
    **{("colours, dithered", f"{n}"): lambda image, n=n: colours(image, n, dither=True) for n in (4, 8, 16)},
    **{("pixelated", f"{n} blocks"): lambda image, n=n: pixelated(image, n) for n in (8, 12, 16, 24, 32)},
    **_then("fax", "dithered", fax),
    **_then("photocopy", "0.5 black", lambda image: photocopy(image, 0.5)),
    **_then("ordered", "8", lambda image: ordered(image, 8)),
    **_then("halftone", "4 px, 45°", lambda image: halftone(image, 4, 45)),
    **_then("print", "4 px", lambda image: print_in_colours(image, 4)),
    **_then("posterised", "2 bits", lambda image: ImageOps.posterize(image, 2)),
    **_then("posterised", "3 bits", lambda image: ImageOps.posterize(image, 3)),
    **_then("colours", "8", lambda image: colours(image, 8)),
    **_then("pixelated", "12 blocks", lambda image: pixelated(image, 12)),
    **_then("pixelated", "24 blocks", lambda image: pixelated(image, 24)),
    **{
        ("relief", f"{r:g} px, {g:g}, {d:g}°"): lambda image, r=r, g=g, d=d: relief(image, r, g, d)
        for r, g, d in ((0, 2, 45), (1, 4, 45), (1, 4, 90))
    },
    ("relief, JPEG", "1 px, 60"): lambda image: jpeg(relief(image, 1, 4, 45), 60),
    **{
        ("details", f"{r:g} px, {g:g}"): lambda image, r=r, g=g: details(image, r, g)
        for r, g in ((1, 4), (2, 3), (4, 2))
    },
    **{("levelled", f"{r:g} px"): lambda image, r=r: levelled(image, r) for r in (2, 4)},
    ("negative", "colour"): ImageOps.invert,
    ("negative", "grey, JPEG 75"): lambda image: jpeg(ImageOps.invert(image.convert("L")), 75),
    ("pixelated, posterised", "24 blocks, 3 bits"): lambda image: ImageOps.posterize(pixelated(image, 24), 3),
    ("grey, posterised", "3 bits"): lambda image: ImageOps.posterize(image.convert("L"), 3).convert("RGB"),
}

BLURRED = (
    ("fax", "dithered"),
    ("posterised", "2 bits"),
    ("posterised", "3 bits"),
    ("colours", "8"),
    ("print", "4 px"),
)

# Hidden from the quality test in some faces, by noise, size or a strong save: docs/results/quality.md counts.
WEAK = {
    ("halftone, then blurred", "4 px, 45°, 1.5 px"),
    ("posterised", "4 bits"),
    ("colours", "32"),
    *(
        (f"{kind}, then blurred", f"{name}, {radius} px")
        for kind, name in BLURRED
        for radius in ("0.7", "1", "1.5")
    ),
    *((f"{kind}, then blurred, JPEG", f"{name}, 1 px, 75") for kind, name in (*BLURRED, ("ordered", "8"))),
    ("posterised, then JPEG", "3 bits, 75"),
    ("posterised, then JPEG", "3 bits, 50"),
    ("posterised, then scaled", "3 bits, 0.5"),
    ("posterised, then scaled", "3 bits, 0.75"),
    *(("posterised, then scaled, JPEG", f"3 bits, {factor}, 75") for factor in ("0.75", "1.5")),
    ("pixelated, then JPEG", "24 blocks, 50"),
    ("pixelated, then blurred", "24 blocks, 1.5 px"),
    ("pixelated, then blurred, JPEG", "24 blocks, 1 px, 75"),
    ("pixelated, then scaled", "24 blocks, 0.5"),
    ("pixelated, then scaled, JPEG", "24 blocks, 0.75, 75"),
}

ORDINARY: dict[str, Change] = {
    "as it is": lambda image: image,
    **{
        f"JPEG {quality}": lambda image, quality=quality: jpeg(image, quality)
        for quality in (95, 90, 70, 50, 30)
    },
    **{f"scaled {f:g}": lambda image, f=f: scaled(image, f) for f in (0.7, 1.5)},
    "halved": lambda image: scaled(image, 0.5),
    "saved, scaled and saved": lambda image: jpeg(scaled(jpeg(image, 70), 0.8), 85),
    "grey": lambda image: image.convert("L").convert("RGB"),
    "grey, JPEG 50": lambda image: jpeg(image.convert("L").convert("RGB"), 50),
    "film": lambda image: film(image, 8),
    "grey film": lambda image: film(image.convert("L").convert("RGB"), 8),
    "smoothed": lambda image: smoothed(image, 12),
    "smoothed, JPEG 70": lambda image: jpeg(smoothed(image, 20), 70),
    "soft": lambda image: blurred(image, 1),
    "soft, sharpened": lambda image: blurred(image, 1).filter(ImageFilter.UnsharpMask(2, 150, 0)),
    "sharpened": lambda image: image.filter(ImageFilter.UnsharpMask(2, 100, 0)),
    "darker": lambda image: ImageEnhance.Brightness(image).enhance(0.5),
    "more contrast": lambda image: ImageEnhance.Contrast(image).enhance(1.4),
    "noise": lambda image: noisy(image, 8, 3),
    "much noise": lambda image: noisy(image, 12.6, 1),
}
