"""Processes that die, hang or refuse cost one file each, and a row says so."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from forgerank.serving.scan.pool import KILLED, Pool
from forgerank.serving.scan.scan_settings import Judging, StoppedError
from forgerank.serving.scan.task_worker import Outcome, Task
from forgerank.types import InputError


class Touchy:
    """Does to its process what the file's name says; writes a line per try into the folder."""

    def __init__(self, judging: Judging, folder: Path) -> None:
        self._log = judging.weights
        assert folder.is_dir()

    def __call__(self, task: Task, identified: Callable[[Outcome], None]) -> Outcome:
        known = Outcome(task.path, 3, "ab" * 32)
        if self._log is not None:
            with open(self._log, "a", encoding="utf-8") as log:
                log.write(f"{task.path}\n")
        if task.judge:
            identified(known)
        if task.path.startswith("die"):
            os.kill(os.getpid(), signal.SIGKILL)
        if task.path.startswith("exit"):
            os._exit(0)
        if task.path.startswith("hang"):
            time.sleep(600)
        if task.path.startswith("full"):
            raise StoppedError("no space")
        return Outcome(task.path, 3, "ab" * 32, answer={"faces": 0} if task.judge else None)


def refuse(judging: Judging, folder: Path) -> Touchy:
    raise InputError("weights: missing")


def die(judging: Judging, folder: Path) -> Touchy:
    os._exit(9)


def outcomes(pool: Pool, *paths: str, judge: bool = True) -> dict[str, Outcome]:
    found = list(pool.run(Task(path, None, judge) for path in paths))
    assert len(found) == len(paths), "a row for every file, and only one"
    return {outcome.path: outcome for outcome in found}


@pytest.mark.parametrize("workers", [1, 3])
def test_a_killer_is_tried_twice_and_costs_nothing_else(workers: int, tmp_path: Path) -> None:
    log = tmp_path / "log"
    good = [f"good {i}" for i in range(8)]
    with Pool(Judging(weights=log), workers, Touchy) as pool:
        found = outcomes(pool, "die 1", *good[:4], "exit 2", *good[4:])
    assert {path: found[path].answer for path in good} == {path: {"faces": 0} for path in good}
    for path in ("die 1", "exit 2"):
        assert found[path] == Outcome(path, 3, "ab" * 32, answer={"error": KILLED})
    tries = log.read_text(encoding="utf-8").splitlines()
    assert sorted(tries) == sorted([*good, "die 1", "die 1", "exit 2", "exit 2"])


def test_a_file_that_kills_before_it_is_hashed_has_no_hash() -> None:
    with Pool(Judging(), 1, Touchy) as pool:
        assert outcomes(pool, "die", judge=False)["die"] == Outcome("die", error=KILLED)


def test_a_file_that_hangs_is_given_up() -> None:
    with Pool(Judging(time_limit=0.3), 2, Touchy) as pool:
        found = outcomes(pool, "hang", "good 1", "good 2")
    assert found["hang"].answer == {"error": "took longer than 0.3 s"}
    assert found["good 2"].answer == {"faces": 0}


def test_processes_killed_from_outside_lose_no_file() -> None:
    killed, found = set[int](), list[Outcome]()
    with Pool(Judging(), 2, Touchy) as pool:
        for outcome in pool.run(Task(f"good {i}", None, True) for i in range(40)):
            found.append(outcome)
            if len(found) in (5, 15, 25):
                victim = pool._workers[0].process
                victim.kill()
                victim.join()
                killed.add(victim.pid or 0)
    assert len(killed) == 3
    assert sorted(outcome.path for outcome in found) == sorted(f"good {i}" for i in range(40))
    assert all(outcome.answer == {"faces": 0} for outcome in found)


def test_a_pool_works_again_after_its_idle_processes_were_killed() -> None:
    with Pool(Judging(), 2, Touchy) as pool:
        outcomes(pool, "good 1", "good 2")
        for worker in pool._workers:
            worker.process.kill()
            worker.process.join()
        assert outcomes(pool, "good 3", "good 4")["good 4"].answer == {"faces": 0}


def test_what_no_file_can_be_blamed_for_ends_the_work() -> None:
    with Pool(Judging(), 2, refuse) as pool, pytest.raises(InputError, match="weights: missing"):
        outcomes(pool, "a", "b")
    with Pool(Judging(), 2, die) as pool, pytest.raises(StoppedError, match="die as they start"):
        outcomes(pool, "a", "b")
    with Pool(Judging(), 2, Touchy) as pool, pytest.raises(StoppedError, match="no space"):
        outcomes(pool, "full", "b")


def test_nothing_is_left_behind() -> None:
    with Pool(Judging(), 1, Touchy) as pool:
        outcomes(pool, "good")
        processes, folder = [worker.process for worker in pool._workers], pool._folder
        assert folder.is_dir()
    assert [process.is_alive() for process in processes] == [False]
    assert not folder.exists()
