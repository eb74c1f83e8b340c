"""Weights, archives and tables of results: real small files, damaged."""

import bz2
import gzip
import hashlib
import io
import json
import lzma
import tarfile
import zipfile
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from hostile.damage import change_fields, damage
from hostile.photos import hostile_photo, seeds
from tiny import METADATA, tiny_network


@cache
def networks() -> tuple[bytes, ...]:
    """ONNX files that are valid: the tests' tiny network, and a foreign one."""
    from forgerank.weights.description import ASSETS

    return (
        tiny_network(),
        *(path.read_bytes() for path in sorted(ASSETS.glob("face_detection_short*.onnx"))),
    )


def hostile_network(rng: Random) -> bytes:
    """A damaged network, or one of another kind."""
    tiny, *foreign = networks()
    choice = rng.randrange(12)
    if choice == 0:
        return rng.choice(foreign)
    if choice == 1:
        return rng.choice((b"", rng.randbytes(100), rng.choice(seeds()["PNG"])))
    if choice < 7:  # one byte: most of these still load
        at = rng.randrange(len(tiny))
        return tiny[:at] + bytes([rng.randrange(256)]) + tiny[at + 1 :]
    return damage(tiny, rng, foreign)


def described(network: bytes, **changes: Any) -> bytes:
    """A description of a folder with this network in tiny.onnx, its hash right."""
    entry = {"file": "tiny.onnx", "sha256": hashlib.sha256(network).hexdigest()}
    return json.dumps({**METADATA, "files": {"onnx": entry}, **changes}).encode()


_NAMES = (
    "a.png",
    "../../a.png",
    "/etc/a.png",
    "C:\\a.png",
    "a\x00b",
    "",
    ".",
    "x" * 300,
    "\ud800".encode("utf-8", "replace").decode(),
    "dir/",
)


def hostile_archive(rng: Random) -> bytes:
    """A zip or tar of photographs, with names and kinds that lead elsewhere; damaged, or a bomb."""
    contents = [hostile_photo(rng) for _ in range(rng.randrange(3))]
    if rng.randrange(30) == 0:
        contents.append(bytes(20_000_000))
    make = rng.choice((_zip, _tar, _packed_tar))
    content = make(contents, rng)
    if make is _zip and rng.randrange(2):
        content = change_fields(content, rng, _ZIP_MARKS)
    return damage(content, rng) if rng.randrange(3) else content


# An entry, its place in the directory, the directory's end, that of zip64, which is named by another record.
_ZIP_MARKS = (b"PK\3\4", b"PK\1\2", b"PK\5\6", b"PK\6\6", b"PK\6\7")


def _zip(contents: list[bytes], rng: Random) -> bytes:
    stream = io.BytesIO()
    method = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA))
    with zipfile.ZipFile(stream, "w", method) as file:
        for number, content in enumerate(contents):
            entry = zipfile.ZipInfo(rng.choice(_NAMES) or f"{number}.png")
            entry.external_attr = rng.choice((0, 0o120777, 0o060644, 0o100644)) << 16
            entry.compress_type = method
            with file.open(entry, "w", force_zip64=rng.randrange(4) == 0) as stored:
                stored.write(content)
    return stream.getvalue()


def _tar(contents: list[bytes], rng: Random) -> bytes:
    stream = io.BytesIO()
    form = rng.choice((tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT))
    with tarfile.open(fileobj=stream, mode="w", format=form) as file:
        for number, content in enumerate(contents):
            entry = tarfile.TarInfo(rng.choice(_NAMES[:5]).replace("\x00", "") or f"{number}.png")
            entry.type = rng.choice(
                (tarfile.REGTYPE, tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE)
            )
            entry.linkname = rng.choice(("", "/etc/passwd", "a.png"))
            entry.size = len(content) if entry.isreg() else 0
            lie = rng.choice(("-1", "0", "1", "9" * 30, "x", "1e9", "../a"))
            entry.pax_headers = rng.choice(
                ({}, {rng.choice(("size", "path", "mtime", "GNU.sparse.size")): lie})
            )
            file.addfile(entry, io.BytesIO(content))
    return stream.getvalue()


def _packed_tar(contents: list[bytes], rng: Random) -> bytes:
    pack = rng.choice((lambda tar: gzip.compress(tar, 1), bz2.compress, lzma.compress))
    return pack(_tar(contents, rng)) + rng.choice((b"", b"", bytes(9), b"more"))


@cache
def results() -> bytes:
    """A small Parquet file as `forgerank scan` writes it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from forgerank.serving.scan.parquet_file import METADATA_PREFIX, schema

    thresholds = {"forged": 0.6, "real": 0.2, "components": [0.3]}
    facts = {f"{METADATA_PREFIX}thresholds": json.dumps(thresholds)}
    rows = [
        {
            "path": "a.jpg",
            "size": 10,
            "kind": "photograph",
            "verdict": "forged",
            "forged_probability": 0.9,
            "sequence": ["nose"],
        },
        {"path": "b.jpg", "size": 10, "error": "empty file"},
    ]
    stream = io.BytesIO()
    pq.write_table(
        pa.Table.from_pylist(rows, schema(["nose"]).with_metadata(facts)), stream, compression="zstd"
    )
    return stream.getvalue()


def hostile_results(rng: Random) -> bytes:
    return damage(results(), rng)


def write(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path
