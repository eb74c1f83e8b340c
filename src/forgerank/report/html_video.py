"""A video in the HTML report: what was decoded, and per person a timeline and the most telling frames."""

from forgerank.detect.result import KeyFrame, TrackReport, VideoReport
from forgerank.report.entries import Credentials
from forgerank.report.html_image import canvas, controls, thumbnail
from forgerank.report.html_pieces import (
    badge,
    bullets,
    components_list,
    credentials_note,
    gauge,
    quality_lines,
    text,
    who,
)
from forgerank.report.html_timeline import timeline
from forgerank.report.words import clock, decoded_sentence, face_sentence, percent, video_sentence
from forgerank.weights.description import Thresholds

_LONGEST_SIDE = 960  # pixels of an embedded frame: three stand side by side


def video_section(
    number: int, report: VideoReport, thresholds: Thresholds, credentials: Credentials | None = None
) -> str:
    """One video: its verdict, how much of it was decoded, and every track. `number` counts from 1."""
    tracks = "".join(_track(number, track, report, thresholds) for track in report.tracks)
    rate = "" if report.frame_rate is None else f" · {report.frame_rate:.4g} frames per second"
    length = "" if report.duration is None else f" · {report.duration:.1f} s"
    return (
        f'<section class="item video {report.verdict}" id="item-{number}"><h2>{text(report.path)}</h2>'
        f'<p class="headline">{badge(report.verdict)} {text(video_sentence(report))}</p>'
        f'<p class="decoded">{text(decoded_sentence(report))}</p>{bullets(report.warnings)}'
        f"{tracks}{credentials_note(credentials)}"
        f'<p class="fine">{report.width} by {report.height} px · {text(report.codec)}{rate}{length} · '
        f"SHA-256 <code>{report.sha256}</code></p></section>"
    )


def _track(section: int, track: TrackReport, report: VideoReport, thresholds: Thresholds) -> str:
    first = track.key_frames[0] if track.key_frames else None
    face = "" if first is None else thumbnail(track.number, first.face, first.image)
    times = f"from {clock(track.start)} to {clock(track.end)}, seen in {len(track.moments)} frames"
    return (
        f'<article class="track {track.verdict}">'
        f"{who(f'Face {track.number}', face, track.verdict, face_sentence(track))}"
        f'<div class="columns"><div>{timeline(track, report, thresholds)}</div>'
        f"<div>{gauge(track.forged_probability, thresholds)}"
        f"{components_list(track.components, track.sequence)}"
        f"{quality_lines(track.quality, times)}</div></div>"
        f"{_key_frames(section, track)}</article>"
    )


def _key_frames(section: int, track: TrackReport) -> str:
    if not track.key_frames:
        return ""
    shown = "none"
    if track.verdict == "forged":
        shown = track.sequence[0].name if track.sequence else "dissimilarity"
    frames = "".join(_key_frame(track.number, key, shown) for key in track.key_frames)
    bar = controls(f"map-{section}-{track.number}", track.key_frames[0].face, shown)
    return f'<h4>Most telling frames</h4><div class="maps"><div class="frames">{frames}</div>{bar}</div>'


def _key_frame(number: int, key: KeyFrame, shown: str) -> str:
    moment = key.moment
    label = f"frame {moment.frame} at {clock(moment.time)}"
    caption = f"{clock(moment.time)} · forged {percent(moment.forged_probability)}"
    return (
        f"<figure>{canvas(key.image, [(number, key.face)], shown, label, _LONGEST_SIDE)}"
        f"<figcaption>{text(caption)}</figcaption>"
        "</figure>"
    )
