"""Files in a tar that is never unpacked to disk: images of data sets, members of packs and shards."""

import io
import tarfile
import zlib
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from forgerank.data.formats.paths import inner_path, is_image
from forgerank.files import partial_file, writing
from forgerank.types import InputError

Member = tuple[int, int]  # offset and size in the tar file, bytes


def tar_members(path: Path) -> dict[str, Member]:
    """All members by name. Raises OSError or TarError for an unreadable file."""
    with tarfile.open(path, "r:") as tar:
        return {member.name: (member.offset_data, member.size) for member in tar}


def read_member(path: Path, member: Member) -> bytes:
    """The content of one member. Raises OSError for an unreadable file."""
    # Opened anew for each member: worker processes share no file position, and nothing is left to close.
    with path.open("rb") as stream:
        stream.seek(member[0])
        return stream.read(member[1])


def write_tar(path: Path, members: Iterable[tuple[str, bytes]]) -> int:
    """Write names and contents atomically; returns how many. The same members give the same bytes.

    Raises OutputError, one line, where the file cannot be written: the path is then as it was.
    """
    count = 0
    with (
        writing(path),
        partial_file(path) as partial,
        tarfile.open(partial, "w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
            count += 1
    return count


_SUFFIXES = (".tar", ".tar.gz", ".tgz")


class Archive(NamedTuple):
    """Wanted members of a tar, in memory."""

    contents: dict[str, bytes]
    reason: str  # why the rest could not be read; empty where everything was


class DamagedTarError(InputError):
    """A tar that cannot be read to its end; `reason` alone is "truncated" or begins with "unreadable: "."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: cannot be read as a tar file: {reason}")
        self.reason = reason


def is_archive(path: Path) -> bool:
    """Whether the name is that of a tar."""
    return path.name.lower().endswith(_SUFFIXES)


def tar_names(path: Path) -> Iterator[str]:
    """The names of the images in a tar, in its own order, without the `./` that some have in front.

    Raises DamagedTarError after the names before the damage, also for a name that leads out of the tar.
    """
    return (name for name, _ in _images(path))


def read_archive(path: Path, names: Collection[str]) -> Archive:
    """The named members, compressed as they are, in one pass over the tar."""
    wanted = {str(PurePosixPath(name)) for name in names}
    contents: dict[str, bytes] = {}
    try:
        for name, data in _images(path, wanted):
            contents[name] = data
            if len(contents) == len(wanted):
                break  # the rest need not be unpacked
    except DamagedTarError as error:
        return Archive(contents, error.reason)
    return Archive(contents, "")


def _images(path: Path, wanted: Collection[str] | None = None) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of every image, or of the wanted ones, one by one; none is named before it is read."""
    try:
        with tarfile.open(path, "r|*") as tar:
            for member in tar:
                inner = PurePosixPath(member.name)
                if not member.isfile() or not is_image(inner):
                    continue
                inner_path(member.name, "unreadable")
                if wanted is None or str(inner) in wanted:
                    stream = tar.extractfile(member)
                    assert stream is not None  # a regular file always has content
                    yield str(inner), stream.read()
    except InputError as error:
        raise DamagedTarError(path, str(error)) from error
    except EOFError as error:
        raise DamagedTarError(path, "truncated") from error
    except (OSError, tarfile.TarError, zlib.error) as error:
        cut = "unexpected end of data" in str(error)
        text = " ".join(str(error).split()) or type(error).__name__
        raise DamagedTarError(path, "truncated" if cut else f"unreadable: {text}") from error
