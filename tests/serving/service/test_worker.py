"""What a worker makes of its jobs, with a judge that does what the file says."""

import errno
import io
import json
import shutil
import tarfile
import threading
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import odd_worker
import pytest
from sqlalchemy.exc import DatabaseError, IntegrityError, OperationalError

from forgerank.detect.detector import Detector
from forgerank.media.files import MediaError
from forgerank.serving import judge
from forgerank.serving.service import worker
from forgerank.serving.service.archive import StorageError
from forgerank.serving.service.jobs import Job
from forgerank.serving.service.uploads import Kind
from jobqueue import Store


@pytest.fixture
def database(tmp_path: object) -> str:
    return f"sqlite:///{tmp_path}/jobs.sqlite3"


@pytest.fixture(autouse=True)
def odd_judge(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name, substitute in odd_worker.SUBSTITUTES:
        monkeypatch.setattr(module, name, substitute)


def work(store: Store, stop: threading.Event | None = None, **changes: Any) -> bool:
    settings = store.settings.model_copy(update=changes)
    jobs, detector = store.with_settings(**changes), cast(Detector, odd_worker.DETECTOR)
    return worker.work(detector, jobs, store.uploads, settings, stop or threading.Event())


def judged(store: Store, content: bytes, kind: Kind = "photo", **changes: Any) -> Job:
    """The job after one round of a worker; whatever came of it, no file is left."""
    job = store.submit(content, kind, "the file")
    assert work(store, **changes)
    assert store.files() == []
    found = store.jobs.get(job.id)
    assert found is not None
    return found


def report(store: Store, job: Job) -> Any:
    assert (job.state, job.error) == ("done", None)
    return json.loads(str(store.jobs.report(job.id, "json")))


def test_nothing_to_do(store: Store) -> None:
    assert not work(store)


@pytest.mark.parametrize("kind", ["photo", "video"])
def test_one_file(store: Store, kind: Kind) -> None:
    job = judged(store, b"good", kind)
    assert report(store, job) == {"reports": ["the file"], "errors": {}}
    assert store.jobs.report(job.id, "html") == "<p>1 the file"


def test_what_cannot_be_judged_fails_with_its_reason(store: Store) -> None:
    job = judged(store, b"bad")
    assert (job.state, job.error) == ("failed", "the file: not an image")


def test_a_bug_fails_its_job_alone_and_tells_no_secrets(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    job = judged(store, b"bug")
    assert (job.state, job.error) == (
        "failed",
        "could not be judged: an internal error, see the server's log",
    )
    assert "secret inner workings" in caplog.text
    assert judged(store, b"good").state == "done"


def test_a_file_that_is_deleted_while_it_is_judged_is_no_error(
    store: Store, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = store.submit(b"good", "video")

    def hash_too_late(detector: object, path: Path, **options: Any) -> None:
        assert store.jobs.delete(job.id)
        path.read_bytes()

    monkeypatch.setattr(judge, "judge_file", hash_too_late)
    assert work(store)
    assert (store.jobs.get(job.id), store.files(), caplog.text) == (None, [], "")


@pytest.mark.parametrize("kind", ["photo", "video", "archive"])
@pytest.mark.parametrize("whole_folder", [False, True])
def test_an_upload_that_the_server_lost(
    store: Store, caplog: pytest.LogCaptureFixture, kind: Kind, whole_folder: bool
) -> None:
    job = store.submit(zipped(a=b"good") if kind == "archive" else b"good", kind, "the file")
    lost = store.uploads.path(str(job.file))
    shutil.rmtree(lost.parent) if whole_folder else lost.unlink()
    assert work(store)
    failed = store.jobs.get(job.id)
    assert failed is not None
    assert (failed.state, failed.error) == (
        "failed",
        "the server lost the file before it was judged: send it again",
    )
    [logged] = caplog.records
    assert logged.getMessage() == f"job {job.id}: its file was deleted from {lost.parent}"
    assert logged.exc_info is None
    assert judged(store, b"good").state == "done"


def test_what_was_unpacked_and_is_lost_is_the_servers_trouble(
    store: Store, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "_RECOVERY", 0)

    def too_late(detector: object, path: Path, **options: Any) -> None:
        path.unlink()
        raise MediaError(path, "No such file or directory")

    job = store.submit(zipped(a=b"good"), "archive")
    with monkeypatch.context() as patch:
        patch.setattr(judge, "judge_file", too_late)
        assert work(store, attempts=2)
    assert "could not be judged now: what it unpacked was deleted" in caplog.text
    store.now += 30
    assert work(store, attempts=2)
    assert report(store, store.jobs.get(job.id))["errors"] == {}


def test_a_worker_that_cannot_start_says_why_in_one_line(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def none_left(url: str) -> None:
        raise OSError(errno.EMFILE, "Too many open files", "env.py")

    monkeypatch.setattr(worker.signal, "signal", lambda *_: None)
    monkeypatch.setattr(worker, "open_database", none_left)
    with pytest.raises(SystemExit) as end:
        worker.main(store.settings)
    assert end.value.code == 1
    [logged] = caplog.records
    assert logged.getMessage() == "a worker could not start: [Errno 24] Too many open files: 'env.py'"
    assert logged.exc_info is None


def test_a_member_that_the_server_cannot_read_is_tried_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "_RECOVERY", 0)

    def starved(detector: object, path: Path, **options: Any) -> None:
        raise MediaError(path, "not enough memory to decode it") from MemoryError()

    job = store.submit(zipped(a=b"good"), "archive")
    with monkeypatch.context() as patch:
        patch.setattr(judge, "judge_file", starved)
        assert work(store, attempts=2)
    store.now += 30
    assert work(store, attempts=2)
    assert report(store, store.jobs.get(job.id)) == {"reports": ["a"], "errors": {}}


def zipped(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def test_a_bad_member_costs_no_other(store: Store) -> None:
    members = {"a.jpg": b"good", "../b": b"bad", "c": b"bug", "d.zip": zipped(e=b""), "f.mp4": b"good"}
    job = judged(store, zipped(**members), "archive")
    assert report(store, job) == {
        "reports": ["a.jpg", "f.mp4"],
        "errors": {
            "../b": "not an image",
            "c": "could not be judged: an internal error, see the server's log",
            "d.zip": "an archive in an archive is not opened",
        },
    }
    assert store.jobs.report(job.id, "html") == "<p>1 a.jpg<p>2 f.mp4"


def test_lists_of_edits_are_named_by_kind_and_hide_no_image(store: Store) -> None:
    members = {"a.jpg": b"good", "a.AAE": b"<plist/>", "b.aae": b"<plist/>", "c.xmp": b"\xff\xd8\xff\xe0"}
    assert report(store, judged(store, zipped(**members), "archive")) == {
        "reports": ["a.jpg"],
        "errors": {
            "c.xmp": "a JPEG file named as a list of edits: rename it",
            "the file": "2 edit lists (AAE 2) were not read: such a file says how an application changed a "
            "photograph",
        },
    }


def test_a_name_that_is_a_guess_comes_with_its_bytes(store: Store) -> None:
    content = (
        zipped(aaaa=b"good", bbbb=b"bad").replace(b"aaaa", b"\xe4\xae\xe2\xae").replace(b"bbbb", b"\xff" * 4)
    )
    found = report(store, judged(store, content, "archive"))
    [name], [failed] = found["reports"], found["errors"]
    assert name.endswith(" (a guess; the archive has the bytes e4 ae e2 ae)")
    assert failed.endswith(" (a guess; the archive has the bytes ff ff ff ff)")


@pytest.mark.parametrize(
    ("trouble", "told"),
    [
        (StorageError("its disk is full"), "its disk is full"),
        (OSError(errno.ENOSPC, "No space left"), "its disk is full"),
        (RuntimeError("std::bad_alloc"), "it is out of memory"),
    ],
)
def test_the_servers_trouble_is_not_told_as_the_users(
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    trouble: Exception,
    told: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(worker, "_RECOVERY", 0)
    job = store.submit(zipped(a=b"good"), "archive", "the file")

    def full(*arguments: object, **options: object) -> None:
        raise trouble

    with monkeypatch.context() as patch:
        patch.setattr(worker, "report_job", full)
        assert work(store, attempts=3)
    again = store.jobs.get(job.id)
    assert again is not None
    assert (again.state, again.attempts) == ("queued", 0)
    assert again.error == f"the server could not judge it yet: {told}; it is tried again"
    assert store.files() == [job.file]
    assert f"could not be judged now: {told}" in caplog.text

    monkeypatch.setattr(worker, "report_job", full)
    assert not work(store)
    store.now += store.settings.trouble_seconds
    assert work(store)
    failed = store.jobs.get(job.id)
    assert failed is not None
    assert (failed.state, failed.error) == (
        "failed",
        f"the server could not judge it: {told}; the file was kept",
    )
    assert store.files() == [job.file]


def test_a_job_that_failed_for_the_servers_trouble_is_forgotten_with_its_file(store: Store) -> None:
    job = store.submit()
    store.with_settings(trouble_seconds=0).retry(store.jobs.claim("test"), "full")  # type: ignore[arg-type]
    store.now += store.settings.retention_seconds + 1
    assert store.jobs.purge() == 1
    assert (store.jobs.get(job.id), store.files()) == (None, [])


def test_an_archive_that_breaks_off_is_judged_so_far(store: Store) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in {"a.jpg": b"good", "zeros": bytes(60_000_000), "c.jpg": b"good"}.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    job = judged(store, buffer.getvalue(), "archive")
    reason = "expands to more than 10000000 bytes, the most that is read of it; the rest of it was not read"
    assert report(store, job) == {"reports": ["a.jpg"], "errors": {"the file": reason}}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (zipped(), "the file: holds no file"),
        (
            zipped(zeros=bytes(60_000_000)),
            "the file: expands to more than 10000000 bytes, the most that is read",
        ),
        (b"\x1f\x8bnonsense", "the file: damaged archive, or no tar in it"),
    ],
)
def test_an_archive_that_gives_nothing_fails(store: Store, content: bytes, reason: str) -> None:
    job = judged(store, content, "archive")
    assert (job.state, str(job.error)[: len(reason)]) == ("failed", reason)


def while_it_runs(store: Store, job: Job, act: Callable[[], object], **changes: Any) -> None:
    """Acts once the worker has told some progress; returns when the worker is done with the job."""
    thread = threading.Thread(target=work, args=(store,), kwargs=changes)
    thread.start()
    until = time.monotonic() + 60
    while (now := store.jobs.get(job.id)) is None or now.progress == 0:
        assert time.monotonic() < until
        time.sleep(0.01)
    assert now.state == "running"
    act()
    thread.join(60)
    assert not thread.is_alive()


def test_deleting_a_video_stops_it(store: Store) -> None:
    job = store.submit(b"slow", "video")
    while_it_runs(store, job, lambda: store.jobs.delete(job.id), lease_seconds=0.3)
    assert store.jobs.get(job.id) is None
    assert store.files() == []


def test_deleting_an_archive_stops_it(store: Store) -> None:
    job = store.submit(zipped(**{f"{i}": b"good" for i in range(3)}, slow=b"slow", last=b"good"), "archive")
    while_it_runs(store, job, lambda: store.jobs.delete(job.id), lease_seconds=0.3)
    assert store.jobs.get(job.id) is None
    assert store.files() == []


def test_a_worker_that_is_told_to_stop_gives_its_job_back(store: Store) -> None:
    job = store.submit(b"slow", "video")
    stop = threading.Event()
    while_it_runs(store, job, stop.set, stop=stop, lease_seconds=0.3)
    back = store.jobs.get(job.id)
    assert back is not None
    assert (back.state, back.attempts, back.progress) == ("queued", 0, 0)
    assert store.files() == [job.file]


def test_a_job_may_not_take_for_ever(store: Store) -> None:
    job = judged(store, b"slow", "video", job_seconds=0.2, lease_seconds=0.3)
    assert (job.state, job.error) == ("failed", "took longer than 0.2 seconds")


class AtOnce(threading.Event):
    """Waits for nothing, and keeps for how long it was asked to."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[float | None] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.asked.append(timeout)
        return self.is_set()


@pytest.mark.parametrize(
    "away",
    [
        OperationalError("UPDATE", {}, Exception("database or disk is full")),
        DatabaseError("UPDATE", {}, Exception("database disk image is malformed")),
    ],
)
def test_a_database_that_is_away_for_a_while(away: DatabaseError, caplog: pytest.LogCaptureFixture) -> None:
    answers: list[object] = [away, away, True]

    def write() -> object:
        match answers.pop(0):
            case DatabaseError() as error:
                raise error
            case answer:
                return answer

    stop = AtOnce()
    assert worker._insist(write, stop) is True
    assert stop.asked == [1, 2]
    answers = [away, True]
    with pytest.raises(SystemExit):
        worker._insist(write, stop, -1)
    stop.set()
    answers = [away, True]
    with pytest.raises(SystemExit):
        worker._insist(write, stop)
    assert caplog.messages[-1] == f"the database does not answer ({away.orig}): the worker ends"


def test_a_statement_that_is_wrong_is_not_asked_again() -> None:
    def write() -> object:
        raise IntegrityError("UPDATE", {}, Exception("a foreign key"))

    with pytest.raises(IntegrityError):
        worker._insist(write, AtOnce())
