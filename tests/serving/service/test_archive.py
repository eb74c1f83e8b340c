"""Archives: what is read, what is refused, and that hostile ones cost little."""

import bz2
import gzip
import io
import lzma
import random
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from forgerank.serving.service.archive import ArchiveError, Member, StorageError, is_archive, unpack
from forgerank.serving.service.service_settings import ServiceSettings
from forgerank.serving.service.uploads import kind_of

CONTENT = {"a.jpg": b"one" * 100, "folder/b.png": b"two" * 1000}


@pytest.fixture
def limits(tmp_path: Path) -> ServiceSettings:
    return ServiceSettings(data=tmp_path, archive_entries=20, archive_bytes=50_000_000, archive_ratio=100)


def write_zip(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def write_tar(path: Path, members: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def read(path: Path, folder: Path, limits: ServiceSettings) -> dict[str, bytes | str | None]:
    """Names to contents, or to the reason; every file lies in the folder and is deleted."""
    folder.mkdir(exist_ok=True)
    found: dict[str, bytes | str | None] = {}
    for member in unpack(path, folder, limits):
        assert member.name not in found
        found[member.name] = member.reason
        if member.path is not None:
            assert member.path.parent == folder
            found[member.name] = member.path.read_bytes()
            member.path.unlink()
        assert list(folder.iterdir()) == []
    return found


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_tars(
    tmp_path: Path, limits: ServiceSettings, mode: str, form: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tarfile.TarFile, "format", form)
    # Sizes about the blocks of 512: tarfile steps from one member to the next in each case differently.
    members = CONTENT | {f"{size}.bin": bytes([size % 251]) * size for size in (0, 1, 511, 512, 513, 300_000)}
    members["long" * 20 + "/" + "name" * 20] = b"x"
    path = write_tar(tmp_path / "a", members, mode)
    assert is_archive(path)
    assert read(path, tmp_path / "out", limits) == members


@pytest.mark.parametrize(
    "method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
)
def test_zips(tmp_path: Path, limits: ServiceSettings, method: int) -> None:
    path = write_zip(tmp_path / "a", CONTENT | {"empty/": b"", "none": b""}, method)
    assert is_archive(path)
    assert read(path, tmp_path / "out", limits) == CONTENT | {"none": b""}


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_tars_that_were_joined(tmp_path: Path, limits: ServiceSettings, mode: str) -> None:
    parts = [{"first": b"1" * 700}, {}, {"second": b"2", "third": b"3" * 513}]
    contents = [write_tar(tmp_path / "part", members, mode).read_bytes() for members in parts]
    path = tmp_path / "a"
    path.write_bytes(b"".join(contents))
    assert read(path, tmp_path / "out", limits) == parts[0] | parts[2]
    path.write_bytes(b"".join(contents * 7))  # 21 members
    fails(path, tmp_path, limits, "more than 20 entries")


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress])
def test_what_follows_a_tar_and_is_none_is_said(
    tmp_path: Path, limits: ServiceSettings, pack: Callable[[bytes], bytes]
) -> None:
    tar = write_tar(tmp_path / "a", {"first": b"1"}, "w").read_bytes()
    path = tmp_path / "a"
    path.write_bytes(pack(tar + b"PK\x03\x04" + b"?" * 600))
    members = fails(path, tmp_path, limits, "damaged archive .it goes on with something else")
    assert [member.name for member in members] == ["first"]


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
@pytest.mark.parametrize("between", [b"", bytes(8), bytes(100_000)])
def test_what_follows_a_packed_tar(
    tmp_path: Path, limits: ServiceSettings, pack: Callable[[bytes], bytes], between: bytes
) -> None:
    first = pack(write_tar(tmp_path / "a", {"first": b"1" * 700}, "w").read_bytes())
    second = pack(write_tar(tmp_path / "a", {"second": b"2" * 300_000}, "w").read_bytes())
    path = tmp_path / "a"
    path.write_bytes(first + between + second + between)
    assert list(read(path, tmp_path / "out", limits)) == ["first", "second"]
    path.write_bytes(first + between + second[: len(second) // 2])
    assert fails(path, tmp_path, limits, "damaged archive .its end is missing")
    others = [other(b"") for other in (gzip.compress, bz2.compress, lzma.compress) if other is not pack]
    for tail in [*others, b"PK\x03\x04", b"\n", b"\xfd7z", first[:1]]:
        path.write_bytes(first + between + tail)
        members = fails(path, tmp_path, limits, "damaged archive .it goes on with something else")
        assert [member.name for member in members] == ["first"]


def test_a_tar_without_a_magic(tmp_path: Path, limits: ServiceSettings) -> None:
    """As Unix wrote them up to its seventh edition, and some programs do."""
    members = {"first": b"1" * 700, "second": b"2"}
    content = bytearray(write_tar(tmp_path / "a", members).read_bytes())
    for at in (0, 1536):
        content[at + 257 : at + 512] = bytes(255)
        content[at + 148 : at + 156] = b" " * 8
        content[at + 148 : at + 156] = f"{sum(content[at : at + 512]):06o}\0 ".encode()
    path = tmp_path / "old"
    path.write_bytes(content)
    assert is_archive(path)
    assert kind_of(path) == "archive"
    assert read(path, tmp_path / "out", limits) == members


@pytest.mark.parametrize("name", ["BZh91AY&SY.jpg", "PK\x03\x04", "7z\xbc.jpg"])
def test_a_tar_whose_first_name_begins_like_another_archive(
    tmp_path: Path, limits: ServiceSettings, name: str
) -> None:
    path = write_tar(tmp_path / "a", {name: b"x" * 600}, "w")
    assert list(read(path, tmp_path / "out", limits).values()) == [b"x" * 600]


def test_other_files_are_no_archives(tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(b"PKzip is a program")
    (tmp_path / "none").write_bytes(b"")
    assert not any(is_archive(tmp_path / name) for name in ("text", "none", "missing", "."))


@pytest.mark.parametrize("write", [write_zip, write_tar])
def test_paths_are_labels_only(tmp_path: Path, limits: ServiceSettings, write: Callable[..., Path]) -> None:
    (tmp_path / "deep").mkdir()
    names = {"../up": b"1", "/etc/absolute": b"2", "a/../../b": b"3", "C:\\x": b"4", "~/.profile": b"5"}
    path = write(tmp_path / "deep" / "a", names)
    assert sorted(read(path, tmp_path / "deep" / "out", limits).values()) == [b"1", b"2", b"3", b"4", b"5"]
    assert sorted(file.name for file in tmp_path.rglob("*") if file.is_file()) == ["a"]


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_duplicate_names_are_two_members(tmp_path: Path, limits: ServiceSettings, kind: str) -> None:
    path = tmp_path / "a"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("same", b"1")
            archive.writestr("same", b"2")
    else:
        write_tar(path, {"same": b"1"})
        with tarfile.open(path, "a") as tar:
            info = tarfile.TarInfo("same")
            info.size = 1
            tar.addfile(info, io.BytesIO(b"2"))
    members = list(unpack(path, tmp_path, limits))
    assert [(member.name, member.path and member.path.read_bytes()) for member in members] == [
        ("same", b"1"),
        ("same", b"2"),
    ]


def test_links_and_devices_are_refused_alone(tmp_path: Path, limits: ServiceSettings) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, kind in [
            ("soft", tarfile.SYMTYPE),
            ("hard", tarfile.LNKTYPE),
            ("device", tarfile.CHRTYPE),
            ("pipe", tarfile.FIFOTYPE),
        ]:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
        info = tarfile.TarInfo("good")
        info.size = 1
        archive.addfile(info, io.BytesIO(b"x"))
    reason = "a link, a device or a sparse file"
    assert read(tmp_path / "a.tar", tmp_path / "out", limits) == {
        "soft": reason, "hard": reason, "device": reason, "pipe": reason, "good": b"x",
    }  # fmt: skip

    with zipfile.ZipFile(tmp_path / "a.zip", "w") as zipped:
        link = zipfile.ZipInfo("soft")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        zipped.writestr(link, "/etc/passwd")
        zipped.writestr("good", b"x")
    found = read(tmp_path / "a.zip", tmp_path / "out", limits)
    assert found == {"soft": "a link or a device, not a file", "good": b"x"}


@pytest.mark.parametrize("write", [write_zip, write_tar])
def test_archives_in_it_stay_closed(
    tmp_path: Path, limits: ServiceSettings, write: Callable[..., Path]
) -> None:
    inner = write_zip(tmp_path / "inner.zip", CONTENT).read_bytes()
    packed = write_tar(tmp_path / "inner.tgz", CONTENT, "w:gz").read_bytes()
    path = write(tmp_path / "a", {"inner.zip": inner, "picture.jpg": packed, "good": b"x"})
    reason = "an archive in an archive is not opened"
    found = read(path, tmp_path / "out", limits)
    assert found == {"inner.zip": reason, "picture.jpg": reason, "good": b"x"}


def test_zip_members_fail_one_by_one(tmp_path: Path, limits: ServiceSettings) -> None:
    path = write_zip(tmp_path / "a", {"encrypted": b"1", "damaged": b"22222", "odd": b"3", "good": b"4"}, 0)
    content = bytearray(path.read_bytes())
    content[content.index(b"22222")] ^= 1
    first, odd = (
        content.index(b"PK\x01\x02"),
        content.index(b"PK\x01\x02odd"[:4], content.rindex(b"odd") - 60),
    )
    content[first + 8] |= 1  # flags of the first entry of the directory
    struct.pack_into("<H", content, odd + 10, 97)  # method
    path.write_bytes(content)
    found = read(path, tmp_path / "out", limits)
    assert found["encrypted"] == "encrypted"
    assert str(found["damaged"]).startswith("damaged (Bad CRC-32")
    assert found["odd"] == "packed by a method that is not read"
    assert found["good"] == b"4"


@pytest.mark.parametrize("write", [write_zip, write_tar])
def test_litter_is_left_out_before_anything_is_counted(
    tmp_path: Path, limits: ServiceSettings, write: Callable[..., Path]
) -> None:
    photos = {f"trip/IMG_{i}.jpg": b"x" for i in range(20)}  # as many as may be
    litter = {f"__MACOSX/trip/._IMG_{i}.jpg": b"y" for i in range(20)}
    path = write(tmp_path / "a", photos | litter | {"trip/.DS_Store": b"", "trip/Thumbs.db": b"z"})
    assert read(path, tmp_path / "out", limits) == photos
    fails(
        write(tmp_path / "a", {f"._{i}": b"" for i in range(201)}), tmp_path, limits, "more than 20 entries"
    )


@pytest.mark.parametrize("write", [write_zip, write_tar])
def test_an_image_with_the_name_of_litter_is_a_member_that_counts(
    tmp_path: Path, limits: ServiceSettings, write: Callable[..., Path]
) -> None:
    image = b"\xff\xd8\xff\xe0" + bytes(range(256)) * 2000  # longer than what is read at a time
    images = {"trip/._a.jpg": image, "~$b.jpg": image}
    litter = {"._c.jpg": b"\0\5\x16\7", "~$d.docx": b"", "._e.zip": b"PK\3\4", "@eaDir/f.jpg": image}
    path = write(tmp_path / "a", images | litter)
    assert read(path, tmp_path / "out", limits) == images
    many = write(tmp_path / "a", {f"._{i}.jpg": b"\xff\xd8\xff" for i in range(21)})
    fails(many, tmp_path, limits, "more than 20 entries")


def test_litter_that_cannot_be_read_is_litter(tmp_path: Path, limits: ServiceSettings) -> None:
    path = write_zip(tmp_path / "a", {"a.jpg": b"1", "._a.jpg": b"2", "._b.jpg": b"\xff\xd8\xff" * 10})
    content = bytearray(path.read_bytes())
    entry = content.index(b"._a.jpg", content.index(b"PK\1\2"))
    content[entry - 46 + 8] |= 1  # encrypted
    path.write_bytes(content)
    assert read(path, tmp_path / "out", limits) == {"a.jpg": b"1", "._b.jpg": b"\xff\xd8\xff" * 10}


@pytest.mark.parametrize("write", [write_zip, write_tar])
def test_lists_of_edits_do_not_count_and_are_members(
    tmp_path: Path, limits: ServiceSettings, write: Callable[..., Path]
) -> None:
    photos = {f"IMG_{i}.jpg": b"x" for i in range(20)}  # as many as may be
    edits = {f"IMG_{i}.{kind}": b"y" for i in range(20) for kind in ("AAE", "xmp")}
    path = write(tmp_path / "a", photos | edits)
    assert read(path, tmp_path / "out", limits) == photos | edits
    fails(
        write(tmp_path / "a", {f"{i}.aae": b"" for i in range(201)}), tmp_path, limits, "more than 20 entries"
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is Linux's")
@pytest.mark.parametrize("write", [write_zip, write_tar])
def test_a_full_disk_is_not_told_as_damage(
    tmp_path: Path, limits: ServiceSettings, write: Callable[..., Path]
) -> None:
    path = write(tmp_path / "a", CONTENT)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "member-2").symlink_to("/dev/full")
    members = unpack(path, tmp_path / "out", limits)
    assert next(members).name == "a.jpg"
    with pytest.raises(StorageError, match="its disk is full"):
        next(members)


def test_a_name_without_an_encoding_keeps_its_bytes(tmp_path: Path, limits: ServiceSettings) -> None:
    stored = {name: name for name in ("\u0444\u043e\u0442\u043e.jpg", "caf\u00e9.jpg", "plain.jpg")}
    raw = {name: name.encode("cp866" if name.startswith("\u0444") else "utf-8") for name in stored}
    path = write_zip(tmp_path / "a", {f"{i}" * len(raw[name]): b"x" for i, name in enumerate(stored)}, 0)
    content = path.read_bytes()
    for i, name in enumerate(stored):  # as Windows and Finder write them, without the flag of UTF-8
        content = content.replace(f"{i}".encode() * len(raw[name]), raw[name])
    path.write_bytes(content)
    (tmp_path / "out").mkdir()
    found = {member.name: member.raw_name for member in unpack(path, tmp_path / "out", limits)}
    guess = b"\xe4\xae\xe2\xae.jpg"
    assert found == {guess.decode("cp437"): guess, "caf\u00e9.jpg": None, "plain.jpg": None}

    name = "\u0444\u043e\u0442\u043e.jpg"
    raw_name = name.encode("cp866")
    for claimed, expected in ((raw_name, {name: None}), (b"another", {guess.decode("cp437"): guess})):
        entry = zipfile.ZipInfo("x" * len(raw_name))
        said = b"\x01" + struct.pack("<I", zlib.crc32(claimed)) + name.encode()  # Info-ZIP's field
        entry.extra = struct.pack("<HHHH", 0xCAFE, 2, 7, 0x7075) + struct.pack("<H", len(said)) + said
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(entry, b"x")
        path.write_bytes(path.read_bytes().replace(b"x" * len(raw_name), raw_name))
        assert {m.name: m.raw_name for m in unpack(path, tmp_path / "out", limits)} == expected

    tar = write_tar(tmp_path / "b", {"\udce4\udcae.jpg": b"x"})
    [member] = unpack(tar, tmp_path / "out", limits)
    assert member.raw_name == b"\xe4\xae.jpg"
    assert member.name.isprintable()


def test_a_name_that_is_not_the_utf_8_it_claims_costs_only_itself(
    tmp_path: Path, limits: ServiceSettings
) -> None:
    members = {"first.jpg": b"one", "f\u00f6to.jpg": b"two" * 99, "gr\u00fcn.jpg": b"three"}
    path = write_zip(tmp_path / "a", members)
    path.write_bytes(path.read_bytes().replace("f\u00f6to".encode(), b"f\xf6\xffto"))
    (tmp_path / "out").mkdir()
    found = {}
    for member in unpack(path, tmp_path / "out", limits):
        assert member.path is not None, member.reason
        found[member.name] = (member.raw_name, member.path.read_bytes())
    broken = b"f\xf6\xffto.jpg"
    assert found == {
        "first.jpg": (None, b"one"),
        broken.decode("cp437"): (broken, b"two" * 99),
        "gr\u00fcn.jpg": (None, b"three"),
    }


def offsets(content: bytes | bytearray) -> list[int]:
    """Where the entries of a zip's directory begin."""
    return [at for at in range(len(content)) if content.startswith(b"PK\x01\x02", at)]


def broken(path: Path, change: Callable[[bytearray, int], object]) -> Path:
    """A zip of three members with a change to the entry of the second, whose place in the file is told."""
    write_zip(path, {"first.jpg": b"1" * 100, "b.jpg": b"2" * 100, "last.jpg": b"3" * 100}, 0)
    content = bytearray(path.read_bytes())
    change(content, offsets(content)[1])
    path.write_bytes(content)
    return path


def utf8_name(content: bytearray, at: int) -> None:
    content[at + 9] |= 8
    content[at + 46 : at + 47] = b"\xe9"


def extra_field(content: bytearray, at: int) -> None:
    """A field of zip64 that is cut off, and sizes that stand in it."""
    content[at + 24 : at + 28] = b"\xff" * 4
    struct.pack_into("<H", content, at + 30, 4)
    content[at + 51 : at + 51] = struct.pack("<HH", 1, 8)
    end = content.index(b"PK\x05\x06")
    struct.pack_into("<L", content, end + 12, struct.unpack_from("<L", content, end + 12)[0] + 4)


@pytest.mark.parametrize(
    ("change", "name", "expected"),
    [
        (utf8_name, b"\xe9.jpg".decode("cp437"), b"2" * 100),
        (lambda content, at: content.__setitem__(at + 6, 99), "b.jpg", b"2" * 100),  # version needed
        (lambda content, at: content.__setitem__(at + 46, 0), "\\x00.jpg", b"2" * 100),
        (lambda content, at: content.__setitem__(at + 8, 1), "b.jpg", "encrypted"),
        (lambda content, at: content.__setitem__(at + 8, 64), "b.jpg", "encrypted"),
        (
            lambda content, at: content.__setitem__(at + 10, 97),
            "b.jpg",
            "packed by a method that is not read",
        ),
        (lambda content, at: content.__setitem__(at + 16, content[at + 16] ^ 1), "b.jpg", "damaged (Bad CRC"),
        (lambda content, at: content.__setitem__(at + 42, 3), "b.jpg", "damaged (it is not where"),
        (extra_field, "b.jpg", "damaged (its sizes are missing)"),
        (lambda content, at: content.__setitem__(content.index(b"b.jpg"), 0xE9), "b.jpg", b"2" * 100),
    ],
)
def test_what_is_wrong_with_one_entry_of_a_zip_costs_it_alone(
    tmp_path: Path,
    limits: ServiceSettings,
    change: Callable[[bytearray, int], object],
    name: str,
    expected: bytes | str,
) -> None:
    found = read(broken(tmp_path / "a", change), tmp_path / "out", limits)
    assert list(found) == ["first.jpg", name, "last.jpg"]
    assert (found["first.jpg"], found["last.jpg"]) == (b"1" * 100, b"3" * 100)
    if isinstance(expected, str):
        assert str(found[name]).startswith(expected)
    else:
        assert found[name] == expected


def test_a_damaged_entry_of_a_zips_directory_is_missed_alone(tmp_path: Path, limits: ServiceSettings) -> None:
    def forget(content: bytearray, at: int) -> None:
        content[at] = 0

    for change in (forget, lambda content, at: content.__setitem__(at + 28, 200)):  # longer than the rest
        path = broken(tmp_path / "a", change)
        members = fails(path, tmp_path, limits, r"damaged archive \(its directory is damaged, \d of 3")
        assert "first.jpg" in {member.name for member in members}
        for file in (tmp_path / "out").iterdir():
            file.unlink()
    assert {member.name for member in unpack(broken(path, lambda *_: 0), tmp_path / "out", limits)} > {
        "b.jpg"
    }


class Stream(io.BytesIO):
    """Takes a zip that is written without going back, with the sizes behind the contents."""

    def seek(self, *_: int) -> int:
        raise io.UnsupportedOperation


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("zip64", [False, True])
def test_a_zip_without_its_end_is_read_as_far_as_it_goes(
    tmp_path: Path, limits: ServiceSettings, streamed: bool, zip64: bool
) -> None:
    path = tmp_path / "a"
    contents = {f"{i}.jpg": random.Random(i).randbytes(3000) for i in range(4)}
    written = Stream() if streamed else io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            with archive.open(name, "w", force_zip64=zip64) as file:
                file.write(content)
    whole = written.getvalue()
    last = whole.rindex(b"PK\x03\x04")
    for cut, left in ((last + 1000, 4), (last + 10, 3), (offsets(whole)[0] + 5, 4)):
        path.write_bytes(whole[:cut])
        members = fails(path, tmp_path, limits, "damaged archive .*its end is missing")
        assert [member.name for member in members] == list(contents)[:left]
        for member, content in zip(members, contents.values(), strict=False):
            if member.path is None:
                assert (member.name, member.reason, cut) == ("3.jpg", "damaged (cut off)", last + 1000)
            else:
                assert member.path.read_bytes() == content
                member.path.unlink()


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_zips_of_every_make(tmp_path: Path, limits: ServiceSettings) -> None:
    names = {"../../up.jpg": b"1", "/etc/absolute.jpg": b"2", "C:\\win.jpg": b"3", "a" * 3000: b"4"}
    path = write_zip(tmp_path / "a", names | {"folder\\": b""})
    with zipfile.ZipFile(path, "a") as archive:
        with archive.open(zipfile.ZipInfo(""), "w") as unnamed:
            unnamed.write(b"5")
        archive.comment = b"PK\x05\x06 is how an end begins" + bytes(40)
    expected = names | {"member 5, which has no name": b"5"}
    whole = path.read_bytes()
    for before, after in ((b"", b""), (b"MZ" + bytes(5000), b""), (b"PK00", b""), (b"", b"rubbish")):
        path.write_bytes(before + whole + after)
        assert read(path, tmp_path / "out", limits) == expected
        assert kind_of(path) == "archive"

    with zipfile.ZipFile(path, "w") as archive:
        for i in range(2):
            entry = zipfile.ZipInfo("same.jpg")
            with archive.open(entry, "w", force_zip64=True) as member:
                member.write(b"%d" % i)
    members = unpack(path, tmp_path / "out", limits)
    assert [(m.name, m.path and m.path.read_bytes()) for m in members] == [
        ("same.jpg", b"0"),
        ("same.jpg", b"1"),
    ]


def test_a_zip_before_a_zip_is_said(tmp_path: Path, limits: ServiceSettings) -> None:
    parts = [write_zip(tmp_path / "part", {name: b"x" * 99}).read_bytes() for name in ("a.jpg", "b.jpg")]
    path = tmp_path / "a"
    path.write_bytes(b"".join(parts))
    reason = rf"damaged archive \(another zip, of {len(parts[0])} bytes, precedes it and was not read\)"
    assert [member.name for member in fails(path, tmp_path, limits, reason)] == ["b.jpg"]


def fails(path: Path, tmp_path: Path, limits: ServiceSettings, reason: str) -> list[Member]:
    """What came before the archive ended with the reason; nothing is left of what came after."""
    folder = tmp_path / "out"
    folder.mkdir(exist_ok=True)
    members: list[Member] = []
    with pytest.raises(ArchiveError, match=reason):
        members.extend(unpack(path, folder, limits))
    assert len(list(folder.iterdir())) == len([member for member in members if member.path is not None])
    return members


@pytest.mark.parametrize("mode", ["zip", "w", "w:gz"])
def test_too_many_entries(tmp_path: Path, limits: ServiceSettings, mode: str) -> None:
    members = {f"{i}": b"" for i in range(21)}
    path = write_zip(tmp_path / "a", members) if mode == "zip" else write_tar(tmp_path / "a", members, mode)
    fails(path, tmp_path, limits, "more than 20 entries")


@pytest.mark.parametrize("mode", ["zip", "w:gz", "w:bz2", "w:xz"])
def test_bombs(tmp_path: Path, limits: ServiceSettings, mode: str) -> None:
    members = {"good": b"x", "zeros": bytes(60_000_000)}
    path = write_zip(tmp_path / "a", members) if mode == "zip" else write_tar(tmp_path / "a", members, mode)
    assert path.stat().st_size < 100_000
    before = fails(path, tmp_path, limits, "expands to more than 10000000 bytes")
    assert len(before) == (0 if mode == "zip" else 1)


def test_the_ratio_spares_small_archives_and_grows_with_the_size(
    tmp_path: Path, limits: ServiceSettings
) -> None:
    black = {"black.bmp": bytes(9_000_000)}
    assert read(write_zip(tmp_path / "a", black), tmp_path / "out", limits) == black
    noise = {"noise": random.Random(0).randbytes(200_000), "zeros": bytes(15_000_000)}
    assert read(write_zip(tmp_path / "b", noise), tmp_path / "out", limits) == noise


def test_a_zip_that_understates_its_sizes(tmp_path: Path, limits: ServiceSettings) -> None:
    path = write_zip(tmp_path / "a", {"zeros": bytes(60_000_000)})
    content = bytearray(path.read_bytes())
    struct.pack_into("<I", content, content.index(b"PK\x01\x02") + 24, 1000)
    path.write_bytes(content)
    assert str(read(path, tmp_path / "out", limits)["zeros"]).startswith("damaged")


def test_a_zip_with_an_endless_directory(tmp_path: Path, limits: ServiceSettings) -> None:
    path = write_zip(tmp_path / "a", {f"{i:0200}": b"" for i in range(5000)})
    fails(path, tmp_path, limits, "its directory is too long")


def header(name: bytes, kind: bytes, size: int) -> bytes:
    info = tarfile.TarInfo(name.decode())
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_tar_with_an_endless_header(tmp_path: Path, limits: ServiceSettings, kind: bytes) -> None:
    path = tmp_path / "a"
    path.write_bytes(header(b"x", kind, 40_000_000) + bytes(40_000_000))
    fails(path, tmp_path, limits, "its headers are too long")


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.REGTYPE])
def test_a_tar_with_a_negative_size(tmp_path: Path, limits: ServiceSettings, kind: bytes) -> None:
    path = tmp_path / "a"
    negative = (b"\xff" * 10 + struct.pack(">h", -1536)).rjust(12, b"\xff")
    content = bytearray(header(b"x", kind, 0))
    content[124:136] = negative
    content[148:156] = b" " * 8
    content[148:156] = f"{sum(content):06o}\0 ".encode()
    path.write_bytes(header(b"first", tarfile.REGTYPE, 0) + content + bytes(10_000))
    fails(path, tmp_path, limits, "damaged archive|headers are too long")


def test_a_tar_with_an_endless_sparse_map(tmp_path: Path, limits: ServiceSettings) -> None:
    record = b"22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n28 GNU.sparse.realsize=9999\n"
    path = tmp_path / "a"
    path.write_bytes(
        header(b"x", tarfile.XHDTYPE, len(record))
        + record.ljust(512, b"\0")
        + header(b"sparse", tarfile.REGTYPE, 20_000_000)
        + (b"9999999\n" + b"1\n" * 10_000_000)
    )
    fails(path, tmp_path, limits, "its headers are too long")


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
def test_what_precedes_the_damage_is_read(tmp_path: Path, limits: ServiceSettings, mode: str) -> None:
    path = write_tar(tmp_path / "a", {"first": b"1" * 1000, "second": b"2" * 5000, "third": b"3"}, mode)
    content = path.read_bytes()
    if mode == "w":
        path.write_bytes(content[: 512 * 5 + 100])
        members = fails(path, tmp_path, limits, "damaged archive")
        assert [member.name for member in members] == ["first"]
    else:
        path.write_bytes(content[: len(content) // 2])
        fails(path, tmp_path, limits, "damaged archive")


def test_a_packed_file_that_is_no_tar_says_so(tmp_path: Path, limits: ServiceSettings) -> None:
    path = tmp_path / "a.jpg.gz"
    path.write_bytes(gzip.compress(random.Random(0).randbytes(2000)))
    assert fails(path, tmp_path, limits, "damaged archive, or no tar in it") == []


def test_a_tar_that_goes_on_with_rubbish_says_so(tmp_path: Path, limits: ServiceSettings) -> None:
    path = write_tar(tmp_path / "a", {"first": b"1", "second": b"2"})
    content = bytearray(path.read_bytes())
    content[1024:1536] = b"?" * 512
    path.write_bytes(content)
    assert [member.name for member in fails(path, tmp_path, limits, "damaged archive")] == ["first"]


@pytest.mark.parametrize("content", [b"PK\x03\x04 rubbish", b"PK\x05\x06", b"\x1f\x8b\x08 rubbish", b"BZh9"])
def test_rubbish_with_an_archives_first_bytes(
    tmp_path: Path, limits: ServiceSettings, content: bytes
) -> None:
    path = tmp_path / "a"
    path.write_bytes(content)
    assert is_archive(path)
    assert fails(path, tmp_path, limits, "damaged archive") == []
