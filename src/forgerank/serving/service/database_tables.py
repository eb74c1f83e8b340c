"""The tables, the same in SQLite and PostgreSQL. A change needs a step in `migrations/`: a test compares.

Times are seconds since 1970 (UTC).
"""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

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
