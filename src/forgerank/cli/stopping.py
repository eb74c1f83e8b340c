"""The signals that stop a command: when they are heeded, and that a command which has ended is left alone.

Nothing here takes time to import: Ctrl-C may come at any moment.
"""

import atexit
import importlib
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
_OWN = os.path.join(os.path.dirname(os.path.dirname(__file__)), "")
_REQUIRE = (importlib.__file__, os.path.join(_OWN, "extras.py"))
_AGAIN = 0.05  # seconds
_LONGEST = 20.0  # seconds
_heeded: set[int] = set()
_came: list[float] = []  # when signals came, by time.monotonic()


def end_at_signals() -> None:
    """As long as nothing has begun that were to be cleared away: the line, and the end."""
    for name in _NAMES:
        if hasattr(signal, name):
            _set(getattr(signal, name), end)


def end(number: int, _: FrameType | None = None) -> None:
    """End as the command does that such a signal stops, without clearing anything away."""
    by_ctrl_c = number == signal.SIGINT
    if by_ctrl_c or os.environ.get("RANK", "0") == "0":  # one of several processes that torchrun started
        with suppress(AttributeError, OSError):  # closed
            sys.stderr.write(f"forgerank: {STOPPED_BY_CTRL_C if by_ctrl_c else STOPPED_BY_SIGTERM}\n")
    if by_ctrl_c:
        os._exit(CTRL_C)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGTERM)


def heed(number: int, act: Callable[[], object], end_before_work: Callable[[int], object]) -> None:
    """Call `act`, which may raise, in the main thread when a signal comes.

    Not while modules are imported: an exception in the midst of one makes some abort, raise an ImportError in
    its place, or leave temporary files. Where it is the command that imports, before its work,
    `end_before_work` is called, which is not to return; elsewhere `act` is put off, until the second signal
    or for `_LONGEST`.
    """

    def act_or_wait(frame: FrameType | None, *, wait: bool) -> None:
        _came.append(time.monotonic())
        importing = _importing(frame)
        if importing is not None and _is_command(importing):
            end_before_work(number)
        wait &= hasattr(signal, "setitimer") and _came[-1] < _came[0] + _LONGEST
        if wait and importing is not None:
            signal.signal(signal.SIGALRM, repeat)
            signal.setitimer(signal.ITIMER_REAL, _AGAIN)
        else:
            act()

    def handle(_: int, frame: FrameType | None) -> None:
        act_or_wait(frame, wait=not _came)

    def repeat(_: int, frame: FrameType | None) -> None:
        if signal.getsignal(number) is handle:
            act_or_wait(frame, wait=True)
        else:
            os.kill(os.getpid(), number)

    _set(number, handle)


def _set(number: int, handler: Any) -> None:
    """Of a signal that is not ignored, as SIGHUP is under nohup."""
    if threading.current_thread() is threading.main_thread() and signal.getsignal(number) != signal.SIG_IGN:
        signal.signal(number, handler)
        _heeded.add(number)


def _importing(frame: FrameType | None) -> FrameType | None:
    """Who imports, in the end; None where nobody does."""
    found = None
    while frame is not None:
        if frame.f_code.co_filename == _IMPORT:
            found = frame.f_back
        frame = frame.f_back
    return found


def _is_command(frame: FrameType | None) -> bool:
    """Whether it is the function of a command, called by Typer, perhaps by way of `require`."""
    while frame is not None and frame.f_code.co_filename in _REQUIRE:
        frame = frame.f_back
    if frame is None or not _is_own(frame) or frame.f_back is None:
        return False
    caller = frame.f_back
    return not _is_own(caller) or caller.f_code.co_name == "checked"  # by `local`


def _is_own(frame: FrameType) -> bool:
    return frame.f_code.co_filename.startswith(_OWN)


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
        if _came and hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, 0)


def leave_at_once(code: int) -> None:
    """Let signals cut short what Python waits for as it ends, a thread say."""
    _handle(lambda *_: os._exit(code))


def _handle(handler: Any) -> None:
    for number in _heeded:
        signal.signal(number, handler)
