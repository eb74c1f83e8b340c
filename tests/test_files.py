import os
import pickle
import select
import subprocess
import sys
import tempfile
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from forgerank.data.tar_files import DamagedTarError
from forgerank.files import (
    OutputError,
    as_on_disk,
    check_outputs,
    make_folder,
    open_table,
    os_reason,
    read_json,
    read_yaml,
    remove_empty_folders,
    write_atomic,
    write_together,
)
from forgerank.media.files import MediaError
from forgerank.types import InputError

ENCODINGS = [f"utf-{bits}{order}" for bits in (16, 32) for order in ("", "-le", "-be")]


def test_json_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("[\n1,")
    with pytest.raises(InputError, match=r"a\.json:2: not JSON"):
        read_json(tmp_path / "a.json")
    with pytest.raises(InputError, match=r"b\.json: cannot be read"):
        read_json(tmp_path / "b.json")


@pytest.mark.parametrize("encoding", [*ENCODINGS, "utf-8", "utf-8-sig"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_tables_and_settings_as_any_system_saves_them(
    tmp_path: Path, encoding: str, end: str, separator: str
) -> None:
    table, settings = tmp_path / "labels.csv", tmp_path / "tiny.yaml"
    table.write_bytes(f"path{separator}label {end}žluť.jpg{separator}1{end}".encode(encoding))
    settings.write_bytes(f"seed: 1{end}epochs: 2{end}".encode(encoding))
    with open_table(table) as rows:
        assert list(rows) == [{"path": "žluť.jpg", "label": "1"}]
    assert read_yaml(settings) == {"seed": 1, "epochs": 2}


def test_names_are_found_however_their_accents_are_spelt(tmp_path: Path) -> None:
    one, other = (unicodedata.normalize(form, "Žluť é.jpg") for form in ("NFC", "NFD"))
    for root, first, second in ((tmp_path / "a", one, other), (tmp_path / "b", other, one)):
        path = root / first / second
        path.parent.mkdir(parents=True)
        path.touch()
        assert {as_on_disk(root / x / y) for x in (one, other) for y in (one, other)} == {path}
    both = tmp_path / "a" / one / one
    both.touch()  # a spelling that is there is taken
    assert as_on_disk(both) == both
    missing = tmp_path / "é" / "a.jpg"
    assert as_on_disk(missing) == missing


def test_what_is_no_text_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_bytes("žluť".encode("cp1250"))
    with pytest.raises(InputError, match=r"labels\.csv: cannot be read: neither UTF-8 nor UTF-16$"):
        read_yaml(path)
    with (
        pytest.raises(InputError, match=r"labels\.csv: cannot be read: neither UTF-8 nor UTF-16$"),
        open_table(path) as rows,
    ):
        list(rows)


@pytest.mark.parametrize(
    "error",
    [
        InputError("a.jpg: b"),
        OutputError(Path("a.tar"), "cannot be written (no space left on device)"),
        MediaError("a.jpg", "empty file"),
        DamagedTarError(Path("a.tar"), "truncated"),
    ],
)
def test_errors_come_back_from_other_processes_as_they_were(error: InputError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))


def test_a_write_replaces_the_whole_file(tmp_path: Path) -> None:
    write_atomic(tmp_path / "a.json", b"a longer first version")
    write_atomic(tmp_path / "a.json", b"second")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a.json": b"second"}


def test_a_write_that_fails_leaves_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path, content: bytes) -> int:
        with path.open("wb") as stream:
            stream.write(content[:3])
        raise OSError(28, "No space left on device")

    write_atomic(tmp_path / "a.json", b"first")
    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(InputError, match=r"a\.json: cannot be written \(no space left on device\)"):
        write_atomic(tmp_path / "a.json", b"second")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a.json": b"first"}


def test_files_that_need_each_other_are_written_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("weights", "description")
    for name in names:
        (tmp_path / name).write_bytes(b"old")
    placed, replace, write = [], Path.replace, Path.write_bytes

    def fill(path: Path, content: bytes) -> int:
        if full in path.name:
            raise OSError(28, "No space left on device")
        return write(path, content)

    def note(path: Path, target: Path) -> Path:
        placed.append(target.name)
        return replace(path, target)

    monkeypatch.setattr(Path, "write_bytes", fill)
    monkeypatch.setattr(Path, "replace", note)
    for full in names:
        with pytest.raises(InputError, match=f"{full}: cannot be written \\(no space left on device\\)"):
            write_together({tmp_path / name: b"new" for name in names})
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == dict.fromkeys(names, b"old")
    assert placed == []
    full = "neither"
    write_together({tmp_path / name: b"new" for name in names})
    assert placed == list(names)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == dict.fromkeys(names, b"new")


def test_folders_that_were_made_in_vain_are_removed(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for name in ("there", "a/b/c", "d"):
        make_folder(tmp_path / name)
    (tmp_path / "d/file").touch()
    remove_empty_folders()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d", "there"]


def test_a_write_through_a_link_leaves_the_link(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("first")
    (tmp_path / "link").symlink_to("a.json")
    write_atomic(tmp_path / "link", b"second")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "a.json").read_bytes() == b"second"
    write_atomic(Path("/dev/null"), b"nobody's")
    assert Path("/dev/null").is_char_device()


def test_an_output_goes_where_its_name_led_when_it_was_checked(tmp_path: Path, photo: Path) -> None:
    new, link, report = tmp_path / "new.json", tmp_path / "link.json", tmp_path / "report.json"
    link.symlink_to(report)
    check_outputs([], [photo], texts=[new, link])
    new.symlink_to(photo)
    link.unlink()
    link.symlink_to(photo)
    for output in (new, link):
        write_atomic(output, b"{}")
    assert photo.read_bytes() == b"evidence"
    assert not new.is_symlink()
    assert (new.read_bytes(), report.read_bytes()) == (b"{}", b"{}")


def test_nothing_is_written_into_what_bears_the_name_of_a_partial_file(tmp_path: Path, photo: Path) -> None:
    output, partial = tmp_path / "r.json", tmp_path / "r.json.partial"
    partial.symlink_to(photo)
    with pytest.raises(InputError, match=r"r\.json\.partial: is an input, too"):
        check_outputs([output], [photo])
    write_atomic(output, b"{}")
    assert (photo.read_bytes(), output.read_bytes()) == (b"evidence", b"{}")
    assert not os.path.lexists(partial)


@pytest.mark.skipif(not Path("/dev/stdout").exists(), reason="a system without names of streams")
@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
@pytest.mark.parametrize("mode", ["w", "a"])
def test_a_standard_stream_is_written_where_it_stands(tmp_path: Path, name: str, mode: str) -> None:
    code = """
import sys
from pathlib import Path
from forgerank.files import check_outputs, write_atomic
name = Path(sys.argv[1])
print("before")
check_outputs([], texts=[name, name])
write_atomic(name, b"report\\n")
print("after")
"""
    log = tmp_path / "log.txt"
    log.write_bytes(b"\xff\n")  # what a text would not replace
    with log.open(mode) as file:
        subprocess.run([sys.executable, "-c", code, name], check=True, stdout=file)
    assert log.read_bytes() == (b"" if mode == "w" else b"\xff\n") + b"before\nreport\nafter\n"


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A photograph under four names."""
    path = tmp_path / "a.jpg"
    path.write_bytes(b"evidence")
    (tmp_path / "hard.jpg").hardlink_to(path)
    (tmp_path / "soft.jpg").symlink_to(path)
    (tmp_path / "twice.jpg").symlink_to(tmp_path / "soft.jpg")
    return path


@pytest.mark.parametrize("name", ["a.jpg", "hard.jpg", "soft.jpg", "twice.jpg", "../{folder}/a.jpg"])
def test_no_output_is_an_input(photo: Path, name: str) -> None:
    output = photo.parent / name.format(folder=photo.parent.name)
    with pytest.raises(InputError, match="is an input, too") as caught:
        check_outputs([None, output], [photo.parent / "missing.jpg", photo])
    assert str(caught.value).startswith(f"{output}: ")
    with pytest.raises(InputError, match="is an input, too"):
        check_outputs([], [photo.parent], folders=[photo.parent])


def test_no_output_is_another_output(photo: Path) -> None:
    new, link = photo.parent / "new.json", photo.parent / "link.json"
    link.symlink_to(new)
    for other in (new, link, photo.parent / "." / "new.json"):
        with pytest.raises(InputError, match="is another output, too"):
            check_outputs([new, other])
    check_outputs([new, photo.parent / "other.json"], [photo])
    check_outputs([Path("/dev/null"), Path("/dev/null")], [photo])


def test_outputs_that_cannot_be_written_are_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path, reason in ((tmp_path / "no/r.json", "its folder does not exist"), (tmp_path, "is a folder")):
        with pytest.raises(InputError, match=reason):
            check_outputs([path])
    (tmp_path / "r.json.partial").mkdir()
    with pytest.raises(InputError, match=r"r\.json\.partial: is a folder"):
        check_outputs([tmp_path / "r.json"])
    with pytest.raises(InputError, match="cannot be written"):  # it fits into 255 bytes, r….partial does not
        check_outputs([tmp_path / ("r" * 250)])
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file: is no folder, which the output needs"):
        check_outputs([], folders=[tmp_path / "file/new"])
    monkeypatch.setattr("os.access", lambda path, mode: path != tmp_path)  # as on a read-only disk
    with pytest.raises(InputError, match=r"r\.json: cannot be written to"):
        check_outputs([tmp_path / "r.json"])


def test_a_file_that_could_not_be_replaced_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "r.json").touch()
    with monkeypatch.context() as patch:
        patch.setattr("os.access", lambda path, mode: Path(path) != tmp_path)
        with pytest.raises(InputError, match=r"r\.json: its folder .* takes no file"):
            check_outputs([tmp_path / "r.json"])


@pytest.mark.skipif(os.name == "nt", reason="a system without folders of which each file is its owner's")
def test_in_a_folder_of_all_the_files_of_others_are_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "r.json").touch()
    tmp_path.chmod(0o1777)
    check_outputs([tmp_path / "r.json"])
    somebody_else = os.geteuid() + 1000
    monkeypatch.setattr("os.geteuid", lambda: somebody_else)
    check_outputs([tmp_path / "new.json"])
    with pytest.raises(InputError, match=r"r\.json: somebody else's"):
        check_outputs([tmp_path / "r.json"])


def test_settings_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"\xef\xbb\xbfseed: 1\r\n")
    assert read_yaml(tmp_path / "a.yaml") == {"seed": 1}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="a system without pipes that have names")
def test_a_pipe_is_no_table(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.csv")
    reason = r"a\.csv: cannot be read: not a regular file"
    with pytest.raises(InputError, match=reason), open_table(tmp_path / "a.csv"):
        pass


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="a system without pipes that have names")
def test_outputs_may_be_pipes_that_somebody_reads(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(OutputError, match=r"pipe: cannot be written \(nobody reads this pipe\)"):
        write_atomic(pipe, b"content")
    content = b"content" * 50_000  # more than a pipe holds
    with ThreadPoolExecutor(1) as pool:
        (tmp_path / "link").symlink_to(pipe)
        for name in (pipe, tmp_path / "link"):
            reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
            written = pool.submit(write_atomic, name, content)
            with os.fdopen(reader, "rb") as read:
                select.select([reader], [], [], 10)
                os.set_blocking(reader, True)
                assert read.read() == content
            written.result(10)
    assert pipe.is_fifo()


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="a system without names of descriptors")
def test_outputs_may_be_pipes_of_the_shell(tmp_path: Path) -> None:
    reader, writer = os.pipe()  # as of `--json >(jq .)`
    with os.fdopen(reader, "rb") as read, os.fdopen(writer, "wb"):
        check_outputs([], texts=[Path(f"/dev/fd/{writer}")])
        write_atomic(Path(f"/dev/fd/{writer}"), b"content")
        assert read.read(7) == b"content"


@pytest.mark.parametrize(("handle", "name"), [(1, "output"), (2, "error")])
def test_the_file_of_a_standard_stream_is_no_output(tmp_path: Path, handle: int, name: str) -> None:
    """It would be replaced, and what is printed later lost."""
    code = """
import sys
from pathlib import Path
from forgerank.files import check_outputs
from forgerank.types import InputError
try:
    check_outputs([], texts=[Path(sys.argv[1])])
except InputError as error:
    Path(sys.argv[2]).write_text(str(error))
"""
    with (tmp_path / "log.txt").open("w") as log, (tmp_path / "other").open("w") as other:
        streams = {"stdout": log, "stderr": other} if handle == 1 else {"stdout": other, "stderr": log}
        subprocess.run([sys.executable, "-c", code, log.name, tmp_path / "said"], check=True, **streams)
    said = f"{log.name}: is standard {name}, too: name another file for the output"
    assert (tmp_path / "said").read_text() == said


def test_no_folder_for_temporary_files_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", list)
    with pytest.raises(OSError, match="temporary") as error:
        tempfile.gettempdir()
    assert "temporary files can be written: set TMPDIR" in os_reason(error.value)
    assert os_reason(FileNotFoundError(2, "No such file or directory")) == "no such file or folder"
