"""What people make of photographs without forging them: text over them, pictures of screens and of prints.

None of it tells real from forged; a network that never saw them takes them for one or the other.
"""

import string

import cv2
import numpy as np
from numpy.typing import NDArray

from forgerank.types import Image

_FONTS = (
    cv2.FONT_HERSHEY_SIMPLEX,
    cv2.FONT_HERSHEY_DUPLEX,
    cv2.FONT_HERSHEY_TRIPLEX,
    cv2.FONT_HERSHEY_SCRIPT_SIMPLEX,
)
_FONT_HEIGHT = 22  # pixels of a capital at scale 1
_LETTERS = np.array(list(string.ascii_letters + string.digits + " .,:-@#"))
_TEXT_HEIGHTS, _SMALLEST_TEXT = (0.03, 0.15), 6.0  # share of the image's shorter side; pixels
_LATTICE = (0.03, 0.25)  # amplitude of a screen's lattice, relative
_DOTS = (2.2, 5.0)  # pixels: distance of a print's dots
_INK_ANGLES = (15.0, 75.0, 0.0)  # degrees, of cyan, magenta and yellow


def captioned(image: Image, rng: np.random.Generator) -> Image:
    """The image (H, W, 3) under text in one colour: a line, at times on a bar or at an angle, or a watermark,
    tiled and nearly transparent.
    """
    height, width = image.shape[:2]
    size = max(_SMALLEST_TEXT, float(rng.uniform(*_TEXT_HEIGHTS)) * min(height, width))
    font, scale = int(rng.choice(_FONTS)), size / _FONT_HEIGHT
    thickness = max(1, round(size * rng.uniform(0.06, 0.2)))
    text = "".join(rng.choice(_LETTERS, size=int(rng.integers(4, 24))))
    x, y = round(rng.uniform(-0.3, 0.8) * width), round(rng.uniform(0, 1) * height)
    values = image.astype(np.float32)
    if rng.random() < 0.3:
        (step, _), _ = cv2.getTextSize(text, font, scale, thickness)
        across = range(-width, 2 * width, step + round(2 * size))
        down = range(-height, 2 * height, round(3 * size))
        places, alpha, angle = [(left, top) for top in down for left in across], (0.1, 0.5), 45.0
    else:
        places, alpha, angle = [(x, y)], (0.5, 1.0), float(rng.choice((0.0, 45.0), p=(0.8, 0.2)))
        if rng.random() < 0.3:
            bar = slice(max(0, round(y - 1.5 * size)), max(0, round(y + 0.6 * size)))
            values[bar] += (rng.uniform(0, 255, size=3) - values[bar]) * rng.uniform(0.5, 1)
    ink = np.zeros((height, width), dtype=np.uint8)
    for place in places:
        cv2.putText(ink, text, place, font, scale, 255, thickness, cv2.LINE_AA)
    if angle:
        turn = cv2.getRotationMatrix2D((width / 2, height / 2), rng.uniform(-angle, angle), 1.0)
        ink = np.asarray(cv2.warpAffine(ink, turn, (width, height)), dtype=np.uint8)
    darkest = 190 if rng.random() < 0.6 else 0  # mostly bright
    colour = rng.uniform(darkest, 255, size=3)
    values += (colour - values) * (rng.uniform(*alpha) / 255 * ink.astype(np.float32))[:, :, None]
    return _rounded(values)


def of_screen(image: Image, rng: np.random.Generator) -> Image:
    """The image (H, W, 3) as a camera sees it on a screen: a little blurred, under the lattice of its
    pixels, veiled by reflected light.

    A lattice of red, green and blue strips, sampled by another lattice, is a wave along either axis whose
    frequency is anything up to half a pixel: close to 0 it is moire. The three colours lie a third of a wave
    apart.
    """
    height, width = image.shape[:2]
    blurred = cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.3, 1.1))).astype(np.float32)
    values: NDArray[np.floating] = (blurred / 255) ** float(rng.uniform(0.8, 1.4))
    y, x = np.mgrid[:height, :width].astype(np.float32)
    for thirds in (np.arange(3) / 3 * rng.choice((-1, 1)), np.zeros(3)):
        phase = rng.random() + thirds
        amplitude = rng.uniform(*_LATTICE)
        along = rng.uniform(-0.5, 0.5, size=2)
        wave = 2 * np.pi * (along[0] * x + along[1] * y)
        for channel in range(3):
            values[:, :, channel] *= 1 + amplitude * np.cos(wave + 2 * np.pi * phase[channel])
    veil, white = rng.uniform(0, 0.15), rng.uniform(0.75, 1.1, size=3)
    return _rounded(255 * (veil + (1 - veil) * values * white))


def of_print(image: Image, rng: np.random.Generator) -> Image:
    """The image (H, W, 3) as a scanner sees it in print: each ink in dots on a lattice of its own angle, that
    grow with the darkness, blurred by paper and optics; ink is not black, nor paper white.
    """
    height, width = image.shape[:2]
    values: NDArray[np.floating] = image.astype(np.float32) / 255
    period = rng.uniform(*_DOTS)
    steep = rng.uniform(1.5, 8.0)  # towards dots with hard edges
    y, x = np.mgrid[:height, :width].astype(np.float32)
    turned = rng.uniform(0, 90)
    for channel, ink in enumerate(_INK_ANGLES):
        angle = np.deg2rad(ink + turned)
        u, v = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
        start = rng.uniform(0, 2 * np.pi, size=2)
        lattice = np.cos(2 * np.pi / period * u + start[0]) * np.cos(2 * np.pi / period * v + start[1])
        # On average over a dot about the value itself.
        values[:, :, channel] = 1 / (1 + np.exp(-steep * (2.5 * (values[:, :, channel] - 0.5) + lattice)))
    values = np.asarray(cv2.GaussianBlur(values, (0, 0), float(period * rng.uniform(0.25, 0.5))))
    ink_level, paper = rng.uniform(0.02, 0.2, size=3), rng.uniform(0.75, 1.0, size=3)
    return _rounded(255 * (ink_level + values * (paper - ink_level)))


def _rounded(values: NDArray[np.floating]) -> Image:
    return np.asarray(np.rint(values).clip(0, 255), dtype=np.uint8)
