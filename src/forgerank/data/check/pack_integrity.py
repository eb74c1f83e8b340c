"""Whether a pack is whole and free of near-duplicates, and whether shards are whole."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from forgerank.data.check.near_duplicates import find_duplicates
from forgerank.data.formats.pack import MANIFEST, Part, finished_manifest, pack_parts, read_part
from forgerank.data.formats.shards import Shards
from forgerank.types import InputError


def check_parts(root: Path) -> list[str]:
    """What is wrong with a pack, a line each: parts missing, changed or too many, near-duplicates left in."""
    manifest = finished_manifest(root)
    problems = []
    for name, part in manifest.parts.items():
        path = root / name
        if not path.is_file():
            problems.append(f"{path}: missing")
        elif sha256_of(path) != part.sha256:
            problems.append(f"{path}: changed since it was written")
    parts = pack_parts(root)
    problems += [f"{path}: {MANIFEST} does not list it" for path in parts if path.name not in manifest.parts]
    if not problems:
        listed = {face.key for face in manifest.dropped}
        found = pack_duplicates([read_part(path) for path in parts], manifest.recipe.distance)
        problems += [
            f"{row['source']}/{row['file']}: near-duplicate of {row['repeats']} ({row['reason']})"
            for row in found
            if row["key"] not in listed
        ]
    return problems


def check_shards(root: Path) -> tuple[list[str], list[str]]:
    """What is wrong with a folder of shards, a line each, and the indexes without checksums to compare.

    Raises InputError for a folder without shards.
    """
    problems, unchecked, listed = list[str](), list[str](), set[str]()
    indexes = sorted(root.glob("*.jsonl"))
    if not indexes:
        raise InputError(f"{root}: no index of shards (train.jsonl, ...) here")
    for index in indexes:
        try:
            shards = Shards(root, index.stem)
        except InputError as error:
            problems.append(str(error))
            continue
        listed |= shards.names
        known = shards.sha256
        changed = [
            name for name in sorted(shards.names) if name in known and sha256_of(root / name) != known[name]
        ]
        found = list(shards.damaged({*changed, *(shards.names - known.keys())}))
        # Of another kind than a face: what only other readers of shards look at.
        found += [
            f"{root / name}: changed since it was written"
            for name in changed
            if not any(line.startswith(f"{root / name}/") for line in found)
        ]
        problems += found
        if not shards.sha256:
            unchecked.append(str(index))
    if not problems:
        tars = sorted(root.glob("*.tar"))
        problems += [f"{path}: no index lists it" for path in tars if path.name not in listed]
    return problems, unchecked


def pack_duplicates(parts: Sequence[Part], distance: int) -> list[dict[str, Any]]:
    """Near-duplicates among all faces of a pack: what is dropped, what it repeats, and why.

    distance: bits of 64 in which the hashes of near-duplicates may differ.
    """
    rows = [(part, row) for part in parts for row, entry in enumerate(part.entries) if entry.hash]
    entries = [part.entries[row] for part, row in rows]
    if not entries:
        return []
    found = find_duplicates(
        np.array([int(entry.hash, 16) for entry in entries], dtype=np.uint64),
        np.stack([part.thumbnails[row] for part, row in rows]),
        [entry.source for entry in entries],
        [f"{entry.source}/{entry.group}" for entry in entries],
        [entry.split for entry in entries],
        [entry.label == "fake" for entry in entries],
        distance=distance,
    )
    return [
        {
            "key": entries[copy.dropped].key,
            "source": entries[copy.dropped].source,
            "file": entries[copy.dropped].file,
            "repeats": None
            if copy.kept is None
            else f"{entries[copy.kept].source}/{entries[copy.kept].file}",
            "reason": copy.reason,
        }
        for copy in found
    ]


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, 64 hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
