"""The page's server without a browser: limits, refusals, what is left behind."""

import asyncio
import errno
import io
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi import HTTPException, Request
from fastapi.testclient import TestClient
from numpy.typing import NDArray
from PIL import Image

from forgerank.detect.result import VideoReport
from forgerank.report.builder import ReportBuilder
from forgerank.report.schema import ReportFile
from forgerank.serving.judge import FileJudge
from forgerank.serving.web.page_server import build_page

MP4 = b"\0\0\0\x18ftypisom\0\0\0\0isommp42" + bytes(64)


@contextmanager
def client(judge: Any, **options: Any) -> Iterator[TestClient]:
    with TestClient(build_page(judge, **options)) as opened:
        yield opened


@pytest.fixture
def forged_png(forged_astronaut: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(forged_astronaut).save(buffer, "PNG")
    return buffer.getvalue()


def lines(response: httpx.Response) -> list[dict[str, Any]]:
    return [json.loads(line) for line in response.text.splitlines()]


def test_a_photograph_gets_its_reports_and_its_file_is_deleted(
    judge: Any, forged_png: bytes, tmp_path: Path
) -> None:
    with client(judge, folder=tmp_path) as opened:
        response = opened.post("judge", params={"name": "holiday.png"}, content=forged_png)
    *_, answer = lines(response)
    report = ReportFile.model_validate_json(answer["json"])
    assert [(entry.path, entry.verdict) for entry in report.reports] == [("holiday.png", "forged")]
    assert answer["faces"] == [
        {
            "verdict": "forged",
            "probability": answer["faces"][0]["probability"],
            "components": [
                c.name
                for c in sorted(report.reports[0].faces[0].components, key=lambda c: c.rank or 9)
                if c.rank
            ],
        }
    ]
    assert "holiday.png" in answer["html"]
    assert str(tmp_path) not in answer["html"] + answer["json"]
    assert judge.paths[0].is_relative_to(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_judge_with_a_thorough_detector_answers_where_it_is_asked_to(judge: Any, forged_png: bytes) -> None:
    with client(judge) as opened:
        assert 'name="thorough"' not in opened.get("/").text
    thorough = FileJudge(judge.detector.with_thorough(True))
    with client(judge, thorough=thorough) as opened:
        assert 'name="thorough"' in opened.get("/").text
        for asked in (False, True):
            params = {"name": "a.png", "thorough": str(asked).lower()}
            *_, answer = lines(opened.post("judge", params=params, content=forged_png))
            assert json.loads(answer["json"])["model"]["thorough"] is asked


def test_a_photograph_with_the_name_of_a_video_is_judged(judge: Any, forged_png: bytes) -> None:
    with client(judge) as opened:
        *_, answer = lines(opened.post("judge", params={"name": "clip.mp4"}, content=forged_png))
    assert (answer["name"], answer["verdict"]) == ("clip.mp4", "forged")


def test_a_video_tells_its_progress(judge: Any, video_report: VideoReport) -> None:
    for step in ((10.0, 40.0), (30.0, 40.0), "finish"):
        judge.script.put(step)
    with client(judge) as opened:
        *progress, answer = lines(opened.post("judge", params={"name": "a.mp4"}, content=MP4))
    assert progress == [{"progress": [0, 0]}, {"progress": [10.0, 40.0]}, {"progress": [30.0, 40.0]}]
    assert answer["verdict"] == video_report.verdict
    assert [entry.path for entry in ReportFile.model_validate_json(answer["json"]).videos] == ["a.mp4"]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("note.txt", b"hello", "note.txt: not an image"),
        ("../../etc/passwd", b"hello", "passwd: not an image"),
        ("C:\\boot.jpg", b"", "boot.jpg: empty file"),
        ("..", b"hello", "..: not an image"),
        ("", b"hello", "file: not an image"),
        ("line\nbreak", b"\xff\xd8\xff\xe0", "line\\nbreak: "),
    ],
)
def test_a_broken_file_gives_one_line_without_our_paths(
    judge: Any, tmp_path: Path, name: str, content: bytes, reason: str
) -> None:
    with client(judge, folder=tmp_path) as opened:
        *_, answer = lines(opened.post("judge", params={"name": name}, content=content))
    assert answer.keys() == {"error"}
    assert answer["error"].startswith(reason)
    assert "\n" not in answer["error"]
    assert str(tmp_path) not in answer["error"]


def test_a_failure_of_the_program_is_logged_and_not_shown(
    judge: Any, caplog: pytest.LogCaptureFixture
) -> None:
    judge.script.put("crash")
    with client(judge) as opened:
        *_, answer = lines(opened.post("judge", params={"name": "a.mp4"}, content=MP4))
    assert answer == {"error": "a.mp4: the program failed on this file; its log says why"}
    assert "a secret of the program" in caplog.text


def test_an_upload_is_deleted_though_no_file_can_be_opened(
    judge: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(*arguments: Any, **options: Any) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    judge.script.put("finish")
    with client(judge, folder=tmp_path) as opened:
        monkeypatch.setattr(os, "scandir", none_left)
        opened.post("judge", params={"name": "a.mp4"}, content=MP4)
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == []


def test_a_trouble_of_the_server_is_told_as_its_own(judge: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def starved(self: object, *arguments: Any) -> None:
        raise RuntimeError("std::bad_alloc")

    monkeypatch.setattr(ReportBuilder, "add", starved)
    judge.script.put("finish")
    with client(judge) as opened:
        *_, answer = lines(opened.post("judge", params={"name": "a.mp4"}, content=MP4))
    assert answer == {"error": "a.mp4: the server cannot judge it now: it is out of memory"}


def test_a_file_over_the_limit_is_refused_even_where_its_length_is_not_stated(
    judge: Any, tmp_path: Path
) -> None:
    with client(judge, max_bytes=1000, folder=tmp_path) as opened:
        response = opened.post("judge", params={"name": "a"}, content=(b"x" * 600 for _ in range(2)))
        assert opened.post("judge", params={"name": "a"}, content=b"x" * 1000).status_code == 200
    assert response.status_code == 413
    assert response.json()["detail"] == "The file is over the limit of 1 kB."
    assert list(tmp_path.iterdir()) == []


def test_a_sender_that_hangs_up_leaves_nothing(judge: Any, tmp_path: Path) -> None:
    statuses: list[int] = []
    coming = [{"type": "http.request", "body": b"x" * 100, "more_body": True}, {"type": "http.disconnect"}]

    async def receive() -> dict[str, Any]:
        return coming.pop(0)

    async def send(message: Any) -> None:
        statuses.append(message.get("status"))

    scope = {"type": "http", "method": "POST", "path": "/judge", "query_string": b"name=a", "headers": []}
    asyncio.run(build_page(judge, folder=tmp_path)(scope, receive, send))
    assert statuses[0] == 400
    assert judge.paths == []
    assert list(tmp_path.iterdir()) == []


def test_more_files_than_places_are_told_to_come_back(judge: Any) -> None:
    with client(judge, max_at_once=0) as opened:
        response = opened.post("judge", params={"name": "a"}, content=b"x")
    assert response.status_code == 503
    assert response.headers["retry-after"] == "5"


def test_a_place_is_free_again_after_every_answer(judge: Any) -> None:
    with client(judge, max_at_once=1, max_bytes=10) as opened:
        statuses = [
            opened.post("judge", params={"name": "a"}, content=b"x" * n).status_code for n in (5, 20, 5)
        ]
    assert statuses == [200, 413, 200]


def test_without_a_valid_key_nothing_is_judged(judge: Any) -> None:
    def authorize(request: Request) -> None:
        if request.headers.get("authorization") != "Bearer right":
            raise HTTPException(401)

    with client(judge, authorize=authorize) as opened:
        request = {"params": {"name": "a"}, "content": b"x"}
        assert opened.post("judge", **request).status_code == 401
        assert opened.post("judge", headers={"Authorization": "Bearer right"}, **request).status_code == 200
        assert opened.get("").status_code == 200


def test_nothing_but_the_page_is_served(judge: Any) -> None:
    with client(judge, max_seconds=90) as opened:
        index = opened.get("")
        for path in ("docs", "openapi.json", "static/page.py", "static/..%2fpage.py", "examples/other.png"):
            assert opened.get(path).status_code == 404
        for path in ("static/page.css", "static/page.js", "static/icon.svg"):
            assert opened.get(path).status_code == 200
    assert "Up to 200 MB, videos up to 1.5 minutes" in index.text
    assert not re.search(r"https?://", index.text)
    policy = index.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self' 'sha256-")
    assert "unsafe-inline" not in policy.partition("style-src")[0]
