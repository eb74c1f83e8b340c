"""Faces in WebDataset shards: plain tar files, and beside them an index that makes every face one read.

DIR/{split}-00000.tar holds per face `{key}.jpg` (the file as it was), `{key}.json` (its annotation) and,
where there is one, `{key}.mask.png`. Any WebDataset reader takes it, and as faces are shuffled before they
are written, one that reads from front to back sees them mixed. DIR/{split}.jsonl, the index, has one line per
face in the order of the data set it came from: annotation, shard, offset and size in bytes of each member.
Through it shards are a `Source` with random access like a folder, and give the very same batches.
`forgerank.data.prepare.shard_writer` writes shards.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from forgerank.data.sample import LabelledImage, Sample, read_image, read_mask
from forgerank.data.tar_files import Member, read_member
from forgerank.labels import COMPONENTS, check_sequence
from forgerank.types import InputError


class Shards:
    """One split of a folder of shards as a `Source`. Keywords as for `SeqDeepFake`.

    Raises InputError, one line naming the file, for a missing index, a bad line in it, and a shard that is
    missing or of another size than the index says.
    """

    def __init__(
        self, root: Path, split: str, *, reverse: bool = False, length: int = len(COMPONENTS)
    ) -> None:
        index = root / f"{split}.jsonl"
        _, entries = read_index(root, split)
        self._samples: list[Sample] = []
        self._members: list[dict[str, Member]] = []
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
        image = read_image(sample.image, self._read(sample.image, index))
        mask = None
        if sample.mask is not None:
            mask = read_mask(sample.mask, image, self._read(sample.mask, index))
        return LabelledImage(image, sample.points, sample.sequence, mask, sample.parts, sample.fake)

    def _read(self, path: Path, index: int) -> bytes:
        try:
            return read_member(path.parent, self._members[index][path.name])
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error}") from error


def read_index(root: Path, split: str) -> tuple[dict[str, Any], list[Any]]:
    """What an index says of its split, and an entry for each face.

    Raises InputError, one line, where it cannot be read or lists another number of faces than it says, and
    where a shard is missing or of another size.
    """
    index = root / f"{split}.jsonl"
    try:
        header, *entries = map(json.loads, index.read_text(encoding="utf-8").splitlines())
        _check_sizes(root, header["shards"])
        faces = int(header.get("faces", len(entries)))  # older indexes do not say
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{index}: cannot be read as an index of shards: {error!r}") from error
    if len(entries) != faces:
        raise InputError(f"{index}: lists {len(entries)} of {faces} faces")
    return header, entries


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
