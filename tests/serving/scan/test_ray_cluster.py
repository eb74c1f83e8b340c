"""Ray Data gives the bytes that processes give."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pyarrow.parquet as pq
import pytest

from faults import left, marked, wait_until
from forgerank.serving.scan.ray_cluster import RayCluster
from forgerank.serving.scan.run import scan
from forgerank.serving.scan.scan_settings import Judging, ScanSettings, StoppedError

RUN = "from forgerank.cli.main import main; main()"


@pytest.mark.slow
def test_the_same_bytes_as_without_a_cluster(
    media: Path, settings: Callable[..., ScanSettings], tiny_weights: Path, tmp_path: Path
) -> None:
    pytest.importorskip("ray", reason="Ray is not installed")
    reference = settings(media, out=tmp_path / "local.parquet")
    scan(reference)
    out = tmp_path / "ray.parquet"
    command = ["scan", str(media), "--out", str(out), "--engine", "ray", "--workers", "2"]
    # A process of its own: Ray leaves threads and warnings behind.
    done = subprocess.run(
        [sys.executable, "-c", RUN, *command, "--weights", str(tiny_weights)],
        capture_output=True,
        text=True,
        check=False,
        env={name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"},
    )
    assert done.returncode == 0, done.stderr
    assert out.read_bytes() == reference.out.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_signal_ends_all_of_it(
    media: Path, tiny_weights: Path, tmp_path: Path, number: signal.Signals
) -> None:
    pytest.importorskip("ray", reason="Ray is not installed")
    mark = f"FORGERANK_TEST={uuid4().hex}"
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    environment |= dict([mark.split("=")])
    command = ["scan", str(media), "--out", str(tmp_path / "r.parquet"), "--engine", "ray", "--workers", "1"]
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, *command, "--weights", str(tiny_weights)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    wait_until(lambda: any("_Actor" in name or "raylet" in name for name in marked(mark).values()), 240)
    time.sleep(5)
    process.send_signal(number)
    out, err = process.communicate(timeout=120)
    assert process.returncode == (-number if number == signal.SIGTERM else 130), err
    assert left(lambda: marked(mark)) == {}
    assert "Traceback" not in out + err
    assert len(err.splitlines()) == 1, err


@pytest.mark.slow
def test_it_needs_nothing_from_outside(media: Path, tiny_weights: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="Ray is not installed")
    # A network of its own, with nothing in it but this machine's loopback.
    alone = ["unshare", "--map-root-user", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
    if (
        not all(map(shutil.which, ("unshare", "ip")))
        or subprocess.run([*alone, "true"], check=False).returncode
    ):
        pytest.skip("no network namespace can be made here")
    knock = "import socket; socket.create_connection(('192.0.2.1', 80), 5)"  # an address for documentation
    refused = subprocess.run(
        [*alone, sys.executable, "-c", knock], capture_output=True, text=True, check=False
    )
    assert "Network is unreachable" in refused.stderr
    out = tmp_path / "r.parquet"
    command = ["scan", str(media), "--out", str(out), "--engine", "ray", "--workers", "1"]
    done = subprocess.run(
        [*alone, sys.executable, "-c", RUN, *command, "--weights", str(tiny_weights)],
        capture_output=True,
        text=True,
        check=False,
        env={name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"},
    )
    left_out = "forgerank: left out 1 file that is no image or video: TXT 1\n"
    assert (done.returncode, done.stderr) == (0, left_out)
    assert pq.read_metadata(out).num_rows == 13


def test_a_cluster_that_is_not_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(StoppedError, match=r"Ray cannot be reached at 127.0.0.1:1 \(.*refused\)"):
        RayCluster(Judging(), 1)
