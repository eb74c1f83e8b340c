import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as PILImage

from forgerank.faces.align import (
    FACE_CENTRE,
    MIRRORED_POINTS,
    TEMPLATE,
    Alignment,
    estimate_alignment,
    similarity,
)

points5 = st.tuples(
    st.floats(20, 400), st.floats(-3.1, 3.1), st.floats(-500, 500), st.floats(-500, 500), st.integers(32, 512)
)


def placed(size: float, angle: float, x: float, y: float) -> np.ndarray:
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return (TEMPLATE * size @ rotation.T + [x, y]).astype(np.float32)


@given(points5)
def test_the_five_points_land_on_the_template_and_back(case: tuple[float, float, float, float, int]) -> None:
    *place, side = case
    points = placed(*place)
    alignment = estimate_alignment(points, side)
    assert np.abs(alignment.to_crop(points) - TEMPLATE * side).max() < 0.02
    assert np.abs(alignment.to_image(alignment.to_crop(points)) - points).max() < 0.05
    assert alignment.scale == pytest.approx(side / place[0], rel=1e-3)


@pytest.mark.parametrize("size", [60.0, 150.0, 420.0])
def test_crop_and_back_within_a_pixel(size: float) -> None:
    rows, columns = np.mgrid[:500, :500]
    centre = (260.0, 240.0)
    spot = np.exp(-((columns - centre[0]) ** 2 + (rows - centre[1]) ** 2) / (2 * (size / 20) ** 2))
    image = np.repeat((255 * spot).astype(np.uint8)[..., None], 3, axis=2)
    points = placed(size, 0.3, centre[0] - size / 2, centre[1] - size / 2)
    alignment = estimate_alignment(points, 224)
    back = alignment.paste(alignment.crop(image)[..., 0].astype(np.float32), (500, 500))
    weights = back / back.sum()
    found = float((weights * columns).sum()), float((weights * rows).sum())
    assert np.hypot(found[0] - centre[0], found[1] - centre[1]) < 1.0


def test_a_map_is_laid_inside_the_crop_only() -> None:
    points = placed(100, 0.0, 50, 50)
    laid = estimate_alignment(points, 64).paste(np.ones((64, 64), np.float32), (300, 300))
    assert laid[100, 100] == pytest.approx(1.0)
    assert laid[250, 250] == 0.0
    assert laid.sum() == pytest.approx(100 * 100, rel=0.03)


def test_labels_follow_the_pixels() -> None:
    image = np.zeros((200, 200, 3), np.uint8)
    image[80:120, 60:140] = 255
    alignment = estimate_alignment(placed(160, 0.2, 20, 20), 96)
    mask = alignment.crop_mask((image[..., 0] > 0).astype(np.uint8) * 16)
    assert set(np.unique(mask)) == {0, 16}
    assert np.mean((mask > 0) == (alignment.crop(image)[..., 0] > 127)) > 0.99


@pytest.mark.parametrize("centre", [(20.0, 30.0), (100.0, 60.0), (195.0, 118.0)])
def test_what_a_crop_shows_of_the_image(centre: tuple[float, float]) -> None:
    angle = np.array([[0.8, -0.6], [0.6, 0.8]], dtype=np.float32)
    points = ((TEMPLATE - FACE_CENTRE) * 90) @ angle.T + np.array(centre, dtype=np.float32)
    alignment = estimate_alignment(points.astype(np.float32), 64)
    shown = alignment.crop_mask(np.ones((120, 200), dtype=np.uint8)) > 0
    assert np.array_equal(alignment.covered((120, 200, 3)), shown)
    assert 0 < shown.mean() < 1 or centre[0] == 100.0


def test_a_large_face_does_not_alias() -> None:
    checks = np.indices((800, 800)).sum(0) % 2 * 255
    image = np.repeat(checks.astype(np.uint8)[..., None], 3, axis=2)
    crop = estimate_alignment(placed(700, 0.0, 50, 50), 64).crop(image)
    assert np.abs(crop[8:-8, 8:-8].astype(float) - 127.5).max() < 8


def test_a_mirrored_face_is_turned_not_mirrored() -> None:
    mirrored = TEMPLATE * np.float32([-100, 100])
    assert np.linalg.det(estimate_alignment(mirrored, 64).matrix[:, :2]) > 0


def test_a_mirror_image_has_the_mirrored_crop_whatever_its_width() -> None:
    image = np.random.default_rng(0).integers(0, 256, (400, 401, 3), dtype=np.uint8)
    points = TEMPLATE * np.float32(300) + np.float32((40, 30))
    mirrored = points[list(MIRRORED_POINTS)] * np.float32((-1, 1)) + np.float32((401, 0))
    crop = estimate_alignment(points, 128).crop(image).astype(int)
    other = estimate_alignment(mirrored, 128).crop(np.ascontiguousarray(image[:, ::-1]))
    assert np.abs(other[:, ::-1] - crop).max() <= 1


def test_coinciding_points_have_no_alignment() -> None:
    with pytest.raises(ValueError, match="coincide"):
        similarity(np.ones((5, 2), np.float32), TEMPLATE)


def test_identity() -> None:
    image = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    same = Alignment(np.array([[1.0, 0, 0], [0, 1.0, 0]]), 64)
    assert np.array_equal(same.crop(image), image)


@pytest.mark.parametrize("side", [90, 300, 2000])
@pytest.mark.parametrize("centre", [(0.5, 0.5), (0.02, 0.9), (1.3, 0.5), (5.0, 5.0)])
def test_a_crop_depends_on_its_own_part_of_the_image_alone(side: int, centre: tuple[float, float]) -> None:
    rng = np.random.default_rng(0)
    brighter = np.linspace(0, 127, 1200, dtype=np.uint8)[:, None]  # to the right: it is not seen mirrored
    image = rng.integers(0, 128, (900, 1200, 3), dtype=np.uint8) + brighter
    points = (TEMPLATE - 0.5) * np.float32(side) + np.float32(centre) * np.float32((1200, 900))
    alignment = estimate_alignment(points, 64)
    whole = PILImage.fromarray(image)
    factor = max(1, int(1 / alignment.scale))
    inverse = np.linalg.inv(np.vstack([alignment.matrix, [0, 0, 1]]))[:2] / factor
    expected = whole.reduce(factor).transform(
        (64, 64), PILImage.Transform.AFFINE, tuple(inverse.ravel()), PILImage.Resampling.BICUBIC
    )
    np.testing.assert_allclose(alignment.crop(image), np.asarray(expected), atol=1)


@pytest.mark.parametrize("zoom", [0.8, 1.0, 1.3])
def test_a_zoom_enlarges_the_face_about_its_centre(zoom: float) -> None:
    points = placed(150, 0.3, 80, 60)
    plain, zoomed = estimate_alignment(points, 224), estimate_alignment(points, 224, zoom)
    assert zoomed.scale == pytest.approx(zoom * plain.scale, rel=1e-4)
    centre = plain.to_image(FACE_CENTRE[None] * 224)
    assert np.abs(zoomed.to_crop(centre) - FACE_CENTRE * 224).max() < 0.05
    expected = FACE_CENTRE + (TEMPLATE - FACE_CENTRE) * zoom
    assert np.abs(zoomed.to_crop(points) - expected * 224).max() < 0.05
