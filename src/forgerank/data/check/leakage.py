"""Leakage: videos, sources and images that two splits share."""

from collections import Counter, defaultdict
from collections.abc import Sequence

from forgerank.data.check.near_duplicates import nearest_earlier
from forgerank.data.check.problems import Problem
from forgerank.data.clip import Clip
from forgerank.data.tar_images import is_archive
from forgerank.types import SPLITS


def same_video(items: Sequence[Clip]) -> list[Problem]:
    """One identity, or one file, in several splits."""
    splits: dict[tuple[str, tuple[str, ...]], list[str]] = defaultdict(list)
    names: dict[tuple[str, tuple[str, ...]], str] = {}
    for item in items:
        # The sequences of one tar share its path: their frames differ.
        key = str(item.path), item.frames if is_archive(item.path) else ()
        splits[key].append(item.split)
        names[key] = item.name
    return [
        Problem("same video", names[key], ", ".join(sorted(set(found))))
        for key, found in splits.items()
        if len(set(found)) > 1
    ]


def same_source(items: Sequence[Clip]) -> list[Problem]:
    """Groups in several splits; a clip of no split leaks into none."""
    groups: dict[str, Counter[str]] = defaultdict(Counter)
    for item in items:
        if item.split:
            groups[item.group][item.split] += 1
    return [
        Problem("same source", group, ", ".join(f"{n} in {split}" for split, n in sorted(found.items())))
        for group, found in groups.items()
        if len(found) > 1
    ]


def near_duplicates(looked: Sequence[tuple[Clip, int | None]], distance: int) -> list[Problem]:
    """Each image once, against the nearest one of the splits before its own: train, val, test."""
    kept = [(item, value) for item, value in looked if value is not None and item.split in SPLITS]
    ranks = [SPLITS.index(item.split) for item, _ in kept]
    near = nearest_earlier([value for _, value in kept], ranks, distance=distance)
    return [
        Problem(
            "near-duplicate",
            f"{kept[place][0].split}: {kept[place][0].name}",
            f"{kept[other][0].split}: {kept[other][0].name}, {bits} of 64 bits differ",
        )
        for place, (other, bits) in sorted(near.items())
        if (kept[place][0].path, kept[place][0].frames) != (kept[other][0].path, kept[other][0].frames)
    ]
