"""A child process ends with its parent, and what it leaves is cleared away first."""

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pytest

from forgerank.files import partial_file, write_atomic
from forgerank.processes import (
    clear_partial_folder,
    move_out,
    partial_folder,
    process_pool,
    sole_writer,
    start_process,
)
from forgerank.types import InputError

PARENT = """
import sys, time
from functools import partial
from pathlib import Path
from forgerank.processes import start_process
from test_processes import report_and_wait

if __name__ == "__main__":
    marker = Path(sys.argv[1])
    start_process(report_and_wait, marker, orphaned=partial(Path.unlink, marker))
    time.sleep(600)
"""
POOL = """
import sys
from pathlib import Path
from forgerank.processes import process_pool
from test_processes import write_and_wait

if __name__ == "__main__":
    with process_pool(1) as pool:
        pool.submit(write_and_wait, Path(sys.argv[1])).result()
"""


def write_and_wait(path: Path) -> None:
    with partial_file(path) as partial:
        partial.touch()
        time.sleep(600)


def report_and_wait(marker: Path) -> None:
    marker.touch()
    time.sleep(600)


def wait_for_existence(path: Path, *, exists: bool) -> None:
    until = time.monotonic() + 60
    while path.exists() != exists:
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.parametrize(("program", "name"), [(PARENT, "marker"), (POOL, "marker.partial")])
def test_the_child_of_a_killed_parent_clears_up_and_ends(program: str, name: str, tmp_path: Path) -> None:
    # The child holds the other end of standard output open for as long as it lives.
    parent = subprocess.Popen(
        [sys.executable, "-c", program, tmp_path / "marker"],
        cwd=Path(__file__).parent,
        stdout=subprocess.PIPE,
    )
    wait_for_existence(tmp_path / name, exists=True)
    parent.kill()
    wait_for_existence(tmp_path / name, exists=False)
    assert parent.communicate(timeout=60) == (b"", None)


def break_off(path: Path) -> None:
    with process_pool(1) as pool:
        pool.submit(write_and_wait, path)
        wait_for_existence(path.with_name(f"{path.name}.partial"), exists=True)
        raise KeyError


def test_a_pool_that_is_broken_off_clears_away_what_it_writes(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        break_off(tmp_path / "file")
    assert list(tmp_path.iterdir()) == []


def break_off_many(path: Path, futures: list[Future[None]]) -> None:
    with process_pool(1) as pool:
        futures += [pool.submit(write_and_wait, path) for _ in range(9)]
        wait_for_existence(path.with_name(f"{path.name}.partial"), exists=True)
        for future in futures:  # as `map` does where an exception comes
            future.cancel()
        raise KeyError


def test_a_pool_that_is_broken_off_with_work_left_ends_without_a_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures: list[object] = []  # of threads
    futures: list[Future[None]] = []
    monkeypatch.setattr(threading, "excepthook", failures.append)
    with pytest.raises(KeyError):
        break_off_many(tmp_path / "file", futures)
    assert failures == []
    assert {type(future.exception()) for future in futures} == {BrokenProcessPool}


def test_a_pool_whose_process_dies_says_so() -> None:
    with pytest.raises(InputError, match="a worker died"), process_pool(1) as pool:
        pool.submit(os._exit, 1).result()


class NoMemoryToImport:
    def __reduce__(self) -> tuple[Any, ...]:
        return no_memory_to_import, ()


def no_memory_to_import(*_: object) -> None:
    raise ImportError("a.so: failed to map segment from shared object")


@pytest.mark.parametrize("start", [(no_memory_to_import,), (print, NoMemoryToImport())])
def test_a_pool_whose_process_has_no_memory_to_begin_says_so_alone(
    start: tuple[Any, ...], capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InputError, match="a worker died"), process_pool(1, *start) as pool:
        pool.submit(print).result()
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("start", [(no_memory_to_import,), (print, NoMemoryToImport())])
def test_a_process_without_memory_ends_with_one_line(
    start: tuple[Any, ...], capfd: pytest.CaptureFixture[str]
) -> None:
    process = start_process(*start)
    process.join()
    assert process.exitcode == 1
    assert capfd.readouterr().err == "forgerank: a process ended: not enough memory\n"


def test_a_folder_that_a_killed_process_filled_is_cleared_away(tmp_path: Path, dead_process: str) -> None:
    left = tmp_path / "out.partial"
    (left / "content").mkdir(parents=True)
    (left / "content" / "half.png").touch()
    with pytest.raises(InputError, match=r"out\.partial: another process"), partial_folder(tmp_path / "out"):
        pass
    (left / "process").write_text(dead_process)
    with partial_folder(tmp_path / "out") as folder:
        assert list(folder.iterdir()) == []
        (folder / "whole.png").touch()
        with pytest.raises(InputError, match="another process"), partial_folder(tmp_path / "out"):
            pass
        folder.replace(tmp_path / "out")
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "whole.png"]
    left.mkdir()  # by a process that was killed as it began
    with pytest.raises(KeyError), partial_folder(tmp_path / "out"):
        raise KeyError
    assert not left.exists()


@pytest.mark.parametrize("last", range(4))
def test_a_removal_that_is_stopped_is_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dead_process: str, last: int
) -> None:
    unlink, removed = os.unlink, []

    def stopped(path: Any, **options: Any) -> None:
        if len(removed) == last:
            raise KeyboardInterrupt  # Ctrl-C for the second time
        removed.append(path)
        unlink(path, **options)

    def fill() -> None:
        with partial_folder(tmp_path / "out") as content:
            for name in ("1.png", "2.png"):
                (content / name).touch()
            write_atomic(content.parent / "moved.json", b"[]")
            patch.setattr(os, "unlink", stopped)
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        fill()
    assert len(removed) == last
    owner = tmp_path / "out.partial" / "process"
    if owner.exists():
        owner.write_text(dead_process)
    clear_partial_folder(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_what_was_moved_out_stays_only_where_all_went_well(tmp_path: Path, dead_process: str) -> None:
    (tmp_path / "other.png").touch()
    with pytest.raises(KeyError):
        move_two(tmp_path, KeyError)
    assert [path.name for path in tmp_path.iterdir()] == ["other.png"]
    move_two(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1.png", "2.png", "other.png"]
    left = tmp_path / "maps.partial"
    left.mkdir()
    (left / "process").write_text(dead_process)
    (left / "moved.json").write_text('["1.png", "2.png", "3.png"]')
    clear_partial_folder(tmp_path / "maps")
    assert [path.name for path in tmp_path.iterdir()] == ["other.png"]


def move_two(folder: Path, error: type[Exception] | None = None) -> None:
    with partial_folder(folder / "maps") as content:
        for name in ("1.png", "2.png"):
            (content / name).touch()
        move_out(content)
        if error:
            raise error


def test_a_folder_that_another_process_has_just_begun_is_left_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("forgerank.processes.clear_partial_folder", lambda path: None)  # both found nothing
    with partial_folder(tmp_path / "out") as content:
        (content / "file").touch()
        with (
            pytest.raises(InputError, match="another process is filling it"),
            partial_folder(tmp_path / "out"),
        ):
            pass
        assert (content / "file").is_file()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the lock may not be there")
def test_one_process_at_a_time_writes_into_a_folder(tmp_path: Path) -> None:
    hold = f"""if True:
        import os, time
        from pathlib import Path
        from forgerank.processes import sole_writer
        with sole_writer(Path({str(tmp_path)!r})):
            if not os.fork():
                print("held", flush=True)  # by its parent; what it held itself it has let go of
            time.sleep(60)
    """
    holder = subprocess.Popen([sys.executable, "-c", hold], stdout=subprocess.PIPE, start_new_session=True)
    assert holder.stdout is not None
    try:
        assert holder.stdout.readline() == b"held\n"
        refused = pytest.raises(InputError, match="another process is writing here")
        with refused, sole_writer(tmp_path):
            pass
        holder.kill()  # its child lives on
        holder.wait()
        with sole_writer(tmp_path):
            assert list(tmp_path.iterdir()) == []
    finally:
        os.killpg(holder.pid, signal.SIGKILL)
        holder.stdout.close()


def test_a_system_without_shared_memory_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("multiprocessing.context.BaseContext.Lock", full)
    reason = r"^worker processes need shared memory, /dev/shm cannot be used \(no space left on device\): "
    with pytest.raises(InputError, match=reason), process_pool(1):
        pass
