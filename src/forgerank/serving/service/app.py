"""The application, and the uvicorn server that runs it: /readyz announces its end before it stops."""

import asyncio
import ctypes
import socket
from contextlib import suppress
from functools import partial
from typing import Any

import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from forgerank import __version__
from forgerank.detect.detector import Detector
from forgerank.serving.service import problems
from forgerank.serving.service.explorer import explorer
from forgerank.serving.service.guard import Guard
from forgerank.serving.service.prometheus_metrics import MetricsMiddleware
from forgerank.serving.service.routes import judging, operation
from forgerank.serving.service.service_parts import Service, assemble
from forgerank.serving.service.service_settings import ServiceSettings

_DESCRIPTION = (
    "Tells whether a face was forged, which components were manipulated, in what order, and where. "
    "Every error is problem details (RFC 9457)."
)


def create_app(settings: ServiceSettings, detector: Detector | None = None) -> FastAPI:
    """The application, whose service `Server` starts; `detector` is made from the settings by default.

    Raises InputError for a data folder, a database or weights that cannot be used.
    """
    service = assemble(settings, detector)

    app = FastAPI(
        title="forgerank",
        version=__version__,
        description=_DESCRIPTION,
        generate_unique_id_function=lambda route: route.name,
        docs_url=None,  # FastAPI's page loads scripts from elsewhere
        redoc_url=None,
    )
    app.state.service = service
    problems.install(app)
    app.include_router(judging)
    app.include_router(operation)
    app.include_router(explorer)
    plain = app.openapi
    app.openapi = lambda: app.openapi_schema or problems.describe(plain())  # type: ignore[method-assign]
    if settings.web:
        from forgerank.serving.service.web_mount import page

        # Not mounted: a mount at / takes a wrong method of the API's addresses for one of its own.
        app.router.default = page(service)
    app.add_middleware(HeadAsGet)
    app.add_middleware(Guard, loopback_only=service.keys is None, most=_most_requests())
    app.add_middleware(MetricsMiddleware, metrics=service.metrics, access_log=settings.access_log)
    return app


class HeadAsGet:
    """ASGI middleware: HEAD is answered as GET, whose body the server leaves out."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope.get("method") != "HEAD":
            await self.app(scope, receive, send)
            return
        asked = {**scope, "method": "GET"}
        try:
            await self.app(asked, receive, send)
        finally:
            scope.update(asked, method="HEAD")  # the route and the key, for metrics and log


_FILES = 64  # that the server needs beside those of requests: libraries, database, processes
# Its connection, its upload, one in passing, and a connection that waits for the next.
_FILES_OF_A_REQUEST = 4
_FEWEST = 8  # requests


def _most_requests() -> int:
    """As many requests at one time, and connections without one, as there are files to open for them."""
    try:
        import resource
    except ImportError:  # Windows
        return 500
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if most == resource.RLIM_INFINITY:
        return 100_000
    return max(_FEWEST, (most - _FILES) // _FILES_OF_A_REQUEST)


_ARENA_MAX = -8  # M_ARENA_MAX of glibc's malloc.h
_GRACE = 60  # seconds for requests in work when the server stops
_BACKLOG = 2048  # connections that the system keeps until they are taken
_HEAD_SECONDS = 30.0  # within which the head of a request must have come


class _Protocol(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
    """Closes connections on which no request is in work: uvicorn would wait for ever, for any number of them.

    The head of a request must come within `_HEAD_SECONDS`. Of more than `most` such connections the one that
    has waited longest is closed, so that requests find files to open. `waiting` has them all, that one first.
    """

    def __init__(self, waiting: dict["_Protocol", asyncio.TimerHandle], most: int, **options: Any) -> None:
        super().__init__(**options)
        self._waiting, self._most = waiting, most

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._in_work():
            self._forget()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self._in_work():
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._forget()

    def _in_work(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _wait(self) -> None:
        self._waiting[self] = self.loop.call_later(_HEAD_SECONDS, self.transport.close)
        if len(self._waiting) > self._most:
            longest = next(iter(self._waiting))
            longest._forget()
            longest.transport.close()

    def _forget(self) -> None:
        due = self._waiting.pop(self, None)
        if due is not None:
            due.cancel()


class Server(uvicorn.Server):
    """When it is to stop, /readyz answers 503 for `drain_seconds`; then open requests are finished."""

    def __init__(self, app: FastAPI) -> None:
        # Requests are counted and logged by `MetricsMiddleware`. WebSockets are not served.
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,  # `log_to_stderr` and the loggers' own levels decide
                access_log=False,
                server_header=False,
                http=partial(_Protocol, {}, _most_requests()),  # type: ignore[arg-type]
                backlog=1,  # connections taken at a time: between two, those too many are closed
                ws="none",
                timeout_graceful_shutdown=_GRACE,
            )
        )
        self._service: Service = app.state.service

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._service.start()  # as ASGI's lifespan an error would be a traceback
        await super().startup(sockets)
        for listener in sockets or ():
            listener.listen(_BACKLOG)  # no more than are taken at a time could knock otherwise

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Called by uvicorn after a signal. A second Ctrl-C ends the wait."""
        self._service.draining = True
        waited = 0.0
        while waited < self._service.settings.drain_seconds and not self.force_exit:
            await asyncio.sleep(0.1)
            waited += 0.1
        await super().shutdown(sockets)
        if not self.force_exit:
            self._service.stop()  # in no thread: there may be no memory for one


def share_arenas() -> None:
    """Let glibc's threads share two memory arenas. With one each, every thread keeps room for the largest
    image that it ever decoded, and the server grows for hours. Call it before threads begin; elsewhere than
    under glibc it does nothing.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_ARENA_MAX, 2)


def run(app: FastAPI, listener: socket.socket) -> None:
    """Serve on a socket until SIGTERM or Ctrl-C."""
    with suppress(KeyboardInterrupt):  # uvicorn repeats the signal when everything has been finished
        Server(app).run([listener])
