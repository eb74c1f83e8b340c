"""One function for any file: the result of a photograph or of a video."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from forgerank.detect.detector import Detector, load_image
from forgerank.detect.result import Report, VideoReport
from forgerank.detect.videos import FPS, MAX_FRAMES, detect_video
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

    `name` is shown instead of the path, in errors as well. `max_pixels` limits a photograph and a frame; the
    rest is passed to `detect_video`. Raises MediaError for a file that cannot be read or is over a limit.
    """
    shown = str(path) if name is None else name
    try:
        if media_kind(path, name) != "video":
            [report] = detector.detect([load_image(path, max_pixels=max_pixels)])
            return replace(report, path=shown)
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
        raise type(error)(shown, error.reason) from None
