"""Worker processes that end with their parent, however it ends."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait
from threading import Thread
from typing import Any

from forgerank.types import InputError


@contextmanager
def process_pool(
    workers: int, start: Callable[..., None] | None = None, *arguments: Any
) -> Iterator[ProcessPoolExecutor]:
    """A pool whose processes call `start(*arguments)` first. Raises InputError where one of them dies."""
    # Spawned, not forked: ONNX Runtime holds threads that a fork would break.
    with ProcessPoolExecutor(workers, get_context("spawn"), _begin, (start, arguments)) as pool:
        try:
            yield pool
        except BrokenProcessPool:
            raise InputError("a worker died (out of memory?): start again, with fewer --workers") from None


def _begin(start: Callable[..., None] | None, arguments: tuple[Any, ...]) -> None:
    Thread(target=leave_with_parent, daemon=True).start()
    if start is not None:
        start(*arguments)


def leave_with_parent() -> None:
    """A killed parent would leave its workers behind, writing into what a new run writes."""
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
