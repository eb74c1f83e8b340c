import csv
import gc
import json
import os
import shutil
import tarfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from forgerank.data.check.pack_integrity import check_shards
from forgerank.data.forge_sources import PhotoForge
from forgerank.data.formats.seqdeepfake import SeqDeepFake
from forgerank.data.formats.shards import Shards
from forgerank.data.prepare.shard_writer import SKIPPED, samples_on_disk, shard_dataset
from forgerank.data.sample import Source
from forgerank.train.config import TrainConfig, parse_config
from forgerank.train.loaders import open_source, train_loader
from forgerank.types import InputError
from squares import tiny_settings, write_squares

COUNT, SHARD_SIZE = 23, 5


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_squares(tmp_path_factory.mktemp("squares"), {"train": COUNT})


@pytest.fixture(scope="module")
def shards(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("shards")
    seen: list[tuple[int, int]] = []
    count, skipped = shard_dataset(
        SeqDeepFake(folder, "train").samples,
        out,
        "train",
        shard_size=SHARD_SIZE,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert (count, skipped, seen[-1]) == (COUNT, [], (COUNT, COUNT))
    return out


def copy_of(shards: Path, target: Path) -> Path:
    target.mkdir()
    for path in shards.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    return target


def batches(source: Source, workers: int, position: int = 0) -> list[dict[str, Any]]:
    config = settings("seqdeepfake", Path("."), workers)
    return list(train_loader(config, source, position=partial(int, position)))


def settings(dataset: str, root: Path, workers: int = 0) -> TrainConfig:
    data = {"dataset": dataset, "workers": workers, "augment": {"wild": 1}}
    return parse_config(tiny_settings(root, root / "run", data=data, batch_size=4), "test")


def same(first: list[dict[str, Any]], second: list[dict[str, Any]]) -> bool:
    return len(first) == len(second) and all(
        a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)
        for a, b in zip(first, second, strict=True)
    )


def test_shards_hold_what_the_folder_holds(folder: Path, shards: Path) -> None:
    assert len(list(shards.glob("train-*.tar"))) == 5
    rng = np.random.default_rng(0)
    original, packed = SeqDeepFake(folder, "train"), Shards(shards, "train")
    assert len(packed) == COUNT
    for index in range(COUNT):
        a, b = original.sample(index), packed.sample(index)
        assert (a.sequence, a.group, a.split, a.dataset, a.source) == (
            (b.sequence, b.group, b.split, b.dataset, b.source)
        )
        first, second = original.load(index, rng), packed.load(index, rng)
        assert first.mask is not None and second.mask is not None  # noqa: PT018
        assert np.array_equal(first.image, second.image)
        assert np.array_equal(first.mask, second.mask)
        assert np.allclose(first.points, second.points)


@pytest.mark.parametrize("workers", [1, 2])
def test_batches_are_those_of_the_folder_for_any_number_of_workers(
    folder: Path, shards: Path, workers: int
) -> None:
    expected = batches(SeqDeepFake(folder, "train"), 0)
    packed = open_source(settings("shards", shards).data, "train")
    assert isinstance(packed, Shards)
    assert same(batches(packed, 0), expected)
    assert same(batches(packed, workers), expected)
    assert same(batches(packed, workers, position=3), expected[3:])


def test_faces_are_mixed_across_shards(shards: Path) -> None:
    with tarfile.open(shards / "train-00000.tar") as tar:
        keys = {int(name.split(".")[0]) for name in tar.getnames()}
    assert len(keys) == SHARD_SIZE
    assert keys != set(range(SHARD_SIZE))


# The library leaves it to the garbage collector to close what it has read.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
def test_webdataset_reads_them(folder: Path, shards: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    paths = [str(path) for path in sorted(shards.glob("train-*.tar"))]
    records = {record["__key__"]: record for record in webdataset.WebDataset(paths, shardshuffle=False)}
    gc.collect()
    original = SeqDeepFake(folder, "train")
    assert len(records) == COUNT
    for key, record in records.items():
        sample = original.sample(int(key))
        assert record["png"] == sample.image.read_bytes()
        assert sample.mask is not None
        assert record["mask.png"] == sample.mask.read_bytes()
        assert tuple(json.loads(record["json"])["sequence"]) == sample.sequence


def test_the_same_seed_writes_the_same_bytes(folder: Path, shards: Path, tmp_path: Path) -> None:
    samples = SeqDeepFake(folder, "train").samples
    shard_dataset(samples, tmp_path / "again", "train", shard_size=SHARD_SIZE)
    for path in shards.iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes()
    shard_dataset(samples, tmp_path / "other", "train", shard_size=SHARD_SIZE, seed=1)
    first = "train-00000.tar"
    assert (tmp_path / "other" / first).read_bytes() != (shards / first).read_bytes()


def test_an_unreadable_image_costs_no_other_and_is_listed(tmp_path: Path) -> None:
    root = write_squares(tmp_path / "squares", {"train": 6})
    broken = root / "images/train/002.png"
    broken.write_bytes(broken.read_bytes()[:200])
    samples = SeqDeepFake(root, "train").samples
    count, skipped = shard_dataset(samples, tmp_path / "out", "train")
    assert count == 5
    assert [path for path, _ in skipped] == [broken]
    assert [Shards(tmp_path / "out", "train").sample(i).group for i in range(5)] == [
        sample.group for sample in samples if sample.image != broken
    ]
    header, row = (tmp_path / "out" / SKIPPED).read_text().splitlines()
    assert header == "split,file,reason"
    assert row.startswith(f"train,{broken},") and "truncated or damaged image" in row  # noqa: PT018


def test_a_damaged_list_of_what_was_left_out_is_named(tmp_path: Path) -> None:
    samples = SeqDeepFake(write_squares(tmp_path / "squares", {"train": 3}), "train").samples
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / SKIPPED).write_bytes(b"split,file,reason\r\nval,\xff.png,lost\r\n")
    with pytest.raises(InputError, match=r"skipped\.csv: cannot be read"):
        shard_dataset(samples, tmp_path / "out", "train")


def test_no_name_breaks_the_list_of_what_was_left_out(tmp_path: Path) -> None:
    samples = SeqDeepFake(write_squares(tmp_path / "squares", {"train": 3}), "train").samples
    names = ["=odd.png", 'a "b",\nc\udcff.png']
    odd = [replace(samples[0], image=Path(name)) for name in names]
    for _ in range(2):  # the second time it is read back
        shard_dataset([*odd, *samples[1:]], tmp_path / "out", "train")
        with (tmp_path / "out" / SKIPPED).open(newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
        assert [row["file"] for row in rows] == ["./=odd.png", 'a "b",\nc\\udcff.png']
        assert rows[0]["reason"].startswith("./=odd.png: ")


def test_sequences_may_be_reversed_and_must_fit(shards: Path) -> None:
    plain, turned = Shards(shards, "train"), Shards(shards, "train", reverse=True)
    assert [turned.sample(i).sequence[::-1] for i in range(COUNT)] == [
        plain.sample(i).sequence for i in range(COUNT)
    ]
    with pytest.raises(InputError, match=r"train\.jsonl:\d+: bad entry: .*labels must lie in 1\.\.2"):
        Shards(shards, "train", length=2)


def test_damaged_shards_are_named(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"val\.jsonl: cannot be read"):
        Shards(shards, "val")
    damaged = copy_of(shards, tmp_path / "damaged")
    index = damaged / "train.jsonl"
    lines = index.read_text(encoding="utf-8").splitlines(keepends=True)
    index.write_text("".join(lines[:-1]), encoding="utf-8")
    faces = len(lines) - 1
    with pytest.raises(InputError, match=rf"train\.jsonl: lists {faces - 1} of {faces} faces"):
        Shards(damaged, "train")
    index.write_text("".join(lines), encoding="utf-8")
    shard = damaged / "train-00002.tar"
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"train-00002\.tar: has \d+ bytes instead of"):
        Shards(damaged, "train")
    shard.unlink()
    with pytest.raises(InputError, match=r"train-00002\.tar: is missing"):
        Shards(damaged, "train")
    index.write_text("[]\n")
    with pytest.raises(InputError, match=r"train\.jsonl: cannot be read as an index"):
        Shards(damaged, "train")


def test_a_shard_lost_later_is_named(shards: Path, tmp_path: Path) -> None:
    damaged = copy_of(shards, tmp_path / "damaged")
    source = Shards(damaged, "train")
    for path in damaged.glob("*.tar"):
        path.write_bytes(b"")
    with pytest.raises(InputError, match=r"\.tar/\d+\.png: changed since it was written"):
        source.load(0, np.random.default_rng(0))


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 4
    path.write_bytes(content)


def test_a_flipped_bit_costs_its_face_alone(shards: Path, tmp_path: Path) -> None:
    damaged = copy_of(shards, tmp_path / "damaged")
    assert check_shards(damaged) == ([], [])
    entry = json.loads((damaged / "train.jsonl").read_text().splitlines()[4])
    at, size = entry["members"][entry["image"]]
    shard = damaged / entry["shard"]
    flip(shard, at + size // 2)
    source = Shards(damaged, "train")
    line = f"{shard / entry['image']}: changed since it was written"
    with pytest.raises(InputError) as caught:
        source.load(3, np.random.default_rng(0))
    assert str(caught.value) == line
    assert all(source.load(index, np.random.default_rng(0)) for index in range(COUNT) if index != 3)
    assert check_shards(damaged) == ([line], [])
    flip(shard, at + size // 2)
    flip(shard, 0)  # a name that only other readers look at
    assert check_shards(damaged) == ([f"{shard}: changed since it was written"], [])


def test_shards_of_another_folder_are_refused(folder: Path, shards: Path, tmp_path: Path) -> None:
    samples = SeqDeepFake(folder, "train").samples
    other = tmp_path / "other"
    shard_dataset(samples, other, "train", shard_size=SHARD_SIZE, seed=1)
    mixed = copy_of(shards, tmp_path / "mixed")
    shard = mixed / "train-00001.tar"
    size = shard.stat().st_size
    shutil.copy(next(path for path in other.glob("*.tar") if path.stat().st_size == size), shard)
    with pytest.raises(InputError, match=r"train-00001\.tar: holds other faces than train\.jsonl lists"):
        Shards(mixed, "train")
    shutil.copy(shards / shard.name, shard)
    flip(mixed / "train.jsonl", -40)
    with pytest.raises(InputError, match=r"train\.jsonl: (changed since|cannot be read)"):
        Shards(mixed, "train")


def test_an_index_of_an_earlier_version_is_read(shards: Path, tmp_path: Path) -> None:
    old = copy_of(shards, tmp_path / "old")
    index = old / "train.jsonl"
    lines = [json.loads(line) for line in index.read_text().splitlines()]
    for line in lines:
        del line["crc32"]
    del lines[0]["sha256"]
    index.write_text("".join(json.dumps(line) + "\n" for line in lines))
    source = Shards(old, "train")
    assert all(source.load(i, np.random.default_rng(0)).image.shape for i in range(COUNT))
    assert check_shards(old) == ([], [str(index)])
    shutil.copy(old / "train-00001.tar", old / "train-00009.tar")
    assert check_shards(old) == ([f"{old / 'train-00009.tar'}: no index lists it"], [str(index)])
    lines[1]["members"] = {name: [0, -1] for name in lines[1]["members"]}
    index.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(InputError, match=r"train\.jsonl:2: bad entry: .*beyond its shard"):
        Shards(old, "train")


def test_what_is_no_index_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "train.jsonl")
    with pytest.raises(InputError, match=r"train\.jsonl: cannot be read: not a regular file"):
        Shards(tmp_path, "train")
    (tmp_path / "train.jsonl").unlink()
    with pytest.raises(InputError, match="no index of shards"):
        check_shards(tmp_path)


def test_shards_are_never_overwritten(folder: Path, shards: Path, tmp_path: Path, dead_process: str) -> None:
    samples = SeqDeepFake(folder, "train").samples
    with pytest.raises(InputError, match="holds shards of the train split already"):
        shard_dataset(samples, shards, "train")
    killed = copy_of(shards, tmp_path / "killed")
    (killed / "train.jsonl").unlink()
    with pytest.raises(InputError, match="holds shards of the train split already"):
        shard_dataset(samples, killed, "train")
    partial = killed / "train.partial"
    partial.mkdir()  # what a killed run leaves
    (partial / "process").write_text(dead_process)
    (partial / "moved.json").write_text(json.dumps([path.name for path in killed.glob("*.tar")]))
    (killed / "train-00000.tar").write_bytes(b"")
    assert shard_dataset(samples, killed, "train", shard_size=SHARD_SIZE) == (COUNT, [])
    kept = {path.name: path.read_bytes() for path in shards.iterdir()}
    assert {path.name: path.read_bytes() for path in killed.iterdir()} == kept
    partial.mkdir()
    assert shard_dataset(samples, killed, "train", shard_size=SHARD_SIZE) == (COUNT, [])
    assert {path.name: path.read_bytes() for path in killed.iterdir()} == kept
    with pytest.raises(InputError, match="no usable image"):
        shard_dataset([], tmp_path / "none", "train")


def test_a_finished_split_is_kept_by_the_command_that_wrote_it(tmp_path: Path) -> None:
    root = write_squares(tmp_path / "squares", {"train": 6})
    (root / "images/train/002.png").write_bytes(b"broken")
    samples, out = SeqDeepFake(root, "train").samples, tmp_path / "out"
    first = shard_dataset(samples, out, "train", shard_size=2)
    times = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    assert shard_dataset(samples, out, "train", shard_size=2) == first
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == times
    for changed in (samples[::-1], samples[:-1]):
        with pytest.raises(InputError, match="holds shards of the train split already"):
            shard_dataset(changed, out, "train", shard_size=2)
    (out / "train-00001.tar").unlink()
    with pytest.raises(InputError, match=r"train-00001\.tar: is missing"):
        shard_dataset(samples, out, "train", shard_size=2)


def test_only_images_on_disk_are_sharded(folder: Path, tmp_path: Path) -> None:
    assert len(samples_on_disk(SeqDeepFake, folder, "train")) == COUNT
    with pytest.raises(InputError, match="only images on disk"):
        samples_on_disk(lambda root, split: object.__new__(PhotoForge), tmp_path, "train")
