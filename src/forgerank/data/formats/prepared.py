"""Faces that `forgerank data prepare` cut out of videos, as a data set to train and test on."""

import csv
import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from forgerank.data.sample import LabelledImage, Sample, Samples, load_sample
from forgerank.files import csv_name, partial_file, read_json
from forgerank.labels import check_sequence
from forgerank.media.frame_access import evenly_spaced
from forgerank.types import InputError

if TYPE_CHECKING:
    import pyarrow as pa

INDEX, SKIPPED, SETTINGS = "index.parquet", "skipped.csv", "prepare.json"
SELF_BLEND = "self_blend"  # as in forge.whole_faces.FORGERIES
# How Arrow reads a file that Python opened: a thread of its own could hold it yet as Python ends, and abort.
_ALONE: dict[str, Any] = {"use_threads": False, "pre_buffer": False}
_REST = b"forgerank"  # key of a part's metadata: [asked, [[frame or null, reason], ...]] as JSON

Row = dict[str, Any]
Skip = tuple[int | None, str]  # frame, or None for the whole clip; reason


def schema() -> "pa.Schema":
    """The columns. Pixels are those of the crop unless said otherwise; x before y."""
    import pyarrow as pa

    return pa.schema(
        [
            ("file", pa.string()),  # relative to the folder of the index, with forward slashes
            ("clip", pa.string()),
            ("frame", pa.int32()),  # number in the clip
            ("track", pa.int16()),  # which face of the clip
            ("time_s", pa.float64()),  # null where the clip has no times
            ("split", pa.string()),
            ("dataset", pa.string()),
            ("method", pa.string()),
            ("compression", pa.string()),
            ("group", pa.string()),
            ("label", pa.list_(pa.int8())),  # labels in order of manipulation; empty: real
            ("points", pa.list_(pa.float32(), 10)),  # five points, as in Detection
            ("landmarks", pa.list_(pa.float16(), 936)),  # 468 points
            ("box", pa.list_(pa.float32(), 4)),  # x0, y0, x1, y1 of the face, pixels of the frame
            ("square", pa.list_(pa.int32(), 3)),  # x0, y0, side of the crop, pixels of the frame
            ("score", pa.float32()),  # of the detection, 0..1
            ("width", pa.int32()),  # of the frame, pixels
            ("height", pa.int32()),
        ]
    )


class ClipFaces(NamedTuple):
    """The faces of one clip."""

    asked: int  # frames that were searched
    rows: "pa.Table"
    skipped: list[Skip]


def write_clip_faces(path: Path, asked: int, rows: Sequence[Row], skipped: Sequence[Skip]) -> None:
    """Write the faces of one finished clip, atomically."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    described = schema().with_metadata({_REST: json.dumps([asked, skipped])})
    # Files that Python opened, here and below: Arrow takes no name that is not UTF-8.
    with partial_file(path) as partial, partial.open("wb") as file:
        pq.write_table(pa.Table.from_pylist(list(rows), described), file, compression="zstd")


def read_clip_faces(path: Path) -> ClipFaces:
    """Read the faces of one finished clip."""
    import pyarrow.parquet as pq

    with path.open("rb") as file:
        table = pq.ParquetFile(file).read(use_threads=False)
    asked, skipped = json.loads(table.schema.metadata[_REST])
    return ClipFaces(
        asked, table.replace_schema_metadata(None), [(frame, reason) for frame, reason in skipped]
    )


def write_index(out: Path, parts: Iterable[tuple[str, Path]]) -> Iterator[tuple[str, ClipFaces]]:
    """Join the parts of (clip name, part file) to `index.parquet` and `skipped.csv`; yields name and part.

    Both files are replaced after the last part.
    """
    import pyarrow.parquet as pq

    with (
        partial_file(out / INDEX) as index,
        partial_file(out / SKIPPED) as table,
        index.open("wb") as file,
        pq.ParquetWriter(file, schema(), compression="zstd") as writer,
        table.open("w", newline="", encoding="utf-8") as stream,
    ):
        lines = csv.writer(stream, lineterminator="\n")
        lines.writerow(["clip", "frame", "reason"])
        for name, path in parts:
            part = read_clip_faces(path)
            if part.rows.num_rows:
                writer.write_table(part.rows)
            lines.writerows(
                [csv_name(name), "" if frame is None else frame, csv_name(why)] for frame, why in part.skipped
            )
            yield name, part


def detector_of(root: Path) -> str:
    """The name of the face detector that cut a prepared folder; "unknown" where its settings are missing."""
    try:
        settings = read_json(root / SETTINGS)
    except InputError:
        return "unknown"
    return str(settings.get("detector", "unknown")) if isinstance(settings, dict) else "unknown"


def read_index(root: Path, columns: Sequence[str]) -> list[Row]:
    """Rows of `root/index.parquet` with some of its columns. Raises InputError where it cannot be read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = root / INDEX
    if not path.is_file():
        raise InputError(f"{path}: no such file; `forgerank data prepare` writes it when it has finished")
    try:
        with path.open("rb") as file:
            rows: list[Row] = pq.read_table(file, columns=list(columns), **_ALONE).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: cannot be read: {' '.join(str(error).split())}") from None
    missing = set(columns) - set(rows[0] if rows else columns)
    if missing:
        raise InputError(f"{path}: no column {', '.join(sorted(missing))}")
    return rows


_COLUMNS = (
    *("file", "clip", "frame", "track", "split", "dataset", "method", "compression", "group", "label"),
    "points",
)


class Prepared(Samples):
    """One split of a prepared folder as a `Source`: every face with its points, its clip as `Sample.video`.

    methods: forged clips of other methods are left out; real ones stay. compressions: likewise, of all clips.
    frames_per_clip: so many of each clip's frames, evenly spaced; all without. unsplit: the split to which
    clips belong whose data set has none, such as DFD. val_share: of a data set without the split `val`, such
    as Celeb-DF, this share of the training clips of either class makes it up; people may be in both.

    self_blends: in the split `train`, each real face comes again so many times as a forgery: blended
    with a slightly changed copy (`forge.whole_faces.self_blend`), new at every draw. They follow the
    `samples`, which are those on disk.

    Raises InputError for a missing or damaged index, for a method or compression that it does not hold, for
    an option out of range and for labels above `length`.
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
        val_share: float = 0.0,
        self_blends: int = 0,
        length: int = 1,
    ) -> None:
        if not 0 <= val_share < 1:
            raise InputError(f"val_share: give a share of 0 to below 1, got {val_share}")
        if self_blends < 0:
            raise InputError(f"self_blends: give a number of 0 or more, got {self_blends}")
        rows = read_index(root, _COLUMNS)
        _check_names(root, "method", methods, rows)
        _check_names(root, "compression", compressions, rows)
        held = _held_out(rows, unsplit, val_share) if val_share else frozenset()
        places = [
            place
            for place, row in enumerate(rows)
            if ("val" if row["clip"] in held else row["split"] or unsplit) == split
            and (methods is None or not row["label"] or row["method"] in methods)
            and (compressions is None or row["compression"] in compressions)
        ]
        if frames_per_clip is not None:
            places = _thinned(rows, places, frames_per_clip)
        super().__init__([_to_sample(root, rows[place], split, length) for place in places])
        self._length = length
        real = [index for index, sample in enumerate(self.samples) if not sample.sequence]
        self._blended = real * self_blends if split == "train" else []
        # (R, 468, 2) of the real faces, in the order of `real`
        self._meshes = _read_meshes(root, [places[index] for index in real]) if self._blended else None

    def __len__(self) -> int:
        return len(self.samples) + len(self._blended)

    def sample(self, index: int) -> Sample:
        """The annotation at `index`."""
        if index < len(self.samples):
            return self.samples[index]
        parts = (1,) if self._length == 1 else None
        real = self.samples[self._blended[index - len(self.samples)]]
        return replace(real, fake=True, parts=parts, method=SELF_BLEND)

    def load(self, index: int, rng: np.random.Generator) -> LabelledImage:
        """Decode the face, or forge it; every random choice comes from `rng`."""
        sample = self.sample(index)
        image = load_sample(sample)
        if index < len(self.samples) or self._meshes is None:
            return image
        # Not at the top: the forge needs OpenCV.
        from forgerank.forge.photos import Photo
        from forgerank.forge.whole_faces import whole_face

        mesh = self._meshes[(index - len(self.samples)) % len(self._meshes)]
        photo = Photo(image.image, mesh, np.zeros(image.image.shape[:2], dtype=np.uint8))
        return image._replace(image=whole_face(photo, rng, photo, {SELF_BLEND: 1.0}).image)


def _held_out(rows: Sequence[Row], unsplit: str, share: float) -> frozenset[str]:
    """Names of the training clips that become the split `val`: evenly spaced over those of either class."""
    if any((row["split"] or unsplit) == "val" for row in rows):
        return frozenset()
    held: set[str] = set()
    for forged in (False, True):
        clips = {
            row["clip"]
            for row in rows
            if (row["split"] or unsplit) == "train" and bool(row["label"]) == forged
        }
        names = sorted(clips)
        held.update(names[place] for place in evenly_spaced(len(names), max(1, round(share * len(names)))))
    return frozenset(held)


def _read_meshes(root: Path, places: Sequence[int]) -> NDArray[np.float32]:
    """Landmarks (R, 468, 2) of some rows of the index, in pixels of the crop."""
    import pyarrow.parquet as pq

    with (root / INDEX).open("rb") as file:
        column = pq.read_table(file, columns=["landmarks"], **_ALONE)["landmarks"]
    values = column.take(list(places)).combine_chunks().flatten().to_numpy(zero_copy_only=False)
    meshes: NDArray[np.float32] = values.astype(np.float32).reshape(-1, 468, 2)
    return meshes


def _check_names(root: Path, column: str, wanted: Collection[str] | None, rows: Sequence[Row]) -> None:
    there = {row[column] for row in rows}
    for name in wanted or ():
        if name not in there:
            raise InputError(f"{root}: no {column} {name}, only {', '.join(sorted(there - {''})) or 'none'}")


def _thinned(rows: Sequence[Row], places: Sequence[int], count: int) -> list[int]:
    """Places in the index, which is in the order of clips and frames; a frame's faces stay together."""
    if count < 1:
        raise InputError(f"frames_per_clip: give at least 1, got {count}")
    kept: list[int] = []
    for _, clip in groupby(places, lambda place: rows[place]["clip"]):
        frames = [list(faces) for _, faces in groupby(clip, lambda place: rows[place]["frame"])]
        kept += [face for place in evenly_spaced(len(frames), count) for face in frames[place]]
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
