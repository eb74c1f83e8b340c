"""Whatever bit of a file of weights flips, no reader takes other values for the file's own."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch

from forgerank.data.prepare.autoencoder import AutoencoderConfig, load_autoencoder, train_autoencoder
from forgerank.detect import Detector
from forgerank.evaluation.scorers import open_scorer
from forgerank.model.baselines import build_network
from forgerank.model.network import Network
from forgerank.train.checkpoints import load_network, save_weights
from forgerank.train.config import parse_config
from forgerank.types import InputError
from forgerank.weights.description import load_weights, read_description, sealed_json
from forgerank.weights.hub import read_checkpoint, sealed_checkpoint
from squares import tiny_settings
from tiny import METADATA, tiny_network

FLIPS = 50
AUTOENCODER = AutoencoderConfig(size=16, width=4, latent=1, batch=1)


def black(_: int) -> np.ndarray:
    return np.zeros((16, 16, 3), np.uint8)


def resume(folder: Path) -> object:
    return train_autoencoder(black, 1, AUTOENCODER, minutes=0, out=folder, resume=True)


# File that is flipped, and what reads it.
READERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "detector, network": ("exported/forgerank.onnx", lambda root: Detector(root / "exported")),
    "scorer, network": ("exported/forgerank.onnx", lambda root: open_scorer(root / "exported")),
    "detector, description": ("exported/forgerank.json", lambda root: load_weights(root / "exported")),
    "scorer, description": ("exported/forgerank.json", lambda root: open_scorer(root / "exported")),
    "run, tensors": ("run/weights.safetensors", lambda root: load_network(root / "run/weights.safetensors")),
    "run, folder": ("run/weights.safetensors", lambda root: load_network(root / "run")),
    "run, description": ("run/weights.json", lambda root: load_network(root / "run/weights.safetensors")),
    "shared, tensors": ("run/weights.safetensors", lambda root: Network.from_pretrained(root / "run")),
    "shared, description": ("run/weights.json", lambda root: Network.from_pretrained(root / "run")),
    "card": ("run/weights.json", lambda root: read_description(root / "run/weights.json")),
    "checkpoint": ("run/last.ckpt", lambda root: read_checkpoint(root / "run/last.ckpt")),
    "network of a checkpoint": ("run/last.ckpt", lambda root: load_network(root / "run/last.ckpt")),
    "autoencoder": ("ae/autoencoder.safetensors", lambda root: load_autoencoder(root / "ae")),
    "autoencoder, description": ("ae/autoencoder.json", lambda root: load_autoencoder(root / "ae")),
    "autoencoder, checkpoint": ("ae/last.ckpt", lambda root: resume(root / "ae")),
}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Untrained networks in every kind of file."""
    root = tmp_path_factory.mktemp("weights")
    config = parse_config(tiny_settings(root, root / "run"), "test")
    network = build_network(config.model)
    save_weights(network, config, root / "run/weights.safetensors", {})
    state = {f"average.{name}": tensor for name, tensor in network.state_dict().items()}
    checkpoint = {"settings": config.model_dump(mode="json"), "state_dict": state}
    (root / "run/last.ckpt").write_bytes(sealed_checkpoint(checkpoint))
    train_autoencoder(black, 1, AUTOENCODER, minutes=0, out=root / "ae")
    export(root / "exported", tiny_network(), config.model_dump(mode="json"))
    return root


def export(folder: Path, network: bytes, settings: dict[str, Any]) -> None:
    folder.mkdir()
    (folder / "forgerank.onnx").write_bytes(network)
    entry = {"file": "forgerank.onnx", "sha256": hashlib.sha256(network).hexdigest()}
    description = METADATA | {"files": {"onnx": entry}, "settings": settings}
    (folder / "forgerank.json").write_bytes(sealed_json(description))


@pytest.mark.parametrize("name", READERS)
def test_a_flipped_bit(weights: Path, name: str) -> None:
    file, read = READERS[name]
    path = weights / file
    content = path.read_bytes()
    read(weights)
    try:
        for bit in Random(0).sample(range(8 * len(content)), FLIPS):
            flipped = bytearray(content)
            flipped[bit // 8] ^= 1 << bit % 8
            path.write_bytes(flipped)
            try:
                read(weights)
            except InputError:
                pass
            else:  # a line break became a tab, or the name of the seal another one: every value is the same
                assert path.suffix == ".json", bit
                before, now = json.loads(content), json.loads(flipped)
                assert {key: value for key, value in before.items() if now.get(key) != value}.keys() <= {
                    "seal"
                }
    finally:
        path.write_bytes(content)


@pytest.mark.parametrize("content", [b"", b"junk", b"\x08\x07"])
def test_junk_with_the_right_hash_is_one_line(weights: Path, tmp_path: Path, content: bytes) -> None:
    settings = json.loads((weights / "exported/forgerank.json").read_text())["settings"]
    export(tmp_path / "junk", content, settings)
    for read in (open_scorer, Detector):
        with pytest.raises(
            InputError, match=r"ONNX Runtime cannot load it|not a forgerank network"
        ) as caught:
            read(tmp_path / "junk")
        assert str(caught.value).startswith(f"{tmp_path / 'junk' / 'forgerank.onnx'}: ")
        assert str(caught.value).isprintable()


def test_a_foreign_network_with_the_right_hash_is_one_line(weights: Path, tmp_path: Path) -> None:
    from forgerank.weights.description import ASSETS

    settings = json.loads((weights / "exported/forgerank.json").read_text())["settings"]
    export(tmp_path / "foreign", (ASSETS / "face_landmark.onnx").read_bytes(), settings)
    with pytest.raises(InputError, match="not a forgerank network"):
        open_scorer(tmp_path / "foreign")
    # The right names, and another number of components.
    other = settings | {"model": settings["model"] | {"components": 1}}
    other["data"] = settings["data"] | {"vocabulary": "binary"}
    export(tmp_path / "other", tiny_network(), other)
    scorer = open_scorer(tmp_path / "other")
    with pytest.raises(InputError, match="not a forgerank network"):
        scorer.score({"image": torch.zeros(2, 3, 64, 64, dtype=torch.uint8)})
