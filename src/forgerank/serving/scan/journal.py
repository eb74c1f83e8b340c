"""What a scan knows so far, in one SQLite file beside the results: survives a kill at any moment.

`files` has a row per file, `answers` one per distinct content: a duplicate is judged once. Paths are the file
system's own bytes. Every finished file is committed at once; write-ahead logging makes that cheap.
"""

import errno
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from forgerank.serving.scan.scan_settings import StoppedError
from forgerank.serving.scan.sources import Item
from forgerank.serving.scan.task_worker import Outcome, Task
from forgerank.types import InputError

# Path, size, SHA-256, why it could not be read, answer as JSON, first path of the same content.
Row = tuple[bytes, int | None, bytes | None, str | None, str | None, bytes | None]

SUFFIXES = ("", "-wal", "-shm")  # of the journal's files
_PAGE = 1000  # rows read or written together

_TABLES = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS files (
    path BLOB PRIMARY KEY, size INTEGER, stamp TEXT NOT NULL, run INTEGER NOT NULL, sha256 BLOB, error TEXT
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS files_by_size ON files (size);
CREATE INDEX IF NOT EXISTS files_by_sha256 ON files (sha256, path);
CREATE TABLE IF NOT EXISTS answers (sha256 BLOB PRIMARY KEY, answer TEXT NOT NULL) WITHOUT ROWID;
"""

# A file listed again keeps what is known of it, unless it was written to in the meantime. A list of URLs
# tells no sizes.
_LIST = """
INSERT INTO files (path, size, stamp, run, error) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (path) DO UPDATE SET
    run = excluded.run,
    sha256 = CASE WHEN stamp = excluded.stamp AND size IS coalesce(excluded.size, size) THEN sha256 END,
    error = CASE
        WHEN stamp = excluded.stamp AND size IS coalesce(excluded.size, size) THEN error ELSE excluded.error
    END,
    size = coalesce(excluded.size, size),
    stamp = excluded.stamp
"""

# Equal content needs equal size: only files that share theirs are read before one of them is judged.
_TO_HASH = """
FROM files AS f WHERE sha256 IS NULL AND error IS NULL AND path > ? AND (
    size IS NULL OR EXISTS (SELECT 1 FROM files AS g WHERE g.size = f.size AND g.path <> f.path)
)
"""
_TO_JUDGE = """
FROM files AS f WHERE error IS NULL AND path > ? AND (
    sha256 IS NULL OR (
        NOT EXISTS (SELECT 1 FROM answers AS a WHERE a.sha256 = f.sha256)
        AND NOT EXISTS (SELECT 1 FROM files AS g WHERE g.sha256 = f.sha256 AND g.path < f.path)
    )
)
"""
_ROWS = """
SELECT path, size, f.sha256, error, answer, (
    SELECT min(g.path) FROM files AS g WHERE g.sha256 = f.sha256 AND g.path < f.path
) FROM files AS f LEFT JOIN answers USING (sha256) WHERE path > ? ORDER BY path LIMIT ?
"""


class Journal:
    """One scan's journal, locked for other processes while it is open."""

    def __init__(self, path: Path, facts: Mapping[str, str]) -> None:
        """Opens or makes it. Raises InputError where it is in use, foreign, or begun with other `facts`."""
        self.path = path
        with self._failures():
            self._database = sqlite3.connect(path, timeout=1.0, isolation_level=None)
        try:
            with self._failures():
                self._open(facts)
        except Exception:
            self._database.close()
            raise

    def _open(self, facts: Mapping[str, str]) -> None:
        self._database.execute("PRAGMA locking_mode = EXCLUSIVE")
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = NORMAL")
        self._database.executescript(_TABLES)
        known = dict(self._database.execute("SELECT name, value FROM facts"))
        for name, value in facts.items():
            if known and known.get(name) != value:
                raise InputError(
                    f"{self.path}: this scan was begun with {name} {known.get(name)}, now it is {value}; "
                    "repeat it as it was, or remove this file to begin anew"
                )
        with self._transaction():
            self._database.executemany("INSERT OR IGNORE INTO facts VALUES (?, ?)", facts.items())

    def list_files(self, items: Iterable[Item]) -> Iterator[int]:
        """Take in a whole listing; yields how many files it has so far. What it lacks is forgotten."""
        waiting, count = iter(items), 0
        with self._failures():
            (run,) = self._database.execute("SELECT coalesce(max(run), 0) + 1 FROM files").fetchone()
        while page := list(islice(waiting, _PAGE)):
            rows = [(os.fsencode(i.path), i.size, i.stamp, run, i.error) for i in page]
            with self._failures(), self._transaction():
                self._database.executemany(_LIST, rows)
            count += len(page)
            yield count
        with self._failures():
            self._database.execute("DELETE FROM files WHERE run <> ?", (run,))

    def count_files(self) -> int:
        """Files of the listing."""
        with self._failures():
            return int(self._database.execute("SELECT count(*) FROM files").fetchone()[0])

    def count_tasks(self, *, judge: bool) -> int:
        """How many tasks `tasks` has."""
        with self._failures():
            query = f"SELECT count(*) {_TO_JUDGE if judge else _TO_HASH}"
            return int(self._database.execute(query, (b"",)).fetchone()[0])

    def holds_results(self) -> bool:
        """Whether any file was judged; a listing and hashes are soon made again."""
        with self._failures():
            query = "SELECT EXISTS (SELECT 1 FROM answers)"
            return bool(self._database.execute(query).fetchone()[0])

    def tasks(self, *, judge: bool) -> Iterator[Task]:
        """What is left to do, by path; results may be recorded meanwhile.

        Not `judge`: files that must be hashed first, as they may be duplicates. `judge`: one per content.
        """
        query = f"SELECT path, sha256 {_TO_JUDGE if judge else _TO_HASH} ORDER BY path LIMIT {_PAGE}"
        last = b""
        while True:
            with self._failures():
                page = self._database.execute(query, (last,)).fetchall()
            if not page:
                return
            for last, sha256 in page:
                yield Task(os.fsdecode(last), sha256.hex() if sha256 else None, judge)

    def record(self, outcome: Outcome) -> None:
        """Keep what came of one task, for good when this returns."""
        sha256 = bytes.fromhex(outcome.sha256) if outcome.sha256 else None
        with self._failures(), self._transaction():
            self._database.execute(
                "UPDATE files SET size = coalesce(?, size), sha256 = ?, error = ? WHERE path = ?",
                (outcome.size, sha256, outcome.error, os.fsencode(outcome.path)),
            )
            if outcome.answer is not None:
                self._database.execute(
                    "INSERT OR IGNORE INTO answers VALUES (?, ?)", (sha256, json.dumps(outcome.answer))
                )

    def rows(self, page_size: int) -> Iterator[list[Row]]:
        """What is known of every file, by path, a page at a time."""
        last = b""
        while True:
            with self._failures():
                page = self._database.execute(_ROWS, (last, page_size)).fetchall()
            if not page:
                return
            yield page
            last = page[-1][0]

    def close(self) -> None:
        """Let go of the file; it stays."""
        self._database.close()

    def remove(self) -> None:
        """Close and delete it: the results are written."""
        self.close()
        for suffix in SUFFIXES:
            Path(f"{self.path}{suffix}").unlink(missing_ok=True)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._database.execute("BEGIN")
        try:
            yield
        except BaseException:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            raise
        self._database.execute("COMMIT")

    @contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise _explained(self.path, error) from None


def _explained(path: Path, error: sqlite3.Error) -> Exception:
    name = getattr(error, "sqlite_errorname", "")
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return InputError(f"{path}: another scan is writing these results")
    if name.startswith(("SQLITE_NOTADB", "SQLITE_CORRUPT")):
        return InputError(f"{path}: not a journal of a scan; remove it to begin anew")
    if name.startswith("SQLITE_FULL"):
        return StoppedError(f"{path}: no space left on the disk; make room and repeat the command")
    return StoppedError(f"{path}: cannot be written ({error})")


@contextmanager
def disk_failures(path: Path) -> Iterator[None]:
    """A failing disk ends the scan with one line. Raises StoppedError for an OSError."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        reason = "no space left on the disk; make room and" if full else f"{error.strerror or error};"
        raise StoppedError(f"{path}: {reason} repeat the command") from None
