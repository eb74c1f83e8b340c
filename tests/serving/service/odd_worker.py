"""A worker whose judge does what the file says: for tests, in this process and in processes of its own."""

import json
import os
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from forgerank.detect.result import Report
from forgerank.detect.videos import Cancelled
from forgerank.media.images import MediaError
from forgerank.report.schema import ErrorEntry
from forgerank.serving.service import answer, worker
from forgerank.serving.service.settings import Settings


def judge_file(
    detector: object,
    path: Path,
    *,
    name: str,
    progress: Callable[[float, float], None] | None,
    cancelled: Callable[[], bool],
    **limits: Any,
) -> Report:
    content = path.read_bytes()
    if content == b"kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if content == b"hang":
        time.sleep(1000)
    if content == b"slow" or (content == b"slow once" and first_time(path)):
        for i in range(1000):
            if cancelled():
                raise Cancelled
            if progress is not None:
                progress(i, 1000)
            time.sleep(0.05)
    if content == b"bad":
        raise MediaError(name, "not an image")
    if content == b"bug":
        raise RuntimeError("secret inner workings")
    return Report(name, "0" * 64, 1, 1, "undetermined", "no face found", ())


def first_time(path: Path) -> bool:
    if marker(path).exists():
        return False
    marker(path).touch()
    return True


def marker(path: Path) -> Path:
    """The file that exists once `path` was judged for the first time."""
    return path.parent.parent / f"{path.name}.seen"


def render(detector: object, results: Sequence[Report], sources: Sequence[Path]) -> tuple[str, str]:
    assert [source.exists() for source in sources] == [True]
    return json_text(detector, results), "<p>"


def section(number: int, report: Report, *_: object) -> str:
    return f"{number} {report.path}"


def html_page(sections: Sequence[str], *_: object) -> str:
    return "".join(f"<p>{text}" for text in sections)


def json_text(
    detector: object,
    results: Sequence[Report],
    errors: Sequence[ErrorEntry] = (),
    credentials: object = None,
) -> str:
    reasons = {error.path: error.reason for error in errors}
    return json.dumps({"reports": [report.path for report in results], "errors": reasons})


# What stands for those of the same names in `forgerank.serving.service.answer`.
ODD = {
    "judge_file": judge_file,
    "render": render,
    "section": section,
    "html_page": html_page,
    "json_text": json_text,
    "load_image": lambda path: None,
}


def main(settings: Settings) -> None:
    vars(answer).update(ODD)
    vars(worker).update(Detector=lambda *_, **__: SimpleNamespace(metadata=None, sha256=""))
    worker.main(settings)
