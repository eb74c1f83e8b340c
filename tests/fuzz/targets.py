"""What the fuzz tests, benchmarks/fuzz.py and the atheris targets run: a kind of input and who reads it.

The property: a result, or an InputError of one printable line. Anything else is a bug.
"""

import json
from functools import cache
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import numpy as np
from hostile import bombs, documents, files, photos, videos
from readers import READERS, Kind

from forgerank.media.images import MAX_PIXELS
from forgerank.types import InputError


def answer(kind: str, content: bytes, folder: Path) -> str:
    """ "answered", or the class and line of the refusal. Raises what must not happen."""
    try:
        KINDS[kind].read(content, folder)
    except InputError as refusal:
        line = str(refusal)
        if not line or not line.isprintable():
            raise AssertionError(f"not one printable line: {line!r}") from refusal
        return f"{type(refusal).__name__}: {line}"
    return "answered"


def _read_photo(content: bytes, folder: Path) -> None:
    """As a data set reads it, then every page or frame, as the detector does."""
    from forgerank.media.animations import is_animation, open_animation
    from forgerank.media.images import read_pages, read_photo

    path = files.write(folder, "photo", content)
    first: InputError | None = None
    try:
        _check_photo(read_photo("photo", data=content, max_pixels=MAX_PIXELS))
    except InputError as error:
        first = error
    if is_animation(path):
        with open_animation(path) as animation:
            for sample in animation.samples(1000):
                _check_photo(sample.image)
    else:
        for page in read_pages(path):
            _check_photo(page.image)
    if first is not None:
        raise first


def _check_photo(image: np.ndarray) -> None:
    assert image.dtype == np.uint8
    assert image.ndim == 3
    assert image.shape[2] == 3
    assert 0 < image.shape[0] * image.shape[1] <= MAX_PIXELS


def _judge_photo(content: bytes, folder: Path) -> None:
    """The whole way with the package's weights: JSON and HTML included."""
    from forgerank.judging import judge_file
    from forgerank.report.builder import ReportBuilder
    from forgerank.report.credentials import read_credentials

    path = files.write(folder, "photo", content)
    read_credentials(path)
    report = judge_file(detector(), path)
    builder = ReportBuilder(detector())
    builder.add(report, path)
    text, page = builder.json(), builder.html()
    written = json.loads(text)
    assert written["reports"] or written["videos"]  # of an animation
    assert page


def _photo_or_portrait(rng: Random) -> bytes:
    return photos.hostile_portrait(rng) if rng.randrange(4) else photos.hostile_photo(rng)


def _video_or_portrait(rng: Random) -> bytes:
    return videos.hostile_portrait(rng) if rng.randrange(2) else videos.hostile_video(rng)


@cache
def detector() -> Any:
    from forgerank.detect import Detector

    return Detector(threads=1)


def _read_video(content: bytes, folder: Path) -> None:
    """Every frame that is asked for, as the detector and as the readers of data sets ask for them."""
    from forgerank.media.frame_access import count_frames, read_video
    from forgerank.media.videos import open_video

    path = files.write(folder, "video", content)
    count_frames(path)
    for _ in read_video(path, 3):
        pass
    with open_video(path, max_pixels=MAX_PIXELS) as video:
        for number, sample in enumerate(video.samples(10.0)):
            assert number < 10_000
            assert sample.time >= 0.0
            _check_photo(sample.image)


def _judge_video(content: bytes, folder: Path) -> None:
    """The whole way with the package's weights: JSON and HTML included."""
    from forgerank.judging import judge_file
    from forgerank.report.builder import ReportBuilder

    path = files.write(folder, "video", content)
    report = judge_file(detector(), path, fps=10.0, max_frames=4)
    builder = ReportBuilder(detector())
    builder.add(report, path)
    text, page = builder.json(), builder.html()
    assert json.loads(text)
    assert page


def _read_network(content: bytes, folder: Path) -> None:
    """A network whose hash is right, however damaged: who made it made the description, too."""
    files.write(folder, "forgerank.json", files.described(content))
    files.write(folder, "tiny.onnx", content)
    _run_weights(folder)


def _read_description(content: bytes, folder: Path) -> None:
    files.write(folder, "forgerank.json", content)
    files.write(folder, "tiny.onnx", files.networks()[0])
    _run_weights(folder)


def _run_weights(folder: Path) -> None:
    from forgerank.detect.runtime import Runtime
    from forgerank.detect.verdict import calibrate, judge_face, order_components
    from forgerank.types import Quality
    from forgerank.weights.description import load_weights

    weights = load_weights(folder)
    metadata = weights.metadata
    size = metadata.input_size
    prediction = Runtime(weights, threads=1).run([np.full((size, size, 3), 200, dtype=np.uint8)])
    probability = calibrate(float(prediction.probability[0]), metadata.calibration)
    assert 0.0 <= probability <= 1.0
    verdict, _ = judge_face(probability, Quality(200, 100, 0.5, 0, 0, 0, 0), metadata.thresholds)
    scores = prediction.component_probabilities[0], prediction.order_scores[0]
    order_components(metadata.labels, *scores, verdict, metadata.thresholds, metadata.order)


def _description(rng: Random) -> bytes:
    return documents.hostile_json(json.loads(files.described(files.networks()[0])), rng)


def _read_archive(content: bytes, folder: Path) -> None:
    from forgerank.serving.service.archive import is_archive, unpack

    path = files.write(folder, "archive", content)
    inside = folder / "inside"
    inside.mkdir()
    if is_archive(path):
        for member in unpack(path, inside, _LIMITS):
            if member.path is not None:
                assert member.path.parent == inside
                member.path.unlink()
    assert list(inside.iterdir()) == []


class _Limits(NamedTuple):
    archive_entries: int = 20
    archive_bytes: int = 10_000_000
    archive_ratio: float = 100.0


_LIMITS = _Limits()


def _read_results(content: bytes, folder: Path) -> None:
    from forgerank.serving.scan.summary import summarize

    summarize(files.write(folder, "results.parquet", content))


def _read_report(content: bytes, folder: Path) -> None:
    from pydantic import ValidationError

    from forgerank.report.schema import ReportFile

    try:
        ReportFile.model_validate_json(content).to_json()
    except ValidationError as error:
        raise InputError(error.errors()[0]["msg"]) from None


@cache
def _report() -> Any:
    from forgerank.report.schema import report_file

    metadata = _metadata()
    return json.loads(report_file(metadata, "0" * 64, [], []).to_json())


def _metadata() -> Any:
    from forgerank.weights.description import load_weights

    return load_weights().metadata


FILES: dict[str, Kind] = {
    "bomb": Kind(bombs.hostile_bomb, _read_photo),
    "photograph": Kind(photos.hostile_photo, _read_photo),
    "photograph, judged": Kind(_photo_or_portrait, _judge_photo),
    "video": Kind(videos.hostile_video, _read_video),
    "video, judged": Kind(_video_or_portrait, _judge_video),
    "network": Kind(files.hostile_network, _read_network),
    "description": Kind(_description, _read_description),
    "archive": Kind(files.hostile_archive, _read_archive),
    "results": Kind(files.hostile_results, _read_results),
    "report": Kind(lambda rng: documents.hostile_json(_report(), rng), _read_report),
}

KINDS: dict[str, Kind] = {**FILES, **READERS}
