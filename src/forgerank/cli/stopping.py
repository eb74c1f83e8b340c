"""The signals that stop a command: when they are heeded, and that a command which has ended is left alone.

Nothing here takes time to import: Ctrl-C may come at any moment.
"""

import atexit
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

CTRL_C = 130  # the exit code, which Typer gives, too
STOPPED_BY_CTRL_C = "stopped by Ctrl-C"
_IMPORT = "<frozen importlib._bootstrap>"  # the file of Python's import
_AGAIN = 0.05  # seconds
_LONGEST = 20.0  # seconds
_heeded: set[int] = set()  # signals


def heed(number: int, act: Callable[[], object]) -> None:
    """Call `act`, which may raise, in the main thread when a signal comes, unless it is ignored (nohup).

    While modules are imported it is put off, for `_LONGEST` at most: an exception in the midst of one makes
    some abort, raise an ImportError in its place, or leave temporary files.
    """
    first = 0.0

    def handle(_: int, frame: FrameType | None) -> None:
        nonlocal first
        first = first or time.monotonic()
        if hasattr(signal, "setitimer") and _is_importing(frame) and time.monotonic() < first + _LONGEST:
            signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), number))
            signal.setitimer(signal.ITIMER_REAL, _AGAIN)
        else:
            act()

    if threading.current_thread() is threading.main_thread() and signal.getsignal(number) != signal.SIG_IGN:
        signal.signal(number, handle)
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


def leave_at_once(code: int) -> None:
    """Let signals cut short what Python waits for as it ends, a thread say."""
    _handle(lambda *_: os._exit(code))


def _handle(handler: Any) -> None:
    for number in _heeded:
        signal.signal(number, handler)
