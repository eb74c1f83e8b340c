"""Whole-face forgeries: what they change, what they say of it, and that their geometry fits."""

import json
from collections.abc import Callable

import cv2
import numpy as np
import pytest

from forgerank.faces.align import estimate_alignment, five_points
from forgerank.forge.blend import membrane
from forgerank.forge.face_masks import HULLS, covered, hull
from forgerank.forge.photos import Photo
from forgerank.forge.warps import correspondence
from forgerank.forge.whole_faces import (
    FORGERIES,
    RECONSTRUCTED,
    Forgery,
    Reconstruction,
    regenerated,
    whole_face,
)
from forgerank.labels import COMPONENTS

KINDS = [*FORGERIES, *RECONSTRUCTED]


@pytest.fixture(scope="session")
def rendered(photos: list[Photo]) -> Reconstruction:
    """A soft rendering of the first photograph."""
    return render(photos[0], 96)


def render(photo: Photo, size: int) -> Reconstruction:
    alignment = estimate_alignment(five_points(photo.landmarks), size, zoom=1.3)
    return Reconstruction(alignment.crop(photo.image), alignment.matrix)


@pytest.fixture
def forge(photos: list[Photo], rendered: Reconstruction) -> Callable[[str, int], Forgery]:
    """Forges the first photograph by a named method."""

    def run(kind: str, seed: int) -> Forgery:
        rng = np.random.default_rng(seed)
        if kind in FORGERIES:
            return FORGERIES[kind](photos[0], rng, photos[1])
        return RECONSTRUCTED[kind](photos[0], rng, rendered)

    return run


@pytest.mark.parametrize("kind", KINDS)
def test_a_forgery_reports_what_it_did(
    kind: str, photos: list[Photo], forge: Callable[[str, int], Forgery]
) -> None:
    for seed in range(6):
        image, alpha, parameters = forge(kind, seed)
        assert image.shape == photos[0].image.shape
        assert image.dtype == np.uint8
        assert alpha.shape == photos[0].shape
        assert alpha.dtype == np.float32
        assert 0 <= alpha.min() <= alpha.max() <= 1
        assert (image != photos[0].image).any()
        assert json.loads(json.dumps(parameters)) == parameters
        again = forge(kind, seed)
        np.testing.assert_array_equal(again.image, image)
        assert again.parameters == parameters


@pytest.mark.parametrize("kind", ["self_blend", "face_swap", "resynthesis_plain", "resynthesis"])
def test_nothing_changes_outside_the_mask(
    kind: str, photos: list[Photo], forge: Callable[[str, int], Forgery]
) -> None:
    tried = 0
    for seed in range(8):
        image, alpha, parameters = forge(kind, seed)
        if parameters.get("changed") != "photograph":
            np.testing.assert_array_equal(image[alpha == 0], photos[0].image[alpha == 0])
            tried += 1
        assert 0 < (alpha > 0.5).mean() < 0.6
    assert tried > 0


@pytest.mark.parametrize("kind", HULLS)
def test_hulls_cover_what_their_names_say(kind: str, photos: list[Photo]) -> None:
    photo = photos[0]
    area = {name: cv2.contourArea(hull(photo.landmarks, name)) for name in HULLS}
    assert area["lower"] < area["browless"] < area["whole"]
    assert area["inner"] < area["oval"] < area["forehead"]
    filled = np.zeros(photo.shape, np.uint8)
    cv2.fillPoly(filled, [np.rint(hull(photo.landmarks, kind)).astype(np.int32)], 1)
    _, parts = covered(photo, filled.astype(np.float32))
    assert parts[COMPONENTS.index("nose")] == parts[COMPONENTS.index("lip")] == 1
    if kind == "lower":
        assert parts[COMPONENTS.index("eyebrow")] == 0
    else:
        assert parts[COMPONENTS.index("eye")] == 1
    assert filled[tuple(photo.landmarks[4].astype(int)[::-1])] == 1


def test_coverage_is_known_at_its_ends_and_unknown_between(photos: list[Photo]) -> None:
    photo = photos[0]
    bits, parts = covered(photo, np.zeros(photo.shape, np.float32))
    assert parts == (0, 0, 0, 0, 0)
    assert not bits.any()
    bits, parts = covered(photo, np.ones(photo.shape, np.float32))
    assert parts == (1, 1, 1, 1, None)
    nose = bits & 1 > 0
    assert nose.any()
    # A third of the nose: neither replaced nor left alone.
    part = np.zeros(photo.shape, np.float32)
    rows = np.flatnonzero(nose.any(1))
    part[rows[0] : rows[0] + len(rows) // 3] = 1
    bits, parts = covered(photo, part)
    assert parts[0] is None
    np.testing.assert_array_equal(bits & 1 > 0, nose & (part > 0))


@pytest.mark.parametrize("kind", ["similarity", "affine", "mesh"])
def test_the_warp_finds_the_donor(kind: str, photos: list[Photo]) -> None:
    photo = photos[0]
    donor = photo.resized(0.75)
    to_donor, outline = correspondence(photo, donor, kind)
    box = (slice(40, 140), slice(50, 170))
    field = to_donor(box)
    rows, columns = np.mgrid[box]
    scale = np.array(donor.shape) / photo.shape
    np.testing.assert_allclose(field[..., 0], columns * scale[1], atol=0.1)
    np.testing.assert_allclose(field[..., 1], rows * scale[0], atol=0.1)
    np.testing.assert_allclose(outline, hull(photo.landmarks, "forehead"), atol=0.1)


def test_a_mesh_warp_takes_landmarks_to_landmarks(photos: list[Photo]) -> None:
    photo = photos[0]
    bent = photo.landmarks + np.float32(2) * np.sin(photo.landmarks[:, ::-1] / 15)
    to_donor, _ = correspondence(photo, Photo(photo.image, bent, photo.hair), "mesh")
    field = to_donor((slice(0, photo.shape[0]), slice(0, photo.shape[1])))
    for point in (1, 61, 291, 33, 263):
        x, y = np.rint(photo.landmarks[point]).astype(int)
        assert np.abs(field[y, x] - bent[point]).max() < 1.2


def test_a_faithful_reconstruction_leaves_the_face_in_place(photos: list[Photo]) -> None:
    photo = photos[0]
    rng = np.random.default_rng(0)
    faithful = render(photo, 320)
    same = regenerated(photo, rng, faithful)
    inside = same.alpha > 0.99
    assert np.abs(same.image.astype(int) - photo.image)[inside].mean() < 1.5
    moved = faithful._replace(matrix=faithful.matrix + np.array([[0, 0, 1.5], [0, 0, 1.5]]))
    other = regenerated(photo, rng, moved)
    assert np.abs(other.image.astype(int) - photo.image)[inside].mean() > 2.5


def test_a_membrane_removes_a_constant_difference(photos: list[Photo]) -> None:
    target = np.clip(photos[0].image, 0, 200)
    other = target + np.uint8(40)
    alpha = np.zeros(photos[0].shape, np.float32)
    alpha[60:160, 70:150] = 1
    blended = membrane(other, target, alpha)
    assert np.abs(blended.astype(int) - target)[60:160, 70:150].max() <= 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_face_says_which_components_it_covers(
    kind: str, photos: list[Photo], rendered: Reconstruction
) -> None:
    for seed in range(4):
        rng = np.random.default_rng(seed)
        made = whole_face(photos[0], rng, photos[1], {kind: 1.0}, lambda: rendered)
        assert made.kind == kind
        assert made.mask_bits.dtype == np.uint8
        assert made.mask_bits.shape == photos[0].shape
        assert len(made.parts) == len(COMPONENTS)
        assert not (made.mask_bits >> COMPONENTS.index("hair")).any()
        if kind == "regenerated":
            assert made.parts == (None,) * len(COMPONENTS)
            continue
        assert 1 in made.parts
        for i, part in enumerate(made.parts):
            if part == 1:
                assert (made.mask_bits >> i & 1).any()


def test_reconstructions_are_asked_for_only_when_needed(photos: list[Photo]) -> None:
    def fail() -> Reconstruction:
        raise AssertionError("not needed")

    rng = np.random.default_rng(0)
    whole_face(photos[0], rng, photos[1], {"face_swap": 1.0, "resynthesis": 0.0}, fail)
    kinds = {"resynthesis": 100.0, "self_blend": 0.01}
    assert whole_face(photos[0], rng, photos[1], kinds).kind == "self_blend"
    with pytest.raises(ValueError, match="nothing to draw"):
        whole_face(photos[0], rng, photos[1], {"resynthesis": 1.0})
