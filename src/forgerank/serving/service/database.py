"""The database: SQLite (WAL) or PostgreSQL by URL, brought up to date by the packaged migrations."""

from pathlib import Path
from sqlite3 import Connection as SqliteConnection

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from forgerank.types import InputError

_BUSY_MS = 30_000  # how long a writer waits for another one
_MIGRATION_LOCK = 0x666F7267  # any fixed number; PostgreSQL holds the others back by it


def open_database(url: str) -> Engine:
    """Connects and brings the tables up to date; several servers may do so at once.

    Every transaction of SQLite takes the write lock at its start, unless it runs on
    `engine.execution_options(begin="BEGIN")`. Raises InputError where the database cannot be opened.
    """
    try:
        engine = _engine(url)
        with engine.begin() as connection:
            migrate(connection)
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


def _engine(url: str) -> Engine:
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        return create_engine(parsed, pool_pre_ping=True)
    engine = create_engine(parsed, connect_args={"timeout": _BUSY_MS / 1000})

    @event.listens_for(engine, "connect")
    def connect(connection: SqliteConnection, _record: object) -> None:
        connection.isolation_level = None  # the driver must not begin transactions of its own
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA foreign_keys = ON")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # A lock asked for in mid-transaction fails at once where another writer came first.
        connection.exec_driver_sql(connection.get_execution_options().get("begin", "BEGIN IMMEDIATE"))

    return engine


def _shown(url: str) -> str:
    try:
        return make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        return "database"
