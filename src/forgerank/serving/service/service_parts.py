"""The parts of a running service, made from its settings."""

from dataclasses import dataclass

from sqlalchemy import Engine

from forgerank.detect.detector import Detector
from forgerank.files import os_reason
from forgerank.serving.service.batching import Batcher
from forgerank.serving.service.database import open_database
from forgerank.serving.service.jobs import Jobs
from forgerank.serving.service.keys import Keys
from forgerank.serving.service.photos import Photos
from forgerank.serving.service.prometheus_metrics import ServiceMetrics
from forgerank.serving.service.service_settings import ServiceSettings
from forgerank.serving.service.supervisor import Workers
from forgerank.serving.service.uploads import Uploads
from forgerank.types import InputError


@dataclass
class Service:
    """What the routes work with: `app.state.service`."""

    settings: ServiceSettings
    detector: Detector
    engine: Engine
    uploads: Uploads
    jobs: Jobs
    workers: Workers
    keys: Keys | None  # None: switched off
    batcher: Batcher
    photos: Photos
    metrics: ServiceMetrics
    draining: bool = False  # it is about to stop and wants no new work

    def start(self) -> None:
        """Begin to judge photographs and jobs."""
        self.photos.start()
        self.batcher.start()
        self.workers.start()

    def stop(self) -> None:
        """After the last answer: jobs in work go back to the queue."""
        self.photos.close()
        self.batcher.close()
        self.workers.stop()
        self.engine.dispose()


def assemble(settings: ServiceSettings, detector: Detector | None = None) -> Service:
    """A service that is not started yet; `detector` is made from the settings where none is given.

    Raises InputError for a data folder, a database or weights that cannot be used.
    """
    try:
        uploads = Uploads(settings.data / "uploads")
    except OSError as error:
        raise InputError(f"{settings.data}: cannot keep data here ({os_reason(error)})") from None
    engine = open_database(settings.database_url)
    detector = detector or Detector(
        settings.weights,
        settings.detector,
        settings.detector_weights,
        device=settings.device,
        threads=settings.threads,
    )
    metrics = ServiceMetrics()
    batcher = Batcher(
        detector.detect,
        batch_size=settings.batch_size,
        wait=settings.batch_window,
        places=settings.queue_photos,
        observe=metrics.batches.observe,
        thorough=detector.with_thorough(True).detect,
    )
    jobs = Jobs(engine, uploads, settings)
    metrics.watch("forgerank_jobs", "Jobs by state.", "state", jobs.counts)
    metrics.watch(
        "forgerank_waiting", "What waits for its turn.", "queue", lambda: {"photographs": batcher.waiting}
    )
    return Service(
        settings=settings,
        detector=detector,
        engine=engine,
        uploads=uploads,
        jobs=jobs,
        workers=Workers(settings, jobs),
        keys=Keys(engine) if settings.require_keys else None,
        batcher=batcher,
        photos=Photos(batcher, settings, uploads.folder),
        metrics=metrics,
    )
