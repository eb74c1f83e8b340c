"""The plot of one face's probability of forgery over the time of its video."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from forgerank.detect.result import Moment, TrackReport, VideoReport, is_judged
from forgerank.report.words import clock, percent, verdict_label
from forgerank.weights.description import Thresholds

_TICKS = (0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400)  # seconds
_MOST_TICKS, _MOST_SPANS = 6, 6
_GAP = 1.75  # in sampling steps: from there on a face counts as absent between two moments
_WIDTH, _HEIGHT = 1000.0, 100.0  # units of the drawing; the page stretches it

Span = tuple[float, float]  # start and end, seconds


class Band(NamedTuple):
    """A span of time behind the curve."""

    kind: str  # "forged" or "absent"
    x: float
    width: float
    title: str


class Point(NamedTuple):
    """A moment on the curve, and the strip in which the pointer reads it."""

    moment: Moment
    kind: str  # its verdict; "unjudged" where it cannot be judged
    x: float
    y: float
    left: float
    width: float
    title: str


class Plot(NamedTuple):
    """What templates/timeline.html draws, in units of the drawing but for times in seconds."""

    start: float  # seconds
    end: float  # seconds
    slider_step: float  # seconds
    highest: Moment
    summary: str
    bands: list[Band]
    runs: list[list[Point]]  # cut where the face was absent
    ticks: list[tuple[float, str]]  # share of the width, 0..1, and label


def plot_track(track: TrackReport, report: VideoReport) -> Plot:
    """The plot of one track of a video."""
    start, end = axis(report)
    step = sampling_step(report)
    highest = max(track.moments, key=lambda moment: moment.forged_probability)
    forged = [(max(a, start), min(b, end)) for a, b in forged_spans(track.moments, step)]
    return Plot(
        start=start,
        end=end,
        slider_step=min(step, (end - start) / 2),
        highest=highest,
        summary=f"Highest {percent(highest.forged_probability)} at {clock(highest.time)}{_listed(forged)}",
        bands=[
            *(_band(span, "forged", "forged", start, end) for span in forged),
            *(_band(span, "absent", "not seen", start, end) for span in absences(track, report)),
        ],
        runs=_points(track.moments, step, start, end),
        ticks=[
            ((at - start) / (end - start), clock(at, digits=0 if at == round(at) else 1))
            for at in ticks(start, end)
        ],
    )


def levels(thresholds: Thresholds) -> list[tuple[float, str]]:
    """What is written beside the plot: the thresholds, and 0 and 100 % where no threshold is near."""
    marks = {thresholds.forged: percent(thresholds.forged), thresholds.real: percent(thresholds.real)}
    ends = {0.0: "0 %", 1.0: "100 %"}
    clear = {end: ends[end] for end in ends if min(abs(end - mark) for mark in marks) > 0.1}
    return list({**marks, **clear}.items())


def axis(report: VideoReport) -> Span:
    """The time that every plot of a video covers, seconds: what was decoded, from 0 on.

    A stream that counts from elsewhere begins with its first face.
    """
    times = [moment.time for track in report.tracks for moment in track.moments] or [0.0]
    counts_from_0 = min(times) <= max(report.duration or 0.0, report.decoded_seconds)
    start = min(*times, 0.0) if counts_from_0 else min(times)
    end = max(start + report.decoded_seconds, *times)
    return (start, end) if end > start else (start, start + 1.0)


def sampling_step(report: VideoReport) -> float:
    """Seconds between two sampled frames."""
    start, end = axis(report)
    return 1.0 / report.sampling_rate if report.sampling_rate > 0 else end - start


def runs(moments: Sequence[Moment], step: float) -> list[list[Moment]]:
    """The moments, cut where the face was absent."""
    found = [[moments[0]]]
    for before, after in pairwise(moments):
        if after.time - before.time > _GAP * step:
            found.append([])
        found[-1].append(after)
    return found


def absences(track: TrackReport, report: VideoReport) -> list[Span]:
    """The time in which the face was not seen, to half a sampling step, seconds."""
    start, end = axis(report)
    step = sampling_step(report)
    seen = [(run[0].time - step / 2, run[-1].time + step / 2) for run in runs(track.moments, step)]
    edges = [start, *(edge for span in seen for edge in span), end]
    return [(a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if b - a > step / 2]


def forged_spans(moments: Sequence[Moment], step: float) -> list[Span]:
    """Moments in a row whose own verdict is forged, half a sampling step added on either side, seconds."""
    spans: list[Span] = []
    for run in runs(moments, step):
        joined = False
        for moment in run:
            if moment.verdict == "forged":
                begin = spans.pop()[0] if joined else moment.time - step / 2
                spans.append((begin, moment.time + step / 2))
            joined = moment.verdict == "forged"
    return spans


def ticks(start: float, end: float) -> list[float]:
    """Round times to write under the axis, at most seven, seconds."""
    days = 86400.0 * math.ceil((end - start) / 86400.0 / _MOST_TICKS)
    step = next((step for step in _TICKS if (end - start) / step <= _MOST_TICKS), days)
    return [step * i for i in range(math.ceil(start / step), math.floor(end / step) + 1)]


def _band(span: Span, kind: str, words: str, start: float, end: float) -> Band:
    left, right = (_WIDTH * (at - start) / (end - start) for at in span)
    return Band(kind, left, right - left, f"{words} from {_span(span)}")


def _points(moments: Sequence[Moment], step: float, start: float, end: float) -> list[list[Point]]:
    """The runs of moments; the strip of each is what is nearer to it than to any other, at most a step."""
    scale = _WIDTH / (end - start)
    gaps = [step, *(min(step, after.time - before.time) for before, after in pairwise(moments)), step]
    points = {
        id(moment): _point(moment, before, after, start, scale)
        for moment, before, after in zip(moments, gaps[:-1], gaps[1:], strict=True)
    }
    return [[points[id(moment)] for moment in run] for run in runs(moments, step)]


def _point(moment: Moment, before: float, after: float, start: float, scale: float) -> Point:
    left, right = moment.time - before / 2, moment.time + after / 2
    judged = is_judged(moment.reason)
    label = verdict_label(moment.verdict, moment.reason)
    found = f"{percent(moment.forged_probability)}, {label}" if judged else f"{label} ({moment.reason})"
    return Point(
        moment,
        kind=moment.verdict if judged else "unjudged",
        x=(moment.time - start) * scale,
        y=_HEIGHT * (1.0 - moment.forged_probability),
        left=(left - start) * scale,
        width=(right - left) * scale,
        title=f"{clock(moment.time)}: {found}",
    )


def _listed(spans: Sequence[Span]) -> str:
    if not spans:
        return "."
    more = f" and {len(spans) - _MOST_SPANS} more spans" if len(spans) > _MOST_SPANS else ""
    return f"; forged from {', '.join(_span(span) for span in spans[:_MOST_SPANS])}{more}."


def _span(span: Span) -> str:
    return f"{clock(span[0])} to {clock(span[1])}"
