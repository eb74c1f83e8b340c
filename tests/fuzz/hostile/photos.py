"""Photographs in every mode and container that Pillow writes, and damage that keeps their structure."""

import io
import struct
import zlib
from collections.abc import Callable
from functools import cache
from random import Random

import numpy as np
from PIL import Image, TiffImagePlugin

from hostile.damage import EXTREMES, change_fields, damage

WIDTH, HEIGHT = 24, 18
EXIF = b"Exif\x00\x00"
_TIFF_CODECS = ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "zstd", "lzma")


@cache
def seeds() -> dict[str, tuple[bytes, ...]]:
    """Small valid files by format."""
    files = {"JPEG": _jpegs(), "PNG": _pngs(), "WEBP": _webps(), "BMP": _bmps(), "TIFF": _tiffs()}
    files |= {"GIF": _gifs(), "AVIF": _avifs(), "HEIC": _heics()}
    return {name: contents for name, contents in files.items() if contents}


def hostile_photo(rng: Random) -> bytes:
    """A damaged photograph: by its structure, byte by byte, or both."""
    name, files = rng.choice(list(seeds().items()))
    content = rng.choice(files)
    choice = rng.randrange(4)
    if choice:
        content = _STRUCTURE[name](content, rng)
    if choice != 1:
        content = damage(content, rng, [seed for files in seeds().values() for seed in files])
    return content


@cache
def portraits() -> tuple[bytes, ...]:
    """A real face, 200 x 200 pixels, in formats that go on decoding where they are damaged, and in PNG."""
    from skimage import data

    face = Image.fromarray(data.astronaut()[20:220, 120:320])
    moved = [face.rotate(angle) for angle in (2, 4)]
    kinds: tuple[dict[str, object], ...] = (
        {"format": "JPEG"},
        {"format": "JPEG", "progressive": True},
        {"format": "WEBP"},
        {"format": "PNG"},
        {"format": "AVIF", "speed": 10},
        {"format": "PNG", "save_all": True, "append_images": moved},
        {"format": "GIF", "save_all": True, "append_images": moved},
        {"format": "TIFF", "save_all": True, "append_images": moved},
    )
    return (*(_encoded(face, **options) for options in kinds), *_heif([face]))


def hostile_portrait(rng: Random) -> bytes:
    """A photograph with a face; most of what is damaged behind its header still decodes."""
    if rng.randrange(4) == 0:
        return damage(rng.choice(portraits()), rng)
    data = bytearray(rng.choice(portraits()))
    for _ in range(rng.randint(0, 6)):
        data[rng.randrange(len(data) // 3, len(data))] = rng.randrange(256)
    return bytes(data)


def _image(mode: str) -> Image.Image:
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    noise = np.random.default_rng(0).integers(0, 60, (HEIGHT, WIDTH, 3))
    pixels = np.stack([x * 8, y * 10, 255 - x * 5], axis=-1).clip(0, 195) + noise
    image = Image.fromarray(pixels.astype(np.uint8))
    if mode == "I;16":
        return Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    if mode == "LAB":
        return Image.frombytes("LAB", (WIDTH, HEIGHT), image.tobytes())
    return image.convert(mode)


def saved(mode: str, kind: str, **options: object) -> bytes:
    """A small image in this mode and format."""
    return _encoded(_image(mode), kind, **options)


def _encoded(image: Image.Image, format: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


def _exif() -> bytes:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x9286] = 6, "maker", "comment"
    exif.get_ifd(0x8825)[2] = (1.0, 2.0, 3.0)
    return exif.tobytes()


def _jpegs() -> tuple[bytes, ...]:
    more = [_image("L").convert("RGB")]
    return (
        saved("RGB", "JPEG", exif=_exif(), icc_profile=bytes(200), comment=b"a comment"),
        saved("RGB", "JPEG", subsampling=0, quality=95, restart_marker_blocks=1),
        saved("RGB", "JPEG", progressive=True, dpi=(72, 72)),
        saved("L", "JPEG", exif=_exif()),
        saved("CMYK", "JPEG"),
        saved("RGB", "MPO", save_all=True, append_images=more, exif=_exif()),
    )


def _pngs() -> tuple[bytes, ...]:
    plain = [saved(mode, "PNG") for mode in ("1", "L", "LA", "RGB", "RGBA", "I;16", "P")]
    more = _frames()
    return (
        *plain,
        saved("P", "PNG", transparency=1),
        saved("RGB", "PNG", exif=_exif(), icc_profile=bytes(200), dpi=(72, 72), transparency=(1, 2, 3)),
        saved("RGB", "PNG", save_all=True, append_images=more[:1], duration=40),
        saved("RGB", "PNG", save_all=True, append_images=more, duration=40, disposal=1, blend=1),
        _interlaced(),
    )


def _interlaced() -> bytes:
    """Adam7 with 16 bits, which Pillow does not write: 8 x 8 pixels of RGB."""
    passes = ((1, 1), (1, 1), (2, 1), (2, 2), (4, 2), (4, 4), (8, 4))  # width, rows
    rows = b"".join((b"\x00" + bytes(range(6)) * width) * height for width, height in passes)
    header = struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 1)
    return png(
        [(b"IHDR", header), (b"tEXt", b"key\x00value"), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    )


def _webps() -> tuple[bytes, ...]:
    return (
        saved("RGB", "WEBP", quality=80),
        saved("RGBA", "WEBP", lossless=True, exif=_exif(), icc_profile=bytes(200), xmp=b"<x/>"),
        saved("RGB", "WEBP", save_all=True, append_images=[_image("RGBA")], duration=40),
        saved("RGB", "WEBP", save_all=True, append_images=_frames(), duration=40),
    )


def _frames() -> list[Image.Image]:
    """What an animation goes on with."""
    image = _image("RGB")
    return [image.transpose(turn) for turn in (Image.Transpose.ROTATE_180, Image.Transpose.FLIP_LEFT_RIGHT)]


def _gifs() -> tuple[bytes, ...]:
    return (
        saved("P", "GIF"),
        saved("L", "GIF", transparency=3, comment=b"a comment"),
        saved("RGB", "GIF", save_all=True, append_images=_frames(), duration=40, loop=0, disposal=2),
    )


def _avifs() -> tuple[bytes, ...]:
    return (
        saved("RGB", "AVIF", speed=10, exif=_exif(), icc_profile=bytes(200), xmp=b"<x/>"),
        saved("RGBA", "AVIF", speed=10, subsampling="4:4:4"),
        saved("RGB", "AVIF", speed=10, save_all=True, append_images=_frames(), duration=40),
    )


def _heics() -> tuple[bytes, ...]:
    return (*_heif([_image("RGB")], exif=_exif()), *_heif([_image("RGBA"), *_frames()]))


def _heif(images: list[Image.Image], **options: object) -> tuple[bytes, ...]:
    """One HEIC file of these images; none without the extra."""
    try:
        import pillow_heif
    except ImportError:
        return ()
    file = pillow_heif.HeifFile()
    for image in images:
        file.add_from_pillow(image)
    stream = io.BytesIO()
    file.save(stream, **options)
    return (stream.getvalue(),)


def _bmps() -> tuple[bytes, ...]:
    return (*(saved(mode, "BMP") for mode in ("1", "L", "P", "RGB", "RGBA")), *map(_run_length_bmp, (1, 2)))


def _run_length_bmp(compression: int) -> bytes:
    """RLE8 (1) or RLE4 (2), 4 x 2 pixels: runs, a literal stretch, a jump, ends of line and image."""
    data = bytes([4, 1, 0, 0, 0, 4, 1, 2, 3, 1, 0, 2, 1, 0, 0, 1])
    colours = bytes(range(64))
    info = struct.pack("<IiiHHIIiiII", 40, 4, 2, 1, 8 // compression, compression, len(data), 0, 0, 16, 16)
    start = 14 + len(info) + len(colours)
    return struct.pack("<2sIHHI", b"BM", start + len(data), 0, 0, start) + info + colours + data


def _tiffs() -> tuple[bytes, ...]:
    modes = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F", "YCbCr", "LAB")
    files = [saved(mode, "TIFF") for mode in modes]
    files += [saved("RGB", "TIFF", compression=codec) for codec in _TIFF_CODECS if _written(codec)]
    files += [saved("1", "TIFF", compression=codec) for codec in ("group3", "group4")]
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[0x0112], tags[270], tags[37000] = 8, "description", (1, 2, 3)
    files.append(saved("RGB", "TIFF", tiffinfo=tags, save_all=True, append_images=[_image("L")]))
    return (*files, saved("RGB", "TIFF", big_tiff=True, exif=_exif()))


def _written(codec: str) -> bool:
    try:
        return bool(saved("RGB", "TIFF", compression=codec))
    except OSError:  # this build of libtiff lacks the codec
        return False


def png(chunks: list[tuple[bytes, bytes]]) -> bytes:
    """A PNG file of these chunks, checksums right."""
    parts = [b"\x89PNG\r\n\x1a\n"]
    for kind, data in chunks:
        parts.append(struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)))
    return b"".join(parts)


def png_chunks(content: bytes) -> list[tuple[bytes, bytes]]:
    chunks, at = [], 8
    while at + 12 <= len(content):
        length = int.from_bytes(content[at : at + 4], "big")
        chunks.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + length]))
        at += 12 + length
    return chunks


_PNG_KINDS = (
    *b"IHDR PLTE IDAT IEND tRNS iCCP sRGB gAMA cHRM pHYs tEXt zTXt iTXt eXIf acTL fcTL fdAT abcd".split(),
    b"\x00\xff\x7f ",
)


def _damaged_png(content: bytes, rng: Random) -> bytes:
    """Chunks changed, added, doubled, removed, swapped; their checksums stay right."""
    chunks = png_chunks(content)
    for _ in range(rng.randint(1, 3)):
        i = rng.randrange(max(len(chunks), 1))
        kind, data = chunks[i] if chunks else (b"IHDR", bytes(13))
        choice = rng.randrange(7)
        if choice == 0 and kind == b"IDAT":
            try:
                chunks[i] = (kind, zlib.compress(damage(zlib.decompress(data), rng)))
            except zlib.error:
                chunks[i] = (kind, damage(data, rng))
        elif choice == 1:
            chunks.insert(i, (rng.choice(_PNG_KINDS), damage(data, rng)))
        elif choice == 2:
            chunks.insert(rng.randrange(len(chunks) + 1), (kind, data))
        elif choice == 3:
            del chunks[i : i + 1]
        elif choice == 4:
            rng.shuffle(chunks)
        elif choice == 5:
            text = b"key\x00\x00" + zlib.compress(bytes(1 << rng.randrange(8, 24)))
            chunks.insert(1, rng.choice([(b"zTXt", text), (b"iCCP", text), (b"eXIf", damage(_exif(), rng))]))
        elif chunks:
            chunks[i] = (kind, damage(data, rng))
    return png(chunks)


def _damaged_jpeg(content: bytes, rng: Random) -> bytes:
    """Segments changed with their lengths right, added, doubled; sizes that lie; odd EXIF."""
    segments, at = [], 2
    while at + 4 <= len(content) and content[at] == 0xFF and content[at + 1] not in (0xDA, 0xD9):
        length = int.from_bytes(content[at + 2 : at + 4], "big")
        segments.append((content[at + 1], content[at + 4 : at + 2 + length]))
        at += 2 + length
    for _ in range(rng.randint(1, 3)):
        i = rng.randrange(max(len(segments), 1))
        marker, data = segments[i] if segments else (0xE1, b"")
        choice = rng.randrange(5)
        if choice == 0:
            segments.insert(i, (0xE1, (EXIF + damage(_exif(), rng))[:60000]))
        elif choice == 1:
            segments.insert(i, (rng.randrange(0xC0, 0x100), damage(data, rng)[:60000]))
        elif choice == 2:
            segments.insert(rng.randrange(len(segments) + 1), (marker, data))
        elif choice == 3 and marker in (0xC0, 0xC2):
            size = struct.pack(">HH", rng.choice(EXTREMES) & 0xFFFF, rng.choice(EXTREMES) & 0xFFFF)
            segments[i] = (marker, data[:1] + size + data[5:])
        elif segments:
            segments[i] = (marker, damage(data, rng)[:60000])
    body = b"".join(
        bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2) + data for marker, data in segments
    )
    return content[:2] + body + content[at:]


def _damaged_tiff(content: bytes, rng: Random) -> bytes:
    """Entries of the first directory: other tags, types, counts and values."""
    data = bytearray(content)
    start = int.from_bytes(data[4:8], "little")
    entries = int.from_bytes(data[start : start + 2], "little")
    for _ in range(rng.randint(1, 3)):
        at = start + 2 + 12 * rng.randrange(max(entries, 1))
        field, width = rng.choice(((0, 2), (2, 2), (4, 4), (8, 4)))
        number = rng.choice((*EXTREMES, rng.randrange(330), 34712, 50000, 50001))
        data[at + field : at + field + width] = (number & ((1 << 8 * width) - 1)).to_bytes(width, "little")
    return bytes(data)


def _damaged_webp(content: bytes, rng: Random) -> bytes:
    """RIFF chunks changed with their lengths right, added, doubled, removed."""
    chunks, at = [], 12
    while at + 8 <= len(content):
        length = int.from_bytes(content[at + 4 : at + 8], "little")
        chunks.append((content[at : at + 4], content[at + 8 : at + 8 + length]))
        at += 8 + length + length % 2
    for _ in range(rng.randint(1, 3)):
        i = rng.randrange(max(len(chunks), 1))
        kind, data = chunks[i] if chunks else (b"VP8X", bytes(10))
        new = rng.choice(
            (b"VP8 ", b"VP8L", b"VP8X", b"ANIM", b"ANMF", b"ALPH", b"EXIF", b"ICCP", b"XMP ", kind)
        )
        chunks[i : i + rng.randrange(2)] = [
            (new, damage(_exif(), rng) if new == b"EXIF" else damage(data, rng))
        ]
    body = b"".join(kind + struct.pack("<I", len(d)) + d + bytes(len(d) % 2) for kind, d in chunks)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def _damaged_bmp(content: bytes, rng: Random) -> bytes:
    """Fields of the headers."""
    data = bytearray(content)
    for _ in range(rng.randint(1, 3)):
        field, width = rng.choice(((10, 4), (14, 4), (18, 4), (22, 4), (26, 2), (28, 2), (30, 4), (46, 4)))
        number = rng.choice((*EXTREMES, *range(9), 12, 16, 24, 32, 40, 52, 56, 64, 108, 124))
        data[field : field + width] = (number & ((1 << 8 * width) - 1)).to_bytes(width, "little")
    return bytes(data)


_GIF_MARKS = (b"GIF8", b"!\xf9\x04", b"!\xff\x0b", b"!\xfe", b"\x00,\x00\x00\x00\x00")
_BOXES = tuple(
    b"ftyp meta hdlr pitm iloc iinf infe iprp ipco ispe pixi av1C hvcC colr auxC irot imir ipma iref mdat "
    b"moov mvhd trak tkhd stsd stts stsz stco".split()
)


def _damaged_gif(content: bytes, rng: Random) -> bytes:
    """Sizes, colours, delays and places of frames."""
    return change_fields(content, rng, _GIF_MARKS)


def _damaged_boxes(content: bytes, rng: Random) -> bytes:
    """Sizes, counts and offsets in the boxes of AVIF and HEIC."""
    return change_fields(content, rng, _BOXES)


_STRUCTURE: dict[str, Callable[[bytes, Random], bytes]] = {
    "JPEG": _damaged_jpeg,
    "PNG": _damaged_png,
    "WEBP": _damaged_webp,
    "BMP": _damaged_bmp,
    "TIFF": _damaged_tiff,
    "GIF": _damaged_gif,
    "AVIF": _damaged_boxes,
    "HEIC": _damaged_boxes,
}
