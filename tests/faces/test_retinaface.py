"""RetinaFace's priors and decoding by hand-computed numbers, and the whole detector on a graph made here."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from forgerank.faces.analyze import FaceAnalyzer
from forgerank.faces.retinaface import (
    RetinaFaceDetector,
    decode_boxes,
    decode_landmarks,
    retinaface_priors,
)
from forgerank.types import InputError

SIDE = 64
PRIORS = 2 * (64 + 16 + 4)  # two sizes per cell at strides 8, 16 and 32


def graph(
    path: Path, locations: np.ndarray, confidences: np.ndarray, landmarks: np.ndarray, *, fixed: bool = True
) -> Path:
    """An ONNX file whose outputs are these arrays plus zero times the input's mean."""
    nodes = [
        helper.make_node("ReduceMean", ["input"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
    ]
    constants = [numpy_helper.from_array(np.float32(0), "zero")]
    outputs = []
    for name, values in (("loc", locations), ("conf", confidences), ("landms", landmarks)):
        constants.append(numpy_helper.from_array(values[None].astype(np.float32), f"{name}_values"))
        nodes.append(helper.make_node("Add", [f"{name}_values", "nothing"], [name]))
        outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, *values.shape]))
    shape = [1, 3, SIDE, SIDE] if fixed else [1, 3, "height", "width"]
    inputs = [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)]
    body = helper.make_graph(nodes, "retinaface", inputs, outputs, constants)
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", 16)], ir_version=8)
    onnx.save(model, path)
    return path


def outputs_with(hits: dict[int, float]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All-zero offsets, so that boxes are the priors and points their centres, and scores at some priors."""
    confidences = np.tile(np.float32([1, 0]), (PRIORS, 1))
    for index, score in hits.items():
        confidences[index] = (1 - score, score)
    return np.zeros((PRIORS, 4)), confidences, np.zeros((PRIORS, 10))


def test_priors() -> None:
    priors = retinaface_priors(SIDE, SIDE)
    assert priors.shape == (PRIORS, 4)
    np.testing.assert_allclose(priors[0], np.array([4, 4, 16, 16]) / SIDE)
    np.testing.assert_allclose(priors[3], np.array([12, 4, 32, 32]) / SIDE)
    np.testing.assert_allclose(priors[128 + 2 * 5], np.array([24, 24, 64, 64]) / SIDE)
    np.testing.assert_allclose(priors[-1], np.array([48, 48, 512, 512]) / SIDE)
    assert len(retinaface_priors(65, 33)) == 2 * (9 * 5 + 5 * 3 + 3 * 2)


def test_priors_are_computed_once_per_input_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.zeros((SIDE, SIDE, 3), dtype=np.uint8)
    detector = RetinaFaceDetector(graph(tmp_path / "r.onnx", *outputs_with({0: 0.9}), fixed=False))
    retinaface_priors.cache_clear()
    first = detector.detect(image)
    assert retinaface_priors.cache_info().misses == 1
    monkeypatch.setattr("forgerank.faces.retinaface.ceil", None)  # what computing them again would fail on
    assert [face.box for face in detector.detect(image)] == [face.box for face in first]
    with pytest.raises(TypeError):
        retinaface_priors(SIDE, 2 * SIDE)
    with pytest.raises(ValueError, match="read-only"):
        retinaface_priors(SIDE, SIDE)[0] = 0


def test_decoding_against_the_formulas() -> None:
    prior = np.array([[0.5, 0.25, 0.2, 0.4]], dtype=np.float32)
    location = np.array([[1.0, -2.0, np.log(2) / 0.2, 0.0]], dtype=np.float32)
    # centre 0.5 + 0.1 * 0.2, 0.25 - 0.2 * 0.4; width doubled by exp(0.2 * t)
    np.testing.assert_allclose(decode_boxes(location, prior), [[0.32, -0.03, 0.72, 0.37]], atol=1e-6)
    offsets = np.arange(10, dtype=np.float32)[None]
    expected = [[0.5 + 0.02 * x, 0.25 + 0.04 * y] for x, y in offsets.reshape(5, 2)]
    np.testing.assert_allclose(decode_landmarks(offsets, prior)[0], expected, atol=1e-6)


@pytest.mark.parametrize("fixed", [True, False])
def test_detector_on_known_outputs(tmp_path: Path, fixed: bool) -> None:
    """Two cells far apart, a worse duplicate of one, shifted onto it, and one under the threshold."""
    hits = {2 * 9: 0.9, 2 * 10: 0.7, 2 * 45: 0.8, 2 * 63: 0.5}
    locations, confidences, landmarks = outputs_with(hits)
    locations[2 * 10, 0] = -5.0  # moves the neighbour 8 px left, onto the better one
    landmarks[2 * 9] = [-1, -1, 1, -1, 0, 0, -1, 1, 1, 1]
    weights = graph(tmp_path / "r.onnx", locations, confidences, landmarks, fixed=fixed)
    image = np.zeros((128, 128, 3) if fixed else (SIDE, SIDE, 3), dtype=np.uint8)
    scale = 2 if fixed else 1  # a fixed graph sees the larger image at half size
    first, second = RetinaFaceDetector(weights).detect(image)
    assert first.score == pytest.approx(0.9)
    assert second.score == pytest.approx(0.8)
    np.testing.assert_allclose(first.box, np.array([4, 4, 20, 20]) * scale, atol=1e-4)  # cell (1, 1), 16 px
    np.testing.assert_allclose(second.box, np.array([36, 36, 52, 52]) * scale, atol=1e-4)  # cell (5, 5)
    offsets = np.array([[-1.6, -1.6], [1.6, -1.6], [0, 0], [-1.6, 1.6], [1.6, 1.6]])
    np.testing.assert_allclose(first.points, (12 + offsets) * scale, atol=1e-4)


def test_input_is_bgr_minus_the_mean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    detector = RetinaFaceDetector(graph(tmp_path / "r.onnx", *outputs_with({})))
    seen: list[np.ndarray] = []
    run = detector._run
    monkeypatch.setattr(detector, "_run", lambda pixels: (seen.append(pixels), run(pixels))[1])
    image = np.tile(np.uint8([10, 20, 30]), (SIDE // 2, SIDE, 1))
    assert detector.detect(image) == []
    assert seen[0].shape == (1, 3, SIDE, SIDE)
    assert seen[0][0, :, 0, 0].tolist() == [30 - 104, 20 - 117, 10 - 123]
    assert not seen[0][0, :, SIDE // 2 :].any()


def assert_one_line(refusal: pytest.ExceptionInfo[InputError], text: str) -> None:
    assert text in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_missing_and_foreign_weights(tmp_path: Path) -> None:
    image = np.zeros((SIDE, SIDE, 3), dtype=np.uint8)
    with pytest.raises(InputError) as refusal:
        RetinaFaceDetector(tmp_path / "none.onnx")
    assert_one_line(refusal, "none.onnx: no such RetinaFace weights file")
    (tmp_path / "text.onnx").write_text("hello")
    with pytest.raises(InputError) as refusal:
        RetinaFaceDetector(tmp_path / "text.onnx").detect(image)
    assert_one_line(refusal, "text.onnx: not an ONNX model")
    two = graph(tmp_path / "two.onnx", np.zeros((PRIORS, 4)), np.zeros((PRIORS, 2)), np.zeros((PRIORS, 4)))
    with pytest.raises(InputError) as refusal:
        RetinaFaceDetector(two).detect(image)
    assert_one_line(refusal, "outputs are not (1, P, 4), (1, P, 2) and (1, P, 10)")
    few = graph(tmp_path / "few.onnx", np.zeros((9, 4)), np.zeros((9, 2)), np.zeros((9, 10)))
    with pytest.raises(InputError) as refusal:
        RetinaFaceDetector(few).detect(image)
    assert_one_line(refusal, "gives 9 boxes")


def test_analyzer_checks_its_options(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown face detector 'haar'; choose from blazeface, retinaface"):
        FaceAnalyzer("haar")
    with pytest.raises(InputError, match="needs its weights"):
        FaceAnalyzer("retinaface")
    with pytest.raises(InputError, match="takes no weights"):
        FaceAnalyzer("blazeface", tmp_path / "r.onnx")
    weights = graph(tmp_path / "r.onnx", *outputs_with({}))
    assert FaceAnalyzer("retinaface", weights).analyze(np.zeros((SIDE, SIDE, 3), dtype=np.uint8)) == []
