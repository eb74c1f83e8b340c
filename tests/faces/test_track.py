"""Tracking on synthetic boxes and embeddings: unit vectors whose products are chosen."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image as PILImage

from forgerank.faces.track import Observation, Track, assign, embed

Box = tuple[float, float, float, float]
LEFT, RIGHT, FAR = (0, 0, 10, 10), (100, 0, 110, 10), (500, 0, 510, 10)


def embedding(alike: float, person: int = 1) -> NDArray[np.float32]:
    """A unit vector whose product with `embedding(1)` is `alike`."""
    vector = np.zeros(6, np.float32)
    vector[0], vector[person] = alike, np.sqrt(1 - alike * alike)
    return vector


A, B = embedding(1), embedding(0.3)


def follow(*frames: list[tuple[Box, NDArray[np.float32]]], cuts: tuple[int, ...] = ()) -> list[list[int]]:
    """The number of the track of every face, frame by frame."""
    tracks: list[Track] = []
    numbers = []
    for i, frame in enumerate(frames):
        observations = [Observation(box, face) for box, face in frame]
        tracks, assigned = assign(tracks, observations, cut=i in cuts)
        numbers.append(assigned)
    return numbers


def moved(box: Box, x: float) -> Box:
    return (box[0] + x, box[1], box[2] + x, box[3])


def test_a_face_that_moves_stays_one() -> None:
    assert follow(*[[(moved(LEFT, 3 * i), A)] for i in range(5)]) == [[0]] * 5


def test_a_face_that_jumps_is_known_by_its_embedding() -> None:
    assert follow([(LEFT, A)], [(FAR, embedding(0.95))]) == [[0], [0]]
    assert follow([(LEFT, A)], [(FAR, embedding(0.8))]) == [[0], [1]]


def test_a_face_that_turns_is_known_by_its_place() -> None:
    assert follow([(LEFT, A)], [(LEFT, embedding(0.6))]) == [[0], [0]]


def test_over_a_cut_place_means_nothing() -> None:
    assert follow([(LEFT, A)], [(LEFT, embedding(0.8))], cuts=(1,)) == [[0], [1]]
    assert follow([(LEFT, A)], [(LEFT, embedding(0.95))], cuts=(1,)) == [[0], [0]]


def test_another_person_in_the_same_place_is_another() -> None:
    assert follow([(LEFT, A)], [(LEFT, B)]) == [[0], [1]]


def test_place_means_nothing_after_an_absence() -> None:
    assert follow([(LEFT, A)], [], [(LEFT, embedding(0.7))]) == [[0], [], [1]]


def test_who_comes_back_is_joined_again() -> None:
    assert follow([(LEFT, A)], [(LEFT, B)], [], [(RIGHT, A)], cuts=(1, 3)) == [[0], [1], [], [0]]


def test_people_who_cross_keep_their_numbers() -> None:
    frames = [[(moved(LEFT, 25 * i), A), (moved(RIGHT, -25 * i), B)] for i in range(5)]
    assert follow(*frames) == [[0, 1]] * 5


def test_people_who_swap_sides_keep_their_numbers() -> None:
    assert follow([(LEFT, A), (RIGHT, B)], [(LEFT, B), (RIGHT, A)], cuts=(1,)) == [[0, 1], [1, 0]]


def test_people_who_look_alike_are_told_by_place() -> None:
    twin = embedding(0.96)
    frames = [[(moved(LEFT, i), A), (moved(RIGHT, i), twin)] for i in range(3)]
    swapped = [face if i % 2 else face[::-1] for i, face in enumerate(frames)]
    assert follow(*swapped) == [[0, 1], [1, 0], [0, 1]]


def test_two_faces_never_share_a_track() -> None:
    assert follow([(LEFT, A)], [(LEFT, A), (RIGHT, A)]) == [[0], [0, 1]]


def test_several_embeddings_of_a_person_are_remembered() -> None:
    turned = embedding(0.6, person=2)
    frames = [[(LEFT, A)], [(LEFT, turned)], [(RIGHT, B)], [(FAR, turned)], [(LEFT, A)]]
    assert follow(*frames, cuts=(2, 3, 4)) == [[0], [0], [1], [0], [0]]


@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, 3), st.integers(1, 4), st.floats(-1, 1)), max_size=4), max_size=8
    )
)
def test_every_face_has_its_own_track_and_memory_is_bounded(
    frames: list[list[tuple[int, int, float]]],
) -> None:
    tracks: list[Track] = []
    total = 0
    for frame in frames:
        observations = [
            Observation(moved(LEFT, 5 * x), embedding(alike, person)) for x, person, alike in frame
        ]
        before = len(tracks)
        tracks, numbers = assign(tracks, observations)
        total += len(observations)
        assert len(set(numbers)) == len(numbers)
        assert before <= len(tracks) <= total
        assert sorted(number for number in numbers if number >= before) == list(range(before, len(tracks)))
        assert all(len(track.embeddings) <= 8 for track in tracks)


def test_an_embedding_ignores_light_and_tells_people_apart(astronaut: NDArray[np.uint8]) -> None:
    crop = astronaut[60:180, 160:280]
    own = embed(crop)
    assert own.shape == (432,)
    assert float(own @ own) == pytest.approx(1)
    assert float(own @ embed((crop * 0.7 + 20).astype(np.uint8))) > 0.98
    shifted = np.asarray(PILImage.fromarray(astronaut[62:182, 161:281]).resize((64, 64)))
    assert float(own @ embed(shifted)) > 0.9
    assert float(own @ embed(crop[:, ::-1, ::-1])) < 0.5
    assert np.isfinite(embed(np.zeros((32, 32, 3), np.uint8))).all()
