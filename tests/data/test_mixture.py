"""Batches out of many sources: half real, shares to within a pair, twins of one size and encoding."""

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from forgerank.data.augmentation import AugmentConfig
from forgerank.data.batches import Crops, Key, eye_distance
from forgerank.data.mixture import Ingredient, Levelled, MixedBatches, Mixture
from forgerank.data.sample import LabelledImage, Sample
from forgerank.faces.align import TEMPLATE
from forgerank.train.loaders import Joined
from forgerank.types import InputError

STILL = AugmentConfig(rotation=0, scale=0, shift=0, flip=0, wild=0, colour=0)


@dataclass
class Faces:
    """Noise of one size, forged or not as `labels` says; a forge shrinks it by `shrink` when it is loaded."""

    name: str
    labels: str  # r and f
    side: int = 160
    shrink: float = 1.0

    def __len__(self) -> int:
        return len(self.labels)

    def sample(self, index: int) -> Sample:
        points = TEMPLATE * self.side
        fake = self.labels[index] == "f"
        return Sample(None, (), str(index), "train", self.name, points, source=self.name, fake=fake)  # type: ignore[arg-type]

    def load(self, index: int, rng: np.random.Generator) -> LabelledImage:
        side = round(self.side * self.shrink)
        image = rng.integers(0, 256, size=(side, side, 3), dtype=np.uint8)
        return LabelledImage(image, TEMPLATE * side, (), None, None, self.labels[index] == "f")


def mixture() -> Mixture:
    """One source of both classes, a real one, and a forged one that takes its reals from two others."""
    return Mixture(
        [
            Ingredient("both", Faces("both", "rfrfrr"), share=2.0),
            Ingredient("real", Faces("real", "rrr", side=80), partners=("forged",)),
            Ingredient("forged", Faces("forged", "ffff", side=240), partners=("real", "both")),
        ]
    )


def batches(**changes: Any) -> MixedBatches:
    options: dict[str, Any] = {
        "batch_size": 16,
        "batches": 5,
        "seed": 3,
        "position": lambda: 0,
        "size": lambda batch: 32 + batch,
    }
    return MixedBatches(mixture(), **(options | changes))


def pairs(keys: list[Key]) -> list[tuple[Key, Key]]:
    return list(zip(keys[::2], keys[1::2], strict=True))


def test_a_mixture_is_its_sources_one_after_the_other() -> None:
    mixed = mixture()
    assert len(mixed) == 13
    assert [mixed.sample(i).source for i in (0, 5, 6, 8, 9, 12)] == [
        *["both"] * 2,
        *["real"] * 2,
        *["forged"] * 2,
    ]
    assert [mixed.sample(i).forged for i in range(13)] == [letter == "f" for letter in "rfrfrrrrrffff"]
    assert mixed.load(7, np.random.default_rng(0)).image.shape == (80, 80, 3)
    for outside in (-1, 13):
        with pytest.raises(IndexError):
            mixed.sample(outside)


def test_every_batch_is_half_real_and_shares_are_kept_to_within_a_pair() -> None:
    mixed, some = mixture(), batches()
    seen = Counter[str]()
    for batch in range(40):
        keys = some.keys(batch)
        assert len(keys) == 16
        assert {(key.draw, key.size) for key in keys} == {(batch, 32 + batch)}
        for real, forged in pairs(keys):
            assert [mixed.sample(key.item).forged for key in (real, forged)] == [False, True]
        # Pairs out of one source are its own; the others belong to one of the two that lack a class.
        kinds = Counter(tuple(mixed.sample(key.item).source for key in pair) for pair in pairs(keys))
        assert abs(kinds["both", "both"] - 4) <= 1
        assert sum(kinds.values()) == 8
        assert set(kinds) <= {("both", "both"), ("real", "forged"), ("both", "forged")}
        seen.update("/".join(kind) for kind in kinds.elements())
    assert seen["both/both"] == pytest.approx(160, abs=8)
    # A forged source takes its reals from both of its partners.
    assert seen["both/forged"] == pytest.approx(40, abs=20)


def test_pairs_of_two_sources_and_a_share_of_the_others_are_level() -> None:
    mixed = mixture()
    for level, low, high in ((0.0, 0.0, 0.0), (0.5, 0.35, 0.65), (1.0, 1.0, 1.0)):
        own = []
        for batch in range(40):
            for real, forged in pairs(batches(level=level).keys(batch)):
                sources = {mixed.sample(key.item).source for key in (real, forged)}
                assert (real.twin is None) == (forged.twin is None)
                if real.twin is not None:
                    assert (real.twin, forged.twin) == (forged.item, real.item)
                if len(sources) == 1:
                    own.append(real.twin is not None)
                else:
                    assert real.twin is not None
        assert low <= np.mean(own) <= high


def test_a_source_may_have_a_level_of_its_own() -> None:
    faces = [
        Ingredient("as-others", Faces("as-others", "rf")),
        Ingredient("own", Faces("own", "rf"), level=1.0),
    ]
    mixed = Mixture(faces)
    drawn = MixedBatches(
        mixed, batch_size=16, batches=5, seed=3, position=lambda: 0, size=lambda _: 32, level=0.0
    )
    for key in (key for batch in range(5) for key in drawn.keys(batch)):
        assert (key.twin is not None) == (mixed.sample(key.item).source == "own")


def test_a_face_and_its_own_forgery_may_be_a_pair() -> None:
    class Forge(Faces):
        """Faces of which each file is given twice, as it is and forged."""

        def sample(self, index: int) -> Sample:
            return replace(super().sample(index), image=Path(f"{self.name}-{index // 2}.png"))

    mixed = Mixture(
        [
            Ingredient("others", Faces("others", "rrff")),
            Ingredient("forge", Forge("forge", "rf" * 8)),
            Ingredient("lone", Faces("lone", "f"), partners=("forge",)),
        ]
    )
    stream: dict[str, Any] = {"batch_size": 48, "batches": 5, "seed": 3, "position": lambda: 0}
    for same_face, low, high in ((0.0, 0.0, 0.3), (0.5, 0.4, 0.7), (1.0, 1.0, 1.0)):
        drawn = MixedBatches(mixed, size=lambda _: 32, same_face=same_face, **stream)
        own = []
        for real, forged in (pair for batch in range(5) for pair in pairs(drawn.keys(batch))):
            sources = [mixed.sample(key.item).source for key in (real, forged)]
            assert [mixed.sample(key.item).forged for key in (real, forged)] == [False, True]
            assert sources in (["others"] * 2, ["forge"] * 2, ["forge", "lone"])
            if sources == ["forge"] * 2:
                own.append(forged.item == real.item + 1)
        assert len(own) > 30
        assert low <= np.mean(own) <= high


def test_a_run_goes_on_with_the_very_next_batch() -> None:
    whole = [*batches(), *batches(position=lambda: 5)]
    assert len(whole) == 10
    assert list(batches(position=lambda: 3)) == whole[3:5]
    assert list(batches(position=lambda: 8)) == whole[8:]
    assert [batches().keys(batch) for batch in (7, 2)] == [whole[7], whole[2]]
    assert len({tuple(batch) for batch in whole}) == 10
    assert list(batches(seed=4)) != whole[:5]


def test_processes_and_parts_share_the_batches_of_one() -> None:
    whole = list(batches())
    halves = [list(batches(share=(rank, 2))) for rank in range(2)]
    assert [first + second for first, second in zip(*halves, strict=True)] == whole
    parts = batches(parts=2)
    assert len(parts) == 10
    listed = list(parts)
    assert [listed[i] + listed[i + 1] for i in range(0, 10, 2)] == whole
    quarters = [list(batches(parts=2, share=(rank, 2))) for rank in range(2)]
    joined = [first + second for first, second in zip(*quarters, strict=True)]
    assert [joined[i] + joined[i + 1] for i in range(0, 10, 2)] == whole


def test_a_source_without_a_share_gives_its_class_to_others_only() -> None:
    mixed = Mixture(
        [
            Ingredient("forged", Faces("forged", "ff"), partners=("real",)),
            Ingredient("real", Faces("real", "rr"), share=0.0),
        ]
    )
    some = MixedBatches(mixed, batch_size=8, batches=1, seed=0, position=lambda: 0, size=lambda batch: 32)
    kinds = {tuple(mixed.sample(key.item).source for key in pair) for pair in pairs(some.keys(0))}
    assert kinds == {("real", "forged")}
    nothing = Mixture([Ingredient("both", Faces("both", "rf"), share=0.0)])
    with pytest.raises(InputError, match="no source has a share"):
        MixedBatches(nothing, batch_size=8, batches=1, seed=0, position=lambda: 0, size=lambda batch: 32)


def test_what_cannot_be_mixed_is_refused() -> None:
    with pytest.raises(InputError, match="real: holds no forged image: name partners that do"):
        Mixture([Ingredient("real", Faces("real", "rr"))])
    with pytest.raises(InputError, match="one: holds no forged image"):
        Mixture(
            [Ingredient("one", Faces("one", "r"), partners=("two",)), Ingredient("two", Faces("two", "r"))]
        )
    with pytest.raises(InputError, match="real: no source is called omega"):
        Mixture([Ingredient("real", Faces("real", "rr"), partners=("omega",))])
    with pytest.raises(InputError, match="a batch of 5 cannot be half real"):
        batches(batch_size=5)
    with pytest.raises(InputError, match="cannot be split over 3 processes"):
        batches(share=(0, 3))


def test_twins_are_brought_to_one_size_and_encoding() -> None:
    mixed = mixture()
    crops = Crops(mixed, size=64, length=5, seed=3, augment=STILL)
    for draw in range(20):
        eyes, saves = [], []
        for index, twin in ((7, 10), (10, 7)):  # 80 and 240 pixels
            level = crops._level(draw, index, twin, mixed.load(index, np.random.default_rng(0)))
            assert level is not None
            eyes.append(level.factor * eye_distance(mixed.sample(index)))
            saves.append(level[1:])
            assert 0 < level.factor <= 1
        assert eyes[0] == pytest.approx(eyes[1])
        assert saves[0] == saves[1]
        assert eyes[0] <= eye_distance(mixed.sample(7)) + 1e-6
    assert crops._level(0, 7, None, mixed.load(7, np.random.default_rng(0))) is None
    plain, level = crops[Key(0, 7, 64)]["image"], crops[Key(0, 7, 64, 10)]["image"]
    assert not torch.equal(plain, level)
    assert torch.equal(level, crops[Key(0, 7, 64, 10)]["image"])


def test_what_a_forge_has_shrunk_is_shrunk_by_the_rest() -> None:
    mixed = Mixture([Ingredient("forge", Faces("forge", "rf", side=240, shrink=0.5))])
    crops = Crops(mixed, size=64, length=5, augment=STILL)
    factors = []
    for draw in range(30):
        image = mixed.load(0, np.random.default_rng(0))
        level = crops._level(draw, 0, 1, image)
        assert level is not None
        factors.append(level.factor)
    # To half of the sample's eye distance at the least, which is all of what the forge left.
    assert factors == [1.0] * 30


def test_levelled_images_have_the_size_and_save_of_their_pair() -> None:
    wide, narrow = Faces("wide", "ffff", side=240), Faces("narrow", "rrrrr", side=160)
    source = Levelled(Joined([wide, narrow]), STILL, seed=3)
    eyes = np.empty(len(source))
    for index in range(len(source)):
        image = source.load(index, np.random.default_rng(index))
        eyes[index] = np.linalg.norm(image.points[1] - image.points[0])
        again = source.load(index, np.random.default_rng(index))
        assert np.array_equal(image.image, again.image)
        # the points still lie where they lay in the face
        assert image.points / image.image.shape[1] == pytest.approx(TEMPLATE, abs=0.02)
    limit = eye_distance(narrow.sample(0))
    assert (eyes <= limit * 1.01).all()
    # a forged image and its partner come out alike, to the rounding of their sides
    for forged in range(4):
        assert np.abs(eyes[4:] - eyes[forged]).min() < 1.0
    assert len(np.unique(eyes.round(1))) > 3


def test_levelled_masks_follow_their_image() -> None:
    @dataclass
    class Masked(Faces):
        def load(self, index: int, rng: np.random.Generator) -> LabelledImage:
            image = super().load(index, rng)
            mask = np.zeros(image.image.shape[:2], dtype=np.uint8)
            mask[: len(mask) // 2] = 1
            return image._replace(mask=mask)

    image = Levelled(Masked("both", "rf"), STILL, seed=0).load(1, np.random.default_rng(0))
    assert image.mask is not None
    assert image.mask.shape == image.image.shape[:2]
    assert image.mask.shape[0] < 160
    assert image.mask.mean() == pytest.approx(0.5, abs=0.02)


def test_one_class_cannot_be_levelled() -> None:
    with pytest.raises(InputError, match="one class"):
        Levelled(Faces("forged", "fff"), STILL, seed=0)
