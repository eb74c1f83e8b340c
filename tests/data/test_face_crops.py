from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from forgerank.data.augmentation import AugmentConfig
from forgerank.data.batches import (
    ALONE,
    Crops,
    EvenBatches,
    Key,
    StreamBatches,
    eye_distance,
    shared_out,
    shuffled,
)
from forgerank.data.sample import LabelledImage, Sample
from forgerank.faces.align import TEMPLATE
from forgerank.labels import face_labels, ranks
from forgerank.types import InputError


@dataclass
class Noise:
    """Images made on the fly from the generator that the loader hands over."""

    count: int = 4

    def __len__(self) -> int:
        return self.count

    def sample(self, index: int) -> Sample:
        raise NotImplementedError

    def load(self, index: int, rng: np.random.Generator) -> LabelledImage:
        image = rng.integers(0, 256, size=(40, 40, 3), dtype=np.uint8)
        return LabelledImage(image, TEMPLATE * 40, (4, 2), np.zeros((40, 40), dtype=np.uint8))


def test_an_item_holds_the_labels_of_equations_1_and_2() -> None:
    item = Crops(Noise(), size=32, length=5, mask_size=4)[3]
    assert item["presence"].tolist() == [0, 1, 0, 1, 0]
    assert item["sequence"].tolist() == [4, 2, 0, 0, 0]
    assert ranks(item["sequence"], 5).tolist() == [5, 2, 5, 1, 5]
    assert item["image"].shape == (3, 32, 32)
    assert item["image"].dtype == torch.uint8
    assert item["masks"].shape == (5, 4, 4)
    assert item["index"].item() == 3


def test_items_depend_on_seed_draw_and_index_alone() -> None:
    crops = Crops(Noise(), size=32, length=5, seed=1, augment=AugmentConfig())
    again = Crops(Noise(), size=32, length=5, seed=1, augment=AugmentConfig())
    first = crops[2, 1, 32]["image"]
    assert torch.equal(first, again[2, 1, 32]["image"])
    for other in (crops[3, 1, 32], crops[2, 0, 32]):
        assert not torch.equal(first, other["image"])
    reseeded = Crops(Noise(), size=32, length=5, seed=2, augment=AugmentConfig())
    assert not torch.equal(first, reseeded[2, 1, 32]["image"])
    assert crops[2, 1, 48]["image"].shape == (3, 48, 48)


def stream(position: int, *, batches: int = 5, **split: Any) -> list[list[Key]]:
    return list(
        StreamBatches(
            list("aabbccd"),
            batch_size=4,
            batches=batches,
            seed=3,
            position=lambda: position,
            size=lambda batch: 32 + batch,
            **split,
        )
    )


def test_each_pass_of_the_stream_shows_every_image_once() -> None:
    keys = [key for batch in stream(0, batches=7) for key in batch]
    for draw in range(4):
        assert sorted(index for d, index, *_ in keys if d == draw) == list(range(7))
    orders = [[index for d, index, *_ in keys if d == draw] for draw in range(2)]
    assert orders[0] != orders[1]


def test_a_stream_resumes_with_the_very_next_batch() -> None:
    whole = stream(0) + stream(5)
    assert stream(3) == whole[3:5]
    assert stream(8) == whole[8:]
    assert [batch[0][2] for batch in whole] == [32 + i for i in range(10)]


def test_processes_and_parts_share_the_batches_of_one() -> None:
    whole = stream(0)
    halves = [stream(0, share=(rank, 2)) for rank in range(2)]
    assert [first + second for first, second in zip(*halves, strict=True)] == whole
    parts = stream(3, parts=2)
    assert [parts[i] + parts[i + 1] for i in (0, 2)] == whole[3:]
    quarters = [stream(1, parts=2, share=(rank, 2)) for rank in range(2)]
    # Of each part of a batch every process sees its share.
    joined = [first + second for first, second in zip(*quarters, strict=True)]
    assert [joined[i] + joined[i + 1] for i in range(0, 8, 2)] == whole[1:]


def test_a_batch_must_split_evenly() -> None:
    with pytest.raises(InputError, match="cannot be split over 3 processes x 1 parts"):
        stream(0, share=(0, 3))
    with pytest.raises(InputError, match="cannot be split over 2 processes x 4 parts"):
        stream(0, share=(0, 2), parts=4)


@given(count=st.integers(1, 60), processes=st.integers(1, 7), batch_size=st.integers(1, 20))
def test_processes_share_a_pass_without_repeating(count: int, processes: int, batch_size: int) -> None:
    assume(count >= processes)
    shares = [EvenBatches(count, batch_size=batch_size, share=(rank, processes)) for rank in range(processes)]
    batches = [list(share) for share in shares]
    assert sorted(i for share in batches for batch in share for i in batch) == list(range(count))
    assert len({len(share) for share in batches}) == 1  # they meet in every batch
    assert [len(share) for share in shares] == [len(share) for share in batches]
    assert all(1 <= len(batch) <= max(batch_size // processes, 2) for share in batches for batch in share)


def test_one_process_sees_everything_in_order() -> None:
    assert list(EvenBatches(7, batch_size=3)) == [[0, 1, 2], [3, 4], [5, 6]]
    with pytest.raises(InputError, match="1 image cannot be split over 2 processes"):
        EvenBatches(1, batch_size=4, share=(0, 2))


def test_images_of_a_group_stand_together() -> None:
    groups = list("abcabcabcab")
    order = shuffled(groups, 2, np.random.default_rng(0))
    assert sorted(order.tolist()) == list(range(11))
    assert not np.array_equal(order, shuffled(groups, 2, np.random.default_rng(1)))
    pairs = [groups[a] == groups[b] for a, b in pairwise(order)]
    assert sum(pairs) >= 5  # two of a, two of b, one of c, all drawn side by side


def test_an_empty_split_is_refused() -> None:
    with pytest.raises(InputError, match="no usable image"):
        StreamBatches([], batch_size=1, batches=1, seed=0, position=lambda: 0, size=lambda batch: 32)


@dataclass
class Known(Noise):
    """Images of which no more is known than `parts` and `fake` say."""

    parts: tuple[int | None, ...] | None = None
    fake: bool = True
    marked: bool = False  # whether there is a mask

    def load(self, index: int, rng: np.random.Generator) -> LabelledImage:
        image = super().load(index, rng)
        mask = image.mask if self.marked else None
        return LabelledImage(image.image, image.points, (), mask, self.parts, self.fake)


def test_an_item_says_what_is_unknown() -> None:
    item = Crops(Known(parts=(1, 0, None, 1, None)), size=32, length=5, mask_size=4)[0]
    assert item["presence"].tolist() == [1, 0, 0, 1, 0]
    assert item["known"].tolist() == [True, True, False, True, False]
    assert item["sequence"].tolist() == [0] * 5
    assert (item["forged"].item(), item["ordered"].item()) == (1.0, False)
    # Only what was left alone is known to have an empty mask.
    assert item["masks_known"].tolist() == [False, True, False, False, False]
    marked = Crops(Known(parts=(1, 0, None, 1, None), marked=True), size=32, length=5, mask_size=4)[0]
    assert marked["masks_known"].tolist() == [True, True, False, True, False]
    forged = Crops(Known(), size=32, length=5, mask_size=4)[0]
    assert (forged["forged"].item(), forged["known"].any().item()) == (1.0, False)
    assert not forged["masks_known"].any()
    real = Crops(Known(fake=False), size=32, length=5, mask_size=4)[0]
    assert (real["forged"].item(), real["ordered"].item()) == (0.0, True)
    assert real["known"].all()
    assert real["masks_known"].all()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (((4, 2), None, False), (True, (0, 1, 0, 1, 0), (4, 2, 0, 0, 0), True)),
        (((), None, False), (False, (0,) * 5, (0,) * 5, True)),
        (((), None, True), (True, (None,) * 5, (0,) * 5, False)),
        (((), (0, 1, 0, 0, 0), False), (True, (0, 1, 0, 0, 0), (2, 0, 0, 0, 0), True)),  # one has an order
        (((), (0, 1, 1, 0, 0), False), (True, (0, 1, 1, 0, 0), (0,) * 5, False)),
        (((), (0, 1, None, 0, 0), False), (True, (0, 1, None, 0, 0), (0,) * 5, False)),
        (((), (0,) * 5, True), (True, (0,) * 5, (0,) * 5, False)),  # forged elsewhere
        (((), (0,) * 5, False), (False, (0,) * 5, (0,) * 5, True)),
        (((), (None,) * 5, False), (False, (None,) * 5, (0,) * 5, False)),
    ],
)
def test_the_answer_follows_from_what_is_known(arguments: Any, expected: Any) -> None:
    sequence, parts, fake = arguments
    assert tuple(face_labels(sequence, 5, parts=parts, fake=fake)) == expected


def test_answers_that_contradict_themselves() -> None:
    with pytest.raises(ValueError, match="leaves nothing to be known in part"):
        face_labels((1,), 5, parts=(1, 0, 0, 0, 0))
    for parts in ((1, 0), (2, 0, 0, 0, 0)):
        with pytest.raises(ValueError, match="expected 5 labels"):
            face_labels((), 5, parts=parts)


def test_a_batch_in_parts_over_processes() -> None:
    keys = list(range(12))
    pieces = [list(shared_out(keys, 2, (rank, 3))) for rank in range(3)]
    assert [piece[0] for piece in pieces] == [[0, 1], [2, 3], [4, 5]]
    assert [piece[1] for piece in pieces] == [[6, 7], [8, 9], [10, 11]]
    assert list(shared_out(keys, 1, ALONE)) == [keys]
    with pytest.raises(InputError, match="a batch of 12 cannot be split over 5 processes x 1 parts"):
        list(shared_out(keys, 1, (0, 5)))


def test_a_zoom_shows_less_around_the_face() -> None:
    near, far = (Crops(Noise(), size=32, length=5, seed=1, zoom=zoom)[0]["image"] for zoom in (1.3, 1.0))
    assert near.shape == far.shape
    assert not torch.equal(near, far)


def test_a_face_without_points_has_no_size() -> None:
    sample = Sample(Path("a.png"), (), "a", "train", "x")
    with pytest.raises(InputError, match=r"a\.png: no points of the face are known"):
        eye_distance(sample)
    assert eye_distance(replace(sample, points=TEMPLATE * 100)) == pytest.approx(26.7, abs=0.1)
