"""Names of processes that tell, on the same machine, whether one is dead."""

import os
import platform
from pathlib import Path


def this_process() -> str:
    """`machine pid`; the machine is host, boot and process namespace, where the system tells them."""
    return f"{_machine()} {os.getpid()}"


def is_dead(process: str) -> bool:
    """Whether a process of `this_process()` ended. False where it is of another machine: it cannot be told.

    A new process that got the number of a dead one makes it look alive; the lease ends then all the same.
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
    """Dead, though nobody asked for its exit code, as in a container without init."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return False  # no Linux, or gone just now


def _machine() -> str:
    parts = [platform.node()]
    try:
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    except OSError:
        pass  # no Linux: the host's name has to do
    return "/".join(parts)
