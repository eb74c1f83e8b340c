"""The queue on both databases: nothing lost, nothing done twice."""

import multiprocessing
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest
from sqlalchemy import func, select

from forgerank.processes import is_dead, this_process
from forgerank.serving.service.database import completions, open_database, results
from forgerank.serving.service.jobs import Claim, Job, Jobs, QueueFullError
from forgerank.serving.service.service_settings import ServiceSettings
from forgerank.serving.service.uploads import Uploads
from jobqueue import Store


def claimed(store: Store, worker: str = "somewhere 1") -> Claim:
    claim = store.jobs.claim(worker)
    assert claim is not None
    return claim


def now_of(store: Store, job: Job) -> Job:
    found = store.jobs.get(job.id)
    assert found is not None
    return found


def ends(store: Store, job: Job) -> list[str]:
    """The states in which the job ended, one for each time."""
    chosen = select(completions.c.state).where(completions.c.job_id == job.id)
    with store.engine.begin() as connection:
        return list(connection.scalars(chosen))


def test_a_job_from_upload_to_report(store: Store) -> None:
    job = store.submit(b"12345", name="holiday ünï.jpg")
    assert (job.state, job.name, job.size, job.attempts, job.file) == (
        "queued", "holiday ünï.jpg", 5, 0, store.files()[0],
    )  # fmt: skip
    assert len(job.id) == 32
    assert job.created == datetime.fromtimestamp(store.now, UTC)

    claim = claimed(store)
    assert (claim.job.id, claim.job.state, claim.job.attempts) == (job.id, "running", 1)
    assert store.jobs.report(job.id, "json") is None
    assert store.jobs.renew(claim, 0.25, 9.5)
    running = now_of(store, job)
    assert (running.progress, running.seconds_left) == (0.25, 9.5)

    store.now += 5
    assert store.jobs.finish(claim, '{"ü": 1}', "<p>ü</p>")
    done = now_of(store, job)
    assert (done.state, done.progress, done.seconds_left, done.error, done.file) == (
        "done", 1.0, None, None, None,
    )  # fmt: skip
    assert done.finished is not None
    assert done.started is not None
    assert (done.finished - done.started).total_seconds() == 5
    assert (store.jobs.report(job.id, "json"), store.jobs.report(job.id, "html")) == ('{"ü": 1}', "<p>ü</p>")
    assert store.files() == []
    assert ends(store, job) == ["done"]
    assert store.jobs.counts() == {"queued": 0, "running": 0, "done": 1, "failed": 0}


def test_first_come_first_served(store: Store) -> None:
    sent = [store.submit().id for _ in range(5)]
    assert [claimed(store).job.id for _ in range(5)] == sent
    assert store.jobs.claim("somewhere 1") is None


def test_a_failed_job_says_why_in_one_printable_line(store: Store) -> None:
    job = store.submit()
    assert store.jobs.fail(claimed(store), "a\x00b\nc \udcff")
    failed = now_of(store, job)
    assert (failed.state, failed.error) == ("failed", "a\\x00b\\nc \\udcff")
    assert ends(store, job) == ["failed"]
    assert store.files() == []


def test_uploads_are_kept_where_the_settings_say_so(store: Store) -> None:
    store.jobs = store.with_settings(keep_uploads=True)
    job = store.submit()
    store.jobs.finish(claimed(store), "", "")
    assert [now_of(store, job).file] == store.files()
    store.now += 86_401
    assert store.jobs.purge() == 1
    assert store.files() == []


def test_who_lost_the_lease_can_write_no_more(store: Store) -> None:
    job = store.submit()
    first = claimed(store, "first 1")
    store.now += 29
    assert store.jobs.renew(first, 0.1)
    store.now += 29
    assert store.jobs.claim("second 1") is None
    store.now += 2
    second = claimed(store, "second 1")
    assert (second.job.id, second.job.attempts) == (job.id, 2)
    for write in (
        lambda: store.jobs.renew(first, 0.9),
        lambda: store.jobs.finish(first, "first", "first"),
        lambda: store.jobs.fail(first, "first"),
        lambda: store.jobs.release(first),
    ):
        assert not write()
    assert now_of(store, job).state == "running"
    assert store.jobs.finish(second, "second", "second")
    assert not store.jobs.finish(second, "again", "again")
    assert not store.jobs.finish(first, "first", "first")
    assert store.jobs.report(job.id, "json") == "second"
    assert ends(store, job) == ["done"]


def test_a_clock_that_was_set_back_holds_up_no_job(store: Store) -> None:
    job = store.submit()
    first = claimed(store, "first 1")
    store.now -= 29  # as much as the clocks of two machines may differ
    assert store.jobs.claim("second 1") is None
    store.now -= 86_400
    second = claimed(store, "second 1")
    assert (second.job.id, second.job.attempts) == (job.id, 2)
    assert not store.jobs.finish(first, "first", "first")
    assert store.jobs.finish(second, "second", "second")
    assert ends(store, job) == ["done"]


def test_a_late_sign_of_life_counts_while_nobody_else_has_the_job(store: Store) -> None:
    store.submit()
    claim = claimed(store)
    store.now += 1000
    assert store.jobs.renew(claim, 0.5)
    assert store.jobs.claim("other 1") is None
    assert store.jobs.finish(claim, "", "")


def test_a_job_that_kills_its_workers_fails_and_holds_up_nobody(store: Store) -> None:
    deadly, harmless = store.submit(), store.submit()
    assert claimed(store).job.id == deadly.id
    store.now += 31
    claim = claimed(store)
    assert claim.job.id == harmless.id
    store.jobs.finish(claim, "", "")
    for _ in range(2):
        assert claimed(store).job.id == deadly.id
        store.now += 31
    assert store.jobs.claim("somewhere 1") is None
    failed = now_of(store, deadly)
    assert (failed.state, failed.attempts) == ("failed", 3)
    assert str(failed.error).startswith("its worker died while judging it, 3 times")
    assert ends(store, deadly) == ["failed"]
    assert store.files() == []


def test_a_released_job_keeps_its_place_and_its_attempts(store: Store) -> None:
    first, second = store.submit(), store.submit()
    assert store.jobs.release(claimed(store))
    assert (now_of(store, first).state, now_of(store, first).attempts) == ("queued", 0)
    assert [claimed(store).job.id, claimed(store).job.id] == [first.id, second.id]


def test_a_job_that_the_servers_trouble_held_up_waits_ever_longer_and_costs_no_attempt(store: Store) -> None:
    job, sent = store.submit(), store.now
    tried = []
    for _ in range(4):
        while (claim := store.jobs.claim("worker 1")) is None:
            store.now += 10
        tried.append(store.now - sent)
        assert store.jobs.retry(claim, "its disk is full")
    assert tried == [0, 30, 60, 120]
    held_up = now_of(store, job)
    assert (held_up.state, held_up.attempts) == ("queued", 0)
    assert held_up.error == "the server could not judge it yet: its disk is full; it is tried again"
    other = store.submit()
    claim = claimed(store)
    assert claim.job.id == other.id
    assert store.jobs.finish(claim, "", "")

    store.now -= 86_400  # the clock was set back
    claim = claimed(store)
    assert store.jobs.finish(claim, "", "")
    assert (now_of(store, job).state, now_of(store, job).error) == ("done", None)


def test_a_trouble_that_does_not_end_fails_the_job_and_keeps_its_file(store: Store) -> None:
    job = store.submit()
    store.now += store.settings.trouble_seconds - 1
    assert store.jobs.retry(claimed(store), "its disk is full")
    store.now += 3600
    assert store.jobs.retry(claimed(store), "its disk is full")
    failed = now_of(store, job)
    assert failed.state == "failed"
    assert failed.error == "the server could not judge it: its disk is full; the file was kept"
    assert store.files() == [job.file]


def dead_process() -> str:
    done = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True
    )
    return f"{this_process().rpartition(' ')[0]} {done.stdout.strip()}"


def test_who_is_dead() -> None:
    assert is_dead(dead_process())
    assert not is_dead(this_process())
    assert not is_dead("another-machine 1234567")
    assert not is_dead("nonsense")


def test_what_dead_processes_of_this_machine_hold_goes_back_at_once(store: Store) -> None:
    jobs = [store.submit() for _ in range(3)]
    workers = [dead_process(), this_process(), "another-machine 77"]
    claims = [claimed(store, worker) for worker in workers]
    assert store.jobs.requeue_dead() == 1
    assert [now_of(store, job).state for job in jobs] == ["queued", "running", "running"]
    assert not store.jobs.finish(claims[0], "", "")
    assert store.jobs.requeue_dead() == 0


@pytest.mark.parametrize("state", ["queued", "running", "done"])
def test_deleting(store: Store, state: str) -> None:
    job, other = store.submit(), store.submit()
    claim = claimed(store) if state != "queued" else None
    if state == "done":
        assert claim is not None
        store.jobs.finish(claim, "", "")
    assert store.jobs.delete(job.id)
    assert store.jobs.get(job.id) is None
    assert store.jobs.report(job.id, "html") is None
    assert not store.jobs.delete(job.id)
    if claim is not None:
        assert not store.jobs.renew(claim, 0.5)
        assert not store.jobs.finish(claim, "", "")
    assert store.files() == [other.file]
    with store.engine.begin() as connection:
        assert connection.scalar(select(func.count()).select_from(results)) == 0
        assert connection.scalar(select(func.count()).select_from(completions)) == 0


def test_retention(store: Store) -> None:
    old, failed, waiting = (store.submit() for _ in range(3))
    store.jobs.finish(claimed(store), "", "")
    store.jobs.fail(claimed(store), "why")
    store.now += 86_400
    assert store.jobs.purge() == 0
    store.now += 1
    assert store.jobs.purge() == 2
    assert [store.jobs.get(job.id) for job in (old, failed)] == [None, None]
    assert now_of(store, waiting).state == "queued"
    assert store.files() == [waiting.file]


def test_files_that_no_job_knows_are_deleted_after_an_hour(store: Store) -> None:
    job = store.submit()
    orphan, file = store.uploads.create()
    file.close()
    (store.uploads.folder / "notes.txt").touch()
    claim = claimed(store)
    with store.uploads.scratch(claim.token), store.uploads.scratch("0" * 32):
        store.now = time.time() + 3500
        store.jobs.purge()
        assert orphan in store.files()
        store.now += 200
        store.jobs.purge()
        assert store.files() == sorted(["notes.txt", str(job.file), claim.token])


def test_a_full_queue(store: Store) -> None:
    store.jobs = store.with_settings(queue_jobs=2)
    store.submit()
    store.submit()
    with pytest.raises(QueueFullError):
        store.submit()
    claimed(store)
    store.submit()


def take_all(jobs: Jobs, worker: str) -> list[str]:
    taken = []
    while claim := jobs.claim(worker):
        assert jobs.renew(claim, 0.5)
        assert jobs.finish(claim, worker, worker)
        taken.append(claim.job.id)
    return taken


def test_threads_never_get_the_same_job(store: Store) -> None:
    sent = {store.submit().id for _ in range(40)}
    with ThreadPoolExecutor(6) as pool:
        taken = list(pool.map(lambda i: take_all(store.jobs, f"thread {i}"), range(6)))
    assert Counter(job for jobs in taken for job in jobs) == Counter(sent)


def take_all_in_process(settings: ServiceSettings) -> list[str]:
    engine = open_database(settings.database_url)
    return take_all(Jobs(engine, Uploads(settings.data / "uploads"), settings), this_process())


def test_processes_never_get_the_same_job(store: Store) -> None:
    sent = {store.submit().id for _ in range(60)}
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        taken = pool.map(take_all_in_process, [store.settings] * 3, chunksize=1)
    assert Counter(job for jobs in taken for job in jobs) == Counter(sent)
    with store.engine.begin() as connection:
        assert Counter(connection.scalars(select(completions.c.job_id))) == Counter(sent)


def test_a_lapsed_job_goes_to_one_of_many(store: Store) -> None:
    for _ in range(5):
        store.submit()
        claimed(store)
        store.now += 31
        together = threading.Barrier(5)

        def grab(i: int, together: threading.Barrier = together) -> Claim | None:
            together.wait()
            return store.jobs.claim(f"thread {i}")

        with ThreadPoolExecutor(5) as pool:
            claims = [claim for claim in pool.map(grab, range(5)) if claim is not None]
        assert len(claims) == 1
        assert claims[0].job.attempts == 2
        assert store.jobs.finish(claims[0], "", "")


def test_a_claim_is_finished_once(store: Store) -> None:
    job = store.submit()
    claim = claimed(store)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda i: store.jobs.finish(claim, str(i), ""), range(4)))
    assert sorted(answers) == [False, False, False, True]
    assert store.jobs.report(job.id, "json") == str(answers.index(True))
    assert ends(store, job) == ["done"]
