"""The entries of a zip, read one by one: what is wrong with one of them costs that one alone.

`zipfile.ZipFile` gives up a whole archive for one broken name or field of its directory, so the directory is
read here, by PKWARE's APPNOTE; the contents are unpacked by `zipfile.ZipExtFile`. Where there is no
directory, as in a download that broke off, the headers before the contents are followed instead.
"""

import mmap
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, BinaryIO, NamedTuple, cast

MOST_DIRECTORY = 1 << 20  # bytes of a directory that are read

_LOCAL = struct.Struct("<4s5H3L2H")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR = struct.Struct("<4sLQL")
_MOST_COMMENT = (1 << 16) - 1
_BEFORE_ENTRY, _BEFORE_CONTENT, _AFTER_CONTENT = b"PK\x01\x02", b"PK\x03\x04", b"PK\x07\x08"
_AT_END, _AT_END64 = b"PK\x05\x06", b"PK\x06\x06"
_ENCRYPTED = 1 << 0 | 1 << 6 | 1 << 13  # flags of an entry
_SIZES_FOLLOW = 1 << 3
_IN_ZIP64 = 0xFFFF_FFFF  # a number that stands in the field of zip64
_Fields = dict[int, bytes]  # what stands beside a name, by its kind
_ZIP64, _UNICODE_PATH = 0x0001, 0x7075  # kinds of fields
_FOLDER = 0x10  # of the attributes of DOS, which every system writes


class DamagedZipError(Exception):
    """The zip, or what is left of it, cannot be read; the reason in words."""


class ZipEntryError(Exception):
    """This entry cannot be read; the reason in words."""


class ZipEntry(NamedTuple):
    """One entry, as the archive describes it."""

    name: str  # a guess where `raw_name` is there
    raw_name: bytes | None  # those of a name that does not say what they mean, or cannot be shown as it is
    size: int  # bytes of its content, unpacked, as the archive says; -1 where it does not
    mode: int  # of Unix, or 0
    is_folder: bool
    flags: int
    offset: int  # of its header, in the file
    info: zipfile.ZipInfo
    fault: str | None = None  # why it cannot be read


@dataclass(frozen=True, slots=True)
class Directory:
    """The entries in their order."""

    entries: list[ZipEntry]
    damage: str | None  # what else there should be, in words


def ends_as_zip(file: BinaryIO) -> bool:
    """Whether the end of a file, whatever precedes it, is that of a zip whose directory is where it says."""
    return _find_directory(file) is not None


def read_directory(file: BinaryIO) -> Directory | None:
    """The directory; None where there is none. Raises DamagedZipError beyond `MOST_DIRECTORY` bytes."""
    found = _find_directory(file)
    if found is None:
        return None
    start, size, count, prefix = found
    if size > MOST_DIRECTORY:
        raise DamagedZipError("its directory is too long")
    file.seek(start)
    content = file.read(size)
    entries: list[ZipEntry] = []
    at, damaged = 0, False
    while at + _ENTRY.size <= len(content):
        if content[at : at + 4] != _BEFORE_ENTRY:  # what precedes the next entry belongs to none
            damaged = True
            at = content.find(_BEFORE_ENTRY, at + 1)
            if at < 0:
                break
            continue
        fields = _ENTRY.unpack_from(content, at)
        _, _, _, flags, method, *_, crc, packed, size, name, extra, comment, _, _, mode, offset = fields
        at += _ENTRY.size
        parts = content[at : at + name], _fields(content[at + name : at + name + extra])
        at += name + extra + comment
        sizes, fault = _sizes((size, packed, offset), parts[1])
        numbers = _Numbers(flags, method, crc, *sizes[:2], prefix + sizes[2])
        entries.append(_entry(*parts, numbers, mode, fault))
    damaged = damaged or at != len(content)
    # A count of 16 bits turns over in archives of more entries.
    if damaged or (len(entries) - count) % (1 << 16):
        return Directory(entries, f"its directory is damaged, {len(entries)} of {count} entries were found")
    file.seek(0)
    if prefix > 0 and file.read(4) == _BEFORE_CONTENT:  # what makes a zip extract itself begins otherwise
        return Directory(entries, f"another zip, of {prefix} bytes, precedes it and was not read")
    return Directory(entries, None)


def follow_headers(file: BinaryIO) -> Iterator[ZipEntry]:
    """The entries of a zip without a directory, by the headers before their contents, as far as they go.

    Raises DamagedZipError where they end.
    """
    size = file.seek(0, os.SEEK_END)
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        at = content.find(_BEFORE_CONTENT)
        while at >= 0 and at + _LOCAL.size <= size:
            _, _, flags, method, _, _, crc, packed, unpacked, name, extra = _LOCAL.unpack_from(content, at)
            start = at + _LOCAL.size
            parts = content[start : start + name], _fields(content[start + name : start + name + extra])
            start += name + extra
            (unpacked, packed, _), fault = _sizes((unpacked, packed, 0), parts[1])
            if flags & _SIZES_FOLLOW and not packed:
                crc, packed, unpacked = _find_sizes(content, start)
            if start + packed > size or packed < 0:
                fault, packed = "cut off", size - start
            yield _entry(*parts, _Numbers(flags, method, crc, unpacked, packed, at), 0, fault)
            at = content.find(_BEFORE_CONTENT, start + packed)
    raise DamagedZipError("damaged archive (it has no directory: its end is missing)")


def open_entry(file: BinaryIO, entry: ZipEntry) -> IO[bytes]:
    """The content of an entry. Raises ZipEntryError; reading it, whatever a decoder stumbles over."""
    if entry.fault is not None:
        raise ZipEntryError(f"damaged ({entry.fault})")
    if entry.flags & _ENCRYPTED:
        raise ZipEntryError("encrypted")
    file.seek(entry.offset)
    header = file.read(_LOCAL.size)
    if len(header) < _LOCAL.size or not header.startswith(_BEFORE_CONTENT):
        raise ZipEntryError("damaged (it is not where the directory says)")
    *_, name, extra = _LOCAL.unpack(header)
    file.seek(name + extra, os.SEEK_CUR)
    try:
        return cast(IO[bytes], zipfile.ZipExtFile(file, "r", entry.info))
    except NotImplementedError:
        raise ZipEntryError("packed by a method that is not read") from None


def _find_directory(file: BinaryIO) -> tuple[int, int, int, int] | None:
    """Where the directory starts, its bytes, its entries, and how many bytes precede the zip."""
    size = file.seek(0, os.SEEK_END)
    tail_start = max(0, size - _END.size - _MOST_COMMENT - _LOCATOR.size - _END64.size)
    file.seek(tail_start)
    tail = file.read(size - tail_start)
    at = len(tail)
    while (at := tail.rfind(_AT_END, 0, at)) >= 0:
        if at + _END.size > len(tail):
            continue
        *_, count, length, offset, _ = _END.unpack_from(tail, at)
        end = tail_start + at
        before = tail[max(0, at - _LOCATOR.size - _END64.size) : at]
        if len(before) == _LOCATOR.size + _END64.size and before.startswith(_AT_END64):
            *_, count, length, offset = _END64.unpack_from(before)
            end -= len(before)
        for start in (end - length, offset):
            file.seek(max(0, start))
            if 0 <= start <= end - length and (not length or file.read(4) == _BEFORE_ENTRY):
                return start, length, count, start - offset
    return None


class _Numbers(NamedTuple):
    flags: int
    method: int
    crc: int
    size: int  # bytes
    packed: int  # bytes
    offset: int


def _entry(name: bytes, further: _Fields, numbers: _Numbers, attributes: int, fault: str | None) -> ZipEntry:
    shown, raw = _name(name, further)
    info = zipfile.ZipInfo(shown)
    info.flag_bits, info.compress_type, info.CRC = numbers.flags, numbers.method, numbers.crc
    info.file_size, info.compress_size = numbers.size, numbers.packed
    is_folder = numbers.size == 0 and (name.endswith((b"/", b"\\")) or bool(attributes & _FOLDER))
    mode = attributes >> 16
    return ZipEntry(shown, raw, numbers.size, mode, is_folder, numbers.flags, numbers.offset, info, fault)


def _sizes(sizes: tuple[int, int, int], further: _Fields) -> tuple[tuple[int, int, int], str | None]:
    """Size, packed size and offset by the field of zip64 where that holds them, and what is wrong there."""
    field = further.get(_ZIP64, b"")
    found = []
    for size in sizes:
        if size == _IN_ZIP64 and len(field) >= 8:
            size, field = int.from_bytes(field[:8], "little"), field[8:]
        elif size == _IN_ZIP64:
            return (0, 0, 0), "its sizes are missing"
        found.append(size)
    return (found[0], found[1], found[2]), None


def _fields(extra: bytes) -> _Fields:
    fields: _Fields = {}
    while len(extra) >= 4:
        kind, size = struct.unpack_from("<HH", extra)
        fields.setdefault(kind, extra[4 : 4 + size])
        extra = extra[4 + size :]
    return fields


def _name(raw: bytes, further: _Fields) -> tuple[str, bytes | None]:
    """The name, and its bytes where nothing says what they mean, or they cannot be shown as they are.

    A field beside them may say the name in UTF-8 (WinZip, Info-ZIP). Else they are UTF-8, from many programs
    (Finder) without the flag that says so, or of the code page of whoever made the archive, of which the
    first PCs' (437) is taken; that is so of bytes with the flag that are not UTF-8, too.
    """
    said = further.get(_UNICODE_PATH, b"")
    names = [said[5:]] if said[:5] == b"\x01" + struct.pack("<I", zlib.crc32(raw)) else []
    for name in (*names, raw):
        try:
            shown = name.decode()
        except UnicodeDecodeError:
            continue
        return (shown.replace("\0", "\\x00"), raw) if "\0" in shown else (shown, None)
    return raw.decode("cp437").replace("\0", "\\x00"), raw


def _find_sizes(content: mmap.mmap, start: int) -> tuple[int, int, int]:
    """Checksum, packed and unpacked size of a content, by what follows it; sizes of -1: nothing does."""
    at = start
    while (at := content.find(_AFTER_CONTENT, at)) >= 0:
        for form in ("<LQQ", "<LLL"):  # of zip64 first: the numbers of the other make it none
            if at + 4 + struct.calcsize(form) <= len(content):
                crc, packed, size = struct.unpack_from(form, content, at + 4)
                if packed == at - start:
                    return crc, packed, size
        at += 1
    return 0, -1, -1
