import json
from collections.abc import Callable
from pathlib import Path

import pytest

from forgerank.types import InputError
from forgerank.weights.description import load_weights, seal

MakeWeights = Callable[..., Path]


def refusal(folder: Path) -> str:
    with pytest.raises(InputError) as caught:
        load_weights(folder)
    message = str(caught.value)
    assert "\n" not in message
    assert str(folder) in message
    return message


def test_description_and_content_are_read(tiny_weights: Path) -> None:
    weights = load_weights(tiny_weights)
    assert weights.metadata.labels == ("nose", "eye", "eyebrow", "lip", "hair")
    assert weights.metadata.files["onnx"].sha256 == weights.sha256
    assert weights.content == (tiny_weights / "tiny.onnx").read_bytes()


def test_missing_folder(tmp_path: Path) -> None:
    assert "No such file" in refusal(tmp_path / "nowhere")


def test_missing_network(tmp_path: Path, make_weights: MakeWeights) -> None:
    (make_weights(tmp_path) / "tiny.onnx").unlink()
    assert "tiny.onnx: cannot read" in refusal(tmp_path)


@pytest.mark.parametrize(
    "damage", [lambda content: content[:-1], lambda content: content + b" ", lambda _: b""]
)
def test_changed_network_is_refused_by_its_hash(
    tmp_path: Path, make_weights: MakeWeights, damage: Callable[[bytes], bytes]
) -> None:
    network = make_weights(tmp_path) / "tiny.onnx"
    network.write_bytes(damage(network.read_bytes()))
    assert "SHA-256" in refusal(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"name": "other"}', "\x00\x01"])
def test_foreign_description(tmp_path: Path, make_weights: MakeWeights, content: str) -> None:
    (make_weights(tmp_path) / "forgerank.json").write_text(content)
    assert "not a description of forgerank weights" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"thresholds": {"forged": 0.2, "real": 0.6, "components": [0.5] * 5}}, "threshold"),
        (
            {"thresholds": {"forged": 0.6, "real": 0.2, "components": [0.5] * 4}},
            "4 component thresholds for 5",
        ),
        ({"calibration": {"slope": -1.0, "intercept": 0.0}}, "slope"),
        ({"files": {"onnx": {"file": "../tiny.onnx", "sha256": "0" * 64}}}, "plain file name"),
        ({"files": {"onnx": {"file": "tiny.onnx", "sha256": "abc"}}}, "sha256"),
        ({"order": "random"}, "order"),
    ],
)
def test_inconsistent_description(
    tmp_path: Path, make_weights: MakeWeights, changes: dict[str, object], named: str
) -> None:
    assert named in refusal(make_weights(tmp_path, **changes))


def test_kind_that_is_not_there(tiny_weights: Path) -> None:
    with pytest.raises(InputError, match="lists no safetensors file"):
        load_weights(tiny_weights, kind="safetensors")


def test_unknown_keys_of_later_versions_are_allowed(tmp_path: Path, make_weights: MakeWeights) -> None:
    make_weights(tmp_path, added_later=1)
    assert json.loads((tmp_path / "forgerank.json").read_text())["added_later"] == 1
    assert load_weights(tmp_path).metadata.name == "tiny"


def test_a_sealed_description_from_before_the_zoom_is_one_of_whole_heads(
    tmp_path: Path, make_weights: MakeWeights
) -> None:
    path = make_weights(tmp_path) / "forgerank.json"
    description = json.loads(path.read_text())
    assert "zoom" not in description
    description["seal"] = seal(description)
    path.write_text(json.dumps(description))
    assert load_weights(tmp_path).metadata.zoom == 1.0
    path.write_text(json.dumps(description | {"zoom": 1.3}))
    assert "changed since it was written" in refusal(tmp_path)
    sealed = {key: value for key, value in description.items() if key != "seal"} | {"zoom": 1.3}
    path.write_text(json.dumps(sealed | {"seal": seal(sealed)}))
    assert load_weights(tmp_path).metadata.zoom == 1.3
    path.write_text(json.dumps(sealed | {"zoom": 5.0}))
    assert "zoom" in refusal(tmp_path)
