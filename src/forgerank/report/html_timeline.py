"""The probability of forgery of one face over the time of its video, as inline SVG."""

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

from forgerank.detect.result import Moment, TrackReport, VideoReport
from forgerank.report.html_pieces import text
from forgerank.report.words import clock, percent
from forgerank.weights.description import Thresholds

_TICKS = (0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400)  # seconds
_MOST_TICKS, _MOST_SPANS = 6, 6
_GAP = 1.75  # in sampling steps: from there on a face counts as absent between two moments
_WIDTH, _HEIGHT = 1000.0, 100.0  # units of the drawing; the page stretches it

Span = tuple[float, float]  # start and end, seconds


def timeline(track: TrackReport, report: VideoReport, thresholds: Thresholds) -> str:
    """The plot of one track, with a slider that reads its values; page.js moves it."""
    start, end = axis(report)
    step = sampling_step(report)
    scale = _WIDTH / (end - start)
    highest = max(track.moments, key=lambda moment: moment.forged_probability)
    spans = [(max(a, start), min(b, end)) for a, b in forged_spans(track.moments, step)]
    drawing = [
        *(_band(span, "forged", start, end, f"forged from {_span(span)}") for span in spans),
        *(
            _band(span, "absent", start, end, f"not seen from {_span(span)}")
            for span in absences(track, report)
        ),
        *(
            _threshold(value, name)
            for name, value in (("forged", thresholds.forged), ("real", thresholds.real))
        ),
        *(_line(run, start, scale) for run in runs(track.moments, step)),
        *(_dot(moment, start, scale) for moment in track.moments),
        f'<line class="cursor" y1="0" y2="{_HEIGHT:g}" hidden/>',
        *_targets(track.moments, start, scale, step),
    ]
    labels = "".join(_tick(at, start, end) for at in ticks(start, end))
    summary = f"Highest {percent(highest.forged_probability)} at {clock(highest.time)}{_listed(spans)}"
    return (
        '<div class="timeline"><div class="plot"><div class="levels" aria-hidden="true">'
        f"{_levels(thresholds)}</div>"
        f'<svg viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}" preserveAspectRatio="none" role="img" aria-label="'
        f'{text(f"Probability of forgery over time. {summary}")}">{"".join(drawing)}</svg>'
        f'<div class="ticks" aria-hidden="true">{labels}</div>'
        f'<input type="range" min="{start:.3f}" max="{end:.3f}" step="{min(step, (end - start) / 2):.3f}" '
        f'value="{highest.time:.3f}" aria-label="Time on the plot of face {track.number}">'
        f"</div><p><output>{text(summary)}</output></p>{_LEGEND}</div>"
    )


_LEGEND = (
    '<p class="legend fine"><span><i class="dot forged"></i>forged</span> '
    '<span><i class="dot undetermined"></i>undetermined</span> <span><i class="dot real"></i>real</span> '
    '<span><i class="swatch forged"></i>forged span</span> '
    '<span><i class="swatch absent"></i>not seen</span></p>'
)


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


def _tick(at: float, start: float, end: float) -> str:
    label = clock(at, digits=0 if at == round(at) else 1)
    return f'<span style="left:{100 * (at - start) / (end - start):.3f}%">{label}</span>'


def _levels(thresholds: Thresholds) -> str:
    """The thresholds beside the plot; 0 and 100 % where they do not collide with one."""
    marks = {thresholds.forged: percent(thresholds.forged), thresholds.real: percent(thresholds.real)}
    ends = {value: label for value, label in ((0.0, "0 %"), (1.0, "100 %")) if _clear(value, thresholds)}
    return "".join(
        f'<span style="bottom:{100 * value:.2f}%">{text(label)}</span>'
        for value, label in {**marks, **ends}.items()
    )


def _clear(value: float, thresholds: Thresholds) -> bool:
    return min(abs(value - thresholds.forged), abs(value - thresholds.real)) > 0.1


def _y(probability: float) -> float:
    return _HEIGHT * (1.0 - probability)


def _threshold(value: float, name: str) -> str:
    y = f"{_y(value):.2f}"
    return f'<line class="threshold {name}" x1="0" x2="{_WIDTH:g}" y1="{y}" y2="{y}"/>'


def _band(span: Span, kind: str, start: float, end: float, title: str) -> str:
    a, b = (_WIDTH * (at - start) / (end - start) for at in span)
    return (
        f'<rect class="band {kind}" x="{a:.2f}" width="{b - a:.2f}" height="{_HEIGHT:g}">'
        f"<title>{text(title)}</title></rect>"
    )


def _listed(spans: Sequence[Span]) -> str:
    if not spans:
        return "."
    more = f" and {len(spans) - _MOST_SPANS} more spans" if len(spans) > _MOST_SPANS else ""
    return f"; forged from {', '.join(_span(span) for span in spans[:_MOST_SPANS])}{more}."


def _span(span: Span) -> str:
    return f"{clock(span[0])} to {clock(span[1])}"


def _line(run: Sequence[Moment], start: float, scale: float) -> str:
    points = " ".join(f"{(m.time - start) * scale:.2f},{_y(m.forged_probability):.2f}" for m in run)
    return f'<polyline points="{points}"/>'


def _dot(moment: Moment, start: float, scale: float) -> str:
    # A line of no length with round ends stays a circle however the drawing is stretched.
    x, y = (moment.time - start) * scale, _y(moment.forged_probability)
    return f'<path class="dot {moment.verdict}" d="M{x:.2f} {y:.2f}h0"/>'


def _targets(moments: Sequence[Moment], start: float, scale: float, step: float) -> Iterator[str]:
    """Where the pointer reads a moment: the strip nearer to it than to any other, at most a step wide."""
    times = [moment.time for moment in moments]
    for i, moment in enumerate(moments):
        left = moment.time - min(step, moment.time - times[i - 1] if i else step) / 2
        right = moment.time + min(step, times[i + 1] - moment.time if i + 1 < len(times) else step) / 2
        value = f"{clock(moment.time)}: {percent(moment.forged_probability)}, {moment.verdict}"
        value += f" ({moment.reason})" if moment.reason else ""
        x, begin, width = (moment.time - start) * scale, (left - start) * scale, (right - left) * scale
        yield (
            f'<rect class="target" x="{begin:.2f}" width="{width:.2f}" height="{_HEIGHT:g}" '
            f'data-time="{moment.time:.3f}" data-x="{x:.2f}">'
            f"<title>{text(value)}</title></rect>"
        )
