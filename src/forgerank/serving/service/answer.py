"""What a job's file says: a photograph, a video, or an archive of them, as JSON and as a page."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from forgerank.detect.detector import Detector, load_image
from forgerank.detect.result import Report, VideoReport
from forgerank.detect.videos import Cancelled
from forgerank.judging import json_text, judge_file, render, section
from forgerank.report.credentials import read_credentials
from forgerank.report.entries import Credentials, ErrorEntry
from forgerank.report.html import html_page
from forgerank.report.schema import encodable
from forgerank.serving.service.archive import ArchiveError, unpack
from forgerank.serving.service.jobs import Job
from forgerank.serving.service.settings import Settings
from forgerank.types import InputError

INTERNAL = "could not be judged: an internal error, see the server's log"
_NO_IMAGE = np.zeros((1, 1, 3), dtype=np.uint8)
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Judge:
    """The detector within the service's limits; it tells its progress and stops where it is asked to."""

    detector: Detector
    settings: Settings
    progress: Callable[[float], None]  # 0..1 of the job
    cancelled: Callable[[], bool]

    def file(self, path: Path, name: str, *, whole: bool) -> Report | VideoReport:
        """`whole`: the file is the job, its progress the job's. Raises MediaError and Cancelled."""
        if self.cancelled():
            raise Cancelled
        return judge_file(
            self.detector,
            path,
            name=name,
            max_pixels=self.settings.photo_pixels,
            fps=self.settings.video_fps,
            max_seconds=self.settings.video_seconds,
            progress=self._share if whole else None,
            cancelled=self.cancelled,
        )

    def _share(self, done: float, total: float) -> None:
        self.progress(done / total if total else 0.0)


def answer(judge: Judge, job: Job, path: Path, folder: Path) -> tuple[str, str]:
    """The JSON and the HTML report on a job whose file is at `path`; `folder` is empty and for scratch.

    Raises InputError where nothing of it can be judged, and Cancelled.
    """
    if job.kind == "archive":
        return _archive(judge, job, path, folder)
    return render(judge.detector, [judge.file(path, job.name, whole=True)], [path])


def _archive(judge: Judge, job: Job, path: Path, folder: Path) -> tuple[str, str]:
    answers = _Answers(judge)
    try:
        for member in unpack(path, folder, judge.settings):
            judge.progress(member.before)
            if member.path is None:
                answers.fail(member.name, str(member.reason))
            else:
                answers.add(member.path, member.name, job.id)
                member.path.unlink()
    except ArchiveError as error:
        if answers.empty:
            raise InputError(f"{job.name}: {error}") from None
        answers.fail(job.name, f"{error}; the rest of it was not read")
    if answers.empty:
        raise InputError(f"{job.name}: holds no file")
    return answers.texts()


class _Answers:
    """Gathers the members' answers, each drawn at once: neither files nor images have to be kept."""

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self._results: list[Report | VideoReport] = []
        self._sections: list[str] = []
        self._credentials: dict[str, Credentials] = {}
        self._errors: list[ErrorEntry] = []

    @property
    def empty(self) -> bool:
        return not self._results and not self._errors

    def fail(self, name: str, reason: str) -> None:
        self._errors.append(ErrorEntry(path=encodable(name), reason=reason))

    def add(self, path: Path, name: str, job_id: str) -> None:
        """Judge one member; whatever happens to it, Cancelled apart, is an answer."""
        detector = self._judge.detector
        try:
            result = self._judge.file(path, name, whole=False)
            credentials = read_credentials(path)
            image = load_image(path) if isinstance(result, Report) else None
            drawn = section(len(self._results) + 1, result, image, detector, credentials)
        except Cancelled:
            raise
        except InputError as error:
            self.fail(name, getattr(error, "reason", str(error)))
        except Exception:
            _log.exception("job %s: %r", job_id, name)
            self.fail(name, INTERNAL)
        else:
            self._results.append(_without_frames(result))
            self._sections.append(drawn)
            if credentials is not None:
                self._credentials[result.sha256] = credentials

    def texts(self) -> tuple[str, str]:
        detector = self._judge.detector
        page = html_page(self._sections, self._results, detector.metadata, detector.sha256, self._errors)
        return json_text(detector, self._results, self._errors, self._credentials), page


def _without_frames(result: Report | VideoReport) -> Report | VideoReport:
    """The frames of videos are megabytes each and are in the page by now; the JSON only names them."""
    if isinstance(result, Report):
        return result
    tracks = [
        replace(track, key_frames=tuple(replace(key, image=_NO_IMAGE) for key in track.key_frames))
        for track in result.tracks
    ]
    return replace(result, tracks=tuple(tracks))
