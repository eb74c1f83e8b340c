"""What tells a face from one that was reduced to dots, few levels or blocks, on the pixels of its image."""

import math
from collections.abc import Iterator
from functools import cache, lru_cache
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from forgerank.faces.align import brighter_on_the_left, five_points
from forgerank.faces.landmarks import upright_turn
from forgerank.types import Image, Points

T = TypeVar("T", bound=np.generic)

DARK, BRIGHT = 2, 253  # grey levels at or beyond which a pixel is clipped
LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601

_WINDOW = 256  # pixels of the face's middle that are measured, at most
_INNER = 0.36  # of the face's longer side: half the side of that window
_COARSEST = 100.0  # pixels of a face: where it is smaller, no coarser scale is measured
_LAPLACIAN_OF_NOISE = 0.6745 * math.sqrt(20)  # median of its amount over the deviation of white noise
_FINE, _COARSE = 2.0, 10.0  # grey levels: the histogram of a photograph looks the same to both deviations
_CONTRAST = 0.28  # of the deviation of the luma, which the coarse one is at most
_GRIDS = np.arange(3, 33, 0.25)  # pixels between the lines of a mosaic, which may have been scaled
_WIDE, _WIDEST = 0.75, 256  # of the face's longer side, and pixels: half of the side searched for lines
_FEWEST, _MOST_BLOCKS = 8, 36  # across a face whose lines are sought
_CLOSEST = 3.2  # pixels between lines: closer ones are of a change of size
_LINES = 8.0  # of their prominence count as much as 1 of the gradients' ratio
_CALM = 0.4  # of the pixels are those that differ least from the ones about them
_ANGLES = np.pi * np.arange(129) / 256  # half of the angular frequencies of a histogram
_EDGE = 40.0  # grey levels: a stronger gradient counts as so much
_FREQUENCIES = 1024  # of the spectrum of gradients, up to that of the pixels
_LEAST = 0.3  # grey levels: smaller differences are of rounding
_RINGS = 24  # of the spectrum, up to half of the pixels' frequency

# A logistic regression on real faces of sixteen sources after up to four ordinary changes, on faces out of
# compressed videos as they are, and on faces of the sixteen after a reduction and a save, a blur or a change
# of size: mean, deviation and weight of each measure.
_MOST = 4.0  # deviations from the mean, at most
_REDUCED = 0.176
_TRACES: dict[str, tuple[float, float, float]] = {
    "calm": (0.0819, 0.1661, 3.793),
    "steps": (0.2479, 0.2624, 4.041),
    "most_steps": (0.2791, 0.2774, -1.458),
    "even": (0.2546, 0.2245, -3.302),
    "dense": (0.1792, 0.2217, 5.628),
    "fine": (1.7513, 1.2326, 0.775),
    "half": (2.0461, 1.0731, 2.316),
    "half_everywhere": (-1.0741, 0.8171, 0.792),
    "quarter_energy": (6.6826, 1.3485, 0.233),
    "grid": (0.1714, 0.2359, 1.042),
    "bump": (-0.1651, 1.0381, 1.274),
}


def reduction(image: Image, landmarks: Points) -> dict[str, float]:
    """What tells a photograph from one that was reduced to dots, few levels or blocks: the fields `grain`,
    `noise`, `flat`, `steps`, `blocks`, `reduced` and `torn` of `Quality`.

    Measured in the middle of the face (468, 2) on the pixels of the image (H, W, 3) itself, because a crop
    averages dots away; grain also at every half of that size, as dots may be large.
    """
    low, high = landmarks.min(axis=0), landmarks.max(axis=0)
    side, (x, y) = float((high - low).max()), (low + high) / 2
    wide = min(_WIDE * side, _WIDEST)
    around = max(wide, _INNER * side)
    left, top = max(0, round(x - around)), max(0, round(y - around))
    region = image[top : round(y + around), left : round(x + around)]
    region, x, y = _upright(region, x - left, y - top, upright_turn(five_points(landmarks)))
    luma = region.astype(np.float32) @ LUMA
    scales = [(window, laplacian(window)) for window in _scales(luma, side, x, y)]
    if not scales:
        return dict.fromkeys(("grain", "noise", "flat", "steps", "blocks", "reduced", "torn"), 0.0)
    window, edges = scales[0]
    finest = float(np.median(np.abs(edges)))
    columns = _sorted_columns(window)
    return {
        "grain": max(float(edges.var()) / (float(grey.var()) + 1e-3) for grey, edges in scales),
        "noise": finest / _LAPLACIAN_OF_NOISE,
        "flat": _flat(columns),
        "steps": _steps(columns),
        "blocks": max(_blocks(window), _lines(_square(luma, x, y, wide), side) / _LINES),
        "reduced": _reduced(_square(region, x, y, _half_of(side)), window, finest),
        "torn": _torn(window),
    }


def _upright(region: Image, x: float, y: float, turn: int) -> tuple[Image, float, float]:
    """A region turned so often by `numpy.rot90`, then mirrored where it is brighter on the left, and where
    its point x, y is then: a face is measured alike whichever way its image is turned or mirrored.
    """
    for _ in range(turn):
        x, y = y, region.shape[1] - x
        region = np.rot90(region)
    if brighter_on_the_left(region):
        x, region = region.shape[1] - x, region[:, ::-1]
    return np.ascontiguousarray(region), x, y  # sums of views are rounded otherwise on some processors


def _scales(luma: NDArray[np.float32], side: float, x: float, y: float) -> Iterator[NDArray[np.float32]]:
    """The middle of a face of `side` pixels about x, y, and of its halves, down to `_COARSEST` pixels."""
    while True:
        window = _square(luma, x, y, _half_of(side))
        if min(window.shape) < 16:
            return
        yield window
        side, x, y = side / 2, x / 2, y / 2
        if side < _COARSEST:
            return
        luma = _halved(luma)


def _half_of(side: float) -> float:
    return min(_INNER * side, _WINDOW / 2)


def _square(pixels: NDArray[T], x: float, y: float, half: float) -> NDArray[T]:
    """What lies within `half` pixels of a point, in both directions, of pixels (H, W, ...)."""
    return pixels[max(0, int(y - half)) : int(y + half), max(0, int(x - half)) : int(x + half)]


def _sorted_columns(luma: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each pixel with the one above and the one below, ascending, (3, H - 2, W)."""
    above, here, below = luma[:-2], luma[1:-1], luma[2:]
    low, high = np.minimum(above, here), np.maximum(above, here)
    middle = np.maximum(low, np.minimum(high, below))
    return np.stack([np.minimum(low, below), middle, np.maximum(high, below)])


def _beside(rows: NDArray[T]) -> tuple[NDArray[T], ...]:
    """The pixels to the left, in the middle and to the right of each, (H, W - 2, ...) each."""
    return rows[:, :-2], rows[:, 1:-1], rows[:, 2:]


def _lowest(a: NDArray[T], b: NDArray[T], c: NDArray[T]) -> NDArray[T]:
    return np.asarray(np.minimum(np.minimum(a, b), c))


def _highest(a: NDArray[T], b: NDArray[T], c: NDArray[T]) -> NDArray[T]:
    return np.asarray(np.maximum(np.maximum(a, b), c))


def _middle(a: NDArray[np.float32], b: NDArray[np.float32], c: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(np.maximum(np.minimum(a, b), np.minimum(np.maximum(a, b), c)))


def _flat(columns: NDArray[np.float32]) -> float:
    """The share of pixels, of `_sorted_columns`, that equal all about them."""
    lowest, highest = _lowest(*_beside(columns[0])), _highest(*_beside(columns[2]))
    return float((highest - lowest <= 1.0).mean())


def _steps(columns: NDArray[np.float32]) -> float:
    """How far the histogram lies in lumps: the distance, 0..2, between its fine and its coarse smoothing.

    The median of 3 x 3 pixels, of `_sorted_columns`, first undoes what a save in JPEG or a change of size
    adds beside the levels. What is clipped is left out, up to half of it: too much light is no sign of few
    levels.
    """
    median = _middle(
        _highest(*_beside(columns[0])),
        _middle(*_beside(columns[1])),
        _lowest(*_beside(columns[2])),
    )
    middle = median[(median > DARK) & (median < BRIGHT)]
    if len(middle) < median.size / 2:
        return float(2 * (1 - len(middle) / median.size))  # black and white are lumps
    coarse = min(_COARSE, _CONTRAST * float(middle.std()))
    if coarse <= _FINE:
        return 0.0
    shares = np.histogram(middle, np.arange(DARK + 1, BRIGHT + 1))[0] / len(middle)
    return float(np.abs(_smoothed(shares, _FINE) - _smoothed(shares, coarse)).sum())


def _smoothed(shares: NDArray[np.float64], deviation: float) -> NDArray[np.float64]:
    reach = np.arange(-4 * math.ceil(deviation), 4 * math.ceil(deviation) + 1)
    weights = np.exp(-0.5 * (reach / deviation) ** 2)
    padded = np.pad(shares, len(reach) // 2, mode="symmetric")  # clipping is an edge, and no lump
    return np.convolve(padded, weights / weights.sum(), mode="valid")


def _blocks(luma: NDArray[np.float32]) -> float:
    """The highest ratio over all square grids and their places; those of JPEG count half."""
    combs, starts = _combs()
    ratios = np.full(len(_GRIDS), np.inf)
    for axis in (0, 1):
        gradient = np.abs(np.diff(luma, axis=axis)).mean(axis=1 - axis)
        ones = np.ones_like(gradient)
        sums, counts = (combs[:, : len(gradient)] @ np.stack([gradient, ones], axis=1)).T
        # Of a period that is no whole number, the last place is less than a pixel: few gradients fall there.
        whole = counts >= np.repeat(len(gradient) / _GRIDS / 2, np.diff([*starts, len(combs)]))
        means = np.where(whole, sums / np.maximum(counts, 1), 0)
        at_lines = np.maximum.reduceat(means, starts) / (gradient.mean() + 1e-6)
        ratios = np.minimum(ratios, np.where(len(gradient) >= 4 * _GRIDS, at_lines, 0))
    of_jpeg = np.abs(_GRIDS - 8 * np.round(_GRIDS / 8)) < _GRIDS[1] - _GRIDS[0]
    return float(np.where(of_jpeg, ratios / 2, ratios).max())


def _lines(luma: NDArray[np.float32], side: float) -> float:
    """How far lines at even distances in both directions stand out about a face, as of a mosaic.

    `side` is that of the face in luma (H, W). Blocks that were blurred, scaled or saved have no sharp edges,
    but all their edges are still at even distances, which the logarithm of the gradients shows however weak
    they are: the highest amplitude over the median of the amplitudes. The 8 pixels of JPEG do not count.
    """
    if min(luma.shape) < 4 * side / _FEWEST:
        return 0.0
    reach = max(5, int(side / 12))
    mean = np.ones(2 * reach + 1) / (2 * reach + 1)
    amplitudes = np.ones(_FREQUENCIES + 1)
    for axis in (0, 1):
        profile = np.log(np.abs(np.diff(luma, axis=axis)) + 1).mean(axis=1 - axis)
        profile = profile - np.convolve(np.pad(profile, reach, mode="reflect"), mean, mode="valid")
        amplitudes *= np.abs(np.fft.rfft(profile * np.hanning(len(profile)), 2 * _FREQUENCIES))
    amplitudes = np.sqrt(amplitudes)
    places = np.arange(len(amplitudes)) / (2 * _FREQUENCIES)  # cycles per pixel
    all_lines = (places >= _FEWEST / side) & (places <= 0.45)
    sought = all_lines & (places <= min(_MOST_BLOCKS / side, 1 / _CLOSEST))
    sought &= np.abs(places - np.round(places * 8) / 8) > 0.006
    if not sought.any():
        return 0.0
    return float(amplitudes[sought].max() / (np.median(amplitudes[all_lines]) + 1e-3))


def _torn(luma: NDArray[np.float32]) -> float:
    """How far every second line is of another moment, as in the frames of interlaced video.

    The ratio of the differences between a line and those beside it to the difference between these two; no
    more than its ratio to that of the other direction, which noise and sharpening raise alike. Of lines and
    of columns the higher one.
    """
    down, across = (
        float(np.abs(np.diff(lines, 2, axis=0)).mean() / (np.abs(lines[2:] - lines[:-2]).mean() + _LEAST))
        for lines in (luma, luma.T)
    )
    return max(min(down, down / (across + 0.05)), min(across, across / (down + 0.05)))


@cache
def _combs() -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    """Which gradients (P, `_WINDOW`) lie at each place of every grid, and the first place of each grid."""
    places = [np.floor(np.arange(_WINDOW) % period) for period in _GRIDS]
    combs = [
        place == np.arange(math.ceil(period))[:, None] for place, period in zip(places, _GRIDS, strict=True)
    ]
    starts = np.cumsum([0, *map(len, combs[:-1])])
    return np.concatenate(combs).astype(np.float32), starts


def _reduced(pixels: Image, luma: NDArray[np.float32], finest: float) -> float:
    """Log-odds that a face (H, W, 3) was reduced, and then saved, scaled or blurred, from `_TRACES`.

    `finest` is the median amount of the Laplacian.
    """
    traces = _traces(pixels, luma, finest)
    standard = {name: (traces[name] - mean) / deviation for name, (mean, deviation, _) in _TRACES.items()}
    return _REDUCED + sum(
        weight * min(max(standard[name], -_MOST), _MOST) for name, (_, _, weight) in _TRACES.items()
    )


def _traces(pixels: Image, luma: NDArray[np.float32], finest: float) -> dict[str, float]:
    """By the names of `_TRACES`."""
    return {
        **_level_traces(pixels),
        "fine": math.log(finest + 1),
        **_half_traces(luma),
        "grid": _grid(luma),
        "bump": _bump(luma),
    }


def _level_traces(pixels: Image) -> dict[str, float]:
    """Of the channels' histograms, over the pixels that differ least from those about them.

    A save or a change of size smears the levels where they meet, but not in the middle of an area. "even" and
    "dense": the histogram's strength at 6 to 11 and at 12 to 19 levels spread evenly over the range.
    """
    columns = pixels[:-2], pixels[1:-1], pixels[2:]
    spread = _highest(*_beside(_highest(*columns))) - _lowest(*_beside(_lowest(*columns)))
    steps, spectra = [], []
    for channel in range(3):
        differences = np.cumsum(np.bincount(spread[..., channel].ravel(), minlength=256))
        least = np.searchsorted(differences, _CALM * differences[-1])
        calm = pixels[1:-1, 1:-1, channel][spread[..., channel] <= least]
        counts = np.bincount(calm, minlength=256).astype(np.float64)
        counts[: DARK + 1] = counts[BRIGHT:] = 0  # clipping is no level
        if counts.sum() < 0.3 * len(calm):
            continue
        shares = counts / counts.sum()
        spectrum = np.fft.rfft(shares)
        spectra.append(np.abs(spectrum))
        mean = float(shares @ np.arange(256))
        coarse = min(_COARSE, _CONTRAST * math.sqrt(float(shares @ (np.arange(256) - mean) ** 2)))
        if coarse > _FINE:
            passed = np.exp(-2 * (_FINE * _ANGLES) ** 2) - np.exp(-2 * (coarse * _ANGLES) ** 2)
            steps.append(float(np.abs(np.fft.irfft(spectrum * passed, 256)).sum()))
        else:
            steps.append(0.0)
    strengths = np.mean(spectra, axis=0) if spectra else np.zeros(129)
    return {
        "calm": float((_highest(*np.moveaxis(spread, 2, 0)) <= 1).mean()),
        "steps": float(np.mean(steps)) if steps else 0.0,
        "most_steps": max(steps, default=0.0),
        "even": float(strengths[6:12].max()),
        "dense": float(strengths[12:20].max()),
    }


def _half_traces(luma: NDArray[np.float32]) -> dict[str, float]:
    """Of the Laplacian on halves and on quarters of the pixels, as logarithms.

    Dots that were blurred are gone from the finest scale, but at the next one they are stronger than a
    photograph's detail is, and as strong everywhere.
    """
    half = _halved(luma)
    middle, coarse = laplacian(half), laplacian(_halved(half))
    median, variance = float(np.median(np.abs(middle))), float(middle.var()) + 0.05
    return {
        "half": math.log(median + 1),
        "half_everywhere": math.log((median + 0.3) / math.sqrt(variance)),
        "quarter_energy": math.log(float(coarse.var()) + 0.05),
    }


def _halved(luma: NDArray[np.float32]) -> NDArray[np.float32]:
    rows, columns = luma.shape[0] // 2 * 2, luma.shape[1] // 2 * 2
    pairs = luma[:rows:2, :columns] + luma[1:rows:2, :columns]
    return np.asarray((pairs[:, ::2] + pairs[:, 1::2]) / 4)


def _grid(luma: NDArray[np.float32]) -> float:
    """The strength of lines at even distances, 3 to 40 pixels, in both directions, as of a scaled mosaic.

    The amplitude of that period and of its half in the gradients' spectrum, over their mean; the 8 pixels of
    JPEG count half.
    """
    spectra = []
    for axis in (0, 1):
        gradient = np.minimum(np.abs(np.diff(luma, axis=axis)), _EDGE).mean(axis=1 - axis)
        mean = float(gradient.mean())
        waves = np.abs(np.fft.rfft((gradient - mean) * np.hanning(len(gradient)), _FREQUENCIES))
        spectra.append(waves / (0.5 * len(gradient) * (mean + 0.05)))
    strengths = np.sqrt(spectra[0] * spectra[1])
    places = np.arange(len(strengths))
    to_jpeg = np.abs(places - _FREQUENCIES / 8 * np.maximum(1, np.round(places * 8 / _FREQUENCIES)))
    strengths[to_jpeg <= _FREQUENCIES / 170] /= 2
    first = np.arange(_FREQUENCIES // 40, _FREQUENCIES // 3)
    second = np.minimum(2 * first, _FREQUENCIES // 2)
    return float((strengths[first] + strengths[second]).max())


def _bump(luma: NDArray[np.float32]) -> float:
    """By how much the logarithm of power rises over a tenth of a cycle a pixel; a photograph's falls."""
    side = min(128, *luma.shape) // 2 * 2
    top, left = (luma.shape[0] - side) // 2, (luma.shape[1] - side) // 2
    middle = luma[top : top + side, left : left + side]
    bands, counts, window = _rings(side)
    power = np.abs(np.fft.rfft2((middle - middle.mean()) * window)) ** 2
    rings = np.log(np.bincount(bands, power.ravel(), len(counts)) / np.maximum(counts, 1) + 1)
    return float((rings[6:_RINGS] - rings[1 : _RINGS - 5]).max())


@lru_cache(maxsize=32)
def _rings(side: int) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
    """The ring of each frequency of a square, (side * (side / 2 + 1),), the rings' sizes, and a window."""
    radii = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side))
    bands = (2 * _RINGS * radii).astype(np.intp).ravel()
    hann = np.hanning(side).astype(np.float32)
    return bands, np.bincount(bands), hann[:, None] * hann


def laplacian(luma: NDArray[np.float32]) -> NDArray[np.float32]:
    """Of the four neighbours, (H - 2, W - 2), of a luma (H, W)."""
    centre = luma[1:-1, 1:-1]
    return np.asarray(luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:] - 4.0 * centre)
