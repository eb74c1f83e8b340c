"""Autoencoders and packs: the crops that they are trained on, and what they leave for the forge."""

from pathlib import Path

import numpy as np
import pytest
import torch

from forgerank.data.forge_sources import PackForge
from forgerank.data.formats.pack import ZOOM, Pack, Reconstructions
from forgerank.data.prepare.autoencoder import (
    Autoencoder,
    AutoencoderConfig,
    cached_crops,
    face_crop,
    reconstruct_pack,
)
from forgerank.faces.align import TEMPLATE, estimate_alignment

SIZE = 32


@pytest.fixture(scope="module")
def pack(pack_root: Path) -> Pack:
    return Pack(pack_root, "train", label="real")


def untrained(seed: int) -> Autoencoder:
    torch.manual_seed(seed)
    return Autoencoder(AutoencoderConfig(size=SIZE, width=4, latent=4)).eval()


def test_the_crop_is_the_aligned_face(pack: Pack) -> None:
    for size in (SIZE, 96):
        crop = face_crop(pack, 0, size)
        assert crop.shape == (size, size, 3)
        aligned = estimate_alignment(pack.points(0), size, ZOOM).crop(pack.image(0))
        inner = slice(size // 8, -size // 8)
        difference = crop[inner, inner].astype(int) - aligned[inner, inner]
        assert np.abs(difference).mean() < 6
        assert abs(difference.mean()) < 1.5


def test_crops_are_cut_once(pack: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    crop, count = cached_crops(pack, SIZE, 2, 0)
    assert count == 2
    first = crop(1)
    monkeypatch.setattr("forgerank.data.prepare.autoencoder.face_crop", None)
    assert crop(1) is first
    assert cached_crops(pack, SIZE, None, 0)[1] == len(pack)


def test_every_face_is_reconstructed_by_one_of_the_models(
    pack: Pack, pack_root: Path, tmp_path: Path
) -> None:
    told: list[tuple[int, int]] = []
    models = [untrained(0), untrained(1)]
    count = reconstruct_pack(
        pack, models, tmp_path, name="train", progress=lambda *counts: told.append(counts)
    )
    half = -(-count // 2)
    assert count == len(pack)
    assert told == [(half, count), (count, count)]
    assert [path.name for path in tmp_path.iterdir()] == ["train.tar"]
    store = Reconstructions(tmp_path)
    assert len(store) == count
    for index in range(count):
        entry = pack.entry(index)
        assert entry.key in store
        rebuilt = store.load(entry.key, pack.landmarks(index))
        assert rebuilt.image.shape == (SIZE, SIZE, 3)
        # The matrix lays the crop over this face.
        centre = (np.array([0.5, 0.56]) + (TEMPLATE[2] - [0.5, 0.56]) * ZOOM) * SIZE
        nose = rebuilt.matrix[:, :2] @ pack.points(index)[2] + rebuilt.matrix[:, 2]
        assert np.abs(nose - centre).max() < 0.15 * SIZE
    first = (tmp_path / "train.tar").read_bytes()
    reconstruct_pack(pack, models, tmp_path, name="train")
    assert (tmp_path / "train.tar").read_bytes() == first
    forge = PackForge(pack_root, "train", kinds={"resynthesis": 1.0}, reconstructions=tmp_path)
    image = forge.load(1, np.random.default_rng(0))
    assert image.fake
    assert image.parts is not None


def test_a_limit_takes_some_of_the_faces(pack: Pack, tmp_path: Path) -> None:
    assert reconstruct_pack(pack, [untrained(0)], tmp_path, name="some", limit=2) == 2
    assert len(Reconstructions(tmp_path)) == 2
