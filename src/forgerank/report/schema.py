"""The JSON report, schema version 2: one object per run. Later versions only add fields. Run as a program, it
writes the JSON schema and the tables of docs/report.md.
"""

import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from forgerank import __version__
from forgerank.detect.result import Component, FaceReport, Moment, Report, Stretch, TrackReport, VideoReport
from forgerank.detect.verdict import quality_warnings
from forgerank.files import encodable
from forgerank.report.entries import (
    Box,
    ComponentEntry,
    Credentials,
    Entry,
    ErrorEntry,
    FaceEntry,
    ImageEntry,
    ModelEntry,
    MomentEntry,
    QualityEntry,
    StretchEntry,
    TrackEntry,
    VideoEntry,
)
from forgerank.types import Quality
from forgerank.weights.description import WeightsMetadata

__all__ = [
    "SCHEMA_VERSION",
    "Credentials",
    "ErrorEntry",
    "ImageEntry",
    "ReportFile",
    "VideoEntry",
    "image_entry",
    "report_file",
    "video_entry",
]

SCHEMA_VERSION: Literal[2] = 2


class ReportFile(Entry):
    """The whole file. A file of version 1 reads as one of version 2 whose new fields are empty."""

    schema_version: Literal[2] = Field(default=SCHEMA_VERSION, description="version of this document")
    forgerank_version: str = Field(
        default=__version__, description="version of the package that wrote the file"
    )
    created: str | None = Field(
        default=None, description="when the file was written, ISO 8601 in UTC; null before version 0.1.0"
    )
    case: str | None = Field(default=None, description="reference that was given for it; null where none was")
    model: ModelEntry = Field(description="the weights that answered")
    reports: tuple[ImageEntry, ...] = Field(
        description="one per image that could be read, in the order of the input"
    )
    videos: tuple[VideoEntry, ...] = Field(
        default=(), description="one per video that could be read, in the order of the input"
    )
    errors: tuple[ErrorEntry, ...] = Field(description="one per input that could not be read")

    @model_validator(mode="before")
    @classmethod
    def _from_version_1(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("schema_version") == 1:
            return {**data, "schema_version": SCHEMA_VERSION}
        return data

    def to_json(self) -> str:
        """Indented JSON with a final line break."""
        return self.model_dump_json(indent=2) + "\n"


def report_file(
    metadata: WeightsMetadata,
    sha256: str,
    reports: Sequence[Report],
    errors: Sequence[ErrorEntry] = (),
    videos: Sequence[VideoReport] = (),
    credentials: Mapping[str, Credentials] | None = None,
    created: str | None = None,
    case: str | None = None,
    thorough: bool = False,
) -> ReportFile:
    """Everything of one run, ready for `to_json()`. `sha256` is that of the ONNX file.

    `credentials` belong to the file with the SHA-256 that is their key; `created` is a time in ISO 8601.
    """
    signed = credentials or {}
    return ReportFile(
        created=created,
        case=None if case is None else encodable(case),
        model=ModelEntry(
            name=metadata.name,
            version=metadata.version,
            sha256=sha256,
            git_revision=metadata.git_revision,
            labels=metadata.labels,
            thresholds=metadata.thresholds,
            thorough=thorough,
        ),
        reports=tuple(image_entry(report, signed.get(report.sha256)) for report in reports),
        videos=tuple(video_entry(report, signed.get(report.sha256)) for report in videos),
        errors=tuple(errors),
    )


def image_entry(report: Report, credentials: Credentials | None = None) -> ImageEntry:
    """One image as it stands in the file, numbers rounded."""
    return ImageEntry(
        path=None if report.path is None else encodable(report.path),
        sha256=report.sha256,
        width=report.width,
        height=report.height,
        verdict=report.verdict,
        reason=report.reason,
        faces=tuple(_face(face) for face in report.faces),
        credentials=credentials,
        page=report.page,
        pages=report.pages,
        warnings=report.warnings,
    )


def video_entry(report: VideoReport, credentials: Credentials | None = None) -> VideoEntry:
    """One video as it stands in the file, numbers rounded."""
    return VideoEntry(
        path=encodable(report.path),
        sha256=report.sha256,
        width=report.width,
        height=report.height,
        duration=None if report.duration is None else _digits(report.duration, 3),
        decoded_seconds=_digits(report.decoded_seconds, 3),
        decoded_share=_digits(report.decoded_share, 4),
        frame_rate=None if report.frame_rate is None else _digits(report.frame_rate, 3),
        codec=report.codec,
        sampled_frames=report.sampled_frames,
        sampling_rate=_digits(report.sampling_rate, 3),
        warnings=report.warnings,
        verdict=report.verdict,
        reason=report.reason,
        tracks=tuple(_track(track) for track in report.tracks),
        credentials=credentials,
    )


def _face(face: FaceReport) -> FaceEntry:
    return FaceEntry(
        box=_box(face.box),
        detection_score=_digits(face.detection_score, 6),
        quality=_quality(face.quality),
        verdict=face.verdict,
        reason=face.reason,
        forged_probability=_digits(face.forged_probability, 6),
        likelihood_ratio=_ratio(face),
        components=_components(face.components),
        warnings=quality_warnings(face.quality),
    )


def _track(track: TrackReport) -> TrackEntry:
    return TrackEntry(
        number=track.number,
        start=_digits(track.start, 3),
        end=_digits(track.end, 3),
        verdict=track.verdict,
        reason=track.reason,
        forged_probability=_digits(track.forged_probability, 6),
        likelihood_ratio=_ratio(track),
        components=_components(track.components),
        quality=_quality(track.quality),
        warnings=quality_warnings(track.quality),
        moments=tuple(_moment(moment) for moment in track.moments),
        key_frames=tuple(key.moment.frame for key in track.key_frames),
        stretches=tuple(_stretch(stretch) for stretch in track.stretches),
    )


def _stretch(stretch: Stretch) -> StretchEntry:
    return StretchEntry(
        start=_digits(stretch.start, 3),
        end=_digits(stretch.end, 3),
        moments=stretch.moments,
        forged_probability=_digits(stretch.forged_probability, 6),
        chance=_digits(stretch.chance, 6),
    )


def _moment(moment: Moment) -> MomentEntry:
    return MomentEntry(
        frame=moment.frame,
        time=_digits(moment.time, 3),
        box=_box(moment.box),
        detection_score=_digits(moment.detection_score, 6),
        forged_probability=_digits(moment.forged_probability, 6),
        verdict=moment.verdict,
        reason=moment.reason,
    )


def _components(components: Sequence[Component]) -> tuple[ComponentEntry, ...]:
    return tuple(
        ComponentEntry(name=part.name, probability=_digits(part.probability, 6), rank=part.rank)
        for part in components
    )


def _quality(quality: Quality) -> QualityEntry:
    return QualityEntry(**{name: _digits(value, 4) for name, value in asdict(quality).items()})


def _box(box: Box) -> Box:
    x0, y0, x1, y1 = (_digits(value, 2) for value in box)
    return (x0, y0, x1, y1)


def _ratio(face: FaceReport | TrackReport) -> float | None:
    return None if face.likelihood_ratio is None else float(f"{face.likelihood_ratio:.4g}")


def _digits(value: float, digits: int) -> float:
    return round(float(value), digits)


SCHEMA_FILE = f"schema/report-{SCHEMA_VERSION}.json"
PAGE = "report.md"
_TABLE = re.compile(r"(<!-- table (\w+) -->\n).*?(?=<!-- end -->)", re.DOTALL)


def schema_text() -> str:
    """The JSON schema of a report as it is written."""
    schema = ReportFile.model_json_schema(mode="serialization")
    return json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}, indent=2) + "\n"


def fill_tables(page: str) -> str:
    """The page with the table of a model between each `<!-- table Model -->` and `<!-- end -->`.

    Raises KeyError for a model that is no part of the report.
    """
    schema = ReportFile.model_json_schema(mode="serialization")
    models = {**schema["$defs"], ReportFile.__name__: schema}
    return _TABLE.sub(lambda found: found[1] + _table(models[found[2]]), page)


def _table(model: dict[str, Any]) -> str:
    fields = model["properties"].items()
    rows = (f"| `{name}` | {_kind(field)} | {field['description']} |" for name, field in fields)
    return "\n".join(["", "| field | type | meaning |", "|---|---|---|", *rows, "", ""])


def _kind(field: dict[str, Any]) -> str:
    """The type of a field in words."""
    if "anyOf" in field:
        return " or ".join(_kind(option) for option in field["anyOf"])
    if "$ref" in field:
        name = field["$ref"].rsplit("/", 1)[-1]
        return f"[{name}](#{name.lower()})"
    if "const" in field:
        return f"`{json.dumps(field['const'])}`"
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if "prefixItems" in field:
        return f"list of {len(field['prefixItems'])} {field['prefixItems'][0]['type']}s"
    if "items" in field:
        return f"list of {_kind(field['items'])}{'s' if 'type' in field['items'] else ''}"
    return str(field["type"])


def main(docs: Path) -> None:
    """Write the schema and fill the tables in a folder of documentation."""
    (docs / SCHEMA_FILE).parent.mkdir(exist_ok=True)
    (docs / SCHEMA_FILE).write_text(schema_text(), encoding="utf-8")
    page = docs / PAGE
    page.write_text(fill_tables(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
