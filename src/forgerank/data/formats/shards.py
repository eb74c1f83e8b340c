"""Faces in WebDataset shards: plain tar files, and beside them an index that makes every face one read.

DIR/{split}-00000.tar holds per face `{key}.jpg` (the file as it was), `{key}.json` (its annotation) and,
where there is one, `{key}.mask.png`. Any WebDataset reader takes it, and as faces are shuffled before they
are written, one that reads from front to back sees them mixed. DIR/{split}.jsonl, the index, has one line per
face in the order of the data set it came from: annotation, shard, offset and size in bytes of each member.
Through it shards are a `Source` with random access like a folder, and give the very same batches.
"""

import csv
import io
import json
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import numpy as np

from forgerank.data.formats.seqdeepfake import Samples, read_image, read_mask
from forgerank.data.prepare.points import detect_points
from forgerank.data.sample import LabelledImage, Sample
from forgerank.labels import COMPONENTS, check_sequence
from forgerank.types import InputError

SKIPPED = "skipped.csv"
_TEXTS = ("group", "split", "dataset", "source", "video", "method", "compression")

Progress = Callable[[int, int], None]  # (faces done, faces in all)
Members = dict[str, tuple[int, int]]  # name in the tar file: offset and size, bytes


class Shards:
    """One split of a folder of shards as a `Source`. Keywords as for `SeqDeepFake`.

    Raises InputError, one line naming the file, for a missing index, a bad line in it, and a shard that is
    missing or of another size than the index says.
    """

    def __init__(
        self, root: Path, split: str, *, reverse: bool = False, length: int = len(COMPONENTS)
    ) -> None:
        index = root / f"{split}.jsonl"
        try:
            header, *entries = map(json.loads, index.read_text(encoding="utf-8").splitlines())
            sizes: dict[str, int] = header["shards"]
            _check_sizes(root, sizes)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise InputError(f"{index}: cannot be read as an index of shards: {error!r}") from error
        self._samples: list[Sample] = []
        self._members: list[Members] = []
        for line, entry in enumerate(entries, start=2):
            try:
                sample = _to_sample(root, entry, length)
                self._members.append({name: (int(at), int(n)) for name, (at, n) in entry["members"].items()})
            except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
                raise InputError(f"{index}:{line}: bad entry: {error!r}") from error
            self._samples.append(replace(sample, sequence=sample.sequence[::-1]) if reverse else sample)

    def __len__(self) -> int:
        return len(self._samples)

    def sample(self, index: int) -> Sample:
        """The annotation at `index`; its paths name members: SHARD/MEMBER."""
        return self._samples[index]

    def load(self, index: int, rng: np.random.Generator) -> LabelledImage:
        """Read and decode one face; `rng` is not used. Raises InputError for an unreadable one."""
        sample = self._samples[index]
        if sample.points is None:
            raise InputError(f"{sample.image}: no points of the face are known")
        image = read_image(sample.image, self._open(sample.image, index))
        mask = None if sample.mask is None else read_mask(sample.mask, self._open(sample.mask, index))
        return LabelledImage(image, sample.points, sample.sequence, mask, sample.parts, sample.fake)

    def _open(self, path: Path, index: int) -> IO[bytes]:
        # Opened anew for each face: worker processes share nothing, and there is nothing to close.
        at, size = self._members[index][path.name]
        try:
            with path.parent.open("rb") as shard:
                shard.seek(at)
                return io.BytesIO(shard.read(size))
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error}") from error


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
    one. Raises InputError where the folder holds shards of this split, whole or from a run that was killed.
    """
    if (out / f"{split}.jsonl").exists() or any(out.glob(f"{split}-*.tar*")):
        raise InputError(f"{out}: holds shards of the {split} split already: delete them or choose another")
    usable, skipped = _readable(samples)
    usable, faceless = detect_points(usable)
    skipped += [(sample.image, f"{sample.image}: no face found") for sample in faceless]
    if not usable:
        raise InputError(f"{out}: the {split} split holds no usable image")
    out.mkdir(parents=True, exist_ok=True)
    order = np.random.default_rng(seed).permutation(len(usable)).tolist()
    width = max(5, len(str(len(usable) // shard_size)))
    entries: dict[int, dict[str, Any]] = {}
    sizes: dict[str, int] = {}
    for number, start in enumerate(range(0, len(order), shard_size)):
        shard = out / f"{split}-{number:0{width}d}.tar"
        chosen = {index: usable[index] for index in order[start : start + shard_size]}
        entries |= _write_shard(shard, chosen)
        sizes[shard.name] = shard.stat().st_size
        if progress:
            progress(len(entries), len(usable))
    _write_skipped(out / SKIPPED, split, skipped)
    # Last: shards without an index are those of a run that did not finish.
    lines = [{"shards": sizes}, *(entries[index] for index in range(len(usable)))]
    partial = out / f"{split}.jsonl.partial"
    partial.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    partial.replace(out / f"{split}.jsonl")
    return len(usable), skipped


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
            read_image(sample.image)
            if sample.mask is not None:
                read_mask(sample.mask)
            usable.append(sample)
        except InputError as error:
            skipped.append((sample.image, str(error)))
    return usable, skipped


def _write_shard(path: Path, samples: Mapping[int, Sample]) -> dict[int, dict[str, Any]]:
    """One tar file; returns the index entries of the samples."""
    entries: dict[int, dict[str, Any]] = {}
    partial = path.with_name(f"{path.name}.partial")
    with tarfile.open(partial, "w", format=tarfile.USTAR_FORMAT) as tar:
        for index, sample in samples.items():
            # Keys follow the data set's order and hold no dot: WebDataset takes what follows one as a suffix.
            key = f"{index:09d}"
            members = {f"{key}{sample.image.suffix.lower()}": sample.image.read_bytes()}
            if sample.mask is not None:
                members[f"{key}.mask{sample.mask.suffix.lower()}"] = sample.mask.read_bytes()
            annotation = _annotation(sample)
            for name, content in {**members, f"{key}.json": json.dumps(annotation).encode()}.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
            entries[index] = {
                "shard": path.name,
                "image": next(iter(members)),
                "members": members,
                **annotation,
            }
    with tarfile.open(partial, "r:") as tar:
        places = {member.name: (member.offset_data, member.size) for member in tar}
    for entry in entries.values():
        entry["members"] = {name: places[name] for name in entry["members"]}
    partial.replace(path)
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


def _check_sizes(root: Path, sizes: Mapping[str, int]) -> None:
    for name, size in sizes.items():
        found = (root / name).stat().st_size if (root / name).is_file() else None
        if found != size:
            state = "is missing" if found is None else f"has {found} bytes instead of {size}"
            raise InputError(f"{root / name}: {state}")


def _to_sample(root: Path, entry: Mapping[str, Any], length: int) -> Sample:
    shard = root / entry["shard"]
    masks = [name for name in entry["members"] if name != entry["image"]]
    return Sample(
        image=shard / entry["image"],
        sequence=check_sequence(entry["sequence"], length),
        points=np.asarray(entry["points"], dtype=np.float32).reshape(5, 2),
        mask=shard / masks[0] if masks else None,
        parts=None if entry.get("parts") is None else tuple(entry["parts"]),
        fake=bool(entry.get("fake", False)),
        group=str(entry["group"]),
        split=str(entry["split"]),
        dataset=str(entry["dataset"]),
        source=str(entry["source"]),
        video=str(entry["video"]),
        method=str(entry["method"]),
        compression=str(entry["compression"]),
    )


def _write_skipped(path: Path, split: str, skipped: Sequence[tuple[Path, str]]) -> None:
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as stream:
        rows = csv.writer(stream)
        if new:
            rows.writerow(["split", "file", "reason"])
        rows.writerows([split, str(file), reason] for file, reason in skipped)
