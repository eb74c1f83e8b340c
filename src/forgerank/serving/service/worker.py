"""A worker: a process with a detector of its own that judges one job after the other and writes reports."""

import logging
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path, PurePath
from threading import Event, Thread
from types import TracebackType
from typing import Self, TypeVar

from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, ProgrammingError, SQLAlchemyError

from forgerank.detect.detector import Detector
from forgerank.detect.videos import Cancelled
from forgerank.media.files import edit_lists_left_out
from forgerank.media.suffixes import file_format, is_edit_list
from forgerank.media.tars import ArchiveError
from forgerank.processes import this_process
from forgerank.report.builder import ReportBuilder
from forgerank.serving.judge import FileJudge, Judge
from forgerank.serving.service.archive import Limits, Member, StorageError, unpack
from forgerank.serving.service.database import open_database
from forgerank.serving.service.jobs import Claim, Job, Jobs
from forgerank.serving.service.logs import log_to_stderr
from forgerank.serving.service.service_settings import ServiceSettings
from forgerank.serving.service.uploads import Uploads
from forgerank.serving.trouble import trouble
from forgerank.types import InputError

_BEAT = 2.0  # seconds between signs of life, at most a third of the lease
_PATIENCE_FOR_ONE = 60.0  # seconds for which a database that does not answer is asked again for a job
_PATIENCE = 3600.0  # and to take what became of it
T = TypeVar("T")
_log = logging.getLogger(__name__)


def main(settings: ServiceSettings) -> None:
    """Judge jobs until SIGTERM comes: what `start_process` runs.

    After SIGTERM the image in hand is finished; a longer job goes back to its place in the queue.
    """
    stop = Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    log_to_stderr(access=False)
    try:
        uploads = Uploads(settings.data / "uploads")
        jobs = Jobs(open_database(settings.database_url), uploads, settings)
        detector = Detector(
            settings.weights,
            settings.detector,
            settings.detector_weights,
            device=settings.device,
            threads=settings.worker_threads,
        )
    except Exception as error:
        if trouble(error) is None and not isinstance(error, InputError):
            raise
        _log.error("a worker could not start: %s", error)
        sys.exit(1)
    while not stop.is_set():
        if not work(detector, jobs, uploads, settings, stop):
            stop.wait(settings.poll_seconds)


_RECOVERY = 30.0  # seconds that a machine in trouble is given before the next job


def work(detector: Detector, jobs: Jobs, uploads: Uploads, settings: ServiceSettings, stop: Event) -> bool:
    """Judge the next job; False where none waits."""
    claim = _insist(lambda: jobs.claim(this_process()), stop, _PATIENCE_FOR_ONE)
    if claim is None:
        return False
    cause: str | None = None
    with Lease(jobs, claim, settings) as lease, ExitStack() as stack:
        try:
            path = uploads.path(str(claim.job.file))
            folder = stack.enter_context(uploads.scratch(claim.token))
            judge = FileJudge(
                detector.with_thorough(claim.job.thorough),
                max_pixels=settings.photo_pixels,
                fps=settings.video_fps,
                max_seconds=settings.video_seconds,
                cancelled=lambda: lease.lost or stop.is_set(),
            )
            json, html = report_job(
                claim.job, path, folder, judge=judge, limits=settings, progress=lease.advance
            )
        except Cancelled:
            _insist(lambda: jobs.release(claim), stop)
        except Exception as error:
            cause = str(error) if isinstance(error, StorageError) else trouble(error)
            if cause is None:
                lost = not path.exists()
                reason = LOST if lost else str(error) if isinstance(error, InputError) else INTERNAL
                # The file of a job that was deleted meanwhile is gone as well: nobody asks why.
                if _insist(lambda: jobs.fail(claim, reason), stop):
                    if lost:
                        _log.error("job %s: its file was deleted from %s", claim.job.id, path.parent)
                    elif reason == INTERNAL:
                        _log.exception("job %s", claim.job.id)
        else:
            _insist(lambda: jobs.finish(claim, json, html), stop)
    if cause is not None:  # this machine's, not the user's: the job is tried again, later or elsewhere
        told = cause
        if _insist(lambda: jobs.retry(claim, told), stop):
            _log.error("job %s could not be judged now: %s", claim.job.id, cause)
            stop.wait(_RECOVERY)
    return True


class Lease:
    """Keeps a claim alive while the judge works, tells its progress, and ends a job that takes too long."""

    def __init__(self, jobs: Jobs, claim: Claim, settings: ServiceSettings) -> None:
        self.lost = False  # deleted, given to another worker, or over its time: the judge is to stop
        self._jobs, self._claim, self._settings = jobs, claim, settings
        self._progress = 0.0
        self._started = time.monotonic()
        self._over = Event()
        self._thread = Thread(target=self._beat, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def advance(self, progress: float) -> None:
        """Progress of the job, 0..1; it is written with the next sign of life."""
        self._progress = min(max(progress, 0.0), 1.0)

    def _beat(self) -> None:
        beat = min(_BEAT, self._settings.lease_seconds / 3)
        while not self._over.wait(beat):
            try:
                if self._elapsed > self._settings.job_seconds:
                    self._give_up()
                elif not self._jobs.renew(self._claim, self._progress, self._seconds_left):
                    self.lost = True
            except SQLAlchemyError as error:
                reason = getattr(error, "orig", error)
                _log.warning("job %s: no sign of life could be given (%s)", self._claim.job.id, reason)

    @property
    def _elapsed(self) -> float:
        return time.monotonic() - self._started

    @property
    def _seconds_left(self) -> float | None:
        """None until there is something to go by."""
        if self._progress < 0.02 or self._elapsed < 2:
            return None
        return self._elapsed * (1 - self._progress) / self._progress

    def _give_up(self) -> None:
        """The job fails; a judge that does not stop by itself then, a hung decoder, goes with its process."""
        self._jobs.fail(self._claim, f"took longer than {self._settings.job_seconds:g} seconds")
        self.lost = True
        if not self._over.wait(self._settings.lease_seconds):
            _log.error("job %s hangs: the worker ends", self._claim.job.id)
            os._exit(1)


def _insist(write: Callable[[], T], stop: Event, patience: float = _PATIENCE) -> T:
    """Asks a database that does not answer again: it may be restarting, or its disk full.

    Raises SystemExit after `patience` seconds and once the worker is to stop.
    """
    give_up = time.monotonic() + patience
    pause = 1.0
    while True:
        try:
            return write()
        except DBAPIError as error:
            if isinstance(error, (DataError, IntegrityError, ProgrammingError)):  # what it was asked is wrong
                raise
            if stop.is_set() or time.monotonic() > give_up:
                _log.error("the database does not answer (%s): the worker ends", error.orig)
                sys.exit(1)
            _log.warning("the database does not answer (%s)", error.orig)
            stop.wait(pause)
            pause = min(2 * pause, _RECOVERY)


LOST = "the server lost the file before it was judged: send it again"
INTERNAL = "could not be judged: an internal error, see the server's log"
_log = logging.getLogger(__name__)


def report_job(
    job: Job, path: Path, folder: Path, *, judge: Judge, limits: Limits, progress: Callable[[float], None]
) -> tuple[str, str]:
    """The JSON and the HTML report on a job whose file is at `path`.

    An archive's members are unpacked into `folder`, which is empty. `progress` is told the share of the job
    that is done, 0..1. Raises InputError where nothing of it can be
    judged, and Cancelled where `judge` does.
    """
    report = ReportBuilder(judge.detector)
    if job.kind == "archive":
        _add_members(report, job, path, folder, judge, limits, progress)
    else:
        report.add(judge(path, job.name, lambda done, total: progress(done / total if total else 0.0)), path)
    return report.json(), report.html()


def _add_members(
    report: ReportBuilder,
    job: Job,
    path: Path,
    folder: Path,
    judge: Judge,
    limits: Limits,
    progress: Callable[[float], None],
) -> None:
    edit_lists: Counter[str] = Counter()  # by kind
    try:
        for member in unpack(path, folder, limits):
            progress(member.before)
            if member.path is None:
                report.fail(_label(member), str(member.reason))
                continue
            if not is_edit_list(member.name):
                _add_member(report, job, member, member.path, judge)
            elif (found := file_format(member.path))[0] == "other":
                edit_lists[PurePath(member.name).suffix[1:].upper()] += 1
            else:
                report.fail(_label(member), f"a {found[1]} file named as a list of edits: rename it")
            member.path.unlink()
    except ArchiveError as error:
        if not (report.results or report.errors):
            raise InputError(f"{job.name}: {error}") from None
        report.fail(job.name, f"{error}; the rest of it was not read")
    if edit_lists:
        report.fail(job.name, edit_lists_left_out(edit_lists))
    if not (report.results or report.errors):
        raise InputError(f"{job.name}: holds no file")


def _label(member: Member) -> str:
    """What the report calls a member: where its name is a guess, the bytes by which it can be found."""
    if member.raw_name is None:
        return member.name
    return f"{member.name} (a guess; the archive has the bytes {member.raw_name.hex(' ')})"


def _add_member(report: ReportBuilder, job: Job, member: Member, path: Path, judge: Judge) -> None:
    """Whatever happens to one member, Cancelled apart, the others are judged."""
    name = _label(member)
    try:
        report.add(replace(judge(path, member.name), path=name), path)
    except Cancelled:
        raise
    except Exception as error:
        if not path.exists():  # here and in the next case, the whole job is tried again
            raise StorageError("what it unpacked was deleted") from None
        if trouble(error) is not None:
            raise
        if isinstance(error, InputError):
            report.fail(name, getattr(error, "reason", str(error)))
            return
        _log.exception("job %s: %r", job.id, name)
        report.fail(name, INTERNAL)
