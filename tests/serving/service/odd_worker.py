"""A worker whose judge does what the file says: for tests, in this process and in processes of its own."""

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from forgerank.detect.result import Report
from forgerank.detect.videos import Cancelled
from forgerank.media.files import MediaError
from forgerank.serving import judge
from forgerank.serving.service import worker
from forgerank.serving.service.service_settings import ServiceSettings


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


class NamesReport:
    """Stands for `ReportBuilder`: a report that only names its files and their errors."""

    def __init__(self, detector: object) -> None:
        self.results: list[str | None] = []
        self.errors: dict[str, str] = {}

    def add(self, result: Report, path: Path) -> None:
        assert path.exists()
        self.results.append(result.path)

    def fail(self, name: str, reason: str) -> None:
        self.errors[name] = reason

    def json(self) -> str:
        return json.dumps({"reports": self.results, "errors": self.errors})

    def html(self) -> str:
        return "".join(f"<p>{number} {name}" for number, name in enumerate(self.results, start=1))


DETECTOR = SimpleNamespace(metadata=None, sha256="", with_thorough=lambda thorough: DETECTOR)

# What stands for those of the same names.
SUBSTITUTES = [(judge, "judge_file", judge_file), (worker, "ReportBuilder", NamesReport)]


def main(settings: ServiceSettings) -> None:
    for module, name, substitute in SUBSTITUTES:
        setattr(module, name, substitute)
    vars(worker).update(Detector=lambda *_, **__: DETECTOR)
    worker.main(settings)
