"""Tasks and outcomes: the messages between a scan and its worker processes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Task:
    """One file to work on."""

    path: str  # as Item has it
    sha256: str | None  # where known
    judge: bool  # else hash it only


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one task."""

    path: str
    size: int | None = None  # bytes
    sha256: str | None = None  # None where the file could not be read
    error: str | None = None  # why it could not be read
    answer: dict[str, Any] | None = None  # of its content, see `rows`; None where it was only hashed


# Works on one task; tells the second argument size and hash of the file before it is decoded.
Work = Callable[[Task, Callable[[Outcome], None]], Outcome]
