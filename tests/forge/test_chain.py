from collections import Counter
from typing import Any

import cv2
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from forgerank.forge import chain
from forgerank.forge.chain import Forged, draw_components, draw_rounds, forge_image
from forgerank.forge.edits import Edit
from forgerank.forge.photos import Photo
from forgerank.labels import COMPONENTS


def forge(photos: list[Photo], components: tuple[str, ...], seed: int, **options: Any) -> Forged:
    rng = np.random.default_rng(seed)
    base = photos[seed % len(photos)]
    return forge_image(base, components, rng, lambda: ("donor", photos[(seed + 1) % len(photos)]), **options)


@pytest.mark.parametrize(
    "components", [(), ("lip",), ("eye", "hair", "nose"), ("hair", "lip", "eyebrow", "eye", "nose")]
)
def test_a_chain_does_what_it_records(photos: list[Photo], components: tuple[str, ...]) -> None:
    forged = forge(photos, components, seed=2)
    assert forged.components == components
    assert tuple(step["component"] for step in forged.steps) == components
    before = [step["saves_before"] for step in forged.steps]
    assert before == sorted(set(before))
    assert len(forged.saves) > (before[-1] if before else 0)
    for bit, name in enumerate(COMPONENTS):
        assert bool((forged.mask >> bit & 1).any()) == (name in components)
    stored = cv2.imdecode(np.frombuffer(forged.encoded, np.uint8), cv2.IMREAD_COLOR)
    assert np.array_equal(cv2.cvtColor(stored, cv2.COLOR_BGR2RGB), forged.image)
    assert forged.mask.shape == forged.image.shape[:2]


def test_what_the_image_does_not_show_is_left_out(photos: list[Photo]) -> None:
    bald = [Photo(photo.image, photo.landmarks, np.zeros_like(photo.hair)) for photo in photos]
    assert forge(bald, ("hair", "eye"), seed=1).components == ("eye",)


def test_the_same_seed_gives_the_same_bytes(photos: list[Photo]) -> None:
    components = ("nose", "hair")
    assert forge(photos, components, seed=9).encoded == forge(photos, components, seed=9).encoded
    assert forge(photos, components, seed=9).encoded != forge(photos, components, seed=13).encoded


def test_a_donor_is_asked_for_once_per_edit(photos: list[Photo]) -> None:
    asked: list[int] = []

    def donor() -> tuple[str, Photo]:
        asked.append(1)
        return "donor", photos[1]

    forge_image(photos[0], ("lip", "eye"), np.random.default_rng(0), donor)
    assert len(asked) == 2


def test_an_edit_may_cover_what_comes_later_and_nothing_else(
    photos: list[Photo], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[frozenset[str]] = []

    def watch(photo: Photo, component: str, rng: np.random.Generator, donor: Photo) -> tuple[Edit, str]:
        seen.append(photo.free)
        return Edit(photo.image, np.zeros(photo.shape, bool), {}), "nothing"

    monkeypatch.setattr(chain, "_edit_visibly", watch)
    forge(photos, ("eye", "nose", "lip"), seed=0)
    assert seen == [{"nose", "lip"}, {"lip"}, set()]


def test_change_that_no_crop_keeps_does_not_count(photos: list[Photo]) -> None:
    image = photos[0].image
    rows, columns = np.indices(photos[0].shape)
    grain = np.where((rows + columns) % 2 == 0, 9, -9)[..., None]
    everywhere = np.ones(photos[0].shape, bool)
    centred = np.clip(image.astype(int), 10, 245)
    grainy = Edit((centred + grain).astype(np.uint8), everywhere, {})
    lighter = Edit((centred + 9).astype(np.uint8), everywhere, {})
    assert chain.visible_change(centred.astype(np.uint8), grainy) < 1.5
    assert chain.visible_change(centred.astype(np.uint8), lighter) == pytest.approx(9)


def test_the_points_follow_a_resized_photograph(photos: list[Photo]) -> None:
    for seed in range(6):
        forged = forge(photos, (), seed)
        scale = forged.image.shape[1] / photos[0].shape[1]
        expected = photos[seed % len(photos)].eye_distance * scale
        assert np.linalg.norm(forged.points[1] - forged.points[0]) == pytest.approx(expected, rel=0.02)


def test_sequences_are_drawn_evenly() -> None:
    rng = np.random.default_rng(0)
    drawn = [draw_components(rng, (0, 5), 1 / 3) for _ in range(6000)]
    lengths = Counter(map(len, drawn))
    assert lengths[0] / 6000 == pytest.approx(1 / 3, abs=0.03)
    for length in range(1, 6):
        assert lengths[length] / 6000 == pytest.approx(2 / 15, abs=0.02)
    firsts = Counter(sequence[0] for sequence in drawn if sequence)
    assert max(firsts.values()) / min(firsts.values()) < 1.2
    assert all(2 <= len(draw_components(rng, (2, 3), 0.5)) <= 3 for _ in range(100))
    assert draw_components(rng, (0, 0), 0.0) == ()


def test_a_share_of_the_forged_sequences_is_single() -> None:
    rng = np.random.default_rng(0)
    drawn = [draw_components(rng, (0, 5), 1 / 3, single_share=0.5) for _ in range(6000)]
    lengths = Counter(map(len, drawn))
    assert lengths[0] / 6000 == pytest.approx(1 / 3, abs=0.03)
    assert lengths[1] / 6000 == pytest.approx(1 / 3, abs=0.03)
    for length in range(2, 6):
        assert lengths[length] / 6000 == pytest.approx(1 / 12, abs=0.02)
    singles = Counter(sequence for sequence in drawn if len(sequence) == 1)
    assert len(singles) == 5
    assert max(singles.values()) / min(singles.values()) < 1.25
    assert all(len(draw_components(rng, (1, 1), 0.5, single_share=0.0)) == 1 for _ in range(20))
    assert all(len(draw_components(rng, (2, 3), 0.5, single_share=1.0)) > 1 for _ in range(20))


@pytest.mark.parametrize(("longest", "single_share"), [(1, None), (5, None), (5, 0.5)])
def test_originals_are_saved_as_often_as_forged_images(longest: int, single_share: float | None) -> None:
    rng = np.random.default_rng(0)
    originals = Counter(sum(draw_rounds(rng, 0, longest, single_share)) for _ in range(8000))
    steps = [len(draw_components(rng, (1, longest), 0.0, single_share=single_share)) for _ in range(8000)]
    forged = Counter(int(k) + sum(draw_rounds(rng, int(k), longest)) for k in steps)
    assert originals.keys() == forged.keys()
    for saves in forged:
        assert originals[saves] / 8000 == pytest.approx(forged[saves] / 8000, abs=0.03)


def _statistics(image: np.ndarray) -> list[float]:
    """What a lazy classifier would look at: detail at three scales, block edges, noise, colour."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    bands = [grey - cv2.GaussianBlur(grey, (0, 0), sigma) for sigma in (0.7, 1.5, 3.0)]
    step = np.abs(np.diff(grey, axis=1))
    blocks = step[:, 7::8].mean() / (step.mean() + 1e-6)
    values = [np.log(band.std() + 1e-3) for band in bands]
    values += [
        np.log(cv2.Laplacian(grey, cv2.CV_32F).std() + 1e-3),
        blocks,
        *image.std((0, 1)),
        *image.mean((0, 1)),
    ]
    return [float(value) for value in values]


def _separability(first: list[np.ndarray], second: list[np.ndarray]) -> float:
    features = np.array([_statistics(image) for image in first + second])
    labels = np.repeat([0, 1], [len(first), len(second)])
    classifier = make_pipeline(StandardScaler(), LogisticRegression())
    scores = cross_val_predict(classifier, features, labels, cv=5, method="predict_proba")[:, 1]
    return float(roc_auc_score(labels, scores))


def test_nothing_but_the_edit_separates_the_classes(
    photos: list[Photo], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Originals against chains whose every edit does nothing; the measure itself must see a planted leak."""

    def no_edit(photo: Photo, component: str, rng: np.random.Generator, donor: Photo) -> tuple[Edit, str]:
        return Edit(photo.image, np.zeros(photo.shape, bool), {}), "nothing"

    monkeypatch.setattr(chain, "_edit_visibly", no_edit)
    rng, count = np.random.default_rng(4), 150
    originals = [forge(photos, (), seed).image for seed in range(count)]
    unedited = [
        forge(photos, draw_components(rng, (1, 5), 0.0), seed=1000 + seed).image for seed in range(count)
    ]
    assert abs(_separability(originals, unedited) - 0.5) < 0.12
    leaky = [cv2.GaussianBlur(image, (0, 0), 0.8) for image in unedited]
    assert _separability(originals, leaky) > 0.75


def test_no_source_owns_a_class(photos: list[Photo]) -> None:
    rng = np.random.default_rng(0)
    originals = [[not draw_components(rng, (0, 5), 1 / 3) for _ in range(1500)] for _ in photos]
    for share in np.mean(originals, axis=1):
        assert share == pytest.approx(1 / 3, abs=0.05)
