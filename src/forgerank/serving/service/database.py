"""The database: SQLite (WAL) or PostgreSQL by URL, brought up to date by the packaged migrations. A change of
the tables needs a step in `migrations/`: a test compares. Times are seconds since 1970 (UTC).
"""

import os
import sqlite3
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Connection,
    Double,
    Engine,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    create_engine,
    event,
    false,
    text,
)
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, OperationalError, SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry

from forgerank.types import InputError

STATES = ("queued", "running", "done", "failed")
KINDS = ("photo", "video", "archive")

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False),
    Column("hash", String(64), nullable=False, unique=True),  # SHA-256 of the key, hexadecimal
    Column("created", Double, nullable=False),
    Column("revoked", Double),
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", String(32), primary_key=True),  # 128 random bits, hexadecimal
    Column("key_id", ForeignKey("api_keys.id", ondelete="SET NULL")),  # who sent it
    Column("kind", String(8), nullable=False),
    Column("name", Text, nullable=False),  # the client's name of the file: a label, never a path
    Column("file", String(32)),  # our own name of it in the folder of uploads; none once it is removed
    Column("size", BigInteger, nullable=False),  # bytes
    Column("thorough", Boolean, nullable=False, server_default=false()),  # judge faces in several views
    Column("state", String(8), nullable=False),
    Column("created", Double, nullable=False),
    Column("queued", Double, nullable=False),  # when it (last) entered the queue: the queue's order
    Column("started", Double),
    Column("finished", Double),
    Column("attempts", Integer, nullable=False),  # workers that claimed it
    Column("worker", Text),  # the process that holds it
    Column("token", String(32)),  # of the one claim that may write
    Column("lease_until", Double),
    Column("progress", Double, nullable=False),  # 0..1
    Column("seconds_left", Double),
    Column("error", Text),  # one line, of a failed job
    CheckConstraint(f"state IN {STATES}", name="state"),
    CheckConstraint(f"kind IN {KINDS}", name="kind"),
    Index(None, "state", "queued"),
    Index(None, "finished"),
)

results = Table(
    "results",
    metadata,
    Column("job_id", ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("json", LargeBinary, nullable=False),  # the report's JSON, UTF-8, zlib
    Column("html", LargeBinary, nullable=False),  # the report's HTML, UTF-8, zlib
)

# Written once per end of a job, never changed: what counts how often a job was finished.
completions = Table(
    "completions",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("job_id", ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("state", String(8), nullable=False),  # done or failed
    Column("worker", Text),  # none: its attempts were used up
    Column("at", Double, nullable=False),
)


_BUSY_MS = 30_000  # how long a writer waits for another one
_MIGRATION_LOCK = 0x666F7267  # any fixed number; PostgreSQL holds the others back by it


def open_database(url: str) -> Engine:
    """Connects and brings the tables up to date; several servers may do so at once.

    Every transaction of SQLite takes the write lock at its start, unless it runs on
    `engine.execution_options(begin="BEGIN")`. Raises InputError where the database cannot be opened.
    """
    try:
        engine = _engine(url)
        try:
            with engine.begin() as connection:
                migrate(connection)
        except BaseException:
            engine.dispose()
            raise
    except CommandError as error:  # its tables are at a step that is not there
        raise InputError(
            f"{_shown(url)}: cannot open the database (of a newer forgerank, or none of its own: {error})"
        ) from None
    except (SQLAlchemyError, ArgumentError, ImportError) as error:
        reason = " ".join(str(getattr(error, "orig", None) or error).split())
        raise InputError(f"{_shown(url)}: cannot open the database ({reason})") from None
    return engine


def migrate(connection: Connection) -> None:
    """Runs the missing steps in the transaction of `connection`, which holds all others back."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _identity(file: str) -> tuple[int, int] | None:
    try:
        status = os.stat(file)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _engine(url: str) -> Engine:
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        return create_engine(parsed, pool_pre_ping=True)
    engine = create_engine(parsed, connect_args={"timeout": _BUSY_MS / 1000})
    file = parsed.database or ":memory:"

    @event.listens_for(engine, "connect")
    def connect(connection: sqlite3.Connection, record: ConnectionPoolEntry) -> None:
        record.info["file"] = _identity(file)
        connection.isolation_level = None  # the driver must not begin transactions of its own
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA foreign_keys = ON")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # SQLite would go on with a file that was deleted or replaced, and what it takes would be lost.
        if _identity(file) != connection.info["file"]:
            gone = sqlite3.OperationalError("its file was deleted or replaced")
            raise OperationalError("BEGIN", None, gone)
        # A lock asked for in mid-transaction fails at once where another writer came first.
        connection.exec_driver_sql(connection.get_execution_options().get("begin", "BEGIN IMMEDIATE"))

    return engine


def _shown(url: str) -> str:
    try:
        return make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        return "database"
