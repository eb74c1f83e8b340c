"""A tiny network with the exported one's inputs and outputs, whose answers can be read off a face's colours.

Red stands for a forged nose, blue for an eye, green for an eyebrow, magenta (weaker) for a lip; hair never.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIZE, SIDE = 64, 8

METADATA: dict[str, Any] = {
    "name": "tiny",
    "version": "1",
    "input_size": SIZE,
    "labels": ["nose", "eye", "eyebrow", "lip", "hair"],
    "order": "first_to_last",
    "thresholds": {"forged": 0.6, "real": 0.2, "components": [0.3, 0.3, 0.3, 0.3, 0.3]},
    "calibration": {"slope": 1.0, "intercept": 0.0},
    "tau": 0.25,
    "metrics": {},
    "settings": {},
    "git_revision": "0" * 40,
    "licence": "Apache-2.0",
}


def tiny_network() -> bytes:
    """Component maps are colour excesses, P(x) the largest of them, S = 1 - |difference in redness|."""
    colours = np.array([[1, -1, 0], [-1, 0, 1], [-1, 1, 0], [0.4, -0.8, 0.4], [0, 0, 0]], dtype=np.float32)
    bias = np.array([-0.4, -0.4, -0.4, -0.1, 0.0], dtype=np.float32)
    constants = {
        "weight": 1.6 * colours.reshape(5, 3, 1, 1),
        "bias": 1.6 * bias,
        "zero": np.float32(0),
        "one": np.float32(1),
        "column": np.array([0, SIDE * SIDE, 1]),
        "first": np.array([0]),
        "second": np.array([1]),
        "space": np.array([2, 3]),
        "channel": np.array([1]),
    }
    stride = SIZE // SIDE
    nodes = [
        helper.make_node(
            "AveragePool", ["images"], ["pooled"], kernel_shape=[stride] * 2, strides=[stride] * 2
        ),
        helper.make_node("Conv", ["pooled", "weight", "bias"], ["excess"]),
        helper.make_node("Clip", ["excess", "zero", "one"], ["component_maps"]),
        helper.make_node("ReduceMax", ["component_maps", "space"], ["component_probabilities"], keepdims=0),
        helper.make_node("ReduceMax", ["component_probabilities", "channel"], ["probability"], keepdims=0),
        helper.make_node("Identity", ["probability"], ["gap"]),
        helper.make_node("Slice", ["component_maps", "first", "second", "channel"], ["redness"]),
        helper.make_node("Reshape", ["redness", "column"], ["rows"]),
        helper.make_node("Transpose", ["rows"], ["columns"], perm=[0, 2, 1]),
        helper.make_node("Sub", ["rows", "columns"], ["difference"]),
        helper.make_node("Abs", ["difference"], ["distance"]),
        helper.make_node("Sub", ["one", "distance"], ["similarity"]),
    ]
    tokens = SIDE * SIDE
    shapes = {
        "gap": ["B"],
        "probability": ["B"],
        "component_probabilities": ["B", 5],
        "component_maps": ["B", 5, SIDE, SIDE],
        "similarity": ["B", tokens, tokens],
    }
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["B", 3, SIZE, SIZE])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def write_weights(folder: Path, network: bytes, **changes: Any) -> Path:
    """A folder of weights as `Detector(weights=...)` takes it; `changes` replace keys of the description."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tiny.onnx").write_bytes(network)
    entry = {"file": "tiny.onnx", "sha256": hashlib.sha256(network).hexdigest()}
    description = {**METADATA, "files": {"onnx": entry}, **changes}
    (folder / "forgerank.json").write_text(json.dumps(description), encoding="utf-8")
    return folder
