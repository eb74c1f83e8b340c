import json
import math
import shutil
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from forgerank.detect import Detector
from forgerank.detect.detector import AlignedFace, dissimilarity_map
from forgerank.detect.runtime import Prediction
from forgerank.detect.views import SCALES, VIEWS, View, mean_odds, merged
from forgerank.faces.align import FACE_CENTRE, brighter_on_the_left, estimate_alignment, five_points
from forgerank.weights.description import METADATA_FILE, sealed_json

SIDE = 8
CELLS = (np.arange(SIDE) + 0.5) / SIDE


def laid(view: View, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """A map over a view's crop, laid on the plain crop."""
    return np.asarray(view.resampling(SIDE) @ values.ravel()).reshape(SIDE, SIDE)


def test_a_view_is_laid_back_where_it_was_seen() -> None:
    assert [(view.scale, view.mirrored) for view in VIEWS] == [
        *((SCALES[0], False), (SCALES[0], True)),
        *((SCALES[1], False), (SCALES[1], True)),
    ]
    rows, columns = np.meshgrid(CELLS, CELLS, indexing="ij")
    values = 3 * rows + 10 * columns
    plain, mirrored, wide, both = (laid(view, values) for view in VIEWS)
    assert plain == pytest.approx(values)
    assert mirrored == pytest.approx(values[:, ::-1])
    # A place of the plain crop lies nearer to the centre in a crop that shows more.
    x, y = (
        centre + (cells - centre) * SCALES[1]
        for centre, cells in zip(FACE_CENTRE, (columns, rows), strict=True)
    )
    assert wide == pytest.approx(3 * y + 10 * x, abs=1e-5)
    assert both == pytest.approx(3 * y + 10 * (1 - x), abs=1e-5)


def test_the_geometry_is_that_of_the_crops(astronaut: NDArray[np.uint8], tiny_detector: Detector) -> None:
    points = five_points(tiny_detector.analyzer.analyze(astronaut)[0].landmarks)
    near, far = (estimate_alignment(points, SIDE, 1.3 * scale) for scale in SCALES)
    places = np.array([[1.0, 2.0], [6.5, 7.0]], np.float32)
    expected = FACE_CENTRE * SIDE + (places - FACE_CENTRE * SIDE) * SCALES[1]
    assert far.to_crop(near.to_image(places)) == pytest.approx(expected, abs=1e-3)


def prediction(probability: float) -> Prediction:
    rng = np.random.default_rng(int(probability * 100))
    maps, similarity = rng.random((1, 2, SIDE, SIDE)), rng.random((1, SIDE**2, SIDE**2))
    parts = np.full((1, 2), probability)
    values = np.array([probability]), np.array([probability]), parts, maps, similarity, parts
    return Prediction(*(np.asarray(value, np.float32) for value in values))


def test_probabilities_are_averaged_in_log_odds() -> None:
    assert mean_odds([[0.2, 0.9], [0.8, 0.9]]) == pytest.approx([0.5, 0.9])
    found = merged([prediction(value) for value in (0.5, 0.5, 0.5, 0.9)])
    assert found.probability == pytest.approx([9**0.25 / (1 + 9**0.25)])
    assert found.order_scores == pytest.approx(np.full((1, 2), 9**0.25 / (1 + 9**0.25)))
    assert found.gap == pytest.approx([0.6])
    shapes = {field.name: getattr(found, field.name).shape for field in fields(Prediction)}
    assert shapes == {field.name: getattr(prediction(0.5), field.name).shape for field in fields(Prediction)}
    assert 0 <= found.similarity.min() <= found.similarity.max() <= 1


@pytest.mark.parametrize("thorough", [False, True])
def test_a_mirrored_face_gets_the_same_answer_and_mirrored_maps(
    tiny_weights: Path, forged_astronaut: NDArray[np.uint8], thorough: bool
) -> None:
    detector = Detector(tiny_weights, threads=1, thorough=thorough)
    [face] = detector.align(forged_astronaut, detector.analyzer.analyze(forged_astronaut))
    assert [crop.shape for crop in face.further] == [face.crop.shape] * thorough
    other = AlignedFace(
        face.face, face.alignment, face.crop[:, ::-1], tuple(crop[:, ::-1] for crop in face.further)
    )
    seen, mirrored = detector.predict([face]), detector.predict([other])
    assert seen.probability == pytest.approx(mirrored.probability, abs=1e-5)
    assert seen.component_maps == pytest.approx(mirrored.component_maps[..., ::-1], abs=1e-3)
    maps = [dissimilarity_map(found.similarity[0]) for found in (seen, mirrored)]
    assert maps[0] == pytest.approx(maps[1][:, ::-1], abs=1e-3)
    assert maps[0] != pytest.approx(maps[1], abs=1e-3)


def test_one_side_of_each_face_is_seen_and_the_answers_lie_where_they_belong(
    tiny_detector: Detector, forged_astronaut: NDArray[np.uint8]
) -> None:
    faces = [
        face
        for image in (forged_astronaut, forged_astronaut[:, ::-1])
        for face in tiny_detector.align(image, tiny_detector.analyzer.analyze(np.ascontiguousarray(image)))
    ]
    seen = tiny_detector.predict(faces)
    crops = [face.crop for face in faces]
    assert sum(map(brighter_on_the_left, crops)) == 1
    plain = tiny_detector.runtime.run(crops)
    for i, crop in enumerate(crops):
        answer, as_it_is = (dissimilarity_map(found.similarity[i]) for found in (seen, plain))
        assert np.array_equal(answer, as_it_is) == (not brighter_on_the_left(crop))
        assert np.corrcoef(answer.ravel(), as_it_is.ravel())[0, 1] > 0.7


def test_several_views_have_thresholds_of_their_own_where_the_weights_hold_them(
    tmp_path: Path, tiny_weights: Path, forged_astronaut: NDArray[np.uint8]
) -> None:
    folder = shutil.copytree(tiny_weights, tmp_path / "weights")
    description = json.loads((folder / METADATA_FILE).read_text())
    cuts = {**description["thresholds"], "forged": 1.0}
    description["thorough"] = {"thresholds": cuts, "calibration": {"slope": 0.5, "intercept": -0.1}}
    (folder / METADATA_FILE).write_bytes(sealed_json(description))
    plain = Detector(folder, threads=1)
    for thorough in (plain.with_thorough(True), Detector(folder, threads=1, thorough=True)):
        assert thorough.metadata.thresholds.forged == 1.0
        assert thorough.with_thorough(False).metadata.thresholds == plain.metadata.thresholds
        assert thorough.with_threads(2).metadata == thorough.metadata
    as_one = Detector(tiny_weights, threads=1, thorough=True)
    [before], [after] = (judge.detect([forged_astronaut])[0].faces for judge in (as_one, thorough))
    assert (before.verdict, after.verdict) == ("forged", "undetermined")
    log_odds = [math.log(p / (1 - p)) for p in (before.forged_probability, after.forged_probability)]
    assert log_odds[1] == pytest.approx(0.5 * log_odds[0] - 0.1, abs=1e-6)


def test_both_kinds_of_a_detector_share_their_models(
    tiny_weights: Path, astronaut: NDArray[np.uint8], forged_astronaut: NDArray[np.uint8]
) -> None:
    plain = Detector(tiny_weights, threads=2)
    thorough = plain.with_thorough(True)
    assert (plain.thorough, thorough.thorough) == (False, True)
    assert thorough.runtime is plain.runtime
    assert thorough.with_thorough(False) is plain
    assert thorough.with_threads(1).runtime is plain.with_threads(1).runtime
    assert [r.verdict for r in thorough.detect([astronaut, forged_astronaut])] == ["real", "forged"]
    [before], [after] = (detector.detect([forged_astronaut])[0].faces for detector in (plain, thorough))
    assert before.forged_probability != after.forged_probability
    assert before.box == after.box
