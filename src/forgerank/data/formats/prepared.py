"""Faces that `forgerank data prepare` cut out of videos, as a data set to train and test on."""

from collections.abc import Collection, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np

from forgerank.data.formats.prepared_index import Row, read_index
from forgerank.data.sample import Sample, Samples
from forgerank.labels import check_sequence
from forgerank.media.frame_access import evenly_spaced
from forgerank.types import InputError

_COLUMNS = (
    *("file", "clip", "frame", "track", "split", "dataset", "method", "compression", "group", "label"),
    "points",
)


class Prepared(Samples):
    """One split of a prepared folder as a `Source`: every face with its points, its clip as `Sample.video`.

    methods: forged clips of other methods are left out; real ones stay. compressions: likewise, of all clips.
    frames_per_clip: so many of each clip's frames, evenly spaced; all without. unsplit: the split to which
    clips belong whose data set has none, such as DFD.

    Raises InputError for a missing or damaged index, for a method or compression that it does not hold, and
    for labels above `length`.
    """

    def __init__(
        self,
        root: Path,
        split: str,
        *,
        methods: Collection[str] | None = None,
        compressions: Collection[str] | None = None,
        frames_per_clip: int | None = None,
        unsplit: str = "test",
        length: int = 1,
    ) -> None:
        rows = read_index(root, _COLUMNS)
        _check_names(root, "method", methods, rows)
        _check_names(root, "compression", compressions, rows)
        rows = [
            row
            for row in rows
            if (row["split"] or unsplit) == split
            and (methods is None or not row["label"] or row["method"] in methods)
            and (compressions is None or row["compression"] in compressions)
        ]
        if frames_per_clip is not None:
            rows = _thinned(rows, frames_per_clip)
        super().__init__([_to_sample(root, row, split, length) for row in rows])


def _check_names(root: Path, column: str, wanted: Collection[str] | None, rows: Sequence[Row]) -> None:
    there = {row[column] for row in rows}
    for name in wanted or ():
        if name not in there:
            raise InputError(f"{root}: no {column} {name}, only {', '.join(sorted(there - {''})) or 'none'}")


def _thinned(rows: Sequence[Row], count: int) -> list[Row]:
    """The index is in the order of clips and frames; a frame's faces stay together."""
    if count < 1:
        raise InputError(f"frames_per_clip: give at least 1, got {count}")
    kept: list[Row] = []
    for _, clip in groupby(rows, lambda row: row["clip"]):
        frames = [list(faces) for _, faces in groupby(clip, lambda row: row["frame"])]
        kept += [row for place in evenly_spaced(len(frames), count) for row in frames[place]]
    return kept


def _to_sample(root: Path, row: Row, split: str, length: int) -> Sample:
    try:
        sequence = check_sequence(row["label"], length)
    except ValueError as error:
        raise InputError(f"{root}: {row['clip']}: {error}") from None
    return Sample(
        image=root / row["file"],
        sequence=sequence,
        group=row["group"],
        split=split,
        dataset=row["dataset"],
        points=np.asarray(row["points"], dtype=np.float32).reshape(5, 2),
        video=f"{row['clip']}#{row['track']}" if row["track"] else row["clip"],
        method=row["method"],
        compression=row["compression"],
    )
