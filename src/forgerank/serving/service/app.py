"""The application, and the uvicorn server that runs it: /readyz announces its end before it stops."""

import asyncio
import ctypes
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

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
    """The application; `detector` is made from the settings where none is given.

    Raises InputError for a data folder, a database or weights that cannot be used.
    """
    service = assemble(settings, detector)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield
        await asyncio.to_thread(service.stop)

    app = FastAPI(
        title="forgerank",
        version=__version__,
        description=_DESCRIPTION,
        lifespan=lifespan,
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
_FILES_OF_A_REQUEST = 3  # its connection, its upload, and one in passing


def _most_requests() -> int:
    """As many requests at one time as there are files to open for them."""
    try:
        import resource
    except ImportError:  # Windows
        return 500
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if most == resource.RLIM_INFINITY:
        return 100_000
    return max(8, (most - _FILES) // _FILES_OF_A_REQUEST)


_ARENA_MAX = -8  # M_ARENA_MAX of glibc's malloc.h
_GRACE = 60  # seconds for requests in work when the server stops
_HEAD_SECONDS = 30.0  # within which the head of a request must have come


class _Protocol(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
    """Closes a connection on which the head of a request does not come: uvicorn would wait for ever."""

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self._due: asyncio.TimerHandle | None = self.loop.call_later(_HEAD_SECONDS, self._give_up)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self._is_waiting():
            self._forget()
        elif self._due is None:
            self._due = self.loop.call_later(_HEAD_SECONDS, self._give_up)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._forget()

    def _is_waiting(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _forget(self) -> None:
        if self._due is not None:
            self._due.cancel()
        self._due = None

    def _give_up(self) -> None:
        self._due = None
        if self._is_waiting():
            self.transport.close()


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
                http=_Protocol,
                ws="none",
                timeout_graceful_shutdown=_GRACE,
            )
        )
        self._service: Service = app.state.service

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Called by uvicorn after a signal. A second Ctrl-C ends the wait."""
        self._service.draining = True
        waited = 0.0
        while waited < self._service.settings.drain_seconds and not self.force_exit:
            await asyncio.sleep(0.1)
            waited += 0.1
        await super().shutdown(sockets)


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
