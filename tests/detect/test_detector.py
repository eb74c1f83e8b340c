import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as PILImage

from forgerank.detect import Detector
from forgerank.detect.detector import dissimilarity_map, load_image
from forgerank.types import InputError

Pixels = NDArray[np.uint8]


def test_real_forged_and_empty_images(
    tiny_detector: Detector, astronaut: Pixels, forged_astronaut: Pixels
) -> None:
    real, forged, empty = tiny_detector.detect(
        [astronaut, forged_astronaut, np.zeros((80, 120, 3), np.uint8)]
    )
    assert (real.verdict, real.reason, len(real.faces)) == ("real", None, 1)
    assert forged.verdict == "forged"
    assert [component.name for component in forged.faces[0].sequence] == ["nose", "lip"]
    assert (empty.verdict, empty.reason, empty.faces) == ("undetermined", "no face found", ())
    assert (empty.width, empty.height) == (120, 80)


def test_arrays_and_paths_mix(tiny_detector: Detector, forged_astronaut: Pixels, tmp_path: Path) -> None:
    path = tmp_path / "forged.png"
    PILImage.fromarray(forged_astronaut).save(path)
    from_array, from_path, from_text = tiny_detector.detect([forged_astronaut, path, str(path)])
    assert from_array.path is None
    assert from_path.path == from_text.path == str(path)
    assert from_path.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert from_array.faces[0].forged_probability == pytest.approx(
        from_path.faces[0].forged_probability, abs=1e-6
    )


def test_faces_of_one_image_keep_their_own_answers(
    tiny_detector: Detector, astronaut: Pixels, forged_astronaut: Pixels
) -> None:
    (report,) = tiny_detector.detect([np.concatenate([astronaut, forged_astronaut], axis=1)])
    by_position = sorted(report.faces, key=lambda face: face.box[0])
    assert [face.verdict for face in by_position] == ["real", "forged"]
    assert report.verdict == "forged"


def test_small_face_is_undetermined(tiny_detector: Detector, astronaut: Pixels) -> None:
    small = np.asarray(PILImage.fromarray(astronaut).resize((256, 256)))
    (report,) = tiny_detector.detect([small])
    assert report.verdict == "undetermined"
    assert report.reason is not None
    assert report.reason.startswith("face too small")


def test_faces_that_were_not_looked_for_are_named(tiny_detector: Detector) -> None:
    large, usual = tiny_detector.detect(
        [np.zeros((9000, 12000, 3), np.uint8), np.zeros((3000, 4000, 3), np.uint8)]
    )
    assert large.warnings == ("faces under 120 px were not looked for, because the image is large",)
    assert usual.warnings == ()


def test_no_orientation_changes_a_verdict(
    astronaut: NDArray[np.uint8], forged_astronaut: NDArray[np.uint8]
) -> None:
    detector = Detector(threads=1)  # the embedded weights
    for image in (astronaut, forged_astronaut):
        sides = [np.rot90(side, turn) for side in (image, image[:, ::-1]) for turn in range(4)]
        reports = detector.detect([np.ascontiguousarray(side) for side in sides])
        probabilities = [report.faces[0].forged_probability for report in reports]
        assert probabilities == pytest.approx([probabilities[0]] * 8, abs=0.02)
        rolls = [report.faces[0].quality.roll for report in reports]
        expected = [sign * rolls[0] - 90 * turn for sign in (1, -1) for turn in range(4)]
        assert all(abs((a - b + 180) % 360 - 180) < 1 for a, b in zip(rolls, expected, strict=True))


def test_an_image_on_its_head_is_judged_as_the_upright_one(
    tiny_detector: Detector, forged_astronaut: Pixels
) -> None:
    upright, turned = tiny_detector.detect(
        [forged_astronaut, np.ascontiguousarray(forged_astronaut[::-1, ::-1])]
    )
    assert turned.verdict == upright.verdict == "forged"
    names = [[part.name for part in report.faces[0].sequence] for report in (turned, upright)]
    assert names[0] == names[1]
    assert turned.faces[0].forged_probability == pytest.approx(upright.faces[0].forged_probability, abs=1e-3)


def test_order_of_the_weights_is_followed(
    tmp_path: Path, make_weights: Callable[..., Path], forged_astronaut: Pixels
) -> None:
    detector = Detector(make_weights(tmp_path, order="last_to_first"))
    (report,) = detector.detect([forged_astronaut])
    assert [component.name for component in report.faces[0].sequence] == ["lip", "nose"]


def test_no_images(tiny_detector: Detector) -> None:
    assert tiny_detector.detect([]) == []


def test_unknown_face_detector(tiny_weights: Path) -> None:
    with pytest.raises(InputError, match="unknown face detector 'haar'"):
        Detector(tiny_weights, "haar")


@pytest.mark.parametrize(
    "image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((4, 4, 4), np.uint8), 3]
)
def test_arrays_of_another_kind(image: object) -> None:
    with pytest.raises(InputError, match="uint8 array or a path"):
        load_image(image)  # type: ignore[arg-type]


def test_dissimilarity_is_the_mean_over_tokens() -> None:
    similarity = np.ones((4, 4), np.float32)
    similarity[0, 1:] = similarity[1:, 0] = 0.0  # the first token is unlike every other
    np.testing.assert_allclose(dissimilarity_map(similarity), [[0.75, 0.25], [0.25, 0.25]])
    with pytest.raises(ValueError, match="3 tokens"):
        dissimilarity_map(np.ones((3, 3), np.float32))


def test_another_number_of_threads_gives_the_same_answer(
    tiny_weights: Path, forged_astronaut: Pixels
) -> None:
    detector = Detector(tiny_weights, threads=2)
    assert detector.with_threads(2) is detector
    single = detector.with_threads(1)
    assert single is detector.with_threads(1)
    assert (detector.threads, single.threads) == (2, 1)
    first, second = (d.detect([forged_astronaut])[0].faces[0] for d in (detector, single))
    assert first.order_scores == pytest.approx(second.order_scores)
    assert first.order_scores == pytest.approx([component.probability for component in first.components])


def test_the_zoom_of_the_weights_is_that_of_the_crop(
    tmp_path: Path, make_weights: Callable[..., Path], tiny_detector: Detector, forged_astronaut: Pixels
) -> None:
    near = Detector(make_weights(tmp_path, zoom=1.5), threads=1)
    assert near.metadata.zoom == 1.5
    (far_face,), (near_face,) = (
        detector.detect([forged_astronaut])[0].faces for detector in (tiny_detector, near)
    )
    assert near_face.alignment.scale == pytest.approx(1.5 * far_face.alignment.scale, rel=1e-3)
    assert near_face.alignment.size == far_face.alignment.size


@pytest.mark.parametrize(("size", "zoom", "reused"), [(224, 1.0, True), (224, 1.2, False), (64, 1.0, False)])
def test_the_crop_that_quality_was_measured_on_is_reused_where_it_is_the_same(
    make_weights: Callable[..., Path],
    tmp_path: Path,
    astronaut: Pixels,
    size: int,
    zoom: float,
    reused: bool,
) -> None:
    detector = Detector(make_weights(tmp_path, input_size=size, zoom=zoom))
    [face] = detector.analyzer.analyze(astronaut)
    [aligned] = detector.align(astronaut, [face])
    assert (aligned.crop is face.crop) == reused
    np.testing.assert_array_equal(aligned.crop, aligned.alignment.crop(astronaut))
    assert aligned.crop.shape == (size, size, 3)
