"""BlazeFace over views: the astronaut at every size, cut, turned, twice; and nothing where nothing is."""

import numpy as np
import pytest
from PIL import Image as PILImage
from skimage.data import astronaut

from forgerank.faces.boxes import containment, non_maximum_suppression, overlaps
from forgerank.faces.detect import BlazeFaceDetector, blazeface_anchors, five_of_six, suppress, tiles
from forgerank.types import Detection

FACE = (173.0, 68.0, 280.0, 174.0)  # the astronaut's face, by eye
EYES = np.array([[203.0, 102.0], [247.0, 102.0]])


@pytest.fixture(scope="module")
def detector() -> BlazeFaceDetector:
    return BlazeFaceDetector()


@pytest.fixture(scope="module")
def portrait() -> np.ndarray:
    """Head and shoulders of the astronaut, 240 px; the face has 44 % of the side."""
    return np.ascontiguousarray(astronaut()[:240, 110:350])


def iou(box: tuple[float, ...], other: tuple[float, ...]) -> float:
    return float(overlaps(np.array(box, dtype=np.float32), np.array([other], dtype=np.float32))[0])


def on_canvas(shape: tuple[int, int], *pasted: tuple[np.ndarray, tuple[int, int], int]) -> np.ndarray:
    """Grey canvas (H, W) with images pasted at (x, y) and resized to a side in pixels."""
    canvas = PILImage.new("RGB", (shape[1], shape[0]), (120, 120, 120))
    for image, corner, side in pasted:
        canvas.paste(PILImage.fromarray(image).resize((side, side), PILImage.Resampling.LANCZOS), corner)
    return np.asarray(canvas)


def test_astronaut(detector: BlazeFaceDetector) -> None:
    (face,) = detector.detect(astronaut())
    assert iou(face.box, FACE) > 0.7
    assert 0.7 < face.score <= 1.0
    assert face.points.shape == (5, 2)
    assert face.points.dtype == np.float32
    assert np.abs(face.points[:2] - EYES).max() < 10
    left_mouth, right_mouth = face.points[3:]
    assert left_mouth[0] < face.points[2, 0] < right_mouth[0]
    assert face.points[2, 1] < left_mouth[1] < FACE[3]


@pytest.mark.parametrize(
    ("shape", "most"), [((32767, 2), 1), ((2, 32767), 1), ((63, 30000), 1), ((64, 32767), 300)]
)
def test_a_strip_is_searched_in_no_more_pieces_than_can_hold_a_face(
    monkeypatch: pytest.MonkeyPatch, detector: BlazeFaceDetector, shape: tuple[int, int], most: int
) -> None:
    searched = []
    monkeypatch.setattr(detector, "_detect_piece", lambda image, smallest: searched.append(image) or [])
    assert detector.detect(np.zeros((*shape, 3), np.uint8)) == []
    assert 1 <= len(searched) <= most


def test_a_mirror_image_has_the_mirrored_detection(detector: BlazeFaceDetector) -> None:
    image = astronaut()[:, :511]
    (face,), (other,) = (detector.detect(np.ascontiguousarray(side)) for side in (image, image[:, ::-1]))
    x0, y0, x1, y1 = other.box
    assert (511 - x1, y0, 511 - x0, y1) == pytest.approx(face.box, abs=1e-3)
    assert other.score == pytest.approx(face.score, abs=1e-6)
    mirrored = other.points[[1, 0, 2, 4, 3]] * (-1, 1) + (511, 0)
    assert mirrored == pytest.approx(face.points, abs=1e-3)


@pytest.mark.parametrize(
    ("share", "shape"),
    [(0.022, (1600, 1200)), (0.04, (900, 1200)), (0.09, (512, 512)), (0.3, (400, 400)), (0.3, (300, 900))],
)
def test_found_at_every_size(
    detector: BlazeFaceDetector, portrait: np.ndarray, share: float, shape: tuple[int, int]
) -> None:
    """The share is that of the face's width in the canvas's long side."""
    side = min(round(share * max(shape) * portrait.shape[0] / (FACE[2] - FACE[0])), min(shape))
    scale = side / portrait.shape[0]
    corner = (round(0.61 * (shape[1] - side)), round(0.37 * (shape[0] - side)))
    (face,) = detector.detect(on_canvas(shape, (portrait, corner, side)))
    expected = tuple(corner[i % 2] + scale * (value - (110.0, 0.0)[i % 2]) for i, value in enumerate(FACE))
    assert iou(face.box, expected) > 0.6


@pytest.mark.parametrize("margin", [0, -10])
def test_face_that_fills_the_image_or_is_cut(detector: BlazeFaceDetector, margin: int) -> None:
    x0, y0, x1, y1 = (int(value) for value in FACE)
    close = np.ascontiguousarray(astronaut()[y0 - margin : y1 + margin, x0 - margin : x1 + margin])
    enlarged = np.asarray(PILImage.fromarray(close).resize((300, 300)))
    (face,) = detector.detect(enlarged)
    scale = 300 / (x1 - x0 + 2 * margin)
    eyes = (EYES - (x0 - margin, y0 - margin)) * scale
    assert np.abs(face.points[:2] - eyes).max() < 0.08 * 300


def test_several_faces_of_different_sizes(detector: BlazeFaceDetector, portrait: np.ndarray) -> None:
    mirrored = np.ascontiguousarray(portrait[:, ::-1])
    canvas = on_canvas(
        (600, 800), (portrait, (20, 60), 400), (mirrored, (480, 20), 240), (portrait, (560, 400), 130)
    )
    faces = detector.detect(canvas)
    assert len(faces) == 3
    assert sorted(round((face.box[2] - face.box[0]) / 800, 1) for face in faces) == [0.1, 0.1, 0.2]
    scores = [face.score for face in faces]
    assert scores == sorted(scores, reverse=True)


def test_beside_a_face_that_can_be_judged_the_search_is_coarse(
    detector: BlazeFaceDetector, portrait: np.ndarray
) -> None:
    """A face of 24 pixels is found by itself and not beside one of 120: it cannot be judged anyway."""
    side = round(24 * portrait.shape[0] / (FACE[2] - FACE[0]))
    small = (portrait, (900, 700), side)
    (alone,) = detector.detect(on_canvas((900, 1200), small))
    assert round(alone.box[2] - alone.box[0]) in range(18, 34)
    larger = (portrait, (100, 100), round(120 * portrait.shape[0] / (FACE[2] - FACE[0])))
    (found,) = detector.detect(on_canvas((900, 1200), small, larger))
    assert round(found.box[2] - found.box[0]) in range(100, 140)


def test_turned_by_twenty_degrees(detector: BlazeFaceDetector) -> None:
    turned = np.asarray(PILImage.fromarray(astronaut()).rotate(-20, PILImage.Resampling.BICUBIC))
    (face,) = detector.detect(turned)
    across = face.points[1] - face.points[0]
    assert np.degrees(np.arctan2(across[1], across[0])) == pytest.approx(20, abs=6)


@pytest.mark.parametrize("shape", [(200, 300), (700, 500), (3, 900), (1, 1)])
def test_no_face_in_noise(detector: BlazeFaceDetector, shape: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    assert detector.detect(noise) == []


def test_anchors_are_cell_centres_row_by_row() -> None:
    anchors = blazeface_anchors(((2, 2), (1, 1)))
    fine = [[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]]
    np.testing.assert_allclose(anchors, [*np.repeat(fine, 2, axis=0), [0.5, 0.5]])
    assert len(blazeface_anchors(((16, 2), (8, 6)))) == 896


def test_tiles_cover_the_image_and_skip_flat_parts() -> None:
    image = np.random.default_rng(0).integers(0, 256, (500, 333, 3), dtype=np.uint8)
    covered = np.zeros(image.shape[:2], dtype=int)
    for view in tiles(PILImage.fromarray(image), 1.0, 192):
        left, top = (-round(value) for value in view.offset)
        covered[top : top + 192, left : left + 192] += 1
        np.testing.assert_array_equal(view.pixels, image[top : top + 192, left : left + 192])
    assert covered.min() == 1
    assert list(tiles(PILImage.fromarray(np.full((500, 333, 3), 90, dtype=np.uint8)), 1.0, 192)) == []


def test_five_of_six_estimates_mouth_corners_along_the_eyes() -> None:
    six = np.array([[10, 10], [30, 10], [20, 20], [20, 30], [0, 12], [40, 12]], dtype=np.float32)
    expected = [[10, 10], [30, 10], [20, 20], [11, 30], [29, 30]]
    np.testing.assert_allclose(five_of_six(six), expected)


def test_overlap_measures() -> None:
    box = np.array([0, 0, 10, 10], dtype=np.float32)
    others = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [2, 2, 6, 6], [20, 20, 30, 30]], dtype=np.float32)
    np.testing.assert_allclose(overlaps(box, others), [1, 1 / 3, 0.16, 0], atol=1e-6)
    np.testing.assert_allclose(containment(box, others), [1, 0.5, 1, 0], atol=1e-6)


def test_non_maximum_suppression_keeps_the_best_of_each_cluster() -> None:
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [40, 0, 50, 10], [0, 5, 10, 15]], dtype=np.float32)
    scores = np.array([0.6, 0.9, 0.5, 0.7], dtype=np.float32)
    assert non_maximum_suppression(boxes, scores, threshold=0.4) == [1, 3, 2]
    assert non_maximum_suppression(boxes, scores, threshold=0.2) == [1, 2]
    assert non_maximum_suppression(boxes[:0], scores[:0], threshold=0.2) == []


def test_suppress_drops_parts_that_lie_in_a_better_face() -> None:
    points = np.zeros((5, 2), dtype=np.float32)
    whole = Detection((0, 0, 100, 100), 0.9, points)
    part = Detection((5, 5, 30, 30), 0.8, points)
    beside = Detection((110, 0, 150, 40), 0.6, points)
    assert [face.score for face in suppress([beside, part, whole])] == [0.9, 0.6]


def test_a_portrait_is_found_in_one_view(detector: BlazeFaceDetector, portrait: np.ndarray) -> None:
    (face,) = detector.detect_portrait(portrait)
    (whole,) = detector.detect(portrait)
    assert iou(face.box, whole.box) > 0.8
    # Cut by the border, it is found on a larger canvas.
    x0, y0, x1, y1 = (round(value) for value in whole.box)
    (cut,) = detector.detect_portrait(np.ascontiguousarray(portrait[y0:y1, x0:x1]))
    assert iou(cut.box, (0.0, 0.0, float(x1 - x0), float(y1 - y0))) > 0.5
    assert detector.detect_portrait(np.full((100, 160, 3), 90, dtype=np.uint8)) == []


@pytest.mark.parametrize("lying", [False, True])
def test_a_face_in_a_very_long_image(detector: BlazeFaceDetector, portrait: np.ndarray, lying: bool) -> None:
    """2 % of 8,000 pixels is more than the face has: the image is searched in pieces."""
    small = np.asarray(PILImage.fromarray(portrait).resize((160, 160)))
    for start in (0, 3111, 7840):
        canvas = np.full((540, 8000, 3), 220, dtype=np.uint8)
        canvas[100:260, start : start + 160] = small
        image = canvas if lying else np.ascontiguousarray(canvas.transpose(1, 0, 2))
        assert detector.smallest(image.shape) < 64
        if not lying:
            image[start : start + 160, 100:260] = small
        boxes = [face.box for face in detector.detect(image)]
        left, top = (start, 100) if lying else (100, start)
        inside = [box for box in boxes if left < box[0] and box[2] < left + 160 and top < box[1] < top + 160]
        assert len(inside) == 1


def test_the_smallest_face_that_is_looked_for(detector: BlazeFaceDetector) -> None:
    sizes = [(100, 100), (2000, 1000), (4000, 3000), (6400, 4000), (12000, 9000), (1080, 16000)]
    assert [round(detector.smallest(size)) for size in sizes] == [16, 40, 64, 64, 120, 64]
