"""The worker processes of a server: started with it, replaced when they die, gone when it is gone."""

import logging
import math
import time
from collections.abc import Callable
from multiprocessing.context import SpawnProcess
from threading import Event, Thread

from sqlalchemy.exc import SQLAlchemyError

from forgerank.processes import start_process
from forgerank.serving.service import worker
from forgerank.serving.service.jobs import Jobs
from forgerank.serving.service.service_settings import ServiceSettings
from forgerank.serving.trouble import trouble

_HOUSEKEEPING = 30.0  # seconds between two rounds of clearing up after the dead and the old
_ROUND = 1.0  # seconds between two checks, so that a worker that dies at its start is not restarted in a loop
_log = logging.getLogger(__name__)


class Workers:
    """`settings.workers` processes that judge jobs, and a thread that looks after them and after retention.

    They leave with the server even where it is killed. What dead processes of this machine held goes back
    to the queue at once, whenever a worker dies and at the next start after the server died.
    """

    def __init__(
        self, settings: ServiceSettings, jobs: Jobs, *, main: Callable[[ServiceSettings], None] = worker.main
    ) -> None:
        """`main` runs in each process, which is spawned: it must be importable."""
        self._settings, self._jobs, self._main = settings, jobs, main
        self._processes: list[SpawnProcess] = []
        self._stop = Event()
        self._thread = Thread(target=self._look_after, name="workers", daemon=True)

    def start(self) -> None:
        """Start them; returns at once."""
        self._processes = [self._started() for _ in range(self._settings.workers)]
        self._thread.start()

    @property
    def alive(self) -> int:
        """How many run."""
        return sum(process.is_alive() for process in self._processes)

    def stop(self, seconds: float = 10.0) -> None:
        """End them: what they hold goes back to the queue, after `seconds` without their doing."""
        self._stop.set()
        self._thread.join()
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.join(seconds)
            if process.exitcode is None:
                process.kill()
                process.join()
        self._give_back()

    def _started(self) -> SpawnProcess:
        return start_process(self._main, self._settings)

    def _look_after(self) -> None:
        kept = -math.inf
        while not self._stop.wait(_ROUND):
            _try(self._replace_dead)
            if time.monotonic() > kept + _HOUSEKEEPING:
                kept = time.monotonic()
                self._give_back()
                _try(self._jobs.purge)

    def _replace_dead(self) -> None:
        dead = {
            i: process.exitcode for i, process in enumerate(self._processes) if process.exitcode is not None
        }
        if dead:
            codes = ", ".join(str(code) for code in dead.values())
            _log.error("%d of %d workers died (exit code %s)", len(dead), len(self._processes), codes)
            self._give_back()
        for i in dead:
            self._processes[i] = self._started()

    def _give_back(self) -> None:
        _try(self._jobs.requeue_dead)


def _try(chore: Callable[[], object]) -> None:
    """What fails now is due again in the next round: a database may be restarting, memory used up."""
    try:
        chore()
    except Exception as error:
        expected = isinstance(error, (SQLAlchemyError, OSError)) or trouble(error) is not None
        _log.warning("housekeeping: %s", error, exc_info=not expected)
