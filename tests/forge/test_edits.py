import json

import numpy as np
import pytest
from PIL import Image as PILImage
from PIL import ImageFilter

from forgerank.faces.regions import component_polygons
from forgerank.forge import shapes
from forgerank.forge.donors import _placement
from forgerank.forge.edits import EDITS, EditFunction, copy_side, rescale
from forgerank.forge.photos import Photo
from forgerank.forge.shapes import draw_regions, fill
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
        if edit.parameters.get("changed") != "photograph":  # of a self-blend: all around the face was altered
            assert difference[np.asarray(reach) == 0].max(initial=0) <= 4
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


def regions_of(photo: Photo) -> dict[str, np.ndarray]:
    """Whole regions (H, W) of the components as a face shows them."""
    everywhere = (slice(0, photo.shape[0]), slice(0, photo.shape[1]))
    polygons = component_polygons(photo.landmarks)
    return {name: fill(pieces, everywhere, 0) > 0 for name, pieces in polygons.items()} | {
        "hair": photo.hair > 0
    }


def drawn_mask(photo: Photo, component: str, seed: int) -> np.ndarray:
    mask = np.zeros(photo.shape, bool)
    for alpha, box, _ in draw_regions(photo, component, np.random.default_rng(seed)).parts:
        mask[box] |= alpha > shapes.MASKED
    return mask


@pytest.mark.parametrize("component", COMPONENTS)
def test_a_wide_mask_leaves_the_other_components_alone(
    photos: list[Photo], component: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rule of labels: no more than half of any component that the label does not name."""
    monkeypatch.setattr(shapes, "WIDE_SHARE", 1.0)
    photo, regions = photos[0], regions_of(photos[0])
    for seed in range(25):
        mask = drawn_mask(photo, component, seed)
        assert mask.any()
        for other, region in regions.items():
            if other != component:
                assert np.count_nonzero(mask & region) <= 0.5 * np.count_nonzero(region), (seed, other)


@pytest.mark.parametrize(("component", "function"), CASES, ids=lambda case: getattr(case, "__name__", case))
def test_every_edit_keeps_the_label_true(photos: list[Photo], component: str, function: EditFunction) -> None:
    regions = regions_of(photos[0])
    for seed in range(3 if component != "face" else 0):
        mask = function(photos[0], component, np.random.default_rng(seed), photos[2]).mask
        for other, region in regions.items():
            if other != component:
                assert np.count_nonzero(mask & region) <= 0.5 * np.count_nonzero(region), (seed, other)


def test_what_is_edited_later_may_be_covered(photos: list[Photo], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shapes, "WIDE_SHARE", 1.0)
    brow = regions_of(photos[0])["eyebrow"]
    followed = photos[0].edited(photos[0].image, frozenset({"eyebrow"}))

    def most(photo: Photo) -> float:
        covered = [np.count_nonzero(drawn_mask(photo, "eye", seed) & brow) for seed in range(25)]
        return max(covered) / np.count_nonzero(brow)

    assert most(photos[0]) <= 0.5 < most(followed)


def test_regions_are_narrow_and_wide(photos: list[Photo]) -> None:
    for component, polygons in component_polygons(photos[0].landmarks).items():
        everywhere = (slice(0, photos[0].shape[0]), slice(0, photos[0].shape[1]))
        own = np.count_nonzero(fill(polygons, everywhere, 0))
        sizes = [np.count_nonzero(drawn_mask(photos[0], component, seed)) / own for seed in range(40)]
        assert min(sizes) < 2.5
        assert max(sizes) > 1.4 * np.median(sizes)


def test_a_component_outside_the_image_has_no_region(photos: list[Photo]) -> None:
    photo = photos[0]
    away = Photo(photo.image, photo.landmarks + 1000, np.zeros_like(photo.hair))
    for component in COMPONENTS:
        assert draw_regions(away, component, np.random.default_rng(0)).parts == ()
        for function in EDITS[component]:
            edit = function(away, component, np.random.default_rng(0), photos[1])
            assert not edit.mask.any()
            assert np.array_equal(edit.image, photo.image)


def test_a_side_is_copied_to_the_other_alone(photos: list[Photo]) -> None:
    middle = photos[0].landmarks[168, 0]
    for seed in range(6):
        edit = copy_side(photos[0], "eye", np.random.default_rng(seed), photos[1])
        columns = np.flatnonzero(edit.mask.any(axis=0))
        assert columns.max() < middle + 12 or columns.min() > middle - 12


@pytest.mark.parametrize("component", [name for name in COMPONENTS if name != "hair"])
def test_a_mirrored_part_lands_on_its_component(photos: list[Photo], component: str) -> None:
    polygons = component_polygons(photos[0].landmarks)[component]
    sides = tuple(range(len(polygons)))
    matrix = _placement(polygons, np.concatenate(polygons), component, sides, True, "similarity")
    assert np.linalg.det(matrix[:, :2]) < 0
    moved = np.concatenate([polygons[side] for side in reversed(sides)]) @ matrix[:, :2].T + matrix[:, 2]
    target = np.concatenate(polygons)
    nearest = np.linalg.norm(moved[:, None] - target[None], axis=2).min(axis=1)
    assert nearest.mean() < 0.06 * photos[0].eye_distance


def test_a_component_changes_its_size(photos: list[Photo]) -> None:
    scales = [
        rescale(photos[0], "eye", np.random.default_rng(s), photos[1]).parameters["scale"] for s in range(12)
    ]
    assert all(0.7 <= scale <= 0.86 or 1.15 <= scale <= 1.4 for scale in scales)
    assert min(scales) < 1 < max(scales)
