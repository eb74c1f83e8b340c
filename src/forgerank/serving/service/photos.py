"""One photograph, answered at once: received, decoded in a process of its own, judged in a batch."""

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import Any, BinaryIO, TypeVar, cast

from starlette.requests import Request

from forgerank.detect.result import Report
from forgerank.detect.runtime import usable_cores
from forgerank.media.files import MediaError
from forgerank.media.opening import TooManyPixelsError, UnknownFormatError
from forgerank.media.suffixes import HEAD_BYTES
from forgerank.serving.receiving import ProblemError, busy, label, receive
from forgerank.serving.service.batching import Batcher
from forgerank.serving.service.decoders import Decoded, DecoderDiedError, Decoders
from forgerank.serving.service.service_settings import ServiceSettings
from forgerank.serving.service.uploads import kind_of_head

# Decoded pixels that wait or are judged, 3 bytes each; a photograph with more is judged when it is alone.
_DECODED_PIXELS = 200_000_000
_IN_MEMORY = 1_048_576  # bytes of an upload; what goes beyond waits on the disk
_FOR_JOBS = "videos and archives are for POST /v1/jobs"
T = TypeVar("T")


class Photos:
    """Judges the photographs of requests."""

    def __init__(self, batcher: Batcher, settings: ServiceSettings, folder: Path) -> None:
        """`folder` takes uploads while they wait, without a name."""
        self._batcher, self._settings, self._folder = batcher, settings, folder
        self.decoders = Decoders(usable_cores(), settings.decode_seconds, _DECODED_PIXELS)

    def start(self) -> None:
        """Begin to decode."""
        self.decoders.start()

    def close(self) -> None:
        """After the last request."""
        self.decoders.close()

    async def judge(
        self,
        request: Request,
        name: str,
        client: Hashable,
        write: Callable[[Report, Decoded], T],
        *,
        thorough: bool = False,
    ) -> T:
        """What `write` makes of the report on the photograph that a request carries, and of the photograph.

        `name` goes before the name in the form; the photographs of one `client` are decoded after those of
        others who have had less. `write` runs in a thread. Raises ProblemError, and QueueFullError where
        `queue_photos` are in work already.
        """
        settings = self._settings
        with self._batcher.place(), SpooledTemporaryFile(_IN_MEMORY, dir=str(self._folder)) as spool:
            file = cast(BinaryIO, spool)
            try:
                async with asyncio.timeout(settings.photo_seconds):
                    own_name = await self._receive(request, file)
                    shown = label(name or own_name, "photograph")
                    work = self._answer(file, shown, client, write, thorough=thorough)
                    return await unless_gone(request, work)
            except TimeoutError:
                raise busy(f"not judged within {settings.photo_seconds:g} seconds") from None

    async def _receive(self, request: Request, file: BinaryIO) -> str | None:
        try:
            return await receive(request, file, self._settings.photo_bytes)
        except ProblemError as error:
            if error.status == 413:
                error.detail = f"{error.detail}; {_FOR_JOBS}"
            raise

    async def _answer(
        self,
        file: BinaryIO,
        name: str,
        client: Hashable,
        write: Callable[[Report, Decoded], T],
        *,
        thorough: bool,
    ) -> T:
        with self.decoders.decoding(file, name, self._settings.photo_pixels, client) as answer:
            try:
                decoded = await asyncio.wrap_future(answer)
            except (MediaError, DecoderDiedError) as error:
                raise as_problem(error, file) from None
            report = await asyncio.wrap_future(self._batcher.submit(decoded.image, thorough=thorough))
            return await asyncio.to_thread(write, report, decoded)


def as_problem(error: MediaError | DecoderDiedError, file: BinaryIO) -> ProblemError:
    """413 for too many pixels, 415 for no photograph, 422 for a damaged one, 503 where its decoder died."""
    if isinstance(error, DecoderDiedError):
        return busy("its decoder was killed, for want of memory as a rule")
    status = next((status for kind, status in _STATUS.items() if isinstance(error, kind)), 422)
    file.seek(0)
    kind = kind_of_head(file.read(HEAD_BYTES))
    if status == 415 and kind in {"video", "archive"}:
        return ProblemError(415, f"{_A[kind]}, not a photograph: send it to POST /v1/jobs")
    return ProblemError(status, error.reason)


_A = {"video": "a video", "archive": "an archive"}
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
