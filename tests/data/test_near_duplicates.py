"""Copies are found across sets, whatever was done to them on the way, and each rule leaves the right one."""

import io
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image as PILImage

from forgerank.data.check.near_duplicates import (
    REASONS,
    Duplicate,
    find_duplicates,
    perceptual_hash,
    thumbnail,
)

Print = tuple[int, NDArray[np.uint8]]  # hash and thumbnail
Row = tuple[int, str, str, str, bool]  # image, source, group, split, forged


def make_crop(seed: int) -> NDArray[np.uint8]:
    """A smooth coloured image of its own, (128, 128, 3)."""
    rng = np.random.default_rng(seed)
    small = PILImage.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8))
    return np.asarray(small.resize((128, 128), PILImage.Resampling.BICUBIC))


def saved(crop: NDArray[np.uint8], side: int, quality: int) -> NDArray[np.uint8]:
    """The same at another size and back, through a lossy save."""
    stream = io.BytesIO()
    PILImage.fromarray(crop).resize((side, side)).save(stream, "JPEG", quality=quality)
    return np.asarray(PILImage.open(stream).convert("RGB").resize((128, 128)))


def swapped(crop: NDArray[np.uint8], seed: int) -> NDArray[np.uint8]:
    """The same photograph with other fine pixels in the middle of the face: its coarse structure stays."""
    other = crop.copy()
    rng = np.random.default_rng(seed)
    noise = np.kron(rng.choice([-60, 60], (16, 10, 1)), np.ones((4, 4, 3), np.int64))
    other[40:104, 44:84] = np.clip(other[40:104, 44:84] + noise, 0, 255)
    return other


def find(crops: list[NDArray[np.uint8]], rows: list[Row], **options: float) -> list[Duplicate]:
    return find_by([take_print(crop) for crop in crops], rows, **options)


def take_print(crop: NDArray[np.uint8]) -> Print:
    return perceptual_hash(crop) or 0, thumbnail(crop)


@cache
def three_images() -> list[Print]:
    """Each with a copy behind it."""
    pairs = ((make_crop(seed), saved(make_crop(seed), 100, 70)) for seed in range(3))
    return [take_print(crop) for pair in pairs for crop in pair]


def find_by(prints: list[Print], rows: list[Row], **options: float) -> list[Duplicate]:
    return find_duplicates(
        np.array([prints[row[0]][0] for row in rows], np.uint64),
        np.array([prints[row[0]][1] for row in rows], np.uint8).reshape(-1, 32, 32),
        *([row[place] for row in rows] for place in (1, 2, 3)),
        [row[4] for row in rows],
        **options,
    )


def brief(found: list[Duplicate]) -> list[tuple[int | None, int, str]]:
    return [(item.kept, item.dropped, item.reason) for item in found]


@pytest.fixture(scope="module")
def crops() -> list[NDArray[np.uint8]]:
    first = make_crop(0)
    return [
        first,
        saved(first, 90, 60),
        swapped(first, 1),
        make_crop(2),
        np.full((128, 128, 3), 90, np.uint8),
    ]


IMAGE, COPY, SWAP, OTHER, FLAT = range(5)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        # Frames of one video and forgeries of one photograph are left alone, and so is what differs.
        ([(IMAGE, "a", "g", "train", False), (COPY, "a", "g", "train", True)], []),
        ([(IMAGE, "a", "g", "train", False), (OTHER, "b", "g", "val", True)], []),
        ([(FLAT, "a", "g", "train", False), (FLAT, "b", "g", "val", True)], []),
        (
            [(IMAGE, "a", "g", "train", False), (COPY, "b", "g", "train", True)],
            [(None, 0, "both labels"), (None, 1, "both labels")],
        ),
        (
            [(IMAGE, "a", "g", "train", False), (COPY, "a", "h", "val", False)],
            [(1, 0, "in validation")],
        ),
        (
            [(IMAGE, "a", "g", "val", False), (COPY, "b", "g", "test", False)],
            [(1, 0, "in test")],
        ),
        (
            [(IMAGE, "a", "g", "train", False), (COPY, "b", "h", "train", False)],
            [(0, 1, "repeated")],
        ),
        # A photograph and a forgery of it, as two sets hold them: fine in one split, a leak in two.
        ([(IMAGE, "a", "g", "train", False), (SWAP, "b", "h", "train", True)], []),
        (
            [(IMAGE, "a", "g", "train", False), (SWAP, "b", "h", "val", True)],
            [(1, 0, "in validation")],
        ),
        # The rest of a training group goes too: it shows the same person or video.
        (
            [
                *((OTHER, "a", "g", "train", False), (IMAGE, "a", "g", "train", False)),
                *((SWAP, "b", "h", "val", True), (FLAT, "c", "h", "train", False)),
            ],
            [(2, 0, "group in validation"), (2, 1, "in validation")],
        ),
        # What stays is never what goes for another reason.
        (
            [
                *((COPY, "a", "g", "val", False), (IMAGE, "b", "h", "val", False)),
                (IMAGE, "c", "i", "train", False),
            ],
            [(0, 1, "repeated"), (0, 2, "in validation")],
        ),
        # Both labels: nothing is left that could leak, nor be repeated.
        (
            [
                *((IMAGE, "a", "g", "train", False), (COPY, "b", "h", "val", True)),
                (OTHER, "a", "g", "train", False),
            ],
            [(None, 0, "both labels"), (None, 1, "both labels")],
        ),
    ],
)
def test_rules(
    crops: list[NDArray[np.uint8]], rows: list[Row], expected: list[tuple[int | None, int, str]]
) -> None:
    found = find(crops, rows)
    assert brief(found) == expected
    assert {item.reason for item in found} <= set(REASONS)
    assert all(item.bits <= 6 for item in found)


def test_a_swap_is_one_photograph_and_not_one_image(crops: list[NDArray[np.uint8]]) -> None:
    rows = [(IMAGE, "a", "g", "train", False), (SWAP, "b", "h", "val", True)]
    [found] = find(crops, rows)
    assert found.difference > 5
    assert found.bits <= 6
    assert brief(find(crops, rows, difference=50)) == [(None, 0, "both labels"), (None, 1, "both labels")]


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    side=st.integers(64, 200),
    quality=st.integers(50, 95),
    light=st.floats(0.8, 1.1),
)
def test_copies_are_found_and_others_are_not(seed: int, side: int, quality: int, light: float) -> None:
    crop = make_crop(seed)
    copy = np.clip(saved(crop, side, quality) * light, 0, 255).astype(np.uint8)
    crops = [crop, copy, *(make_crop(20_000 + 5 * seed + number) for number in range(5))]
    rows = [(place, "ab"[place % 2], f"{place}", "train", False) for place in range(len(crops))]
    assert brief(find(crops, rows)) == [(0, 1, "repeated")]


_ROWS = st.lists(
    st.tuples(
        st.integers(0, 5),
        st.sampled_from("ab"),
        st.sampled_from("gh"),
        st.sampled_from(("train", "val", "test")),
        st.booleans(),
    ),
    max_size=14,
)


@settings(max_examples=100, deadline=None)
@given(rows=_ROWS, order=st.randoms(use_true_random=False))
def test_what_stays_is_free_of_duplicates(rows: list[Row], order: object) -> None:
    prints = three_images()
    found = find_by(prints, rows)
    gone = {item.dropped for item in found}
    assert len(gone) == len(found)
    assert not {item.kept for item in found} & gone
    staying = [row for place, row in enumerate(rows) if place not in gone]
    for place, one in enumerate(staying):
        for other in staying[:place]:
            if one[0] // 2 == other[0] // 2 and one[1:3] != other[1:3]:
                raise AssertionError(f"{one} and {other} show the same")
    # Nothing of the held-out splits goes for the sake of training, and no order decides between splits.
    for item in found:
        if item.kept is not None:
            ranks = [("train", "val", "test").index(rows[place][3]) for place in (item.kept, item.dropped)]
            assert ranks[0] == ranks[1] if item.reason == "repeated" else ranks[0] > ranks[1]
    places = list(range(len(rows)))
    order.shuffle(places)  # type: ignore[attr-defined]
    again = find_by(prints, [rows[place] for place in places])
    strict = sorted(places[item.dropped] for item in again if item.reason != "repeated")
    assert strict == [item.dropped for item in found if item.reason != "repeated"]


def test_a_cluster_is_bounded_and_nothing_in_it_is_lost() -> None:
    rng = np.random.default_rng(0)
    count = 250
    small = np.clip(thumbnail(make_crop(0))[None] + rng.integers(-2, 3, (count, 32, 32)), 0, 255)
    names = [f"{place}" for place in range(count)]
    found = find_duplicates(
        np.full(count, 77, np.uint64),
        small.astype(np.uint8),
        ["a"] * count,
        names,
        ["train"] * count,
        [False] * count,
    )
    assert [item.dropped for item in found] == list(range(1, count))
    assert {item.kept for item in found} == {0}


def test_nothing_and_what_cannot_be_compared() -> None:
    empty = np.zeros((0, 32, 32), np.uint8)
    assert find_duplicates(np.zeros(0, np.uint64), empty, [], [], [], []) == []
    one = np.zeros((1, 32, 32), np.uint8)
    with pytest.raises(ValueError, match="as many hashes"):
        find_duplicates(np.zeros(1, np.uint64), one, ["a"], ["g"], [], [False])
    with pytest.raises(ValueError, match="splits must be of train, val, test, got dev"):
        find_duplicates(np.zeros(1, np.uint64), one, ["a"], ["g"], ["dev"], [False])
