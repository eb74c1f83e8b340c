"""A scan from its sources to its Parquet file: list, hash what may be duplicates, judge, write."""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from forgerank.files import check_outputs
from forgerank.serving.scan.journal import SUFFIXES, Journal, disk_failures
from forgerank.serving.scan.parquet_file import write_rows
from forgerank.serving.scan.pool import Pool
from forgerank.serving.scan.scan_settings import Engine, Judging, ScanSettings, describe, weights_of
from forgerank.serving.scan.sources import Item, is_url, list_items
from forgerank.serving.scan.task_worker import Outcome, Task, TaskWorker
from forgerank.types import InputError

Progress = Callable[[str, int, int | None], None]  # stage, done, total


class Runner(Protocol):
    """What works on tasks."""

    def run(self, tasks: Iterator[Task]) -> Iterator[Outcome]:
        """One outcome per task, in any order."""
        ...


@dataclass(frozen=True, slots=True)
class Done:
    """A finished scan."""

    files: int  # rows of the Parquet file
    judged: int  # files of which this run judged the content; others were duplicates, or done before
    # by kind, the files of the folders that are neither images nor videos and were left out
    others: Counter[str] = field(default_factory=Counter, repr=False, compare=False)


def scan(settings: ScanSettings, progress: Progress = lambda stage, done, total: None) -> Done:
    """Judge every file of the sources and write `settings.out`; goes on where an earlier run was stopped.

    Raises InputError for bad settings and sources, StoppedError where the same command can go on later.
    """
    out = settings.out
    journal_path = out.with_name(f"{out.name}.journal")
    _check_output(out, journal_path)
    named = [Path(source.removeprefix("@")) for source in settings.sources if not is_url(source)]
    check_outputs([out, journal_path], [*named, settings.judging.detector_weights])
    metadata, sha256 = weights_of(settings.judging)
    facts = describe(settings, metadata, sha256)
    journal = Journal(journal_path, facts)
    try:
        others: Counter[str] = Counter()
        for count in journal.list_files(_items(settings, others, _own_files(out, journal_path))):
            progress("Listing", count, None)
        judging = settings.judging.model_copy(update={"weights_sha256": sha256})
        judged = _work(journal, judging, settings, progress)
        files = journal.count_files()
        progress("Writing", 0, None)
        with disk_failures(out):
            write_rows(journal, out, metadata.labels, facts)
        journal.remove()
        return Done(files, judged, others)
    except InputError:
        if not journal.holds_results():  # it would only stand in the way of the corrected command
            journal.remove()
        raise
    finally:
        journal.close()


def _items(
    settings: ScanSettings, others: Counter[str], passed_over: Callable[[Path], bool]
) -> Iterator[Item]:
    for source in settings.sources:
        yield from list_items(
            source,
            settings.judging.storage,
            all_files=settings.all_files,
            others=others,
            passed_over=passed_over,
        )


def _own_files(out: Path, journal: Path) -> Callable[[Path], bool]:
    """Whether a file is one that this scan writes: they may lie in the folder that it searches."""
    names = {out.name, *(f"{journal.name}{suffix}" for suffix in SUFFIXES)}
    folder = os.path.realpath(out.parent)
    return lambda path: path.name in names and os.path.realpath(path.parent) == folder


def _work(journal: Journal, judging: Judging, settings: ScanSettings, progress: Progress) -> int:
    if not journal.count_tasks(judge=False) + journal.count_tasks(judge=True):
        return 0
    judged = 0
    with _open(settings.engine, judging, settings.workers) as runner:
        _stage(journal, runner, "Hashing", progress, judge=False)
        # Once is enough unless a file changes meanwhile: then the next of its duplicates is judged.
        while done := _stage(journal, runner, "Judging", progress, judge=True):
            judged += done
    return judged


def _open(engine: Engine, judging: Judging, workers: int) -> AbstractContextManager[Runner]:
    if engine == "ray":
        from forgerank.serving.scan.ray_cluster import RayCluster

        return RayCluster(judging, workers)
    return Pool(judging, workers, TaskWorker)


def _stage(journal: Journal, runner: Runner, title: str, progress: Progress, *, judge: bool) -> int:
    total = journal.count_tasks(judge=judge)
    if total == 0:
        return 0
    progress(title, 0, total)
    for done, outcome in enumerate(runner.run(journal.tasks(judge=judge)), start=1):
        journal.record(outcome)
        progress(title, done, total)
    return total


def _check_output(out: Path, journal: Path) -> None:
    if not out.absolute().parent.is_dir():
        raise InputError(f"{out}: its folder does not exist")
    if out.is_dir():
        raise InputError(f"{out}: is a folder")
    if out.exists() and not journal.exists():
        raise InputError(f"{out}: is there already; remove it, or name another --out")
