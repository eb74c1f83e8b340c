"""Tables and migrations, on both databases."""

import multiprocessing
from importlib.resources import files
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import CheckConstraint, insert, inspect, select
from sqlalchemy.exc import IntegrityError, OperationalError

from forgerank.serving.service.database import api_keys, jobs, metadata, open_database
from forgerank.serving.service.service_settings import ServiceSettings
from forgerank.types import InputError


def test_migrations_make_the_models_tables(job_settings: ServiceSettings) -> None:
    engine = open_database(job_settings.database_url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
        assert context.get_current_revision() == "0002"
        for table in metadata.sorted_tables:  # what the comparison leaves out
            checks = {check["name"] for check in inspect(connection).get_check_constraints(table.name)}
            assert checks == {c.name for c in table.constraints if isinstance(c, CheckConstraint)}
    engine.dispose()


def test_opening_again_keeps_everything(job_settings: ServiceSettings) -> None:
    for name in ("one", "two"):
        engine = open_database(job_settings.database_url)
        with engine.begin() as connection:
            connection.execute(insert(api_keys).values(name=name, hash=name * 20, created=0.0))
            assert name in connection.scalars(select(api_keys.c.name)).all()
        engine.dispose()
    assert name == "two"


def open_and_count(url: str) -> int:
    engine = open_database(url)
    with engine.begin() as connection:
        return len(connection.execute(select(jobs)).all())


def test_servers_may_start_at_once(job_settings: ServiceSettings) -> None:
    job_settings.data.mkdir()
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        assert pool.map(open_and_count, [job_settings.database_url] * 8, chunksize=1) == [0] * 8


def test_foreign_keys_and_states_are_held(job_settings: ServiceSettings) -> None:
    engine = open_database(job_settings.database_url)
    job = {"id": "1", "kind": "photo", "name": "a", "size": 1, "state": "queued"}
    job |= {"created": 0.0, "queued": 0.0, "attempts": 0, "progress": 0.0}
    for wrong in ({"key_id": 7}, {"state": "lost"}, {"kind": "text"}):
        with pytest.raises(IntegrityError), engine.begin() as connection:
            connection.execute(insert(jobs).values(job | wrong))
    engine.dispose()


def test_sqlite_writes_ahead(tmp_path: Path) -> None:
    engine = open_database(f"sqlite:///{tmp_path / 'a'}")
    with engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 30_000
    engine.dispose()


@pytest.mark.parametrize(
    ("url", "line"),
    [
        ("sqlite:////nowhere/at/all.sqlite3", "cannot open the database (unable to open database file)"),
        ("postgresql+psycopg://me:secret@/x?host=/nowhere", "cannot open the database"),
        ("no url", "cannot open the database"),
        ("nosuch://host/name", "cannot open the database"),
    ],
)
def test_what_cannot_be_opened_is_one_line(url: str, line: str) -> None:
    with pytest.raises(InputError) as caught:
        open_database(url)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("some text " * 1000)
    with pytest.raises(InputError, match="file is not a database"):
        open_database(f"sqlite:///{tmp_path / 'a'}")


def test_a_database_file_that_is_deleted_takes_nothing(tmp_path: Path) -> None:
    file, other = tmp_path / "a", tmp_path / "b"
    engine = open_database(f"sqlite:///{file}")
    with engine.begin() as connection:
        connection.execute(select(jobs))
    for put in (file.unlink, lambda: other.rename(file)):
        other.touch()
        put()
        with pytest.raises(OperationalError, match="its file was deleted or replaced"), engine.begin():
            pass
    engine.dispose()


def test_a_database_of_a_newer_version(job_settings: ServiceSettings) -> None:
    engine = open_database(job_settings.database_url)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = 'ffff'")
    engine.dispose()
    with pytest.raises(InputError, match=r"cannot open the database \(of a newer forgerank, .*'ffff'\)$"):
        open_database(job_settings.database_url)


def test_the_migrations_are_in_the_package() -> None:
    folder = files("forgerank.serving.service").joinpath("migrations")
    assert folder.joinpath("env.py").is_file()
    assert [step.name for step in folder.joinpath("versions").iterdir() if step.name.startswith("v")]
