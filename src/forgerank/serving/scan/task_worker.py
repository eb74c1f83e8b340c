"""A file of a scan as a task, and what a worker process does with it: read, hash, judge. Whatever it is, an
outcome comes back.
"""

import errno
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from forgerank.detect.detector import Detector
from forgerank.files import os_reason
from forgerank.limits import lacking
from forgerank.media.files import MediaError, check_file
from forgerank.media.opening import with_remedy
from forgerank.media.suffixes import MEDIA_SUFFIXES
from forgerank.serving.judge import FileJudge
from forgerank.serving.scan.parquet_file import answer_of, no_answer
from forgerank.serving.scan.scan_settings import Judging, StoppedError
from forgerank.serving.scan.sources import is_url, open_storage
from forgerank.types import InputError


@dataclass(frozen=True, slots=True)
class Task:
    """One file to work on."""

    path: str  # as Item has it
    sha256: str | None  # where known
    judge: bool  # else hash it only


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one task."""

    path: str
    size: int | None = None  # bytes
    sha256: str | None = None  # None where the file could not be read
    error: str | None = None  # why it could not be read
    answer: dict[str, Any] | None = None  # of its content, see `rows`; None where it was only hashed


# Works on one task; tells the second argument size and hash of the file before it is decoded.
Work = Callable[[Task, Callable[[Outcome], None]], Outcome]


CHANGED = "changed while it was scanned"


class TaskWorker:
    """The detector of one process, with one thread and batches of one: no answer depends on other files."""

    def __init__(self, judging: Judging, folder: Path) -> None:
        """`folder` takes the copies of remote files. Raises InputError for weights that do not load."""
        self._judging, self._folder = judging, folder
        detector = Detector(
            judging.weights,
            judging.detector,
            judging.detector_weights,
            threads=1,
            batch_size=1,
            thorough=judging.thorough,
        )
        if judging.weights_sha256 not in (None, detector.sha256):
            raise InputError(
                f"{judging.weights or 'the package'}: other weights lie here than where the scan began"
            )
        self._judge = FileJudge(detector, judging.max_pixels, fps=judging.fps, max_frames=judging.max_frames)

    def __call__(self, task: Task, identified: Callable[[Outcome], None]) -> Outcome:
        """The outcome of a task. `identified` is told size and hash before the file is decoded.

        Raises StoppedError where the disk for copies is full, and InputError for weights that cannot be used:
        neither is the fault of the file.
        """
        try:
            with self._local_copy(task.path) as path:
                before = _signature(path)
                with open(path, "rb") as file:
                    sha256 = hashlib.file_digest(file, "sha256").hexdigest()
                outcome = Outcome(task.path, before[0], sha256)
                if not task.judge:
                    return outcome
                identified(outcome)
                answer = self._answer(path)
                if task.sha256 not in (None, sha256) or _signature(path) != before:
                    return Outcome(task.path, before[0], error=CHANGED)
                return Outcome(task.path, before[0], sha256, answer=answer)
        except MediaError as error:
            return Outcome(task.path, error=error.reason)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise StoppedError(f"{self._folder}: no space left on the disk for copies of files") from None
            return Outcome(task.path, error=f"cannot be read ({os_reason(error)})")

    def _answer(self, path: Path) -> dict[str, Any]:
        try:
            report = self._judge(path, "")
        except MediaError as error:
            return no_answer(with_remedy(error, error.reason))
        except InputError:  # not the file's fault: weights that cannot be used
            raise
        except Exception as error:  # a file that trips the program is a row, and the scan goes on
            if lack := lacking(error):
                return no_answer(lack)
            return no_answer(f"the program failed on it ({type(error).__name__}: {error})")
        return answer_of(report)

    @contextmanager
    def _local_copy(self, path: str) -> Iterator[Path]:
        if not is_url(path):
            check_file(path)
            yield Path(path)
            return
        suffix = Path(path).suffix.lower()  # tells what a file was meant to be where its content does not
        with NamedTemporaryFile(dir=self._folder, suffix=suffix if suffix in MEDIA_SUFFIXES else "") as copy:
            try:
                files, inside = open_storage(path, self._judging.storage)
                files.get_file(inside, copy.name)
            except FileNotFoundError:
                raise MediaError(path, "no such file") from None
            except InputError as error:  # of the address itself
                raise MediaError(path, str(error).removeprefix(f"{path}: ")) from None
            except Exception as error:  # every store has errors of its own
                if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise
                raise MediaError(path, f"cannot be read ({str(error) or type(error).__name__})") from None
            check_file(copy.name)
            yield Path(copy.name)


def _signature(path: Path) -> tuple[int, int, int]:
    status = os.stat(path)
    return status.st_size, status.st_mtime_ns, status.st_ino
