import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from forgerank.detect.runtime import OUTPUTS, Runtime, order_output
from forgerank.evaluation.evaluate import evaluate
from forgerank.evaluation.scorers import open_scorer
from forgerank.export import onnx_graph as graph
from forgerank.export import package
from forgerank.export.package import export
from forgerank.losses.mil import forgery_gap, forgery_probability
from forgerank.model.baselines import build_network
from forgerank.model.config import ModelConfig
from forgerank.model.network import Network
from forgerank.train import fit
from forgerank.train.checkpoints import load_network, save_weights
from forgerank.train.config import SourceConfig, parse_config
from forgerank.types import InputError
from forgerank.weights.description import ASSETS, load_weights, seal
from squares import tiny_settings, write_squares

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights that tell squares from noise."""
    folder = tmp_path_factory.mktemp("export")
    root = write_squares(folder / "squares", {"train": 64, "val": 24})
    settings = tiny_settings(root, folder / "run", epochs=6)
    return fit.run(parse_config(settings, "test"), progress=False)


@pytest.fixture(scope="module")
def exported(weights: Path) -> Path:
    out = weights.parent / "exported"
    export(weights, out, resamples=5, progress=False)
    return out


@pytest.fixture(scope="module")
def float_graph(weights: Path) -> tuple[Path, float]:
    """The graph before anything is quantised, and its difference from torch."""
    network, config = load_network(weights)
    path = weights.parent / "float.onnx"
    return path, graph.export_onnx(network, config.loss.tau, path)


def test_onnx_agrees_with_torch_and_with_the_losses(weights: Path, float_graph: tuple[Path, float]) -> None:
    network, config = load_network(weights)
    path, difference = float_graph
    assert difference <= 1e-4
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert [output.name for output in session.get_outputs()] == list(OUTPUTS)
    images = torch.rand(5, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    gap, probability, components, maps, similarity = session.run(list(OUTPUTS), {"images": images.numpy()})
    with torch.no_grad():
        output = network(images)
    expected = forgery_gap(output.tokens)
    assert np.allclose(gap, expected, atol=1e-4)
    assert np.allclose(probability, forgery_probability(expected, config.loss.tau), atol=1e-4)
    assert np.allclose(components, output.logits.sigmoid(), atol=1e-4)
    assert output.mask_logits is not None
    assert np.allclose(maps, output.mask_logits.sigmoid(), atol=1e-4)
    assert similarity.shape == (5, 16, 16)
    assert 0 <= similarity.min() <= similarity.max() <= 1


@pytest.mark.parametrize("size", [96, 128])
def test_a_network_that_pools_first_is_exported(size: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = ModelConfig(
        backbone="tf_efficientnet_lite0", fold_norm=True, input_size=size, stride=16, width=32,
        pyramid_width=16, pool_first=True, layers=1, heads=2, feedforward=32, mask_head=True, order_head=True,
    )  # fmt: skip
    network = Network(config).eval()
    assert graph.export_onnx(network, 0.1, tmp_path / "pooled.onnx") <= 1e-4
    session = onnxruntime.InferenceSession(tmp_path / "pooled.onnx", providers=["CPUExecutionProvider"])
    images = torch.rand(3, 3, size, size, generator=torch.Generator().manual_seed(1))
    gap, *_ = session.run(list(OUTPUTS), {"images": images.numpy()})
    with torch.no_grad():
        assert np.allclose(gap, forgery_gap(network(images).tokens), atol=1e-4)


def test_the_graph_holds_no_path_of_the_machine(float_graph: tuple[Path, float]) -> None:
    path, _ = float_graph
    for content in (path.read_bytes(), (ASSETS / "forgerank.onnx").read_bytes()):
        assert b'.py"' not in content  # as in: File "/home/anna/…/network.py", line 142
        assert b"/forgerank/" not in content


def test_class_activation_maps_without_a_mask_head() -> None:
    settings = tiny_settings(Path(), Path(), loss={"lambda_mask": 0}, model={"mask_head": False})
    config = parse_config(settings, "test")
    network = Network(config.model).eval()
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        maps = graph.ExportGraph(network, 0.1)(images)[3]
        expected = network(images).component_maps.sigmoid()
    assert torch.equal(maps, expected)


def test_an_order_head_is_exported(tmp_path: Path) -> None:
    settings = tiny_settings(Path(), Path(), model={"order_head": True})
    network = Network(parse_config(settings, "test").model).eval()
    graph.export_onnx(network, 0.1, tmp_path / "float.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "float.onnx", providers=["CPUExecutionProvider"])
    assert order_output(session) == "order_scores"
    images = torch.rand(2, 3, 64, 64)
    (scores,) = session.run(["order_scores"], {"images": images.numpy()})
    with torch.no_grad():
        assert np.allclose(scores, network(images).order_logits.sigmoid(), atol=1e-4)


def test_data_of_one_class_are_named(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predictions = SimpleNamespace(forged=np.zeros(3, bool))
    monkeypatch.setattr(graph, "export_onnx", lambda *_: 0.0)
    monkeypatch.setattr(package, "_choose", lambda *_, **__: (b"", predictions, {}))
    with pytest.raises(InputError, match=r"^some, val split: no forged image, which calibration needs$"):
        export(weights, tmp_path / "out", roots=[Path("some")])


def test_a_difference_from_torch_is_an_error(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, config = load_network(weights)
    monkeypatch.setattr(graph, "TOLERANCE", -1.0)
    with pytest.raises(ValueError, match="ONNX and torch differ"):
        graph.export_onnx(network, config.loss.tau, tmp_path / "float.onnx")


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch.onnx, "export", full)
    network = build_network(ModelConfig(**tiny_settings(tmp_path, tmp_path)["model"], pretrained=False))
    assert isinstance(network, Network)
    with pytest.raises(InputError, match=r"x\.onnx: cannot be written \(no space left on device\)"):
        graph.export_onnx(network, 0.25, tmp_path / "x.onnx")


def test_the_exported_folder_is_what_the_detector_loads(exported: Path) -> None:
    loaded = load_weights(exported)
    metadata = loaded.metadata
    assert set(metadata.files) == {"onnx", "safetensors"}
    assert load_weights(exported, kind="safetensors").sha256 == metadata.files["safetensors"].sha256
    assert (metadata.input_size, metadata.order) == (64, "first_to_last")
    assert metadata.normalisation is not None
    assert {name: len(values) for name, values in metadata.normalisation.items()} == {"mean": 3, "std": 3}
    assert metadata.metrics["torch_difference"] <= 1e-4
    assert metadata.metrics["pictures"] == 24
    assert 0.5 <= metadata.thresholds.forged <= 1
    crops = list(np.random.default_rng(0).integers(0, 256, size=(3, 64, 64, 3), dtype=np.uint8))
    prediction = Runtime(loaded, threads=1).run(crops)
    assert prediction.component_maps.shape == (3, 5, 4, 4)
    description = json.loads((exported / "forgerank.json").read_text())
    assert metadata.seal == description["seal"] == seal(description)


@pytest.mark.parametrize(("cost", "precision"), [(2.0, "int8"), (-2.0, "float32")])
def test_int8_is_kept_where_it_costs_less_than_allowed(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cost: float, precision: str
) -> None:
    monkeypatch.setattr(package, "INT8_COST", cost)
    metrics = export(weights, tmp_path, limit=12, resamples=2, progress=False).metrics
    assert metrics["precision"] == precision
    assert {"float32_auc", "int8_auc"} <= set(metrics)
    operators = {node.op_type for node in onnx.load(tmp_path / "forgerank.onnx").graph.node}
    assert ("QuantizeLinear" in operators) == (precision == "int8")


def test_evaluation_of_the_exported_files(exported: Path) -> None:
    onnx_result = evaluate(exported, resamples=2, progress=False)
    torch_result = evaluate(exported / "forgerank.safetensors", resamples=2, progress=False)
    for result in (onnx_result, torch_result):
        assert result["metrics"]["false_positive_rate"]["value"] is not None
        assert result["metrics"]["auc"]["value"] > 0.9


def test_several_views_are_calibrated_where_that_is_asked_for(weights: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"int8": False, "limit": 12, "resamples": 2, "progress": False}
    metadata = export(weights, tmp_path, thorough=True, **options)
    assert metadata.thorough is not None
    assert metadata.thorough.calibration != metadata.calibration
    held_out = metadata.metrics["held_out"], metadata.metrics["held_out_thorough"]
    assert [set(rates) for rates in held_out] == [{"plain", "wild", "sources"}] * 2
    for path in (tmp_path, tmp_path / "forgerank.safetensors"):
        assert open_scorer(path).calibration == metadata.calibration
        assert open_scorer(path, thorough=True).calibration == metadata.thorough.calibration
        assert open_scorer(path, thorough=True).thresholds == metadata.thorough.thresholds


def test_calibrated_on_the_sources_of_other_settings(weights: Path, tmp_path: Path) -> None:
    own = load_network(weights)[1].data
    sources = [SourceConfig(name=name, dataset=own.dataset, roots=own.roots) for name in ("one", "two")]
    options: dict[str, Any] = {"int8": False, "limit": 12, "resamples": 2, "progress": False}
    data = own.model_copy(update={"sources": tuple(sources)})
    metadata = export(weights, tmp_path / "out", sources=data, **options)
    assert metadata.metrics["pictures"] == 24
    assert set(metadata.metrics["held_out"]["sources"]) == {"one", "two"}
    assert metadata.settings["data"]["sources"] == []  # those of the run
    with pytest.raises(InputError, match=r"name no data\.sources"):
        export(weights, tmp_path / "none", sources=own, **options)
    assert not (tmp_path / "none").exists()


def test_export_without_int8_and_of_nothing(weights: Path, tmp_path: Path) -> None:
    metadata = export(weights, tmp_path / "out", int8=False, limit=12, resamples=2, progress=False)
    assert metadata.metrics["precision"] == "float32"
    assert metadata.metrics["pictures"] == 12
    with pytest.raises(InputError, match="none"):
        export(tmp_path / "none.safetensors", tmp_path / "out", progress=False)


def test_a_network_of_whole_images_is_not_exported(tmp_path: Path) -> None:
    """The detector would show it aligned faces, which it has never seen."""
    config = parse_config(tiny_settings(tmp_path, tmp_path, data={"align": False}), "test")
    save_weights(build_network(config.model), config, tmp_path / "weights.safetensors", {})
    with pytest.raises(InputError, match=r"weights.safetensors: was trained on whole images"):
        export(tmp_path / "weights.safetensors", tmp_path / "out", progress=False)


def test_a_baseline_is_not_exported(tmp_path: Path) -> None:
    settings = tiny_settings(
        tmp_path, tmp_path, model={"kind": "queries", "mask_head": False}, loss={"lambda_mask": 0}
    )
    config = parse_config(settings, "test")
    save_weights(build_network(config.model), config, tmp_path / "weights.safetensors", {})
    with pytest.raises(InputError, match=r"weights.safetensors: only networks of kind ranking.*queries$"):
        export(tmp_path / "weights.safetensors", tmp_path / "out", progress=False)
