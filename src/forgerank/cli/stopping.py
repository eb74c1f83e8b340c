"""The signals that stop a command: when they are heeded, and that a command which has ended is left alone.

Nothing here takes time to import: Ctrl-C may come at any moment.
"""

import atexit
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

CTRL_C = 130  # the exit code, which Typer gives, too
STOPPED_BY_CTRL_C, STOPPED_BY_SIGTERM = "stopped by Ctrl-C", "stopped by SIGTERM"
_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")  # where the system has them
_IMPORT = "<frozen importlib._bootstrap>"  # the file of Python's import
_AGAIN = 0.05  # seconds
_LONGEST = 20.0  # seconds
_heeded: set[int] = set()
_Handler = Callable[[int, FrameType | None], None]
_raised: dict[BaseException, _Handler] = {}


def end_at_signals() -> None:
    """As long as nothing has begun that were to be cleared away: the line, and the end."""
    for name in _NAMES:
        if hasattr(signal, name):
            _set(getattr(signal, name), _end)


def _end(number: int, _: FrameType | None) -> None:
    by_ctrl_c = number == signal.SIGINT
    if by_ctrl_c or os.environ.get("RANK", "0") == "0":  # one of several processes that torchrun started
        with suppress(AttributeError, OSError):  # closed
            sys.stderr.write(f"forgerank: {STOPPED_BY_CTRL_C if by_ctrl_c else STOPPED_BY_SIGTERM}\n")
    if by_ctrl_c:
        os._exit(CTRL_C)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGTERM)


def heed(number: int, act: Callable[[], object]) -> None:
    """Call `act`, which may raise, in the main thread when a signal comes.

    While modules are imported it is put off, for `_LONGEST` at most and until the signal comes again: an
    exception in the midst of an import makes some abort, raise an ImportError in its place, or leave files.
    """
    first: float | None = None

    def handle(_: int, frame: FrameType | None) -> None:
        nonlocal first
        if first is None:
            first = time.monotonic()
            act_or_wait(number, frame)
        else:
            act_now()

    def act_or_wait(_: int, frame: FrameType | None) -> None:
        assert first is not None
        if signal.getsignal(number) is not handle:  # another one has come to heed it since
            os.kill(os.getpid(), number)
        elif _is_importing(frame) and hasattr(signal, "setitimer") and time.monotonic() < first + _LONGEST:
            _wait(act_or_wait)
        else:
            act_now()

    def act_now() -> None:
        try:
            act()
        except BaseException as error:
            _raised[error] = act_or_wait
            raise

    _set(number, handle)


def _wait(handler: _Handler) -> None:
    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, _AGAIN)


def heed_what_is_ignored() -> None:
    """Python ignores what is raised at a fork and in `__del__`: a signal that came there comes again."""
    shown = sys.unraisablehook

    def hook(ignored: "sys.UnraisableHookArgs") -> None:
        error = ignored.exc_value
        if error is not None and error in _raised and hasattr(signal, "setitimer"):
            _wait(_raised[error])
        else:
            shown(ignored)

    sys.unraisablehook = hook


def pass_on(number: int, other: int) -> None:
    """Take one signal for another."""
    _set(number, lambda *_: os.kill(os.getpid(), other))


def _set(number: int, handler: Any) -> None:
    """Of a signal that is not ignored, as SIGHUP is under nohup."""
    if threading.current_thread() is threading.main_thread() and signal.getsignal(number) != signal.SIG_IGN:
        signal.signal(number, handler)
        _heeded.add(number)


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None and frame.f_code.co_filename != _IMPORT:
        frame = frame.f_back
    return frame is not None


@contextmanager
def left_alone_at_end() -> Iterator[None]:
    """What has ended in this context ends as it did, with its line and its exit code, whatever signal comes
    after it: where `leave_at_once` is not called, it changes nothing.
    """
    atexit.register(_handle, signal.SIG_IGN)  # what is registered first is called last
    try:
        yield
    finally:
        _handle(signal.SIG_IGN)
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, 0)


def leave_at_once(code: int) -> None:
    """Let signals cut short what Python waits for as it ends, a thread say."""
    _handle(lambda *_: os._exit(code))


def _handle(handler: Any) -> None:
    for number in _heeded:
        signal.signal(number, handler)
