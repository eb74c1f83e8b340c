"""What the page needs of whoever judges its files, and the simplest that does."""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from forgerank.detect.detector import Detector
from forgerank.detect.result import Report, VideoReport
from forgerank.detect.videos import detect_video

Progress = Callable[[float, float], None]  # (done, total) in seconds of video; may raise to stop the work


class Judge(Protocol):
    """Judges files. Its methods are called from several threads at once.

    Both raise InputError for a file that cannot be judged; its text is shown to the user.
    """

    detector: Detector  # whose weights answer: the report names them

    def images(self, paths: Sequence[Path]) -> list[Report]:
        """One report per photograph, in order."""
        ...

    def video(self, path: Path, progress: Progress) -> VideoReport:
        """The report on a video. What `progress` raises must pass: it is how the user cancels."""
        ...


class DetectorJudge:
    """A detector in this process, one file at a time."""

    def __init__(self, detector: Detector, *, max_seconds: float | None = None) -> None:
        """`max_seconds`: longest video."""
        self.detector = detector
        self._max_seconds = max_seconds
        self._turn = threading.Lock()

    def images(self, paths: Sequence[Path]) -> list[Report]:
        with self._turn:
            return self.detector.detect(paths)

    def video(self, path: Path, progress: Progress) -> VideoReport:
        with self._turn:
            return detect_video(self.detector, path, max_seconds=self._max_seconds, progress=progress)
