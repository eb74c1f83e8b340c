"""Images on disk as WebDataset shards, which `forgerank.data.formats.shards` reads."""

import hashlib
import json
import shutil
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from forgerank.data.check.pack_integrity import sha256_of
from forgerank.data.formats.shards import read_index
from forgerank.data.prepare.points import detect_points
from forgerank.data.sample import Sample, Samples, load_sample
from forgerank.data.tar_files import tar_members, write_tar
from forgerank.files import csv_bytes, csv_name, open_table, write_atomic, writing
from forgerank.processes import clear_partial_folder, move_out, partial_folder
from forgerank.types import InputError

SKIPPED = "skipped.csv"
_TEXTS = ("group", "split", "dataset", "source", "video", "method", "compression")

Progress = Callable[[int, int], None]  # (faces done, faces in all)


def shard_dataset(
    samples: Sequence[Sample],
    out: Path,
    split: str,
    *,
    shard_size: int = 1000,
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[int, list[tuple[Path, str]]]:
    """Write one split, `shard_size` faces to a shard. The same samples and seed give the same bytes.

    Points that are missing are detected. Faces whose image cannot be read or shows no face are left out,
    and listed in DIR/skipped.csv. Returns how many faces were written, and the path and reason of each other
    one. The shards appear when all are written; what a run that was killed left is cleared away. A split that
    was written from the same samples in the same way is kept. Raises InputError where the folder holds other
    shards of this split.
    """
    index = out / f"{split}.jsonl"
    request = {"shard_size": shard_size, "seed": seed, "samples": _digest(samples)}
    if index.exists():
        header, entries = read_index(out, split)
        if header.get("request") == request:
            shutil.rmtree(out / f"{split}.partial", ignore_errors=True)  # of a run killed as it had finished
            return len(entries), [(Path(file), why) for name, file, why in _skipped(out) if name == split]
    else:
        clear_partial_folder(out / split)
    if index.exists() or any(out.glob(f"{split}-[0-9]*.tar*")):
        raise InputError(f"{out}: holds shards of the {split} split already: delete them or choose another")
    usable, skipped = _readable(samples)
    searched = detect_points(usable)
    usable = [sample for sample in searched if sample.points is not None]
    skipped += [(s.image, f"{s.image}: no face found") for s in searched if s.points is None]
    if not usable:
        why = f" ({skipped[0][1]})" if skipped else ""
        raise InputError(f"{out}: the {split} split holds no usable image{why}")
    order = np.random.default_rng(seed).permutation(len(usable)).tolist()
    width = max(5, len(str(len(usable) // shard_size)))
    written: dict[int, dict[str, Any]] = {}
    sizes: dict[str, int] = {}
    hashes: dict[str, str] = {}
    with writing(out), partial_folder(out / split) as folder:
        for number, start in enumerate(range(0, len(order), shard_size)):
            shard = folder / f"{split}-{number:0{width}d}.tar"
            chosen = {place: usable[place] for place in order[start : start + shard_size]}
            written |= _write_shard(shard, chosen)
            sizes[shard.name] = shard.stat().st_size
            hashes[shard.name] = sha256_of(shard)
            if progress:
                progress(len(written), len(usable))
        header = {"shards": sizes, "sha256": hashes, "faces": len(usable), "request": request}
        lines = b"".join(_line(written[place]) for place in range(len(usable)))
        try:
            move_out(folder)
            _write_skipped(out, split, skipped)
            write_atomic(index, _line(header | {"crc32": zlib.crc32(lines)}) + lines)
        except BaseException:
            index.unlink(missing_ok=True)
            raise
    return len(usable), skipped


def _line(entry: Mapping[str, Any]) -> bytes:
    return json.dumps(entry).encode() + b"\n"


def _digest(samples: Sequence[Sample]) -> str:
    """Another order, annotation or size of an image gives another one; where the images lie does not."""
    digest = hashlib.sha256()
    for sample in samples:
        size = sample.image.stat().st_size if sample.image.is_file() else None
        digest.update(json.dumps([_annotation(sample), size]).encode())
    return digest.hexdigest()


def samples_on_disk(dataset: Callable[..., Any], root: Path, split: str, **options: Any) -> Sequence[Sample]:
    """The samples of one split of a data set of files. Raises InputError for one that makes its images."""
    source = dataset(root, split, **options)
    if not isinstance(source, Samples):
        raise InputError(f"{root}: only images on disk can be written to shards")
    return source.samples


def _readable(samples: Sequence[Sample]) -> tuple[list[Sample], list[tuple[Path, str]]]:
    usable, skipped = [], []
    for sample in samples:
        try:
            load_sample(sample)
            usable.append(sample)
        except InputError as error:
            skipped.append((sample.image, str(error)))
    return usable, skipped


def _write_shard(path: Path, samples: Mapping[int, Sample]) -> dict[int, dict[str, Any]]:
    """One tar file; returns the index entries of the samples."""
    entries: dict[int, dict[str, Any]] = {}

    def members() -> Iterator[tuple[str, bytes]]:
        for index, sample in samples.items():
            # Keys follow the data set's order and hold no dot: WebDataset takes what follows one as a suffix.
            key = f"{index:09d}"
            files = {f"{key}{sample.image.suffix.lower()}": sample.image}
            if sample.mask is not None:
                files[f"{key}.mask{sample.mask.suffix.lower()}"] = sample.mask
            annotation = _annotation(sample)
            entries[index] = {"shard": path.name, "image": next(iter(files)), "members": files, **annotation}
            yield from ((name, file.read_bytes()) for name, file in files.items())
            yield f"{key}.json", json.dumps(annotation).encode()

    known = write_tar(path, members())
    places = tar_members(path)
    for entry in entries.values():
        entry["crc32"] = {name: known[name] for name in entry["members"]}
        entry["members"] = {name: places[name][:2] for name in entry["members"]}
    return entries


def _annotation(sample: Sample) -> dict[str, Any]:
    texts = {name: getattr(sample, name) for name in _TEXTS}
    points = None if sample.points is None else np.asarray(sample.points).tolist()
    partial: dict[str, Any] = {} if sample.parts is None else {"parts": list(sample.parts)}
    partial |= {"fake": True} if sample.fake else {}
    return {
        "sequence": list(sample.sequence),
        "points": points,
        "file": sample.image.name,
        **texts,
        **partial,
    }


_COLUMNS = ["split", "file", "reason"]


def _skipped(out: Path) -> list[list[str]]:
    """The rows of skipped.csv."""
    if not (out / SKIPPED).exists():
        return []
    with open_table(out / SKIPPED) as rows:
        return [[row[name] for name in _COLUMNS] for row in rows if row.keys() >= {*_COLUMNS}]


def _write_skipped(out: Path, split: str, skipped: Sequence[tuple[Path, str]]) -> None:
    others = [row for row in _skipped(out) if row[0] != split]
    rows = ([split, csv_name(file), csv_name(reason)] for file, reason in skipped)
    write_atomic(out / SKIPPED, csv_bytes([_COLUMNS, *others, *rows]))
