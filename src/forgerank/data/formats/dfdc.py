"""The DeepFake Detection Challenge (Dolhansky et al. 2020), and its preview (2019), annotated otherwise."""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from forgerank.data.clip import Clip
from forgerank.data.formats.paths import all_files, check_root, inner_path
from forgerank.data.groups import Grouping, group_people
from forgerank.files import open_table, read_json
from forgerank.types import SPLITS, InputError

_PREVIEW, _PREVIEW_REAL = "dataset.json", "original_videos"
_SPLITS = {**{split: split for split in SPLITS}, "validation": "val"}


class _Row(NamedTuple):
    file: PurePosixPath
    forged: bool
    split: str
    original: str  # file name of the video that was manipulated; empty where it is not said


def dfdc(root: Path, *, split: str = "test") -> list[Clip]:
    """The clips of every `metadata.json` and `labels.csv` at any depth under `root`, as they annotate them.

    Annotated videos are listed, on disk or not: `Clip.path` may not exist. `split` is that of videos whose
    annotation names none, such as those of `labels.csv`. A folder's `labels.csv` is preferred to its
    `metadata.json`. A forged video and its original are one group; the originals' file names are unique over
    the folders. Forged videos whose original is not named, as in `labels.csv`, are groups of their own.
    Persons are not annotated.

    Raises InputError for a root without annotations and for annotations that are not as published.
    """
    check_root(root)
    if split not in _SPLITS:
        raise InputError(f"split must be of {', '.join(_SPLITS)}, got {split}")
    files = list(all_files(root))
    tables = {
        path.parent: path for name in ("metadata.json", "labels.csv") for path in files if path.name == name
    }
    if not tables:
        raise InputError(f"{root}: no DFDC here: expected metadata.json or labels.csv in it or its folders")
    clips = []
    for folder, table in sorted(tables.items()):
        for row in _read_labels(table) if table.suffix == ".csv" else _read_metadata(table):
            path = folder / row.file
            clips.append(
                Clip(
                    path=path,
                    sequence=(1,) if row.forged else (),
                    group=f"dfdc/{Path(row.original or row.file).stem}",
                    split=_SPLITS[row.split or split],
                    dataset="dfdc",
                    name=path.relative_to(root).as_posix(),
                    method="FAKE" if row.forged else "",
                )
            )
    return clips


def dfdc_preview(root: Path, *, groups: Grouping = "connected") -> list[Clip]:
    """The clips of the DFDC preview, as `dataset.json` at `root` annotates them: {video: entry}.

    An entry holds `label` (real, fake), `set` (train, test), `target_id`, who is shown, and of a forged video
    `swapped_id`, whose face was put there. Annotated videos are listed, on disk or not: `Clip.path` may not
    exist. `Clip.method` is the first folder, `method_A` or `method_B`. `groups="connected"`: people whom
    forged videos connect are one group; "target": the person who is shown.

    Raises InputError for a root without the annotation and for one that is not as published.
    """
    check_root(root)
    path = root / _PREVIEW
    if not path.is_file():
        raise InputError(
            f"{root}: no DFDC preview here: expected {_PREVIEW}, {_PREVIEW_REAL}/, method_A/ ..."
        )
    content = read_json(path)
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected an object with a path per video")
    rows = [_preview_row(text, entry, f"{path}: {text}") for text, entry in sorted(content.items())]
    by_people = group_people((people for _, people, _ in rows), groups)
    return [
        Clip(
            path=root / file,
            sequence=(1,) if len(people) > 1 else (),
            group=f"dfdcpreview/{by_people[people]}",
            split=split,
            dataset="dfdcpreview",
            name=file.as_posix(),
            method=file.parts[0] if len(people) > 1 else "",
        )
        for file, people, split in rows
    ]


def _preview_row(text: str, entry: object, where: str) -> tuple[PurePosixPath, tuple[str, ...], str]:
    """Path, people and split of a video; a second person is the one whose face was put there."""
    values = entry if isinstance(entry, dict) else {}
    label, split = values.get("label"), values.get("set")
    if label not in ("real", "fake"):
        raise InputError(f"{where}: label must be real or fake, got {label!r}")
    if not isinstance(split, str) or split not in _SPLITS:
        raise InputError(f"{where}: set must be of {', '.join(_SPLITS)}, got {split!r}")
    people = []
    for name in ("target_id", "swapped_id") if label == "fake" else ("target_id",):
        if type(values.get(name)) is not int:
            raise InputError(f"{where}: {name} must be a number, got {values.get(name)!r}")
        people.append(str(values[name]))
    return inner_path(text, where), tuple(people), _SPLITS[split]


def _read_metadata(path: Path) -> Iterator[_Row]:
    content = read_json(path)
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected an object with a file name per video")
    for file, entry in sorted(content.items()):
        where = f"{path}: {file}"
        label = entry.get("label") if isinstance(entry, dict) else None
        if label not in ("REAL", "FAKE"):
            raise InputError(f"{where}: label must be REAL or FAKE, got {label!r}")
        split, original = entry.get("split") or "", entry.get("original") or ""
        if split and (not isinstance(split, str) or split not in _SPLITS):
            raise InputError(f"{where}: split must be of {', '.join(_SPLITS)}, got {split!r}")
        yield _Row(inner_path(file, where), label == "FAKE", split, str(original))


def _read_labels(path: Path) -> Iterator[_Row]:
    with open_table(path) as reader:
        if not {"filename", "label"} <= set(reader.fieldnames or ()):
            raise InputError(f"{path}:1: expected the columns filename and label")
        for row in reader:
            where = f"{path}:{reader.line_num}"
            if row["label"] not in ("0", "1"):
                raise InputError(f"{where}: label must be 1 (forged) or 0, got {row['label']!r}")
            yield _Row(inner_path(row["filename"] or "", where), row["label"] == "1", "", "")
