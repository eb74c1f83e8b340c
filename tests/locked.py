"""Folders that nobody may enter, not even root, who runs the tests of a container."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest


def lock(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """As if nobody might list a folder or enter it."""
    stat, scandir = os.stat, os.scandir

    def refuse(path: Any) -> None:
        if not isinstance(path, int) and folder in (Path(path), *Path(path).parents):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))

    def status(path: Any, **options: Any) -> os.stat_result:
        if path != folder:
            refuse(path)
        return stat(path, **options)

    def entries(path: Any = ".") -> Any:
        refuse(path)
        return scandir(path)

    patch.setattr("os.stat", status)
    patch.setattr("os.scandir", entries)
