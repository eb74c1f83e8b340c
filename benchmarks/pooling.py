"""Which rule pools the frames of a person best: AUC over clips rendered from a forged set's photographs.

    python benchmarks/pooling.py FORGED [--clips 60] [--frames 6] [--split val] [--weights DIR] [--seed 0]

FORGED has the layout of `forgerank forge`. Half of the clips show a real photograph and half a forged one,
of each person one of either at most. A clip is a photograph under a camera that shifts, turns and zooms a
little, in changing light with sensor noise, compressed with H.264 or HEVC at a CRF of 18 to 33. Frames are
judged as `forgerank detect` judges them. Intervals: 95 %, bootstrap over people. "One stray" is the AUC when
one frame of every clip is exchanged for one of another clip, as by an error of the tracker, mean of 20
draws. The last columns are the shares of clips at or above and below the saved thresholds.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.table import Table

from forgerank.data.formats.seqdeepfake import read_samples
from forgerank.data.sample import Sample
from forgerank.detect import Detector
from forgerank.detect.pooling import POOL, POOLS, pool, quality_weight
from forgerank.detect.verdict import unusable
from forgerank.media.images import read_photo
from forgerank.media.videos import open_video
from forgerank.metrics.bootstrap import bootstrap_interval
from forgerank.metrics.detection import auc

RATE = 8  # frames per second of a clip; every fourth is judged
CODECS = ("libx264", "libx265")
CRFS = (18, 23, 28, 33)


class Clip(NamedTuple):
    """The scores of one clip."""

    person: str
    forged: bool
    probabilities: NDArray[np.float64]  # (M,) of the frames whose face is good enough
    weights: NDArray[np.float64]  # (M,)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("forged", type=Path)
    parser.add_argument("--clips", type=int, default=60)
    parser.add_argument("--frames", type=int, default=6)
    parser.add_argument("--split", default="val")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    detector = Detector(options.weights)
    samples = choose(list(read_samples(options.forged, options.split)), options.clips, rng)
    clips: list[Clip] = []
    with tempfile.TemporaryDirectory() as folder:
        for sample in samples:
            path = Path(folder) / "clip.mp4"
            write_clip(path, read_photo(sample.image), options.frames, rng)
            clips.append(judge(detector, path, sample))
    judged = [clip for clip in clips if len(clip.probabilities)]
    print(f"{len(judged)} of {len(clips)} clips could be judged, {len({c.person for c in judged})} people")
    show(judged, detector)


def choose(samples: list[Sample], count: int, rng: np.random.Generator) -> list[Sample]:
    """Half real and half forged, each person at most once as either."""
    chosen: list[Sample] = []
    for forged in (False, True):
        people: dict[str, list[Sample]] = {}
        for sample in samples:
            if bool(sample.sequence) == forged:
                people.setdefault(sample.group, []).append(sample)
        names = rng.permutation(sorted(people))[: count // 2]
        chosen += [people[name][rng.integers(len(people[name]))] for name in names]
    return chosen


def write_clip(path: Path, photo: NDArray[np.uint8], frames: int, rng: np.random.Generator) -> None:
    """The photograph under a moving camera, compressed."""
    codec, crf = CODECS[rng.integers(len(CODECS))], CRFS[rng.integers(len(CRFS))]
    options = {"crf": str(crf), **({"x265-params": "log-level=none"} if codec == "libx265" else {})}
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=RATE, options=options)
        stream.width, stream.height = photo.shape[1] // 2 * 2, photo.shape[0] // 2 * 2
        stream.pix_fmt, stream.thread_count = "yuv420p", 1
        for pixels in moving(Image.fromarray(photo), frames * RATE // 2, rng):
            frame = av.VideoFrame.from_ndarray(pixels[: stream.height, : stream.width], format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def moving(photo: Image.Image, count: int, rng: np.random.Generator) -> Iterator[NDArray[np.uint8]]:
    """Small shifts, turns and zooms, changes of light, and noise; (H, W, 3) each."""
    phases, speeds = rng.uniform(0, 2 * np.pi, 5), rng.uniform(0.5, 2.5, 5)
    centre = np.array(photo.size) / 2
    for number in range(count):
        x, y, turn, zoom, light = np.sin(phases + speeds * number / RATE)
        scale, angle = 1 + 0.04 * zoom, np.radians(3) * turn
        linear = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        corner = centre - linear @ centre + 0.03 * photo.width * np.array([x, y])
        data = tuple(np.column_stack([linear, corner]).ravel())
        view = photo.transform(photo.size, Image.Transform.AFFINE, data, Image.Resampling.BICUBIC)
        pixels = np.asarray(view) * (1 + 0.12 * light) + rng.normal(0, 2, (photo.height, photo.width, 3))
        yield np.ascontiguousarray(np.clip(pixels, 0, 255).astype(np.uint8))


def judge(detector: Detector, path: Path, sample: Sample) -> Clip:
    """The biggest face of every sampled frame."""
    with open_video(path) as video:
        reports = [detector.detect([frame.image])[0] for frame in video.samples(2.0)]
    faces = [report.faces[0] for report in reports if report.faces]
    faces = [face for face in faces if unusable(face.quality) is None]
    return Clip(
        sample.group,
        bool(sample.sequence),
        np.array([face.forged_probability for face in faces]),
        np.array([quality_weight(face.quality) for face in faces]),
    )


def stray(clips: list[Clip], rng: np.random.Generator) -> Iterator[Clip]:
    """The clips, one frame of each exchanged for one of another clip."""
    for number, clip in enumerate(clips):
        other = clips[(number + rng.integers(1, len(clips))) % len(clips)]
        here, there = rng.integers(len(clip.weights)), rng.integers(len(other.weights))
        probabilities, weights = clip.probabilities.copy(), clip.weights.copy()
        probabilities[here], weights[here] = other.probabilities[there], other.weights[there]
        yield clip._replace(probabilities=probabilities, weights=weights)


def show(clips: list[Clip], detector: Detector) -> None:
    """A row per rule, and one for a single frame."""
    thresholds = detector.metadata.thresholds
    forged = np.array([clip.forged for clip in clips])
    people = [clip.person for clip in clips]
    rules: dict[str, Callable[[Clip], float]] = {"one frame": lambda clip: float(clip.probabilities[0])}
    for name in POOLS:
        rules[name] = lambda clip, name=name: pool(clip.probabilities, clip.weights, name)  # type: ignore[misc]
    rng = np.random.default_rng(0)
    disturbed = [list(stray(clips, rng)) for _ in range(20)]
    shown = ("real: forged", "real: real", "forged: forged", "forged: real")
    table = Table("rule", "AUC", "one stray", *shown)
    for name, rule in rules.items():
        scores = np.array([rule(clip) for clip in clips])
        area = bootstrap_interval(lambda rows, s=scores: auc(forged[rows], s[rows]), people)  # type: ignore[misc]
        strays = np.mean([auc(forged, [rule(clip) for clip in draw]) for draw in disturbed])
        shares = [
            f"{test[group].mean():.3f}"
            for group in (~forged, forged)
            for test in (scores >= thresholds.forged, scores < thresholds.real)
        ]
        label = f"{name} (used)" if name == POOL else name
        table.add_row(label, f"{area.value:.3f} ({area.low:.3f}-{area.high:.3f})", f"{strays:.3f}", *shares)
    Console(width=130).print(table)


if __name__ == "__main__":
    main()
