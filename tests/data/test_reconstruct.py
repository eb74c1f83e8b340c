"""Autoencoders and packs: the crops that they are trained on, and what they leave for the forge."""

import shutil
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
    write_reconstructions,
)
from forgerank.data.tar_files import tar_members
from forgerank.faces.align import TEMPLATE, estimate_alignment
from forgerank.types import InputError

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
    crop, count = cached_crops(pack, SIZE, 2, 0, unread=[])
    assert count == 2
    first = crop(1)
    monkeypatch.setattr("forgerank.data.prepare.autoencoder.face_crop", None)
    assert crop(1) is first
    assert cached_crops(pack, SIZE, None, 0, unread=[])[1] == len(pack)


def test_every_face_is_reconstructed_by_one_of_the_models(
    pack: Pack, pack_root: Path, tmp_path: Path
) -> None:
    told: list[tuple[int, int]] = []
    models = [untrained(0), untrained(1)]
    count = reconstruct_pack(
        pack, models, tmp_path, name="train", progress=lambda *counts: told.append(counts), unread=[]
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
    reconstruct_pack(pack, models, tmp_path, name="train", unread=[])
    assert (tmp_path / "train.tar").read_bytes() == first
    forge = PackForge(pack_root, "train", kinds={"resynthesis": 1.0}, reconstructions=tmp_path)
    image = forge.load(1, np.random.default_rng(0))
    assert image.fake
    assert image.parts is not None


def test_a_limit_takes_some_of_the_faces(pack: Pack, tmp_path: Path) -> None:
    assert reconstruct_pack(pack, [untrained(0)], tmp_path, name="some", limit=2, unread=[]) == 2
    assert len(Reconstructions(tmp_path)) == 2


@pytest.fixture
def torn(pack_root: Path, tmp_path: Path) -> Pack:
    """A pack one of whose real training faces cannot be read."""
    shutil.copytree(pack_root, tmp_path / "torn")
    torn = Pack(tmp_path / "torn", "train", label="real")
    sample = torn.sample(0)
    member = tar_members(sample.image.parent)[sample.image.name]
    with sample.image.parent.open("r+b") as file:
        file.seek(member.offset + member.size // 2)
        file.write(b"damage")
    return torn


def test_a_face_that_cannot_be_read_costs_no_other(torn: Pack, tmp_path: Path) -> None:
    unread: list[str] = []
    out = tmp_path / "out"
    assert reconstruct_pack(torn, [untrained(0)], out, name="train", unread=unread) == len(torn) - 1
    assert unread == [f"{torn.sample(0).image}: changed since it was written"]
    assert torn.entry(0).key not in Reconstructions(out)
    unread = []
    crop, count = cached_crops(torn, SIZE, None, 0, unread=unread)
    crops = [crop(number) for number in range(count)]
    assert len({image.tobytes() for image in crops}) == count - 1
    assert len(unread) == 1


def test_a_pack_of_which_nothing_can_be_read_is_one_line(torn: Pack, tmp_path: Path) -> None:
    for path in (tmp_path / "torn").glob("*.tar"):
        path.write_bytes(bytes(path.stat().st_size))
    crop, count = cached_crops(torn, SIZE, None, 0, unread=[])
    with pytest.raises(InputError, match=f"torn: none of {count} faces can be read: .*changed since"):
        crop(0)
    with pytest.raises(InputError, match=f"torn: none of {count} faces can be read: .*changed since"):
        reconstruct_pack(torn, [untrained(0)], tmp_path / "out", name="train", unread=[])
    assert list((tmp_path / "out").iterdir()) == []


def test_reconstructions_of_another_pack_are_refused(pack: Pack, pack_root: Path, tmp_path: Path) -> None:
    out, other = tmp_path / "out", tmp_path / "other"
    write_reconstructions(out, "train", [("another", pack.image(0))], pack=pack)
    for kinds in ({"resynthesis": 1.0}, {"resynthesis": 1.0, "chain": 1.0}):
        with pytest.raises(InputError, match="holds none of the train faces of "):
            PackForge(pack_root, "train", kinds=kinds, reconstructions=out)
    # A pack whose faces have the same keys, in other parts.
    shutil.copytree(pack_root, other)
    (other / "00000.tar").rename(other / "00002.tar.old")
    (other / "00002.tar").rename(other / "00000.tar")
    (other / "00002.tar.old").rename(other / "00002.tar")
    (other / "manifest.json").unlink()
    reconstruct_pack(Pack(other, "train", label="real"), [untrained(0)], out, name="train", unread=[])
    of_this = tmp_path / "this"
    reconstruct_pack(pack, [untrained(0)], of_this, name="train", unread=[])
    for root, mine, its in ((pack_root, of_this, out), (other, out, of_this)):
        PackForge(root, "train", kinds={"resynthesis": 1.0}, reconstructions=mine)
        with pytest.raises(InputError, match=r"train\.tar: its reconstructions are of another pack than "):
            PackForge(root, "train", kinds={"resynthesis": 1.0}, reconstructions=its)
    # Some parts of a pack are that pack.
    (other / "00001.tar").unlink()
    PackForge(other, "train", kinds={"resynthesis": 1.0, "chain": 1.0}, reconstructions=out)
