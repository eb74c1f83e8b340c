"""Members of tar files without compression: read at their offsets, written from memory."""

import io
import tarfile
from collections.abc import Iterable
from pathlib import Path

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
    """Write names and contents atomically; returns how many. The same members give the same bytes."""
    partial = path.with_name(f"{path.name}.partial")
    count = 0
    with tarfile.open(partial, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
            count += 1
    partial.replace(path)
    return count
