"""Damage to bytes of any format."""

from collections.abc import Callable, Sequence
from random import Random

EXTREMES = (
    0,
    1,
    2,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0xFFFF,
    0x10000,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFE,
    0xFFFFFFFF,
)

Operation = Callable[[bytearray, Random], None]


def place(data: bytearray, rng: Random) -> int:
    """A position in `data`, near its beginning as often as anywhere: there are the headers."""
    end = min(len(data), 64) if rng.random() < 0.5 else len(data)
    return rng.randrange(max(end, 1))


def extent(data: bytearray, rng: Random, limit: int = 4096) -> slice:
    """A stretch of at most `limit` bytes, short ones more often."""
    start = place(data, rng)
    return slice(start, start + min(1 << rng.randrange(13), limit))


def flip_bit(data: bytearray, rng: Random) -> None:
    if data:
        data[place(data, rng)] ^= 1 << rng.randrange(8)


def set_byte(data: bytearray, rng: Random) -> None:
    if data:
        data[place(data, rng)] = rng.choice((0x00, 0xFF, 0x7F, 0x80, rng.randrange(256)))


def truncate(data: bytearray, rng: Random) -> None:
    del data[rng.randrange(len(data) + 1) :]


def cut_out(data: bytearray, rng: Random) -> None:
    del data[extent(data, rng)]


def repeat(data: bytearray, rng: Random) -> None:
    stretch = extent(data, rng)
    data[stretch.start : stretch.start] = data[stretch] * rng.choice((1, 2, 16))


def insert(data: bytearray, rng: Random) -> None:
    start, length = place(data, rng), 1 << rng.randrange(9)
    data[start:start] = rng.randbytes(length) if rng.random() < 0.5 else bytes([rng.randrange(256)]) * length


def overwrite(data: bytearray, rng: Random) -> None:
    stretch = extent(data, rng, 256)
    length = len(data[stretch])
    data[stretch] = rng.choice((bytes(length), b"\xff" * length, rng.randbytes(length)))


def move(data: bytearray, rng: Random) -> None:
    stretch = extent(data, rng)
    taken = data[stretch]
    del data[stretch]
    start = place(data, rng)
    data[start:start] = taken


def lie(data: bytearray, rng: Random) -> None:
    """An extreme number where a length, an offset or a dimension may be, in either byte order."""
    width = rng.choice((1, 2, 4, 8))
    number = rng.choice(EXTREMES) & ((1 << 8 * width) - 1)
    start = place(data, rng)
    end = min(start + width, len(data))
    data[start:end] = number.to_bytes(width, rng.choice(("big", "little")))[: end - start]


OPERATIONS: tuple[Operation, ...] = (
    *(flip_bit, set_byte, truncate, cut_out, repeat, insert, overwrite, move, lie),
    *(flip_bit, set_byte, lie),  # the small ones get deepest into a decoder
)


def damage(content: bytes, rng: Random, others: Sequence[bytes] = ()) -> bytes:
    """One to four operations on `content`; now and then the end of one of `others` behind its beginning."""
    data = bytearray(content)
    if others and rng.random() < 0.1:
        other = rng.choice(others)
        data[rng.randrange(len(data) + 1) :] = other[rng.randrange(len(other) + 1) :]
    for _ in range(rng.choice((1, 1, 2, 4))):
        rng.choice(OPERATIONS)(data, rng)
    return bytes(data)


def change_fields(content: bytes, rng: Random, marks: Sequence[bytes]) -> bytes:
    """Numbers near one to three of these marks, where sizes, counts, times and offsets lie."""
    data = bytearray(content)
    for _ in range(rng.randint(1, 3)):
        found = [at for mark in marks if (at := _find(content, mark, rng)) >= 0]
        if not found:
            return content
        at = rng.choice(found) + rng.choice((-4, 0, 4, 8, 12, 16, 20, 24, 28, 76, 78))
        width = rng.choice((1, 2, 4, 8))
        number = rng.choice((*EXTREMES, rng.randrange(256))) & ((1 << 8 * width) - 1)
        if at >= 0:
            data[at : at + width] = number.to_bytes(width, rng.choice(("big", "little")))
    return bytes(data)


def _find(content: bytes, mark: bytes, rng: Random) -> int:
    """One of the places of a mark."""
    start = content.find(mark, rng.randrange(len(content)))
    return start if start >= 0 else content.find(mark)
