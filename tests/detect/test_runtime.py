from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from forgerank.detect.runtime import Runtime
from forgerank.types import InputError
from forgerank.weights.description import load_weights


def crops(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (64, 64, 3), dtype=np.uint8) for _ in range(count)]


def test_outputs_do_not_depend_on_the_batching(tiny_weights: Path) -> None:
    weights = load_weights(tiny_weights)
    together = Runtime(weights, threads=1, batch_size=8).run(crops(5))
    in_pairs = Runtime(weights, threads=1, batch_size=2).run(crops(5))
    assert together.component_maps.shape == (5, 5, 8, 8)
    assert together.similarity.shape == (5, 64, 64)
    for name in together.__slots__:
        np.testing.assert_allclose(getattr(together, name), getattr(in_pairs, name), atol=1e-6)


def test_channels_and_scale_reach_the_network(tiny_weights: Path) -> None:
    red = np.zeros((64, 64, 3), dtype=np.uint8)
    red[..., 0] = 255
    prediction = Runtime(load_weights(tiny_weights), threads=1).run([red, red[..., ::-1].copy()])
    # 1.6 * (1.0 - 0.4) = 0.96 for the pure colour that each component answers to
    np.testing.assert_allclose(
        prediction.component_probabilities[:, :2], [[0.96, 0.0], [0.0, 0.96]], atol=1e-6
    )


def test_content_that_is_no_onnx(tmp_path: Path, make_weights: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match="ONNX Runtime cannot load it") as caught:
        Runtime(load_weights(make_weights(tmp_path, b"not a network")))
    assert "\n" not in str(caught.value)


def test_foreign_network(tmp_path: Path, make_weights: Callable[..., Path]) -> None:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    answer = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "foreign", [value], [answer])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    assert isinstance(model, onnx.ModelProto)
    folder = make_weights(tmp_path, model.SerializeToString())
    with pytest.raises(InputError, match=r"not a forgerank network \(inputs \['x'\]"):
        Runtime(load_weights(folder))


def test_more_labels_than_answers(tmp_path: Path, make_weights: Callable[..., Path]) -> None:
    thresholds = {"forged": 0.6, "real": 0.2, "components": [0.5, 0.5]}
    folder = make_weights(tmp_path, labels=["nose", "eye"], thresholds=thresholds)
    with pytest.raises(InputError, match="answers for 5 components, its description names 2"):
        Runtime(load_weights(folder), threads=1).run(crops(1))


def test_a_machine_without_memory_is_no_fault_of_the_network(tiny_weights: Path) -> None:
    class Starved:
        def run(self, *_: object) -> None:
            raise RuntimeError("[ONNXRuntimeError] : 1 : FAIL : Failed to allocate memory for a buffer")

    runtime = Runtime(load_weights(tiny_weights), threads=1)
    runtime._session = Starved()  # type: ignore[assignment]
    with pytest.raises(RuntimeError, match="allocate memory"):
        runtime.run(crops(1))
