"""The JSON report, schema version 1. Later versions only add fields."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from forgerank import __version__
from forgerank.infer.result import FaceReport, Report
from forgerank.infer.weights import Thresholds, WeightsMetadata
from forgerank.types import Verdict

SCHEMA_VERSION: Literal[1] = 1

Probability = Annotated[float, Field(ge=0.0, le=1.0)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class QualityEntry(_Entry):
    """Measured quality of one face; units as in `forgerank.types.Quality`."""

    size: float = Field(description="longer side of the face box, pixels")
    sharpness: float = Field(description="variance of the Laplacian of the aligned grey crop, >= 0")
    brightness: float = Field(description="mean luma of the aligned face, 0..1")
    clipped: float = Field(description="share of face pixels at or below 2 or at or above 253, 0..1")
    yaw: float = Field(description="degrees, positive when the face turns to image right")
    pitch: float = Field(description="degrees, positive when the face looks up")
    roll: float = Field(description="degrees, positive clockwise in the picture")


class ComponentEntry(_Entry):
    """One facial component."""

    name: str
    probability: Probability = Field(description="of having been manipulated")
    rank: int | None = Field(ge=1, description="1 = manipulated first; null where not manipulated")


class FaceEntry(_Entry):
    """One face."""

    box: tuple[float, float, float, float] = Field(description="x0, y0, x1, y1 in pixels")
    detection_score: Probability
    quality: QualityEntry
    verdict: Verdict
    forged_probability: Probability = Field(description="calibrated P(x)")
    components: tuple[ComponentEntry, ...] = Field(description="all components, whatever the verdict")


class PictureEntry(_Entry):
    """One picture."""

    path: str | None = Field(description="as given; null for an array")
    sha256: Sha256 = Field(description="of the file's bytes; of the pixels for an array")
    width: int = Field(ge=1)
    height: int = Field(ge=1)
    verdict: Verdict
    reason: str | None = Field(description="why it is undetermined, else null")
    faces: tuple[FaceEntry, ...] = Field(description="biggest first")


class ErrorEntry(_Entry):
    """An input that could not be read."""

    path: str
    reason: str


class ModelEntry(_Entry):
    """The weights that answered."""

    name: str
    sha256: Sha256 = Field(description="of the ONNX file")
    thresholds: Thresholds


class ReportFile(_Entry):
    """The whole file."""

    schema_version: Literal[1] = SCHEMA_VERSION
    forgerank_version: str = __version__
    model: ModelEntry
    reports: tuple[PictureEntry, ...]
    errors: tuple[ErrorEntry, ...]

    def to_json(self) -> str:
        """Indented JSON with a final line break."""
        return self.model_dump_json(indent=2) + "\n"


def encodable(path: str) -> str:
    """A path that every encoder takes: bytes that are no UTF-8 appear escaped."""
    return path.encode("utf-8", "backslashreplace").decode("utf-8")


def report_file(
    metadata: WeightsMetadata, sha256: str, reports: Sequence[Report], errors: Sequence[ErrorEntry] = ()
) -> ReportFile:
    """Everything of one run, ready for `to_json()`. `sha256` is that of the ONNX file."""
    return ReportFile(
        model=ModelEntry(name=metadata.name, sha256=sha256, thresholds=metadata.thresholds),
        reports=tuple(_picture(report) for report in reports),
        errors=tuple(errors),
    )


def _picture(report: Report) -> PictureEntry:
    return PictureEntry(
        path=None if report.path is None else encodable(report.path),
        sha256=report.sha256,
        width=report.width,
        height=report.height,
        verdict=report.verdict,
        reason=report.reason,
        faces=tuple(_face(face) for face in report.faces),
    )


def _face(face: FaceReport) -> FaceEntry:
    quality = {name: _digits(value, 4) for name, value in asdict(face.quality).items()}
    x0, y0, x1, y1 = (_digits(value, 2) for value in face.box)
    return FaceEntry(
        box=(x0, y0, x1, y1),
        detection_score=_digits(face.detection_score, 6),
        quality=QualityEntry(**quality),
        verdict=face.verdict,
        forged_probability=_digits(face.forged_probability, 6),
        components=tuple(
            ComponentEntry(
                name=component.name, probability=_digits(component.probability, 6), rank=component.rank
            )
            for component in face.components
        ),
    )


def _digits(value: float, digits: int) -> float:
    return round(float(value), digits)
