import hashlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from forgerank.serving.service.database import open_database
from forgerank.serving.service.keys import Keys
from forgerank.types import InputError


@pytest.fixture
def engine(database: str) -> Iterator[Engine]:
    from forgerank.serving.service.service_settings import ServiceSettings

    made = open_database(ServiceSettings(data=Path(), database=database).database_url)
    yield made
    made.dispose()


def test_a_key_opens_until_it_is_revoked(engine: Engine) -> None:
    keys = Keys(engine)
    assert not keys.any()
    first, second = keys.add("newsroom"), keys.add("archive")
    assert first != second
    assert (keys.find(first), keys.find(second)) == (1, 2)
    keys.revoke(1)
    assert (keys.find(first), keys.find(second)) == (None, 2)
    assert keys.any()
    listed = keys.all()
    assert [(key.id, key.name, key.revoked is None) for key in listed] == [
        (1, "newsroom", False),
        (2, "archive", True),
    ]
    with pytest.raises(InputError, match="no valid key has the id 1"):
        keys.revoke(1)


def test_another_process_revokes(engine: Engine) -> None:
    here, there = Keys(engine), Keys(engine)
    key = here.add("shared")
    assert there.find(key) == 1
    there.revoke(1)
    assert here.find(key) is None


@pytest.mark.parametrize(
    "change",
    [
        lambda key: key[:-1] + ("A" if key[-1] != "A" else "B"),
        lambda key: key.replace("frk_1_", "frk_2_"),
        lambda key: key.replace("frk_1_", "frk_9999999999_"),
        lambda key: key + "A",
        lambda key: key.removeprefix("frk_"),
        lambda key: "",
        lambda key: "frk_1_" + "\0" * 43,
        lambda key: key.replace("frk_1_", "frk_٣_"),
    ],
)
def test_what_is_not_the_whole_key_opens_nothing(engine: Engine, change: object) -> None:
    keys = Keys(engine)
    assert keys.find(change(keys.add("owner"))) is None  # type: ignore[operator]


def test_only_the_hash_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "keys.sqlite3"
    engine = open_database(f"sqlite:///{path}")
    key = Keys(engine).add("owner")
    engine.dispose()
    secret = key.split("_", 2)[2]
    assert secret.encode() not in path.read_bytes()
    database = sqlite3.connect(path)
    (kept,) = database.execute("SELECT hash FROM api_keys").fetchone()
    database.close()
    assert kept == hashlib.sha256(secret.encode()).hexdigest()
