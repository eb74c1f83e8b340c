"""Mesh, quality and drawing on the astronaut, and under transforms whose effect is known."""

import json
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage
from PIL import ImageFilter
from skimage.data import astronaut

from forgerank.faces import models as embedded
from forgerank.faces.align import turned_back
from forgerank.faces.analyze import FaceAnalyzer
from forgerank.faces.detect import BlazeFaceDetector
from forgerank.faces.draw import COLOURS, draw_faces
from forgerank.faces.landmarks import Mesh
from forgerank.faces.models import open_embedded
from forgerank.faces.quality import head_pose
from forgerank.labels import COMPONENTS
from forgerank.types import Detection, Face, InputError

# Eye corners, nose tip and mouth corners: vertices and the astronaut's pixels, by eye.
VERTICES = [33, 263, 1, 61, 291]
PIXELS = np.array([[194, 101], [254, 104], [223, 131], [202, 139], [246, 141]])
# Vertices and their mirror images.
PAIRS = [(1, 1), (10, 10), (152, 152), (33, 263), (133, 362), (61, 291), (70, 300), (98, 327), (234, 454)]
PAIRS += [(3, 248), (200, 200), (159, 386), (129, 358), (247, 467)]


@pytest.fixture(scope="module")
def analyzer() -> FaceAnalyzer:
    return FaceAnalyzer()


@pytest.fixture(scope="module")
def portrait() -> np.ndarray:
    return np.ascontiguousarray(astronaut()[:300, 80:380])


def only(faces: list[Face]) -> Face:
    assert len(faces) == 1
    return faces[0]


@pytest.fixture(scope="module")
def face(analyzer: FaceAnalyzer, portrait: np.ndarray) -> Face:
    return only(analyzer.analyze(portrait))


def test_landmarks_of_the_astronaut(face: Face) -> None:
    assert face.landmarks.shape == (468, 2)
    assert face.landmarks.dtype == np.float32
    assert np.abs(face.landmarks[VERTICES] + (80, 0) - PIXELS).max() < 5


def test_landmarks_follow_translation(analyzer: FaceAnalyzer, portrait: np.ndarray, face: Face) -> None:
    moved = np.pad(portrait, ((37, 0), (21, 0), (0, 0)), mode="edge")
    shift = only(analyzer.analyze(moved)).landmarks - face.landmarks
    assert np.abs(np.median(shift, axis=0) - (21, 37)).max() < 1
    assert np.abs(shift - (21, 37)).max() < 4


@pytest.mark.parametrize("scale", [0.5, 2.0, 5.0])
def test_landmarks_follow_scaling(
    analyzer: FaceAnalyzer, portrait: np.ndarray, face: Face, scale: float
) -> None:
    side = round(300 * scale)
    resized = np.asarray(PILImage.fromarray(portrait).resize((side, side), PILImage.Resampling.LANCZOS))
    error = only(analyzer.analyze(resized)).landmarks / scale - face.landmarks
    assert np.median(np.abs(error)) < 1
    assert np.abs(error).max() < 5


@pytest.mark.parametrize(("width", "scale"), [(300, 1.0), (297, 1.0), (300, 3.0), (299, 2.5)])
def test_a_mirror_image_has_the_mirrored_mesh_and_crop(
    analyzer: FaceAnalyzer, portrait: np.ndarray, width: int, scale: float
) -> None:
    size = round(width * scale), round(300 * scale)
    image = np.asarray(PILImage.fromarray(portrait[:, :width]).resize(size, PILImage.Resampling.LANCZOS))
    face, other = (only(analyzer.analyze(np.ascontiguousarray(side))) for side in (image, image[:, ::-1]))
    for vertex, twin in PAIRS:
        expected = (size[0] - face.landmarks[vertex, 0], face.landmarks[vertex, 1])
        assert np.abs(other.landmarks[twin] - expected).max() < 0.3 * scale
    assert other.quality.yaw == pytest.approx(-face.quality.yaw, abs=0.5)
    assert other.quality.roll == pytest.approx(-face.quality.roll, abs=0.2)
    assert np.abs(other.crop[:, ::-1].astype(int) - face.crop).mean() < 1


def test_roll_follows_the_image(analyzer: FaceAnalyzer, portrait: np.ndarray, face: Face) -> None:
    turned = np.asarray(PILImage.fromarray(portrait).rotate(-25, PILImage.Resampling.BICUBIC))  # clockwise
    assert only(analyzer.analyze(turned)).quality.roll - face.quality.roll == pytest.approx(25, abs=3)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("turn", [1, 2, 3])
def test_an_image_in_any_orientation_gives_the_faces_of_the_upright_one(
    analyzer: FaceAnalyzer, portrait: np.ndarray, turn: int, mirrored: bool
) -> None:
    image = np.ascontiguousarray(portrait[:, ::-1] if mirrored else portrait)
    upright = only(analyzer.analyze(image))
    turned = only(analyzer.analyze(np.ascontiguousarray(np.rot90(image, turn))))
    expected = (upright.quality.roll - 90 * turn + 180) % 360 - 180
    assert turned.quality.roll == pytest.approx(expected, abs=0.01)
    np.testing.assert_allclose(turned_back(turned.landmarks, turn, (300, 300)), upright.landmarks, atol=0.01)
    assert np.abs(turned.crop.astype(int) - upright.crop).max() <= 1
    assert turned.quality.size == pytest.approx(upright.quality.size, abs=0.01)
    assert turned.quality.sharpness == pytest.approx(upright.quality.sharpness, rel=0.01)


def test_one_face_on_its_head_beside_a_larger_one(analyzer: FaceAnalyzer, portrait: np.ndarray) -> None:
    canvas = np.full((320, 620, 3), 110, dtype=np.uint8)
    canvas[10:310, 10:310] = portrait
    canvas[40:290, 340:590] = np.asarray(PILImage.fromarray(portrait).resize((250, 250)))[::-1, ::-1]
    rolls = [face.quality.roll for face in analyzer.analyze(canvas)]
    assert rolls[0] == pytest.approx(0, abs=10)
    assert abs(rolls[1]) == pytest.approx(180, abs=10)


@pytest.mark.parametrize(("other", "side"), [(1, 230), (2, 200), (3, 210)])
@pytest.mark.parametrize("turn", range(4))
def test_a_smaller_face_on_its_side_or_head_beside_an_upright_one(
    analyzer: FaceAnalyzer, portrait: np.ndarray, turn: int, other: int, side: int
) -> None:
    canvas = np.full((300, 560, 3), 90, dtype=np.uint8)
    canvas[:, :300] = portrait
    top, left = (300 - side) // 2, 430 - side // 2
    smaller = np.asarray(PILImage.fromarray(portrait).resize((side, side)))
    canvas[top : top + side, left : left + side] = np.rot90(smaller, other)
    image = np.ascontiguousarray(np.rot90(canvas, turn))
    faces = analyzer.analyze(image)
    across = [turned_back(face.landmarks, turn, canvas.shape)[:, 0].mean() for face in faces]
    assert sorted(across) == pytest.approx([145, left + side / 2], abs=30)
    rolls = [faces[number].quality.roll for number in np.argsort(across)]
    assert (rolls[0] - rolls[1]) % 360 == pytest.approx(90 * other, abs=15)
    mirrored = analyzer.analyze(np.ascontiguousarray(image[:, ::-1]))
    sizes = [face.quality.size for face in faces]
    assert [face.quality.size for face in mirrored] == pytest.approx(sizes, rel=1e-3)


def test_of_two_finds_of_a_face_on_its_side_the_one_that_scores_enough_counts(
    portrait: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    canvas = np.full((300, 560, 3), 90, dtype=np.uint8)
    canvas[:, :300] = portrait
    canvas[50:250, 330:530] = np.asarray(PILImage.fromarray(portrait).resize((200, 200)))[::-1, ::-1]
    analyzer = FaceAnalyzer()
    detector, mesh = analyzer.detector, analyzer._landmarks.landmarks
    assert isinstance(detector, BlazeFaceDetector)
    [upright] = [face for face in detector.detect(canvas) if face.box[0] < 300]
    good = next(face for face in detector.detect_not_upright(canvas) if face.box[0] > 300)
    bad = replace(good, score=good.score / 2)
    monkeypatch.setattr(detector, "detect", lambda image: [upright])
    monkeypatch.setattr(detector, "detect_not_upright", lambda image: [bad, good])

    def landmarks(image: np.ndarray, detection: Detection) -> Mesh:
        found = mesh(image, detection)
        return found._replace(score=5.5) if detection is bad else found

    monkeypatch.setattr(analyzer._landmarks, "landmarks", landmarks)
    assert len(analyzer.analyze(canvas)) == 2


@pytest.mark.parametrize("turn", range(4))
@pytest.mark.parametrize("side", [600, 2000])
def test_no_face_that_the_mesh_does_not_see(analyzer: FaceAnalyzer, side: int, turn: int) -> None:
    """The detector takes parts of the suit and of the flag for faces, in turned images above all."""
    image = np.asarray(PILImage.fromarray(astronaut()).resize((side, side), PILImage.Resampling.BICUBIC))
    only(analyzer.analyze(np.ascontiguousarray(np.rot90(image, turn))))


@pytest.mark.parametrize("turn", range(4))
def test_a_face_that_the_mesh_alone_is_not_sure_of(analyzer: FaceAnalyzer, turn: int) -> None:
    # Smeared, as forgeries are: detector and mesh still place its eyes and nose alike.
    smeared = PILImage.fromarray(astronaut()[:220, 120:340]).filter(ImageFilter.GaussianBlur(3.6))
    face = only(analyzer.analyze(np.ascontiguousarray(np.rot90(np.asarray(smeared), turn))))
    assert (face.quality.roll + 90 * turn + 180) % 360 - 180 == pytest.approx(5, abs=10)
    assert face.quality.size == pytest.approx(110, abs=15)


def test_cut_face_stays_inside_the_image(analyzer: FaceAnalyzer) -> None:
    cut = np.ascontiguousarray(astronaut()[80:300, 190:400])
    box = only(analyzer.analyze(cut)).box
    assert box[0] >= 0
    assert box[1] >= 0
    assert box[2] - box[0] > 60


def test_biggest_face_first(analyzer: FaceAnalyzer, portrait: np.ndarray) -> None:
    small = np.asarray(PILImage.fromarray(portrait).resize((180, 180)))
    canvas = np.full((320, 520, 3), 110, dtype=np.uint8)
    canvas[10:190, 10:190] = small
    canvas[10:310, 200:500] = portrait
    sizes = [found.quality.size for found in analyzer.analyze(canvas)]
    assert len(sizes) == 2
    assert sizes[0] > 1.4 * sizes[1]


def test_faces_measured_side_by_side_are_the_same(analyzer: FaceAnalyzer, portrait: np.ndarray) -> None:
    shrunk = np.asarray(PILImage.fromarray(portrait).resize((200, 200)))
    scene = np.full((320, 1000, 3), 90, np.uint8)
    scene[10:310, 20:320], scene[10:310, 360:660], scene[60:260, 720:920] = (
        portrait,
        portrait[:, ::-1],
        shrunk,
    )
    threads = threading.enumerate()
    alone, beside = analyzer.analyze(scene), FaceAnalyzer(threads=3).analyze(scene)
    assert threading.enumerate() == threads, "a process that is forked would wait for them for ever"
    assert len(alone) == 3
    for one, other in zip(alone, beside, strict=True):
        np.testing.assert_allclose(one.landmarks, other.landmarks, atol=1e-3)
        assert np.abs(one.crop.astype(int) - other.crop).max() <= 1
        assert one.quality.sharpness == pytest.approx(other.quality.sharpness, rel=1e-3)


def test_quality_follows_blur_and_light(analyzer: FaceAnalyzer, portrait: np.ndarray, face: Face) -> None:
    image = PILImage.fromarray(portrait)
    blurred = [
        only(analyzer.analyze(np.asarray(image.filter(ImageFilter.GaussianBlur(radius))))).quality.sharpness
        for radius in (0.7, 1.5, 3.0)
    ]
    sharpness = [face.quality.sharpness, *blurred]
    assert sharpness == sorted(sharpness, reverse=True)
    assert sharpness[0] > 10 * sharpness[-1] > 0
    dark = only(analyzer.analyze((portrait * 0.5).astype(np.uint8))).quality
    assert dark.brightness == pytest.approx(face.quality.brightness / 2, abs=0.02)
    assert 0.4 < face.quality.brightness < 0.8
    burnt = only(analyzer.analyze(np.clip(portrait.astype(int) + 90, 0, 255).astype(np.uint8))).quality
    assert burnt.clipped > 0.1 > face.quality.clipped
    assert face.quality.size == pytest.approx(106, abs=12)


def head(yaw: float, pitch: float, roll: float) -> tuple[np.ndarray, np.ndarray]:
    """A head whose pose vertices are upright, turned as `Quality` says, in degrees: yaw to image right, pitch
    up, roll clockwise, in that order.
    """
    mesh = np.random.default_rng(0).normal(size=(468, 3)) * 0.1
    for vertices, x in (((33, 133, 127, 234, 93, 129), -60.0), ((263, 362, 356, 454, 323, 358), 60.0)):
        mesh[list(vertices)] = (x, 0.0, 20.0)
    for vertices, y in (((10, 151, 9, 8), -50.0), ((2, 164, 199, 175), 50.0)):
        mesh[list(vertices)] = (0.0, y, -10.0)
    a, b, c = np.radians([yaw, pitch, roll])
    # x right, y down, z away: turning to image right moves the image-right side away from the camera.
    about_y = np.array([[np.cos(a), 0, -np.sin(a)], [0, 1, 0], [np.sin(a), 0, np.cos(a)]])
    # Looking up brings the chin nearer, towards smaller z.
    about_x = np.array([[1, 0, 0], [0, np.cos(b), np.sin(b)], [0, -np.sin(b), np.cos(b)]])
    about_z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    turned = mesh @ (about_z @ about_x @ about_y).T
    return turned[:, :2] + 200, turned[:, 2]


@pytest.mark.parametrize("degrees", [-35.0, 0.0, 20.0])
def test_pose_of_a_turned_head(degrees: float) -> None:
    assert head_pose(*head(degrees, 0, 0)) == pytest.approx((degrees, 0, 0), abs=0.5)
    assert head_pose(*head(0, degrees, 0)) == pytest.approx((0, degrees, 0), abs=0.5)
    assert head_pose(*head(0, 0, degrees)) == pytest.approx((0, 0, degrees), abs=0.5)
    assert head_pose(*head(15, -10, degrees)) == pytest.approx((15, -10, degrees), abs=4)


@pytest.mark.parametrize("scale", [1, 3])
def test_drawing(face: Face, portrait: np.ndarray, scale: int) -> None:
    """Every component's colour shows, small images are enlarged, and far from the face nothing changes."""
    image = np.asarray(PILImage.fromarray(portrait).resize((300 * scale, 300 * scale)))
    box = tuple(scale * value for value in face.box)
    drawn = draw_faces(image, [replace(face, box=box, landmarks=face.landmarks * scale)])
    assert drawn.shape == ((600, 600, 3) if scale == 1 else image.shape)
    assert list(COLOURS) == list(COMPONENTS)
    for colour in COLOURS.values():
        assert (np.abs(drawn.astype(int) - colour).sum(axis=2) < 12).sum() > 20
    plain = draw_faces(image, [])
    assert (drawn != plain).any(axis=2).mean() > 0.05
    np.testing.assert_array_equal(drawn[-20:], plain[-20:])
    np.testing.assert_array_equal(draw_faces(image, []).shape, drawn.shape)


def test_embedded_model_is_checked(tmp_path: Path) -> None:
    for name in ("faces.json", "face_landmark.onnx"):
        shutil.copy(embedded.ASSETS / name, tmp_path)
    open_embedded("face_landmark.onnx", assets=tmp_path)
    content = bytearray((tmp_path / "face_landmark.onnx").read_bytes())
    content[1000] ^= 1
    (tmp_path / "face_landmark.onnx").write_bytes(content)
    for name, reason in (
        ("face_landmark.onnx", "not the recorded model"),
        ("face_detection_short_range.onnx", "cannot read the embedded model"),
    ):
        with pytest.raises(InputError) as refusal:
            open_embedded(name, assets=tmp_path)
        assert str(refusal.value).startswith(f"{tmp_path / name}: ")
        assert reason in str(refusal.value)
        assert "\n" not in str(refusal.value)


def test_every_embedded_model_has_its_provenance() -> None:
    recorded = json.loads((embedded.ASSETS / "faces.json").read_text(encoding="utf-8"))
    assert {path.name for path in embedded.ASSETS.glob("face_*.onnx")} == set(recorded["files"])
    assert all(entry["source"] and len(entry["sha256"]) == 64 for entry in recorded["files"].values())
    for name in recorded["files"]:
        assert open_embedded(name).get_inputs()


def test_the_largest_face_is_that_of_the_whole_analysis(
    analyzer: FaceAnalyzer, portrait: np.ndarray, face: Face
) -> None:
    found = analyzer.largest(portrait)
    assert found is not None
    assert np.linalg.norm(found - face.landmarks, axis=1).mean() < 1.5
    # A face that is small in its image is found by the whole search.
    canvas = np.full((1400, 1400, 3), 110, dtype=np.uint8)
    canvas[600:900, 700:1000] = portrait
    small = analyzer.largest(canvas)
    assert small is not None
    assert np.linalg.norm(small - [700, 600] - face.landmarks, axis=1).mean() < 2.5
    assert analyzer.largest(np.full((80, 120, 3), 110, dtype=np.uint8)) is None
