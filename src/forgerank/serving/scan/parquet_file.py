"""The Parquet file: its columns, a report as their values, and how it is written at once."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from forgerank.files import encodable, led_to, partial_file

if TYPE_CHECKING:
    from forgerank.serving.scan.journal import Journal, Row

from forgerank.detect.result import (
    FaceReport,
    Report,
    TrackReport,
    VideoReport,
    deciding_probability,
    faces_of,
)

METADATA_PREFIX = "forgerank."
_GROUP = 50_000  # rows of one row group


def schema(labels: Sequence[str]) -> pa.Schema:
    """The columns; docs/scanning.md documents them. One probability per label of the weights."""
    columns = {
        "path": pa.string(),
        "size": pa.int64(),
        "sha256": pa.string(),
        "kind": pa.string(),
        "width": pa.int32(),
        "height": pa.int32(),
        "verdict": pa.string(),
        "reason": pa.string(),
        "forged_probability": pa.float64(),
        "likelihood_ratio": pa.float64(),
        "faces": pa.int32(),
        **{f"{label}_probability": pa.float64() for label in labels},
        "sequence": pa.list_(pa.string()),
        "face_box": pa.list_(pa.int32()),
        "face_time": pa.float64(),
        "page": pa.int32(),
        "decoded_seconds": pa.float64(),
        "decoded_share": pa.float64(),
        "stretches": pa.list_(pa.struct({"start": pa.float64(), "end": pa.float64()})),
        "error": pa.string(),
        "duplicate_of": pa.string(),
    }
    return pa.schema(list(columns.items()))


def write_rows(journal: "Journal", out: Path, labels: Sequence[str], facts: Mapping[str, str]) -> None:
    """The Parquet file, sorted by path, put in place at once. Same rows and facts, same bytes.

    Raises OSError for a full disk, StoppedError for a journal that cannot be read; `out` is untouched then.
    """
    metadata = {f"{METADATA_PREFIX}{name}": value for name, value in facts.items()}
    columns = schema(labels).with_metadata(metadata)
    target = led_to(out)
    with partial_file(target) as partial, open(partial, "wb") as file:
        with pq.ParquetWriter(file, columns, compression="zstd") as writer:
            for page in journal.rows(_GROUP):
                writer.write_table(pa.Table.from_pylist(list(_rows(page)), columns))
        file.flush()
        os.fsync(file.fileno())
    _sync(target.parent)


def _sync(folder: Path) -> None:
    """Makes a new name in a folder last through a power cut, before the journal goes."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _rows(page: Sequence["Row"]) -> Iterator[dict[str, Any]]:
    for path, size, sha256, error, answer, first in page:
        yield {
            "path": _shown(path),
            "size": size,
            "sha256": sha256.hex() if sha256 else None,
            "error": error,
            **(json.loads(answer) if answer else {}),
            "duplicate_of": _shown(first) if first else None,
        }


def _shown(path: bytes) -> str:
    return encodable(os.fsdecode(path))


PHOTOGRAPH, VIDEO = "photograph", "video"
_DIGITS = 6  # as in the JSON report


def answer_of(report: Report | VideoReport) -> dict[str, Any]:
    """Columns of a judged file; those that are left out are null."""
    video = isinstance(report, VideoReport)
    people = faces_of(report)
    answer: dict[str, Any] = {
        "kind": VIDEO if video else PHOTOGRAPH,
        "width": report.width,
        "height": report.height,
        "verdict": report.verdict,
        "reason": report.reason,
        "faces": len(people),
    }
    if people:
        worst = max(people, key=_suspicion)
        answer["forged_probability"] = round(deciding_probability(worst), _DIGITS)
        for component in worst.components:
            answer[f"{component.name}_probability"] = round(component.probability, _DIGITS)
        answer["sequence"] = [component.name for component in worst.sequence]
        if worst.likelihood_ratio is not None:
            answer["likelihood_ratio"] = float(f"{worst.likelihood_ratio:.6g}")
        answer |= _place(worst)
    if isinstance(report, Report) and report.pages > 1:
        answer["page"] = report.page
    if isinstance(report, VideoReport):
        answer["decoded_seconds"] = round(report.decoded_seconds, 3)
        answer["decoded_share"] = round(report.decoded_share, 4)
        answer["stretches"] = [
            {"start": round(stretch.start, 3), "end": round(stretch.end, 3)}
            for stretch in sorted(
                (
                    stretch
                    for track in report.tracks
                    if track.verdict == "forged"
                    for stretch in track.stretches
                ),
                key=lambda stretch: (stretch.start, stretch.end),
            )
        ]
    return answer


def no_answer(reason: str) -> dict[str, Any]:
    """The columns for content that cannot be judged."""
    return {"error": encodable(" ".join(reason.split()))}


def _suspicion(person: FaceReport | TrackReport) -> tuple[bool, bool, float]:
    """Orders faces: one that decided the verdict comes before a likelier one that was not judged."""
    return person.verdict == "forged", person.likelihood_ratio is not None, deciding_probability(person)


def _place(person: FaceReport | TrackReport) -> dict[str, Any]:
    """Where a face is seen: its box, and of a person in a video the time of the most telling moment."""
    if isinstance(person, FaceReport):
        return {"face_box": [round(edge) for edge in person.box]}
    moments = [key.moment for key in person.key_frames] or person.moments
    if not moments:
        return {}
    return {"face_box": [round(edge) for edge in moments[0].box], "face_time": round(moments[0].time, 3)}
