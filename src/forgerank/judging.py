"""One function for any file: the result of a photograph or of a video."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from forgerank.detect.detector import Detector, load_pages
from forgerank.detect.result import Report, VideoReport
from forgerank.detect.videos import FPS, MAX_FRAMES, detect_video
from forgerank.files import address
from forgerank.media.animations import is_animation
from forgerank.media.files import MediaError
from forgerank.media.images import MAX_PIXELS
from forgerank.media.suffixes import media_kind


def judge_file(
    detector: Detector,
    path: str | Path,
    *,
    name: str | None = None,
    max_pixels: int = MAX_PIXELS,
    fps: float = FPS,
    max_frames: int = MAX_FRAMES,
    max_seconds: float | None = None,
    progress: Callable[[float, float], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Report | VideoReport:
    """The result of a photograph or a video; its content decides which it is, then its name (`media_kind`).

    An animated image is judged as a video. Of a file of several pages, such as a TIFF, all are judged: the
    result is that of the most suspicious one, and its warnings say how the others were judged.

    `name` is shown instead of the path, in errors as well. `max_pixels` limits a photograph and a frame; the
    rest is passed to `detect_video`. Raises MediaError for a file that cannot be read or is over a limit.
    """
    shown = str(path) if name is None else name
    try:
        if media_kind(path, name) != "video" and not is_animation(path):
            return replace(_judge_pages(detector, path, max_pixels), path=shown)
        video = detect_video(
            detector,
            path,
            fps=fps,
            max_frames=max_frames,
            max_seconds=max_seconds,
            max_pixels=max_pixels,
            progress=progress,
            cancelled=cancelled,
        )
        return replace(video, path=shown)
    except MediaError as error:
        raise type(error)(address(shown) or shown, error.reason) from error.__cause__


def _judge_pages(detector: Detector, path: str | Path, max_pixels: int) -> Report:
    reports: list[Report] = []
    unread = []
    try:
        for image in load_pages(path, max_pixels=max_pixels):
            reports += detector.detect([image])
    except MediaError as error:
        if not reports:
            raise
        unread = [error.reason]  # of a later page
    worst = max(reports, key=_suspicion)
    if worst.pages == 1:
        return worst
    counts = Counter(report.verdict for report in reports)
    verdicts = ", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items()))
    said = f"this is page {worst.page} of {worst.pages}; of all pages: {verdicts}"
    return replace(worst, warnings=(*worst.warnings, said, *unread))


def _suspicion(report: Report) -> tuple[int, int, float]:
    """Orders the pages of a file: forged before undetermined with a face, before real, before no face."""
    rank = {"forged": 3, "undetermined": 2 if report.faces else 0, "real": 1}[report.verdict]
    likeliest = max((face.forged_probability for face in report.faces), default=0.0)
    return rank, -report.page if not report.faces else 0, likeliest
