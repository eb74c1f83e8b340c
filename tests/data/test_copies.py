from collections.abc import Callable

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from forgerank.data.copies import captioned, of_print, of_screen
from forgerank.types import Image

Copied = Callable[[Image, np.random.Generator], Image]
COPIES = (captioned, of_screen, of_print)


def smooth(height: int = 240, width: int = 200) -> Image:
    """Slow waves of colour."""
    y, x = np.mgrid[:height, :width]
    waves = [128 + 70 * np.sin(x / (31 + 7 * channel)) * np.cos(y / 43) for channel in range(3)]
    return np.stack(waves, axis=2).astype(np.uint8)


def likeness(copy: Image, image: Image) -> float:
    """Correlation of what is left after a blur."""
    blurred = (cv2.GaussianBlur(one, (0, 0), 6).astype(float).ravel() for one in (copy, image))
    return float(np.corrcoef(*blurred)[0, 1])


@pytest.mark.parametrize("copied", COPIES)
def test_a_copy_is_the_same_picture_and_another_each_time(copied: Copied) -> None:
    image, kept = smooth(), smooth()
    copies = [copied(image, np.random.default_rng(seed)) for seed in (*range(12), 0)]
    assert np.array_equal(copies[0], copies[-1])
    assert all(not np.array_equal(one, copies[0]) for one in copies[1:-1])
    assert np.median([likeness(one, image) for one in copies]) > 0.8
    assert np.array_equal(image, kept)


@pytest.mark.parametrize("copied", COPIES)
@pytest.mark.parametrize("size", [(1, 1), (1, 300), (9, 8), (8, 1000)])
def test_a_copy_of_any_size_has_it(copied: Copied, size: tuple[int, int]) -> None:
    for seed in range(6):
        assert copied(smooth(*size), np.random.default_rng(seed)).shape == (*size, 3)


def test_text_leaves_most_of_the_image_as_it_is() -> None:
    image = smooth()
    shares = []
    for seed in range(60):
        changed = (captioned(image, np.random.default_rng(seed)) != image).any(axis=2)
        shares.append(float(changed.mean()))
    assert max(shares) < 0.6
    assert 0.01 < np.median(shares) < 0.3
    assert np.mean([share > 0 for share in shares]) > 0.8  # some begin below or beside it


def spectrum(copy: Image) -> NDArray[np.float64]:
    grey = copy.astype(float).mean(axis=2)
    window = np.outer(np.hanning(grey.shape[0]), np.hanning(grey.shape[1]))
    return np.abs(np.fft.rfft2((grey - grey.mean()) * window)) ** 2


@pytest.mark.parametrize("copied", [of_screen, of_print])
def test_screens_and_prints_have_a_lattice(copied: Copied) -> None:
    flat = np.full((256, 256, 3), 120, dtype=np.uint8)
    for seed in range(10):
        powers = np.sort(spectrum(copied(flat, np.random.default_rng(seed))).ravel())[::-1]
        assert powers[:200].sum() > 0.5 * powers.sum()  # of 33,000 frequencies; of noise, 4 %


def test_the_colours_of_a_screen_lie_apart() -> None:
    flat = np.full((128, 128, 3), 120, dtype=np.uint8)
    for seed in range(5):
        red, green, _ = np.moveaxis(of_screen(flat, np.random.default_rng(seed)).astype(float), 2, 0)
        assert np.corrcoef(red.ravel(), green.ravel())[0, 1] < 0.9


def test_the_dots_of_a_print_grow_with_the_darkness() -> None:
    for seed in range(10):
        levels = [
            of_print(np.full((64, 64, 3), level, dtype=np.uint8), np.random.default_rng(seed)).mean()
            for level in (30, 90, 150, 220)
        ]
        assert all(np.diff(levels) > 8)
