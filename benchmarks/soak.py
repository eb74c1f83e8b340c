"""`forgerank serve` under more load than it can bear: no lost job, no growth, no 5xx other than 503.

    python benchmarks/soak.py [--minutes 10] [--database URL]

Clients send photographs to be judged at once, more of them than there are places; others send photographs,
archives, videos and damaged files as jobs, wait for them, read their reports and delete some, queued, running
or done. A client that is refused asks again soon, without heeding Retry-After. Printed are the answers by
route and status, the memory of the server and its workers, and the verdict; exit code 1 where it is bad.
"""

import argparse
import io
import math
import random
import sys
import tempfile
import threading
import time
import zipfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table
from serve import serving, write_photos

PLACES, DETECT_CLIENTS, JOB_CLIENTS = 8, 16, 4
JOBS_AT_ONCE = 6  # of a client
DELETED = 0.01  # probability that a job is deleted instead of looked at
WARM_UP = 0.25  # share of the time before memory is looked at
GROWTH = 0.05  # of memory over the rest of the time, most
PATIENCE = 600.0  # seconds in which the jobs that wait at the end must be done


Memory = dict[str, list[float]]  # MiB over time, by process


@dataclass
class Tally:
    """What the clients saw; shared by their threads."""

    answers: Counter[tuple[str, int]] = field(default_factory=Counter)  # by route and status
    ends: Counter[tuple[str, str]] = field(default_factory=Counter)  # of jobs, by kind and state
    faults: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    over: threading.Event = field(default_factory=threading.Event)

    def note(self, counter: Counter[tuple[str, Any]], key: tuple[str, Any]) -> None:
        with self.lock:
            counter[key] += 1

    def fault(self, text: str) -> None:
        """What must not happen."""
        with self.lock:
            self.faults.append(text)


class Client:
    """Asks, counts the answers and notes those that must not come."""

    def __init__(self, url: str, tally: Tally) -> None:
        self._client, self._tally = httpx.Client(base_url=url, timeout=120), tally

    def ask(self, method: str, path: str, route: str, body: bytes | None = None) -> httpx.Response | None:
        """None where there was no answer."""
        route = f"{method} {route}"
        try:
            answer = self._client.request(method, path, content=body)
        except httpx.HTTPError as error:
            self._tally.fault(f"{route}: {type(error).__name__} {error}")
            return None
        self._tally.note(self._tally.answers, (route, answer.status_code))
        refused = answer.status_code == 503 and "retry-after" in answer.headers
        if answer.status_code >= 500 and not refused:
            self._tally.fault(f"{route}: {answer.status_code} {answer.text[:200]}")
        return answer


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--database", help="postgresql://USER:PASSWORD@HOST/NAME; SQLite without it")
    options = parser.parse_args()
    tally = Tally()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        photos = [photo.read_bytes() for photo in write_photos(folder)]
        files = make_files(photos, folder)
        settings = [f"queue_photos={PLACES}", "queue_jobs=10"]
        settings += [f"database={options.database}"] if options.database else []
        with serving(folder / "data", *settings, workers=1) as (url, pid):
            senders = [(send_photos, photos)] * DETECT_CLIENTS + [(send_jobs, files)] * JOB_CLIENTS
            threads = [
                threading.Thread(target=send, args=(Client(url, tally), sent, tally, random.Random(seed)))
                for seed, (send, sent) in enumerate(senders)
            ]
            for thread in threads:
                thread.start()
            memory = watch_memory(pid, options.minutes * 60)
            tally.over.set()
            for thread in threads:
                thread.join()
        # A job's file goes with its verdict.
        for left in (folder / "data" / "uploads").iterdir():
            tally.fault(f"upload {left.name} was left behind")
    sys.exit(report(tally, memory, options.minutes))


def make_files(photos: list[bytes], folder: Path) -> dict[str, bytes]:
    """A file of every kind that jobs take; `damaged` is a photograph that ends before its pixels."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for number, photo in enumerate(photos[:3]):
            archive.writestr(f"{number}.jpg", photo)
    with av.open(str(folder / "clip.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 512, 512, "yuv420p"
        for photo in photos:
            frame = av.VideoFrame.from_image(Image.open(io.BytesIO(photo)))
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return {
        "photo": photos[0],
        "archive": packed.getvalue(),
        "video": (folder / "clip.mp4").read_bytes(),
        "damaged": photos[0][: photos[0].index(b"\xff\xda")],
    }


def send_photos(client: Client, photos: list[bytes], tally: Tally, dice: random.Random) -> None:
    """Ask for verdicts, one after the other."""
    while not tally.over.is_set():
        answer = client.ask("POST", "/v1/detect", "/v1/detect", dice.choice(photos))
        if answer is not None and answer.status_code == 200:
            if len(answer.json()["reports"][0]["faces"]) != 1:
                tally.fault("a report without its face")
        else:
            time.sleep(0.05)


def send_jobs(client: Client, files: dict[str, bytes], tally: Tally, dice: random.Random) -> None:
    """Send jobs, wait for them, delete some; at the end wait for all that are left."""
    waiting: dict[str, str] = {}  # kind by address
    until = math.inf
    while (waiting or not tally.over.is_set()) and time.monotonic() < until:
        if tally.over.is_set():
            until = min(until, time.monotonic() + PATIENCE)
        elif len(waiting) < JOBS_AT_ONCE:
            kind = dice.choice(list(files))
            answer = client.ask("POST", f"/v1/jobs?name={kind}", "/v1/jobs", files[kind])
            if answer is not None and answer.status_code == 202:
                waiting[answer.headers["location"]] = kind
        for at, kind in list(waiting.items()):
            if dice.random() < DELETED:
                delete_job(client, at, tally)
                tally.note(tally.ends, (kind, "deleted"))
                del waiting[at]
            elif follow_job(client, at, kind, tally, dice):
                del waiting[at]
        time.sleep(0.2)
    for at, kind in waiting.items():
        tally.fault(f"{kind} {at} was never done")


def follow_job(client: Client, at: str, kind: str, tally: Tally, dice: random.Random) -> bool:
    """Whether a job has ended; its end is checked."""
    answer = client.ask("GET", at, "/v1/jobs/{id}")
    if answer is None or answer.status_code == 503:
        return False
    if answer.status_code != 200:
        tally.fault(f"{kind} {at} is lost: {answer.status_code}")
        return True
    state = answer.json()["state"]
    if state not in ("done", "failed"):
        return False
    tally.note(tally.ends, (kind, state))
    if (state == "failed") != (kind == "damaged"):
        tally.fault(f"{kind} {at}: {state} {answer.json()['error']}")
    elif state == "done":
        form = dice.choice(["json", "html"])
        found = client.ask("GET", f"{at}/report?format={form}", "/v1/jobs/{id}/report")
        if found is not None and found.status_code not in (200, 503):
            tally.fault(f"{kind} {at}: its report is lost: {found.status_code}")
    if dice.random() < 0.5:
        delete_job(client, at, tally)
    return True


def delete_job(client: Client, at: str, tally: Tally) -> None:
    answer = client.ask("DELETE", at, "/v1/jobs/{id}")
    if answer is not None and answer.status_code not in (204, 503):
        tally.fault(f"{at} cannot be deleted: {answer.status_code}")


def watch_memory(pid: int, seconds: float) -> Memory:
    """Resident memory of the server and of its workers together, looked at once a second."""
    memory: Memory = {"server": [], "workers": []}
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        workers = [child for child in children if "spawn_main" in Path(f"/proc/{child}/cmdline").read_text()]
        memory["server"].append(resident(str(pid)))
        memory["workers"].append(sum(map(resident, workers)))
        time.sleep(1)
    return memory


def resident(pid: str) -> float:
    """MiB."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(fields["VmRSS"].split()[0]) / 1024


def report(tally: Tally, memory: Memory, minutes: float) -> int:
    """Print everything; 1 where something is wrong."""
    console = Console()
    answers = Table(title=f"answers in {minutes:g} minutes", box=None, title_justify="left")
    for column in ("request", "status", "count"):
        answers.add_column(column, justify="left" if column == "request" else "right")
    for (route, status), count in sorted(tally.answers.items()):
        answers.add_row(route, str(status), str(count))
    console.print(answers)
    for (kind, state), count in sorted(tally.ends.items()):
        console.print(f"jobs: {kind} {state}: {count}")
    for name, values in memory.items():
        settled = np.array(values[int(len(values) * WARM_UP) :])
        slope = float(np.polyfit(np.arange(len(settled)), settled, 1)[0])
        growth = slope * len(settled) / float(np.median(settled))
        console.print(
            f"memory of the {name}: {settled[0]:.0f} MiB after warming up, {settled[-1]:.0f} MiB at the end, "
            f"{60 * slope:+.2f} MiB a minute, {growth:+.1%} over the time"
        )
        if growth > GROWTH:
            tally.fault(f"memory of the {name} grows")
    for fault, count in Counter(tally.faults).most_common(20):
        console.print(f"{count} x {fault}", markup=False)
    console.print(
        f"no lost job, no growth in memory, no 5xx other than 503: {'no' if tally.faults else 'yes'}"
    )
    return 1 if tally.faults else 0


if __name__ == "__main__":
    main()
