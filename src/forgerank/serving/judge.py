"""Judges: what the service's workers, the web page and the scan call with a file to get its result."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from forgerank.detect.detector import Detector
from forgerank.detect.result import Report, VideoReport
from forgerank.detect.videos import FPS, MAX_FRAMES, Cancelled
from forgerank.judging import judge_file
from forgerank.media.images import MAX_PIXELS

Progress = Callable[[float, float], None]  # (done, total) in seconds of video; may raise to stop the work


class Judge(Protocol):
    """Judges one file per call."""

    @property
    def detector(self) -> Detector:
        """The detector whose weights answer: the report names them."""

    def __call__(self, path: Path, name: str, progress: Progress | None = None) -> Report | VideoReport:
        """The result of the photograph or video at `path`, shown as `name`.

        Raises InputError for a file that cannot be judged; what `progress` raises passes.
        """


@dataclass(frozen=True, slots=True)
class FileJudge:
    """A detector in this process, and the limits on what it takes."""

    detector: Detector
    max_pixels: int = MAX_PIXELS  # of a photograph and of a frame
    fps: float = FPS  # frames judged per second of video
    max_frames: int = MAX_FRAMES  # judged of one video
    max_seconds: float | None = None  # longest video
    cancelled: Callable[[], bool] = lambda: False

    def __call__(self, path: Path, name: str, progress: Progress | None = None) -> Report | VideoReport:
        """As `Judge` has it. Raises Cancelled soon after `cancelled()` turned true."""
        if self.cancelled():
            raise Cancelled
        return judge_file(
            self.detector,
            path,
            name=name,
            max_pixels=self.max_pixels,
            fps=self.fps,
            max_frames=self.max_frames,
            max_seconds=self.max_seconds,
            progress=progress,
            cancelled=self.cancelled,
        )


class SerialJudge:
    """A judge for several threads that takes one file at a time; the others wait."""

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self._turn = threading.Lock()

    @property
    def detector(self) -> Detector:
        return self._judge.detector

    def __call__(self, path: Path, name: str, progress: Progress | None = None) -> Report | VideoReport:
        with self._turn:
            return self._judge(path, name, progress)
