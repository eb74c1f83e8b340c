from typing import Any

import numpy as np
import pytest
import skimage.data
from numpy.typing import NDArray

from forgerank.faces import regions
from forgerank.faces.analyze import FaceAnalyzer
from forgerank.faces.regions import component_masks, component_polygons, face_oval, fill_polygons
from forgerank.labels import COMPONENTS
from forgerank.types import Image, Points


@pytest.fixture(scope="module")
def astronaut() -> tuple[Image, Points]:
    image = skimage.data.astronaut()
    return image, FaceAnalyzer().analyze(image)[0].landmarks


def test_masks_lie_where_the_components_are(astronaut: tuple[Image, Points]) -> None:
    image, landmarks = astronaut
    masks = component_masks(image, landmarks)
    assert tuple(masks) == COMPONENTS
    oval = fill_polygons([face_oval(landmarks)], image.shape[:2])
    for name in ("nose", "eye", "eyebrow", "lip"):
        assert 0 < masks[name].sum() < 0.25 * oval.sum()
        assert (masks[name] & oval).sum() > 0.97 * masks[name].sum()
    heights = {name: np.flatnonzero(mask.any(axis=1)).mean() for name, mask in masks.items()}
    assert heights["hair"] < heights["eyebrow"] < heights["eye"] < heights["nose"] < heights["lip"]


def test_hair_is_dark_and_neither_face_nor_backdrop(astronaut: tuple[Image, Points]) -> None:
    image, landmarks = astronaut
    masks = component_masks(image, landmarks)
    oval = fill_polygons([face_oval(landmarks)], image.shape[:2])
    assert masks["hair"].sum() > 0.3 * oval.sum()
    assert (masks["hair"] & oval).sum() < 0.1 * masks["hair"].sum()
    assert image[masks["hair"]].mean() < image[oval].mean() - 30


def test_regions_do_not_overlap_much(astronaut: tuple[Image, Points]) -> None:
    image, landmarks = astronaut
    masks = list(component_masks(image, landmarks).values())
    union = np.any(masks, axis=0).sum()
    assert union > 0.95 * sum(mask.sum() for mask in masks)


def test_left_and_right_have_a_polygon_each(astronaut: tuple[Image, Points]) -> None:
    polygons = component_polygons(astronaut[1])
    assert {name: len(parts) for name, parts in polygons.items()} == {
        "nose": 1,
        "eye": 2,
        "eyebrow": 2,
        "lip": 1,
    }
    left, right = polygons["eye"]
    assert left[:, 0].max() < right[:, 0].min()


def test_a_face_without_room_for_hair_has_none(astronaut: tuple[Image, Points]) -> None:
    image, landmarks = astronaut
    oval = face_oval(landmarks)
    (x0, y0), (x1, y1) = oval.min(0).astype(int) + 8, oval.max(0).astype(int) - 8
    masks = component_masks(np.ascontiguousarray(image[y0:y1, x0:x1]), landmarks - np.float32([x0, y0]))
    assert masks["hair"].sum() < 0.1 * (y1 - y0) * (x1 - x0)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("lacking", ["_crown_band", "_background_rim"])
def test_hair_where_the_image_shows_no_scalp_or_no_backdrop(
    astronaut: tuple[Image, Points], lacking: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = getattr(regions, lacking)

    def empty(*given: Any) -> NDArray[np.bool_]:
        mask: NDArray[np.bool_] = whole(*given)
        # the band in which hair is sought is wider than that of the scalp
        return mask if given[-1] == 0.30 else np.zeros_like(mask)

    monkeypatch.setattr(regions, lacking, empty)
    assert regions.hair_mask(*astronaut).sum() > 0
