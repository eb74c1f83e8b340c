import json

import numpy as np
import pytest
from PIL import Image as PILImage
from PIL import ImageFilter

from forgerank.forge.edits import EDITS, EditFunction
from forgerank.forge.photos import Photo
from forgerank.labels import COMPONENTS

CASES = [(component, function) for component, functions in EDITS.items() for function in functions]


@pytest.mark.parametrize(("component", "function"), CASES, ids=lambda case: getattr(case, "__name__", case))
def test_an_edit_changes_its_region_and_nothing_else(
    photos: list[Photo], component: str, function: EditFunction
) -> None:
    photo, donor = photos[0], photos[1]
    changed = []
    for seed in range(4):
        edit = function(photo, component, np.random.default_rng(seed), donor)
        assert edit.image.shape == photo.image.shape
        assert edit.image.dtype == np.uint8
        assert edit.mask.shape == photo.shape
        assert edit.mask.dtype == bool
        difference = np.abs(edit.image.astype(int) - photo.image).max(axis=2)
        reach = PILImage.fromarray(edit.mask).convert("L").filter(ImageFilter.MaxFilter(31))
        assert difference[np.asarray(reach) == 0].max(initial=0) <= 2
        changed.append(float(difference[edit.mask].mean()) if edit.mask.any() else 0.0)
        json.dumps(edit.parameters)
    assert max(changed) > 1.0


@pytest.mark.parametrize(("component", "function"), CASES, ids=lambda case: getattr(case, "__name__", case))
def test_an_edit_is_pure(photos: list[Photo], component: str, function: EditFunction) -> None:
    before = photos[0].image.copy()
    first, second = (function(photos[0], component, np.random.default_rng(5), photos[1]) for _ in range(2))
    assert np.array_equal(photos[0].image, before)
    assert np.array_equal(first.image, second.image)
    assert np.array_equal(first.mask, second.mask)
    assert first.parameters == second.parameters


def test_masks_lie_on_their_components(photos: list[Photo]) -> None:
    height = {}
    for component in COMPONENTS:
        swap = next(iter(EDITS[component]))
        mask = swap(photos[0], component, np.random.default_rng(1), photos[1]).mask
        height[component] = np.flatnonzero(mask.any(axis=1)).mean()
    assert height["hair"] < height["eyebrow"] < height["eye"] < height["nose"] < height["lip"]
