"""What the readers of data sets and settings share: JSON, YAML, listings of folders, groups."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath, PurePosixPath
from typing import Any, Literal

import yaml

from forgerank.media.images import PHOTO_EXTENSIONS
from forgerank.types import InputError

VIDEO_EXTENSIONS = frozenset({".mp4", ".avi", ".mov", ".mkv", ".webm"})
SPLITS = ("train", "val", "test")
_LONGEST_YAML = 100_000  # characters; the parser takes seconds for them

# Forged videos join two people. "connected": whoever is joined, over any number of videos, is one group, so
# that groups share nobody; where everybody is joined that leaves one group, useless for an interval over
# groups. "target": the person whose video was manipulated, whoever's face was put in.
Grouping = Literal["connected", "target"]


def group_people(videos: Iterable[Sequence[str]], how: Grouping = "connected") -> dict[tuple[str, ...], str]:
    """The group of every video by its people, the first being the target.

    >>> group_people([("a",), ("a", "b"), ("c", "d"), ("b",)])
    {('a',): 'a', ('a', 'b'): 'a', ('c', 'd'): 'c', ('b',): 'a'}
    >>> group_people([("b", "a"), ("b",)], "target")
    {('b', 'a'): 'b', ('b',): 'b'}
    """
    if how not in ("connected", "target"):
        raise InputError(f"groups must be connected or target, got {how}")
    keys = [tuple(people) for people in videos]
    if how == "target":
        return {people: people[0] for people in keys}
    parents: dict[str, str] = {}

    def find(name: str) -> str:
        while parents.setdefault(name, name) != name:
            parents[name] = parents[parents[name]]
            name = parents[name]
        return name

    for people in keys:
        first, *rest = sorted({find(name) for name in people})
        parents.update(dict.fromkeys(rest, first))
    return {people: find(people[0]) for people in keys}


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that is never seen half-written, whatever happens."""
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(content)
    partial.replace(path)


def read_json(path: Path) -> Any:
    """The content of a JSON file. Raises InputError for an unreadable one."""
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error
    except json.JSONDecodeError as error:
        raise InputError(f"{path}:{error.lineno}: not JSON: {error.msg}") from error
    except (ValueError, RecursionError) as error:  # numbers too long, nested too deep
        raise InputError(f"{path}: cannot be read: {error}") from error


class _Loader(yaml.SafeLoader):
    """Without aliases: by merging them, a kilobyte can stand for gigabytes."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not read")
        return super().compose_node(parent, index)


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


def read_yaml(path: Path) -> Any:
    """Plain values of a file. Raises InputError as `parse_yaml` does, and where it cannot be read."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error
    return parse_yaml(text, str(path))


def parse_integers(text: str, what: str, where: str) -> list[int]:
    """A JSON list of whole numbers, as annotations hold them; `what` names it in an InputError at `where`."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: {what} {text[:80]!r} is not JSON") from error
    if not isinstance(values, list) or not all(type(value) is int for value in values):
        raise InputError(f"{where}: {what} must be a list of integers, got {text}")
    return values


def is_image(path: PurePath) -> bool:
    """Whether the name is that of an image, and of none that a system hides."""
    return path.suffix.lower() in PHOTO_EXTENSIONS and not path.name.startswith(".")


def is_file(path: Path) -> bool:
    """Whether there is a file; none has a name that no system takes."""
    try:
        return path.is_file()
    except OSError:
        return False


def check_root(root: Path) -> None:
    """Raises InputError where `root` is not a folder."""
    if not root.is_dir():
        raise InputError(f"{root}: no such folder")


def video_files(folder: Path) -> list[str]:
    """Names of the videos in a folder, sorted; none where the folder does not exist."""
    if not folder.is_dir():
        return []
    return sorted(
        path.name
        for path in folder.iterdir()
        if path.suffix.lower() in VIDEO_EXTENSIONS and not path.name.startswith(".")
    )


def inner_path(text: str, where: str) -> PurePosixPath:
    """A path inside a data set, of either kind of slashes. Raises InputError for one that leads out of it."""
    path = PurePosixPath(text.replace("\\", "/"))
    if not path.name or path.is_absolute() or ".." in path.parts or ":" in path.parts[0]:
        raise InputError(f"{where}: {text!r} is not a path inside the data set")
    return path


def as_names(value: str | Iterable[str], allowed: Sequence[str], what: str) -> tuple[str, ...]:
    """An option that is one name or several, checked. Raises InputError for an unknown one."""
    names = (value,) if isinstance(value, str) else tuple(value)
    unknown = [name for name in names if name not in allowed]
    if unknown or not names:
        raise InputError(f"{what} must be of {', '.join(allowed)}, got {', '.join(unknown) or 'none'}")
    return names
