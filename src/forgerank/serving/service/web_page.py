"""The web page on top of the service: its photographs go through the same batches."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from pathlib import Path

from fastapi import FastAPI

from forgerank.detect.detector import Detector
from forgerank.detect.result import Report, VideoReport
from forgerank.detect.videos import detect_video
from forgerank.serving.service import problems
from forgerank.serving.service.batching import Batcher
from forgerank.serving.service.context import Service
from forgerank.serving.service.guard import authorize
from forgerank.serving.service.jobs import QueueFullError
from forgerank.serving.service.photos import decode
from forgerank.serving.service.problems import ProblemError
from forgerank.serving.service.settings import Settings
from forgerank.types import InputError

_VIDEOS_AT_ONCE = 2  # the others wait; jobs are the place for many
_MAX_BYTES = 200_000_000  # more is for jobs


class BatchedJudge:
    """Judges what the page is given (`forgerank.serving.web.judge.Judge`)."""

    def __init__(self, detector: Detector, batcher: Batcher, settings: Settings) -> None:
        self.detector = detector
        self._batcher, self._settings = batcher, settings
        self._videos = threading.BoundedSemaphore(_VIDEOS_AT_ONCE)

    def images(self, paths: Sequence[Path]) -> list[Report]:
        """One report per photograph, in order."""
        answers: list[Future[Report]] = []
        with ExitStack() as places:
            try:
                for path in paths:
                    places.enter_context(self._batcher.place())
                    with open(path, "rb") as file:
                        image, _ = decode(file, str(path), self._settings.photo_pixels)
                    answers.append(self._batcher.submit(image))
            except QueueFullError:
                raise InputError("the server is busy; try again in a moment") from None
            except ProblemError as error:
                raise InputError(error.detail) from None
            return [answer.result() for answer in answers]

    def video(self, path: Path, progress: Callable[[float, float], None]) -> VideoReport:
        """The report on a video."""
        settings = self._settings
        with self._videos:
            return detect_video(
                self.detector,
                path,
                fps=settings.video_fps,
                max_seconds=settings.video_seconds,
                progress=progress,
            )


def page(service: Service) -> FastAPI:
    """The page's application; where keys are required it asks for one before it judges."""
    from forgerank.serving.web.app import build_page

    settings = service.settings
    application = build_page(
        BatchedJudge(service.detector, service.batcher, settings),
        max_bytes=min(settings.upload_bytes, _MAX_BYTES),
        max_seconds=settings.video_seconds,
        folder=service.uploads.folder,
        authorize=authorize if settings.require_keys else None,
    )
    application.state.service = service
    problems.install(application)
    return application
