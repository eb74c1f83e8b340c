"""Photographs that cost far more than their size: pixels, scans, directories that name the same bytes."""

import io
import struct
import zlib
from random import Random

from PIL import Image

from hostile.photos import EXIF, png, png_chunks, saved


def png_bomb(rng: Random) -> bytes:
    """Few bytes that decode to many pixels, up to and above the limit."""
    bits, colour, channels = rng.choice(((1, 0, 1), (8, 0, 1), (8, 2, 3), (8, 6, 4), (16, 0, 1)))
    width, height = rng.choice(((6000, 6000), (8900, 8900), (80_000_000, 1), (1, 400_000), (9_000, 9_000)))
    packer = zlib.compressobj(1)
    row = bytes(1 + (width * bits * channels + 7) // 8)
    rows = height if len(row) * height < 400_000_000 else max(1, 400_000_000 // len(row))
    data = b"".join(packer.compress(row) for _ in range(rows)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return png([(b"IHDR", header), (b"IDAT", data), (b"IEND", b"")])


def scan_bomb(rng: Random) -> bytes:
    """A progressive JPEG with many scans, each of which touches every block."""
    return progressive_jpeg(2048, rng.choice((10, 200, 2000)))


def progressive_jpeg(side: int, scans: int) -> bytes:
    """`side` x `side` pixels of grey; its first AC scan is there `scans` times, at few bytes each."""
    stream = io.BytesIO()
    Image.new("L", (side, side), 128).save(stream, "JPEG", progressive=True)
    content = stream.getvalue()
    second = content.index(b"\xff\xda", content.index(b"\xff\xda") + 2)
    end = content.find(b"\xff\xc4", second)
    end = end if end > 0 else content.index(b"\xff\xda", second + 2)
    return content[:second] + content[second:end] * scans + content[end:]


def directory(*, count: int, start: int, size: int) -> bytes:
    """A TIFF directory at `start` whose `count` entries all name the same `size` bytes at offset 0."""
    entries = b"".join(struct.pack("<HHII", 1000 + i, 7, size, 0) for i in range(count))
    return b"II*\x00" + struct.pack("<I", start) + struct.pack("<H", count) + entries + bytes(4)


def tiff_bomb(rng: Random) -> bytes:
    """Thousands of entries of a directory that all name the whole file."""
    content = directory(count=60_000, start=8, size=rng.choice((700_000, 10_000)))
    return content + bytes(rng.choice((0, 100_000)))


def exif_bomb(rng: Random) -> bytes:
    """The same within a photograph's EXIF."""
    return rng.choice((exif_png, exif_jpeg))(rng.choice((2_000, 5_000, 40_000)))


def exif_png(entries: int) -> bytes:
    """EXIF whose entries all name all of it."""
    chunks = png_chunks(saved("RGB", "PNG"))
    blob = directory(count=entries, start=8, size=12 * entries)
    return png([chunks[0], (b"eXIf", blob), *chunks[1:]])


def exif_jpeg(entries: int) -> bytes:
    """The same over as many segments as it takes: Pillow joins them."""
    blob, content = directory(count=entries, start=8, size=12 * entries), saved("RGB", "JPEG")
    parts = (blob[at : at + 60_000] for at in range(0, len(blob), 60_000))
    segments = (b"\xff\xe1" + struct.pack(">H", len(part) + 8) + EXIF + part for part in parts)
    return content[:2] + b"".join(segments) + content[20:]  # without JFIF, whose density keeps EXIF unread


BOMBS = (png_bomb, scan_bomb, tiff_bomb, exif_bomb)


def hostile_bomb(rng: Random) -> bytes:
    """One of them."""
    return rng.choice(BOMBS)(rng)
