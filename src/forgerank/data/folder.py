"""Photographs of one's own: `real/` and `fake/`, or a table (design, section 3)."""

import csv
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from forgerank.data.listing import SPLITS, is_file, is_picture, parse_integers
from forgerank.data.sample import Sample
from forgerank.data.seqdeepfake import Samples
from forgerank.labels import check_sequence
from forgerank.types import InputError

_LABELS = {"real": False, "0": False, "fake": True, "1": True}


class Folder(Samples):
    """One split of the pictures at `root` as a `Source`; `read_folder` says how they are read.

    Raises InputError as `read_folder` does, and for a picture of the split that is missing.
    """

    def __init__(
        self,
        root: Path,
        split: str,
        *,
        length: int = 1,
        table: str = "labels.csv",
        shares: Sequence[float] = (0.8, 0.1, 0.1),
    ) -> None:
        samples = [
            sample
            for sample in read_folder(root, length=length, table=table, shares=shares)
            if sample.split == split
        ]
        for sample in samples:
            if not is_file(sample.image):
                raise InputError(f"{sample.image}: missing picture")
        super().__init__(samples)


def read_folder(
    root: Path,
    *,
    length: int = 1,
    table: str = "labels.csv",
    shares: Sequence[float] = (0.8, 0.1, 0.1),
) -> list[Sample]:
    """The pictures at `root`, of every split, existing or not.

    `root` is a folder that holds the table, or the table itself, or a folder with `real/` and `fake/`. The
    table is a CSV with columns `path` (relative to it) and `label` (real or 0, fake or 1), and optionally
    `sequence` (a JSON list of 1-based labels in order of manipulation), `group` and `split`; other columns
    are left alone. `length` is that of the vocabulary: 1 asks for real or forged alone and sets the sequence
    of every forged picture to (1,), larger ones need the sequence of every forged picture.

    The group of a picture is its path without ending and without `real/` or `fake/` in front: real/anna.jpg
    and fake/anna.png are one group. Below `real/` and `fake/`, what lies in one folder is one group. A table
    gives others by its column `group`. Without a column `split`, groups are shared out over train, val and
    test by a hash of the group, near to `shares`: the same on every machine, and a picture more moves no
    other one.

    Raises InputError, with the line of a table, for a root without pictures and for a bad row.
    """
    file = root if root.suffix.lower() == ".csv" else root / table
    if file.is_file():
        base, samples = file.parent, list(_read_table(file, length))
    else:
        base, samples = root, list(_read_folders(root, table, length))
    return [
        replace(
            sample,
            image=base / sample.image,
            dataset=base.resolve().name,
            split=sample.split or _share(sample.group, shares),
        )
        for sample in samples
    ]


def _read_folders(root: Path, table: str, length: int) -> Iterator[Sample]:
    if not (root / "real").is_dir() and not (root / "fake").is_dir():
        raise InputError(f"{root}: no pictures here: expected real/ and fake/, or {table}")
    if length > 1 and (root / "fake").is_dir():
        raise InputError(f"{root / 'fake'}: says nothing of components: give their sequence in {table}")
    for name in ("real", "fake"):
        paths = (path.relative_to(root) for path in (root / name).rglob("*"))
        for path in sorted(path for path in paths if is_picture(path)):
            inner = path.relative_to(name)
            group = inner.parent if inner.parent.parts else inner.with_suffix("")
            yield Sample(path, (1,) if name == "fake" else (), group.as_posix(), split="", dataset="")


def _read_table(file: Path, length: int) -> Iterator[Sample]:
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            columns = set(reader.fieldnames or ())
            if missing := {"path", "label"} - columns:
                raise InputError(f"{file}:1: missing column {', '.join(sorted(missing))}")
            seen: set[str] = set()
            for row in reader:
                where = f"{file}:{reader.line_num}"
                if None in row.values() or None in row:
                    raise InputError(f"{where}: expected {len(columns)} values")
                if row["path"] in seen:
                    raise InputError(f"{where}: {row['path']} is there already")
                seen.add(row["path"])
                yield _read_row(row, columns, length, where)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{file}: cannot be read: {error}") from error


def _read_row(row: dict[str, str], columns: Iterable[str], length: int, where: str) -> Sample:
    path = PurePosixPath(row["path"].replace("\\", "/"))
    if not path.name or path.is_absolute():
        raise InputError(f"{where}: path must be relative to the table, got {row['path']!r}")
    forged = _LABELS.get(row["label"].strip().lower())
    if forged is None:
        raise InputError(f"{where}: label must be of {', '.join(_LABELS)}, got {row['label']!r}")
    if "split" in columns and row["split"] not in SPLITS:
        raise InputError(f"{where}: split must be of {', '.join(SPLITS)}, got {row['split']!r}")
    sequence = _read_sequence(row.get("sequence", ""), forged, length, where)
    inner = PurePosixPath(*path.parts[1:]) if path.parts[0] in ("real", "fake") else path
    group = row.get("group") or str(inner.with_suffix(""))
    return Sample(Path(path), sequence, group, split=row.get("split", ""), dataset="")


def _read_sequence(text: str, forged: bool, length: int, where: str) -> tuple[int, ...]:
    if not text.strip():
        if forged and length > 1:
            raise InputError(f"{where}: a forged picture needs the sequence of its components")
        return (1,) if forged else ()
    values = parse_integers(text, "sequence", where)
    try:
        # Real or forged alone: labels of any vocabulary will do.
        sequence = check_sequence(values, length if length > 1 else max([1, *values]))
    except ValueError as error:
        raise InputError(f"{where}: {error}") from error
    if bool(sequence) != forged:
        raise InputError(f"{where}: label and sequence {text} contradict each other")
    return sequence if length > 1 else sequence and (1,)


def _share(group: str, shares: Sequence[float]) -> str:
    """The split of a group: SPLITS in proportion to `shares`."""
    if len(shares) != len(SPLITS) or min(shares) < 0 or sum(shares) <= 0:
        raise InputError(f"shares must be three numbers >= 0, of {', '.join(SPLITS)}, got {list(shares)}")
    place = int.from_bytes(hashlib.sha256(group.encode()).digest()[:8], "big") / 2**64 * sum(shares)
    for split, share in zip(SPLITS, shares, strict=True):
        if place < share:
            return split
        place -= share
    # Rounding may leave a place just behind the end.
    return next(s for s, share in zip(reversed(SPLITS), reversed(shares), strict=True) if share > 0)
