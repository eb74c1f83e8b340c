"""Settings of a scan. Those that can change a row are stored with the results."""

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from forgerank import __version__
from forgerank.detect.videos import FPS, MAX_FRAMES
from forgerank.media.images import MAX_PIXELS
from forgerank.weights.description import WeightsMetadata, load_weights

Engine = Literal["local", "ray"]


class StoppedError(Exception):
    """The scan had to stop; nothing is lost, the same command goes on. `str()` is one line: the reason."""


class Judging(BaseModel):
    """How every file is judged: what a worker process needs to know."""

    model_config = ConfigDict(frozen=True)

    weights: Path | None = None  # folder; the package's own where None
    weights_sha256: str | None = None  # every process must find these; None takes whatever is there
    detector: str = "blazeface"
    detector_weights: Path | None = None
    fps: float = Field(FPS, gt=0)  # frames per second of video
    max_frames: int = Field(MAX_FRAMES, ge=1)  # of one video
    max_pixels: int = Field(MAX_PIXELS, ge=1)  # of a photograph and of a frame
    thorough: bool = False  # each face in several views, see `Detector`
    storage: dict[str, Any] = {}  # options of the fsspec file system; may hold secrets, never written down
    time_limit: float = Field(600.0, gt=0)  # seconds for one file


class ScanSettings(BaseModel):
    """One scan."""

    model_config = ConfigDict(frozen=True)

    sources: tuple[str, ...]  # folders, globs, URLs, files, and @lists of files
    out: Path  # the Parquet file
    all_files: bool = False  # in folders, every file, whatever its name
    judging: Judging = Judging()
    engine: Engine = "local"
    workers: int = Field(1, ge=1)


def describe(settings: ScanSettings, metadata: WeightsMetadata, sha256: str) -> dict[str, str]:
    """What decides the rows, as the Parquet file's metadata and the journal hold it: values are JSON.

    Engine, workers and time limit are left out: they change how long it takes. `sha256`: of the ONNX file.
    """
    judging = settings.judging
    facts = {
        "version": __version__,
        "weights": metadata.name,
        "weights_sha256": sha256,
        "thresholds": metadata.thresholds.model_dump(),
        "labels": metadata.labels,
        "detector": judging.detector,
        "detector_weights": None if judging.detector_weights is None else str(judging.detector_weights),
        "fps": judging.fps,
        "max_frames": judging.max_frames,
        "max_pixels": judging.max_pixels,
        "thorough": judging.thorough,
        "sources": settings.sources,
        "all_files": settings.all_files,
    }
    return {name: json.dumps(value) for name, value in facts.items()}


def weights_of(judging: Judging) -> tuple[WeightsMetadata, str]:
    """Description and hash of the weights, as they judge. Raises InputError for missing or foreign ones."""
    loaded = load_weights(judging.weights)
    return loaded.metadata.with_thorough(judging.thorough), loaded.sha256
