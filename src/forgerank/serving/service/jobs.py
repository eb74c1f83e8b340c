"""Jobs: claimed with a lease, finished exactly once, whatever dies in between.

A worker claims a job and gets a token; every later write of that worker names the token and changes nothing
once the job was given to another. Correctness rests on the tokens alone; clocks only decide how soon the job
of a dead worker goes back to the queue.
"""

import secrets
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, get_args

from sqlalchemy import ColumnElement, Connection, Engine, Row, and_, delete, func, insert, or_, select, update

from forgerank.processes import is_dead
from forgerank.serving.service.database import completions, jobs, results
from forgerank.serving.service.service_settings import ServiceSettings
from forgerank.serving.service.uploads import Kind as Kind
from forgerank.serving.service.uploads import Uploads
from forgerank.types import printable

_SOONEST, _LATEST = 30.0, 3600.0  # seconds before a job is tried again that a trouble of the machine held up
State = Literal["queued", "running", "done", "failed"]


class QueueFullError(Exception):
    """As many jobs wait as the settings allow."""


@dataclass(frozen=True, slots=True)
class Job:
    """A job as it was when it was read."""

    id: str  # 32 hexadecimal digits, unguessable
    key_id: int | None  # row of `api_keys` that sent it
    kind: Kind
    name: str  # the client's name of the file, a label to show
    file: str | None  # our name of the file, for `Uploads.path`; None once it is removed
    size: int  # bytes
    thorough: bool  # each face is judged in several views
    state: State
    created: datetime  # UTC
    started: datetime | None  # of the last attempt
    finished: datetime | None
    attempts: int  # workers that claimed it
    progress: float  # 0..1
    seconds_left: float | None  # estimate, while it runs
    error: str | None  # one line, why it failed, or why it could not be judged yet


@dataclass(frozen=True, slots=True)
class Claim:
    """A job that this worker holds until its lease ends."""

    job: Job
    token: str  # new for every claim
    worker: str


class Jobs:
    """The queue and the results, shared by any number of servers and workers. Safe in threads."""

    def __init__(
        self,
        engine: Engine,
        uploads: Uploads,
        settings: ServiceSettings,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`engine` comes from `open_database`; `clock` gives seconds since 1970."""
        self._engine = engine
        self._reader = engine.execution_options(begin="BEGIN")
        self._uploads = uploads
        self._settings = settings
        self._clock = clock

    # what clients do

    def submit(
        self,
        kind: Kind,
        name: str,
        file: str,
        size: int,
        *,
        key_id: int | None = None,
        thorough: bool = False,
    ) -> Job:
        """Put an upload into the queue. `file` is its name in Uploads, `size` in bytes.

        Raises QueueFullError where `queue_jobs` wait already; the file is the caller's to remove then.
        Under PostgreSQL submissions of the same moment may exceed the limit by a few.
        """
        now = self._clock()
        values = {
            "id": secrets.token_hex(16),
            "key_id": key_id,
            "kind": kind,
            "name": printable(name),
            "file": file,
            "size": size,
            "thorough": thorough,
            "state": "queued",
            "created": now,
            "queued": now,
            "attempts": 0,
            "progress": 0.0,
        }
        with self._engine.begin() as connection:
            waiting = connection.scalar(select(func.count()).where(jobs.c.state == "queued"))
            if (waiting or 0) >= self._settings.queue_jobs:
                raise QueueFullError
            row = connection.execute(insert(jobs).values(values).returning(jobs)).one()
        return _job(row)

    def get(self, job_id: str) -> Job | None:
        """The job, or None where there is none (any more)."""
        with self._reader.begin() as connection:
            row = connection.execute(select(jobs).where(jobs.c.id == job_id)).one_or_none()
        return None if row is None else _job(row)

    def listed(
        self, key_id: int | None, *, state: State | None = None, before: str | None = None, limit: int = 50
    ) -> list[Job]:
        """The jobs of a key (None: those that were sent without one), newest first.

        `state` leaves out the others; the list begins after the job whose id is `before`.
        """
        wanted = [jobs.c.key_id.is_(None) if key_id is None else jobs.c.key_id == key_id]
        if state is not None:
            wanted.append(jobs.c.state == state)
        if before is not None:
            created = select(jobs.c.created).where(jobs.c.id == before).scalar_subquery()
            same = and_(jobs.c.created == created, jobs.c.id < before)
            wanted.append(or_(jobs.c.created < created, same))
        newest = jobs.c.created.desc(), jobs.c.id.desc()
        with self._reader.begin() as connection:
            rows = connection.execute(select(jobs).where(*wanted).order_by(*newest).limit(limit)).all()
        return [_job(row) for row in rows]

    def report(self, job_id: str, form: Literal["json", "html"]) -> str | None:
        """The report of a job that is done, else None."""
        column = select(results.c[form]).where(results.c.job_id == job_id)
        with self._reader.begin() as connection:
            content = connection.scalar(column)
        return None if content is None else zlib.decompress(content).decode()

    def delete(self, job_id: str) -> bool:
        """Delete job, report and file; its worker, if one holds it, stops soon. False: there is none."""
        with self._engine.begin() as connection:
            gone = delete(jobs).where(jobs.c.id == job_id).returning(jobs.c.file)
            deleted = connection.execute(gone).one_or_none()
        if deleted is None:
            return False
        self._uploads.remove(deleted.file)
        return True

    # what workers do

    def claim(self, worker: str) -> Claim | None:
        """The job that waited longest, for `lease_seconds`; None where none waits.

        `worker` names the process as `this_process()` does. Jobs whose lease ended go back to the
        end of the queue first: a job that kills its workers does not hold up the others.
        """
        now = self._clock()
        # A lease that far ahead was given before the clock was set back: it would end in months.
        soon = now + 2 * self._settings.lease_seconds
        lapsed = and_(jobs.c.state == "running", ~jobs.c.lease_until.between(now, soon))
        held_up = and_(jobs.c.error.is_not(None), jobs.c.queued > now, jobs.c.queued <= now + 2 * _LATEST)
        due = and_(jobs.c.state == "queued", ~held_up)
        wanted = select(jobs.c.id).where(or_(due, lapsed)).limit(1)
        with self._reader.begin() as connection:  # an idle worker takes no write lock
            if connection.scalar(wanted) is None:
                return None
        self._requeue(lapsed)
        oldest = (
            select(jobs.c.id)
            .where(due)
            .order_by(jobs.c.queued, jobs.c.id)
            .limit(1)
            .with_for_update(skip_locked=True)  # SQLite ignores it: this transaction is its only writer
        )
        token = secrets.token_hex(16)
        with self._engine.begin() as connection:
            job_id = connection.scalar(oldest)
            row = connection.execute(
                update(jobs)
                .where(jobs.c.id == job_id)
                .values(
                    state="running",
                    started=now,
                    attempts=jobs.c.attempts + 1,
                    worker=worker,
                    token=token,
                    lease_until=now + self._settings.lease_seconds,
                )
                .returning(jobs)
            ).one_or_none()
        return None if row is None else Claim(_job(row), token, worker)

    def renew(self, claim: Claim, progress: float, seconds_left: float | None = None) -> bool:
        """Keep the job for `lease_seconds` more. False: it was deleted or is another worker's; stop."""
        lease_until = self._clock() + self._settings.lease_seconds
        with self._engine.begin() as connection:
            changed = connection.execute(
                update(jobs)
                .where(_held(claim))
                .values(lease_until=lease_until, progress=progress, seconds_left=seconds_left)
            )
        return changed.rowcount == 1

    def finish(self, claim: Claim, json: str, html: str) -> bool:
        """Store the report and end the job. False: it is not this worker's any more, nothing was stored."""
        content = {"json": zlib.compress(json.encode(), 1), "html": zlib.compress(html.encode(), 1)}
        with self._engine.begin() as connection:
            if not self._end(connection, _held(claim), "done", claim.worker, None):
                return False
            connection.execute(insert(results).values(job_id=claim.job.id, **content))
        self._judged(claim.job.file)
        return True

    def fail(self, claim: Claim, error: str) -> bool:
        """End the job with one line that says why. False: it is not this worker's any more."""
        line = printable(error)  # PostgreSQL takes no NUL, and no encoder takes half a character
        with self._engine.begin() as connection:
            if not self._end(connection, _held(claim), "failed", claim.worker, line):
                return False
        self._judged(claim.job.file)
        return True

    def retry(self, claim: Claim, cause: str) -> bool:
        """Back into the queue for a trouble of this machine, which counts for no attempt; the file is kept.

        It waits for as long again as it has waited since it was sent, between _SOONEST and _LATEST. After
        `trouble_seconds` it fails, and its file stays for as long as its entry does. False: it is not this
        worker's any more.
        """
        now = self._clock()
        waited = now - claim.job.created.timestamp()
        if waited >= self._settings.trouble_seconds:
            line = f"the server could not judge it: {cause}; the file was kept"
            with self._engine.begin() as connection:
                return self._end(connection, _held(claim), "failed", claim.worker, line, keep=True)
        line = f"the server could not judge it yet: {cause}; it is tried again"
        due = now + min(max(waited, _SOONEST), _LATEST)
        again = {**_WAITING, "queued": due, "error": line, "attempts": jobs.c.attempts - 1}
        with self._engine.begin() as connection:
            return connection.execute(update(jobs).where(_held(claim)).values(again)).rowcount == 1

    def release(self, claim: Claim) -> bool:
        """Give the job back to its old place in the queue, as if it had never been claimed."""
        with self._engine.begin() as connection:
            changed = connection.execute(
                update(jobs).where(_held(claim)).values(**_WAITING, attempts=jobs.c.attempts - 1)
            )
        return changed.rowcount == 1

    # what servers do

    def requeue_dead(self) -> int:
        """Give back the jobs of this machine's dead processes now rather than at the end of their leases.

        Returns how many. A process that is wrongly held for dead loses its job and can no longer write.
        """
        holders = select(jobs.c.worker).where(jobs.c.state == "running").distinct()
        with self._reader.begin() as connection:
            workers = [worker for worker in connection.scalars(holders) if worker is not None]
        dead = [worker for worker in workers if is_dead(worker)]
        return self._requeue(and_(jobs.c.state == "running", jobs.c.worker.in_(dead))) if dead else 0

    def purge(self) -> int:
        """Delete jobs that ended `retention_seconds` ago with all they left behind; returns how many."""
        limit = self._clock() - self._settings.retention_seconds
        with self._engine.begin() as connection:
            old = connection.scalars(delete(jobs).where(jobs.c.finished < limit).returning(jobs.c.file)).all()
        for file in old:
            self._uploads.remove(file)
        ours = select(jobs.c.file, jobs.c.token).where(
            or_(jobs.c.file.is_not(None), jobs.c.token.is_not(None))
        )
        with self._reader.begin() as connection:
            known = {name for row in connection.execute(ours) for name in row}
        self._uploads.sweep(known, now=self._clock())
        return len(old)

    def counts(self) -> dict[State, int]:
        """Jobs of each state."""
        grouped = select(jobs.c.state, func.count()).group_by(jobs.c.state)
        with self._reader.begin() as connection:
            found: dict[Any, int] = {state: count for state, count in connection.execute(grouped)}
        return {state: found.get(state, 0) for state in get_args(State)}

    def _requeue(self, which: ColumnElement[bool]) -> int:
        """Back to the end of the queue, or failed where a job cost too many workers; returns how many."""
        now = self._clock()
        chosen = select(jobs.c.id, jobs.c.attempts, jobs.c.file).where(which)
        spent = []
        with self._engine.begin() as connection:
            rows = connection.execute(chosen.with_for_update(skip_locked=True)).all()
            for row in rows:
                this = jobs.c.id == row.id
                if row.attempts < self._settings.attempts:
                    connection.execute(update(jobs).where(this).values(**_WAITING, queued=now))
                else:
                    self._end(connection, this, "failed", None, _DEADLY.format(row.attempts))
                    spent.append(row.file)
        for file in spent:
            self._judged(file)
        return len(rows)

    def _end(
        self,
        connection: Connection,
        which: ColumnElement[bool],
        state: Literal["done", "failed"],
        worker: str | None,
        error: str | None,
        *,
        keep: bool = False,
    ) -> bool:
        """The one place where a job ends, and the line that says so, in the caller's transaction."""
        now = self._clock()
        values = {**_WAITING, "state": state, "finished": now, "error": error, "progress": 1.0}
        if not (keep or self._settings.keep_uploads):
            values["file"] = None
        job_id = connection.scalar(update(jobs).where(which).values(values).returning(jobs.c.id))
        if job_id is None:
            return False
        connection.execute(insert(completions).values(job_id=job_id, state=state, worker=worker, at=now))
        return True

    def _judged(self, file: str | None) -> None:
        if not self._settings.keep_uploads:
            self._uploads.remove(file)


_DEADLY = "its worker died while judging it, {} times (out of memory, or the server was killed)"
# A job that nobody holds.
_WAITING: dict[str, Any] = {
    "state": "queued",
    "worker": None,
    "token": None,
    "lease_until": None,
    "progress": 0.0,
    "seconds_left": None,
}


def _held(claim: Claim) -> ColumnElement[bool]:
    return and_(jobs.c.id == claim.job.id, jobs.c.token == claim.token)


def _job(row: Row[Any]) -> Job:
    values = {name: getattr(row, name) for name in Job.__slots__}
    for name in ("created", "started", "finished"):
        if values[name] is not None:
            values[name] = datetime.fromtimestamp(values[name], UTC)
    return Job(**values)
