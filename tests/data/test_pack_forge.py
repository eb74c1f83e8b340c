"""A pack's real faces, forged on the fly: pairs, donors, saves, and nothing but the forgery between them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from forgerank.data.augmentation import AugmentConfig
from forgerank.data.batches import Crops
from forgerank.data.forge_sources import PackForge
from forgerank.data.formats.pack import Reconstructions
from forgerank.data.prepare.autoencoder import write_reconstructions
from forgerank.data.sample import LabelledImage
from forgerank.forge import chain
from forgerank.forge import whole_faces as faces
from forgerank.forge.edits import Edit
from forgerank.forge.photos import Photo
from forgerank.forge.whole_faces import FORGERIES, WholeFace
from forgerank.types import Image, InputError
from packs import SMALL

WHOLE = dict.fromkeys(FORGERIES, 1.0)


@pytest.fixture(scope="module")
def forge(pack_root: Path) -> PackForge:
    return PackForge(pack_root, "train")


@pytest.fixture(scope="module")
def mixed(pack_root: Path) -> PackForge:
    """Chains and whole faces."""
    return PackForge(pack_root, "train", kinds={"chain": 1.0, "self_blend": 1.0})


@pytest.fixture(scope="module")
def rebuilt(forge: PackForge, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an autoencoder might have made of all faces but the first: flat grey."""
    out = tmp_path_factory.mktemp("rebuilt")
    keys = [forge.pack.entry(i).key for i in range(1, len(forge.pack))]
    grey = np.full((64, 64, 3), 128, np.uint8)
    assert write_reconstructions(out, "train", [(key, grey) for key in keys], pack=forge.pack) == len(keys)
    return out


def same(one: LabelledImage, other: LabelledImage) -> bool:
    parts = (one.image, other.image), (one.points, other.points)
    masks = (
        one.mask is other.mask
        if one.mask is None or other.mask is None
        else bool((one.mask == other.mask).all())
    )
    return masks and one.sequence == other.sequence and all(np.array_equal(*pair) for pair in parts)


def test_every_face_comes_as_an_original_and_as_a_forgery(forge: PackForge) -> None:
    assert len(forge) == 2 * len(forge.pack)
    lengths = set()
    for index in range(len(forge)):
        sample, image = forge.sample(index), forge.load(index, np.random.default_rng([index, 1]))
        assert sample.forged == bool(index % 2)
        assert sample.group == forge.pack.sample(index // 2).group
        assert image.mask is not None
        assert {i + 1 for i in range(5) if (image.mask >> i & 1).any()} == set(image.sequence)
        assert bool(image.sequence) == sample.forged
        assert image.image.shape[:2] == image.mask.shape
        lengths.add(len(image.sequence))
    assert len(lengths) > 2
    assert {entry.label for entry in map(forge.pack.entry, range(len(forge.pack)))} == {"real"}


def test_a_draw_can_be_repeated(pack_root: Path, mixed: PackForge) -> None:
    again = PackForge(pack_root, "train", kinds={"chain": 1.0, "self_blend": 1.0})
    for index in (0, 1, 3):
        first, second, other = (
            source.load(index, np.random.default_rng([3, draw, index]))
            for source, draw in ((mixed, 5), (again, 5), (mixed, 6))
        )
        assert same(first, second)
        assert not same(first, other)
    crops = [Crops(source, size=48, length=5, seed=3, augment=AugmentConfig()) for source in (mixed, again)]
    assert (crops[0][2, 3, 48]["image"] == crops[1][2, 3, 48]["image"]).all()


def test_whole_faces_say_which_components_they_cover(pack_root: Path) -> None:
    source = PackForge(pack_root, "train", kinds=WHOLE)
    for draw in range(3):
        original, forged = (source.load(index, np.random.default_rng([draw, index])) for index in (2, 3))
        assert (original.sequence, original.parts, original.mask, original.fake) == ((), None, None, False)
        assert (forged.sequence, forged.fake) == ((), True)
        assert forged.parts is not None
        assert len(forged.parts) == 5
        assert forged.mask is not None
        # What is said to be untouched lies outside the mask but for a rim, and the other way round.
        touched = [i for i in range(5) if (forged.mask >> i & 1).any()]
        assert {i for i, part in enumerate(forged.parts) if part == 1} <= set(touched)
    binary = PackForge(pack_root, "train", kinds=WHOLE, length=1)
    pair = [binary.load(index, np.random.default_rng(0)) for index in (0, 1)]
    assert [(image.parts, image.fake, image.mask) for image in pair] == [
        ((0,), False, None),
        ((1,), True, None),
    ]


def test_binary_chains(pack_root: Path) -> None:
    source = PackForge(pack_root, "train", length=1)
    for index in (0, 1):
        image = source.load(index, np.random.default_rng(index))
        assert (image.sequence, image.mask, image.parts) == ((), None, (index,))
        assert source.sample(index).forged == bool(index)


def test_donors_are_others_of_like_resolution(forge: PackForge) -> None:
    pack, rng = forge.pack, np.random.default_rng(0)
    eyes = [pack.entry(i).eye_distance for i in range(len(pack))]
    small = next(i for i in range(len(pack)) if pack.entry(i).group == f"p{SMALL}")
    assert eyes[small] < min(eye for i, eye in enumerate(eyes) if i != small) / 1.5
    for face in range(len(pack)):
        donors = {forge._draw_donor(face, rng) for _ in range(40)}
        groups = {pack.entry(donor).group for donor in donors}
        assert pack.entry(face).group not in groups
        if face != small:
            assert small not in donors


def test_a_pack_of_one_person_gives_its_own_face(pack_root: Path) -> None:
    alone = PackForge(pack_root, "train", sources=["delta"])
    assert len(alone) == 2
    assert alone._draw_donor(0, np.random.default_rng(0)) == 0


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"kinds": {"morph": 1.0}}, "kinds must be of .*chain.*got morph"),
        ({"kinds": {"chain": 1.0, "resynthesis": 1.0}}, "kinds resynthesis: needs reconstructions"),
        ({"kinds": {"chain": 0.0}}, "kinds none: needs"),
        ({"trace": "soft"}, "trace must be one of light, medium, strong, got soft"),
        ({"sources": ["gamma"]}, "no real of gamma in the train split"),
    ],
)
def test_what_cannot_be_forged_is_refused(pack_root: Path, options: dict[str, Any], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        PackForge(pack_root, "train", **options)


def test_reconstructions_are_asked_for_where_they_exist(
    pack_root: Path, rebuilt: Path, forge: PackForge, tmp_path: Path
) -> None:
    store = Reconstructions(rebuilt)
    assert len(store) == len(forge.pack) - 1
    with pytest.raises(InputError, match="no reconstructions"):
        Reconstructions(tmp_path)
    alone = PackForge(pack_root, "train", kinds={"regenerated": 1.0}, reconstructions=rebuilt)
    assert len(alone.pack) == len(store)  # the faces that have one
    image = alone.load(1, np.random.default_rng(0))
    assert (image.fake, image.parts, image.mask) == (True, (None,) * 5, None)
    x, y = image.points[2].round().astype(int)
    assert np.abs(image.image[y, x].astype(int) - 128).max() < 12  # the grey that was made of it
    both = PackForge(pack_root, "train", kinds={"chain": 0.01, "resynthesis": 1.0}, reconstructions=rebuilt)
    assert len(both.pack) == len(forge.pack)
    rng = np.random.default_rng(0)
    assert both.pack.entry(0).key not in store
    assert {both._draw_kind(0, rng) for _ in range(20)} == {"chain"}
    assert Counter(both._draw_kind(1, rng) for _ in range(40))["resynthesis"] > 30


def edit_nothing(photo: Photo, component: str, rng: np.random.Generator, donor: Photo) -> tuple[Edit, str]:
    mask = np.zeros(photo.shape, dtype=bool)
    return Edit(photo.image, mask, {}), "nothing"


def forge_nothing(
    photo: Photo,
    rng: np.random.Generator,
    donor: Photo,
    kinds: Mapping[str, float],
    reconstruction: Any = None,
) -> WholeFace:
    return WholeFace(photo.image, np.zeros(photo.shape, np.uint8), (0,) * 5, next(iter(kinds)), {})


@pytest.fixture
def without_edits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forgeries go through all that forgeries do, but the edit."""
    monkeypatch.setattr(chain, "_edit_visibly", edit_nothing)
    monkeypatch.setattr(faces, "whole_face", forge_nothing)


@pytest.mark.usefixtures("without_edits")
def test_originals_are_saved_as_often_as_forgeries(mixed: PackForge, monkeypatch: pytest.MonkeyPatch) -> None:
    saves = [0]

    def saved(image: Image, save: Any) -> tuple[Image, bytes]:
        saves[0] += 1
        return image, b""

    monkeypatch.setattr(chain, "apply_save", saved)
    monkeypatch.setattr("forgerank.forge.saves.apply_save", saved)
    counts: tuple[Counter[int], Counter[int]] = Counter(), Counter()
    draws = 400
    for draw in range(draws):
        for index in (2, 3):
            saves[0] = 0
            mixed.load(index, np.random.default_rng(draw))
            counts[index - 2][saves[0]] += 1
    apart = sum(abs(counts[0][number] - counts[1][number]) for number in counts[0] | counts[1]) / 2 / draws
    assert apart < 0.1
    assert min(counts[0]) == min(counts[1]) == 1


def statistics(labelled: LabelledImage) -> list[float]:
    """What a network could go by instead of the forgery: size, block edges, fine detail, colours."""
    image = labelled.image.astype(np.float64)
    grey = image.mean(axis=2)
    steps = np.abs(np.diff(grey, axis=1)).mean(axis=0)
    at_edges = steps[7::8].mean() / max(steps.mean(), 1e-6)
    fine = np.abs(grey[1:-1, 1:-1] * 4 - grey[:-2, 1:-1] - grey[2:, 1:-1] - grey[1:-1, :-2] - grey[1:-1, 2:])
    eyes = float(np.linalg.norm(labelled.points[1] - labelled.points[0]))
    return [*image.shape[:2], eyes, float(at_edges), float(np.log1p(fine.mean())), *image.mean(axis=(0, 1))]


@pytest.mark.usefixtures("without_edits")
def test_nothing_but_the_forgery_separates_the_classes(mixed: PackForge) -> None:
    def table(draws: Sequence[int]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        rows = [
            (statistics(mixed.load(index, np.random.default_rng([9, draw, index]))), index % 2)
            for draw in draws
            for index in range(6)
        ]
        return np.array([row for row, _ in rows]), np.array([label for _, label in rows])

    model = make_pipeline(StandardScaler(), LogisticRegression())
    model.fit(*table(range(30)))
    values, labels = table(range(30, 90))
    area = roc_auc_score(labels, model.predict_proba(values)[:, 1])
    assert 0.4 < area < 0.6
