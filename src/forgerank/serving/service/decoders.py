"""Photographs decoded in processes of their own: in a fair order, within limits of time and of memory."""

import hashlib
import time
from collections.abc import Hashable, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from itertools import count
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from threading import Condition, Thread
from typing import BinaryIO

import numpy as np

from forgerank.detect.result import LoadedImage
from forgerank.media.files import MediaError
from forgerank.media.images import read_first
from forgerank.processes import start_process
from forgerank.report.credentials import read_credentials
from forgerank.report.entries import Credentials
from forgerank.serving.trouble import trouble

_QUICK = 2.0  # seconds of the first try
_LOOK = 0.2  # seconds between two looks whether anybody still wants the answer


class DecoderDiedError(Exception):
    """The process that decoded a photograph was killed, for want of memory as a rule."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """A photograph, and what its content credentials say."""

    image: LoadedImage
    credentials: Credentials | None


@dataclass(slots=True, eq=False)
class _Task:
    file: BinaryIO
    name: str
    max_pixels: int
    client: Hashable
    number: int  # in the order of their coming
    answer: Future[Decoded] = field(default_factory=Future)
    slow: bool = False  # the first try was too short


class Decoders:
    """Decodes photographs of several clients at once, each for at most `seconds`.

    Whose photographs have taken the least time so far is next. A first try is short; what needs longer starts
    again behind all that was not tried yet, and never in the last free process: neither many slow
    photographs nor a hostile one keep others waiting. `room` bounds the pixels of decoded photographs that
    are held; one that has more is held when it is alone.
    """

    def __init__(self, processes: int, seconds: float, room: int) -> None:
        """`processes` at once, at least two; they begin when they are needed."""
        self._seconds, self._room, self._free = seconds, room, room
        self._waiting: list[_Task] = []
        self._spent: dict[Hashable, float] = {}  # seconds, of the clients that are in work
        self._tasks: dict[Hashable, int] = {}  # of each client, waiting or running
        self._slow = 0  # of those that run
        self._numbers = count()
        self._idle: list[_Process] = []  # what was used last is used next: few are made where little is asked
        self._closed = False
        self._changed = Condition()
        self._threads = [
            Thread(target=self._run, name=f"decoder-{i}", daemon=True) for i in range(max(2, processes))
        ]

    def start(self) -> None:
        """Begin to decode; photographs may be given before."""
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Finish what runs and stop; what waits is cancelled."""
        with self._changed:
            self._closed = True
            for task in self._waiting:
                task.answer.cancel()
            self._changed.notify_all()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()
        for process in self._idle:
            process.close()

    @contextmanager
    def decoding(
        self, file: BinaryIO, name: str, max_pixels: int, client: Hashable
    ) -> Iterator[Future[Decoded]]:
        """The photograph in `file` to come, whose memory is held until the context is left.

        The future raises MediaError for what is no photograph or over a limit, time included, and
        DecoderDiedError. A context that is left early costs no further work.
        """
        with self._changed:
            task = _Task(file, name, max_pixels, client, next(self._numbers))
            self._tasks[client] = self._tasks.get(client, 0) + 1
            self._waiting.append(task)
            self._changed.notify()
        try:
            yield task.answer
        finally:
            held = not task.answer.cancel() and task.answer.exception() is None
            with self._changed:
                if held:
                    self._free += self._units(task.answer.result())
                self._tasks[client] -= 1
                if not self._tasks[client]:
                    del self._tasks[client]
                    self._spent.pop(client, None)
                self._changed.notify_all()

    def _run(self) -> None:
        while (task := self._next()) is not None:
            process = self._idle.pop() if self._idle else _Process()
            begun = time.monotonic()
            try:
                decoded = process.decode(task, self._seconds if task.slow else min(_QUICK, self._seconds))
            except CancelledError:
                pass
            except TimeoutError:
                if task.slow or self._seconds <= _QUICK:
                    reason = f"takes longer than {self._seconds:g} seconds to decode"
                    _fail(task, MediaError(task.name, reason))
                else:
                    self._try_again(task)
                    continue
            except Exception as error:  # whatever it is, those who wait must hear of it
                _fail(task, error)
            else:
                self._deliver(task, decoded)
            finally:
                self._idle.append(process)
                self._account(task, time.monotonic() - begun)

    def _next(self) -> _Task | None:
        """The task whose turn it is; waits for one. None at the end."""
        with self._changed:
            while not self._closed:
                self._waiting = [task for task in self._waiting if not task.answer.cancelled()]
                spare = self._slow < len(self._threads) - 1
                ready = [task for task in self._waiting if spare or not task.slow]
                if ready:
                    task = min(ready, key=lambda t: (t.slow, self._spent.get(t.client, 0.0), t.number))
                    self._waiting.remove(task)
                    self._slow += task.slow
                    return task
                self._changed.wait()
            return None

    def _try_again(self, task: _Task) -> None:
        with self._changed:
            self._waiting.append(_again(task))
            self._changed.notify()

    def _account(self, task: _Task, seconds: float) -> None:
        with self._changed:
            self._slow -= task.slow
            if task.client in self._tasks:
                self._spent[task.client] = self._spent.get(task.client, 0.0) + seconds
            self._changed.notify_all()

    def _deliver(self, task: _Task, decoded: Decoded) -> None:
        """Hand it over once there is room for it; nothing else is decoded here before."""
        units = self._units(decoded)
        with self._changed:
            while self._free < units and not (task.answer.cancelled() or self._closed):
                self._changed.wait(_LOOK)
            if task.answer.set_running_or_notify_cancel():
                self._free -= units
                task.answer.set_result(decoded)

    def _units(self, decoded: Decoded) -> int:
        return min(decoded.image.image.size // 3, self._room)


def _again(task: _Task) -> _Task:
    return _Task(task.file, task.name, task.max_pixels, task.client, task.number, task.answer, slow=True)


def _fail(task: _Task, error: Exception) -> None:
    if task.answer.set_running_or_notify_cancel():
        task.answer.set_exception(error)


class _Process:
    """A process that decodes photographs one by one; killed and made anew where one takes too long."""

    def __init__(self) -> None:
        self._process: SpawnProcess | None = None
        self._connection: Connection | None = None

    def decode(self, task: _Task, seconds: float) -> Decoded:
        """Raises TimeoutError, CancelledError where nobody wants it any more, and as `Decoders.decoding`."""
        task.file.seek(0)
        content = task.file.read()
        connection = self._started()
        try:
            connection.send((task.name, task.max_pixels))
            connection.send_bytes(content)
            self._await(connection, task, seconds)
            answer = connection.recv()
            if isinstance(answer[0], type):
                kind, reason = answer
                raise kind(task.name, reason)
            shape, further, credentials = answer
            pixels = np.empty(shape, np.uint8)
            connection.recv_bytes_into(pixels.data.cast("B"))
        except (EOFError, ConnectionError):
            code = self.close(patience=5.0)  # a crash needs a moment to be one
            if code is not None and code < 0 and -code not in _KILLS:
                raise MediaError(task.name, "damaged: its decoder crashed on it") from None
            raise DecoderDiedError from None
        except (TimeoutError, CancelledError):
            self.close()
            raise
        sha256 = hashlib.sha256(content).hexdigest()
        return Decoded(LoadedImage(task.name, sha256, pixels, **further), credentials)

    def close(self, *, patience: float = 0.0) -> int | None:
        """End the process, in so many seconds by force; its exit code, None where there was none."""
        if self._process is None or self._connection is None:
            return None
        self._connection.close()
        self._process.join(patience)
        self._process.kill()
        self._process.join()
        code, self._process, self._connection = self._process.exitcode, None, None
        return code

    def _started(self) -> Connection:
        if self._connection is None or self._process is None or not self._process.is_alive():
            self.close()
            self._connection, theirs = Pipe()
            with theirs:
                self._process = start_process(_serve, theirs)
            if not self._connection.poll(_START):
                self.close()
                raise DecoderDiedError
            self._connection.recv()  # what it takes to begin is not the photograph's time
        return self._connection

    def _await(self, connection: Connection, task: _Task, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not connection.poll(min(_LOOK, max(until - time.monotonic(), 0.0))):
            if task.answer.cancelled():
                raise CancelledError
            if time.monotonic() >= until:
                raise TimeoutError


_KILLS = frozenset({9, 15})  # signals that somebody else sent: SIGKILL, SIGTERM
_START = 120.0  # seconds for a process to begin


def _serve(connection: Connection) -> None:
    """What the process does until its connection is closed, or this machine lets it do no more."""
    connection.send(None)
    while True:
        try:
            name, max_pixels = connection.recv()
            content = connection.recv_bytes()
        except EOFError:
            return
        try:
            page = read_first(name, data=content, max_pixels=max_pixels)
            credentials = read_credentials(BytesIO(content))
        except MediaError as error:
            if trouble(error) is not None:
                return
            connection.send((type(error), error.reason))
            continue
        connection.send(
            (page.image.shape, {"warnings": page.warnings, "unjudged": page.unjudged}, credentials)
        )
        connection.send_bytes(np.ascontiguousarray(page.image).data.cast("B"))
