"""Autoencoders of faces: each decoder learns, training goes on where it stopped, files are checked."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import nn

from forgerank.data.prepare.autoencoder import (
    Autoencoder,
    AutoencoderConfig,
    Decoder,
    load_autoencoder,
    reconstruct,
    reconstruction_loss,
    train_autoencoder,
)
from forgerank.types import Image, InputError
from forgerank.weights.description import sealed_json

SIZE, COUNT = 32, 8
DECODERS: tuple[Decoder, ...] = ("transposed", "nearest", "shuffle")


@pytest.fixture(scope="module")
def images() -> NDArray[np.uint8]:
    """A few smooth random images, (8, 32, 32, 3)."""
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.uniform(20, 235, (COUNT, 3, 4, 4)))
    smooth = nn.functional.interpolate(coarse, size=(SIZE, SIZE), mode="bicubic")
    return smooth.clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()


def small(decoder: Decoder = "nearest", seed: int = 0) -> AutoencoderConfig:
    return AutoencoderConfig(
        decoder=decoder, size=SIZE, width=8, latent=32, batch=COUNT, learning_rate=5e-3, seed=seed
    )


@pytest.mark.parametrize("decoder", DECODERS)
def test_each_decoder_overfits(decoder: Decoder, images: NDArray[np.uint8], tmp_path: Path) -> None:
    told: list[int] = []
    trained = train_autoencoder(
        images.__getitem__,
        COUNT,
        small(decoder),
        minutes=60,
        steps=250,
        out=tmp_path,
        progress=lambda step, minutes, loss: told.append(step),
    )
    assert (trained.steps, told[-1]) == (250, 250)
    model = load_autoencoder(trained.path)
    rebuilt = reconstruct(model, images)
    assert rebuilt.shape == images.shape
    assert rebuilt.dtype == np.uint8
    error = np.abs(rebuilt.astype(int) - images).mean()
    assert error < 0.5 * np.abs(images.mean(0) - images).mean()


def test_bfloat16_learns_as_well(images: NDArray[np.uint8], tmp_path: Path) -> None:
    config = small("shuffle").model_copy(update={"precision": "bf16-mixed"})
    losses = [
        train_autoencoder(
            images.__getitem__, COUNT, one, minutes=60, steps=100, out=tmp_path / one.precision
        ).loss
        for one in (config, small("shuffle"))
    ]
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=0.1)
    model = load_autoencoder(tmp_path / "bf16-mixed")
    assert {value.dtype for value in model.state_dict().values()} == {torch.float32}


@pytest.mark.parametrize("decoder", DECODERS)
def test_the_shape_is_kept(decoder: Decoder) -> None:
    model = Autoencoder(AutoencoderConfig(decoder=decoder, size=48))
    assert model(torch.zeros(2, 3, 48, 48)).shape == (2, 3, 48, 48)
    assert model.encoder(torch.zeros(1, 3, 48, 48)).shape == (1, 64, 3, 3)


def test_training_goes_on_where_it_stopped(images: NDArray[np.uint8], tmp_path: Path) -> None:
    seen: dict[str, list[int]] = {"whole": [], "halves": []}

    def run(name: str, steps: int, resume: bool) -> Path:
        def crop(index: int) -> Image:
            seen[name].append(index)
            return images[index]

        config = AutoencoderConfig(size=SIZE, width=4, latent=4, batch=3)
        return train_autoencoder(
            crop, COUNT, config, minutes=60, steps=steps, out=tmp_path / name, resume=resume
        ).path

    run("whole", 12, False)
    run("halves", 5, False)
    path = run("halves", 12, True)
    assert seen["whole"] == seen["halves"]
    assert sorted(seen["whole"][:COUNT]) == list(range(COUNT))
    assert json.loads(path.with_suffix(".json").read_text())["steps"] == 12
    with pytest.raises(InputError, match="other settings"):
        train_autoencoder(
            images.__getitem__, COUNT, small(), minutes=60, steps=3, out=tmp_path / "whole", resume=True
        )
    (tmp_path / "whole" / "last.ckpt").write_bytes(b"no checkpoint")
    with pytest.raises(InputError, match="damaged or no checkpoint"):
        train_autoencoder(
            images.__getitem__, COUNT, small(), minutes=60, steps=3, out=tmp_path / "whole", resume=True
        )


def test_time_ends_training(images: NDArray[np.uint8], tmp_path: Path) -> None:
    trained = train_autoencoder(images.__getitem__, COUNT, small(), minutes=0, out=tmp_path)
    assert trained.steps == 0
    assert reconstruct(load_autoencoder(tmp_path), images[:0]).shape == (0, SIZE, SIZE, 3)


def test_the_loss_is_that_of_levels_and_of_their_differences() -> None:
    rng = torch.Generator().manual_seed(0)
    rebuilt, images = torch.rand(2, 2, 3, 4, 4, generator=rng)
    error = (rebuilt - images).double().numpy()
    across, down = np.abs(np.diff(error, axis=3)).mean(), np.abs(np.diff(error, axis=2)).mean()
    expected = np.abs(error).mean() + 0.7 * (across + down)
    assert float(reconstruction_loss(rebuilt, images, 0.7)) == pytest.approx(expected, rel=1e-5)
    assert float(reconstruction_loss(rebuilt, images, 0.0)) == pytest.approx(np.abs(error).mean(), rel=1e-5)


def test_what_does_not_fit_is_said(images: NDArray[np.uint8], tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="multiple of 16"):
        AutoencoderConfig(size=100)
    with pytest.raises(InputError, match="no crops"):
        train_autoencoder(images.__getitem__, 0, small(), minutes=1, out=tmp_path)
    with pytest.raises(InputError, match="has shape"):
        train_autoencoder(lambda i: images[i, :16], COUNT, small(), minutes=1, out=tmp_path)
    with pytest.raises(InputError, match="cannot read"):
        load_autoencoder(tmp_path)
    path = train_autoencoder(images.__getitem__, COUNT, small(), minutes=0, out=tmp_path).path
    description = json.loads(path.with_suffix(".json").read_text())
    description["settings"]["width"] = 12
    path.with_suffix(".json").write_text(json.dumps(description))
    with pytest.raises(InputError, match="changed since it was written"):
        load_autoencoder(path)
    path.with_suffix(".json").write_bytes(sealed_json(description))
    with pytest.raises(InputError, match=r"does not fit its own settings: size mismatch for encoder\.0\."):
        load_autoencoder(path)
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(InputError, match="SHA-256 differs"):
        load_autoencoder(path)
