"""The index of prepared faces, in Parquet with one row per face, and the table of skipped frames."""

import csv
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from forgerank.types import InputError

if TYPE_CHECKING:
    import pyarrow as pa

INDEX, SKIPPED = "index.parquet", "skipped.csv"
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
    partial = path.with_suffix(".partial")
    pq.write_table(pa.Table.from_pylist(list(rows), described), partial, compression="zstd")
    os.replace(partial, path)


def read_clip_faces(path: Path) -> ClipFaces:
    """Read the faces of one finished clip."""
    import pyarrow.parquet as pq

    table = pq.ParquetFile(path).read()
    asked, skipped = json.loads(table.schema.metadata[_REST])
    return ClipFaces(
        asked, table.replace_schema_metadata(None), [(frame, reason) for frame, reason in skipped]
    )


def write_index(out: Path, parts: Iterable[tuple[str, Path]]) -> Iterator[tuple[str, ClipFaces]]:
    """Join the parts of (clip name, part file) to `index.parquet` and `skipped.csv`; yields name and part.

    Both files are replaced after the last part.
    """
    import pyarrow.parquet as pq

    index, table = out / f"{INDEX}.partial", out / f"{SKIPPED}.partial"
    with (
        pq.ParquetWriter(index, schema(), compression="zstd") as writer,
        table.open("w", newline="", encoding="utf-8") as stream,
    ):
        lines = csv.writer(stream, lineterminator="\n")
        lines.writerow(["clip", "frame", "reason"])
        for name, path in parts:
            part = read_clip_faces(path)
            if part.rows.num_rows:
                writer.write_table(part.rows)
            lines.writerows([name, "" if frame is None else frame, why] for frame, why in part.skipped)
            yield name, part
    os.replace(index, out / INDEX)
    os.replace(table, out / SKIPPED)


def read_index(root: Path, columns: Sequence[str]) -> list[Row]:
    """Rows of `root/index.parquet` with some of its columns. Raises InputError where it cannot be read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = root / INDEX
    if not path.is_file():
        raise InputError(f"{path}: no such file; `forgerank data prepare` writes it when it has finished")
    try:
        rows: list[Row] = pq.read_table(path, columns=list(columns)).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: cannot be read: {' '.join(str(error).split())}") from None
    missing = set(columns) - set(rows[0] if rows else columns)
    if missing:
        raise InputError(f"{path}: no column {', '.join(sorted(missing))}")
    return rows
