"""Tone mapping against values of the recommendations."""

import numpy as np
import pytest

from forgerank.media.hdr import compressed, hlg_to_scene, light_to_pq, pq_to_light, tone_map


def test_hlg_and_pq_of_bt_2100() -> None:
    np.testing.assert_allclose(hlg_to_scene(np.array([0, 0.5, 0.75, 1])), [0, 1 / 12, 0.26496, 1], atol=1e-5)
    # BT.2408: reference white of 203 cd/m² is 75 % of HLG, 58 % of PQ; 100 cd/m² is 50.8 %, 1,000 is 75.2 %
    assert 1000 * hlg_to_scene(np.array(0.75)) ** 1.2 == pytest.approx(203, abs=0.5)
    np.testing.assert_allclose(
        light_to_pq(np.array([100, 203, 1000, 10000])), [0.508, 0.581, 0.752, 1], atol=5e-4
    )
    light = np.array([0, 0.01, 1, 100, 4000])
    np.testing.assert_allclose(pq_to_light(light_to_pq(light)), light, rtol=1e-9, atol=1e-9)


def test_the_eetf_of_bt_2390() -> None:
    light = np.geomspace(0.01, 1000, 2000)
    mapped = compressed(light)
    below = light < 26  # the knee
    np.testing.assert_allclose(mapped[below], light[below], rtol=1e-9)
    assert (np.diff(mapped) > 0).all()
    assert (mapped <= light + 1e-9).all()
    assert compressed(np.array([1000, 5000])) == pytest.approx([100, 100])
    assert compressed(np.array([0.0])) == pytest.approx([0])
    # The spline in PQ at the middle between knee and peak: (knee + most) / 2 + (1 - knee) / 8.
    peak, most = 0.751827, 0.508078 / 0.751827
    knee = 1.5 * most - 0.5
    middle = pq_to_light(np.array(peak * (1 + knee) / 2))
    wanted = peak * ((knee + most) / 2 + (1 - knee) / 8)
    assert light_to_pq(compressed(middle)) == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize("transfer", ["HLG", "PQ"])
def test_pixels_are_mapped_as_the_formulas_say(transfer: str) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 65536, (130, 7, 3)).astype(np.uint16)  # more rows than are mapped at a time
    signal = pixels / 65535
    if transfer == "HLG":
        scene = hlg_to_scene(signal)
        light = 1000 * scene * (scene @ [0.2627, 0.6780, 0.0593])[..., None] ** 0.2
    else:
        light = pq_to_light(signal)
    luminance = light @ [0.2627, 0.6780, 0.0593]
    shown = light * (compressed(luminance) / np.maximum(luminance, 1e-9))[..., None] / 100
    matrix = np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]])
    wanted = 255 * np.clip(shown @ matrix.T, 0, 1) ** (1 / 2.4)
    mapped = tone_map(pixels, transfer)  # type: ignore[arg-type]
    assert mapped.dtype == np.uint8
    assert np.abs(mapped - wanted).max() < 2
    assert np.abs(mapped - wanted).mean() < 0.5
    grey = tone_map(np.full((2, 2, 3), 40000, np.uint16), transfer)  # type: ignore[arg-type]
    assert np.ptp(grey) <= 1
    assert tone_map(np.zeros((1, 1, 3), np.uint16), transfer).max() <= 1  # type: ignore[arg-type]
