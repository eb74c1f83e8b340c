"""Descriptions of weights, their files, hashes and seals, and everything that must refuse a changed one."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from forgerank.detect import Detector
from forgerank.evaluation.evaluate import evaluate
from forgerank.export.package import export
from forgerank.model.network import Network
from forgerank.types import InputError
from forgerank.weights.description import ASSETS, load_weights, read_description, seal, sealed_json

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
    assert "no such file" in refusal(tmp_path / "nowhere")


def test_a_file_in_place_of_a_folder(tiny_weights: Path) -> None:
    assert "tiny.onnx: is a file: name a folder of weights" in refusal(tiny_weights / "tiny.onnx")


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
        (
            {
                "thorough": {
                    "thresholds": {"forged": 0.6, "real": 0.2, "components": [0.5] * 6},
                    "calibration": {"slope": 1.0, "intercept": 0.0},
                }
            },
            "6 component thresholds for 5",
        ),
        ({"calibration": {"slope": -1.0, "intercept": 0.0}}, "slope"),
        ({"files": {"onnx": {"file": "../tiny.onnx", "sha256": "0" * 64}}}, "plain file name"),
        ({"files": {"onnx": {"file": "tiny\0.onnx", "sha256": "0" * 64}}}, "plain file name"),
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


@pytest.fixture
def changed(tmp_path: Path) -> Path:
    """The package's own weights; only a threshold in forgerank.json was changed by hand."""
    folder = tmp_path / "changed"
    folder.mkdir()
    for name in ("forgerank.onnx", "forgerank.safetensors"):
        (folder / name).symlink_to(ASSETS / name)
    description = json.loads((ASSETS / "forgerank.json").read_text())
    description["thresholds"]["forged"] = 0.5
    (folder / "forgerank.json").write_text(json.dumps(description))
    return folder


def start_service(folder: Path) -> object:
    from forgerank.serving.service.service_parts import assemble
    from forgerank.serving.service.service_settings import ServiceSettings

    return assemble(ServiceSettings(data=folder / "data", weights=folder))


def start_scan(folder: Path) -> object:
    from forgerank.serving.scan.scan_settings import Judging, weights_of

    return weights_of(Judging(weights=folder))


READERS: dict[str, Callable[[Path], object]] = {
    "detect": Detector,
    "evaluate": lambda folder: evaluate(folder, progress=False),
    "evaluate in torch": lambda folder: evaluate(folder / "forgerank.safetensors", progress=False),
    "from_pretrained": Network.from_pretrained,
    "export": lambda folder: export(folder / "forgerank.safetensors", folder / "out", progress=False),
    "service": start_service,
    "scan": start_scan,
}


@pytest.mark.parametrize("reader", READERS)
def test_a_changed_threshold_is_refused_by(reader: str, changed: Path) -> None:
    with pytest.raises(InputError) as caught:
        READERS[reader](changed)
    assert str(caught.value) == (
        f"{changed / 'forgerank.json'}: changed since it was written: its seal, a SHA-256, differs"
    )
    assert not (changed / "out").exists()


def test_what_is_sealed_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "weights.json"
    path.write_bytes(sealed_json({"files": {}, "labels": ("é", "b"), "tau": 0.1}))
    description = read_description(path)
    assert description == {"files": {}, "labels": ["é", "b"], "tau": 0.1, "seal": seal(description)}
    path.write_text(path.read_text().replace("0.1", "0.2"))
    with pytest.raises(InputError, match="changed since it was written"):
        read_description(path)


@pytest.mark.parametrize("content", ['{"files": 1}', '{"seal": "x", "files": []}', "[" * 100_000, "\ud83d"])
def test_a_file_that_is_no_description(tmp_path: Path, content: str) -> None:
    path = tmp_path / "weights.json"
    path.write_bytes(content.encode(errors="surrogatepass"))
    with pytest.raises(InputError, match="not a description of forgerank weights") as caught:
        read_description(path)
    assert str(caught.value).isprintable()
