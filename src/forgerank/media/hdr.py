"""HDR frames tone-mapped to BT.709, by the published formulas: BT.2100 (HLG, PQ), BT.2390 (EETF), BT.1886.

A frame is brought to the light of a display of 1000 cd/m² as BT.2100 has it, its luminance compressed to 100
cd/m² by the EETF of BT.2390, its primaries converted from BT.2020 to BT.709, and the result encoded by the
inverse of BT.1886. What lies outside BT.709 is clipped.
"""

from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from forgerank.types import Image

Floats = NDArray[np.float64]
Transfer = Literal["HLG", "PQ"]

TRANSFERS: dict[int, Transfer] = {18: "HLG", 16: "PQ"}  # transfer characteristics, by their code in H.273
HDR_PEAK, SDR_PEAK = 1000.0, 100.0  # cd/m²
_PQ_PEAK = 10_000.0  # cd/m²
_STEPS = 1 << 14  # of the tables over the square root of linear light
_ROWS = 64  # are mapped at a time, so that they stay in the cache
_LUMINANCE = np.array([0.2627, 0.6780, 0.0593], np.float32)  # of BT.2020
_TO_BT709 = np.array(  # BT.2087, inverted
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], np.float32
)


def hlg_to_scene(signal: Floats) -> Floats:
    """Scene light 0..1 of an HLG signal 0..1 (BT.2100, inverse OETF)."""
    a = 0.17883277
    b, c = 1 - 4 * a, 0.5 - a * np.log(4 * a)
    return np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)


def pq_to_light(signal: Floats) -> Floats:
    """Light of the display in cd/m² of a PQ signal 0..1 (BT.2100, EOTF)."""
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
    root = signal ** (1 / m2)
    return np.asarray(_PQ_PEAK * (np.maximum(root - c1, 0) / (c2 - c3 * root)) ** (1 / m1))


def light_to_pq(light: Floats) -> Floats:
    """The inverse of `pq_to_light`."""
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
    power = (light / _PQ_PEAK) ** m1
    return np.asarray(((c1 + c2 * power) / (1 + c3 * power)) ** m2)


def compressed(light: Floats) -> Floats:
    """Light in cd/m², 0..`HDR_PEAK`, compressed to 0..`SDR_PEAK` (BT.2390, EETF with black at 0)."""
    peak = light_to_pq(np.array(HDR_PEAK))
    level = light_to_pq(np.minimum(light, HDR_PEAK)) / peak
    most = light_to_pq(np.array(SDR_PEAK)) / peak
    knee = 1.5 * most - 0.5
    t = np.maximum(level - knee, 0) / (1 - knee)
    spline = (
        (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (-2 * t**3 + 3 * t**2) * most
    )
    return pq_to_light(np.where(level < knee, level, spline) * peak)


def tone_map(pixels: NDArray[np.uint16], transfer: Transfer) -> Image:
    """R'G'B' of BT.2020 (H, W, 3), 0..65535 -> R'G'B' of BT.709 (H, W, 3), 0..255."""
    to_linear, gains, to_signal = _tables(transfer)
    mapped = np.empty(pixels.shape, np.uint8)
    for start in range(0, len(pixels), _ROWS):
        linear = to_linear[pixels[start : start + _ROWS]]
        luminance = linear @ _LUMINANCE
        linear *= gains[_index(luminance)][..., None]
        mapped[start : start + _ROWS] = to_signal[_index(linear @ _TO_BT709.T)]
    return mapped


def _index(linear: NDArray[np.float32]) -> NDArray[np.intp]:
    """Where the tables hold a value of linear light; what lies outside 0..1 is clipped."""
    return np.asarray(np.sqrt(np.clip(linear, 0, 1)) * (_STEPS - 1) + 0.5).astype(np.intp)


@cache
def _tables(transfer: Transfer) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.uint8]]:
    """Signal -> linear light, 0..1; luminance -> gain towards light of an SDR display; that -> signal."""
    signal = np.arange(1 << 16) / 65535
    grid = np.linspace(0, 1, _STEPS) ** 2
    grid[0] = grid[1] / 4  # black is rounded to it, and has no gain
    if transfer == "HLG":
        linear = hlg_to_scene(signal)
        light = HDR_PEAK * grid**1.2  # BT.2100, OOTF
    else:
        linear = pq_to_light(signal) / _PQ_PEAK
        light = _PQ_PEAK * grid
    gains = compressed(light) / SDR_PEAK / grid
    encoded = np.rint(255 * np.linspace(0, 1, _STEPS) ** (2 / 2.4))  # BT.1886, inverted
    return linear.astype(np.float32), gains.astype(np.float32), encoded.astype(np.uint8)
