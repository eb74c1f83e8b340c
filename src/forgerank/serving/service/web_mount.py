"""The web page on top of the service: its photographs go through the same batches."""

import threading
from dataclasses import replace
from pathlib import Path

from fastapi import APIRouter

from forgerank.detect.detector import Detector
from forgerank.detect.result import Report, VideoReport
from forgerank.media.suffixes import media_kind
from forgerank.serving.judge import FileJudge, Progress
from forgerank.serving.service.batching import Batcher
from forgerank.serving.service.decoders import DecoderDiedError, Decoders
from forgerank.serving.service.guard import authorize
from forgerank.serving.service.jobs import QueueFullError
from forgerank.serving.service.service_parts import Service
from forgerank.serving.service.service_settings import ServiceSettings
from forgerank.types import InputError

_VIDEOS_AT_ONCE = 2  # the others wait; jobs are the place for many
_MAX_BYTES = 200_000_000  # more is for jobs


class BatchedJudge:
    """The page's `Judge`: photographs join the service's batches, videos are judged beside them."""

    def __init__(
        self,
        detector: Detector,
        batcher: Batcher,
        decoders: Decoders,
        settings: ServiceSettings,
        videos: threading.BoundedSemaphore,
    ) -> None:
        """`videos` counts those that are judged at one time."""
        self.detector = detector
        self._decoders = decoders
        self._batcher, self._max_pixels = batcher, settings.photo_pixels
        self._judge_video = FileJudge(detector, fps=settings.video_fps, max_seconds=settings.video_seconds)
        self._videos = videos

    def __call__(self, path: Path, name: str, progress: Progress | None = None) -> Report | VideoReport:
        """As `Judge` has it; InputError for a full queue, too."""
        if media_kind(path, name) == "video":
            with self._videos:
                return self._judge_video(path, name, progress)
        try:
            with (
                self._batcher.place(),
                open(path, "rb") as file,
                self._decoders.decoding(file, name, self._max_pixels, "page") as answer,
            ):
                waiting = self._batcher.submit(answer.result().image, thorough=self.detector.thorough)
                return replace(waiting.result(), path=name)
        except (QueueFullError, DecoderDiedError):
            raise InputError("the server is busy; try again in a moment") from None


def page(service: Service) -> APIRouter:
    """The page's routes; where keys are required it asks for one before it judges.

    Not its application, which would answer 500 to what the service answers 503.
    """
    from forgerank.serving.web.page_server import build_page

    settings = service.settings
    videos = threading.BoundedSemaphore(_VIDEOS_AT_ONCE)
    plain, thorough = (
        BatchedJudge(detector, service.batcher, service.photos.decoders, settings, videos)
        for detector in (service.detector, service.detector.with_thorough(True))
    )
    return build_page(
        plain,
        thorough=thorough,
        max_bytes=min(settings.upload_bytes, _MAX_BYTES),
        max_seconds=settings.video_seconds,
        folder=service.uploads.folder,
        authorize=authorize if settings.require_keys else None,
    ).router
