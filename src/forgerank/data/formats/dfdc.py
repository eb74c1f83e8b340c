"""The DeepFake Detection Challenge (Dolhansky et al. 2020; its preview, 2019)."""

import csv
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from forgerank.data.clip import Clip
from forgerank.data.formats.paths import check_root, inner_path
from forgerank.files import read_json
from forgerank.types import SPLITS, InputError

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
    tables = {path.parent: path for name in ("metadata.json", "labels.csv") for path in root.rglob(name)}
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
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            if not {"filename", "label"} <= set(reader.fieldnames or ()):
                raise InputError(f"{path}:1: expected the columns filename and label")
            for row in reader:
                where = f"{path}:{reader.line_num}"
                if row["label"] not in ("0", "1"):
                    raise InputError(f"{where}: label must be 1 (forged) or 0, got {row['label']!r}")
                yield _Row(inner_path(row["filename"] or "", where), row["label"] == "1", "", "")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error
