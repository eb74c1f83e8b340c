"""WildDeepfake (Zi et al. 2020): sequences of face frames in folders or in tar files."""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from forgerank.data.clip import Clip
from forgerank.data.formats.paths import all_files, check_root, is_image
from forgerank.data.tar_files import TAR_SUFFIXES, DamagedTarError, tar_names
from forgerank.types import InputError

_FOLDER = re.compile(r"(real|fake)[_ ](train|val|test)")
_TAR = re.compile(rf"(.+?)({'|'.join(map(re.escape, TAR_SUFFIXES))})", re.IGNORECASE)


def wilddeepfake(root: Path) -> list[Clip]:
    """The sequences in `{real,fake}_{train,test}` at `root`, also `real train`, unpacked or as tar files.

    A sequence is a folder of frames; its name is the same in all spellings. `Clip.frames` are in the
    order of their numbers, 2.png before 10.png; of a tar file, whose path is then `Clip.path`, they are the
    members' names. The tar files are read once to list them. One that is damaged is listed as a clip of its
    own without frames, beside the sequences that could be read. The sequences of one tar file come from one
    source video and are one group.

    Raises InputError for a root without the layout, and where a tar file lies beside its unpacked folder.
    """
    check_root(root)
    base = root / "deepfake_in_the_wild"
    base = base if base.is_dir() else root
    parts = sorted(path for path in base.iterdir() if path.is_dir() and _FOLDER.fullmatch(path.name))
    if not parts:
        raise InputError(f"{root}: no WildDeepfake here: expected real_train/, fake_train/, real_test/ ...")
    return [clip for part in parts for clip in _part(part)]


def _part(part: Path) -> Iterator[Clip]:
    """The sequences of one of the four folders."""
    entries: dict[str, Path] = {}
    for path in part.iterdir():
        tar = _TAR.fullmatch(path.name)
        if not path.is_dir() and tar is None:
            continue
        video = path.name if tar is None else tar[1]
        if video in entries:
            raise InputError(f"{part}: holds both {path.name} and {entries[video].name}: remove one of them")
        entries[video] = path
    for video, path in sorted(entries.items(), key=lambda item: _number(item[0])):
        sequences, whole = _folder_sequences(path) if path.is_dir() else _tar_sequences(path)
        for folder, frames in sorted(sequences.items(), key=lambda item: _number(item[0])):
            # A tar file of video 0 may have everything in a folder 0 of its own.
            inner = PurePosixPath(folder)
            inner = PurePosixPath(*inner.parts[1:]) if inner.parts[:1] == (video,) else inner
            name = str(PurePosixPath(video) / inner)
            place = path / folder if path.is_dir() else path
            yield _clip(part, place, video, name, sorted(frames, key=_number))
        if not whole:
            yield _clip(part, path, video, f"{video} (damaged)", ())


def _clip(part: Path, path: Path, video: str, name: str, frames: Sequence[str]) -> Clip:
    match = _FOLDER.fullmatch(part.name)
    assert match is not None
    label, split = match.groups()
    return Clip(
        path=path,
        sequence=(1,) if label == "fake" else (),
        group=f"wilddeepfake/{label}_{split}/{video}",
        split=split,
        dataset="wilddeepfake",
        name=f"{label}_{split}/{name}",
        method="fake" if label == "fake" else "",
        frames=tuple(frames),
    )


def _folder_sequences(path: Path) -> tuple[Mapping[str, list[str]], bool]:
    sequences = defaultdict(list)
    for file in all_files(path):
        if is_image(file):
            sequences[file.parent.relative_to(path).as_posix()].append(file.name)
    return sequences, True


def _tar_sequences(path: Path) -> tuple[Mapping[str, list[str]], bool]:
    """Member names by folder, and whether the file could be read to its end."""
    sequences = defaultdict(list)
    try:
        for name in tar_names(path):
            sequences[str(PurePosixPath(name).parent)].append(name)
    except DamagedTarError:
        return sequences, False
    return sequences, True


def _number(name: str) -> list[tuple[int, str]]:
    """Sorts digits by value: 2.png before 10.png."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]
