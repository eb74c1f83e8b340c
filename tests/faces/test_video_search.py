"""Faces of frames in a row: nothing that a thorough search of every frame finds is missed for long."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as PILImage

from forgerank.faces.analyze import FaceAnalyzer
from forgerank.faces.video_search import VideoFaceSearch
from forgerank.types import Detection, Face

Pixels = NDArray[np.uint8]


@pytest.fixture(scope="module")
def analyzer() -> FaceAnalyzer:
    return FaceAnalyzer()


@pytest.fixture
def thorough(analyzer: FaceAnalyzer, monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """Grows by one for every thorough search."""
    calls: list[None] = []
    detect: Callable[..., list[Detection]] = analyzer.detector.detect

    def counted(image: Pixels, **options: float) -> list[Detection]:
        calls.append(None)
        return detect(image, **options)

    monkeypatch.setattr(analyzer.detector, "detect", counted)
    return calls


def scene(image: Pixels, *places: tuple[int, int], side: int = 384) -> Pixels:
    """A frame of 1280 x 720 with the image at these places; a face is a quarter of `side`."""
    frame = np.full((720, 1280, 3), 60, np.uint8)
    frame[::40] = 90
    small = np.asarray(PILImage.fromarray(image).resize((side, side)))
    for x, y in places:
        frame[y : y + side, x : x + side] = small
    return frame


def centres(faces: list[Face]) -> list[int]:
    return sorted(round((face.box[0] + face.box[2]) / 2) for face in faces)


def test_a_face_that_the_quick_search_misses_is_searched_where_it_was(
    analyzer: FaceAnalyzer, thorough: list[None], astronaut: Pixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(analyzer.detector, "detect_large", lambda image: [])
    search = VideoFaceSearch(analyzer)
    for i in range(5):
        faces, cut = search.find(scene(astronaut, (600 + 10 * i, 200)), 0.4 * i)
        assert centres(faces) == [pytest.approx(600 + 10 * i + 0.437 * 384, abs=12)]
        assert not cut
    assert len(thorough) == 1


def test_a_face_that_enters_is_found(analyzer: FaceAnalyzer, astronaut: Pixels) -> None:
    search = VideoFaceSearch(analyzer)
    search.find(scene(astronaut, (100, 200), side=500), 0.0)
    faces, _ = search.find(scene(astronaut, (100, 200), (700, 200), side=500), 0.5)
    assert len(faces) == 2


def test_a_small_face_that_enters_is_found_after_a_while(analyzer: FaceAnalyzer, astronaut: Pixels) -> None:
    search = VideoFaceSearch(analyzer)
    search.find(scene(astronaut, (100, 200)), 0.0)
    both = scene(astronaut, (100, 200), (800, 300))
    assert [len(search.find(both, time)[0]) for time in (0.5, 2.6)][-1] == 2


def test_a_face_that_is_gone_and_a_cut_make_it_search(
    analyzer: FaceAnalyzer, thorough: list[None], astronaut: Pixels
) -> None:
    search = VideoFaceSearch(analyzer)
    search.find(scene(astronaut, (100, 200)), 0.0)
    faces, cut = search.find(scene(astronaut, (880, 300)), 0.5)
    assert centres(faces) == [pytest.approx(880 + 0.437 * 384, abs=12)]
    assert len(thorough) == 2
    negative = (255 - scene(astronaut)).astype(np.uint8)
    negative[:, ::2] //= 4
    negative[300:] //= 3
    faces, cut = search.find(negative, 0.9)
    assert (faces, cut) == ([], True)


def test_brightness_is_no_cut(analyzer: FaceAnalyzer, astronaut: Pixels) -> None:
    search = VideoFaceSearch(analyzer)
    frame = scene(astronaut, (100, 200), side=500)
    search.find(frame, 0.0)
    assert not search.find((frame * 0.6).astype(np.uint8), 0.5)[1]


def test_other_detectors_search_every_frame_whole(analyzer: FaceAnalyzer, astronaut: Pixels) -> None:
    class Other:
        def detect(self, image: Pixels) -> list[Detection]:
            return [Detection((177.0, 65.0, 270.0, 170.0), 0.9, points)]

    [found] = analyzer.detector.detect(astronaut)[:1]
    points = found.points
    plain = FaceAnalyzer()
    plain.detector = Other()
    search = VideoFaceSearch(plain)
    assert [len(search.find(astronaut, time)[0]) for time in (0.0, 0.5)] == [1, 1]


@pytest.mark.parametrize("turn", [1, 2, 3])
def test_frames_that_do_not_stand_upright(
    analyzer: FaceAnalyzer, thorough: list[None], astronaut: Pixels, turn: int
) -> None:
    """A camera that hung upside down, or lay on its side, and says nothing of it."""
    frames = [scene(astronaut, (600 + 10 * i, 200), side=500) for i in range(4)]
    [upright] = analyzer.analyze(frames[0])
    thorough.clear()
    search = VideoFaceSearch(analyzer)
    for i, frame in enumerate(frames):
        [face], _ = search.find(np.ascontiguousarray(np.rot90(frame, turn)), 0.4 * i)
        difference = (face.quality.roll - upright.quality.roll + 90 * turn + 180) % 360 - 180
        assert abs(difference) < 5
        assert face.quality.size == pytest.approx(upright.quality.size, rel=0.25)
    assert len(thorough) <= 2  # the first frame, as it is and turned
