"""Files of the release before the settings were renamed, written here as that release wrote them."""

import copy
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save

from forgerank.model.baselines import build_network
from forgerank.model.network import Network
from forgerank.train import fit
from forgerank.train.checkpoints import load_network
from forgerank.train.config import TrainConfig, load_config, parse_config
from forgerank.types import InputError
from forgerank.weights.description import ASSETS, load_weights, seal
from forgerank.weights.renamed_keys import METRICS, SETTINGS, convert_description, convert_settings
from squares import tiny_settings

NEW = {
    "init_from": None,
    "init_from_only": "",
    "ema_decay": 0.75,
    "images_per_epoch": 24,
    "data": {"train_images": 40, "val_images": 6},
    "optim": {"min_lr_factor": 0.25},
}


def old_form(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings as the earlier release wrote them: complete, with the old names."""
    old = copy.deepcopy(settings)
    data, optim = old["data"], old["optim"]
    old["start"] = old.pop("init_from")
    old["start_only"] = old.pop("init_from_only")
    old["average_decay"] = old.pop("ema_decay")
    old["pictures_per_epoch"] = old.pop("images_per_epoch")
    data["train_pictures"] = data.pop("train_images")
    data["val_pictures"] = data.pop("val_images")
    optim["floor"] = optim.pop("min_lr_factor")
    return old


@pytest.fixture
def config(tmp_path: Path) -> TrainConfig:
    return parse_config(tiny_settings(tmp_path, tmp_path / "run", **NEW), "test")


@pytest.fixture
def network(config: TrainConfig) -> torch.nn.Module:
    torch.manual_seed(0)
    return build_network(config.model).eval()


@pytest.fixture
def run_folder(config: TrainConfig, network: torch.nn.Module, tmp_path: Path) -> Path:
    """What a run of the earlier release left: a checkpoint, and weights whose description has no seal."""
    settings = old_form(config.model_dump(mode="json"))
    state = network.state_dict()
    both = {f"network.{name}": torch.zeros_like(value) for name, value in state.items()}
    both |= {f"average.{name}": value for name, value in state.items()}
    checkpoint = {"global_step": 5, "state_dict": both, "settings": settings, "elapsed_seconds": 60.0}
    torch.save(checkpoint, tmp_path / "last.ckpt")
    content = save(state)
    (tmp_path / "weights.safetensors").write_bytes(content)
    description = {
        "name": config.name,
        "files": {
            "safetensors": {"file": "weights.safetensors", "sha256": hashlib.sha256(content).hexdigest()}
        },
        "input_size": config.model.input_size,
        "zoom": config.model.zoom,
        "labels": list(config.data.labels),
        "order": config.loss.order,
        "tau": config.loss.tau,
        "metrics": {"val/auc": 0.5},
        "settings": settings,
        "git_revision": "0" * 40,
    }
    (tmp_path / "weights.json").write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("file", ["last.ckpt", "weights.safetensors"])
def test_networks_of_the_old_form_open(
    run_folder: Path, config: TrainConfig, network: torch.nn.Module, file: str
) -> None:
    loaded, settings = load_network(run_folder / file)
    assert settings == config
    for name, value in network.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name


def test_training_begins_from_the_old_form(
    run_folder: Path, config: TrainConfig, network: torch.nn.Module
) -> None:
    started = fit._build_network(config.model_copy(update={"init_from": run_folder / "last.ckpt"}))
    for name, value in network.state_dict().items():
        assert torch.equal(started.state_dict()[name], value), name


def test_a_network_of_a_run_of_the_old_form_is_described_in_the_new(run_folder: Path) -> None:
    settings = Network.from_pretrained(run_folder).description["settings"]
    assert settings["ema_decay"] == 0.75
    assert settings["data"]["val_images"] == 6
    assert not {"average_decay", "start", "val_pictures"} & {*settings, *settings["data"]}


def test_an_exported_folder_of_the_old_form_opens_and_its_seal_still_counts(tmp_path: Path) -> None:
    new = json.loads((ASSETS / "forgerank.json").read_text())
    old = {**new, "settings": old_form(new["settings"])}
    text = json.dumps({**old, "seal": seal(old)}).replace('"component_ap"', '"component_map"')
    old = json.loads(text)
    old["seal"] = seal(old)
    (tmp_path / "forgerank.json").write_text(json.dumps(old))
    (tmp_path / "forgerank.onnx").symlink_to(ASSETS / "forgerank.onnx")
    metadata = load_weights(tmp_path).metadata
    assert metadata.settings == new["settings"]
    assert metadata.metrics == new["metrics"]
    old["settings"]["average_decay"] = 0.5
    (tmp_path / "forgerank.json").write_text(json.dumps(old))
    with pytest.raises(InputError, match="changed since it was written"):
        load_weights(tmp_path)


def test_conversion_leaves_its_argument_and_everything_new_as_they_are(config: TrainConfig) -> None:
    new = config.model_dump(mode="json")
    assert convert_settings(new) == new
    old = old_form(new)
    before = copy.deepcopy(old)
    assert convert_settings(old) == new
    assert old == before
    for odd in (None, 1, [], {"data": 1, "optim": None}):
        assert convert_settings(odd) == odd
    assert convert_description({"sha256": "x", "steps": 1})["files"]["safetensors"]["sha256"] == "x"
    assert convert_description({"files": {}, "metrics": {"a": {"component_map": 1}}})["metrics"] == {
        "a": {"component_ap": 1}
    }


def test_every_new_name_is_one_that_is_in_use() -> None:
    own = json.loads((ASSETS / "forgerank.json").read_text())
    for old, new in SETTINGS.items():
        level = own["settings"]
        for key in new.split("."):
            level = level[key] if isinstance(level, dict) else pytest.fail(new)
        assert f'"{old.rpartition(".")[2]}":' not in json.dumps(own)
    assert set(METRICS.values()) <= set(own["metrics"]["metrics"])


@pytest.mark.parametrize("old", SETTINGS)
def test_a_settings_file_with_an_old_name_is_refused_with_the_new_one(tmp_path: Path, old: str) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(json.dumps(tiny_settings(tmp_path, tmp_path / "run")))
    with pytest.raises(InputError) as caught:
        load_config(path, [f"{old}=1"])
    assert str(caught.value) == f"{path}: {old}: now called {SETTINGS[old].rpartition('.')[2]}"
