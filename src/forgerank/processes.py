"""Child processes that end with their parent, names of processes that outlive them, and folders that appear
whole however their process ends. Children are spawned: a fork would break ONNX Runtime's threads.

>>> with process_pool(1) as pool:
...     list(pool.map(len, ["nose", "lip"]))
[4, 3]
"""

import json
import os
import pickle
import platform
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from multiprocessing import active_children, get_context, parent_process
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from threading import Thread
from typing import Any

from forgerank.files import discard_partial_files, make_folder, os_reason, write_atomic
from forgerank.limits import lacking
from forgerank.types import InputError

_SPAWN = get_context("spawn")
_OWNER, _MOVED, _CONTENT = "process", "moved.json", "content"  # what is in a partial folder
_held: set[int] = set()  # open folders of `sole_writer`
_LOCKS = 32  # more than a few processes and their queues take
_CLEARING = 3.0  # seconds that the processes of a pool have to clear away what they are writing


@contextmanager
def process_pool(
    workers: int, start: Callable[..., object] | None = None, *arguments: Any
) -> Iterator[ProcessPoolExecutor]:
    """A pool whose processes call `start(*arguments)` first. Raises InputError where one of them dies, and as
    `check_shared_memory` does.

    Where the work inside is broken off its processes end at once: what they have in hand is not waited for,
    and the files that they are writing are cleared away.
    """
    check_shared_memory()
    before = active_children()
    packed: Any = _Packed(start, arguments)
    with _Pool(workers, _SPAWN, _begin, (packed,)) as pool:
        try:
            yield pool
        except BrokenProcessPool:
            raise InputError("a worker died (out of memory?): start again, with fewer --workers") from None
        except BaseException:
            _end([process for process in active_children() if process not in before])
            raise


class _Pool(ProcessPoolExecutor):
    """Its futures cannot be cancelled, as `map` does with those that are left when it is broken off: of one
    that was, Python 3.11 says a traceback when a process ends, and clears nothing up.
    """

    def submit(self, *call: Any, **options: Any) -> Future[Any]:
        future = super().submit(*call, **options)
        future.cancel = lambda: False  # type: ignore[method-assign]
        return future


def check_shared_memory() -> None:
    """Raises InputError where the system has no room for the locks that processes share."""
    try:
        [get_context().Lock() for _ in range(_LOCKS)]  # all at once
    except OSError as error:
        raise InputError(
            f"worker processes need shared memory, /dev/shm cannot be used ({os_reason(error)}): "
            "make room there, or give a container more of it (--shm-size=1g)"
        ) from error


def _end(processes: Sequence[BaseProcess]) -> None:
    """End processes of a pool, which clear away what they are writing; kill those that take too long."""
    for process in processes:
        process.terminate()
    until = time.monotonic() + _CLEARING
    for process in processes:
        process.join(max(0.0, until - time.monotonic()))
        process.kill()


def start_process(
    target: Callable[..., None], *arguments: Any, orphaned: Callable[[], object] | None = None
) -> SpawnProcess:
    """A process that runs `target(*arguments)`, started. Ctrl-C is left to its parent, which is to end it.

    Where the parent is gone it calls `orphaned()` and ends. Raises OSError where it cannot be started.
    """
    process = _SPAWN.Process(target=_run_child, args=(_Packed(target, arguments), orphaned), daemon=True)
    process.start()
    return process


class _Packed:
    """What a child is to call and with what: bytes, in the child. It unpacks them itself, since that imports
    modules, for which there may be no memory.
    """

    def __init__(self, function: Callable[..., object] | None, arguments: tuple[Any, ...]) -> None:
        self._call = function, arguments

    def __reduce__(self) -> tuple[type[bytes], tuple[bytes]]:
        return bytes, (bytes(ForkingPickler.dumps(self._call)),)


def _begin(packed: bytes) -> None:
    signal.signal(signal.SIGTERM, lambda *_: _leave())
    try:
        _run(packed, discard_partial_files)
    except Exception as error:
        if lacking(error) is None:
            raise
        _leave()  # the parent says that a worker died


def _leave() -> None:
    discard_partial_files()
    os._exit(1)


def _run_child(packed: bytes, orphaned: Callable[[], object] | None) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to the whole group of processes
    try:
        _run(packed, orphaned)
    except Exception as error:
        lack = lacking(error)
        if lack is None:
            raise
        sys.exit(f"forgerank: a process ended: {lack}")


def _run(packed: bytes, orphaned: Callable[[], object] | None) -> None:
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a terminal that closes sends it to the whole group
    end_with_parent(orphaned)
    function, arguments = pickle.loads(packed)
    if function is not None:
        function(*arguments)


def end_with_parent(orphaned: Callable[[], object] | None = None) -> None:
    """End this process when the one that asked for it is gone, after a call of `orphaned()`.

    A killed parent would leave its children behind, writing into what a new run writes.
    """
    Thread(target=_end_with_parent, args=(orphaned,), daemon=True).start()


def _end_with_parent(orphaned: Callable[[], object] | None) -> None:
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        if orphaned is not None:
            orphaned()
        os._exit(1)


def this_process() -> str:
    """`machine pid`; the machine is host, boot and process namespace, where the system tells them."""
    return f"{_machine()} {os.getpid()}"


def is_dead(process: str) -> bool:
    """Whether the process that `this_process()` named has ended. False for one of another machine.

    A new process with the number of one that has ended makes it look alive; its lease ends all the same.
    """
    machine, _, pid = process.rpartition(" ")
    if machine != _machine() or not pid.isdigit() or os.name != "posix":  # elsewhere signal 0 is a real one
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass  # another user's
    return _is_zombie(pid)


@contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """Keeps other processes from writing into a folder, which is made, in this context.

    Raises InputError where one of them is in it, OutputError where it cannot be made. However a process ends,
    the system lets go of what it held; a system or a disk without such locks keeps nobody out.
    """
    make_folder(folder)
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    _held.add(handle)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"{folder}: another process is writing here: wait for it") from None
        except OSError:
            pass  # no such locks here
        yield
    finally:
        _held.discard(handle)
        os.close(handle)


def _let_go() -> None:
    """In a child that was forked: what the parent holds is not to outlive it."""
    while _held:
        os.close(_held.pop())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)


@contextmanager
def partial_folder(path: Path) -> Iterator[Path]:
    """A new folder to fill, from which the caller moves what is complete; gone when the context ends.

    It lies in PATH.partial, beside the name of this process: what a process that was killed left there is
    cleared away first. What `move_out` moved stays only where the context ends without an exception. Raises
    InputError where another process is at it, OSError where it cannot be made.
    """
    clear_partial_folder(path)
    outer = path.with_name(f"{path.name}.partial")
    make_folder(outer.parent)
    try:
        outer.mkdir()
    except FileExistsError:  # it was made since
        raise _is_filled(outer) from None
    try:
        (outer / _OWNER).write_text(this_process(), encoding="utf-8")
        (outer / _CONTENT).mkdir()
        yield outer / _CONTENT
    except BaseException:
        _take_back(outer)
        raise
    finally:
        with suppress(OSError):  # the next one that fills it clears it away
            _remove(outer)


def clear_partial_folder(path: Path) -> None:
    """Remove what a process that was killed left of its `partial_folder`, and what it had moved out.

    Raises InputError where that process lives.
    """
    outer = path.with_name(f"{path.name}.partial")
    if not outer.exists():
        return
    owner = outer / _OWNER
    process = owner.read_text(encoding="utf-8") if owner.is_file() else ""
    just_begun = list(outer.iterdir()) in ([], [owner])
    if not (is_dead(process) if process else just_begun):
        raise _is_filled(outer)
    _take_back(outer)
    _remove(outer)


def _is_filled(outer: Path) -> InputError:
    return InputError(f"{outer}: another process is filling it: wait, or remove it if none is")


def move_out(content: Path) -> None:
    """Move the files of a folder that `partial_folder` gave to beside PATH: all, or in the end none."""
    outer = content.parent
    names = sorted(path.name for path in content.iterdir())
    write_atomic(outer / _MOVED, json.dumps(names).encode())
    for name in names:
        (content / name).replace(outer.parent / name)


def _remove(outer: Path) -> None:
    """The name of its process goes last: without it nobody could tell what is left by a removal that is
    stopped, by a second Ctrl-C say, from what another process is filling.
    """
    if (outer / _CONTENT).exists():
        shutil.rmtree(outer / _CONTENT)
    (outer / _MOVED).unlink(missing_ok=True)
    shutil.rmtree(outer)


def _take_back(outer: Path) -> None:
    moved = outer / _MOVED
    for name in json.loads(moved.read_bytes()) if moved.is_file() else ():
        (outer.parent / name).unlink(missing_ok=True)


def _is_zombie(pid: str) -> bool:
    """Whether it has ended but nobody has read its exit code, as in a container without init."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return False  # not Linux, or ended just now


def _machine() -> str:
    parts = [platform.node()]
    try:
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    except OSError:
        pass  # not Linux: the host's name is all there is
    return "/".join(parts)
