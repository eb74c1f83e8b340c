"""The readers of annotations and settings, and what they are given."""

import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from hostile import files
from hostile.damage import damage
from hostile.documents import hostile_csv, hostile_json, hostile_yaml


class Kind(NamedTuple):
    """A kind of input."""

    make: Callable[[Random], bytes]
    read: Callable[[bytes, Path], object]  # content, an own folder to write into; raises InputError


def _annotation(file: str, make: Callable[[Random], bytes], read: Callable[[Path], object]) -> Kind:
    def judge(content: bytes, folder: Path) -> None:
        files.write(folder, file, content)
        read(folder)

    return Kind(make, judge)


def _faceforensics(root: Path) -> object:
    from forgerank.data.formats.faceforensics import faceforensics

    (root / "original_sequences/youtube/c23/videos").mkdir(parents=True)
    for split in ("val", "test"):
        files.write(root, f"splits/{split}.json", b"[]")
    return faceforensics(root)


def _celebdf(root: Path) -> object:
    from forgerank.data.formats.celebdf import celebdf

    (root / "Celeb-real").mkdir()
    return celebdf(root)


def _dfdc(root: Path) -> object:
    from forgerank.data.formats.dfdc import dfdc

    return dfdc(root)


def _dfdc_preview(root: Path) -> object:
    from forgerank.data.formats.dfdc import dfdc_preview

    return dfdc_preview(root)


def _bench(root: Path) -> object:
    from forgerank.data.formats.deepfakebench import deepfakebench

    return deepfakebench(root)


def _folder(root: Path) -> object:
    from forgerank.data.formats.folder import read_folder

    return read_folder(root, length=5)


def _records(root: Path) -> object:
    files.write(root, "annotations/train.csv", b'file_path,label\na.png,"[1, 2, 0, 0, 0]"\n')
    return _seqdeepfake(root)


def _seqdeepfake(root: Path) -> object:
    from forgerank.data.formats.seqdeepfake import SeqDeepFake

    files.write(root, "a.png", b"")
    return SeqDeepFake(root, "train")


def _shards(root: Path) -> object:
    from forgerank.data.formats.shards import Shards

    files.write(root, "train-00000.tar", bytes(10))
    return Shards(root, "train")


def _settings(root: Path) -> object:
    from forgerank.train.config import load_config

    return load_config(root / "settings.yaml", ["seed=1"])


def _table(root: Path) -> object:
    from forgerank.reproduce.table_file import load_table

    return load_table(root / "table.yaml")


def _splits(root: Path) -> object:
    from forgerank.forge.dataset import _read_splits

    return _read_splits(root / "split.csv")


_DFDC = {
    "a.mp4": {"label": "FAKE", "split": "train", "original": "b.mp4"},
    "b.mp4": {"label": "REAL", "split": "train"},
}
_PREVIEW = {
    "method_A/1/2_1.mp4": {"label": "fake", "set": "train", "target_id": 1, "swapped_id": 2},
    "original_videos/1/1.mp4": {"label": "real", "set": "test", "target_id": 1, "swapped_id": None},
}
_BENCH = {
    "Celeb-DF-v2": {
        "CelebDFv2_real": {"train": {"id0_0000": {"label": "x", "frames": ["a\\b\\0.png", "a\\b\\1.png"]}}}
    }
}
_RECORD = {"file_path": "a.png", "mask": "m.png", "points": [[1, 2]] * 5, "group": "g", "source": "s-1.png"}
_SHARD = {"shards": {"train-00000.tar": 10}}
_ENTRY = {
    **{"shard": "train-00000.tar", "image": "0.jpg", "members": {"0.jpg": [0, 5]}, "sequence": [1]},
    **{"points": [[1, 2]] * 5, "group": "g", "split": "train", "dataset": "d", "source": "s", "video": ""},
    **{"method": "", "compression": ""},
}
_SETTINGS = {
    "output": "runs/x",
    "data": {"roots": ["a"], "augment": {}},
    "model": {"input_size": 64},
    "seed": 1,
}
_TABLE = {
    **{"title": "x", "origin": "y", "base": "base.yaml", "sizes": ["small"], "columns": ["fixed"]},
    **{"overrides": {"seed": 1}, "others": {"b": {"fixed": 2}}, "cross": ["c"]},
    "rows": {"a": {"title": "A", "published": {"fixed": 1.5}, "overrides": {"loss": {"tau": 0.2}}}},
    "printed": {"columns": {"F": "fixed"}, "lines": [{"method": "A", "values": [1.5], "rows": ["a"]}]},
}
_CSV = [["file_path", "label"], ["a.png", "[1, 2, 0, 0, 0]"]]
_FOLDER = [
    ["path", "label", "sequence", "split"],
    ["real/a.png", "real", "", "train"],
    ["fake/a.png", "fake", "[1]", "val"],
]
_SPLITS = [["file", "subject", "split"], ["a.png", "s", "train"]]
_LIST = b"1 YouTube-real/00170.mp4\n0 Celeb-synthesis/id2_id3_0000.mp4\n"


def _json(seed: Any) -> Callable[[Random], bytes]:
    return lambda rng: hostile_json(seed, rng)


def _csv(seed: list[list[str]]) -> Callable[[Random], bytes]:
    return lambda rng: hostile_csv(seed, rng)


def _yaml(seed: Any) -> Callable[[Random], bytes]:
    return lambda rng: hostile_yaml(seed, rng)


def _index(rng: Random) -> bytes:
    return json.dumps(_SHARD).encode() + b"\n" + hostile_json(_ENTRY, rng)


READERS = {
    "dfdc": _annotation("metadata.json", _json(_DFDC), _dfdc),
    "dfdc preview": _annotation("dataset.json", _json(_PREVIEW), _dfdc_preview),
    "dfdc table": _annotation("labels.csv", _csv([["filename", "label"], ["a.mp4", "1"]]), _dfdc),
    "celebdf": _annotation("List_of_testing_videos.txt", lambda rng: damage(_LIST, rng), _celebdf),
    "faceforensics": _annotation("splits/train.json", _json([["071", "054"]]), _faceforensics),
    "deepfakebench": _annotation("dataset_json/a.json", _json(_BENCH), _bench),
    "folder": _annotation("labels.csv", _csv(_FOLDER), _folder),
    "seqdeepfake": _annotation("annotations/train.csv", _csv(_CSV), _seqdeepfake),
    "records": _annotation("records/train.jsonl", _json(_RECORD), _records),
    "shards": _annotation("train.jsonl", _index, _shards),
    "splits": _annotation("split.csv", _csv(_SPLITS), _splits),
    "settings": _annotation("settings.yaml", _yaml(_SETTINGS), _settings),
    "table": _annotation("table.yaml", _yaml(_TABLE), _table),
}
