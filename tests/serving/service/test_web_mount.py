"""The web page on top of the service, with and without keys."""

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from forgerank.detect.detector import Detector
from forgerank.serving.service.web_mount import BatchedJudge
from forgerank.serving.web import page_server
from forgerank.types import InputError

Start = Callable[..., Any]


def last_line(answer: Any) -> dict[str, Any]:
    assert answer.status_code == 200
    line: dict[str, Any] = json.loads(answer.text.splitlines()[-1])
    return line


def test_the_page_judges_through_the_batches(start: Start, photo: bytes) -> None:
    live = start(web=True)
    shown = live.client.get("/")
    assert shown.headers["content-type"].startswith("text/html")
    assert "script-src" in shown.headers["content-security-policy"]  # its own, not that of the API
    answer = last_line(live.client.post("/judge?name=cat.jpg", content=photo))
    assert (answer["name"], answer["verdict"]) == ("cat.jpg", "undetermined")
    assert len(live.detector.batches) == 1
    assert live.client.get("/healthz").json() == {"status": "ok"}
    assert list(live.service.uploads.folder.iterdir()) == []


def test_the_page_judges_thoroughly_where_it_is_asked_to(start: Start, photo: bytes) -> None:
    live = start(web=True)
    assert 'name="thorough"' in live.client.get("/").text
    for thorough in (False, True):
        answer = last_line(live.client.post(f"/judge?name=cat.jpg&thorough={thorough}", content=photo))
        assert json.loads(answer["json"])["model"]["thorough"] is thorough


@pytest.mark.parametrize(
    ("method", "path", "failing"),
    [("GET", "/static/page.css", "_static"), ("POST", "/judge?name=a", "receive")],
)
def test_the_page_is_away_while_there_is_no_memory(
    method: str, path: str, failing: str, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = start(web=True)

    def no_memory(*_: Any, **__: Any) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(page_server, failing, no_memory)
    answer = live.client.request(method, path)
    assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")


def test_without_the_option_there_is_no_page(start: Start) -> None:
    assert start().client.get("/").status_code == 404


def test_with_keys_the_page_judges_for_those_who_have_one(start: Start, photo: bytes) -> None:
    live = start(web=True, require_keys=True)
    assert live.client.get("/").status_code == 200
    refused = live.client.post("/judge?name=a", content=photo)
    assert (refused.status_code, refused.headers["content-type"]) == (401, "application/problem+json")
    headers = {"Authorization": f"Bearer {live.service.keys.add('ours')}"}
    assert last_line(live.client.post("/judge?name=a", content=photo, headers=headers))["verdict"]


def test_errors_are_told_in_words(start: Start, photo: bytes, tmp_path: Path) -> None:
    live = start(queue_photos=1)
    judge = BatchedJudge(
        cast(Detector, live.detector),
        live.service.batcher,
        live.service.photos.decoders,
        live.settings,
        threading.BoundedSemaphore(1),
    )
    good, bad = tmp_path / "good", tmp_path / "bad"
    good.write_bytes(photo)
    bad.write_bytes(b"text")
    assert judge(good, "mine.jpg").path == "mine.jpg"
    with pytest.raises(InputError, match="not an image"):
        judge(bad, "bad")
    with live.service.batcher.place(), pytest.raises(InputError, match="busy"):
        judge(good, "good")
