"""Worker processes that are killed, hang, or lose their server."""

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import odd_worker
import pytest
from sqlalchemy import func, select

from forgerank.processes import is_dead
from forgerank.serving.service import supervisor
from forgerank.serving.service.database import completions, jobs
from forgerank.serving.service.jobs import Job, Jobs
from forgerank.serving.service.service_settings import ServiceSettings
from forgerank.serving.service.supervisor import Workers
from jobqueue import Store


@pytest.fixture
def job_settings(tmp_path: Path, database: str) -> ServiceSettings:
    # The lease outlasts the test: whatever comes back came back because its process is dead.
    return ServiceSettings(
        data=tmp_path / "data", database=database, workers=1, attempts=2, poll_seconds=0.05, lease_seconds=600
    )


@pytest.fixture
def queue(store: Store) -> Jobs:
    """With a clock that goes."""
    store.now = time.time() - 100
    return Jobs(store.engine, store.uploads, store.settings)


@pytest.fixture
def workers(store: Store, queue: Jobs) -> Iterator[Workers]:
    workers = Workers(store.settings, queue, main=odd_worker.main)
    workers.start()
    yield workers
    workers.stop()
    assert workers.alive == 0


def wait_for(condition: Callable[[], object]) -> None:
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


def state(queue: Jobs, job: Job) -> str:
    found = queue.get(job.id)
    assert found is not None
    return found.state


def in_work(store: Store, job: Job) -> bool:
    """Whether the judge has the file in hand: its worker holds the job a moment longer."""
    return odd_worker.marker(store.uploads.path(str(job.file))).exists()


def holder(store: Store, job: Job) -> str:
    with store.engine.begin() as connection:
        return str(connection.scalar(select(jobs.c.worker).where(jobs.c.id == job.id)))


def times_finished(store: Store, job: Job) -> int:
    ends = select(func.count()).select_from(completions).where(completions.c.job_id == job.id)
    with store.engine.begin() as connection:
        return connection.scalar(ends) or 0


def kill(process: str) -> None:
    os.kill(int(process.split()[-1]), signal.SIGKILL)


def test_the_job_of_a_killed_worker_is_finished_once(store: Store, queue: Jobs, workers: Workers) -> None:
    job = store.submit(b"slow once", "video")
    wait_for(lambda: in_work(store, job))
    kill(holder(store, job))
    wait_for(lambda: state(queue, job) == "done")
    done = queue.get(job.id)
    assert done is not None
    assert done.attempts == 2
    assert times_finished(store, job) == 1
    assert workers.alive == 1


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
@pytest.mark.parametrize("trouble", [OSError(errno.EMFILE, "Too many open files"), MemoryError()])
def test_a_worker_that_cannot_be_replaced_at_once_is_replaced_later(
    store: Store, queue: Jobs, workers: Workers, trouble: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = store.submit(b"slow once", "video")
    wait_for(lambda: in_work(store, job))
    start, refusals = supervisor.start_process, [trouble, trouble]

    def refused(*arguments: Any) -> Any:
        if refusals:
            raise refusals.pop()
        return start(*arguments)

    monkeypatch.setattr(supervisor, "_ROUND", 0.05)
    monkeypatch.setattr(supervisor, "start_process", refused)
    kill(holder(store, job))
    wait_for(lambda: state(queue, job) == "done")
    assert refusals == []
    assert workers.alive == 1


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_job_that_kills_its_workers_fails(store: Store, queue: Jobs, workers: Workers) -> None:
    deadly, harmless = store.submit(b"kill"), store.submit(b"good")
    wait_for(lambda: state(queue, deadly) == "failed")
    failed = queue.get(deadly.id)
    assert failed is not None
    assert str(failed.error).startswith("its worker died while judging it, 2 times")
    assert state(queue, harmless) == "done"
    assert times_finished(store, deadly) == 1


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_workers_go_with_a_killed_server_and_its_jobs_go_on_with_the_next(store: Store, queue: Jobs) -> None:
    job = store.submit(b"slow once", "video")
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER, store.settings.model_dump_json()],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
    )
    wait_for(lambda: in_work(store, job))
    worker = holder(store, job)
    assert not is_dead(worker)
    server.kill()
    server.wait()
    wait_for(lambda: is_dead(worker))
    workers = Workers(store.settings, queue, main=odd_worker.main)
    workers.start()
    try:
        wait_for(lambda: state(queue, job) == "done")
    finally:
        workers.stop()
    assert times_finished(store, job) == 1


SERVER = """
import sys, time, odd_worker
from forgerank.serving.service.jobs import Jobs
from forgerank.serving.service.supervisor import Workers
from forgerank.serving.service.service_settings import ServiceSettings
from forgerank.serving.service.database import open_database
from forgerank.serving.service.uploads import Uploads

settings = ServiceSettings.model_validate_json(sys.argv[1])
jobs = Jobs(open_database(settings.database_url), Uploads(settings.data / "uploads"), settings)
Workers(settings, jobs, main=odd_worker.main).start()
time.sleep(600)
"""


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_worker_that_hangs_ends_itself(store: Store, queue: Jobs) -> None:
    settings = store.settings.model_copy(update={"job_seconds": 3.0, "lease_seconds": 0.5})
    workers = Workers(settings, store.with_settings(), main=odd_worker.main)
    hanging, good = store.submit(b"hang"), store.submit(b"good")
    workers.start()
    try:
        wait_for(lambda: state(queue, good) == "done")
    finally:
        workers.stop()
    failed = queue.get(hanging.id)
    assert failed is not None
    assert failed.error == "took longer than 3 seconds"


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_stopping_gives_back_what_is_not_done(store: Store, queue: Jobs) -> None:
    workers = Workers(store.settings, queue, main=odd_worker.main)
    job = store.submit(b"slow", "video")
    workers.start()
    wait_for(lambda: state(queue, job) == "running")
    workers.stop()
    back = queue.get(job.id)
    assert back is not None
    assert (back.state, back.attempts, workers.alive) == ("queued", 0, 0)
