"""A scan of thousands of tiny and hostile files, killed at random, beside one left alone and one on Ray.

    python benchmarks/scan.py [--files 10000] [--kills 5] [--workers 2] [--photos 300] [--seed 0] [--no-ray]

Three scans of the same seeded files: left alone; killed with SIGKILL at random moments, as are single worker
processes, and repeated until it is done; on Ray. Their Parquet files must be equal byte for byte, every file
must have one row. Then the figures of docs/scanning.md: files per second and core on photographs of 2
megapixels with a face, the journal's cost per million files, and the machines that follow from them.
"""

import argparse
import hashlib
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from measuring import machine
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from skimage import data

from forgerank.detect.runtime import usable_cores
from forgerank.serving.scan.journal import Journal
from forgerank.serving.scan.sources import Item
from forgerank.serving.scan.task_worker import Outcome

RUN = "from forgerank.cli.main import main; main()"
LOAD = 0.7  # share of its time that a core may be busy; the rest is for peaks and lost machines
Pixels = NDArray[np.uint8]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--workers", type=int, default=usable_cores())
    parser.add_argument("--photos", type=int, default=300)
    parser.add_argument("--journal", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-ray", action="store_true")
    options = parser.parse_args()
    console = Console()
    with tempfile.TemporaryDirectory(prefix="scan-benchmark-") as name:
        folder = Path(name)
        if options.files:
            stress(folder, options, console)
        if options.photos:
            speed(folder, options, console)


def stress(folder: Path, options: argparse.Namespace, console: Console) -> None:
    """The three scans and their comparison."""
    rng = random.Random(options.seed)
    made = make_files(folder / "in", options.files, rng)
    console.print(f"{made.total():,} files: " + ", ".join(f"{n} {kind}" for kind, n in made.most_common()))
    alone = scan(folder, "alone.parquet", options.workers)
    console.print(f"left alone: {alone:.0f} s, {made.total() / alone / options.workers:.2f} files/s per core")
    kills = killed_scan(folder, "killed.parquet", options, alone, rng)
    console.print(f"killed: {kills['scan']} times the scan, {kills['worker']} times a worker")
    results = ["alone.parquet", "killed.parquet"]
    if not options.no_ray:
        seconds = scan(folder, "ray.parquet", options.workers, "--engine", "ray")
        console.print(f"on Ray: {seconds:.0f} s")
        results.append("ray.parquet")
    contents = [(folder / result).read_bytes() for result in results]
    equal = all(content == contents[0] for content in contents)
    rows = pq.read_table(folder / "alone.parquet", columns=["path", "error", "duplicate_of"])
    whole = len(rows) == made.total() == len(set(rows["path"].to_pylist()))
    errors = len(rows) - rows["error"].null_count
    console.print(
        f"{len(rows):,} rows, {errors} errors, {len(rows) - rows['duplicate_of'].null_count} duplicates"
    )
    console.print(f"one row per file: {'yes' if whole else 'NO'}; equal bytes: {'yes' if equal else 'NO'}")
    if not (whole and equal):
        sys.exit(1)


def start(folder: Path, out: str, workers: int, *more: str, source: str = "in") -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", RUN, "scan", source, "--out", out, "--workers", str(workers), *more]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def scan(folder: Path, out: str, workers: int, *more: str, source: str = "in") -> float:
    """Seconds that a scan takes; `source` lies in `folder`."""
    begun = time.perf_counter()
    process = start(folder, out, workers, *more, source=source)
    _, error = process.communicate()
    if process.returncode != 0:
        sys.exit(f"scan failed ({process.returncode}): {error[-2000:]}")
    return time.perf_counter() - begun


def killed_scan(
    folder: Path, out: str, options: argparse.Namespace, seconds: float, rng: random.Random
) -> Counter[str]:
    """Kills the scan and single workers at random moments, and repeats it until it is done."""
    kills: Counter[str] = Counter()
    while True:
        process = start(folder, out, options.workers)
        try:
            if kills["scan"] < options.kills:
                while process.poll() is None and not workers_of(process.pid):
                    time.sleep(0.05)
                pause = rng.uniform(0.2, 1.0) * seconds / (options.kills + 1)
                process.wait(timeout=pause / 2)
            else:
                process.wait()
        except subprocess.TimeoutExpired:
            for victim in workers_of(process.pid)[:1]:
                os.kill(victim, signal.SIGKILL)
                kills["worker"] += 1
            time.sleep(pause / 2)
            left = workers_of(process.pid)
            process.kill()
            process.wait()
            kills["scan"] += 1
            check_gone(left)
            continue
        error = process.stderr.read() if process.stderr else ""
        if process.returncode != 0:
            sys.exit(f"scan failed ({process.returncode}): {error[-2000:]}")
        return kills


def workers_of(pid: int) -> list[int]:
    """Child processes that judge."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
        lines = {int(child): Path(f"/proc/{child}/cmdline").read_bytes() for child in children}
    except OSError:  # one ended meanwhile
        return []
    return [child for child, line in lines.items() if b"spawn_main" in line]


def check_gone(workers: list[int]) -> None:
    """Workers must end with a killed scan."""
    for _ in range(100):
        if not any(Path(f"/proc/{worker}/exe").exists() for worker in workers):
            return
        time.sleep(0.1)
    sys.exit("workers outlived the scan")


def make_files(folder: Path, count: int, rng: random.Random) -> Counter[str]:
    """Seeded: images with and without faces, duplicates, links, videos, and what is none of these."""
    folder.mkdir()
    noise, portrait = np.random.default_rng(rng.randrange(2**32)), data.astronaut()
    made, good = Counter[str](), list[Path]()
    kinds = [
        "face",
        "image",
        "duplicate",
        "truncated",
        "renamed",
        "text",
        "empty",
        "odd name",
        "link",
        "video",
    ]
    weights = [20, 34, 12, 9, 6, 5, 4, 5, 4, 1]
    for i in range(count):
        kind = rng.choices(kinds, weights)[0] if i >= 20 else ("face", "image")[i % 2]
        place = folder / f"{rng.randrange(20):02d}"
        place.mkdir(exist_ok=True)
        path = place / f"{i:06d}.{rng.choice(('jpg', 'png'))}"
        if kind == "face":
            save(jittered(portrait, rng), path)
        elif kind in ("image", "odd name"):
            path = place / f"{i:06d}{odd_name(rng)}.jpg" if kind == "odd name" else path
            save(noise.integers(0, 256, (rng.randrange(16, 160), rng.randrange(16, 160), 3), np.uint8), path)
        elif kind == "duplicate":
            shutil.copy(rng.choice(good), path)
        elif kind == "truncated":
            content = rng.choice(good).read_bytes()
            path.write_bytes(content[: rng.randrange(1, len(content))])
        elif kind == "renamed":
            path = path.with_suffix(rng.choice((".mp4", ".webp", ".tif", ".mkv")))
            shutil.copy(rng.choice(good), path)
        elif kind == "text":
            path.write_bytes(rng.randbytes(rng.randrange(1, 4000)))
        elif kind == "empty":
            path.touch()
        elif kind == "link":
            path.symlink_to(rng.choice((rng.choice(good), path, folder / "nowhere", Path("/dev/zero"))))
        else:
            path = path.with_suffix(".mp4")
            save_video(jittered(portrait, rng), path, rng.randrange(4, 24))
        if kind in ("face", "image", "video"):
            good.append(path)
        made[kind] += 1
    return made


def jittered(portrait: Pixels, rng: random.Random) -> Pixels:
    """The face of the portrait, cut out and lit at random."""
    left, top, side = rng.randrange(90, 150), rng.randrange(20, 50), rng.randrange(180, 230)
    part = portrait[top : top + side, left : left + side].astype(np.float32) * rng.uniform(0.6, 1.2)
    return np.clip(part, 0, 255).astype(np.uint8)


def odd_name(rng: random.Random) -> str:
    """Part of a file name that no program likes."""
    names = (
        b"\xff\xfe",
        b" spaces  ",
        b"\nline",
        b"'\"`$(reboot)",
        "ünï🙂".encode(),
        b"x" * 230,
        b"[1]*?",
        b"\x1b[31m",
    )
    return os.fsdecode(rng.choice(names))


def save(pixels: Pixels, path: Path) -> None:
    Image.fromarray(pixels).save(path, quality=88)


def save_video(pixels: Pixels, path: Path, frames: int) -> None:
    """A still as H.264, 10 frames a second."""
    import av

    even = np.ascontiguousarray(pixels[: len(pixels) // 2 * 2, : pixels.shape[1] // 2 * 2])
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=10)
        stream.height, stream.width, stream.pix_fmt = len(even), even.shape[1], "yuv420p"
        for _ in range(frames):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(even, format="rgb24")))
        file.mux(stream.encode())


def speed(folder: Path, options: argparse.Namespace, console: Console) -> None:
    """The figures of docs/scanning.md, as Markdown."""
    shutil.rmtree(folder / "in", ignore_errors=True)
    (folder / "in").mkdir()
    rng, portrait = random.Random(options.seed), Image.fromarray(data.astronaut())
    large = np.asarray(portrait.resize((1440, 1440), Image.Resampling.LANCZOS), dtype=np.float32)
    size = 0
    for i in range(options.photos):
        path = folder / "in" / f"{i:05d}.jpg"
        save(np.clip(large * rng.uniform(0.7, 1.1), 0, 255).astype(np.uint8), path)
        size += path.stat().st_size
    (folder / "first.txt").write_text("in/00000.jpg\n", encoding="utf-8")
    begun = scan(folder, "first.parquet", 1, source="@first.txt")  # what it takes to start and to end
    seconds = scan(folder, "speed.parquet", options.workers)
    rate = (options.photos - 1) / (seconds - begun) / options.workers
    console.print(
        f"{options.photos} photographs of 2 megapixels with a face, {size / options.photos / 1e3:.0f} kB: "
        f"{rate:.2f} files/s per core, {options.workers} workers; {machine()}"
    )
    listing, recording, size_per_file = journal_cost(folder / "cost.journal", options.journal)
    console.print(
        f"journal, per million files: {listing:.0f} s to list, {recording:.0f} s to record, "
        f"{size_per_file * 1e6 / 1e9:.2f} GB"
    )
    print(machines(rate))


def machines(rate: float) -> str:
    """Cores and machines for images per day, from files per second and core, as a Markdown table."""
    lines = [
        "| images a day | per second | cores | machines of 64 cores | core hours a day |",
        "|---|---|---|---|---|",
    ]
    for millions in (10, 1000):
        per_second = millions * 1e6 / 86_400
        cores = math.ceil(per_second / rate / LOAD)
        cells = (
            f"{millions:,} million",
            per_second,
            cores,
            math.ceil(cores / 64),
            millions * 1e6 / rate / 3600,
        )
        lines.append(" | ".join(x if isinstance(x, str) else f"{x:,.0f}" for x in cells))
    return "\n".join([*lines[:2], *(f"| {line} |" for line in lines[2:])])


def journal_cost(path: Path, files: int) -> tuple[float, float, float]:
    """Seconds per million files to list and to record, and bytes per file, of a journal alone."""
    journal = Journal(path, {})
    begun = time.perf_counter()
    for _ in journal.list_files(Item(f"s3://bucket/folder/{i:012d}.jpg", i, str(i)) for i in range(files)):
        pass
    listed = time.perf_counter()
    names = ("nose", "eye", "eyebrow", "lip", "hair")
    answer = {
        "kind": "photograph",
        "width": 1440,
        "height": 1440,
        "verdict": "real",
        "reason": None,
        "faces": 1,
    }
    answer |= {
        "forged_probability": 0.123456,
        "sequence": [],
        **{f"{n}_probability": 0.123456 for n in names},
    }
    for i, task in enumerate(journal.tasks(judge=True)):
        digest = hashlib.sha256(str(i).encode()).hexdigest()
        journal.record(Outcome(task.path, i, digest, answer=answer))
    recorded = time.perf_counter()
    journal.close()
    scale = 1e6 / files
    return (listed - begun) * scale, (recorded - listed) * scale, path.stat().st_size / files


if __name__ == "__main__":
    main()
