"""What a source expands to."""

import os
import unicodedata
from collections import Counter
from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from forgerank.serving.scan.sources import Item, list_items
from forgerank.types import InputError


def names(source: str, **options: bool) -> dict[str, Item]:
    items = list(list_items(source, {}, **options))
    found = {item.path.removeprefix(source).lstrip("/"): item for item in items}
    assert len(found) == len(items)
    return found


def test_a_folder_gives_media_by_name_and_what_is_wrong_with_it(media: Path) -> None:
    found = names(str(media))
    hostile = os.fsdecode(b"\xff [red]<b>\n\x1b[0m.jpg")
    assert set(found) == {
        *("real.png", "forged.png", "linked.png", "dangling.png", "truncated.png", "empty.jpg", "text.jpeg"),
        *("clip.mp4", "pipe.jpg", "again", "deep/er/black.png", "deep/er/copy of forged.JPG", hostile),
    }
    assert found["dangling.png"].error == "no such file or folder"
    assert found["again"].error == "leads back to a folder that it lies in"
    assert found["real.png"].size == os.stat(media / "real.png").st_size
    assert found["real.png"].stamp == str(os.stat(media / "real.png").st_mtime_ns)


def test_all_takes_every_file(media: Path) -> None:
    assert set(names(str(media), all_files=True)) - set(names(str(media))) == {"notes.txt"}


def test_globs_files_and_lists(media: Path, tmp_path: Path) -> None:
    assert {Path(item.path).name for item in list_items(f"{media}/**/*.p[n]g", {})} == {
        *("real.png", "forged.png", "linked.png", "dangling.png", "truncated.png", "black.png"),
        "again",  # which leads back to its folder
    }
    assert [item.path for item in list_items(str(media / "notes.txt"), {})] == [str(media / "notes.txt")]
    (tmp_path / "odd[1].jpg").write_bytes(b"x")  # a file of that name comes before the pattern
    assert [item.size for item in list_items(str(tmp_path / "odd[1].jpg"), {})] == [1]
    lines = [os.fsencode(media / "notes.txt"), b"", b"/no/such\xff.jpg\r", b"s3://bucket/a.jpg", b"nul\0.jpg"]
    (tmp_path / "list.txt").write_bytes(b"\n".join(lines))
    listed = list(list_items(f"@{tmp_path}/list.txt", {}))
    unknown = "no such file or folder; the list is not UTF-8: save it as such"
    assert [item.error for item in listed] == [None, unknown, None, "not a valid path"]
    assert os.fsencode(listed[1].path) == b"/no/such\xff.jpg"
    assert listed[2] == Item("s3://bucket/a.jpg")


def test_a_list_of_windows_begins_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(b"\xef\xbb\xbfa/y.jpg\r\na/cat.jpg\r\n")
    assert [item.path for item in list_items(f"@{tmp_path}/list.txt", {})] == ["a/y.jpg", "a/cat.jpg"]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_a_list_that_powershell_redirects_is_utf_16(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes("\ufeffa/y.jpg\r\n\r\na/Ċć č.jpg".encode(encoding))
    assert [item.path for item in list_items(f"@{path}", {})] == ["a/y.jpg", "a/Ċć č.jpg"]
    path.write_bytes("\ufeffa/y.jpg\r\n".encode(encoding) + b"\0")
    with pytest.raises(InputError, match=r"list\.txt: cannot read the list \(it begins as UTF-16"):
        list(list_items(f"@{path}", {}))
    path.write_bytes("a/y.jpg\r\nžluť/č.jpg\r\n".encode(encoding))
    assert [item.path for item in list_items(f"@{path}", {})] == ["a/y.jpg", "žluť/č.jpg"]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_list_as_people_write_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    names = ["a b.jpg", "'c'.jpg", "d.jpg ", "sub/e.jpg", "é%.jpg"]
    (tmp_path / "sub").mkdir()
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    lines = [
        *("# trip", "#EXTM3U"),
        *(f'"{tmp_path}/a b.jpg"', f"  {tmp_path}/a b.jpg\t", " ", "~/a b.jpg", "'a b.jpg'", "a b.jpg"),
        *(
            "'c'.jpg",
            "d.jpg ",
            "sub\\e.jpg",
            f"file://{tmp_path}/%C3%A9%25.jpg",
            f"file://localhost{tmp_path}/a%20b.jpg",
        ),
        "#1.jpg",
    ]
    (tmp_path / "list.txt").write_bytes(end.join(lines).encode())
    items = list(list_items(f"@{tmp_path}/list.txt", {}))
    assert [(item.path, item.size) for item in items] == [
        *((str(tmp_path / name), 1) for name in (*(["a b.jpg"] * 4), *names, "a b.jpg")),
        ("#1.jpg", None),
    ]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-32", "utf-32-le", "utf-32-be"])
def test_a_list_spells_accents_in_another_way_than_the_disk(tmp_path: Path, encoding: str) -> None:
    names = [unicodedata.normalize("NFC", "é.jpg"), unicodedata.normalize("NFD", "ž/ů.jpg")]
    lines = [unicodedata.normalize("NFD", names[0]), unicodedata.normalize("NFC", names[1]), "ć.jpg"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "list.txt").write_bytes("\r\n".join(lines).encode(encoding))
    items = list(list_items(f"@{tmp_path}/list.txt", {}))
    assert [(item.path, item.error is None) for item in items] == [
        *((str(tmp_path / name), True) for name in names),
        ("ć.jpg", False),
    ]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\xff\xd8\xff\xe0\0\x10JFIF\0\1\1\0\0\1\n", "it is JPEG, not text"),
        (b"PK\x03\x04\n\0xl/workbook.xml", "it is ZIP, not text"),
        (b"./trip/a.jpg\0./trip/bc.jpg\0", "null bytes separate its paths, not line ends"),
    ],
)
def test_a_list_that_is_none_is_one_line(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(content)
    with pytest.raises(InputError) as raised:
        list(list_items(f"@{path}", {}))
    assert str(raised.value) == f"{path}: cannot read the list ({reason})"


@pytest.mark.parametrize("where", ["folder", "glob", "store"])
def test_what_is_left_out_is_counted_and_litter_is_not(tmp_path: Path, where: str) -> None:
    contents = {
        "a.jpg": b"\xff\xd8\xff",
        "b.jxl": b"\xff\x0a",
        "notes.txt": b"notes",
        "deep/__MACOSX/._a.jpg": b"litter",
        "deep/Thumbs.db": b"litter",
        "deep/._b.jpg": b"\xff\xd8\xff",
        "deep/._c.jpg": b"\0\5\x16\7",
    }
    store = MemoryFileSystem()
    for name, content in contents.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
        store.pipe(f"/left-out/{name}", content)
    source = {"folder": str(tmp_path), "glob": f"{tmp_path}/**", "store": "memory://left-out"}[where]
    others: Counter[str] = Counter()
    items = list(list_items(source, {}, others=others))
    assert {Path(item.path).name for item in items if item.error is None} == {"a.jpg", "._b.jpg"}
    kind = "JXL" if where == "store" else "JPEG XL"
    assert [(item.path, item.error) for item in items if item.error is not None] == [
        (source, f"1 image or video left out, of kinds that are not read: {kind} 1")
    ]
    assert others == Counter({"TXT": 1})


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("no/such/folder", "no such file or folder"),
        ("no/such/*.jpg", "no photograph or video"),
        ("@no/such/list.txt", "cannot read the list"),
        ("memory://nothing", "no such place"),
        ("martian://bucket/a", "Protocol not known"),
        ("ftp://no-host.invalid/a", "not known|resolution|resolve"),
        ("zip://a.jpg::no/such.zip", "no such file|cannot be listed|no such place"),
    ],
)
def test_a_source_that_is_not_there_is_one_line(source: str, reason: str) -> None:
    with pytest.raises(InputError, match=f"(?i){reason}") as raised:
        list(list_items(source, {}))
    assert str(raised.value).startswith(source.removeprefix("@"))
    assert "\n" not in str(raised.value)


def test_an_empty_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.txt").touch()
    with pytest.raises(InputError, match=r"no photograph or video \(--all takes every file\)"):
        list(list_items(str(tmp_path), {}))


def test_urls_of_any_file_system() -> None:
    files = MemoryFileSystem()
    for name in ("a.jpg", "deep/b.MP4", "deep/notes.txt"):
        files.pipe(f"/bucket/{name}", b"12")
    assert [item.path for item in list_items("memory://bucket", {})] == [
        "memory:///bucket/a.jpg",
        "memory:///bucket/deep/b.MP4",
    ]
    assert [item.size for item in list_items("memory://bucket/deep/*", {}, all_files=True)] == [2, 2]
    assert [item.path for item in list_items("memory://bucket/deep/notes.txt", {})] == [
        "memory:///bucket/deep/notes.txt"
    ]
