"""One photograph, answered at once: received, decoded within a budget of memory, judged in a batch."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from io import BytesIO
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import Any, BinaryIO, TypeVar, cast

from starlette.requests import Request

from forgerank.detect.result import LoadedImage, Report
from forgerank.detect.runtime import usable_cores
from forgerank.media.files import MediaError
from forgerank.media.images import TooManyPixelsError, UnknownFormatError, read_photo
from forgerank.report.credentials import read_credentials
from forgerank.report.entries import Credentials
from forgerank.serving.receiving import ProblemError, busy, label, receive
from forgerank.serving.service.batching import Batcher
from forgerank.serving.service.service_settings import ServiceSettings

# Decoded pixels that wait or are judged, 3 bytes each; a photograph with more is judged when it is alone.
_DECODED_PIXELS = 200_000_000
_IN_MEMORY = 1_048_576  # bytes of an upload; what goes beyond waits on the disk
T = TypeVar("T")


class Photos:
    """Judges the photographs of requests. Made in the event loop that it is used in."""

    def __init__(self, batcher: Batcher, settings: ServiceSettings, folder: Path) -> None:
        """`folder` takes uploads while they wait, without a name."""
        self._batcher, self._settings, self._folder = batcher, settings, folder
        self._free = asyncio.Semaphore(usable_cores())
        # Few threads of their own: memory that many threads free in turn does not go back to the system.
        self._decoders = ThreadPoolExecutor(usable_cores(), "decoder")
        self._budget = _Budget(_DECODED_PIXELS)

    def close(self) -> None:
        """After the last request."""
        self._decoders.shutdown()

    async def judge(self, request: Request, name: str) -> tuple[Report, Credentials | None]:
        """The report on the photograph that a request carries; `name` goes before the name in the form.

        Raises ProblemError, and QueueFullError where `queue_photos` are in work already.
        """
        settings = self._settings
        with self._batcher.place(), SpooledTemporaryFile(_IN_MEMORY, dir=str(self._folder)) as spool:
            file = cast(BinaryIO, spool)
            try:
                async with asyncio.timeout(settings.photo_seconds):
                    own_name = await receive(request, file, settings.photo_bytes)
                    shown = label(name or own_name, "photograph")
                    return await unless_gone(request, self._answer(file, shown))
            except TimeoutError:
                raise busy(f"not judged within {settings.photo_seconds:g} seconds") from None

    async def _answer(self, file: BinaryIO, name: str) -> tuple[Report, Credentials | None]:
        async with AsyncExitStack() as stack:
            async with self._free:
                loop, limit = asyncio.get_running_loop(), self._settings.photo_pixels
                image, credentials = await loop.run_in_executor(self._decoders, decode, file, name, limit)
                # No other image is decoded before this one has its room.
                await stack.enter_async_context(self._budget.room(image.image.size // 3))
            return await asyncio.wrap_future(self._batcher.submit(image)), credentials


def decode(file: BinaryIO, name: str, max_pixels: int) -> tuple[LoadedImage, Credentials | None]:
    """The photograph in an upload, and what its content credentials say.

    Raises ProblemError: 413 for more than `max_pixels`, 415 for no photograph, 422 for a damaged one.
    """
    file.seek(0)
    data = file.read()
    try:
        image = read_photo(name, data=data, max_pixels=max_pixels)
    except MediaError as error:
        status = next((status for kind, status in _STATUS.items() if isinstance(error, kind)), 422)
        raise ProblemError(status, error.reason) from None
    pil = LoadedImage(name, hashlib.sha256(data).hexdigest(), image)
    return pil, read_credentials(BytesIO(data))


_STATUS: dict[type[MediaError], int] = {UnknownFormatError: 415, TooManyPixelsError: 413}


async def unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """What `work` returns; it is cancelled when the client hangs up. The body must have been read."""
    task = asyncio.create_task(work)
    gone = asyncio.create_task(_gone(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ProblemError(400, "the client hung up")  # only the metrics see it
        return task.result()
    finally:
        task.cancel()
        gone.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


class _Budget:
    """A semaphore that counts in units of different size."""

    def __init__(self, total: int) -> None:
        self._total = self._free = total
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def room(self, units: int) -> AsyncIterator[None]:
        units = min(units, self._total)
        async with self._changed:
            await self._changed.wait_for(lambda: self._free >= units)
            self._free -= units
        try:
            yield
        finally:
            self._free += units
            async with self._changed:
                self._changed.notify_all()
