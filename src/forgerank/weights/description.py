"""Descriptions of weights and the files that they list: everything that reads weights reads them here.

`forgerank.json` is complete: hashes of the files, labels, thresholds, calibration. `weights.json` of a
training run holds a part of it. Both carry a seal, the SHA-256 of all their values.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from forgerank.files import address, check_regular, os_reason
from forgerank.labels import Order
from forgerank.types import InputError
from forgerank.weights.renamed_keys import convert_description

METADATA_FILE = "forgerank.json"  # what `forgerank export` writes
RUN_FILE = "weights.json"  # what a training run leaves
ASSETS = Path(__file__).resolve().parent.parent / "assets"

Probability = Annotated[float, Field(ge=0.0, le=1.0)]
FileKind = Literal["onnx", "safetensors"]
Model = TypeVar("Model", bound=BaseModel)


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, allow_inf_nan=False)


class FileEntry(_Frozen):
    """One file beside `forgerank.json`."""

    file: str
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")

    @field_validator("file")
    @classmethod
    def _stays_in_the_folder(cls, value: str) -> str:
        if value in ("", ".", "..") or "/" in value or "\\" in value or not value.isprintable():
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


class Decision(_Frozen):
    """What turns the scores of a face into a verdict."""

    thresholds: Thresholds
    calibration: Calibration


class WeightsMetadata(_Frozen):
    """Everything that is stored with a set of weights; the content of `forgerank.json`."""

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
    thorough: Decision | None = None  # of faces seen in several views; None: as of those seen in one
    tau: float = Field(gt=0.0)
    metrics: dict[str, Any]
    settings: dict[str, Any]
    git_revision: str
    licence: str
    seal: str | None = None  # SHA-256 of all other values; None in a description written by hand

    @model_validator(mode="after")
    def _one_threshold_per_label(self) -> "WeightsMetadata":
        for thresholds in (self.thresholds, *([self.thorough.thresholds] if self.thorough else [])):
            if len(thresholds.components) != len(self.labels):
                raise ValueError(
                    f"{len(thresholds.components)} component thresholds for {len(self.labels)} labels"
                )
        return self

    def with_thorough(self, thorough: bool) -> "WeightsMetadata":
        """This description with the thresholds and the calibration of faces seen in one or several views."""
        if not thorough or self.thorough is None:
            return self
        return self.model_copy(update=dict(self.thorough))


@dataclass(frozen=True, slots=True)
class Weights:
    """One file of weights, whose hash was checked, with its description."""

    metadata: WeightsMetadata
    path: Path
    sha256: str
    content: bytes


def load_weights(folder: Path | str | None = None, *, kind: FileKind = "onnx") -> Weights:
    """Read `forgerank.json` and one file from a folder, by default the package's own, check seal and hash.

    Raises InputError, one line, for weights that are missing, truncated, changed or foreign.
    """
    place = ASSETS if folder is None else Path(folder)
    if place.is_file():
        raise InputError(f"{place}: is a file: name a folder of weights, as `forgerank export` writes it")
    path = place / METADATA_FILE
    description = read_description(path)
    metadata = _validate(WeightsMetadata, description, path)
    content = read_file(path, description, kind)
    entry = metadata.files[kind]
    return Weights(metadata, path.parent / entry.file, entry.sha256, content)


def read_metadata(path: Path) -> WeightsMetadata:
    """A complete description, as `forgerank export` writes it. Raises InputError as `load_weights` does."""
    return _validate(WeightsMetadata, read_description(path), path)


def find_description(place: Path) -> Path | None:
    """The description of a folder or of a .safetensors file; None for what is neither.

    Raises InputError for a folder without one.
    """
    if place.is_dir():
        found = [place / name for name in (METADATA_FILE, RUN_FILE) if (place / name).is_file()]
        if not found:
            raise InputError(f"{place}: holds neither {METADATA_FILE} nor {RUN_FILE}")
        return found[0]
    return place.with_suffix(".json") if place.suffix == ".safetensors" else None


def read_description(path: Path) -> dict[str, Any]:
    """The values of a description, complete or of a training run, after a check of its seal.

    Raises InputError, one line, for a file that is missing, no description, or changed since it was sealed.
    """
    try:
        values = json.loads(_read(path).decode())
        if not isinstance(values, dict):
            raise ValueError("expected keys and values")
        unchanged = values.get("seal") in (None, seal(values))
        description = convert_description(values)
        if not isinstance(description.get("files"), dict):
            raise ValueError("files: expected keys and values")
    except (ValueError, RecursionError) as error:
        raise _not_a_description(path, str(error)) from None
    if not unchanged:
        raise InputError(f"{path}: changed since it was written: its seal, a SHA-256, differs")
    return description


def read_file(
    path: Path, description: Mapping[str, Any], kind: FileKind, *, file: Path | None = None
) -> bytes:
    """The content of a file that the description at `path` lists, or of `file` in its place, with that hash.

    Raises InputError, one line, for a file that is not listed, missing or not the one described.
    """
    entry = file_entry(path, description, kind)
    file = path.parent / entry.file if file is None else file
    content = _read(file)
    if hashlib.sha256(content).hexdigest() != entry.sha256:
        raise InputError(
            f"{file}: its SHA-256 differs from the one in {path.name}: "
            "the file is truncated or belongs to other weights"
        )
    return content


def file_entry(path: Path, description: Mapping[str, Any], kind: FileKind) -> FileEntry:
    """Name and hash of a file in the description at `path`. Raises InputError where it is not listed."""
    if description["files"].get(kind) is None:
        raise InputError(f"{path}: lists no {kind} file")
    return _validate(FileEntry, description["files"][kind], path)


def seal(description: Mapping[str, Any]) -> str:
    """SHA-256 of a description's values, its own key `seal` left out; order and spacing do not count."""
    rest = {key: value for key, value in description.items() if key != "seal"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def sealed_json(description: Mapping[str, Any]) -> bytes:
    """The content of the file that holds a description: JSON with its seal."""
    values = json.loads(json.dumps(description))
    return (json.dumps({**values, "seal": seal(values)}, indent=2) + "\n").encode()


def _validate(model: type[Model], values: object, path: Path) -> Model:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "content"
        raise _not_a_description(path, f"{where}: {first['msg']}") from None


def _not_a_description(path: Path, reason: str) -> InputError:
    return InputError(f"{path}: not a description of forgerank weights ({' '.join(reason.split())})")


def _read(path: Path) -> bytes:
    if (url := address(path)) is not None:
        raise InputError(f"{url}: addresses are not fetched: download it first")
    try:
        check_regular(path)
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot read the weights ({os_reason(error)})") from None
