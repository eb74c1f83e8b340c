"""Clips: the videos of a data set, before faces are cut out of them, and their frames."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from forgerank.data.tar_files import Archive, DamagedTarError, is_archive, read_archive, tar_names
from forgerank.files import os_reason
from forgerank.media.files import MediaError
from forgerank.media.frame_access import Frame, Lost, evenly_spaced, read_video
from forgerank.media.images import read_photo
from forgerank.media.suffixes import kind_by_name


@dataclass(frozen=True, slots=True)
class Clip:
    """One video, or one folder of frames, with its label, as a data set's annotations promise it.

    `path` and `frames` may not exist: readers list what is annotated, so that missing files can be reported.
    """

    path: Path  # a video file, a folder of frames, or a tar file of frames
    sequence: tuple[int, ...]  # () for a real one, (1,) for a forged one: labels.BINARY
    group: str  # the source video or person: clips of one group are never independent
    split: str  # train, val or test; empty where the data set has no split
    dataset: str
    name: str  # identity: unique in the split, stable between machines, relative to the root
    method: str = ""  # how it was forged, as the data set calls it
    compression: str = ""  # raw, c23 or c40 where the data set has levels
    frames: tuple[str, ...] = ()  # the frames to use, relative to `path`; empty: every one


def read_frames(clip: Clip, count: int | None, *, archive: Archive | None = None) -> Iterator[Frame | Lost]:
    """Up to `count` frames, evenly spaced over the whole clip: one item for each, read or lost.

    A clip that cannot be opened is one `Lost` without a number. Frames come in order, but for those that took
    a second attempt. `archive`: what `read_archive` gave for the clip's tar; read here where it is not given.
    """
    try:
        there = clip.path.exists()
    except OSError as error:  # a folder above it may not be entered
        yield Lost(None, f"unreadable: {os_reason(error)}")
        return
    if not there:
        yield Lost(None, "missing")
    elif is_archive(clip.path):
        names, reason = planned_members(clip, count)
        if reason:
            yield Lost(None, reason)
            return
        found = read_archive(clip.path, names.values()) if archive is None else archive
        yield from _from_archive(clip, names, found)
    elif clip.frames or clip.path.is_dir():
        yield from _from_folder(clip, count)
    elif kind_by_name(clip.path) == "image":
        yield _from_image(0, clip.path)
    else:
        yield from read_video(clip.path, count)


def planned_members(clip: Clip, count: int | None) -> tuple[dict[int, str], str]:
    """Number -> name of the evenly spaced images of a clip in a tar, and why there are none.

    A clip that names no frames has all of its tar's; none of a damaged one, whose listing is not whole.
    """
    if clip.frames:
        return _planned(clip.frames, count), ""
    try:
        names = _in_order(tar_names(clip.path))
    except DamagedTarError as error:
        return {}, error.reason
    return (_planned(names, count), "") if names else ({}, "unreadable: no images in the tar")


def read_together(
    clips: Sequence[Clip], count: int | None
) -> Iterator[tuple[Clip, Iterator["Frame | Lost"]]]:
    """`read_frames` of clips that `by_file` put together: a tar is unpacked once for all of them."""
    archive: Archive | None = None
    path = clips[0].path
    if is_archive(path) and os.path.exists(path):
        planned = (planned_members(clip, count)[0] for clip in clips)
        archive = read_archive(path, {name for names in planned for name in names.values()})
    for clip in clips:
        yield clip, read_frames(clip, count, archive=archive)


def by_file(clips: Sequence[Clip]) -> list[list[Clip]]:
    """The clips of each tar together, all others one by one."""
    tars: dict[Path, list[Clip]] = {}
    together: list[list[Clip]] = []
    for clip in clips:
        if not is_archive(clip.path):
            together.append([clip])
        elif clip.path in tars:
            tars[clip.path].append(clip)
        else:
            together.append(tars.setdefault(clip.path, [clip]))
    return together


def _from_archive(clip: Clip, names: dict[int, str], archive: Archive) -> Iterator[Frame | Lost]:
    for number, name in names.items():
        member = str(PurePosixPath(name))
        data = archive.contents.get(member)
        if data is None:
            link = "unreadable: a link in the tar" if member in archive.contents else ""
            yield Lost(number, link or archive.reason or "missing")
        else:
            yield _from_image(number, clip.path / name, data)


def _from_folder(clip: Clip, count: int | None) -> Iterator[Frame | Lost]:
    names: Sequence[str] = clip.frames
    if not names:
        try:
            files = [entry.name for entry in os.scandir(clip.path) if entry.is_file()]
        except OSError as error:
            yield Lost(None, f"unreadable: {os_reason(error)}")
            return
        names = _in_order(name for name in files if kind_by_name(name) == "image")
    if not names:
        yield Lost(None, "unreadable: no images in the folder")
    for number, name in _planned(names, count).items():
        yield _from_image(number, clip.path / name)


def _from_image(number: int, path: Path, data: bytes | None = None) -> Frame | Lost:
    try:
        return Frame(number, None, read_photo(path, data=data))
    except MediaError as error:
        missing = isinstance(error.__cause__, FileNotFoundError)
        return Lost(number, "missing" if missing else f"unreadable: {error.reason}")


def _in_order(names: Iterator[str]) -> list[str]:
    """By frame number where the names are numbers: 10 comes after 9."""
    return sorted(names, key=lambda name: (_number(name), name))


def _number(name: str) -> int:
    stem = PurePosixPath(name).stem
    return int(stem) if stem.isascii() and stem.isdigit() else 1 << 62


def _planned(names: Sequence[str], count: int | None) -> dict[int, str]:
    numbers = [_number(name) for name in names]
    if len(set(numbers)) < len(names) or max(numbers, default=0) == 1 << 62:
        numbers = list(range(len(names)))
    return {numbers[place]: names[place] for place in evenly_spaced(len(names), count)}
