"""Hostile files by the hundred thousand: every one is answered or refused in one line, in time and in memory.

    python benchmarks/fuzz.py --inputs 100000 --seed 0 --workers 2 --log docs/results/fuzz.md

An input follows from the seed and its number: `--only NUMBER` repeats one in this process, its traceback
shown, and `--save FILE` keeps it. Workers are processes of their own with limited memory; the parent ends one
that takes too long and notices one that dies. What was done is kept beside the log, in FILE.partial, so that
the same command goes on after a stop. Exit code 1 if anything but answers and refusals was found.
"""

import argparse
import json
import multiprocessing as mp
import os
import platform
import re
import resource
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import version
from multiprocessing.connection import wait
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from rich.progress import Progress

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests" / "fuzz"), str(ROOT / "tests")]

# How often each kind comes, relative to the others. Inputs that are judged, and bombs, take longest.
SHARES = {"photograph": 450, "photograph, judged": 40, "bomb": 2, "video": 290, "video, judged": 40}
SHARES |= {"network": 40, "description": 30, "archive": 20, "results": 15, "report": 15}
READER = 5  # of each reader of annotations
BLOCK = 100  # inputs between two notes of what was found
SECONDS = 60.0  # of processor time that one input may take: a busy machine makes no input slow
STARTING = 300.0  # seconds of processor time that a worker may take to import everything
PATIENCE = 20  # times as long by the clock, for what waits and does not work
MEMORY = 4 << 30  # bytes that one worker may have
BAD = ("crash", "hang", "error")  # outcomes that must not be
KEPT = ROOT / "runs" / "fuzz"  # inputs that led to one


class Found(NamedTuple):
    """What one input led to."""

    number: int
    kind: str
    outcome: str  # "answered", "refused: WHY", or one of BAD and what happened
    seconds: float  # of processor time
    memory: int  # bytes that the worker has held at most, so far


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--inputs", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--log", type=Path, help="Markdown")
    parser.add_argument("--only", type=int, metavar="NUMBER", help="run this one alone")
    parser.add_argument("--save", type=Path, metavar="FILE", help="with --only: keep the input")
    options = parser.parse_args()
    if options.only is not None:
        return run_one(options.seed, options.only, options.save)
    partial = None if options.log is None else options.log.with_suffix(".partial")
    log = Log(options.seed, partial)
    with Progress() as bar:
        task = bar.add_task("Hostile inputs", total=options.inputs, completed=log.inputs)
        for block, found in run_blocks(log.missing(options.inputs), options.seed, options.workers):
            log.add(block, found)
            bar.update(task, completed=log.inputs)
    text = log.text(options.workers)
    print(text)
    if options.log is not None:
        options.log.write_text(text, encoding="utf-8")
        partial.unlink(missing_ok=True)
    return 1 if log.state["bad"] else 0


def kind_of(number: int) -> str:
    """The kind of an input."""
    from readers import READERS

    shares = SHARES | dict.fromkeys(READERS, READER)
    return Random(f"kind of {number}").choices(list(shares), list(shares.values()))[0]


def make(seed: int, number: int) -> bytes:
    """The content of an input."""
    from targets import KINDS

    return KINDS[kind_of(number)].make(Random(f"{seed}:{number}"))


def run_one(seed: int, number: int, save: Path | None) -> int:
    from targets import answer

    from priority import ordinary_priority

    content = make(seed, number)
    ordinary_priority()
    if save is not None:
        save.parent.mkdir(parents=True, exist_ok=True)
        save.write_bytes(content)
    print(f"{number}: {kind_of(number)}, {len(content)} bytes", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        print(answer(kind_of(number), content, Path(folder)))
    return 0


def work(pipe: Any, seed: int) -> None:
    """A worker: a number in, what it led to out."""
    import warnings

    from targets import answer, detector

    from priority import ordinary_priority

    warnings.simplefilter("ignore")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # libtiff and FFmpeg print warnings
    detector()
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))  # all that is written to, libraries left out
    pipe.send(None)
    while (number := pipe.recv()) is not None:
        kind, start = kind_of(number), time.process_time()
        with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
            try:
                content = make(seed, number)
                ordinary_priority()
                start = time.process_time()
                outcome = reason(answer(kind, content, Path(folder)).replace(folder, ""))
            except Exception as error:
                place = traceback.extract_tb(error.__traceback__)[-1]
                outcome = f"error: {type(error).__name__} at {Path(place.filename).name}:{place.lineno}"
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        pipe.send(Found(number, kind, outcome, time.process_time() - start, peak))


def reason(answer: str) -> str:
    """An answer as its class: numbers, quoted texts and details in brackets left out.

    >>> reason("MediaError: /a: truncated or damaged image (at 7)"), reason("answered")
    ('refused: truncated or damaged image', 'answered')
    """
    if answer == "answered":
        return answer
    if any(words in answer for words in ("not enough memory", "MemoryError", "Unable to allocate")):
        return "error: out of memory"
    text = re.sub(r"\(.*|\[.*|'.*|\".*", "", answer.partition(": ")[2])
    text = re.sub(r"^[^:]*: (?=\w)", "", text)
    return f"refused: {re.sub(r'[0-9]+', '#', text).strip(' :')[:60]}"


class Worker:
    """A process, the numbers of its block, and when it began with the current one."""

    def __init__(self, seed: int) -> None:
        self.seed, self.block, self.todo = seed, -1, deque[int]()
        self.found: list[Found] = []
        self._start()

    def _start(self) -> None:
        context = mp.get_context("spawn")
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=work, args=(other, self.seed), daemon=True)
        self.process.start()
        other.close()
        self.number: int | None = None
        self._begin(STARTING)

    def _begin(self, limit: float) -> None:
        self.limit, self.began, self.worked = limit, time.monotonic(), processor_time(self.process.pid)

    def hangs(self) -> bool:
        """Whether what it is at takes too long."""
        waited = time.monotonic() - self.began
        return waited > self.limit and (
            processor_time(self.process.pid) - self.worked > self.limit or waited > PATIENCE * self.limit
        )

    def take(self, block: int | None) -> None:
        """Begin a block; None: there is no more."""
        self.found = []
        self.block, self.todo = -1 if block is None else block, deque()
        if block is not None:
            self.todo.extend(range(block * BLOCK, (block + 1) * BLOCK))

    def next(self) -> None:
        self.number = self.todo.popleft() if self.todo else None
        self._begin(SECONDS)
        if self.number is not None:
            self.pipe.send(self.number)

    def lost(self, why: str) -> None:
        """Record why the process ended, keep the input, and start another process."""
        self.process.kill()
        self.process.join()
        if self.number is None:
            raise SystemExit(f"a worker does not start: {why}")
        self.found.append(Found(self.number, kind_of(self.number), why, SECONDS, 0))
        keep = KEPT / f"{self.seed}-{self.number}.bin"
        command = [sys.executable, __file__, "--seed", str(self.seed), "--only", str(self.number)]
        with suppress(subprocess.TimeoutExpired):  # saved first, then run
            command += ["--save", str(keep)]
            subprocess.run(command, capture_output=True, timeout=STARTING, check=False)
        self._start()


def processor_time(pid: int | None) -> float:
    """Seconds that a process has worked; on systems that do not tell, the clock's."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return time.monotonic()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def run_blocks(blocks: list[int], seed: int, count: int) -> Iterator[tuple[int, list[Found]]]:
    """Every block with what was found in it, in the order of their ends."""
    waiting = deque(blocks)
    workers = [Worker(seed) for _ in range(min(count, len(blocks)))]
    for worker in workers:
        worker.take(waiting.popleft())
    while busy := [worker for worker in workers if worker.block >= 0]:
        ready = wait([worker.pipe for worker in busy], timeout=1.0)
        for worker in busy:
            if worker.pipe in ready:
                try:
                    found = worker.pipe.recv()
                except (EOFError, OSError):
                    worker.process.join(10)
                    worker.lost(f"crash: exit code {worker.process.exitcode}")
                    continue
                if found is not None:
                    worker.found.append(found)
                if not worker.todo:
                    yield worker.block, worker.found
                    worker.take(waiting.popleft() if waiting else None)
                worker.next()
            elif worker.hangs():
                worker.lost(f"hang: more than {SECONDS:.0f} s")
    for worker in workers:
        worker.process.kill()


class Log:
    """What was found so far, kept in a file after every block."""

    def __init__(self, seed: int, file: Path | None) -> None:
        self.file = file
        self.state: dict[str, Any] = {"seed": seed, "blocks": [], "counts": {}, "bad": [], "slowest": []}
        self.state |= {"memory": 0, "seconds": 0.0}
        if file is not None and file.is_file():
            earlier = json.loads(file.read_text(encoding="utf-8"))
            if earlier["seed"] == seed:
                self.state = earlier
        self._since = time.monotonic()

    @property
    def inputs(self) -> int:
        return len(self.state["blocks"]) * BLOCK

    def missing(self, inputs: int) -> list[int]:
        done = set(self.state["blocks"])
        return [block for block in range(-(-inputs // BLOCK)) if block not in done]

    def add(self, block: int, found: list[Found]) -> None:
        state = self.state
        state["blocks"].append(block)
        for item in found:
            counts = state["counts"].setdefault(item.kind, {})
            counts[item.outcome] = counts.get(item.outcome, 0) + 1
            state["memory"] = max(state["memory"], item.memory)
            if item.outcome.startswith(BAD):
                state["bad"].append([item.number, item.kind, item.outcome])
        slowest = state["slowest"] + [[round(item.seconds, 2), item.number, item.kind] for item in found]
        state["slowest"] = sorted(slowest, reverse=True)[:5]
        now = time.monotonic()
        state["seconds"] += now - self._since
        self._since = now
        if self.file is not None:
            self.file.write_text(json.dumps(state), encoding="utf-8")

    def text(self, workers: int) -> str:
        """The log as Markdown."""
        state = self.state
        lines = [
            "# Fuzzing",
            "",
            f"{self.inputs} hostile inputs with seed {state['seed']}, {state['seconds']:.0f} s in {workers} "
            f"processes of at most {MEMORY >> 30} GiB; {len(state['bad'])} crashes, hangs or tracebacks.",
            f"Most memory of a process: {state['memory'] >> 20} MiB. Python {platform.python_version()}, "
            f"{', '.join(f'{name} {version(name)}' for name in ('pillow', 'av', 'onnxruntime', 'numpy'))}.",
            "",
            "```bash",
            f"python benchmarks/fuzz.py --inputs {self.inputs} --seed {state['seed']} --workers {workers} "
            "--log docs/results/fuzz.md",
            "```",
            "",
            "| kind | inputs | answered | refused | crash, hang, traceback | most frequent reasons |",
            "|---|---|---|---|---|---|",
            *(_row(kind, Counter(counts)) for kind, counts in sorted(state["counts"].items())),
            "",
            "Slowest: "
            + "; ".join(f"{seconds} s, number {number}, {kind}" for seconds, number, kind in state["slowest"])
            + ".",
        ]
        lines += [f"\n- `--only {number}`, {kind}: {outcome}" for number, kind, outcome in state["bad"]]
        return "\n".join(lines) + "\n"


def _row(kind: str, counts: Counter[str]) -> str:
    bad = sum(count for outcome, count in counts.items() if outcome.startswith(BAD))
    refused = Counter({o.partition(": ")[2]: n for o, n in counts.items() if o.startswith("refused")})
    reasons = "; ".join(f"{text.replace('|', '/')} {count}" for text, count in refused.most_common(3))
    return f"| {kind} | {counts.total()} | {counts['answered']} | {refused.total()} | {bad} | {reasons} |"


if __name__ == "__main__":
    sys.exit(main())
