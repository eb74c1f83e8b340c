"""Throughput and latency of `forgerank serve` beside the detector's own throughput in the same run.

    python benchmarks/serve.py [--seconds 12] [--rounds 3] [--clients 1,8,64]

wrk (Debian's package) posts photographs with one face to a server in a process of its own; plain is
`Detector.detect` over the same files, 8 at a time, in this process. Both decode the files, both have all
usable cores, wrk included in the server's share; they take turns, and medians over the rounds are printed.
"""

import argparse
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
from PIL import Image
from rich.console import Console
from rich.table import Table
from skimage import data

from forgerank.detect import Detector
from forgerank.detect.runtime import usable_cores

BATCH = 8
PHOTOS = 16
GOAL_CLIENTS, GOAL = 8, 0.7
SCRIPT = """
local bodies, turn = {}, 0
for _, name in ipairs({%s}) do
  local file = io.open(name, "rb")
  bodies[#bodies + 1] = file:read("*a")
  file:close()
end
function request()
  turn = turn + 1
  return wrk.format("POST", "/v1/detect", {["Content-Type"] = "image/jpeg"}, bodies[turn %% #bodies + 1])
end
function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '{"requests": %%d, "seconds": %%f, "p50": %%f, "p99": %%f, "failed": %%d}\\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e6, latency:percentile(99) / 1e6,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
"""


@dataclass(frozen=True)
class Load:
    """What one run of wrk measured."""

    rate: float  # answers a second that were not errors
    p50: float  # seconds
    p99: float  # seconds
    failed: int  # requests without a report


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=12.0, help="of one measurement; more where many ask")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clients", default="1,8,64")
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("wrk is needed: apt-get install wrk")
    clients = [int(count) for count in options.clients.split(",")]
    with tempfile.TemporaryDirectory() as folder:
        photos = write_photos(Path(folder))
        script = Path(folder, "post.lua")
        script.write_text(SCRIPT % ", ".join(f'"{photo}"' for photo in photos))
        detector = Detector()
        plain: list[float] = []
        loads: dict[int, list[Load]] = {count: [] for count in clients}
        with serving(Path(folder, "data"), f"queue_photos={2 * max(clients)}") as (url, _):
            plain_rate(detector, photos, 1.0)
            for count in clients:  # neither counts
                run_wrk(url, script, count, 1.0)
            for _ in range(options.rounds):
                plain.append(plain_rate(detector, photos, options.seconds))
                for count in clients:
                    # Answers come late where many ask: enough of them must fall into the time.
                    seconds = options.seconds * max(1, count / 16)
                    loads[count].append(run_wrk(url, script, count, seconds))
    report(statistics.median(plain), loads)


def write_photos(folder: Path) -> list[Path]:
    """Photographs of 512 x 512 px with one face, all different."""
    portrait = data.astronaut()
    photos = [folder / f"{number}.jpg" for number in range(PHOTOS)]
    for number, photo in enumerate(photos):
        Image.fromarray(np.roll(portrait, 4 * number, axis=1)).save(photo, quality=92)
    return photos


def plain_rate(detector: Detector, photos: list[Path], seconds: float) -> float:
    """Images a second of the detector alone."""
    done, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        batch = [photos[(done + i) % len(photos)] for i in range(BATCH)]
        assert all(len(report.faces) == 1 for report in detector.detect(batch))
        done += BATCH
    return done / (time.perf_counter() - start)


@contextmanager
def serving(folder: Path, *settings: str, workers: int = 0) -> Iterator[tuple[str, int]]:
    """A server on a free port of the loopback; yields its address and the number of its process."""
    command = [sys.executable, "-m", "forgerank", "serve", "--port", "0", "--data", str(folder)]
    command += ["--workers", str(workers), *(word for text in settings for word in ("--set", text))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            found = re.match(r"(http://127\.0\.0\.1:\d+)/", server.stdout.readline())
            if found is None:
                sys.exit("the server does not start")
            yield found[1], server.pid
        finally:
            server.terminate()


def run_wrk(url: str, script: Path, clients: int, seconds: float) -> Load:
    """So many connections that ask again as soon as they are answered."""
    command = ["wrk", "-t1", f"-c{clients}", f"-d{seconds:g}s", "--timeout", "60s", "-s", str(script), url]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    figures = json.loads(done.stdout.splitlines()[-1])
    rate = (figures["requests"] - figures["failed"]) / figures["seconds"]
    return Load(rate, figures["p50"], figures["p99"], figures["failed"])


def report(plain: float, loads: dict[int, list[Load]]) -> None:
    """The table, the goal, the machine."""
    table = Table(title=f"512 px photographs with one face, {usable_cores()} cores")
    for column in ("", "images/s", "plain = 1", "p50, ms", "p99, ms", "failed"):
        table.add_column(column, justify="right" if column else "left")
    table.add_row("Detector.detect alone", f"{plain:.2f}", "1.00", "", "", "")
    ratios = {}
    for count, runs in loads.items():
        rate = statistics.median(run.rate for run in runs)
        ratios[count] = rate / plain
        p50, p99 = (1000 * statistics.median(getattr(run, name) for run in runs) for name in ("p50", "p99"))
        name = f"{count} client{'s' if count > 1 else ''}"
        failed = sum(run.failed for run in runs)
        table.add_row(name, f"{rate:.2f}", f"{ratios[count]:.2f}", f"{p50:.0f}", f"{p99:.0f}", str(failed))
    console = Console()
    console.print(table)
    load = os.getloadavg()[0]
    console.print(
        f"{platform.machine()}, {usable_cores()} cores, load {load:.1f}, Python {platform.python_version()}, "
        f"onnxruntime {ort.__version__}"
    )
    if GOAL_CLIENTS in ratios:
        met = "yes" if ratios[GOAL_CLIENTS] >= GOAL else "no"
        console.print(f"at least {GOAL} of the plain throughput at {GOAL_CLIENTS} clients: {met}")


if __name__ == "__main__":
    main()
