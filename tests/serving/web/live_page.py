"""A server with the page, a judge whose videos wait for the test, and a page that is watched."""

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI
from playwright.sync_api import Browser, Page

from forgerank.detect import Detector, Report, VideoReport
from forgerank.media.suffixes import media_kind
from forgerank.serving.judge import FileJudge, Judge, Progress
from forgerank.serving.web.page_server import build_page

ORIGIN = "http://127.0.0.1"


class ScriptedJudge:
    """Images are judged by the tiny network; a video goes on as the test tells `script`."""

    def __init__(self, detector: Detector, report: VideoReport) -> None:
        self.detector, self._report = detector, report
        self.script: queue.Queue[tuple[float, float] | str] = queue.Queue()
        self.stopped = threading.Event()
        self.paths: list[Path] = []  # of what was judged

    def __call__(self, path: Path, name: str, progress: Progress | None = None) -> Report | VideoReport:
        self.paths.append(path)
        if media_kind(path, name) != "video":
            return FileJudge(self.detector)(path, name)
        assert progress is not None
        for step in iter(lambda: self.script.get(timeout=60), "finish"):
            if step == "crash":
                raise RuntimeError("a secret of the program")
            if step == "go on":
                self._go_on(progress)
            assert isinstance(step, tuple)
            progress(*step)
        return replace(self._report, path=name)

    def _go_on(self, progress: Progress) -> None:
        try:
            for done in count(12):
                progress(done, 10_000)
                threading.Event().wait(0.02)
        except Exception:
            self.stopped.set()
            raise


@contextmanager
def serving(judge: Judge, **options: Any) -> Iterator[str]:
    app = FastAPI()
    app.mount("/", build_page(judge, **options))
    with running(app) as address:
        yield address


@contextmanager
def running(app: FastAPI) -> Iterator[str]:
    config = uvicorn.Config(app, port=0, log_config=None, ws="none", lifespan="off")
    server = uvicorn.Server(config)
    bound = config.bind_socket()
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
    thread.start()
    try:
        yield f"{ORIGIN}:{bound.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(timeout=30)
        bound.close()


@contextmanager
def watched_page(browser: Browser, *, refused: int = 0, **context: Any) -> Iterator[Page]:
    """A page in a context of its own that asks nobody but its server and has nothing to complain of.

    `refused` requests, of which Chromium itself complains, are expected. The rest are options of the context.
    """
    opened = browser.new_context(**context)
    page = opened.new_page()
    page.set_default_timeout(30_000)
    foreign: list[str] = []
    complaints: list[str] = []
    own = (f"{ORIGIN}:", f"blob:{ORIGIN}:", "data:", "about:srcdoc")
    opened.on("request", lambda request: None if request.url.startswith(own) else foreign.append(request.url))
    page.on("console", lambda message: complaints.append(message.text) if message.type != "log" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    yield page
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "scrolls sideways"
    opened.close()
    assert foreign == []
    assert len(complaints) == refused, complaints
    assert all("Failed to load resource" in complaint for complaint in complaints), complaints
