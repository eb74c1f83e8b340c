"""Commands as processes of their own in which something goes wrong: a signal, a full disk, too little memory.

One process imports what the commands need, each module once, and forks into them (Linux alone).
"""

import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

GONE = 15.0  # seconds after which no process of a command that has ended may be there


@dataclass(frozen=True)
class Ended:
    """A command that has ended."""

    code: int  # negative: the signal
    out: str
    err: str
    events: list[str]  # files opened and made below the watched folder by its first process, in order
    left: list[str]  # processes of it that were there `GONE` seconds later
    temporary: list[str]  # what lies in the folder for temporary files


class Runner:
    """Forks into commands; a context."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> "Runner":
        environment = os.environ | {"PYTHONWARNINGS": "ignore", "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, __file__]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=60)

    def run(self, arguments: Sequence[object], watched: Path, *, imports: str = "", **fault: Any) -> Ended:
        """Run `forgerank ARGUMENTS`. imports: modules, separated by spaces, that it will need.

        fault: `at` is the number of the event at which something goes wrong: a `signal` is sent to it,
        or there is no `memory` any more.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        shutil.rmtree(self._folder, ignore_errors=True)
        (self._folder / "tmp").mkdir(parents=True)
        texts = [self._folder / name for name in ("out", "err", "events")]
        for path in texts:
            path.touch()
        order = {"arguments": [str(argument) for argument in arguments], "folder": str(self._folder)}
        order |= {"watched": str(watched), "imports": imports, "fault": fault}  # type: ignore[dict-item]
        print(json.dumps(order), file=self._process.stdin, flush=True)
        pid, code = json.loads(self._process.stdout.readline())
        there = left(lambda: of_session(pid))
        for number in there:
            with suppress(OSError):
                os.kill(number, signal.SIGKILL)
        out, err, events = (path.read_text(errors="replace") for path in texts)
        temporary = [str(path) for path in (self._folder / "tmp").rglob("*")]
        return Ended(code, out, err, events.splitlines(), list(there.values()), temporary)


def of_session(session: int) -> dict[int, str]:
    """Number and command line of the living processes of a session."""
    return _processes(lambda folder: int(_stat(folder)[3]) == session)


def marked(mark: str) -> dict[int, str]:
    """Those whose environment holds a mark `NAME=VALUE`: a process that got it, its children and theirs."""
    return _processes(lambda folder: mark.encode() in (folder / "environ").read_bytes().split(b"\0"))


def _processes(wanted: Callable[[Path], bool]) -> dict[int, str]:
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if _stat(folder)[0] != "Z" and wanted(folder):
                line = (folder / "cmdline").read_bytes().replace(b"\0", b" ")
                found[int(folder.name)] = line.decode(errors="replace")
    return found


def _stat(folder: Path) -> list[str]:
    """State, parent, group, session and so on."""
    return (folder / "stat").read_text().rpartition(")")[2].split()


def left(processes: Callable[[], dict[int, str]]) -> dict[int, str]:
    """Those of them that do not end in time."""
    with suppress(AssertionError):
        wait_until(lambda: not processes(), GONE)
    return processes()


def wait_until(reached: Callable[[], bool], seconds: float) -> None:
    until = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < until
        time.sleep(0.1)


def _watch(watched: str, log: Path, act: Callable[[], None], at: int | None) -> None:
    """Note what happens to files below a folder, and act at event number `at`."""
    process, stream, number = os.getpid(), log.open("a"), 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal number
        if event not in ("open", "os.mkdir", "os.rename", "sqlite3.connect") or os.getpid() != process:
            return
        path = os.fsdecode(arguments[0]) if isinstance(arguments[0], (str, bytes)) else ""
        if path.startswith(watched):
            stream.write(f"{event} {path}\n")
            stream.flush()
            number += 1
            if number - 1 == at:
                act()

    sys.addaudithook(hook)


def _act_of(fault: dict[str, Any]) -> Callable[[], None]:
    def act() -> None:
        if "signal" in fault:
            os.kill(os.getpid(), fault["signal"])
        if "memory" in fault:
            raise MemoryError

    return act


def _become(order: dict[str, Any]) -> None:
    """In the forked process: the command."""
    os.setsid()
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # also where the tests run under nohup
    folder, fault = Path(order["folder"]), order["fault"]
    os.environ["TMPDIR"] = str(folder / "tmp")
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(folder / name, os.O_WRONLY | os.O_APPEND), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    _watch(order["watched"], folder / "events", _act_of(fault), fault.get("at"))
    sys.argv = ["forgerank", *order["arguments"]]
    from forgerank.cli.main import main

    main()


def _serve() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        order = json.loads(line)
        for name in order["imports"].split():
            importlib.import_module(name)
        pid = os.fork()
        if pid == 0:
            _become(order)
            return
        _, status = os.waitpid(pid, 0)
        print(json.dumps([pid, os.waitstatus_to_exitcode(status)]), file=answers, flush=True)


if __name__ == "__main__":
    _serve()
