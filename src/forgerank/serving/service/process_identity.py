"""Identities of processes: on the same machine they tell whether a process has ended."""

import os
import platform
from pathlib import Path


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
