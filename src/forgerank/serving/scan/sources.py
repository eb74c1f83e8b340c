"""What to scan: folders, globs, URLs and lists of files, as a stream that holds one folder at a time."""

import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from glob import has_magic
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import fsspec  # type: ignore[import-untyped]

from forgerank.files import as_on_disk, os_reason, text_encoding
from forgerank.media.files import LeftOut, MediaError, matches, unreadable, walk
from forgerank.media.suffixes import (
    HEAD_BYTES,
    MEDIA_SUFFIXES,
    MediaKind,
    archive_format,
    is_litter_file,
    kind_by_content,
    kind_of_head,
    known_format,
)
from forgerank.types import InputError


@dataclass(frozen=True, slots=True)
class Item:
    """One file to scan."""

    path: str  # as the source gives it; a full URL for one of fsspec's
    size: int | None = None  # bytes; None where only reading it will tell
    stamp: str = ""  # changes whenever the file is written: time of modification, or the store's own tag
    error: str | None = None  # why it cannot be read, where that is known already


def list_items(
    source: str,
    storage: dict[str, Any],
    *,
    all_files: bool = False,
    others: Counter[str] | None = None,
    passed_over: Callable[[Path], bool] = lambda _: False,
) -> Iterator[Item]:
    """The files of one source. A file, and what a list names, is taken whatever its name.

    The images and videos of a folder that are left out are counted in an item of its own, which is an error;
    `others` counts the rest by kind. Litter of operating systems is passed over, as is what `passed_over`
    names. In a remote store the name alone decides, as nothing is read there. Raises InputError, one line,
    for a source that does not exist or holds no file to scan.
    """
    empty = True
    left_out = LeftOut(MEDIA_SUFFIXES)
    for item in _items(source, storage, None if all_files else MEDIA_SUFFIXES, left_out, passed_over):
        empty = False
        yield item
    if empty:
        wanted = "file" if all_files else "photograph or video (--all takes every file)"
        raise InputError(f"{source}: no {wanted} in it")
    if others is not None:
        others.update(left_out.others)


def is_url(path: str) -> bool:
    """Whether fsspec reads it: `protocol://...`."""
    return "://" in path


def open_storage(url: str, storage: dict[str, Any]) -> tuple[Any, str]:
    """The fsspec file system of a URL and the path inside it. Raises InputError where there is none."""
    try:
        found = fsspec.url_to_fs(url, use_listings_cache=False, **storage)
    except Exception as error:  # every store has errors of its own
        raise InputError(f"{url}: {_one_line(error)}") from None
    return found[0], str(found[1])


def _items(
    source: str,
    storage: dict[str, Any],
    extensions: frozenset[str] | None,
    left_out: LeftOut,
    passed_over: Callable[[Path], bool],
) -> Iterator[Item]:
    if source.startswith("@"):
        return _from_list(Path(source[1:]))
    if is_url(source):
        return _from_storage(source, storage, extensions, left_out)
    if os.path.isdir(source):
        return _from_folder(Path(source), extensions, left_out, passed_over)
    if os.path.lexists(source):
        return iter([_local(source)])
    if has_magic(source):
        return _from_glob(source, extensions, left_out, passed_over)
    raise InputError(f"{source}: no such file or folder")


def _from_list(path: Path) -> Iterator[Item]:
    try:
        with open(path, "rb") as file:
            head = file.read(HEAD_BYTES)
        encoding = text_encoding(head)
        if encoding == "utf-8-sig" and b"\0" in head:
            if kind := archive_format(head) or known_format(head):
                raise InputError(f"{path}: cannot read the list (it is {kind}, not text)")
            if not {*b"\r\n"} & {*head}:
                raise InputError(
                    f"{path}: cannot read the list (null bytes separate its paths, not line ends)"
                )
        # Names that are no UTF-8 stay the bytes that they are.
        errors = "surrogateescape" if encoding == "utf-8-sig" else "strict"
        with open(path, encoding=encoding, errors=errors) as text:
            for line in text:
                if line.strip():
                    name = _listed(line.removesuffix("\n"), path.parent)
                    item = Item(name) if is_url(name) else _local(name)
                    if item.error and re.search("[\udc80-\udcff]", name):
                        item = replace(item, error=f"{item.error}; the list is not UTF-8: save it as such")
                    if not (item.error and name.startswith("#") and not _is_wanted(name, MEDIA_SUFFIXES)):
                        yield item  # the others are comments
    except OSError as error:
        raise InputError(f"{path}: cannot read the list ({os_reason(error)})") from None
    except UnicodeError:
        raise InputError(
            f"{path}: cannot read the list (it begins as {encoding.upper()} and is not)"
        ) from None


def _listed(line: str, folder: Path) -> str:
    """What a line of a list in `folder` names: as it stands if that is there, else without blanks and quotes
    around it, an address of this machine as a path, `~` as the home, with slashes for backslashes, beside the
    list, and with its accents as the disk has them.
    """
    name = line.strip()
    if len(name) > 1 and name[0] == name[-1] and name[0] in "\"'":
        name = name[1:-1]
    path = os.path.expanduser(name)
    if name.lower().startswith(("file:///", "file://localhost/")):
        path = url2pathname(urlsplit(name).path)
    elif is_url(name):
        return name
    places = [line, path, path.replace("\\", "/")]
    places = [place for name in places for place in (name, str(folder / name))]
    spelt = (str(as_on_disk(Path(place))) for place in places if not place.isascii())
    return next((place for place in chain(places, spelt) if os.path.lexists(place)), name)


def _from_folder(
    folder: Path, extensions: frozenset[str] | None, left_out: LeftOut, passed_over: Callable[[Path], bool]
) -> Iterator[Item]:
    errors: list[MediaError] = []
    for path in walk(folder, extensions, errors, left_out.others, passed_over):
        yield _local(str(path))
        yield from _broken(errors)
    yield from _broken(errors)


def _broken(errors: list[MediaError]) -> Iterator[Item]:
    """A folder that cannot be read is a row, too: nothing is left out silently."""
    while errors:
        error = errors.pop()
        yield Item(error.path, error=error.reason)


def _from_glob(
    pattern: str, extensions: frozenset[str] | None, left_out: LeftOut, passed_over: Callable[[Path], bool]
) -> Iterator[Item]:
    denied: list[OSError] = []
    for path in matches(pattern, denied.append, hidden=True):
        if is_litter_file(path, partial(kind_by_content, path)) or os.path.isdir(path):
            continue
        if passed_over(Path(path)):
            continue
        if _is_wanted(path, extensions):
            yield _local(path)
        else:
            left_out.add(Path(path))
    yield from _broken([*map(unreadable, denied), *left_out.errors(pattern)])


def _local(path: str) -> Item:
    try:
        status = os.stat(path)
    except ValueError:
        return Item(path, error="not a valid path")
    except OSError as error:
        return Item(path, error=os_reason(error))
    return Item(path, status.st_size, str(status.st_mtime_ns))


def _from_storage(
    url: str, storage: dict[str, Any], extensions: frozenset[str] | None, left_out: LeftOut
) -> Iterator[Item]:
    files, root = open_storage(url, storage)
    try:
        found: Iterator[dict[str, Any]]
        if files.isfile(root):
            found, extensions = iter([files.info(root)]), None
        elif has_magic(root):
            found = iter(files.glob(root, detail=True).values())
        else:
            found = (
                info
                for _, _, inside in files.walk(root, detail=True, on_error="raise")
                for info in inside.values()
            )
        for info in found:
            kind = partial(_kind_in_storage, files, info["name"])
            if info["type"] != "file" or is_litter_file(info["name"].removeprefix(root), kind):
                continue
            if _is_wanted(info["name"], extensions):
                yield Item(files.unstrip_protocol(info["name"]), info.get("size"), _stamp(info))
            else:
                left_out.add(PurePosixPath(info["name"]))
        yield from _broken(left_out.errors(url))
    except FileNotFoundError:
        raise InputError(f"{url}: no such place") from None
    except Exception as error:  # every store has errors of its own
        raise InputError(f"{url}: cannot be listed ({_one_line(error)})") from None


def _kind_in_storage(files: Any, name: str) -> MediaKind:
    return kind_of_head(files.cat_file(name, 0, HEAD_BYTES))


def _stamp(info: dict[str, Any]) -> str:
    keys = ("ETag", "etag", "md5Hash", "LastModified", "last_modified", "mtime", "created")
    return next((str(info[key]) for key in keys if info.get(key)), "")


def _is_wanted(path: str, extensions: frozenset[str] | None) -> bool:
    return extensions is None or os.path.splitext(path)[1].lower() in extensions


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
