"""Uploads as they come in: raw or multipart/form-data, counted while they are written, never held whole."""

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import BinaryIO

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request

from forgerank.serving.trouble import trouble

_log = logging.getLogger(__name__)
RETRY_SECONDS = 5  # of Retry-After where nothing better is known


class ProblemError(Exception):
    """Ends a request with problem details; `detail` is one line and may be shown to anyone."""

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers = status, detail, headers


def busy(detail: str, seconds: int = RETRY_SECONDS) -> ProblemError:
    """503: come back in so many seconds."""
    return ProblemError(503, detail, {"Retry-After": str(seconds)})


_FORM = b"multipart/form-data"
_FORM_OVERHEAD = 65_536  # bytes of a form that are not the file
_FORM_PARTS = 64
_IDLE_SECONDS = 30.0  # without a byte
_SLOWEST = 10_000  # bytes a second on average, beyond the first _IDLE_SECONDS
_BUFFER = 1_048_576  # bytes that wait in memory for the disk
_LABEL_LENGTH = 200
# The rest of what is too large is not awaited.
_CLOSE = {"Connection": "close"}


async def receive(request: Request, file: BinaryIO, limit: int, *, empty: bool = False) -> str | None:
    """Write the file that a request carries into `file`; returns the name that the client gives it, if any.

    `limit` in bytes; `empty` accepts a file of 0 bytes. Raises ProblemError: 400 for a body that breaks off
    or is not a valid form, 408 for one that stalls or trickles, 413 as soon as it is too large, 415 for a
    compressed one, 422 for an empty one, 503 for a full disk.
    """
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise ProblemError(415, "send the file without a Content-Encoding")
    kind, options = parse_options_header(request.headers.get("content-type"))
    form = _Form(options.get(b"boundary", b"")) if kind == _FORM else None
    allowed = limit + (0 if form is None else _FORM_OVERHEAD)
    stated = request.headers.get("content-length", "")
    if stated.isascii() and stated.isdigit() and int(stated) > allowed:
        raise _too_large(limit)
    received = written = 0
    waiting = bytearray()
    chunks = aiter(request.stream())
    waited = 0.0  # seconds for the client, not for the disk
    patience = _IDLE_SECONDS
    try:
        while True:
            asked = time.monotonic()
            chunk = await asyncio.wait_for(anext(chunks), patience)
            waited += time.monotonic() - asked
            if not chunk:
                break
            received += len(chunk)
            patience = min(_IDLE_SECONDS, _IDLE_SECONDS + received / _SLOWEST - waited)
            # A form is taken apart in a thread: a hostile one must not hold up the other requests.
            part = chunk if form is None else await run_in_threadpool(form.feed, chunk)
            waiting += part
            written += len(part)
            if received > allowed or written > limit:
                raise _too_large(limit)
            if form is not None and received - written > _FORM_OVERHEAD:
                raise ProblemError(413, f"more than {_FORM_OVERHEAD} bytes of a form beside its file", _CLOSE)
            if len(waiting) > _BUFFER:
                await run_in_threadpool(file.write, waiting)
                waiting = bytearray()
        if form is not None:
            form.finish()
        await run_in_threadpool(file.write, waiting)
    except TimeoutError:
        stalled = f"no byte came for {_IDLE_SECONDS:g} seconds"
        slow = f"it came at less than {_SLOWEST} bytes a second"
        raise ProblemError(408, stalled if patience == _IDLE_SECONDS else slow, _CLOSE) from None
    except ClientDisconnect:
        raise ProblemError(400, "the body broke off") from None
    except OSError as error:
        raise exhausted(error) from None
    if not written and not empty:
        raise ProblemError(422, "the file is empty")
    return None if form is None else form.name


def label(name: str | None, default: str) -> str:
    """What a client calls its file, as a label: one printable line without folders, not too long."""
    last = (name or "").replace("\\", "/").rpartition("/")[2]
    shown = "".join(c for c in last if c.isprintable()).strip()
    return shown[:_LABEL_LENGTH] or default


def exhausted(error: BaseException) -> BaseException:
    """503 for the server's own `trouble`, which goes into the log; else the error itself."""
    cause = None if isinstance(error, ProblemError) else trouble(error)
    if cause is None:
        return error
    _log.error("a request could not be answered now: %s (%s)", cause, error)
    return busy(f"the server cannot do this now: {cause}", 300 if "disk" in cause else RETRY_SECONDS)


def _too_large(limit: int) -> ProblemError:
    return ProblemError(413, f"larger than the limit of {limit} bytes", _CLOSE)


class _Form:
    """The one file out of a form: a part that names a file, or the part `file`. Other parts are skipped."""

    def __init__(self, boundary: bytes) -> None:
        if not 0 < len(boundary) <= 70:  # RFC 2046
            raise ProblemError(400, "multipart/form-data without a proper boundary")
        self.name: str | None = None
        self._found = self._inside = self._ended = False
        self._parts = 0
        self._header, self._value = bytearray(), bytearray()
        self._disposition = b""
        self._data = bytearray()
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._part_begins,
                "on_header_field": lambda data, start, end: self._header.extend(data[start:end]),
                "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
                "on_header_end": self._header_ends,
                "on_headers_finished": self._data_begins,
                "on_part_data": self._take,
                "on_end": self._end,
            },
        )

    def feed(self, chunk: bytes) -> bytes:
        """The bytes of the file in the next piece of the body."""
        self._data.clear()
        try:
            self._parser.write(chunk)
        except FormParserError:
            raise ProblemError(400, "the body is not proper multipart/form-data") from None
        return bytes(self._data)

    def finish(self) -> None:
        """Check that the form was whole and carried a file."""
        if not self._ended:
            raise ProblemError(400, "the form breaks off before its last boundary")
        if not self._found:
            raise ProblemError(422, "the form carries no file")

    def _part_begins(self) -> None:
        self._disposition, self._inside = b"", False
        self._parts += 1
        if self._parts > _FORM_PARTS:
            raise ProblemError(400, f"a form of more than {_FORM_PARTS} parts", _CLOSE)

    def _header_ends(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = bytes(self._value)
        self._header.clear()
        self._value.clear()

    def _data_begins(self) -> None:
        _, options = parse_options_header(self._disposition)
        if b"filename" not in options and options.get(b"name") != b"file":
            return
        if self._found:
            raise ProblemError(422, "one file a request; several go to POST /v1/jobs as a zip or tar archive")
        self._found = self._inside = True
        if b"filename" in options:
            self.name = options[b"filename"].decode("utf-8", "replace")

    def _take(self, data: bytes, start: int, end: int) -> None:
        if self._inside:
            self._data += data[start:end]

    def _end(self) -> None:
        self._ended = True
