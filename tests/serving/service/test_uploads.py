"""Names on the disk are ours, kinds are told by content, settings are checked."""

import errno
import os
import stat
import time
from pathlib import Path

import pytest
from pydantic import ValidationError

from forgerank.serving.service.service_settings import ServiceSettings
from forgerank.serving.service.uploads import Uploads, kind_of


def test_a_file_from_upload_to_removal(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path / "data" / "uploads")
    name, file = uploads.create()
    file.write(b"content")
    uploads.keep(file)
    path = uploads.path(name)
    assert path.read_bytes() == b"content"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(uploads.folder.stat().st_mode) == 0o700
    uploads.remove(name)
    uploads.remove(name)
    uploads.remove(None)
    assert not path.exists()
    other, file = uploads.create()
    file.close()
    assert other != name


def test_the_folder_is_made_again(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path / "uploads")
    (tmp_path / "uploads").rmdir()
    name, file = uploads.create()
    uploads.keep(file)
    assert uploads.path(name).is_file()


def test_a_file_that_cannot_be_deleted_is_logged_and_swept_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    uploads = Uploads(tmp_path)
    names = ["0" * 32, "1" * 32]
    for name in names:
        uploads.path(name).touch()

    def read_only(path: Path, missing_ok: bool = False) -> None:
        if path.name == names[0]:
            raise OSError(errno.EROFS, "Read-only file system", str(path))
        os.unlink(path)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", read_only)
        uploads.remove(names[0])
        uploads.sweep((), now=time.time() + 3601)
    assert [path.name for path in tmp_path.iterdir()] == names[:1]
    assert len(caplog.messages) == 2
    assert caplog.messages[0].startswith("an upload could not be deleted now: [Errno 30] Read-only")
    uploads.sweep((), now=time.time() + 3601)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["", "..", "../x", "/etc/passwd", "0" * 31, "0" * 32 + "\n", "A" * 32])
def test_no_other_name_becomes_a_path(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="not an upload's name"):
        Uploads(tmp_path).path(name)


def test_scratch_is_empty_and_leaves_nothing(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path)
    with uploads.scratch("0" * 32) as folder:
        assert list(folder.iterdir()) == []
        (folder / "member-1").touch()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"\xff\xd8\xff\xe0 PK\x03\x04", "photo"),
        (b"RIFF....WEBP", "photo"),
        (b"RIFF....AVI ", "video"),
        (b"\x00\x00\x00\x18ftypmp42", "video"),
        (b"PK\x03\x04", "archive"),
        (b"\x1f\x8b", "archive"),
        (b"#!/bin/sh", None),
        (b"", None),
    ],
)
def test_kinds(tmp_path: Path, head: bytes, kind: str | None) -> None:
    path = tmp_path / "photo.jpg.zip.mp4"
    path.write_bytes(head)
    assert kind_of(path) == kind


@pytest.mark.parametrize(
    ("database", "url"),
    [
        ("postgresql://me@host/name", "postgresql+psycopg://me@host/name"),
        ("postgres:///name?host=/run", "postgresql+psycopg:///name?host=/run"),
        ("sqlite:///a.db", "sqlite:///a.db"),
        (None, "sqlite:////data/forgerank.sqlite3"),
    ],
)
def test_database_urls(database: str | None, url: str) -> None:
    assert ServiceSettings(data=Path("/data"), database=database).database_url == url


def test_settings_that_make_no_sense(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="loopback only"):
        ServiceSettings(data=tmp_path, host="0.0.0.0", require_keys=False)
    with pytest.raises(ValidationError):
        ServiceSettings(data=tmp_path, atempts=1)  # type: ignore[call-arg]
    assert ServiceSettings(data=tmp_path, host="::1", require_keys=False).host == "::1"
