"""What is kept of the people of a video: three telling frames each, and a bound for all."""

from dataclasses import replace

import numpy as np
import pytest

from forgerank.detect import Detector
from forgerank.detect.people import People
from forgerank.detect.result import Component, FaceReport
from forgerank.faces.align import Alignment
from forgerank.media.videos import Sample
from forgerank.types import Quality

GOOD = Quality(size=200, sharpness=300, brightness=0.5, clipped=0.0, yaw=0, pitch=0, roll=0)
SMALL = replace(GOOD, size=20)
NAMES = ("nose", "eye", "eyebrow", "lip", "hair")


def face(
    probability: float,
    quality: Quality = GOOD,
    components: tuple[float, ...] = (0.0,) * 5,
    order: tuple[float, ...] = (0.0,) * 5,
) -> FaceReport:
    return FaceReport(
        box=(100, 50, 300, 250),
        detection_score=0.9,
        quality=quality,
        verdict="forged" if probability >= 0.6 else "real",
        reason=None,
        forged_probability=probability,
        components=tuple(Component(name, value, None) for name, value in zip(NAMES, components, strict=True)),
        alignment=Alignment(np.array([[0.5, 0, -30], [0, 0.5, -10]]), 64),
        component_maps=np.zeros((5, 8, 8), np.float32),
        dissimilarity=np.zeros((8, 8), np.float32),
        order_scores=order,
    )


def sample(number: int, size: tuple[int, int] = (90, 160)) -> Sample:
    return Sample(number, number / 2, np.full((*size, 3), number % 256, np.uint8))


@pytest.fixture
def people(tiny_detector: Detector) -> People:
    return People(tiny_detector.metadata)


def test_the_most_telling_frames_are_kept_apart(people: People) -> None:
    for number, probability in enumerate([0.1, 0.9, 0.8, 0.3, 0.2, 0.5, 0.95, 0.1]):
        people.add(sample(number), [face(probability)], [0])
    [track] = people.tracks()
    assert [key.moment.frame for key in track.key_frames] == [6, 1, 3]
    assert all(key.image[0, 0, 0] == key.moment.frame for key in track.key_frames)


def test_a_face_that_cannot_be_judged_tells_least(people: People) -> None:
    people.add(sample(0), [face(1.0, SMALL)], [0])
    people.add(sample(4), [face(0.1)], [0])
    [track] = people.tracks()
    assert [key.moment.frame for key in track.key_frames] == [4, 0]


def test_bad_frames_do_not_count(people: People) -> None:
    for number, (probability, quality) in enumerate([(0.9, GOOD), (0.9, GOOD), (0.9, GOOD), (0.01, SMALL)]):
        people.add(sample(number), [face(probability, quality)], [0])
    [track] = people.tracks()
    assert track.verdict == "forged"
    assert track.forged_probability == pytest.approx(0.9)
    assert len(track.moments) == 4


def test_components_and_order_come_from_the_frames_that_are_forged(people: People) -> None:
    forged = face(0.95, components=(0.9, 0.8, 0.0, 0.0, 0.0), order=(0.1, 0.9, 0.0, 0.0, 0.0))
    other = face(0.95, components=(0.9, 0.4, 0.0, 0.0, 0.0), order=(0.3, 0.5, 0.0, 0.0, 0.0))
    real = face(0.55, components=(0.0, 0.0, 0.0, 1.0, 0.0), order=(0.9, 0.0, 0.0, 1.0, 0.0))
    for number, report in enumerate([forged, other, real]):
        people.add(sample(number), [report], [0])
    [track] = people.tracks()
    assert track.verdict == "forged"
    assert [component.name for component in track.sequence] == ["eye", "nose"]
    assert [component.probability for component in track.sequence] == pytest.approx([0.6, 0.9])


def test_people_are_numbered_and_timed(people: People) -> None:
    people.add(sample(0), [face(0.1)], [0])
    people.add(sample(1), [face(0.1), face(0.1)], [1, 0])
    people.add(sample(3), [face(0.1)], [1])
    assert [(t.number, t.start, t.end, len(t.moments)) for t in people.tracks()] == [
        (1, 0.0, 0.5, 2),
        (2, 0.5, 1.5, 2),
    ]


def test_a_large_frame_is_scaled_with_its_face(people: People) -> None:
    report = face(0.9)
    people.add(sample(0, (1440, 2560)), [report], [0])
    [key] = people.tracks()[0].key_frames
    assert key.image.shape == (720, 1280, 3)
    assert key.face.box == (50, 25, 150, 125)
    assert key.moment.box == report.box
    points = np.array([[100, 80], [333, 7]], np.float32)
    np.testing.assert_allclose(key.face.alignment.to_crop(points / 2), report.alignment.to_crop(points))


def test_the_images_of_all_people_have_a_bound(people: People) -> None:
    for number in range(100):
        people.add(sample(number), [face(0.5 + 0.004 * number)], [number])
    tracks = people.tracks()
    assert len(tracks) == 100
    assert sum(len(track.key_frames) for track in tracks) == 60
    assert not tracks[0].key_frames
    assert tracks[99].key_frames
