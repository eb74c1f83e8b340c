"""How often real people in one's own videos get a forged stretch, and how often an inserted one is found.

    python benchmarks/stretches.py VIDEOS... [--forged VIDEOS...] [--fps 2] [--seconds 3] [--weights DIR]

VIDEOS are files or folders that show real people only. Printed are tracks, moments and hours, the share of
moments and of tracks that are forged, the tracks that get a stretch with a 95 % interval (Wilson), and the
time in which the correlation of two moments falls to 1 / e, measured on the highest tenth of every track.
With videos of forged people, `--seconds` of their moments replace as many in each real track, at twenty
random places each, and the share that is found is printed.
"""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.stats import binomtest

from forgerank.detect import Detector
from forgerank.detect.pooling import MIN_USABLE
from forgerank.detect.result import VideoReport, is_judged
from forgerank.detect.stretches import FALSE_ALARMS, find_stretches
from forgerank.detect.videos import FPS, detect_video
from forgerank.media.files import find_media
from forgerank.types import InputError

Floats = NDArray[np.float64]
_FRAMES = 100_000  # judged of a video, at most: more than the hours that a benchmark has
_TENTH = 0.1  # of a track's moments: those whose correlation is measured
_ENOUGH = 20  # moments of a track for that
_PLACES = 20  # in each real track


class Track(NamedTuple):
    """The moments of one person at which the face can be judged."""

    name: str
    times: Floats  # (M,) seconds, ascending
    probabilities: Floats  # (M,) calibrated
    whole: bool  # it is forged without looking for stretches
    stretch: bool  # a forged stretch is named, as in no track that is forged as a whole


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("videos", type=Path, nargs="+")
    parser.add_argument("--forged", type=Path, nargs="+", default=[])
    parser.add_argument("--fps", type=float, default=FPS)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    detector = Detector(options.weights)
    threshold = detector.metadata.thresholds.forged
    real = read_tracks(detector, options.videos, options.fps)
    show(real, threshold)
    if options.forged:
        forged = read_tracks(detector, options.forged, options.fps)
        rng = np.random.default_rng(options.seed)
        found, tried = inserted(real, forged, threshold, options.seconds, rng)
        low, high = wilson(found, tried)
        print(
            f"{options.seconds:g} s of {len(forged)} forged tracks in real ones: found {found} of {tried} "
            f"({low:.0%} to {high:.0%}, were they independent)"
        )


def read_tracks(detector: Detector, paths: Sequence[Path], fps: float) -> list[Track]:
    """The tracks with enough usable moments for a verdict; what is no video is named and passed over."""
    files, errors = find_media(paths)
    for error in errors:
        print(error)
    tracks: list[Track] = []
    for file in files:
        try:
            tracks += usable_tracks(detect_video(detector, file, fps=fps, max_frames=_FRAMES))
        except InputError as error:
            print(error)
    return tracks


def usable_tracks(report: VideoReport) -> list[Track]:
    """Those of a report, only with the moments that can be judged."""
    tracks = []
    for track in report.tracks:
        moments = [moment for moment in track.moments if is_judged(moment.reason)]
        if len(moments) >= MIN_USABLE:
            times = np.array([moment.time for moment in moments])
            scores = np.array([moment.forged_probability for moment in moments])
            stretch = bool(track.stretches)
            whole = track.verdict == "forged" and not stretch
            tracks.append(Track(f"{Path(report.path).name}, {track.number}", times, scores, whole, stretch))
    return tracks


def correlation_time(tracks: Sequence[Track]) -> float:
    """Seconds in which the correlation of "among the highest tenth of its track" falls to 1 / e.

    From pairs of neighbouring moments of tracks with at least 20; NaN where they say nothing.
    """
    steps, both, counted = [], 0, 0
    for track in tracks:
        if len(track.times) < _ENOUGH:
            continue
        count = round(_TENTH * len(track.times))
        high = np.zeros(len(track.times), dtype=bool)
        high[np.argsort(track.probabilities)[-count:]] = True
        gaps = np.diff(track.times)
        near = gaps < 1.5 * np.median(gaps)
        both += int((high[:-1] & high[1:] & near).sum())
        counted += int((high[:-1] & near).sum())
        steps.append(float(np.median(gaps)))
    correlation = (both / counted - _TENTH) / (1 - _TENTH) if counted else math.nan
    return -float(np.mean(steps)) / math.log(correlation) if 0 < correlation < 1 else math.nan


def inserted(
    real: Sequence[Track], forged: Sequence[Track], threshold: float, seconds: float, rng: np.random.Generator
) -> tuple[int, int]:
    """Of real tracks with moments of a forged one in the place of their own: in how many a stretch is found
    that overlaps them, and how many were tried."""
    found = tried = 0
    for track in real:
        step = float(np.median(np.diff(track.times)))
        length = round(seconds / step)
        donors = [donor for donor in forged if len(donor.times) >= length]
        if not donors or len(track.times) < 3 * length:  # half of a track is the median's, not a stretch's
            continue
        for _ in range(_PLACES):
            donor = donors[rng.integers(len(donors))]
            first = int(rng.integers(len(track.times) - length + 1))
            taken = int(rng.integers(len(donor.times) - length + 1))
            scores = track.probabilities.copy()
            scores[first : first + length] = donor.probabilities[taken : taken + length]
            start, end = track.times[first], track.times[first + length - 1]
            stretches = find_stretches(track.times, scores, threshold)
            found += any(s.start <= end and s.end >= start for s in stretches)
            tried += 1
    return found, tried


def wilson(hits: int, count: int) -> tuple[float, float]:
    """The 95 % interval of a share."""
    if not count:
        return 0.0, 1.0
    interval = binomtest(hits, count).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


def show(tracks: Sequence[Track], threshold: float) -> None:
    table = Table("track", "moments", "seconds", "forged moments", "forged as a whole", "stretch")
    for track in tracks:
        table.add_row(
            track.name,
            str(len(track.times)),
            f"{track.times[-1] - track.times[0]:.1f}",
            f"{(track.probabilities >= threshold).mean():.1%}",
            "yes" if track.whole else "",
            "yes" if track.stretch else "",
        )
    Console().print(table)
    if not tracks:
        return
    moments = np.concatenate([track.probabilities for track in tracks])
    hours = sum(track.times[-1] - track.times[0] for track in tracks) / 3600
    alarms = sum(track.stretch for track in tracks)
    low, high = wilson(alarms, len(tracks))
    print(f"{len(tracks)} tracks, {len(moments)} moments, {hours:.3f} hours")
    print(f"moments at the threshold of {threshold:.1%}: {(moments >= threshold).mean():.2%}")
    print(f"forged as a whole: {sum(track.whole for track in tracks)}")
    print(
        f"with a forged stretch: {alarms} of {len(tracks)}, {alarms / len(tracks):.1%} "
        f"({low:.1%} to {high:.1%}); {FALSE_ALARMS:.0%} is what the rule allows"
    )
    print(f"correlation time: {correlation_time(tracks):.2f} s")


if __name__ == "__main__":
    main()
