"""Five facial points for samples whose data set has none, detected once and cached in a file."""

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.progress import track

from forgerank.data.sample import Sample, read_image
from forgerank.faces.align import five_points
from forgerank.files import make_folder, read_json, write_atomic
from forgerank.types import InputError


def detect_points(
    samples: Sequence[Sample], *, cache: Path | None = None, detector: str = "blazeface"
) -> list[Sample]:
    """The samples with missing points filled in: those of the largest face, None where no face was found.

    `cache` is a folder for the result, keyed by path, size and time of change; None keeps nothing.
    """
    missing = [sample.image for sample in samples if sample.points is None]
    if not missing:
        return list(samples)
    found = _detect_all(missing, cache, detector)
    return [
        sample if sample.points is not None else replace(sample, points=_to_array(found[_key(sample.image)]))
        for sample in samples
    ]


_Coordinates = list[list[float]] | None


def _detect_all(images: Iterable[Path], cache: Path | None, detector: str) -> dict[str, _Coordinates]:
    from forgerank.faces.analyze import FaceAnalyzer

    file = None if cache is None else cache / f"points-{detector}.json"
    found: dict[str, _Coordinates] = {}
    if file is not None and file.is_file():
        found = read_json(file)
        if not isinstance(found, dict):
            raise InputError(f"{file}: holds no facial points: remove it")
    todo = [image for image in images if _key(image) not in found]
    if not todo:
        return found
    analyzer = FaceAnalyzer(detector=detector)
    for image in track(todo, description="faces"):
        faces = analyzer.analyze(read_image(image))
        found[_key(image)] = five_points(faces[0].landmarks).tolist() if faces else None
    if file is not None:
        make_folder(file.parent)
        write_atomic(file, json.dumps(found).encode())
    return found


def _key(image: Path) -> str:
    status = image.stat()
    text = f"{image.resolve()}|{status.st_size}|{status.st_mtime_ns}"
    return hashlib.sha256(os.fsencode(text)).hexdigest()[:32]


def _to_array(points: _Coordinates) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]] | None:
    return None if points is None else np.asarray(points, dtype=np.float32)
