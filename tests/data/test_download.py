"""Downloads against a small hub on this machine."""

import hashlib
import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from forgerank.data.prepare.download import ASK, download
from forgerank.types import InputError

FILES = {
    "facial_components/annotations/train.csv": b"file_path,label\n",
    "facial_components/images.zip": b"an archive",
}
COMMIT = "a" * 40
OPEN, GATED = "somebody/Open", "somebody/Gated"


class Hub(BaseHTTPRequestHandler):
    """As much of the hub's interface as the client asks for."""

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def _answer(self, *, body: bool) -> None:
        path = self.path.split("?")[0]
        if f"/datasets/{GATED}" in path:
            self._send(403, b"{}", body, {"X-Error-Code": "GatedRepo"})
        elif f"/datasets/{OPEN}" not in path:
            self._send(401, b"{}", body, {"X-Error-Code": "RepoNotFound"})
        elif path.startswith(f"/api/datasets/{OPEN}/tree/"):
            entries = [
                {"type": "file", "path": name, "size": len(data), "oid": "b" * 40}
                for name, data in FILES.items()
            ]
            self._send(200, json.dumps(entries).encode(), body)
        elif path.startswith(f"/api/datasets/{OPEN}"):
            siblings = [{"rfilename": name} for name in FILES]
            self._send(200, json.dumps({"id": OPEN, "sha": COMMIT, "siblings": siblings}).encode(), body)
        else:
            data = FILES[path.removeprefix(f"/datasets/{OPEN}/resolve/{COMMIT}/")]
            etag = hashlib.sha256(data).hexdigest()
            self._send(200, data, body, {"X-Repo-Commit": COMMIT, "ETag": f'"{etag}"'})

    def _send(self, status: int, data: bytes, body: bool, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if body:
            self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_every_file_arrives_and_archives_are_named(hub: str, tmp_path: Path) -> None:
    archives = download("seq-deepfake", tmp_path / "out", repository=OPEN, endpoint=hub, workers=1)
    assert {name: (tmp_path / "out" / name).read_bytes() for name in FILES} == FILES
    assert archives == [tmp_path / "out/facial_components/images.zip"]


def test_no_connection_is_one_line_even_where_files_lie_already(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{free.getsockname()[1]}"
    (tmp_path / "old.csv").write_text("an earlier attempt")
    with pytest.raises(InputError, match=rf"^rshaojimmy/Seq-DeepFake: no connection to {endpoint} \(.+\)$"):
        download("seq-deepfake", tmp_path, endpoint=endpoint)


@pytest.mark.parametrize(
    ("repository", "line"),
    [
        ("somebody/None", "answers 401; is there such a repository"),
        (GATED, "has to be asked for at http"),
        ("a/b/c", "cannot be copied"),
    ],
)
def test_repositories_that_give_nothing(repository: str, line: str, hub: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=line) as caught:
        download("seq-deepfake", tmp_path / "out", repository=repository, endpoint=hub)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("dataset", ASK)
def test_gated_sets_name_the_page(dataset: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"^{dataset}: .* ask for it at https://"):
        download(dataset, tmp_path)


def test_unknown_data_set(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown; choose from seq-deepfake, faceforensics"):
        download("imagenet", tmp_path)
