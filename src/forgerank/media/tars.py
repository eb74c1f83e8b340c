"""Tars, plain or packed with gzip, bzip2, xz, and Zstandard where Python knows it (from 3.14), read in order.

Several behind one another, packed or not, are one: `tar -A` and `cat` make such files. What Python's own
readers pass over in silence ends the reading with a reason: headers that make no sense, what follows the end
and is no tar, an end that is missing.
"""

import bz2
import io
import lzma
import math
import sys
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import IO, Any, BinaryIO, Protocol, cast

from forgerank.media.suffixes import archive_format
from forgerank.types import InputError

HEAD_BYTES = 512  # enough to tell the formats
_HEADER_BYTES = 1 << 15  # of one member; tarfile searches them in time that grows with their square
_CHUNK = 1 << 18  # bytes passed over at a time
_GOES_ON = "damaged archive (it goes on with something else)"


class ArchiveError(InputError):
    """From here on the archive is not read; `str()` is the reason alone, one line."""


class CutError(ArchiveError):
    """The end of the archive is missing."""

    def __init__(self) -> None:
        super().__init__("damaged archive (its end is missing)")


class _Unpacker(Protocol):
    """What expands one packed stream, as `bz2.BZ2Decompressor` does."""

    @property
    def eof(self) -> bool:
        """Whether the end of the stream was reached."""

    @property
    def unused_data(self) -> bytes:
        """What follows the end of the stream, as far as it was given."""

    def decompress(self, data: bytes, max_length: int) -> bytes:
        """The next bytes, at most so many; what `data` holds beyond them is kept."""


class _GzipUnpacker:
    """zlib's decompressor, of one stream of gzip, with the interface of the others."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(16 + zlib.MAX_WBITS)

    @property
    def eof(self) -> bool:
        return self._stream.eof

    @property
    def unused_data(self) -> bytes:
        return self._stream.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._stream.decompress(self._stream.unconsumed_tail + data, max_length)


_PACKED: dict[str | None, Callable[[], _Unpacker]] = {  # by the names of `archive_format`
    "gzip": _GzipUnpacker,
    "bzip2": bz2.BZ2Decompressor,
    "xz": lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ),
}
if sys.version_info >= (3, 14):
    from compression import zstd

    _PACKED["Zstandard"] = zstd.ZstdDecompressor


def begins_tar(head: bytes) -> bool:
    """Whether these, HEAD_BYTES where there are so many, begin a tar, or what may be a packed one."""
    return (kind := archive_format(head)) == "tar" or kind in _PACKED


def tar_entries(
    file: BinaryIO, spend: Callable[[int], None] = lambda count: None
) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    """Every entry in its order, with the tar that extracts it until the next one is taken.

    `spend` is told of all bytes read of the expansion, and may raise to end it. Raises ArchiveError where the
    archive is damaged; else what `tarfile` and the decompressors raise, of errors of every kind.
    """
    head = file.read(HEAD_BYTES)
    file.seek(0)
    kind = archive_format(head)
    with ExitStack() as stack:
        source = stack.enter_context(io.BufferedReader(_Streams(file, kind))) if kind in _PACKED else file
        block, problem = b"", "damaged archive, or no tar in it"
        while True:
            expanded = _Expanded(source, spend, block)
            try:
                archive = stack.enter_context(tarfile.open(fileobj=cast(IO[bytes], expanded), mode="r:"))
            except tarfile.ReadError:
                raise ArchiveError(problem) from None
            for entry in archive:
                expanded.headers_left = math.inf
                yield archive, entry
                expanded.headers_left = _HEADER_BYTES
            problem = _GOES_ON
            if len(expanded.last) < tarfile.BLOCKSIZE:
                raise CutError
            if expanded.last.strip(b"\0"):  # tarfile takes a header that makes no sense for the end
                raise ArchiveError(problem)
            block = expanded.skip_zeros()  # another archive may have been joined to this one
            if not block:
                return


class _Streams(io.RawIOBase):
    """The expansion of a packed file: of one stream, or of several behind one another with zeros between.

    Python's own readers pass over in silence what follows a stream of bzip2 or xz and is none.
    """

    def __init__(self, file: BinaryIO, kind: str | None) -> None:
        self._file, self._kind = file, kind
        self._stream = _PACKED[kind]()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        content = packed = b""  # at first there may be more of what the decompressor was given before
        while not content:
            if self._stream.eof:
                packed = self._next_stream()
                if not packed:
                    return 0
                self._stream = _PACKED[self._kind]()
            content = self._stream.decompress(packed, len(buffer))
            if not (content or self._stream.eof):
                packed = self._file.read(io.DEFAULT_BUFFER_SIZE)
                if not packed:
                    raise CutError
        buffer[: len(content)] = content
        return len(content)

    def _next_stream(self) -> bytes:
        """How the next stream begins; nothing where there is none."""
        head = self._stream.unused_data.lstrip(b"\0")
        while len(head) < HEAD_BYTES and (packed := self._file.read(io.DEFAULT_BUFFER_SIZE)):
            head = (head + packed).lstrip(b"\0")
        if head and archive_format(head) != self._kind:
            raise ArchiveError(_GOES_ON)
        return head


class _Expanded:
    """The expanded tar as tarfile wants its file; it only goes on, and `spend` is told of every byte.

    `headers_left` bounds what may be read before the next member: tarfile gathers headers in memory. `first`
    is the first block, where that was taken from the source.
    """

    def __init__(self, source: IO[bytes], spend: Callable[[int], None], first: bytes) -> None:
        self._source, self._spend, self._first, self._position = source, spend, first, 0
        self.headers_left: float = _HEADER_BYTES
        self.last = b""  # what was read last

    def tell(self) -> int:
        return self._position

    def seek(self, position: int) -> int:
        if position < self._position:
            raise ArchiveError("damaged archive (a member lies before the one that precedes it)")
        while self._position < position and self._take(min(_CHUNK, position - self._position)):
            pass
        return self._position

    def read(self, size: int) -> bytes:
        self.headers_left -= size
        if size < 0 or self.headers_left < 0:
            raise ArchiveError("its headers are too long")
        self.last = self._take(size)
        return self.last

    def skip_zeros(self) -> bytes:
        """The next block that holds something else; nothing at the end."""
        while (block := self._take(tarfile.BLOCKSIZE)) and not block.strip(b"\0"):
            pass
        return block

    def _take(self, size: int) -> bytes:
        content, self._first = self._first, b""
        if not content:
            content = self._source.read(size)
            self._spend(len(content))
        self._position += len(content)
        return content
