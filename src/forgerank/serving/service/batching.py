"""Concurrent photographs, judged together: a bounded queue and one thread that empties it in batches."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from threading import BoundedSemaphore, Thread
from typing import NamedTuple

from forgerank.detect.result import LoadedImage, Report
from forgerank.serving.service.jobs import QueueFullError

Detect = Callable[[Sequence[LoadedImage]], list[Report]]  # Detector.detect


class _Entry(NamedTuple):
    """An image that waits."""

    image: LoadedImage
    answer: Future[Report]
    thorough: bool


class Batcher:
    """Calls `detect` (Detector.detect) with several images at once and gives each caller its report.

    `thorough` is called instead with those that are to be judged thoroughly; None: `detect` is, too.
    A batch is closed at `batch_size` images or `wait` seconds after its first one. `places` bounds the
    images that are uploaded, wait or are judged at one time. `observe` is called with every batch's size.
    """

    def __init__(
        self,
        detect: Detect,
        *,
        batch_size: int = 8,
        wait: float = 0.005,
        places: int = 64,
        observe: Callable[[int], object] = lambda size: None,
        thorough: Detect | None = None,
    ) -> None:
        self._judges = {False: detect, True: thorough or detect}
        self._batch_size, self._wait, self._observe = batch_size, wait, observe
        self._queue: SimpleQueue[_Entry | None] = SimpleQueue()
        self._places = BoundedSemaphore(places)
        self._thread = Thread(target=self._run, name="batcher", daemon=True)

    def start(self) -> None:
        """Begin to judge; images may be submitted before."""
        self._thread.start()

    @contextmanager
    def place(self) -> Iterator[None]:
        """Room for one image, from before its upload to after its answer. Raises QueueFullError."""
        if not self._places.acquire(blocking=False):
            raise QueueFullError
        try:
            yield
        finally:
            self._places.release()

    def submit(self, image: LoadedImage, *, thorough: bool = False) -> Future[Report]:
        """The report to come. A future that is cancelled while it waits costs no work."""
        answer: Future[Report] = Future()
        self._queue.put(_Entry(image, answer, thorough))
        return answer

    @property
    def waiting(self) -> int:
        """Decoded images that no batch has taken yet."""
        return self._queue.qsize()

    @property
    def alive(self) -> bool:
        """Whether images are still being judged."""
        return self._thread.is_alive()

    def close(self) -> None:
        """Judge what waits, then stop; nothing may be submitted afterwards."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        more = True
        while more:
            batch, more = self._collect()
            # From here on an answer can no longer be cancelled.
            batch = [entry for entry in batch if entry.answer.set_running_or_notify_cancel()]
            if batch:
                self._observe(len(batch))
            for thorough in (False, True):
                if alike := [entry for entry in batch if entry.thorough is thorough]:
                    self._answer(alike)

    def _collect(self) -> tuple[list[_Entry], bool]:
        """The next batch, and whether there will be more after it."""
        batch: list[_Entry] = []
        closes = None
        while len(batch) < self._batch_size:
            try:
                timeout = None if closes is None else max(closes - time.monotonic(), 0)
                entry = self._queue.get(timeout=timeout)
            except Empty:
                break
            if entry is None:
                return batch, False
            batch.append(entry)
            closes = closes or time.monotonic() + self._wait
        return batch, True

    def _answer(self, batch: list[_Entry]) -> None:
        """Of images that are all to be judged thoroughly, or none."""
        try:
            reports = self._judges[batch[0].thorough]([entry.image for entry in batch])
        except Exception as error:  # whatever it is, those who wait must hear of it
            if len(batch) == 1:
                batch[0].answer.set_exception(error)
                return
            for entry in batch:  # one image's trouble is not the others'
                self._answer([entry])
            return
        for entry, report in zip(batch, reports, strict=True):
            entry.answer.set_result(report)
