"""Uploaded files under names that we choose; what the client calls them never touches the disk."""

import logging
import os
import re
import secrets
import shutil
from collections.abc import Container, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Literal

from forgerank.media import suffixes
from forgerank.media.suffixes import HEAD_BYTES
from forgerank.serving.service.archive import begins_archive
from forgerank.serving.service.zip_entries import ends_as_zip

Kind = Literal["photo", "video", "archive"]

_NAME = re.compile(r"[0-9a-f]{32}")
_PAGE = "forgerank-"  # begins the names of the web page's folders
_ABANDONED = 3600.0  # seconds after its last byte at which a file without a job is deleted
_log = logging.getLogger(__name__)


class Uploads:
    """A folder of files named by 32 hexadecimal digits."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._make()

    def _make(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def create(self) -> tuple[str, BinaryIO]:
        """A new file, its name and the file open for writing, readable by this user alone.

        Call `keep` once its last byte is written, or `remove`.
        """
        self._make()  # it may have been deleted meanwhile
        name = secrets.token_hex(16)
        handle = os.open(self.folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        return name, os.fdopen(handle, "wb")

    def keep(self, file: BinaryIO) -> None:
        """Flush to the disk and close; a job is accepted after that."""
        file.flush()
        os.fsync(file.fileno())
        file.close()

    def path(self, name: str) -> Path:
        """Raises ValueError for a name that is not one of ours."""
        if not _NAME.fullmatch(name):
            raise ValueError(f"not an upload's name: {name!r}")
        return self.folder / name

    def remove(self, name: str | None) -> None:
        """Delete the file, if there is one. What cannot be deleted now is for `sweep`."""
        if name is not None:
            with _logged():
                self.path(name).unlink(missing_ok=True)

    @contextmanager
    def scratch(self, token: str) -> Iterator[Path]:
        """An empty folder for what a claim unpacks; `sweep` deletes what a killed worker leaves of it."""
        folder = self.path(token)
        self._make()
        folder.mkdir(mode=0o700)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def sweep(self, known: Container[str], *, now: float) -> None:
        """Delete what is not `known` and was not written to for an hour. `now` in seconds since 1970."""
        for path in list(self.folder.iterdir()):
            ours = _NAME.fullmatch(path.name) or path.name.startswith(_PAGE)
            if path.name in known or not ours:
                continue
            with _logged(), suppress(FileNotFoundError):  # another server swept it
                if path.stat().st_mtime < now - _ABANDONED:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()


@contextmanager
def _logged() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        _log.error("an upload could not be deleted now: %s", error)


def kind_of(path: Path) -> Kind | None:
    """What a file is by its content, whatever it is called; None for what is not judged."""
    with open(path, "rb") as file:
        kind = kind_of_head(file.read(HEAD_BYTES))
        return "archive" if kind is None and ends_as_zip(file) else kind


def kind_of_head(head: bytes) -> Kind | None:
    """As `kind_of`, of the first HEAD_BYTES bytes of a file."""
    kind = suffixes.kind_of_head(head)
    if kind == "image":
        return "photo"
    if begins_archive(head):
        return "archive"
    return "video" if kind == "video" else None
