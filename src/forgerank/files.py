"""Files of settings and results: YAML and JSON read with one-line errors, atomic writes, and the check that
no output is an input.
"""

import csv
import errno
import io
import json
import os
import re
import stat
import sys
import unicodedata
from codecs import BOM_UTF16_BE, BOM_UTF16_LE, BOM_UTF32_BE, BOM_UTF32_LE, getincrementaldecoder
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml

from forgerank.types import InputError

_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]+):/+", re.IGNORECASE)  # two letters at least: C:/ is a disk
_HEAD_BYTES = 4096  # enough to tell text
_LONGEST_YAML = 100_000  # characters; the parser takes seconds for them
# Names of standard output and error on systems that have some, and the descriptors that they stand for.
STREAMS = {
    name: handle
    for handle, own in ((1, "/dev/stdout"), (2, "/dev/stderr"))
    for name in (own, f"/dev/fd/{handle}", f"/proc/self/fd/{handle}")
}
_partial: set[Path] = set()  # what this process is writing
_led_to: dict[str, str] = {}  # outputs that were checked, and where their names led then
_made: set[Path] = set()  # folders that this process made


class OutputError(InputError):
    """An output that cannot be made or written; `reason` says so without its name."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.reason = reason


_DENIED = "cannot be written to: no permission, or a disk that is read-only"


def check_outputs(
    outputs: Iterable[Path | None],
    inputs: Iterable[Path | None] = (),
    *,
    folders: Iterable[Path | None] = (),
    texts: Iterable[Path | None] = (),
) -> None:
    """Refuse what would destroy a file or could not be written, before any work is done.

    `texts` are outputs of text, which replace no file that holds anything else: `--html *.jpg` must not cost
    the first image. `folders` are outputs too, which may have to be made; files of `outputs` may lie in them.
    None stands for what was not asked for. `write_atomic` writes these outputs where their names lead now,
    whatever becomes of links. Raises InputError, one line, for an output that is an input, another output or
    the file to which standard output or error goes, for a file whose folder does not exist, for `-`, for an
    address and for a place that cannot be written to. Files are compared, not names: a link is what it leads
    to. Several outputs may go to a pipe, to a device such as /dev/null or to a name in STREAMS.
    """
    known: dict[tuple[int, int] | str, str] = {}
    for handle, stream in ((2, "standard error"), (1, "standard output")):
        with suppress(OSError):  # it may be closed
            status = os.fstat(handle)
            known[status.st_dev, status.st_ino] = stream
    known |= {_identity(path): "an input" for path in inputs if path is not None}
    written = _files(texts)
    files = [*_files(outputs), *written]
    made = [folder for folder in folders if folder is not None]
    for path in (*files, *made):
        if str(path) == "-":
            raise InputError("-: this output does not go to standard output: name a file")
        if (url := address(path)) is not None:
            raise InputError(f"{url}: addresses are not written to: name a place on this machine")
        if path.exists() and not (path.is_file() or path.is_dir()):
            continue
        for place in (path, _partial_name(path)):
            if role := known.get(_identity(place)):
                raise InputError(f"{place}: is {role}, too: name another file for the output")
        known[_identity(path)] = "another output"
    for folder in made:
        there = next((path for path in (folder, *folder.parents) if path.exists()), folder)
        if not there.is_dir():
            raise InputError(f"{there}: is no folder, which the output needs")
        if not os.access(there, os.W_OK | os.X_OK):
            raise InputError(f"{folder}: {_DENIED}")
    for path in files:
        if path.parent not in made or path.parent.exists():
            _check_writable(path)
        _led_to[os.path.abspath(path)] = os.path.realpath(path)
    for path in written:
        if path.is_file() and not _is_text(path):
            raise InputError(
                f"{path}: is there and holds no text, as this output does: name another file, or remove it"
            )


def _identity(path: Path) -> tuple[int, int] | str:
    """The same for every name of a file; of one that does not exist yet, where its name leads.

    Names that differ in case alone, or in how accents are written, are one file on many systems.
    """
    try:
        status = path.stat()
    except (OSError, ValueError):
        place = os.path.realpath(path) if "\0" not in str(path) else str(path)
        return unicodedata.normalize("NFC", place).casefold()
    return status.st_dev, status.st_ino


def _is_text(path: Path) -> bool:
    """Whether a file begins as text in UTF-8; so does one that is empty or cannot be read."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
        getincrementaldecoder("utf-8")().decode(head)  # the last letter may be cut
    except OSError:
        return True
    except UnicodeDecodeError:
        return False
    return b"\0" not in head


def address(path: str | Path) -> str | None:
    """The address that a path is, with the slashes that a Path has lost; None for what is none.

    >>> address(Path("https://example.com/a.jpg")), address("C:/a.jpg")
    ('https://example.com/a.jpg', None)
    """
    found = _ADDRESS.match(str(path))
    if found is None:
        return None
    slashes = "///" if found[1].lower() == "file" else "//"
    return f"{found[1]}:{slashes}{str(path)[found.end() :]}"


def text_encoding(head: bytes) -> str:
    """The encoding of a text by its first bytes: UTF-16 where its mark stands first, as Windows PowerShell
    writes it, or where every other byte is often null; UTF-32 by its mark, or where two of four bytes are;
    else UTF-8, with or without its mark.

    >>> text_encoding(b"a.jpg"), text_encoding("a.jpg".encode("utf-16-be"))
    ('utf-8-sig', 'utf-16-be')
    """
    if head.startswith((BOM_UTF32_LE, BOM_UTF32_BE)):  # the one begins as that of UTF-16 does
        return "utf-32"
    if head.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
        return "utf-16"
    fourths = [head[start::4].count(0) * 4 for start in range(4)]
    for name, (high, low, last) in {"utf-32-le": (3, 2, 0), "utf-32-be": (0, 1, 3)}.items():
        if fourths[high] >= len(head) > 3 * fourths[last] and fourths[low] > len(head) // 2:
            return name
    nulls = [head[start::2].count(0) for start in (0, 1)]
    if min(nulls) == 0 and max(nulls) > len(head) // 8:
        return "utf-16-le" if nulls[1] else "utf-16-be"
    return "utf-8-sig"


def read_text(path: Path) -> str:
    """A text as any system saves it. Raises InputError, one line, for what is none or cannot be read."""
    try:
        content = path.read_bytes()
        return content.decode(text_encoding(content[:_HEAD_BYTES]))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {os_reason(error)}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: cannot be read: neither UTF-8 nor UTF-16") from None


def composed(name: str) -> str:
    """A name with its accents composed, in which two spellings of it are one."""
    return unicodedata.normalize("NFC", name)


def as_on_disk(path: Path) -> Path:
    """A path as its disk spells it: some systems decompose the accents of names, and copies keep either
    spelling. One that is not there in any spelling comes back as it is.
    """
    if os.path.lexists(path) or str(path).isascii():
        return path
    found = Path()
    for part in path.parts:
        spellings = (found / unicodedata.normalize(form, part) for form in ("NFC", "NFD"))
        found = next((place for place in (found / part, *spellings) if os.path.lexists(place)), found / part)
    return found if os.path.lexists(found) else path


@contextmanager
def open_table(path: Path) -> Iterator["csv.DictReader[str]"]:
    """The rows of a CSV file as any system saves it: separated by commas, or by the semicolons or tabs that
    its header has instead. Raises InputError, one line, also for what reading its rows meets.
    """
    try:
        check_regular(path)
        with path.open("rb") as file:
            encoding = text_encoding(file.read(_HEAD_BYTES))
        with path.open(newline="", encoding=encoding) as text:
            header = text.readline()
            text.seek(0)
            separator = next((found for found in ",;\t" if found in header), ",")
            rows = csv.DictReader(text, delimiter=separator)
            rows.fieldnames = [name.strip() for name in rows.fieldnames or ()]
            yield rows
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {os_reason(error)}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: cannot be read: neither UTF-8 nor UTF-16") from None
    except csv.Error as error:
        raise InputError(f"{path}: cannot be read: {error}") from None


def _files(outputs: Iterable[Path | None]) -> list[Path]:
    """Those that were asked for and are not standard output or error."""
    return [path for path in outputs if path is not None and str(path) not in STREAMS]


def _check_writable(path: Path) -> None:
    target = Path(os.path.realpath(path))
    folder = target.parent
    if not folder.is_dir():
        raise InputError(f"{path}: its folder does not exist")
    if path.is_dir():
        raise InputError(f"{path}: is a folder")
    there = path.exists()
    if there and not os.access(path, os.W_OK):
        raise InputError(f"{path}: {_DENIED}")
    if there and not path.is_file():  # a pipe or a device, which is not replaced
        return
    if not os.access(folder, os.W_OK | os.X_OK):  # the new content is written beside the old one
        raise InputError(f"{path}: {_DENIED if not there else f'its folder {folder} takes no file'}")
    if there and _is_kept(path, folder):
        raise InputError(f"{path}: somebody else's, whom alone its folder lets replace it: name another file")
    partial = _partial_name(target)
    with writing(path), suppress(FileNotFoundError):  # a name that is just short enough has no room for more
        if stat.S_ISDIR(os.lstat(partial).st_mode):
            raise InputError(f"{partial}: is a folder, and the output is written under this name first")


def _is_kept(path: Path, folder: Path) -> bool:
    """Whether a file lies in a folder such as /tmp, where nobody may replace a file of others."""
    if os.name == "nt":
        return False
    there, user = folder.stat(), os.geteuid()
    return bool(there.st_mode & stat.S_ISVTX) and user not in (0, there.st_uid, path.stat().st_uid)


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file atomically: readers see its old content or all of the new one.

    It is the one of `led_to`. A name in STREAMS is written to as it stands. Raises OutputError, one line,
    where that fails, for want of room say: the file is then as it was.
    """
    write_together({path: content})


def write_together(contents: Mapping[Path, bytes]) -> None:
    """Write files as `write_atomic` does, of which none is of use without the others: the first one is put in
    place when there was room for all, the last one of `contents` at the end.
    """
    with ExitStack() as files:
        for path, content in reversed([*contents.items()]):  # the stack is left in the other order
            files.enter_context(writing(path))
            if str(path) in STREAMS:
                sys.stdout.flush()
                with os.fdopen(os.dup(STREAMS[str(path)]), "wb") as stream:
                    stream.write(content)
            elif path.exists() and not path.is_file():  # a pipe or a device; the real path of some is none
                with os.fdopen(_open_pipe(path), "wb") as pipe:
                    pipe.write(content)
            else:
                files.enter_context(partial_file(led_to(path))).write_bytes(content)


def led_to(path: Path) -> Path:
    """Where an output is written: a link stays, and the file that it leads to is replaced; of an output that
    `check_outputs` saw, the one that it led to then.
    """
    return Path(_led_to.get(os.path.abspath(path)) or os.path.realpath(path))


def _open_pipe(path: Path) -> int:
    """A descriptor to write to a pipe or a device. Raises OSError for a pipe that nobody reads."""
    nonblock = getattr(os, "O_NONBLOCK", 0)  # without it, opening waits until somebody reads
    try:
        handle = os.open(path, os.O_WRONLY | nonblock)
    except OSError as error:
        if error.errno == errno.ENXIO and path.is_fifo():
            raise OSError("nobody reads this pipe") from error
        raise
    if nonblock:
        os.set_blocking(handle, True)
    return handle


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns what the system says while `path` is written into OutputError, one line."""
    try:
        yield
    except OSError as error:
        raise OutputError(path, f"cannot be written ({os_reason(error)})") from None


@contextmanager
def partial_file(path: Path) -> Iterator[Path]:
    """Where to write a file that appears whole at `path` when the context ends: PATH.partial.

    It is removed where that fails, and by the next one where the process was killed.
    """
    partial = _partial_name(path)
    partial.unlink(missing_ok=True)  # what is there, a link perhaps, is not written into
    _partial.add(partial)
    try:
        yield partial
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    finally:
        _partial.discard(partial)


def _partial_name(path: Path) -> Path:
    return Path(f"{path}.partial")


def discard_partial_files() -> None:
    """Remove what this process is writing: it is to end at once."""
    for partial in tuple(_partial):
        partial.unlink(missing_ok=True)


def csv_bytes(rows: Iterable[Iterable[object]]) -> bytes:
    """Rows as the content of a CSV file."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


def encodable(path: str) -> str:
    """A path that every encoder takes: bytes that are no UTF-8 appear escaped."""
    return path.encode("utf-8", "backslashreplace").decode("utf-8")


def csv_name(name: object) -> str:
    """A file's name, or a text that begins with one, as a cell of a CSV file.

    A relative path that a spreadsheet would take for a formula begins with `./`, which names the same file;
    bytes that are no UTF-8 and carriage returns, which end a line, appear escaped.

    >>> csv_name("=SUM(1).jpg"), csv_name("a/=b.jpg")
    ('./=SUM(1).jpg', 'a/=b.jpg')
    """
    text = encodable(str(name)).replace("\r", "\\r")
    return f"./{text}" if text.startswith(("=", "+", "-", "@", "\t", "\n")) else text


def make_folder(folder: Path) -> None:
    """Make a folder and those above it. Raises OutputError, one line, where that fails.

    Those that were made and hold nothing are removed by `remove_empty_folders`.
    """
    _made.update(place for place in (folder, *folder.parents) if not place.exists())
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(folder, f"cannot be made ({os_reason(error)})") from None


def remove_empty_folders() -> None:
    """Remove the folders that `make_folder` made in this process and that hold nothing: the work failed."""
    for folder in sorted(_made, key=lambda made: len(made.parts), reverse=True):
        with suppress(OSError):
            folder.rmdir()


def check_regular(path: Path) -> None:
    """Raises OSError for a folder, and for a pipe or a device, which would keep their reader waiting."""
    if path.exists() and not path.is_file():
        raise OSError("not a regular file")


def os_reason(error: OSError) -> str:
    """What the system says, in lower case: `no space left on device`."""
    if isinstance(error, FileNotFoundError):
        if "temporary" in (error.strerror or ""):  # what `tempfile` says where it finds none
            return "no folder for temporary files can be written: set TMPDIR to one that can"
        return "no such file or folder"
    return (error.strerror or str(error) or type(error).__name__).lower()


def read_json(path: Path) -> Any:
    """The content of a JSON file. Raises InputError for an unreadable one."""
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise InputError(f"{path}:{error.lineno}: not JSON: {error.msg}") from error
    except (ValueError, RecursionError) as error:  # numbers too long, nested too deep
        raise InputError(f"{path}: cannot be read: {error}") from error


def read_yaml(path: Path) -> Any:
    """The content of a YAML file. Raises InputError as `parse_yaml` does, and for an unreadable file."""
    return parse_yaml(read_text(path), str(path))


def parse_yaml(text: str, where: str) -> Any:
    """Plain values. Raises InputError, one line that names `where`, for anything but YAML without aliases."""
    if len(text) > _LONGEST_YAML:
        raise InputError(f"{where}: over the limit of {_LONGEST_YAML} characters")
    try:
        return yaml.load(text, _Loader)
    except Exception as error:  # dates, numbers and nesting make the parser raise errors of every kind
        raise InputError(f"{where}: is not YAML: {' '.join(str(error).split())[:200]}") from error


def parse_setting(text: str) -> tuple[str, Any]:
    """`--set KEY=VALUE` with a YAML value. Raises InputError, one line, for anything else.

    >>> parse_setting("methods=[Deepfakes, FaceSwap]")
    ('methods', ['Deepfakes', 'FaceSwap'])
    """
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise InputError(f"--set {text}: give KEY=VALUE")
    return key, parse_yaml(value, f"--set {text}")


class _Loader(yaml.SafeLoader):
    """Refuses aliases: by merging them, a kilobyte can expand to gigabytes."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not read")
        return super().compose_node(parent, index)
