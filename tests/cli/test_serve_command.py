"""`forgerank serve` and `forgerank keys`, the server in a process of its own."""

import logging
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from forgerank.cli.main import app
from forgerank.serving.service.logs import ACCESS_LOG
from forgerank.serving.service.service_settings import ServiceSettings
from forgerank.types import InputError


@pytest.fixture(autouse=True)
def _no_log_outlives_its_stream() -> Iterator[None]:
    """`CliRunner` closes the standard error that `serve` logs requests to."""
    yield
    logging.getLogger(ACCESS_LOG).handlers.clear()


def call(*arguments: object) -> str:
    """What a command prints; raises what the program turns into its one line."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None:
        raise result.exception
    return result.stdout


def test_it_serves_until_it_is_told_to_stop(tmp_path: Path, tiny_weights: Path) -> None:
    data = tmp_path / "data"
    key = call("keys", "add", "newsroom", "--data", data).strip()
    command = [sys.executable, "-m", "forgerank", "serve", "--port", "0", "--keys", "--data", str(data)]
    command += ["--workers", "0", "--weights", str(tiny_weights), "--set", "drain_seconds=0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        url = re.fullmatch(r"(http://127\.0\.0\.1:\d+)/docs\n", server.stdout.readline())
        assert url is not None
        lines = [server.stdout.readline().rstrip() for _ in range(4)]
        assert lines == [
            f"API       {url[1]}/docs",
            f"data      {data}",
            "API keys  required: forgerank keys list",
            "stop      Ctrl-C; requests in work are finished",
        ]
        answer = httpx.get(f"{url[1]}/metrics", headers={"Authorization": f"Bearer {key}"}, timeout=60)
        assert answer.status_code == 200
        assert httpx.get(f"{url[1]}/metrics", timeout=60).status_code == 401
        server.send_signal(signal.SIGINT)
        _, errors = server.communicate(timeout=60)
        assert server.returncode == 0
        logged = [line.split(maxsplit=2)[2] for line in errors.splitlines()]  # after date and time
        assert [line.rpartition(" ")[0] for line in logged] == ["127.0.0.1 - GET /metrics 401"]
    assert data.stat().st_mode & 0o777 == 0o700


def test_its_help_lists_the_settings() -> None:
    shown = call("serve", "--help")
    for name in ServiceSettings.model_fields:
        assert f" {name} " in shown


def test_keys_are_listed_and_revoked(tmp_path: Path) -> None:
    at = ("--data", tmp_path)
    assert call("keys", "add", "newsroom", *at).startswith("frk_1_")
    call("keys", "add", "archive", *at)
    assert [line.split()[2:] for line in call("keys", "list", *at).splitlines()] == [
        ["newsroom"],
        ["archive"],
    ]
    call("keys", "revoke", 1, *at)
    assert "revoked" in call("keys", "list", *at).splitlines()[0]
    with pytest.raises(InputError, match="no valid key has the id 1"):
        call("keys", "revoke", 1, *at)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--host", "0.0.0.0"], "0.0.0.0: API keys are required here; make one: forgerank keys add NAME"),
        (["--host", "0.0.0.0", "--no-keys"], "API keys can be switched off on loopback only, not on 0.0.0.0"),
        (["--data", "/dev/null/data"], "/dev/null/data: cannot keep data here (not a directory)"),
        (["--set", "nonsense=1"], "nonsense: no such setting"),
        (["--set", "batch_size"], "--set batch_size: give NAME=VALUE"),
        (["--set", "batch_size=0"], "batch_size: Input should be greater than or equal to 1"),
        (["--database", "nonsense"], "database: cannot open the database (Could not parse SQLAlchemy URL"),
        (["--weights", "/nowhere"], "/nowhere"),
        (["--device", "cuda"], 'device cuda: this needs onnxruntime-gpu: pip install "forgerank[gpu]"'),
        (["--device", "abacus"], "device abacus: there are cpu, cuda"),
    ],
)
def test_what_cannot_work_is_one_line(tmp_path: Path, arguments: list[str], line: str) -> None:
    with pytest.raises(InputError) as raised:
        call("serve", "--port", 0, "--data", tmp_path, *arguments)
    assert line in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_taken_port_is_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError) as raised:
            call("serve", "--port", port, "--data", tmp_path)
    assert str(raised.value) == f"127.0.0.1:{port}: address already in use"


def test_a_database_that_is_away_is_one_line_without_its_password(tmp_path: Path) -> None:
    with pytest.raises(InputError) as raised:
        call("serve", "--port", 0, "--data", tmp_path, "--database", "postgresql://me:secret@127.0.0.1:1/x")
    assert "cannot open the database" in str(raised.value)
    assert "secret" not in str(raised.value)
    assert "\n" not in str(raised.value)
