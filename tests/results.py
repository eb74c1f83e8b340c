"""Results made by hand: no network runs, every number is known."""

import numpy as np

from forgerank.detect.result import Component, FaceReport, KeyFrame, Moment, TrackReport, VideoReport
from forgerank.faces.align import Alignment
from forgerank.types import Quality, Verdict

QUALITY = Quality(size=120.0, sharpness=250.5, brightness=0.5, clipped=0.01, yaw=-3.0, pitch=2.0, roll=1.0)
POOR = Quality(size=80.0, sharpness=250.5, brightness=0.5, clipped=0.01, yaw=40.0, pitch=2.0, roll=1.0)
BOX = (10.0, 20.123456, 110.0, 140.0)
FORGED = (Component("nose", 0.9, 1), Component("eye", 0.1, None), Component("lip", 0.8, 2))
REAL = tuple(Component(name, 0.1, None) for name in ("nose", "eye", "lip"))


def face_report(
    verdict: Verdict, components: tuple[Component, ...], quality: Quality = QUALITY
) -> FaceReport:
    return FaceReport(
        box=BOX,
        detection_score=0.98,
        quality=quality,
        verdict=verdict,
        reason="no clear evidence either way" if verdict == "undetermined" else None,
        forged_probability=0.934 if verdict == "forged" else 0.1,
        components=components,
        alignment=Alignment(np.eye(2, 3), 8),
        component_maps=np.zeros((3, 2, 2), np.float32),
        dissimilarity=np.zeros((2, 2), np.float32),
    )


def moments(start: float, verdicts: str, step: float = 0.5) -> tuple[Moment, ...]:
    """One moment per letter and step: f forged, u undetermined, r real, a blank where the face is absent."""
    names: dict[str, tuple[Verdict, float, str | None]] = {
        "f": ("forged", 0.95, None),
        "u": ("undetermined", 0.4, "no clear evidence either way"),
        "r": ("real", 0.05, None),
    }
    found = []
    for i, letter in enumerate(verdicts):
        if letter != " ":
            verdict, probability, reason = names[letter]
            time = start + step * i
            found.append(Moment(round(25 * time), time, BOX, 0.98, probability, verdict, reason))
    return tuple(found)


def track(number: int, seen: tuple[Moment, ...], verdict: Verdict, quality: Quality = QUALITY) -> TrackReport:
    components = FORGED if verdict == "forged" else REAL
    image = np.full((160, 200, 3), 90, np.uint8)
    keys = tuple(KeyFrame(moment, image, face_report(moment.verdict, components)) for moment in seen[:2])
    return TrackReport(
        number=number,
        start=seen[0].time,
        end=seen[-1].time,
        verdict=verdict,
        reason=None,
        forged_probability=0.91 if verdict == "forged" else 0.06,
        components=components,
        moments=seen,
        key_frames=keys,
        quality=quality,
    )


def video_report(*tracks: TrackReport, **changes: object) -> VideoReport:
    facts: dict[str, object] = {
        "path": "clip.mp4",
        "sha256": "4" * 64,
        "width": 200,
        "height": 160,
        "duration": 8.0,
        "decoded_seconds": 6.0,
        "decoded_share": 0.75,
        "frame_rate": 25.0,
        "codec": "h264",
        "sampled_frames": 12,
        "sampling_rate": 2.0,
        "warnings": ("the file ends early",),
        "verdict": "forged",
        "reason": None,
        "tracks": tracks,
    }
    return VideoReport(**{**facts, **changes})  # type: ignore[arg-type]


def two_people() -> VideoReport:
    """One forged from 0.75 to 2.25 s and absent from 2.25 to 3.25 s, one real; 6 of 8 seconds decoded."""
    return video_report(
        track(1, moments(0.0, "urfff  uu"), "forged"), track(2, moments(1.0, "rrr"), "real", POOR)
    )
