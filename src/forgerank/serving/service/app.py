"""The application as uvicorn runs it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from forgerank import __version__
from forgerank.detect.detector import Detector
from forgerank.serving.service import problems
from forgerank.serving.service.guard import Guard
from forgerank.serving.service.prometheus_metrics import MetricsMiddleware
from forgerank.serving.service.routes import judging, operation
from forgerank.serving.service.service_parts import assemble
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
