"""Every route over a real socket, and every error as problem details."""

import errno
import io
import logging
import re
import socket
import threading
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy.exc import OperationalError

from forgerank import __version__
from forgerank.report.schema import ReportFile
from forgerank.serving.service import app as application
from forgerank.serving.service import logs, photos
from forgerank.serving.service.keys import Keys
from forgerank.serving.service.logs import ACCESS_LOG
from forgerank.serving.service.routes import prefers_html
from forgerank.serving.web import page_server

Start = Callable[..., Any]
NO_JOB = "/v1/jobs/" + "0" * 32


def problem(answer: httpx.Response, status: int) -> str:
    """The detail of an answer, after its form was checked."""
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert (body["type"], body["status"]) == ("about:blank", status)
    assert body["title"]
    assert "Traceback" not in answer.text
    assert "\n" not in body["detail"]
    return str(body["detail"])


def figure(client: httpx.Client, name: str, **labels: str) -> float:
    families = text_string_to_metric_families(client.get("/metrics").text)
    samples = [sample for family in families for sample in family.samples if sample.name == name]
    return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_photograph_is_answered_at_once(start: Start, photo: bytes) -> None:
    live = start()
    answer = live.client.post("/v1/detect", params={"name": "cat.jpg"}, content=photo)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    (entry,) = ReportFile.model_validate_json(answer.content).reports
    assert (entry.path, entry.verdict, entry.width) == ("cat.jpg", "undetermined", 256)
    assert figure(live.client, "forgerank_verdicts_total", verdict="undetermined") == 1
    assert figure(live.client, "forgerank_batch_photographs_count") == 1


def test_head_is_get_without_the_body(start: Start, photo: bytes) -> None:
    live = start(web=True)
    job = live.client.post("/v1/jobs", content=photo).json()["id"]
    for path in ("/healthz", "/version", "/openapi.json", "/docs", "/v1/jobs", f"/v1/jobs/{job}", "/"):
        get, head = live.client.get(path), live.client.head(path)
        assert (head.status_code, head.content) == (200, b""), path
        dated = {"date", "content-length"} if path.startswith("/v1") else {"date"}  # the job may have begun
        assert {*head.headers.items()} >= {item for item in get.headers.items() if item[0] not in dated}
    assert live.client.head(NO_JOB).status_code == 404
    assert live.client.head("/v1/detect").headers["allow"] == "POST"
    assert figure(live.client, "forgerank_requests_total", method="HEAD", route="/version", status="200") == 1


def test_a_report_says_that_it_is_thorough(start: Start, photo: bytes) -> None:
    live = start()
    for thorough in (False, True):
        answer = live.client.post("/v1/detect", params={"thorough": thorough}, content=photo)
        assert answer.json()["model"]["thorough"] is thorough
        job = live.client.post("/v1/jobs", params={"thorough": thorough}, content=photo).json()
        assert job["thorough"] is thorough
        claim = live.service.jobs.claim("test")
        assert claim.job.thorough is thorough
    assert problem(live.client.post("/v1/detect", params={"thorough": "very"}, content=photo), 422)


def test_a_server_that_cannot_start_raises_what_it_lacks(
    start: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    live = start()

    def no_thread() -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(live.service, "start", no_thread)
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        pytest.raises(RuntimeError, match="new thread"),
    ):
        application.Server(live.app).run([listener])
    assert caplog.messages == []


def test_photographs_of_one_moment_share_a_batch(start: Start, photo: bytes) -> None:
    live = start()
    live.detector.gate.clear()

    def ask(name: str) -> None:
        httpx.post(f"{live.url}/v1/detect", params={"name": name}, content=photo, timeout=60)

    asking = [threading.Thread(target=ask, args=(name,)) for name in "abcde"]
    asking[0].start()
    until(lambda: len(live.detector.batches) == 1)
    for thread in asking[1:]:
        thread.start()
    until(lambda: live.service.batcher.waiting == 4)
    assert figure(live.client, "forgerank_waiting", queue="photographs") == 4
    live.detector.gate.set()
    for thread in asking:
        thread.join()
    assert [sorted(batch) for batch in live.detector.batches] == [["a"], ["b", "c", "d", "e"]]


def test_a_full_queue_says_when_to_come_back(start: Start, photo: bytes) -> None:
    live = start(queue_photos=1)
    live.detector.gate.clear()
    thread = threading.Thread(target=lambda: httpx.post(f"{live.url}/v1/detect", content=photo, timeout=60))
    thread.start()
    until(lambda: len(live.detector.batches) == 1)
    answer = live.client.post("/v1/detect", content=photo)
    problem(answer, 503)
    assert int(answer.headers["retry-after"]) > 0
    live.detector.gate.set()
    thread.join()
    assert live.client.post("/v1/detect", content=photo).status_code == 200


def test_who_hangs_up_is_not_judged(start: Start, photo: bytes) -> None:
    live = start()
    live.detector.gate.clear()
    thread = threading.Thread(target=lambda: httpx.post(f"{live.url}/v1/detect", content=photo, timeout=60))
    thread.start()
    until(lambda: len(live.detector.batches) == 1)
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{live.url}/v1/detect?name=gone", content=photo, timeout=httpx.Timeout(60, read=0.5))
    until(lambda: figure(live.client, "forgerank_requests_total", route="/v1/detect", status="400") == 1)
    live.detector.gate.set()
    thread.join()
    assert live.client.post("/v1/detect?name=last", content=photo).status_code == 200
    assert ["gone"] not in live.detector.batches


def test_what_takes_too_long_is_given_up(start: Start, photo: bytes) -> None:
    live = start(photo_seconds=0.5)
    with live.service.photos.decoders.decoding(io.BytesIO(photo), "first", 10**6, "test") as answer:
        answer.result(60)  # a process takes its time to begin
    live.detector.gate.clear()
    answer = live.client.post("/v1/detect", content=photo)
    assert "0.5 seconds" in problem(answer, 503)
    assert "retry-after" in answer.headers
    live.detector.gate.set()
    assert live.client.post("/v1/detect", content=photo).status_code == 200


def test_one_image_that_breaks_the_detector_is_one_500(start: Start, photo: bytes) -> None:
    live = start()
    detail = problem(live.client.post("/v1/detect?name=poison", content=photo), 500)
    assert "secret" not in detail
    assert live.client.post("/v1/detect", content=photo).status_code == 200
    until(lambda: figure(live.client, "forgerank_requests_total", route="/v1/detect", status="500") == 1)


def test_a_job_from_its_upload_to_its_end(start: Start, photo: bytes) -> None:
    live = start()
    client = live.client
    answer = client.post("/v1/jobs", files={"file": ("../../etc/cat.jpg", photo)})
    job = answer.json()
    assert (answer.status_code, answer.headers["location"]) == (202, f"/v1/jobs/{job['id']}")
    assert (job["kind"], job["name"], job["size"], job["state"]) == ("photo", "cat.jpg", len(photo), "queued")
    assert [path.read_bytes() for path in live.service.uploads.folder.iterdir()] == [photo]
    assert figure(client, "forgerank_jobs", state="queued") == 1
    at = answer.headers["location"]
    waiting = client.get(f"{at}/report")
    assert "queued" in problem(waiting, 409)
    assert "retry-after" in waiting.headers

    claim = live.service.jobs.claim("test")
    assert client.get(at).json()["state"] == "running"
    assert live.service.jobs.finish(claim, '{"reports": []}', "<p>page</p>")
    done = client.get(at).json()
    assert (done["state"], done["report"], done["progress"]) == ("done", f"{at}/report", 1.0)
    report = client.get(f"{at}/report")
    assert (report.json(), report.headers["content-type"]) == ({"reports": []}, "application/json")
    assert report.headers["vary"] == "Accept"

    assert client.delete(at).status_code == 204
    for gone in (client.get(at), client.get(f"{at}/report"), client.delete(at)):
        problem(gone, 404)


@pytest.mark.parametrize(
    ("query", "accept", "html"),
    [
        ("", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", True),
        ("?format=html", "application/json", True),
        ("?format=json", "text/html", False),
        ("", "*/*", False),
    ],
)
def test_a_report_is_a_page_for_those_who_want_one(
    start: Start, photo: bytes, query: str, accept: str, html: bool
) -> None:
    live = start()
    at = live.client.post("/v1/jobs", content=photo).headers["location"]
    live.service.jobs.finish(live.service.jobs.claim("test"), "{}", "<p>page</p>")
    answer = live.client.get(f"{at}/report{query}", headers={"Accept": accept})
    assert answer.text == ("<p>page</p>" if html else "{}")
    if html:
        assert "sandbox" in answer.headers["content-security-policy"]
        assert answer.headers["content-type"] == "text/html; charset=utf-8"


@pytest.mark.parametrize(
    ("accept", "html"),
    [
        ("text/html;q=0.5, application/json;q=0.4", True),
        ("text/html;q=0.4, application/json;q=0.5", False),
        ("text/html;q=x", False),
        ("text/*", True),
        ("", False),
        (";;,,q=1", False),
    ],
)
def test_preference(accept: str, html: bool) -> None:
    assert prefers_html(accept) is html


def test_a_failed_job_says_why(start: Start, photo: bytes) -> None:
    live = start()
    at = live.client.post("/v1/jobs", content=photo).headers["location"]
    live.service.jobs.fail(live.service.jobs.claim("test"), "cat.jpg: truncated")
    assert live.client.get(at).json()["error"] == "cat.jpg: truncated"
    assert "cat.jpg: truncated" in problem(live.client.get(f"{at}/report"), 409)


def test_jobs_beyond_the_limit_are_refused_and_leave_no_file(start: Start, photo: bytes) -> None:
    live = start(queue_jobs=1)
    assert live.client.post("/v1/jobs", content=photo).status_code == 202
    answer = live.client.post("/v1/jobs", content=photo)
    problem(answer, 503)
    assert "retry-after" in answer.headers
    assert len(list(live.service.uploads.folder.iterdir())) == 1


def test_a_job_takes_archives_and_refuses_what_is_not_read(start: Start, photo: bytes) -> None:
    live = start(photo_bytes=len(photo) - 1)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("cat.jpg", photo)
    job = live.client.post("/v1/jobs", content=buffer.getvalue()).json()
    assert (job["kind"], job["name"]) == ("archive", "archive")
    problem(live.client.post("/v1/jobs", content=b"just text"), 415)
    packed = problem(live.client.post("/v1/jobs", content=b"Rar!\x1a\x07\x01\0" + bytes(99)), 415)
    assert "an archive (RAR) of a kind that is not read: pack its files as zip or tar" in str(packed)
    psd = problem(live.client.post("/v1/jobs", content=b"8BPS\0\1" + bytes(99)), 415)
    assert "an image of a kind that is not read (PSD): save it as JPEG or PNG" in str(psd)
    problem(live.client.post("/v1/jobs", content=photo), 413)
    assert len(list(live.service.uploads.folder.iterdir())) == 1


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", NO_JOB, 404),
        ("GET", "/v1/jobs/%00", 404),
        ("GET", "/v1/jobs/..%2F..%2Fetc%2Fpasswd", 404),
        ("GET", f"{NO_JOB}/report", 404),
        ("DELETE", NO_JOB, 404),
        ("PUT", "/v1/detect", 405),
        ("POST", "/healthz", 405),
        ("GET", f"{NO_JOB}/report?format=pdf", 422),
        ("POST", "/v1/detect?name=" + "x" * 1001, 422),
        ("POST", "/v1/detect", 422),
    ],
)
def test_errors_are_problem_details(start: Start, method: str, path: str, status: int) -> None:
    answer = start().client.request(method, path)
    problem(answer, status)


def test_a_wrong_method_is_told_the_right_ones(start: Start) -> None:
    client = start().client
    assert client.put(NO_JOB).headers["allow"] == "GET, DELETE"
    assert client.get("/v1/detect").headers["allow"] == "POST"
    assert "GET" in client.put("/openapi.json").headers["allow"]


@pytest.mark.parametrize("web", [False, True])
def test_a_wrong_method_is_one_with_the_page_too(start: Start, web: bool) -> None:
    client = start(web=web).client
    answer = client.get("/v1/detect")
    problem(answer, 405)
    assert answer.headers["allow"] == "POST"
    problem(client.get("/v1/nothing"), 404)


def test_what_is_for_jobs_is_told_so(start: Start, photo: bytes) -> None:
    live = start(photo_bytes=10_000)
    video = b"\0\0\0\x18ftypisom\0\0\0\0isommp42" + bytes(64)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("cat.jpg", photo)
    for content, word in ((video, "a video"), (buffer.getvalue(), "an archive")):
        detail = problem(live.client.post("/v1/detect", content=content), 415)
        assert detail == f"{word}, not a photograph: send it to POST /v1/jobs"
    assert "POST /v1/jobs" in problem(live.client.post("/v1/detect", content=video + bytes(10_000)), 413)
    files = [("file", ("a.jpg", photo)), ("file", ("b.jpg", photo))]
    assert "POST /v1/jobs" in problem(live.client.post("/v1/detect", files=files), 422)


@pytest.mark.parametrize(("query", "accept"), [("?format=html", "*/*"), ("", "text/html,*/*;q=0.8")])
def test_a_photograph_is_answered_with_a_page(start: Start, photo: bytes, query: str, accept: str) -> None:
    answer = start().client.post(f"/v1/detect{query}", content=photo, headers={"Accept": accept})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "sandbox" in answer.headers["content-security-policy"]
    assert answer.headers["vary"] == "Accept"
    assert "no face found" in answer.text


def test_a_parameter_that_is_not_there_is_refused(start: Start, photo: bytes) -> None:
    client = start().client
    answer = client.post("/v1/detect?heatmaps=1&name=a", content=photo)
    assert problem(answer, 422) == "query.heatmaps: no such parameter; there are name, format, thorough"
    assert answer.json()["errors"][0]["where"] == "query.heatmaps"
    assert "there are no parameters" in problem(client.get(f"{NO_JOB}?x=1"), 422)


def test_jobs_are_listed_newest_first(start: Start, photo: bytes) -> None:
    live = start(require_keys=True)
    ours, theirs = ({"Authorization": f"Bearer {live.service.keys.add(name)}"} for name in ("ours", "theirs"))
    client = live.client
    names = [f"{i}.jpg" for i in range(5)]
    for name in names:
        assert client.post("/v1/jobs", params={"name": name}, content=photo, headers=ours).status_code == 202
    client.post("/v1/jobs", params={"name": "theirs.jpg"}, content=photo, headers=theirs)
    live.service.jobs.fail(live.service.jobs.claim("test"), "why")
    found, path = [], "/v1/jobs?limit=2"
    while path is not None:
        answer = client.get(path, headers=ours).json()
        assert len(answer["jobs"]) <= 2
        found += [job["name"] for job in answer["jobs"]]
        path = answer["next"]
    assert found == names[::-1]
    failed = client.get("/v1/jobs?state=failed", headers=ours).json()["jobs"]
    assert [(job["name"], job["error"]) for job in failed] == [("0.jpg", "why")]
    problem(client.get(f"/v1/jobs?before={failed[0]['id']}", headers=theirs), 404)
    problem(client.get("/v1/jobs?limit=0", headers=ours), 422)
    problem(client.get("/v1/jobs"), 401)


def test_the_api_is_shown_without_a_request_to_elsewhere(start: Start) -> None:
    client = start().client
    page = client.get("/docs")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    parts = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(parts) == 4
    for part in parts:
        assert part.startswith("docs/") or part == "data:,"
        if part.startswith("docs/"):
            assert client.get(f"/{part}").status_code == 200
    problem(client.get("/docs/../../secret"), 404)
    problem(client.get("/docs/redoc.standalone.js"), 404)


def test_versions(start: Start) -> None:
    live = start(require_keys=True)
    answer = live.client.get("/version").json()
    assert (answer["version"], answer["weights"], answer["device"]) == (__version__, "tiny 1", "cpu")
    assert answer["weights_sha256"] == live.detector.sha256


def test_requests_are_logged_without_names_of_files(
    start: Start, photo: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    live = start(require_keys=True)
    headers = {"Authorization": f"Bearer {live.service.keys.add('ours')}"}
    with caplog.at_level(logging.INFO, ACCESS_LOG):
        live.client.post("/v1/detect?name=secret.jpg", content=photo, headers=headers)
        live.client.get("/nothing%0Ahere")
        live.client.get("/healthz")
        until(lambda: len(caplog.messages) >= 2)
    first, second = caplog.messages
    assert re.fullmatch(r"127\.0\.0\.1 1 POST /v1/detect 200 \d+\.\d{3}", first)
    assert second.startswith("127.0.0.1 - GET /nothing\\nhere 404 ")


def test_more_requests_than_there_are_files_for(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(application, "_most_requests", lambda: 1)
    live = start()
    with live.connect() as uploading:
        head = "POST /v1/jobs HTTP/1.1", "Host: localhost", "Content-Length: 9", "Expect: 100-continue"
        uploading.sendall("\r\n".join([*head, "", ""]).encode())
        assert uploading.recv(100).startswith(b"HTTP/1.1 100 ")  # it is in work
        answer = live.client.get("/healthz")
    problem(answer, 503)
    assert (answer.headers["retry-after"], answer.headers["connection"]) == ("5", "close")


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/detect", "/judge?name=a"])
def test_a_process_without_a_file_to_spare_says_503(
    start: Start, photo: bytes, path: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    live = start(web=True)

    def none_left(*arguments: Any, **options: Any) -> None:
        raise OSError(errno.EMFILE, "Too many open files", "/secret/path")

    monkeypatch.setattr(live.service.uploads, "create", none_left)
    monkeypatch.setattr(photos, "SpooledTemporaryFile", none_left)
    monkeypatch.setattr(page_server.tempfile, "mkdtemp", none_left)
    answer = live.client.post(path, content=photo)
    assert "secret" not in problem(answer, 503)
    assert answer.headers["retry-after"] == "5"
    assert "Traceback" not in caplog.text


def test_the_log_says_one_thing_once_a_second(caplog: pytest.LogCaptureFixture) -> None:
    log, quiet = logging.getLogger("test.once"), logs.OnceASecond()
    seen: list[str] = []

    def emit(text: str, at: float, error: Exception | None = None) -> None:
        info = None if error is None else (type(error), error, None)
        record = log.makeRecord("test.once", logging.ERROR, "f", 1, text, (), info)
        record.created = at
        if quiet.filter(record):
            seen.append(logging.Formatter().format(record))

    for i in range(100):
        emit("full", i / 50, OSError(errno.EMFILE, "Too many open files"))
        emit("other", i / 50)
    emit("full", 3.0)
    assert seen == [
        "full: [Errno 24] Too many open files",
        "other",
        "full (49 more like it): [Errno 24] Too many open files",
        "other (49 more like it)",
        "full (49 more like it)",
    ]


def test_every_answer_is_harmless(start: Start) -> None:
    client = start().client
    for answer in (client.get("/healthz"), client.get("/nothing"), client.post("/v1/detect?name=poison")):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "uvicorn" not in answer.headers.get("server", "")


def test_ready_until_told_to_stop(start: Start, photo: bytes) -> None:
    live = start(drain_seconds=20)
    assert live.client.get("/readyz").json() == {"status": "ok"}
    live.server.should_exit = True
    until(lambda: live.client.get("/readyz").status_code == 503)
    assert live.client.get("/healthz").status_code == 200
    assert live.client.post("/v1/detect", content=photo).status_code == 200  # it still listens
    live.server.force_exit = True


def test_what_is_judged_when_the_server_stops_is_finished(start: Start, photo: bytes) -> None:
    live = start()
    live.detector.gate.clear()
    answers: list[httpx.Response] = []
    thread = threading.Thread(
        target=lambda: answers.append(httpx.post(f"{live.url}/v1/detect", content=photo, timeout=60))
    )
    thread.start()
    until(lambda: len(live.detector.batches) == 1)
    live.server.should_exit = True
    until(lambda: not live.server.servers[0].is_serving())
    live.detector.gate.set()
    thread.join()
    assert answers[0].status_code == 200


def test_without_its_database_it_is_not_ready(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    live = start()

    def away() -> None:
        raise OperationalError("SELECT", {}, Exception("host=secret"))

    monkeypatch.setattr(live.service.jobs, "counts", away)
    answer = live.client.get("/readyz")
    assert "secret" not in problem(answer, 503)
    assert "retry-after" in answer.headers


def test_labels_of_the_figures_cannot_be_made_up(start: Start) -> None:
    client = start().client
    client.get("/anything/at/all")
    client.request("BREW", "/healthz")
    until(lambda: figure(client, "forgerank_requests_total", route="other", status="404") == 1)
    text = client.get("/metrics").text
    assert "anything" not in text
    assert "BREW" not in text


def test_keys_are_asked_for_and_jobs_belong_to_them(start: Start, photo: bytes) -> None:
    live = start(require_keys=True)
    keys: Keys = live.service.keys
    ours, theirs = ({"Authorization": f"Bearer {keys.add(name)}"} for name in ("ours", "theirs"))
    client = live.client
    for answer in (
        client.post("/v1/detect", content=photo),
        client.post("/v1/jobs", content=photo),
        client.get(NO_JOB),
        client.get("/metrics"),
        client.get("/metrics", headers={"Authorization": "Bearer wrong"}),
        client.get("/metrics", headers={"Authorization": "Basic d3Jvbmc="}),
    ):
        problem(answer, 401)
        assert answer.headers["www-authenticate"] == "Bearer"
    for path in ("/healthz", "/readyz", "/openapi.json"):
        assert client.get(path).status_code == 200
    assert client.post("/v1/detect", content=photo, headers=ours).status_code == 200
    at = client.post("/v1/jobs", content=photo, headers=ours).headers["location"]
    assert client.get(at, headers=ours).status_code == 200
    problem(client.get(at, headers=theirs), 404)
    problem(client.delete(at, headers=theirs), 404)
    keys.revoke(1)
    problem(client.get(at, headers=ours), 401)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 421),
        ({"Host": "["}, 421),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Host": "localhost:8000", "Origin": "http://localhost:8000"}, 200),
        ({"Host": "[::1]:8000"}, 200),
    ],
)
def test_without_keys_web_pages_from_elsewhere_get_nothing(
    start: Start, headers: dict[str, str], status: int
) -> None:
    answer = start().client.get("/readyz", headers=headers)
    assert answer.status_code == status
    if status != 200:
        problem(answer, status)


def test_with_keys_any_host_and_origin_will_do(start: Start) -> None:
    headers = {"Host": "forgerank.example", "Origin": "https://elsewhere.example"}
    assert start(require_keys=True).client.get("/readyz", headers=headers).status_code == 200


def test_the_tutorials_client(start: Start, photo: bytes) -> None:
    """The Python of docs/tutorials/uploads.md against a server, with a key."""
    page = Path(__file__).parents[3] / "docs" / "tutorials" / "uploads.md"
    (code,) = re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    client: dict[str, Any] = {}
    exec(compile(code, page.name, "exec"), client)
    live = start(require_keys=True)
    key = Keys(live.service.engine).add("uploads")
    report = client["judge"](photo, live.url, key)
    assert report["reports"][0]["reason"] == "no face found"
    assert client["priority"](report) == 0
    assert client["judge"](b"no photograph", live.url, key)["error"].startswith("not an image")
    faces = [{"verdict": "forged", "likelihood_ratio": 9.0}, {"verdict": "undetermined"}]
    assert client["priority"]({"reports": [{"faces": faces}]}) == 9
