"""The report on a job, as JSON and as HTML: its file is a photograph, a video, or an archive of them."""

import logging
from collections.abc import Callable
from pathlib import Path

from forgerank.detect.videos import Cancelled
from forgerank.report.builder import ReportBuilder
from forgerank.serving.judge import Judge
from forgerank.serving.service.archive import ArchiveError, Limits, unpack
from forgerank.serving.service.jobs import Job
from forgerank.types import InputError

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
    try:
        for member in unpack(path, folder, limits):
            progress(member.before)
            if member.path is None:
                report.fail(member.name, str(member.reason))
            else:
                _add_member(report, job, member.path, member.name, judge)
                member.path.unlink()
    except ArchiveError as error:
        if not (report.results or report.errors):
            raise InputError(f"{job.name}: {error}") from None
        report.fail(job.name, f"{error}; the rest of it was not read")
    if not (report.results or report.errors):
        raise InputError(f"{job.name}: holds no file")


def _add_member(report: ReportBuilder, job: Job, path: Path, name: str, judge: Judge) -> None:
    """Whatever happens to one member, Cancelled apart, the others are judged."""
    try:
        report.add(judge(path, name), path)
    except Cancelled:
        raise
    except InputError as error:
        report.fail(name, getattr(error, "reason", str(error)))
    except Exception:
        _log.exception("job %s: %r", job.id, name)
        report.fail(name, INTERNAL)
