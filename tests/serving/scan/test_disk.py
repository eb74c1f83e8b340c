"""A full disk: one line, nothing corrupt, and the scan goes on when there is room."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from forgerank.serving.scan.run import scan
from forgerank.serving.scan.scan_settings import ScanSettings, StoppedError
from forgerank.serving.scan.task_worker import Task, TaskWorker

STEP = 512 * 1024  # bytes more room per try; SQLite's log grows to 4 MiB before it is used again


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("a small file system can only be mounted by root")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def fill(path: Path) -> int:
    """Writes until nothing fits any more; how many bytes that took."""
    with open(path, "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(65_536))
        except OSError:
            return file.tell()


def test_it_stops_with_one_line_wherever_room_ends_and_goes_on(
    small_disk: Path, immediate: Callable[..., Any], settings: Callable[..., ScanSettings], tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for i in range(200):
        (folder / f"{i:03d}-{'x' * 40}.jpg").write_bytes(bytes([i]) * (i + 1))
    immediate()
    scan(settings(folder, out=tmp_path / "whole.parquet"))
    chosen = settings(folder, out=small_disk / "results.parquet")
    filler, lines, stages, judged = small_disk / "filler", list[str](), set[str](), 0
    size = fill(filler)
    while not chosen.out.exists():
        runner, stage = immediate(), ["Opening"]
        try:
            scan(chosen, lambda name, done, total, stage=stage: stage.append(name))
        except StoppedError as error:
            lines.append(str(error))
            stages.add(stage[-1])
            os.truncate(filler, size := size - STEP)
        judged += sum(task.judge for task in runner.seen)
    assert stages >= {"Opening", "Judging"}, "room ended in as many places"
    assert all("no space left on the disk; make room and repeat the command" in line for line in lines)
    assert judged <= 200 + len(lines), "at most the one in hand is judged again"
    assert pq.read_table(chosen.out).equals(pq.read_table(tmp_path / "whole.parquet"))
    assert sorted(path.name for path in small_disk.iterdir()) == ["filler", "results.parquet"]


def test_no_room_for_the_results(
    small_disk: Path, immediate: Callable[..., Any], settings: Callable[..., ScanSettings], media: Path
) -> None:
    immediate()
    chosen = settings(media / "*.png", out=small_disk / "results.parquet")

    def told(stage: str, done: int, total: int | None) -> None:
        if stage == "Writing":
            fill(small_disk / "filler")

    with pytest.raises(StoppedError, match=r"results.parquet: no space left on the disk; make room and"):
        scan(chosen, told)
    assert not list(small_disk.glob("*.parquet*partial"))
    assert not chosen.out.exists()
    (small_disk / "filler").unlink()
    runner = immediate()
    scan(chosen)
    assert runner.seen == []
    assert [path.name for path in small_disk.iterdir()] == ["results.parquet"]


def test_no_room_for_a_copy_is_not_the_fault_of_the_file(
    small_disk: Path, settings: Callable[..., ScanSettings]
) -> None:
    from fsspec.implementations.memory import MemoryFileSystem

    MemoryFileSystem().pipe("/disk/a.jpg", b"text" * 50_000)
    judge = TaskWorker(settings("unused").judging, small_disk)
    fill(small_disk / "filler")
    with pytest.raises(StoppedError, match="no space left on the disk for copies"):
        judge(Task("memory:///disk/a.jpg", None, True), lambda outcome: None)
    (small_disk / "filler").unlink()
    outcome = judge(Task("memory:///disk/a.jpg", None, True), lambda outcome: None)
    assert outcome.answer is not None
    assert outcome.answer["error"].startswith("not an image")
    assert not list(small_disk.iterdir())
