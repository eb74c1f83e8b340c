"""Jobs sent to a server that is killed again and again: is any lost, is any done twice?

    python benchmarks/jobs.py [--jobs 1000] [--kills 20] [--database sqlite|postgresql|URL] [--seed 0]

Starts `forgerank serve` on a new data folder, sends jobs to it over HTTP (small images, every tenth with a
face, every twentieth a zip of three), and kills it with SIGKILL at random moments, the first ones while jobs
are still being sent: the server alone, whose workers must then leave by themselves, or all processes at once.
After each kill it is started again. A sender repeats a request that got no answer; only jobs with an answer
count. At the end the database tells what became of each, and the reports are read over HTTP.

Exit code 1 where a job was lost, done twice, failed or answered for another file. "postgresql" is a server of
Debian's packages in a temporary folder.
"""

import argparse
import hashlib
import io
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx
import numpy as np
from PIL import Image
from rich.console import Console
from skimage import data
from sqlalchemy import Engine, func, select

from forgerank.serving.service.database import completions, jobs, open_database
from forgerank.serving.service.service_settings import ServiceSettings

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from postgres import Cluster

SENDERS = 4
PATIENCE = 300.0  # seconds without any progress after which the rest counts as lost
console = Console()


class Server:
    """`forgerank serve`, to be killed."""

    def __init__(self, folder: Path, database: str, most_jobs: int) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.port = listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = folder / "log"
        self._command = [
            *(sys.executable, "-m", "forgerank", "serve", "--port", str(self.port)),
            *("--data", str(folder / "data"), "--database", database, "--set", f"queue_jobs={most_jobs}"),
            *("--set", "worker_threads=1", "--set", "threads=1"),
        ]

    def start(self) -> None:
        with open(self._log, "ab") as log:
            self._process = subprocess.Popen(
                self._command, stdout=log, stderr=log, start_new_session=True, cwd=self._log.parent
            )

    def kill(self, everything: bool) -> None:
        """SIGKILL to the server alone, or to its workers as well."""
        if everything:
            os.killpg(self._process.pid, signal.SIGKILL)
        else:
            self._process.kill()
        self._process.wait()

    def wait_until_ready(self) -> None:
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until and self.runs:
            try:
                if httpx.get(f"{self.url}/readyz", timeout=30).is_success:
                    return
            except httpx.TransportError:
                time.sleep(0.2)
        raise SystemExit(f"the server does not start\n{self.log[-3000:]}")

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(60)

    @property
    def runs(self) -> bool:
        return self._process.poll() is None

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")


def uploads(count: int, seed: int) -> Iterator[tuple[str, bytes, list[str]]]:
    """Name, content and the SHA-256 of each image in it; no two are the same."""
    rng = np.random.default_rng(seed)
    portrait = data.astronaut()[:256, 96:352]

    def image(with_face: bool) -> bytes:
        pixels = portrait.copy() if with_face else np.zeros((64, 64, 3), np.uint8)
        pixels[:16, :16] = rng.integers(0, 256, (16, 16, 3))
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        return buffer.getvalue()

    for i in range(count):
        images = [image(with_face=i % 10 == 0) for _ in range(3 if i % 20 == 5 else 1)]
        hashes = [hashlib.sha256(content).hexdigest() for content in images]
        if len(images) == 1:
            yield f"{i}.png", images[0], hashes
        else:
            buffer = io.BytesIO()
            with zipfile.ZipFile(buffer, "w") as archive:
                for number, content in enumerate(images):
                    archive.writestr(f"{number}.png", content)
            yield f"{i}.zip", buffer.getvalue(), hashes


def send(url: str, upload: tuple[str, bytes, list[str]]) -> tuple[str, list[str]]:
    """The job's id and the hashes in it; asks until there is an answer."""
    name, content, hashes = upload
    while True:
        try:
            answer = httpx.post(f"{url}/v1/jobs", files={"file": (name, content)}, timeout=30)
        except httpx.TransportError:
            time.sleep(0.2)
            continue
        if answer.status_code == 202:
            return answer.json()["id"], hashes
        if answer.status_code != 503:
            raise SystemExit(f"{name}: {answer.status_code} {answer.text}")
        time.sleep(1)


def ended(engine: Engine) -> int:
    with engine.begin() as connection:
        return connection.scalar(select(func.count()).select_from(completions)) or 0


def wait_for(engine: Engine, server: Server, wanted: int) -> None:
    """Until so many jobs ended; gives up after PATIENCE without progress or without a server."""
    best, since = -1, time.monotonic()
    while (now := ended(engine)) < wanted:
        if now > best:
            best, since = now, time.monotonic()
        if time.monotonic() > since + PATIENCE or not server.runs:
            raise SystemExit(f"{now} of {wanted} jobs ended, then nothing more\n{server.log[-3000:]}")
        time.sleep(0.1)


def outcome(engine: Engine, url: str, sent: dict[str, list[str]]) -> dict[str, int]:
    """What became of the jobs that were answered, by counting what was written of each."""
    with engine.begin() as connection:
        rows = connection.execute(select(jobs.c.id, jobs.c.state, jobs.c.attempts)).all()
        ends = Counter(connection.scalars(select(completions.c.job_id)))
    states = {row.id: row.state for row in rows}
    attempts = {row.id: row.attempts for row in rows}
    wrong = 0
    with httpx.Client(base_url=url, timeout=60) as client:
        for job, hashes in sent.items():
            if states.get(job) == "done":
                reports = client.get(f"/v1/jobs/{job}/report").raise_for_status().json()["reports"]
                wrong += [report["sha256"] for report in reports] != hashes
    return {
        "sent": len(sent),
        "lost": sum(states.get(job) not in ("done", "failed") for job in sent),
        "done twice": sum(ends[job] > 1 for job in ends),
        "failed": sum(states.get(job) == "failed" for job in sent),
        "wrong report": wrong,
        "begun again after a kill": sum(attempts.get(job, 0) > 1 for job in sent),
        "sent, but the answer was lost": len(states.keys() - sent.keys()),
    }


def run(options: argparse.Namespace, folder: Path, database: str) -> dict[str, int]:
    rng = random.Random(options.seed)
    moments = sorted(rng.uniform(0, 0.95 * options.jobs) for _ in range(options.kills))
    engine = open_database(ServiceSettings(data=folder, database=database).database_url)
    server = Server(folder, database, options.jobs + 100)
    server.start()
    with ThreadPoolExecutor(SENDERS) as pool:
        answers = pool.map(lambda upload: send(server.url, upload), uploads(options.jobs, options.seed))
        for number, moment in enumerate(moments, start=1):
            wait_for(engine, server, int(moment))
            time.sleep(rng.uniform(0, options.pause))
            everything = rng.random() < 0.5
            server.kill(everything)
            console.print(
                f"kill {number} of {options.kills} ({'all' if everything else 'server alone'}), "
                f"{ended(engine)} jobs done"
            )
            server.start()
        sent = dict(answers)
    wait_for(engine, server, len(sent))
    settle(engine)
    server.wait_until_ready()
    found = outcome(engine, server.url, sent)
    server.stop()
    engine.dispose()
    return found


def settle(engine: Engine) -> None:
    """Until nothing waits or runs: jobs whose answer was lost are among those that ended."""
    unfinished = select(func.count()).select_from(jobs).where(jobs.c.finished.is_(None))
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        with engine.begin() as connection:
            if not connection.scalar(unfinished):
                return
        time.sleep(0.2)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--database", default="sqlite", help="sqlite, postgresql or a URL")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pause", type=float, default=2.0, help="longest wait before a kill, seconds")
    options = parser.parse_args(arguments)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        databases = {
            "sqlite": lambda: f"sqlite:///{folder / 'jobs.sqlite3'}",
            "postgresql": lambda: stack.enter_context(Cluster()).empty_database(),
        }
        url = databases.get(options.database, lambda: options.database)()
        started = time.monotonic()
        found = run(options, folder, url)
        seconds = time.monotonic() - started
    console.print(f"{options.database}, {options.kills} kills, seed {options.seed}, {seconds:.0f} s: {found}")
    return int(any(found[name] for name in ("lost", "done twice", "failed", "wrong report")))


if __name__ == "__main__":
    sys.exit(main())
