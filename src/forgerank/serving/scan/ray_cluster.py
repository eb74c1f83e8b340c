"""The same work through Ray Data, on one machine or many: every actor supervises a process of its own.

The actors keep nothing: what is known lies in the journal of the machine that started the scan. So a lost
node costs only what it was working on, and resuming is the same as without a cluster.
"""

import logging
import os
import pickle
import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from socket import create_connection

import pyarrow as pa

from forgerank.serving.scan.pool import Pool
from forgerank.serving.scan.scan_settings import Judging, StoppedError
from forgerank.serving.scan.task_worker import Outcome, Task, TaskWorker
from forgerank.types import InputError, Terminated

_BLOCK = 16  # files that travel together
_SLICE = 100_000  # files that Ray holds at once
# No word to anybody outside, and none on the terminal: what fails becomes one line of ours. Ray's workers
# would give way to every other process of the machine (niceness 15); those of `Pool` do not.
_ENVIRONMENT = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "fatal", "RAY_worker_niceness": "0"}
# Ray of this machine alone speaks over loopback; else it would look for a way to an address outside.
_LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
_SILENT = logging.CRITICAL + 1


class RayCluster:
    """`Pool` on Ray: joins the cluster that RAY_ADDRESS names, else starts Ray on this machine; a context."""

    def __init__(self, judging: Judging, workers: int) -> None:
        """Raises StoppedError where Ray cannot be reached."""
        address = os.environ.get("RAY_ADDRESS", "")
        for name, value in (_ENVIRONMENT | ({} if address else _LOOPBACK)).items():
            os.environ.setdefault(name, value)
        _knock(address)
        import ray
        import ray.data

        self._ray, self._judging, self._workers, self._joined = ray, judging, workers, bool(address)
        on_sigterm = signal.getsignal(signal.SIGTERM)
        try:
            with _no_standard_error():
                ray.init(
                    num_cpus=None if address else workers,
                    include_dashboard=None if address else False,
                    logging_level=_SILENT,
                    log_to_driver=False,
                )
        except (OSError, RuntimeError, ValueError) as error:
            raise StoppedError(f"Ray cannot be reached ({_last_line(error)})") from None
        except BaseException as error:  # Ctrl-C or SIGTERM while its processes start
            self.__exit__()
            # What Ray makes of SIGTERM until the handler is restored.
            raise Terminated("stopped by SIGTERM") if isinstance(error, SystemExit) else error from None
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, on_sigterm)  # Ray's own would end the process without a word
        ray.data.DataContext.get_current().enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(_SILENT)

    def __enter__(self) -> "RayCluster":
        return self

    def __exit__(self, *_: object) -> None:
        """End Ray where it was started here. Its agents would outlive it for a minute on a busy machine."""
        started = {} if self._joined else _descendants(os.getpid())
        self._ray.shutdown()
        for process in started.items() & _processes().keys():
            with suppress(OSError):
                os.kill(process[0], signal.SIGKILL)

    def run(self, tasks: Iterable[Task]) -> Iterator[Outcome]:
        """One outcome per task, in the order in which they get ready. Raises as `Pool.run` does."""
        waiting = iter(tasks)
        while part := list(islice(waiting, _SLICE)):
            for answer in self._run(part):
                if isinstance(answer, Exception):
                    raise answer
                yield answer

    def _run(self, tasks: list[Task]) -> Iterator[Outcome | InputError | StoppedError]:
        blocks = [_table(tasks[start : start + _BLOCK]) for start in range(0, len(tasks), _BLOCK)]
        answers = self._ray.data.from_arrow(blocks).map_batches(
            _Actor,
            fn_constructor_args=(self._judging,),
            batch_size=None,
            batch_format="pyarrow",
            concurrency=min(self._workers, len(blocks)),
            num_cpus=1,
        )
        try:
            for row in answers.iter_rows():
                yield pickle.loads(row["content"])
        except self._ray.exceptions.RayError as error:
            raise StoppedError(f"Ray gave up ({_last_line(error)}); repeat the command") from None


class _Actor:
    """Lives on a node of the cluster."""

    def __init__(self, judging: Judging) -> None:
        self._pool = Pool(judging, 1, TaskWorker)

    def __call__(self, batch: pa.Table) -> pa.Table:
        tasks = [pickle.loads(content) for content in batch["content"].to_pylist()]
        try:
            return _table(list(self._pool.run(tasks)))
        except (InputError, StoppedError) as error:
            return _table([error])


@contextmanager
def _no_standard_error() -> Iterator[None]:
    """Ray's native part says there how much it will say."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _processes() -> dict[tuple[int, str], int]:
    """The parent of every process, which its number and its time of birth name; none but on Linux."""
    found = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = file.read_text().rpartition(")")[2].split()
            found[int(file.parent.name), fields[19]] = int(fields[1])
    return found


def _descendants(ancestor: int) -> dict[int, str]:
    """The processes below one, with their times of birth."""
    parents, below = _processes(), {ancestor}
    found: dict[int, str] = {}
    while new := {
        number: born for (number, born), parent in parents.items() if parent in below and number not in below
    }:
        found |= new
        below |= new.keys()
    return found


def _knock(address: str) -> None:
    """Ray ends the whole process where nobody answers at HOST:PORT. Raises StoppedError instead."""
    host, _, port = address.rpartition(":")
    if port.isdigit() and "/" not in host:
        try:
            create_connection((host, int(port)), timeout=20).close()
        except (OSError, OverflowError) as error:
            raise StoppedError(f"Ray cannot be reached at {address} ({error})") from None


def _last_line(error: Exception) -> str:
    """Ray's errors hold whole tracebacks of other machines; the last line says what it was."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:200] if lines else type(error).__name__


def _table(contents: list[Task] | list[Outcome] | list[InputError | StoppedError]) -> pa.Table:
    return pa.table({"content": pa.array([pickle.dumps(content) for content in contents], pa.binary())})
