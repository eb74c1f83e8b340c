"""Uploads over a real socket: too large, malformed, broken off or stalled, they end and leave nothing."""

import errno
import io
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from http.client import HTTPResponse
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from forgerank.serving import receiving
from forgerank.serving.receiving import label
from forgerank.serving.service import app

Start = Callable[..., Any]


def form(*parts: tuple[str, bytes]) -> tuple[bytes, dict[str, str]]:
    """A body of the parts (Content-Disposition, content), and its header."""
    body = b"".join(
        b"--edge\r\nContent-Disposition: " + header.encode() + b"\r\n\r\n" + content + b"\r\n"
        for header, content in parts
    )
    return body + b"--edge--\r\n", {"Content-Type": "multipart/form-data; boundary=edge"}


def pieces(content: bytes, size: int) -> Iterator[bytes]:
    """Sent without a Content-Length."""
    for start in range(0, len(content), size):
        yield content[start : start + size]


def path_of(answer: httpx.Response) -> str | None:
    assert answer.status_code == 200, answer.text
    path: str | None = answer.json()["reports"][0]["path"]
    return path


def test_names_are_labels(start: Start, photo: bytes) -> None:
    client = start().client
    assert path_of(client.post("/v1/detect", content=photo)) == "photograph"
    for name, shown in {
        "../../etc/passwd": "passwd",
        "C:\\photos\\cat.jpg": "cat.jpg",
        "naïve 猫.jpg": "naïve 猫.jpg",
        "a\u202eb.jpg": "ab.jpg",
        "..": "..",
        "/": "photograph",
    }.items():
        assert path_of(client.post("/v1/detect", params={"name": name}, content=photo)) == shown
        assert path_of(client.post("/v1/detect", files={"file": (name, photo)})) == shown


@given(st.text())
def test_labels_are_one_printable_line(name: str) -> None:
    shown = label(name, "photograph")
    assert shown.isprintable()
    assert 0 < len(shown) <= 200
    assert "/" not in shown
    assert "\\" not in shown


def test_a_form_may_hold_other_parts(start: Start, photo: bytes) -> None:
    body, headers = form(('form-data; name="x"', b"y"), ('form-data; name="file"', photo), ("form-data", b""))
    client = start().client
    for content in (body, pieces(body, 17), pieces(body, 1000)):
        assert path_of(client.post("/v1/detect", content=content, headers=headers)) == "photograph"


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (*form(('form-data; name="x"', b"y")), 422),  # no file
        (*form(('form-data; name="file"', b"")), 422),  # an empty one
        (*form(('form-data; name="file"', b"a"), ('form-data; name="b"; filename="b"', b"b")), 422),  # two
        (form(('form-data; name="file"', b"abc"))[0][:-6], form()[1], 400),  # broken off
        (b"--other\r\n\r\n", form()[1], 400),
        (b"", form()[1], 400),
        (b"--edge\r\nA: b\r\n", {"Content-Type": "multipart/form-data"}, 400),
        (b"a", {"Content-Type": "multipart/form-data; boundary=" + "x" * 71}, 400),
        (b"a", {"Content-Encoding": "gzip"}, 415),
        (b"just text", {}, 415),
        (b"\xff\xd8\xff", {}, 422),
        (b"", {}, 422),
    ],
)
def test_what_is_no_photograph(start: Start, body: bytes, headers: dict[str, str], status: int) -> None:
    answer = start().client.post("/v1/detect", content=body, headers=headers)
    assert (answer.status_code, answer.json()["status"]) == (status, status)


def test_a_damaged_photograph(start: Start, photo: bytes) -> None:
    """One whose end is missing is judged on what is left; one of which nothing is left is refused."""
    client = start().client
    answer = client.post("/v1/detect", content=photo[: len(photo) // 2])
    assert answer.status_code == 200
    answer = client.post("/v1/detect", content=photo[:50])
    assert answer.status_code == 422
    assert "truncated" in answer.json()["detail"]


def test_pixels_are_limited(start: Start) -> None:
    buffer = io.BytesIO()
    Image.new("L", (101, 100)).save(buffer, "PNG")
    answer = start(photo_pixels=10_000).client.post("/v1/detect", content=buffer.getvalue())
    assert answer.status_code == 413
    assert "101 x 100" in answer.json()["detail"]


def test_bytes_are_limited(start: Start, photo: bytes) -> None:
    live = start(photo_bytes=len(photo), upload_bytes=len(photo))
    body, headers = form(('form-data; name="file"', photo))
    long_body, _ = form(('form-data; name="file"', photo + b"x"))
    padded, _ = form(('form-data; name="x"', b"x" * 70_000), ('form-data; name="file"', photo))
    for path, done in (("/v1/detect", 200), ("/v1/jobs", 202)):
        assert live.client.post(path, content=photo).status_code == done
        assert live.client.post(path, content=body, headers=headers).status_code == done
        for sent, header in ((photo + b"x", {}), (long_body, headers), (padded, headers)):
            for content in (sent, pieces(sent, 1000)):
                answer = live.client.post(path, content=content, headers=header)
                assert (answer.status_code, answer.headers["connection"]) == (413, "close")
    assert len(list(live.service.uploads.folder.iterdir())) == 2  # those of the two jobs that were taken


def talk(live: Any, request: bytes) -> bytes:
    """What the server says to bytes after which the client sends nothing more."""
    with live.connect() as connection:
        connection.sendall(request)
        return connection.recv(65_536)


def test_a_body_that_is_announced_too_large_is_not_awaited(start: Start) -> None:
    head = b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000000000\r\n\r\nPK"
    assert talk(start(), head).startswith(b"HTTP/1.1 413 ")


def test_a_body_that_stalls_is_given_up(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiving, "_IDLE_SECONDS", 0.2)
    live = start()
    head = b"HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nsome"
    for path in (b"/v1/jobs", b"/v1/detect"):
        assert talk(live, b"POST " + path + b" " + head).startswith(b"HTTP/1.1 408 ")
    assert list(live.service.uploads.folder.iterdir()) == []


@pytest.mark.parametrize("before", [b"", b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"])
def test_a_head_that_trickles_is_given_up(
    before: bytes, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a new connection, and on one that had its answer."""
    monkeypatch.setattr(app, "_HEAD_SECONDS", 0.5)
    with start().connect() as connection:
        connection.sendall(before)
        if before:
            assert connection.recv(65_536).startswith(b"HTTP/1.1 200 ")
        connection.sendall(b"GET / HTTP/1.1\r\nX: ")
        connection.settimeout(0.1)
        for _ in range(300):
            try:
                connection.sendall(b"x")
                if connection.recv(65_536) == b"":
                    break
            except TimeoutError:
                continue
            except OSError:  # closed between the two
                break
        else:
            pytest.fail("it was awaited for ever")


def status(connection: socket.socket) -> int:
    with HTTPResponse(connection) as answer:
        answer.begin()
        answer.read()
        return answer.status


def test_connections_without_a_request_make_room(
    start: Start, photo: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that have waited longest; a request in work stays."""
    monkeypatch.setattr(app, "_most_requests", lambda: 3)
    live = start()
    ask = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    head = b"POST /v1/detect HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n" % len(photo)
    with ExitStack() as stack:
        uploading, answered = (stack.enter_context(live.connect()) for _ in range(2))
        uploading.sendall(head + b"Expect: 100-continue\r\n\r\n")
        assert uploading.recv(100).startswith(b"HTTP/1.1 100 ")  # it is in work
        answered.sendall(ask)
        assert status(answered) == 200
        silent = [stack.enter_context(live.connect()) for _ in range(10)]
        for closed in (answered, *silent[:7]):
            assert closed.recv(1) == b""
        for _ in range(2):
            silent[7].sendall(ask)
            assert status(silent[7]) == 200
        uploading.sendall(photo)
        assert status(uploading) == 200


def test_a_body_that_trickles_is_given_up(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiving, "_IDLE_SECONDS", 0.5)
    live = start(web=True)
    for path in (b"/v1/jobs", b"/v1/detect", b"/judge?name=a"):
        with live.connect() as connection:
            connection.sendall(
                b"POST " + path + b" HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n"
            )
            sent, answer = 0, b""
            connection.settimeout(0.1)
            while not answer and sent < 300:
                connection.sendall(b"x")  # always before the other limit
                sent += 1
                with suppress(TimeoutError):
                    answer = connection.recv(65_536)
        assert answer.startswith(b"HTTP/1.1 408 ")
    assert list(live.service.uploads.folder.iterdir()) == []


def test_stalled_uploads_do_not_block_the_page(start: Start, photo: bytes) -> None:
    live = start(web=True)
    head = b"POST /judge?name=a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nsome"
    with ExitStack() as stack:
        for _ in range(20):
            stalled = stack.enter_context(live.connect())
            stalled.sendall(head)
        answer = live.client.post("/judge?name=cat.jpg", content=photo)
    assert answer.status_code == 200
    assert '"verdict"' in answer.text


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/detect", "/judge?name=a"])
def test_a_form_of_many_parts_is_refused_early(start: Start, path: str) -> None:
    live = start(web=True)
    body, headers = form(*[("form-data", b"")] * 100_000)
    sent = 0

    def counted() -> Iterator[bytes]:
        nonlocal sent
        for piece in pieces(body, 65_536):
            sent += len(piece)
            yield piece

    answer = live.client.post(path, content=counted(), headers=headers)
    assert (answer.status_code, answer.headers["connection"]) == (400, "close")
    assert "parts" in answer.json()["detail"]
    few, headers = form(('form-data; name="file"', b"x"), ('form-data; name="other"', b"y" * 70_000))
    assert live.client.post(path, content=few, headers=headers).status_code == 413
    assert list(live.service.uploads.folder.iterdir()) == []


def test_a_full_disk_is_no_fault_of_the_client(
    start: Start, photo: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = start()

    def full(file: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "/secret/path")

    monkeypatch.setattr(live.service.uploads, "keep", full)
    answer = live.client.post("/v1/jobs", content=photo)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "300")
    assert "secret" not in answer.text
    assert list(live.service.uploads.folder.iterdir()) == []


@given(content=st.binary(min_size=1, max_size=300), size=st.integers(1, 64))
def test_a_form_carries_any_bytes_in_any_pieces(content: bytes, size: int) -> None:
    body, headers = form(('form-data; name="file"; filename="a.b"', content))
    boundary = headers["Content-Type"].partition("boundary=")[2].encode()
    parser = receiving._Form(boundary)
    assert b"".join(parser.feed(piece) for piece in pieces(body, size)) == content
    parser.finish()
    assert parser.name == "a.b"
