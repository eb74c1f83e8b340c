"""Images of one's own: folders `real/` and `fake/`, or a CSV table."""

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple

from rich.console import Console
from rich.text import Text

from forgerank.data.formats.paths import all_files, is_file, is_image, why_missing
from forgerank.data.formats.seqdeepfake import parse_integers
from forgerank.data.sample import Sample, Samples
from forgerank.files import as_on_disk, composed, open_table
from forgerank.labels import VOCABULARIES, Parts, check_sequence, face_labels
from forgerank.media.files import LeftOut, by_kind, counted
from forgerank.media.suffixes import IMAGE_SUFFIXES
from forgerank.types import SPLITS, InputError

Label = Literal["real", "fake"]

_LABELS = {"real": False, "0": False, "fake": True, "1": True}
_PARTS = {"": None, "0": 0, "1": 1, "0.0": 0, "1.0": 1}  # a column with gaps often comes as decimals
SHARES = (0.8, 0.1, 0.1)


class Folder(Samples):
    """One split of the images at `root` as a `Source`; the keywords are those of `read_folder`.

    Raises InputError as `read_folder` does, and for an image of the split that is missing.
    """

    def __init__(
        self,
        root: Path,
        split: str,
        *,
        length: int = 1,
        table: str = "labels.csv",
        shares: Sequence[float] = SHARES,
        label: Label | None = None,
        parts: Sequence[int | None] | None = None,
    ) -> None:
        found = read_folder(root, length=length, table=table, shares=shares, label=label, parts=parts)
        samples = [sample for sample in found if sample.split == split]
        missing = [(sample.image, why) for sample in samples if (why := why_missing(sample.image))]
        if missing:
            (image, reason), number = missing[0], counted(len(samples), "image")
            more = f" ({len(missing)} of {number} of the {split} split cannot be found)"
            raise InputError(f"{image}: {reason}" + more * (len(missing) > 1))
        super().__init__(samples)


def read_folder(
    root: Path,
    *,
    length: int = 1,
    table: str = "labels.csv",
    shares: Sequence[float] = SHARES,
    label: Label | None = None,
    parts: Sequence[int | None] | None = None,
) -> list[Sample]:
    """The images at `root`, of every split, existing or not.

    `root` is a folder that holds the table, or the table itself, or a folder with `real/` and `fake/`. The
    table is a CSV with columns `path` or `file` (relative to it, or to `images/` beside it) and `label`
    (real or 0, fake or 1), and optionally `sequence` (a JSON list of 1-based labels in order of
    manipulation), a column for each label of the vocabulary by its name (1 manipulated, 0 not, empty
    unknown), `group` or `subject`, `split`, `method` and `source`; other columns are left alone.

    `length` is that of the vocabulary. With 1, only real or forged is read: labels' columns are ignored, and
    the sequence of every forged image is (1,). With larger ones a forged image without a sequence has
    partial labels: `Sample.parts` by its columns, None where nothing is known. `label` is that of every
    image of a table without the column; `parts`, (length,), is what is known of forged images in the
    labels that have no column.

    The group of an image is its path without ending and without `real/` or `fake/` in front: real/anna.jpg
    and fake/anna.png are one group. Below `real/` and `fake/`, what lies in one folder is one group. A table
    gives others by its column `group`. Without a column `split`, groups are shared out over train, val and
    test by a hash of the group, near to `shares`: the same on every machine, and added images leave the
    others where they are.

    Raises InputError, with the line of a table, for a root without images and for a bad row, among them a
    label, a sequence and labels' columns that contradict each other.
    """
    if label not in (None, "real", "fake"):
        raise InputError(f"label must be real or fake, got {label!r}")
    given = _check_parts(parts, length)
    file = root if root.suffix.lower() == ".csv" else root / table
    if file.is_file():
        base, samples = file.parent, list(_read_table(file, length, label, given))
    else:
        base, samples = root, list(_read_folders(root, table, length, given))
    return [
        replace(
            sample,
            image=_place(base, sample.image),
            dataset=base.resolve().name,
            split=sample.split or _share(sample.group, shares),
        )
        for sample in samples
    ]


def _check_parts(parts: Sequence[int | None] | None, length: int) -> Parts | None:
    if parts is None or length == 1:  # real or forged alone: nothing is known in part
        return None
    if isinstance(parts, str) or len(parts) != length or any(part not in (0, 1, None) for part in parts):
        raise InputError(f"parts must be {length} of 1, 0 and null, got {parts}")
    return tuple(parts)


def _place(base: Path, path: Path) -> Path:
    """Where an image lies: beside the table or, where it is not there, in `images/` beside it."""
    outer, inner = (as_on_disk(folder / path) for folder in (base, base / "images"))
    return inner if not is_file(outer) and is_file(inner) else outer


def _read_folders(root: Path, table: str, length: int, parts: Parts | None) -> Iterator[Sample]:
    if not (root / "real").is_dir() and not (root / "fake").is_dir():
        raise InputError(f"{root}: no images here: expected real/ and fake/, or {table}")
    left_out = LeftOut(IMAGE_SUFFIXES)
    for name in ("real", "fake"):
        paths = []
        if not (root / name).is_dir():
            continue
        for path in all_files(root / name):
            if is_image(path):
                paths.append(path.relative_to(root))
            elif is_file(path):
                left_out.add(path)
        for path in sorted(paths):
            inner = path.relative_to(name)
            group = inner.parent if inner.parent.parts else inner.with_suffix("")
            sample = Sample(path, (), composed(group.as_posix()), split="", dataset="")
            yield _forged(sample, length, parts) if name == "fake" else sample
    for error in left_out.errors(root):
        _say_once(str(error))
    if left_out.others:
        _say_once(f"{root}: left out, no images: {by_kind(left_out.others)}")


@cache
def _say_once(line: str) -> None:
    """On standard error; each split of a data set reads the same folders."""
    Console(stderr=True).print(Text(line), soft_wrap=True)


def _forged(sample: Sample, length: int, parts: Parts | None) -> Sample:
    """An image of unknown order as a forged one."""
    if length == 1:
        return replace(sample, sequence=(1,))
    return replace(sample, fake=True, parts=parts if parts and parts != (None,) * length else None)


class _Layout(NamedTuple):
    """What the columns of a table hold."""

    path: str
    group: str
    labels: tuple[str | None, ...]  # (L,) the column of each label, None where there is none
    parts: Parts | None  # of forged images, for the labels without a column
    label: Label | None  # of every image, where there is no column
    split: bool  # whether there is such a column
    length: int


def _read_layout(
    columns: set[str], length: int, label: Label | None, parts: Parts | None, where: str
) -> _Layout:
    path = "path" if "path" in columns or "file" not in columns else "file"
    missing = {path, "label"} - columns - ({"label"} if label else set())
    if missing:
        raise InputError(f"{where}: missing column {', '.join(sorted(missing))}")
    named = [
        names for names in VOCABULARIES.values() if len(names) == length > 1 and not columns.isdisjoint(names)
    ]
    if len(named) > 1:
        raise InputError(f"{where}: columns of several vocabularies")
    names = named[0] if named else ()
    return _Layout(
        path=path,
        group="group" if "group" in columns else "subject",
        labels=tuple(name if name in columns else None for name in names) or (None,) * length,
        parts=parts,
        label=None if "label" in columns else label,
        split="split" in columns,
        length=length,
    )


def _read_table(file: Path, length: int, label: Label | None, parts: Parts | None) -> Iterator[Sample]:
    with open_table(file) as reader:
        columns = set(reader.fieldnames or ())
        layout = _read_layout(columns, length, label, parts, f"{file}:1")
        seen: set[str] = set()
        for row in reader:
            where = f"{file}:{reader.line_num}"
            if None in row.values() or None in row:
                raise InputError(f"{where}: expected {len(columns)} values")
            name = composed(row[layout.path])
            if name in seen:
                raise InputError(f"{where}: {name} is there already")
            seen.add(name)
            yield _read_row(row, layout, where)


def _read_row(row: Mapping[str, str], layout: _Layout, where: str) -> Sample:
    path = PurePosixPath(row[layout.path].replace("\\", "/"))
    if not path.name or path.is_absolute():
        raise InputError(f"{where}: {layout.path} must be relative to the table, got {row[layout.path]!r}")
    label = layout.label or row["label"]
    forged = _LABELS.get(label.strip().lower())
    if forged is None:
        raise InputError(f"{where}: label must be of {', '.join(_LABELS)}, got {label!r}")
    if layout.split and row["split"] not in SPLITS:
        raise InputError(f"{where}: split must be of {', '.join(SPLITS)}, got {row['split']!r}")
    inner = PurePosixPath(*path.parts[1:]) if path.parts[0] in ("real", "fake") else path
    sample = Sample(
        image=Path(path),
        sequence=(),
        group=row.get(layout.group) or composed(str(inner.with_suffix(""))),
        split=row.get("split", ""),
        dataset="",
        source=row.get("source", ""),
        method=row.get("method", ""),
    )
    sequence = _read_sequence(row.get("sequence", ""), forged, layout.length, where)
    stated = tuple(_read_part(row, column, where) for column in layout.labels)
    if not forged and 1 in stated:
        raise InputError(f"{where}: label real and a 1 in the labels' columns contradict each other")
    if sequence is not None:
        known = face_labels(sequence, layout.length).presence
        if any(part not in (None, y) for part, y in zip(stated, known, strict=True)):
            raise InputError(f"{where}: the sequence and the labels' columns contradict each other")
    if sequence or not forged:
        return replace(sample, sequence=sequence or ())
    given = layout.parts or stated
    parts = tuple(
        other if column is None else part
        for column, part, other in zip(layout.labels, stated, given, strict=True)
    )
    return _forged(sample, layout.length, parts)


def _read_part(row: Mapping[str, str], column: str | None, where: str) -> int | None:
    text = row[column].strip() if column else ""
    if text not in _PARTS:
        raise InputError(f"{where}: {column} must be 1, 0 or empty, got {text!r}")
    return _PARTS[text]


def _read_sequence(text: str, forged: bool, length: int, where: str) -> tuple[int, ...] | None:
    """The labels in order of manipulation; None where nothing is said of them."""
    if not text.strip():
        return None
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
    place = int.from_bytes(hashlib.sha256(os.fsencode(group)).digest()[:8], "big") / 2**64 * sum(shares)
    for split, share in zip(SPLITS, shares, strict=True):
        if place < share:
            return split
        place -= share
    # Rounding may leave a place just behind the end.
    return next(s for s, share in zip(reversed(SPLITS), reversed(shares), strict=True) if share > 0)
