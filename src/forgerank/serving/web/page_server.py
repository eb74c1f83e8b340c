"""The page as an application of its own: `app.mount("/", build_page(judge))` puts it into a service."""

import asyncio
import base64
import hashlib
import json
import logging
import re
import tempfile
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from importlib.resources import files
from pathlib import Path, PurePath
from typing import Annotated, Any

import anyio
from fastapi import Depends, FastAPI, HTTPException, Query, Request
from fastapi.responses import HTMLResponse, Response, StreamingResponse

from forgerank.detect.result import FaceReport, TrackReport, deciding_probability, faces_of
from forgerank.detect.videos import Cancelled
from forgerank.files import encodable
from forgerank.media.files import MediaError
from forgerank.report.builder import ReportBuilder
from forgerank.report.html import template_environment
from forgerank.report.words import LIMITS, VIDEO_LIMITS, percent, verdict_sentence
from forgerank.serving.judge import Judge, Progress
from forgerank.serving.receiving import ProblemError, exhausted, receive
from forgerank.serving.trouble import trouble
from forgerank.serving.web.examples import EXAMPLES, example_bytes
from forgerank.types import InputError, printable

_STATIC = {"page.css": "text/css", "page.js": "text/javascript", "icon.svg": "image/svg+xml"}
_UPLOADS = 8  # for each that is judged: an upload that stalls holds up no finished one
_SCRATCH = "forgerank-"  # begins the name of an upload's folder; the service sweeps by it
_FILE = "upload"  # the one file in it
_UNITS = ((1_000_000_000, "GB"), (1_000_000, "MB"), (1000, "kB"))


def build_page(
    judge: Judge,
    *,
    thorough: Judge | None = None,
    max_bytes: int = 200_000_000,
    max_seconds: float | None = None,
    max_at_once: int = 8,
    folder: Path | None = None,
    authorize: Callable[..., Any] | None = None,
) -> FastAPI:
    """The page's application: static files, the examples and `POST judge`, nothing else.

    `thorough`, one with a thorough detector, judges in place of `judge` where the user asks for it; without
    one the page does not offer it. `max_bytes` limits a file; `max_seconds` of video is told to the user,
    `judge` enforces it. `max_at_once` files are judged at one time, in the order in which their uploads
    ended; eight times as many may be on their way or wait, and beyond that 503 is answered. An upload lies in
    `folder`, by default the system's for temporary files, until it is judged. `authorize` is a FastAPI
    dependency that raises HTTPException(401) unless the request carries a valid key as
    `Authorization: Bearer KEY`; the page then asks for one.
    """
    page = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    index = _index(max_bytes, max_seconds, thorough is not None)
    judges = {False: judge, True: thorough or judge}
    headers = {"Content-Security-Policy": _policy(judge), "Referrer-Policy": "no-referrer"}
    turns = asyncio.Semaphore(max_at_once)
    places = asyncio.Semaphore(_UPLOADS * max_at_once)

    async def place() -> AsyncIterator[Path]:
        """A folder of its own for one upload, held until the answer is sent or its reader gone."""
        if places.locked():
            raise HTTPException(503, "Too many files at once. Try again in a moment.", {"Retry-After": "5"})
        async with places:
            try:
                own = Path(tempfile.mkdtemp(prefix=_SCRATCH, dir=folder))
            except OSError as error:
                raise _refusal(error) from None
            try:
                yield own
            finally:  # without a descriptor, of which there may be none left
                with suppress(OSError):  # somebody else has deleted it
                    (own / _FILE).unlink(missing_ok=True)
                    own.rmdir()

    @page.get("/")
    def show_index() -> Response:
        return HTMLResponse(index, headers=headers)

    @page.get("/static/{name}")
    def show_static(name: str) -> Response:
        if name not in _STATIC:
            raise HTTPException(404)
        return Response(_static(name), media_type=_STATIC[name], headers={"Cache-Control": "no-cache"})

    @page.get("/examples/{name}")
    def show_example(name: str) -> Response:
        if name not in EXAMPLES:
            raise HTTPException(404)
        return Response(example_bytes(name), media_type=EXAMPLES[name].media_type)

    @page.post("/judge", dependencies=[Depends(authorize)] if authorize else None)
    async def judge_file(
        request: Request,
        name: Annotated[str, Query(max_length=1000)],
        own: Annotated[Path, Depends(place)],
        thorough: bool = False,
    ) -> Response:
        path = own / _FILE
        try:
            with open(path, "wb") as file:
                await receive(request, file, max_bytes, empty=True)
        except (ProblemError, OSError) as error:
            refusal = _refusal(error)
            if isinstance(refusal, HTTPException) and refusal.status_code == 413:
                refusal.detail = f"The file is over the limit of {_size(max_bytes)}."
            raise refusal from None
        # A browser sends a bare name; whatever else comes is only ever shown.
        shown = PurePath(name.replace("\\", "/")).name or "file"
        answers = _lines(judges[thorough], path, shown, turns)
        return StreamingResponse(answers, media_type="application/x-ndjson")

    return page


def _refusal(error: Exception) -> BaseException:
    """As an application without handlers of its own can answer it; another error as it is."""
    problem = exhausted(error)
    if isinstance(problem, ProblemError):
        return HTTPException(problem.status, problem.detail, dict(problem.headers or {}))
    return problem


async def _lines(judge: Judge, path: Path, name: str, turns: asyncio.Semaphore) -> AsyncIterator[str]:
    """JSON, one object a line: {"progress": [done, total]} in seconds of video, last the `answer`.

    The file is judged when one of the `turns` is free. Where the browser goes away, the work is told to stop
    and waited for.
    """
    loop = asyncio.get_running_loop()
    messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    gone = threading.Event()

    def progress(done: float, total: float) -> None:
        if gone.is_set():
            raise Cancelled
        loop.call_soon_threadsafe(messages.put_nowait, {"progress": [done, total]})

    def work() -> None:
        try:
            last = answer(judge, path, name, progress)
        except Cancelled:
            return
        loop.call_soon_threadsafe(messages.put_nowait, last)

    yield json.dumps({"progress": [0, 0]}) + "\n"
    async with turns:
        # A thread of its own: pooled ones could all be waiting for their turn with a video.
        thread = anyio.to_thread.run_sync(work, limiter=anyio.CapacityLimiter(1))
        working = asyncio.create_task(thread)
        try:
            more = True
            while more:
                message = await messages.get()
                more = "progress" in message
                yield json.dumps(message) + "\n"
        finally:
            gone.set()
            with anyio.CancelScope(shield=True):
                await working


def _index(max_bytes: int, max_seconds: float | None, thorough: bool) -> str:
    length = "" if max_seconds is None else f", videos up to {max_seconds / 60:.3g} minutes"
    return (
        template_environment(__package__)
        .get_template("index.html")
        .render(
            max_bytes=max_bytes,
            thorough=thorough,
            embedding=EMBEDDING,
            limit=f"Up to {_size(max_bytes)}{length}",
            examples=EXAMPLES,
            limits=(*LIMITS, *VIDEO_LIMITS),
        )
    )


def _policy(judge: Judge) -> str:
    """No other origin, and of inline scripts only the report's own, which its frame inherits from here."""
    scripts = " ".join(f"'{digest}'" for digest in embedded_scripts(judge))
    return (
        f"default-src 'none'; script-src 'self' {scripts}; style-src 'self' 'unsafe-inline'; img-src 'self' "
        "data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _static(name: str) -> bytes:
    return files("forgerank.serving.web").joinpath("static", name).read_bytes()


def _size(count: int) -> str:
    """A number of bytes in words.

    >>> _size(200_000_000), _size(1500), _size(10)
    ('200 MB', '1.5 kB', '10 bytes')
    """
    unit, name = next(((unit, name) for unit, name in _UNITS if count >= unit), (1, "bytes"))
    return f"{count / unit:.3g} {name}"


# What the browser puts before </body> of a report to show it in a frame of the page. A frame cannot be
# measured from outside its sandbox, so the report tells its height; nothing in it may depend on the frame's.
# What the page itself says is left out.
_SCRIPT = (
    "new ResizeObserver(() => parent.postMessage({height: document.body.offsetHeight}, '*'))"
    ".observe(document.body);"
)
_STYLE = (
    ".top,.notes,.item>h2{display:none}.item{margin-top:0}.columns>figure{position:static}.canvas{max-height:46rem}"
    "main,footer{max-width:none;padding:0}body{display:flow-root}"
)
EMBEDDING = f"<style>{_STYLE}</style><script>{_SCRIPT}</script>"
_log = logging.getLogger(__name__)


def answer(judge: Judge, path: Path, name: str, progress: Progress) -> dict[str, Any]:
    """The last message to the browser about the file at `path`, shown as `name`.

    {"error": one line}, or {"name", "verdict", "sentence", "faces", "html", "json"}; a face is {"verdict",
    "probability" (in words), "components" (first to last)}, and the last two are the whole reports.
    Cancelled, raised by `progress`, passes.
    """
    shown = printable(encodable(name))
    try:
        result = judge(path, name, progress)
        report = ReportBuilder(judge.detector)
        report.add(result, path)
    except Cancelled:
        raise
    except Exception as error:
        if (cause := trouble(error)) is not None:
            _log.error("an upload could not be judged now: %s", cause)
            return {"error": f"{shown}: the server cannot judge it now: {cause}"}
        if not isinstance(error, InputError):
            _log.exception("judging an upload failed")
            return {"error": f"{shown}: the program failed on this file; its log says why"}
        reason = error.reason if isinstance(error, MediaError) else str(error)
        return {"error": f"{shown}: {reason}"}
    return {
        "name": shown,
        "verdict": result.verdict,
        "sentence": verdict_sentence(result),
        "faces": [_face(face) for face in faces_of(result)],
        "json": report.json(),
        "html": report.html(),
    }


def _face(face: FaceReport | TrackReport) -> dict[str, Any]:
    return {
        "verdict": face.verdict,
        "probability": percent(deciding_probability(face)),
        "components": [component.name for component in face.sequence],
    }


def embedded_scripts(judge: Judge) -> list[str]:
    """Digests of the scripts in every embedded report, as a Content-Security-Policy takes them."""
    page = ReportBuilder(judge.detector).html()
    scripts = [_SCRIPT, *re.findall(r"<script>(.*?)</script>", page, re.DOTALL)]
    digests = (hashlib.sha256(script.encode()).digest() for script in scripts)
    return [f"sha256-{base64.b64encode(digest).decode()}" for digest in digests]
