import cv2
import numpy as np
import pytest

from forgerank.forge import saves
from forgerank.forge.photos import Photo
from forgerank.forge.saves import TRACES, Save, apply_save, draw_save

PLAIN = Save("jpeg", 90, False, 1.0, "area", "cubic", 0.0, 0.0, 0.0, 0)


@pytest.mark.parametrize("trace", TRACES)
def test_a_drawn_save_keeps_to_its_trace(trace: str) -> None:
    strength, rng = TRACES[trace], np.random.default_rng(0)
    saves = [draw_save(rng, strength) for _ in range(300)]
    for save in saves:
        low, high = strength.webp_quality if save.format == "webp" else strength.quality
        assert low <= save.quality <= high
        assert save.scale == 1.0 or strength.scale[0] <= save.scale <= strength.scale[1]
        assert (
            save.smooth_sigma == 0
            or strength.smooth_sigma[0] <= save.smooth_sigma <= strength.smooth_sigma[1]
        )
    resampled = sum(save.scale < 1 for save in saves) / len(saves)
    assert resampled == pytest.approx(strength.resample, abs=0.1)


@pytest.mark.parametrize("save", [PLAIN, Save("webp", 70, False, 0.6, "linear", "lanczos", 0.5, 0.3, 2.0, 7)])
def test_a_save_is_repeatable_and_returns_what_its_file_holds(photos: list[Photo], save: Save) -> None:
    image, encoded = apply_save(photos[0].image, save)
    again, encoded_again = apply_save(photos[0].image, save)
    stored = cv2.cvtColor(cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    assert encoded == encoded_again
    assert np.array_equal(image, again)
    assert np.array_equal(image, stored)
    assert image.shape == photos[0].image.shape


@pytest.mark.parametrize("shape", [(120, 90), (1100, 1300)])
def test_grain_is_what_was_asked_for(shape: tuple[int, int]) -> None:
    grey = np.full((*shape, 3), 128, np.uint8)
    for seed in (0, 1023, 2**20 - 1, 2**21 + 5):
        grain = saves.add_grain(grey, 4.0, seed).astype(float) - 128
        assert grain.shape == grey.shape
        assert grain.std() == pytest.approx(4.0, rel=0.05)
        assert abs(grain.mean()) < 0.2
        assert abs(np.corrcoef(grain[..., 0].ravel(), grain[..., 1].ravel())[0, 1]) < 0.05
    assert not np.array_equal(saves.add_grain(grey, 4.0, 7), saves.add_grain(grey, 4.0, 8))


def test_every_save_costs_detail_and_a_stronger_trace_costs_more(photos: list[Photo]) -> None:
    def detail(image: np.ndarray) -> float:
        return float(cv2.Laplacian(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.CV_32F).var())

    left = {}
    for trace, strength in TRACES.items():
        rng, figures = np.random.default_rng(3), []
        for _ in range(12):
            image, details = photos[0].image, [detail(photos[0].image)]
            for _ in range(3):
                image, _ = apply_save(image, draw_save(rng, strength))
                details.append(detail(image))
            figures.append(details)
        means = np.mean(figures, axis=0)
        assert np.all(np.diff(means) < 0), trace
        left[trace] = means[-1]
    assert left["light"] > left["medium"] > left["strong"]
