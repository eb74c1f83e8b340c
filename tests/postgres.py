"""A PostgreSQL of our own in a temporary folder, reached through a Unix socket in it and no other way."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psycopg


class MissingError(Exception):
    """There is no PostgreSQL on this machine; where it was looked for."""


class Cluster:
    """A running server; `empty_database()` gives the URL."""

    def __init__(self) -> None:
        """Raises MissingError."""
        self._programs = _programs()
        self._folder = Path(tempfile.mkdtemp(prefix="pg"))
        self._url = f"postgresql://postgres@/postgres?host={self._folder}"
        # PostgreSQL refuses to run as root: it gets the user that its Debian package makes.
        self._as: dict[str, Any] = {}
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            self._as = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
            os.chown(self._folder, user.pw_uid, user.pw_gid)

    def __enter__(self) -> Self:
        data = self._folder / "data"
        made = ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync"]
        self._run("initdb", f"--pgdata={data}", *made)
        settings = {"listen_addresses": "", "unix_socket_directories": self._folder, "fsync": "off"}
        options = [f"--{name}={value}" for name, value in settings.items()]
        with open(self._folder / "log", "wb") as log:
            self._server = subprocess.Popen(
                [self._programs / "postgres", "-D", data, *options],
                stdout=log,
                stderr=log,
                cwd=self._folder,
                **self._as,
            )
        self._await()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.send_signal(signal.SIGQUIT)  # at once: nothing of it is kept
        self._server.wait(60)
        shutil.rmtree(self._folder)

    def empty_database(self) -> str:
        """The URL of its one database, emptied: thousands of files cheaper than a new one."""
        with psycopg.connect(self._url, autocommit=True) as connection:
            connection.execute("DROP SCHEMA public CASCADE")
            connection.execute("CREATE SCHEMA public")
        return self._url

    def _run(self, program: str, *arguments: str) -> None:
        command = [self._programs / program, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, cwd=self._folder, **self._as)
        if done.returncode:
            raise RuntimeError(f"{program}: {done.stderr}")

    def _await(self) -> None:
        for _ in range(300):
            try:
                psycopg.connect(self._url).close()
                return
            except psycopg.OperationalError:
                if self._server.poll() is not None:
                    break
                time.sleep(0.1)
        raise RuntimeError(f"PostgreSQL does not start: {(self._folder / 'log').read_text()}")


def _programs() -> Path:
    """Where `initdb` and `postgres` are: Debian keeps them off the PATH."""
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not folders:
        raise MissingError("no PostgreSQL: no initdb on the PATH or in /usr/lib/postgresql/*/bin")
    return folders[-1]
