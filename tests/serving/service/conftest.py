"""A service on a real socket, with a detector that answers at once and remembers what it was asked.

Below it both databases for real, and a queue of jobs in them.
"""

import io
import os
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from fastapi import FastAPI
from PIL import Image

from forgerank.detect.detector import Detector
from forgerank.detect.result import LoadedImage, Report
from forgerank.serving.service.app import Server, create_app
from forgerank.serving.service.database import open_database
from forgerank.serving.service.service_parts import Service
from forgerank.serving.service.service_settings import ServiceSettings
from forgerank.serving.service.uploads import Uploads
from forgerank.weights.description import load_weights
from jobqueue import Store
from postgres import Cluster, MissingError


class InstantDetector:
    """Finds no face in any image; waits while its gate is closed, breaks at an image called `poison`."""

    def __init__(self, weights: Path) -> None:
        loaded = load_weights(weights)
        self.metadata, self.sha256 = loaded.metadata, loaded.sha256
        self.thorough = False
        self.batches: list[list[str | None]] = []
        self.gate = threading.Event()
        self.gate.set()

    def with_thorough(self, thorough: bool) -> "InstantDetector":
        twin = copy(self)
        twin.thorough = thorough
        return twin

    def detect(self, images: Sequence[LoadedImage]) -> list[Report]:
        names = [image.path for image in images]
        self.batches.append(names)
        assert self.gate.wait(60)
        if "poison" in names:
            raise RuntimeError("secret inner workings")
        return [_no_face(image) for image in images]


def _no_face(image: LoadedImage) -> Report:
    height, width = image.image.shape[:2]
    return Report(image.path, image.sha256, width, height, "undetermined", "no face found", ())


@dataclass
class Live:
    """A running server."""

    client: httpx.Client
    app: FastAPI
    detector: InstantDetector
    url: str
    server: Server
    settings: ServiceSettings

    @property
    def service(self) -> Service:
        service: Service = self.app.state.service
        return service

    def connect(self) -> socket.socket:
        """A connection of one's own, on which nothing was sent."""
        host, port = self.url.removeprefix("http://").split(":")
        return socket.create_connection((host, int(port)), timeout=20)


@contextmanager
def running(app: FastAPI) -> Iterator[tuple[str, Server]]:
    """uvicorn in a thread on a free port of the loopback."""
    server = Server(app)
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", server
    finally:
        server.should_exit = True
        thread.join()


Launch = Callable[..., AbstractContextManager[Live]]


@pytest.fixture(scope="session")
def launch(tiny_weights: Path) -> Launch:
    """Runs a service: launch(data=folder, **settings); API keys are off unless asked for."""

    @contextmanager
    def launched(**changes: Any) -> Iterator[Live]:
        settings = ServiceSettings(**{"require_keys": False, "workers": 0, "drain_seconds": 0, **changes})
        detector = InstantDetector(tiny_weights)
        app = create_app(settings, cast(Detector, detector))
        with running(app) as (url, server), httpx.Client(base_url=url, timeout=60) as client:
            yield Live(client, app, detector, url, server, settings)

    return launched


@pytest.fixture
def start(tmp_path: Path, launch: Launch) -> Iterator[Callable[..., Live]]:
    """Starts services that run until the test ends: start(**settings) -> Live."""
    with ExitStack() as stack:
        yield lambda **changes: stack.enter_context(launch(data=tmp_path / "data", **changes))


@pytest.fixture(scope="session")
def photo() -> bytes:
    """A small JPEG without a face."""
    buffer = io.BytesIO()
    Image.linear_gradient("L").convert("RGB").save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Cluster]:
    """Skips where there is no PostgreSQL, fails where that is CI."""
    try:
        cluster = Cluster()
    except MissingError as missing:
        if os.environ.get("CI"):
            pytest.fail(str(missing))
        pytest.skip(str(missing))
    with cluster:
        yield cluster


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database of each kind, as a user gives it."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'jobs.sqlite3'}"
    cluster: Cluster = request.getfixturevalue("postgresql")
    return cluster.empty_database()


@pytest.fixture
def job_settings(tmp_path: Path, database: str) -> ServiceSettings:
    return ServiceSettings(data=tmp_path / "data", database=database, attempts=3, lease_seconds=30)


@pytest.fixture
def store(job_settings: ServiceSettings) -> Iterator[Store]:
    engine = open_database(job_settings.database_url)
    yield Store(engine, job_settings, Uploads(job_settings.data / "uploads"))
    engine.dispose()
