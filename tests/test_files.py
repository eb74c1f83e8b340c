from pathlib import Path

import pytest

from forgerank.files import read_json, write_atomic
from forgerank.types import InputError


def test_json_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("[\n1,")
    with pytest.raises(InputError, match=r"a\.json:2: not JSON"):
        read_json(tmp_path / "a.json")
    with pytest.raises(InputError, match=r"b\.json: cannot be read"):
        read_json(tmp_path / "b.json")


def test_a_write_replaces_the_whole_file(tmp_path: Path) -> None:
    write_atomic(tmp_path / "a.json", b"a longer first version")
    write_atomic(tmp_path / "a.json", b"second")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a.json": b"second"}


def test_a_write_that_fails_leaves_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path, content: bytes) -> int:
        with path.open("wb") as stream:
            stream.write(content[:3])
        raise OSError("no space left on device")

    write_atomic(tmp_path / "a.json", b"first")
    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(OSError, match="no space"):
        write_atomic(tmp_path / "a.json", b"second")
    assert (tmp_path / "a.json").read_bytes() == b"first"
