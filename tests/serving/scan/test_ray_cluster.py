"""Ray Data gives the bytes that processes give."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

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


def test_a_cluster_that_is_not_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(StoppedError, match=r"Ray cannot be reached at 127.0.0.1:1 \(.*refused\)"):
        RayCluster(Judging(), 1)
