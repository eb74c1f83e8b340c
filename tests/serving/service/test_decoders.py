"""Who is decoded when, within which time and memory; with a process that is scripted, and with a real one."""

import io
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack
from multiprocessing import Pipe
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from forgerank.detect.result import LoadedImage
from forgerank.media.files import MediaError
from forgerank.media.images import read_photo
from forgerank.media.opening import TooManyPixelsError, UnknownFormatError
from forgerank.serving.service import decoders
from forgerank.serving.service.decoders import Decoded, DecoderDiedError, Decoders

TIMEOUT = 60


class Scripted:
    """Decodes at once; what is called `slow` needs more than a first try, and then until the gate opens."""

    def __init__(self) -> None:
        self.order: list[str] = []
        self.gate = threading.Event()
        self.spent: dict[str, float] = {}

    def decode(self, task: Any, seconds: float) -> Decoded:
        self.order.append(task.name)
        if task.name.startswith("held"):
            assert self.gate.wait(TIMEOUT)
        if task.name.startswith("slow"):
            if seconds == decoders._QUICK:
                raise TimeoutError
            assert self.gate.wait(TIMEOUT)
        return Decoded(LoadedImage(task.name, "0" * 64, np.zeros((10, 10, 3), np.uint8)), None)

    def close(self) -> None:
        pass


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Scripted:
    script = Scripted()
    monkeypatch.setattr(decoders, "_Process", lambda: script)
    return script


class Asked:
    """Asks for photographs and holds what comes."""

    def __init__(self, decoders: Decoders, stack: ExitStack) -> None:
        self._decoders, self._stack = decoders, stack

    def __call__(self, name: str, client: str = "a", content: bytes = b"") -> Future[Decoded]:
        return self._stack.enter_context(self._decoders.decoding(io.BytesIO(content), name, 10**6, client))


@pytest.fixture
def make() -> Iterator[Callable[..., tuple[Decoders, Asked]]]:
    """Decoders, not started yet, and who asks them."""
    with ExitStack() as stack:

        def made(processes: int = 2, seconds: float = 20.0, room: int = 10**6) -> tuple[Decoders, Asked]:
            made = Decoders(processes, seconds, room)
            stack.callback(made.close)
            return made, Asked(made, stack.enter_context(ExitStack()))

        yield made


def test_slow_photographs_leave_a_process_to_the_others(script: Scripted, make: Any) -> None:
    of, ask = make(processes=1)  # which makes two
    slow = [ask(f"slow {i}") for i in range(4)]
    of.start()
    for i in range(5):
        assert ask(f"quick {i}").result(TIMEOUT).image.path == f"quick {i}"
    assert not any(answer.done() for answer in slow)
    script.gate.set()
    assert [answer.result(TIMEOUT).image.path for answer in slow] == [f"slow {i}" for i in range(4)]


def test_who_has_had_least_is_next(script: Scripted, make: Any) -> None:
    of, ask = make(processes=2)
    held = [ask("held 0", "greedy"), ask("held 1", "greedy")]
    of.start()
    many = [ask(f"g{i}", "greedy") for i in range(3)]
    few = ask("modest", "other")
    script.gate.set()
    for answer in (*held, *many, few):
        answer.result(TIMEOUT)
    assert script.order.index("modest") < script.order.index("g1")


def test_what_nobody_wants_any_more_is_not_decoded(script: Scripted, make: Any) -> None:
    of, ask = make()
    with of.decoding(io.BytesIO(), "gone", 10**6, "a"):
        pass
    assert ask("cancelled").cancel()
    of.start()
    ask("wanted").result(TIMEOUT)
    assert script.order == ["wanted"]


def test_decoded_photographs_wait_for_room(script: Scripted, make: Any) -> None:
    of, ask = make(room=150)  # one of 100 pixels
    of.start()
    with of.decoding(io.BytesIO(), "first", 10**6, "a") as first:
        first.result(TIMEOUT)
        second = ask("second")
        with pytest.raises(TimeoutError):
            second.result(0.3)
    assert second.result(TIMEOUT).image.path == "second"


def test_a_photograph_larger_than_the_room_is_held_alone(script: Scripted, make: Any) -> None:
    of, ask = make(room=50)
    of.start()
    with of.decoding(io.BytesIO(), "first", 10**6, "a") as first:
        first.result(TIMEOUT)
    ask("second").result(TIMEOUT)


@pytest.fixture
def jpeg(astronaut: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(astronaut).save(buffer, "JPEG")
    return buffer.getvalue()


def test_a_real_process(make: Any, jpeg: bytes) -> None:
    of, ask = make()
    of.start()
    got = ask("a.jpg", content=jpeg).result(TIMEOUT)
    assert np.array_equal(got.image.image, read_photo("a.jpg", data=jpeg))
    with pytest.raises(UnknownFormatError, match=r"a\.txt: not an image"):
        ask("a.txt", content=b"text").result(TIMEOUT)
    with pytest.raises(TooManyPixelsError), of.decoding(io.BytesIO(jpeg), "a.jpg", 1000, "a") as answer:
        answer.result(TIMEOUT)


def test_the_limit_of_time_ends_the_process(make: Any, jpeg: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    start = decoders._Process._started

    def stopped(process: Any) -> Any:
        connection = start(process)
        os.kill(process._process.pid, signal.SIGSTOP)  # it must not be faster than the clock
        return connection

    monkeypatch.setattr(decoders._Process, "_started", stopped)
    of, ask = make(seconds=1e-6)
    of.start()
    with pytest.raises(MediaError, match="takes longer than 1e-06 seconds to decode"):
        ask("a.jpg", content=jpeg).result(TIMEOUT)


def test_a_process_without_memory_blames_no_photograph(jpeg: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def starved(*arguments: Any, **options: Any) -> None:
        raise MediaError("a.jpg", "not enough memory to decode it") from MemoryError()

    monkeypatch.setattr(decoders, "read_first", starved)
    ours, theirs = Pipe()
    with ours:
        ours.send(("a.jpg", 10**6))
        ours.send_bytes(jpeg)
        with theirs:
            decoders._serve(theirs)
        assert ours.recv() is None  # that it has begun
        with pytest.raises(EOFError):
            ours.recv()


@pytest.mark.parametrize(
    ("number", "expected"), [(signal.SIGKILL, DecoderDiedError), (signal.SIGSEGV, MediaError)]
)
def test_a_process_that_dies_costs_one_photograph(
    jpeg: bytes, number: int, expected: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def task(name: str) -> Any:
        return SimpleNamespace(file=io.BytesIO(jpeg), name=name, max_pixels=10**6, answer=Future())

    process = decoders._Process()
    process.decode(task("first"), TIMEOUT)
    pid = getattr(process._process, "pid", 0)
    wait = process._await

    def die(*arguments: Any) -> None:
        os.kill(pid, number)
        os.kill(pid, signal.SIGCONT)
        wait(*arguments)

    os.kill(pid, signal.SIGSTOP)  # it must not answer first
    with monkeypatch.context() as patch:
        patch.setattr(process, "_await", die)
        with pytest.raises(expected):
            process.decode(task("second"), TIMEOUT)
    process.decode(task("third"), TIMEOUT)
    process.close()
