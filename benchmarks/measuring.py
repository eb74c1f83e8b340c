"""What several benchmarks need: times of actions that take turns, peak memory, and what they ran on."""

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path

from forgerank.detect.runtime import usable_cores


def median_seconds(actions: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """The median time of each action; they take turns, after a round that is not counted."""
    taken: dict[str, list[float]] = {name: [] for name in actions}
    for turn in range(rounds + 1):
        for name, action in actions.items():
            started = time.perf_counter()
            action()
            if turn:
                taken[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in taken.items()}


def peak_growth(action: Callable[[], object]) -> float:
    """MiB by which an action raises the peak resident set; meaningful only in a fresh process."""
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak: importing torch set a higher one
    before = _resident_peak()
    action()
    return _resident_peak() - before


def _resident_peak() -> float:
    """MiB. Not from getrusage, whose peak a process inherits from the one that started it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024


def machine(*packages: str) -> str:
    """What a benchmark ran on: processor, cores, load, versions of Python and of the packages that count."""
    versions = "".join(f", {name} {version(name)}" for name in packages)
    return (
        f"{_processor()}, {usable_cores()} cores, load {os.getloadavg()[0]:.1f}, "
        f"Python {platform.python_version()}{versions}"
    )


def _processor() -> str:
    """Its name under Linux, else its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
