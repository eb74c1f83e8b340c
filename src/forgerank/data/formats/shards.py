"""Faces in WebDataset shards: plain tar files, and beside them an index that makes every face one read.

DIR/{split}-00000.tar holds per face `{key}.jpg` (the file as it was), `{key}.json` (its annotation) and,
where there is one, `{key}.mask.png`. Any WebDataset reader takes it, and as faces are shuffled before they
are written, one that reads from front to back sees them mixed. DIR/{split}.jsonl, the index, has one line per
face in the order of the data set it came from: annotation, shard, and of each member offset and size in bytes
and the CRC-32, which is compared whenever it is read. A line before them gives size and SHA-256 of each
shard, and the CRC-32 of the other lines. Through it shards are a `Source` with random access like a folder,
and give the very same batches. `forgerank.data.prepare.shard_writer` writes shards.
"""

import json
import zlib
from collections.abc import Container, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from forgerank.data.sample import LabelledImage, Sample, read_image, read_mask
from forgerank.data.tar_files import Member, read_member
from forgerank.files import check_regular, os_reason
from forgerank.labels import COMPONENTS, check_sequence
from forgerank.types import InputError


class Shards:
    """One split of a folder of shards as a `Source`. Keywords as for `SeqDeepFake`.

    Raises InputError, one line naming the file, for a missing index, a bad line in it, and a shard that is
    missing, or of another size or with other faces than the index says.
    """

    def __init__(
        self, root: Path, split: str, *, reverse: bool = False, length: int = len(COMPONENTS)
    ) -> None:
        index = root / f"{split}.jsonl"
        header, entries = read_index(root, split)
        self.names = frozenset(header["shards"])  # of all shards of the split
        self.sha256: dict[str, str] = header["sha256"]  # of each; none in indexes of earlier versions
        self._samples: list[Sample] = []
        self._members: list[dict[str, Member]] = []
        faces: dict[Path, list[int]] = {}  # of each shard
        for line, entry in enumerate(entries, start=2):
            try:
                sample = _to_sample(root, entry, length)
                self._members.append(_members(entry, header["shards"][entry["shard"]]))
                faces.setdefault(sample.image.parent, []).append(line - 2)
            except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
                raise InputError(f"{index}:{line}: bad entry: {error!r}") from error
            self._samples.append(replace(sample, sequence=sample.sequence[::-1]) if reverse else sample)
        for shard, held in faces.items():
            # One that is damaged costs itself alone; two point to the shard of another folder.
            if all(self._changed(place) for place in {held[0], held[-1]}):
                raise InputError(f"{shard}: holds other faces than {index.name} lists")

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
        image = read_image(sample.image, self._read(sample.image, index))
        mask = None
        if sample.mask is not None:
            mask = read_mask(sample.mask, image, self._read(sample.mask, index))
        return LabelledImage(image, sample.points, sample.sequence, mask, sample.parts, sample.fake)

    def damaged(self, names: Container[str]) -> Iterator[str]:
        """Why members of the shards of these names cannot be used, a line each. All are read."""
        for sample, members in zip(self._samples, self._members, strict=True):
            if sample.image.parent.name not in names:
                continue
            for name, member in members.items():
                try:
                    read_member(sample.image.parent, name, member)
                except InputError as error:
                    yield str(error)

    def _changed(self, index: int) -> bool:
        try:
            self._read(self._samples[index].image, index)
        except InputError:
            return True
        return False

    def _read(self, path: Path, index: int) -> bytes:
        return read_member(path.parent, path.name, self._members[index][path.name])


def read_index(root: Path, split: str) -> tuple[dict[str, Any], list[Any]]:
    """What an index says of its split, and an entry for each face.

    Raises InputError, one line, where it cannot be read, lists another number of faces than it says or was
    changed, and where a shard is missing or of another size.
    """
    index = root / f"{split}.jsonl"
    try:
        check_regular(index)
        first, _, lines = index.read_bytes().partition(b"\n")
        header, entries = json.loads(first), [json.loads(line) for line in lines.splitlines()]
        _check_sizes(root, header["shards"])
        header["sha256"] = {name: str(known) for name, known in header.get("sha256", {}).items()}
        faces = int(header.get("faces", len(entries)))  # older indexes do not say
        changed = header.get("crc32", zlib.crc32(lines)) != zlib.crc32(lines)
    except OSError as error:
        raise InputError(f"{index}: cannot be read: {os_reason(error)}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{index}: cannot be read as an index of shards: {error!r}") from error
    if len(entries) != faces:
        raise InputError(f"{index}: lists {len(entries)} of {faces} faces")
    if changed:
        raise InputError(f"{index}: changed since it was written")
    return header, entries


def _check_sizes(root: Path, sizes: Mapping[str, int]) -> None:
    for name, size in sizes.items():
        found = (root / name).stat().st_size if (root / name).is_file() else None
        if found != size:
            state = "is missing" if found is None else f"has {found} bytes instead of {size}"
            raise InputError(f"{root / name}: {state}")


def _members(entry: Mapping[str, Any], length: int) -> dict[str, Member]:
    """Of one face, by name. Raises ValueError for one that reaches beyond its shard of `length` bytes."""
    known = entry.get("crc32", {})  # older indexes have none
    found = {
        name: Member(int(at), int(size), known.get(name)) for name, (at, size) in entry["members"].items()
    }
    if entry["image"] not in found or any("/" in name for name in found):
        raise ValueError("its members are not named as their image is")
    if any(
        member.offset < 0 or member.size < 0 or member.offset + member.size > length
        for member in found.values()
    ):
        raise ValueError("beyond its shard")
    return found


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
