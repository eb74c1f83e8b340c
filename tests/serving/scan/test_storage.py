"""A scan of a bucket on a local server that speaks S3."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from forgerank.serving.scan.run import scan
from forgerank.serving.scan.scan_settings import ScanSettings

pytest.importorskip("moto.server", reason="the S3-compatible server is not installed")
pytest.importorskip("s3fs", reason="s3fs is not installed")


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    import logging

    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    for name, value in (("ACCESS_KEY_ID", "a"), ("SECRET_ACCESS_KEY", "b"), ("DEFAULT_REGION", "us-east-1")):
        monkeypatch.setenv(f"AWS_{name}", value)
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_a_bucket_gives_the_rows_of_the_same_files_in_a_folder(
    endpoint: str, media: Path, settings: Callable[..., ScanSettings], tmp_path: Path
) -> None:
    import boto3

    names = ["real.png", "forged.png", "empty.jpg", "truncated.png", "clip.mp4", "deep/er/copy of forged.JPG"]
    s3 = boto3.client("s3", endpoint_url=endpoint)
    s3.create_bucket(Bucket="photos")
    folder = tmp_path / "in"
    for name in names:
        content = (media / name).read_bytes()
        s3.put_object(Bucket="photos", Key=f"in/{name}", Body=content)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    (tmp_path / "list.txt").write_text("s3://photos/in/real.png\ns3://photos/in/gone.png\n", encoding="utf-8")

    def rows(source: object, out: str) -> dict[str, dict[str, Any]]:
        options = {"endpoint_url": endpoint}
        chosen = settings(source, out=tmp_path / out, judging={"storage": options}, workers=2)
        scan(chosen)
        found = {os.path.basename(row.pop("path")): row for row in pq.read_table(chosen.out).to_pylist()}
        assert b"endpoint" not in pq.read_schema(chosen.out).metadata.values().__repr__().encode()
        return found

    remote, local = rows("s3://photos/in", "remote.parquet"), rows(folder, "local.parquet")
    assert remote.pop("forged.png")["duplicate_of"] == "s3://photos/in/deep/er/copy of forged.JPG"
    assert local.pop("forged.png")["duplicate_of"] == str(folder / "deep/er/copy of forged.JPG")
    assert remote == local
    listed = rows(f"@{tmp_path}/list.txt", "list.parquet")
    assert listed["real.png"] == local["real.png"]
    assert listed["gone.png"]["error"] == "no such file"
