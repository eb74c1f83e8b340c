"""From an annotated image to an aligned crop with its masks, augmented in training."""

from dataclasses import dataclass, replace
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as PILImage
from pydantic import BaseModel, ConfigDict, Field, field_validator

from forgerank.data.copies import captioned, of_print, of_screen
from forgerank.data.sample import LabelledImage
from forgerank.faces.align import Alignment, estimate_alignment, whole_image
from forgerank.forge.filters import unsharp_mask
from forgerank.forge.saves import Save, add_grain, encode
from forgerank.types import Image, Points

# Nearest neighbour at this many samples per side and mask cell, then their mean: thin brows survive.
_SAMPLES_PER_CELL = 4
_WARP_CELLS = 4  # cells of the bent grid along a side
_LIGHT_CELLS = 4  # values of the light along a side
# How far a pair is shrunk: share of the smaller, and pixels between the eyes.
_LOWEST_LEVEL, _LEAST_EYES = 0.5, 28.0
_SHARPENED = (0.5, 2.0)  # pixels: the radius of an unsharp mask
_GRAIN_SIZES = (0.4, 0.8, 1.2)  # pixels: deviations of the blur of a film's grain
_DARKEST, _LIGHTEST = 96, 128  # grey levels: of two tones, each channel is at most, and at least so much
_FILTERS = (cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4)


class AugmentConfig(BaseModel):
    """Random changes in training. Probabilities are 0..1; amounts are drawn uniformly up to the given one."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rotation: float = Field(default=8.0, ge=0)  # degrees
    scale: float = Field(default=0.08, ge=0, lt=1)  # relative
    shift: float = Field(default=0.03, ge=0)  # share of the crop's side
    flip: float = Field(default=0.5, ge=0, le=1)  # probability
    wild: float = Field(default=0.3, ge=0, le=1)  # probability of each of resize, blur, encoding and noise
    resize: tuple[float, float] = (0.5, 1.5)
    blur: float = Field(default=1.2, ge=0)  # standard deviation, pixels
    quality: tuple[int, int] = (40, 95)  # of JPEG and WebP
    webp: float = Field(default=0.2, ge=0, le=1)  # share of encodings that are WebP
    noise: float = Field(default=6.0, ge=0)  # standard deviation, grey levels
    colour: float = Field(default=0.15, ge=0, lt=1)  # relative brightness, contrast, saturation
    # factors, lowest and highest, in place of 1 - colour .. 1 + colour
    brightness: tuple[float, float] | None = None
    contrast: tuple[float, float] | None = None
    saturation: tuple[float, float] | None = None
    # More variety of faces and light. For 0 nothing is drawn from the rng: older runs can be repeated.
    stretch: float = Field(default=0.0, ge=0, lt=0.5)  # relative, along either axis, and as much shear
    warp: float = Field(default=0.0, ge=0, lt=0.125)  # bend of the whole face, share of the crop's side
    light: float = Field(default=0.0, ge=0, lt=1)  # relative, changing slowly over the crop
    tint: float = Field(default=0.0, ge=0, lt=1)  # relative, of each channel
    # What people do to photographs: without it, a network takes the lack of colour for a sign of real ones.
    sharpen: float = Field(default=0.0, ge=0)  # amount of an unsharp mask, with probability `wild`
    film: float = Field(default=0.0, ge=0)  # standard deviation of a film's grain, with probability `wild`
    grey: float = Field(default=0.0, ge=0, le=1)  # probability that the colours are taken out
    toned: float = Field(default=0.4, ge=0, le=1)  # share of those that run from one colour to another
    caption: float = Field(default=0.0, ge=0, le=1)  # probability of text over the image
    screen: float = Field(default=0.0, ge=0, le=1)  # probability of a picture of a screen
    printed: float = Field(default=0.0, ge=0, le=1)  # probability of a scan of a print

    @field_validator("brightness", "contrast", "saturation")
    @classmethod
    def _range(cls, factors: tuple[float, float] | None) -> tuple[float, float] | None:
        if factors is not None and not 0 <= factors[0] <= factors[1]:
            raise ValueError(f"give a lowest and a highest factor, got {list(factors)}")
        return factors


class Level(NamedTuple):
    """Resize and save that both images of a pair get first: neither size nor codec then tells the class."""

    factor: float  # by which this image shrinks, 0..1
    filter: int  # place in _FILTERS
    quality: int  # of the save
    webp: bool


def draw_level(eye: float, other: float, augment: AugmentConfig, rng: np.random.Generator) -> Level:
    """Draw the level of the first of two images with these eye distances, pixels.

    Both are resized to one eye distance, between half of the smaller one and all of it, and saved alike.
    """
    limit = min(eye, other)
    low = min(limit, max(_LOWEST_LEVEL * limit, _LEAST_EYES))
    target = float(np.exp(rng.uniform(np.log(low), np.log(limit))))
    return Level(
        target / eye,
        int(rng.integers(len(_FILTERS))),
        int(rng.integers(augment.quality[0], augment.quality[1] + 1)),
        bool(rng.random() < augment.webp),
    )


class Tensors(NamedTuple):
    """The network's input for one face, and its target masks."""

    image: Image  # (S, S, 3)
    masks: NDArray[np.float32] | None  # (L, m, m), share of each cell that was edited, 0..1


def to_tensors(
    labelled: LabelledImage,
    *,
    size: int,
    length: int,
    mask_size: int | None = None,
    augment: AugmentConfig | None = None,
    rng: np.random.Generator | None = None,
    zoom: float = 1.0,
    level: Level | None = None,
    align: bool = True,
) -> Tensors:
    """Align an image to `size` pixels at `zoom`; with `augment`, apply `level` and then random changes, drawn
    from `rng`. Without points, or with `align` off, the whole image is resized instead.

    Raises ValueError where `mask_size` is asked for and a manipulated image has no mask, or the points
    coincide.
    """
    points = labelled.points if align else None
    if augment is None or rng is None:
        alignment = _placed(points, labelled.image, size, zoom)
        return Tensors(alignment.crop(labelled.image), _masks(labelled, alignment, length, mask_size))
    image, factors = degrade(labelled.image, augment, rng, level)
    points = None if points is None else points * np.asarray(factors, dtype=np.float32)
    alignment = _bent(_jitter(_placed(points, image, size, zoom), augment, rng), augment, rng)
    crop = alignment.crop(image) if isinstance(alignment, _Bent) else _sampled(image, alignment, rng)
    unscaled = replace(alignment, matrix=alignment.matrix @ np.diag([*factors, 1.0]))
    masks = _masks(labelled, unscaled, length, mask_size)
    if rng.random() < augment.flip:
        crop = np.ascontiguousarray(crop[:, ::-1])
        masks = None if masks is None else masks[:, :, ::-1]
    return Tensors(_recolour(crop, augment, rng), masks)


def _placed(points: Points | None, image: Image, size: int, zoom: float) -> Alignment:
    if points is None:
        return whole_image((image.shape[0], image.shape[1]), size)
    return estimate_alignment(points, size, zoom)


def degrade(
    image: Image, augment: AugmentConfig, rng: np.random.Generator, level: Level | None = None
) -> tuple[Image, tuple[float, float]]:
    """Degrade an image as people, apps and platforms do: `level`, then text, a screen or a print with the
    probability of each, and resize, blur, sharpening, grain, noise, encoding, each with probability `wild`.

    Returns the image and the factors by which its width and height grew.
    """
    height, width = image.shape[:2]
    if level is not None:
        image = levelled(image, level)
    for probability, copied in (
        (augment.caption, captioned),
        (augment.screen, of_screen),
        (augment.printed, of_print),
    ):
        if probability > 0 and rng.random() < probability:
            image = copied(image, rng)
    if rng.random() < augment.wild:
        factor = float(np.exp(rng.uniform(*np.log(augment.resize))))
        image = resized(image, factor, int(rng.integers(len(_FILTERS))))
    if rng.random() < augment.wild:
        sigma = rng.uniform(0, augment.blur)
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), max(sigma, 0.01)), dtype=np.uint8)
    if augment.sharpen > 0 and rng.random() < augment.wild:
        image = unsharp_mask(image, rng.uniform(0, augment.sharpen), rng.uniform(*_SHARPENED))
    if augment.film > 0 and rng.random() < augment.wild:
        seed, size = int(rng.integers(2**31)), float(rng.choice(_GRAIN_SIZES))
        image = add_grain(image, rng.uniform(0, augment.film), seed, size)
    if rng.random() < augment.wild:
        image = add_grain(image, rng.uniform(0, augment.noise), int(rng.integers(2**31)))
    if rng.random() < augment.wild:
        webp = rng.random() < augment.webp
        image = encoded(image, int(rng.integers(augment.quality[0], augment.quality[1] + 1)), webp=webp)
    return image, (image.shape[1] / width, image.shape[0] / height)


def levelled(image: Image, level: Level) -> Image:
    """The image resized and saved as `level` describes."""
    return encoded(resized(image, level.factor, level.filter), level.quality, webp=level.webp)


def resized(image: Image, factor: float, filter_: int) -> Image:
    """The image, `factor` times as large, by one of the usual filters."""
    size = [max(1, round(side * factor)) for side in image.shape[1::-1]]
    if factor < 1 and filter_ == 0:
        return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    return np.asarray(cv2.resize(image, size, interpolation=_FILTERS[filter_]), dtype=np.uint8)


def encoded(image: Image, quality: int, *, webp: bool = False) -> Image:
    """The image after one lossy save."""
    save = Save("webp" if webp else "jpeg", quality, False, 1.0, "area", "linear", 0.0, 0.0, 0.0, 0)
    return encode(image, save)[0]


def _sampled(image: Image, alignment: Alignment, rng: np.random.Generator) -> Image:
    """The aligned crop as `Alignment.crop` gives it, several times as fast, by a linear or cubic kernel."""
    factor = alignment.reduction
    if factor > 1:
        height, width = (side // factor * factor for side in image.shape[:2])
        small = cv2.resize(
            image[:height, :width], None, fx=1 / factor, fy=1 / factor, interpolation=cv2.INTER_AREA
        )
        image = np.asarray(small, dtype=np.uint8)
        alignment = replace(alignment, matrix=alignment.matrix * (factor, factor, 1))
    kernel = cv2.INTER_CUBIC if rng.random() < 0.7 else cv2.INTER_LINEAR
    return np.asarray(
        cv2.warpAffine(image, alignment.opencv_matrix(), (alignment.size,) * 2, flags=kernel), dtype=np.uint8
    )


def _jitter(alignment: Alignment, augment: AugmentConfig, rng: np.random.Generator) -> Alignment:
    """Rotation, scale, stretch and shift about the crop's centre, folded into its one resampling."""
    angle = np.deg2rad(rng.uniform(-augment.rotation, augment.rotation))
    scale = rng.uniform(1 - augment.scale, 1 + augment.scale)
    linear = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    if augment.stretch > 0:
        wide, high, shear = rng.uniform(-augment.stretch, augment.stretch, size=3)
        linear = linear @ np.array([[1 + wide, shear], [0.0, 1 + high]])
    centre = np.full(2, alignment.size / 2)
    shift = rng.uniform(-augment.shift, augment.shift, size=2) * alignment.size
    offset = centre - linear @ centre + shift
    matrix = linear @ alignment.matrix
    matrix[:, 2] += offset
    return Alignment(matrix, alignment.size)


@dataclass(frozen=True, slots=True)
class _Bent(Alignment):
    """An alignment whose crops are bent inside: the border stays, the nodes of a grid over them move.

    Applies to images and masks only: points are transformed by the alignment without the warp.
    """

    moves: NDArray[np.float64]  # (n + 1, n + 1, 2) x, y, share of the crop's side; zero on the border

    def _sample(
        self, image: PILImage.Image, inverse: NDArray[np.float64], resample: PILImage.Resampling
    ) -> PILImage.Image:
        count = len(self.moves) - 1
        edges = np.round(np.arange(count + 1) * self.size / count).astype(int)
        nodes = np.stack(np.meshgrid(edges, edges), axis=-1) + self.moves * self.size  # (n + 1, n + 1, 2)
        found = nodes @ inverse[:, :2].T + inverse[:, 2]
        cells = [
            (
                (int(edges[x]), int(edges[y]), int(edges[x + 1]), int(edges[y + 1])),
                # Pillow goes around a cell: upper left, lower left, lower right, upper right
                (*found[y, x], *found[y + 1, x], *found[y + 1, x + 1], *found[y, x + 1]),
            )
            for y in range(count)
            for x in range(count)
        ]
        return image.transform((self.size, self.size), PILImage.Transform.MESH, data=cells, resample=resample)


def _bent(alignment: Alignment, augment: AugmentConfig, rng: np.random.Generator) -> Alignment:
    """The alignment with every inner node of a grid over the crop moved by up to `warp`."""
    if augment.warp == 0:
        return alignment
    moves = np.zeros((_WARP_CELLS + 1, _WARP_CELLS + 1, 2))
    moves[1:-1, 1:-1] = rng.uniform(-augment.warp, augment.warp, size=(_WARP_CELLS - 1, _WARP_CELLS - 1, 2))
    return _Bent(alignment.matrix, alignment.size, moves)


def _masks(
    image: LabelledImage, alignment: Alignment, length: int, mask_size: int | None
) -> NDArray[np.float32] | None:
    if mask_size is None:
        return None
    if image.mask is None:
        if image.sequence and image.parts is None:
            raise ValueError("a mask of every manipulated image is needed while mask_size is set")
        return np.zeros((length, mask_size, mask_size), dtype=np.float32)
    fine = mask_size * _SAMPLES_PER_CELL
    shrunk = replace(alignment, matrix=alignment.matrix * (fine / alignment.size), size=fine).crop_mask(
        image.mask
    )
    bits = (shrunk[None] >> np.arange(length, dtype=np.uint8)[:, None, None]) & 1  # (L, fine, fine)
    cells = bits.reshape(length, mask_size, _SAMPLES_PER_CELL, mask_size, _SAMPLES_PER_CELL)
    shares: NDArray[np.float32] = cells.mean(axis=(2, 4), dtype=np.float32)
    return shares


def _recolour(crop: Image, augment: AugmentConfig, rng: np.random.Generator) -> Image:
    """Brightness, contrast and saturation as one affine map of the colours, then uneven light, and a tint or
    what becomes of a photograph without colours.
    """
    usual = (1 - augment.colour, 1 + augment.colour)
    ranges = np.array([augment.brightness or usual, augment.contrast or usual, augment.saturation or usual])
    brightness, contrast, saturation = rng.uniform(ranges[:, 0], ranges[:, 1])
    colourless = augment.grey > 0 and rng.random() < augment.grey
    if colourless:
        saturation = 0.0
    luma = np.array([0.299, 0.587, 0.114], dtype=np.float32)
    linear = saturation * np.eye(3, dtype=np.float32) + (1 - saturation) * luma
    centre = float(np.mean(cv2.mean(crop)[:3]))
    offset = np.full((3, 1), centre * brightness * (1 - contrast))
    matrix = np.hstack([linear * (brightness * contrast), offset])
    if augment.light == augment.tint == 0 and not colourless:
        return np.asarray(cv2.transform(crop, matrix), dtype=np.uint8)
    values = np.asarray(cv2.transform(crop.astype(np.float32), matrix), dtype=np.float32)
    if augment.light > 0:
        coarse = rng.uniform(1 - augment.light, 1 + augment.light, size=(_LIGHT_CELLS, _LIGHT_CELLS))
        light = PILImage.fromarray(coarse.astype(np.float32))
        values *= np.asarray(light.resize(crop.shape[1::-1], PILImage.Resampling.BICUBIC))[:, :, None]
    if colourless:
        if rng.random() < augment.toned:
            dark, bright = rng.uniform(0, _DARKEST, size=3), rng.uniform(_LIGHTEST, 255, size=3)
            values = (dark + values / 255 * (bright - dark)).astype(np.float32)
    elif augment.tint > 0:
        values *= rng.uniform(1 - augment.tint, 1 + augment.tint, size=3).astype(np.float32)
    recoloured: Image = np.rint(values).clip(0, 255).astype(np.uint8)
    return recoloured
