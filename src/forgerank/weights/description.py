"""Weights on disk: `forgerank.json` describes the files, their hashes, labels, thresholds and calibration."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from forgerank.types import InputError

METADATA_FILE = "forgerank.json"
ASSETS = Path(__file__).resolve().parent.parent / "assets"

Probability = Annotated[float, Field(ge=0.0, le=1.0)]
Order = Literal["first_to_last", "last_to_first"]
FileKind = Literal["onnx", "safetensors"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, allow_inf_nan=False)


class FileEntry(_Frozen):
    """One file beside `forgerank.json`."""

    file: str
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")

    @field_validator("file")
    @classmethod
    def _stays_in_the_folder(cls, value: str) -> str:
        if value in ("", ".", "..") or "/" in value or "\\" in value:
            raise ValueError("must be a plain file name")
        return value


class Thresholds(_Frozen):
    """On calibrated probabilities, 0..1: `real` <= `forged`, one more per component."""

    forged: Probability = Field(description="calibrated P(x) from which a face is called forged, 0..1")
    real: Probability = Field(description="calibrated P(x) under which a face is called real, 0..1")
    components: tuple[Probability, ...] = Field(
        description="probability from which a component is called manipulated, 0..1, in the order of `labels`"
    )

    @model_validator(mode="after")
    def _ordered(self) -> "Thresholds":
        if self.real > self.forged:
            raise ValueError("the threshold of real lies above that of forged")
        return self


class Calibration(_Frozen):
    """forged_probability = sigmoid(slope * logit(P(x)) + intercept)."""

    slope: float = Field(gt=0.0)
    intercept: float


class WeightsMetadata(_Frozen):
    """Everything that travels with a set of weights; the content of `forgerank.json`."""

    name: str = Field(min_length=1)
    version: str = Field(min_length=1)
    files: dict[FileKind, FileEntry]
    input_size: int = Field(ge=32, le=2048)  # side of the aligned crop, pixels
    zoom: float = Field(default=1.0, ge=0.5, le=2.0)  # of the crop; 1: the whole head with its hair
    # "mean" and "std" per channel of RGB in 0..1; the network applies them itself
    normalisation: dict[str, tuple[float, ...]] | None = None
    labels: tuple[str, ...] = Field(min_length=1)
    order: Order  # which end of the sequence gets the larger probability
    thresholds: Thresholds
    calibration: Calibration
    tau: float = Field(gt=0.0)
    metrics: dict[str, Any]
    settings: dict[str, Any]
    git_revision: str
    licence: str
    seal: str | None = None  # `seal` of all the rest; None in a description written by hand

    @model_validator(mode="after")
    def _one_threshold_per_label(self) -> "WeightsMetadata":
        if len(self.thresholds.components) != len(self.labels):
            raise ValueError(
                f"{len(self.thresholds.components)} component thresholds for {len(self.labels)} labels"
            )
        return self


@dataclass(frozen=True, slots=True)
class Weights:
    """One verified file of weights together with its description."""

    metadata: WeightsMetadata
    path: Path
    sha256: str
    content: bytes


def load_weights(folder: Path | str | None = None, *, kind: FileKind = "onnx") -> Weights:
    """Read `forgerank.json` and one file from a folder, by default the package's own, and check its hash.

    Raises InputError, one line, for weights that are missing, truncated, changed or foreign.
    """
    place = ASSETS if folder is None else Path(folder)
    metadata = _read_metadata(place / METADATA_FILE)
    entry = metadata.files.get(kind)
    if entry is None:
        raise InputError(f"{place / METADATA_FILE}: lists no {kind} file")
    path = place / entry.file
    content = _read(path)
    digest = hashlib.sha256(content).hexdigest()
    if digest != entry.sha256:
        raise InputError(
            f"{path}: SHA-256 is {digest[:12]}…, {METADATA_FILE} says {entry.sha256[:12]}…; "
            "the file is truncated or belongs to other weights"
        )
    return Weights(metadata, path, digest, content)


def seal(description: Mapping[str, Any]) -> str:
    """SHA-256 of a description's values, its own key `seal` left out; order and spacing do not count."""
    rest = {key: value for key, value in description.items() if key != "seal"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _read_metadata(path: Path) -> WeightsMetadata:
    content = _read(path)
    try:
        metadata = WeightsMetadata.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "content"
        reason = " ".join(first["msg"].split())
        raise InputError(f"{path}: not a description of forgerank weights ({where}: {reason})") from None
    if metadata.seal is not None and metadata.seal != seal(json.loads(content)):
        raise InputError(f"{path}: changed since it was written: its seal, a SHA-256, differs")
    return metadata


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot read the weights ({error.strerror or error})") from None
