"""The application, and the uvicorn server that runs it: /readyz announces its end before it stops."""

import asyncio
import ctypes
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import uvicorn
from fastapi import FastAPI

from forgerank import __version__
from forgerank.detect.detector import Detector
from forgerank.serving.service import problems
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
        docs_url=None,  # these pages load scripts from elsewhere
        redoc_url=None,
    )
    app.state.service = service
    problems.install(app)
    app.include_router(judging)
    app.include_router(operation)
    plain = app.openapi
    app.openapi = lambda: app.openapi_schema or problems.describe(plain())  # type: ignore[method-assign]
    if settings.web:
        from forgerank.serving.service.web_mount import page

        app.mount("/", page(service))
    app.add_middleware(Guard, loopback_only=service.keys is None)
    app.add_middleware(MetricsMiddleware, metrics=service.metrics)
    return app


_ARENA_MAX = -8  # M_ARENA_MAX of glibc's malloc.h
_GRACE = 60  # seconds for requests in work when the server stops


class Server(uvicorn.Server):
    """When it is to stop, /readyz answers 503 for `drain_seconds`; then open requests are finished."""

    def __init__(self, app: FastAPI) -> None:
        # What uvicorn says of requests is in /metrics; it logs what goes wrong. WebSockets are not served.
        super().__init__(
            uvicorn.Config(
                app,
                log_level="warning",
                access_log=False,
                server_header=False,
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
