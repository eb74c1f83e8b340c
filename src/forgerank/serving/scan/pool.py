"""Worker processes under supervision: one that dies or hangs costs one file, never the scan.

Every worker has one file at a time and a pipe of its own, so that whatever ends it holds up no other, and
it is plain which file it had. A pool of `concurrent.futures` breaks as a whole with one process.
"""

import os
import shutil
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path

from forgerank.files import os_reason
from forgerank.processes import start_process
from forgerank.serving.scan.parquet_file import no_answer
from forgerank.serving.scan.scan_settings import Judging, StoppedError
from forgerank.serving.scan.task_worker import Outcome, Task, Work
from forgerank.types import InputError

_TRIES = 2  # of a file whose process dies or hangs
_FALSE_STARTS = 3  # processes in a row that die before they are ready
_START_LIMIT = 300.0  # seconds until a process must be ready

KILLED = "the process that judged it was killed (out of memory?)"


@dataclass(slots=True, eq=False)
class _Worker:
    process: SpawnProcess
    pipe: Connection
    ready: bool = False
    task: Task | None = None
    known: Outcome | None = None  # size and hash of the task's file, as soon as they are known
    since: float = 0.0  # when it was last heard of or given work, monotonic seconds


class Pool:
    """Up to `workers` processes, started where there is work; a context."""

    def __init__(self, judging: Judging, workers: int, make: Callable[[Judging, Path], Work]) -> None:
        """Every process calls `make` (`TaskWorker`) once, with a folder for its copies of remote files.

        Raises StoppedError where that folder cannot be made.
        """
        self._make, self._judging, self._size = make, judging, workers
        try:
            self._folder = Path(tempfile.mkdtemp(prefix="forgerank-scan-"))
        except OSError as error:
            raise StoppedError(f"no folder for copies: {os_reason(error)}") from None
        self._workers: list[_Worker] = []
        self._again: deque[Task] = deque()
        self._losses: dict[str, int] = {}  # by path: how often its process died or hung
        self._false_starts = 0

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, *_: object) -> None:
        for worker in list(self._workers):
            self._end(worker)
        shutil.rmtree(self._folder, ignore_errors=True)

    def run(self, tasks: Iterable[Task]) -> Iterator[Outcome]:
        """One outcome per task, in the order in which they get ready; takes a task when a process is free.

        Raises InputError where the weights do not load, StoppedError where processes cannot work.
        """
        waiting = iter(tasks)
        while True:
            self._hand_out(waiting)
            busy = [worker for worker in self._workers if worker.task]
            if not busy:
                return
            next_check = min(worker.since + self._limit(worker) for worker in busy)
            heard = wait([worker.pipe for worker in busy], max(0.0, next_check - time.monotonic()))
            for worker in busy:
                if worker.pipe in heard:
                    outcome = self._hear(worker)
                elif time.monotonic() > worker.since + self._limit(worker):
                    outcome = self._lose(worker, f"took longer than {self._judging.time_limit:g} s")
                else:
                    continue
                if outcome is not None:
                    self._losses.pop(outcome.path, None)
                    yield outcome

    def _hand_out(self, waiting: Iterator[Task]) -> None:
        free = [worker for worker in self._workers if worker.task is None]
        while free or len(self._workers) < self._size:
            task = self._again.popleft() if self._again else next(waiting, None)
            if task is None:
                return
            worker = free.pop() if free else self._start()
            try:
                worker.pipe.send(task)
                worker.task, worker.known, worker.since = task, None, time.monotonic()
            except OSError:  # it died before it could take the task
                self._end(worker)
                self._again.append(task)
                self._count_false_start(worker)

    def _limit(self, worker: _Worker) -> float:
        return self._judging.time_limit if worker.ready else _START_LIMIT

    def _hear(self, worker: _Worker) -> Outcome | None:
        try:
            kind, content = worker.pipe.recv()
        except (EOFError, OSError):
            return self._lose(worker, KILLED)
        worker.since = time.monotonic()
        if kind == "refused":
            raise InputError(content)
        if kind == "stopped":
            raise StoppedError(content)
        if kind == "ready":
            worker.ready, self._false_starts = True, 0
        elif kind == "identified":
            worker.known = content
        else:
            worker.task = None
            outcome: Outcome = content
            return outcome
        return None

    def _lose(self, worker: _Worker, reason: str) -> Outcome | None:
        """The file goes to another process, or gets its row if it has had its tries."""
        task = worker.task
        assert task is not None
        self._end(worker)
        self._count_false_start(worker)
        if worker.ready:
            self._losses[task.path] = self._losses.get(task.path, 0) + 1
        if self._losses.get(task.path, 0) < _TRIES:
            self._again.append(task)
            return None
        if worker.known is not None:
            return replace(worker.known, answer=no_answer(reason))
        return Outcome(task.path, error=reason)

    def _count_false_start(self, worker: _Worker) -> None:
        self._false_starts += not worker.ready
        if self._false_starts == _FALSE_STARTS:
            raise StoppedError(
                "the worker processes die as they start (out of memory?): fewer --workers may help"
            )

    def _start(self) -> _Worker:
        ours, theirs = Pipe()
        discard = partial(shutil.rmtree, self._folder, ignore_errors=True)
        try:
            with _one_thread_each():
                process = start_process(
                    _work, theirs, self._make, self._judging, self._folder, orphaned=discard
                )
        except OSError as error:
            ours.close()
            raise StoppedError(f"no process can be started ({os_reason(error)})") from None
        finally:
            theirs.close()
        worker = _Worker(process, ours)
        self._workers.append(worker)
        return worker

    def _end(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        worker.process.kill()
        worker.process.join()
        worker.pipe.close()


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Processes started inside have none of the thread pools that NumPy's libraries open, core by core."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _work(pipe: Connection, make: Callable[[Judging, Path], Work], judging: Judging, folder: Path) -> None:
    """The life of a worker process: tasks in, messages of (kind, content) out."""
    # Where memory runs out, Linux kills the process with the highest score: a worker rather than the scan.
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    try:
        judge = make(judging, folder)
        pipe.send(("ready", None))
        while True:
            outcome = judge(pipe.recv(), lambda known: pipe.send(("identified", known)))
            pipe.send(("done", outcome))
    except (EOFError, BrokenPipeError):
        return
    except InputError as error:
        pipe.send(("refused", str(error)))
    except StoppedError as error:
        pipe.send(("stopped", str(error)))
