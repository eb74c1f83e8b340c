"""Seq-DeepFake (Shao et al. 2022): its layout, which `forgerank forge` writes too."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from forgerank.data.formats.paths import is_file, why_missing
from forgerank.data.sample import Sample, Samples
from forgerank.files import open_table
from forgerank.labels import COMPONENTS, check_sequence
from forgerank.types import InputError, Points


class SeqDeepFake(Samples):
    """One split of `root/annotations/{split}.csv` as a `Source`.

    `file_path` is relative to `root` or, in the published sets, to the folder above it. Points, masks and
    groups come from `root/records/{split}.jsonl` where it exists. `reverse` reverses every sequence, as
    some later papers on the benchmark do: their Fixed-Acc is not comparable. With a `length` of 1 the only
    label is whether anything was manipulated, and there are no masks.

    Raises InputError naming file and line for a missing image or a bad label.
    """

    def __init__(
        self, root: Path, split: str, *, reverse: bool = False, length: int = len(COMPONENTS)
    ) -> None:
        samples = list(read_samples(root, split, length=length))
        if reverse:
            samples = [replace(sample, sequence=sample.sequence[::-1]) for sample in samples]
        super().__init__(samples)


def read_samples(
    root: Path, split: str, *, length: int = len(COMPONENTS), errors: list[InputError] | None = None
) -> Iterator[Sample]:
    """The samples of one split in the order of its CSV. Raises InputError as `SeqDeepFake` does.

    With `errors`, bad rows end up there instead, and missing images are listed like others.
    """
    table = root / "annotations" / f"{split}.csv"
    records = _read_records(root / "records" / f"{split}.jsonl")
    base: Path | None = None
    for line, file_path, label in _read_rows(table):
        try:
            if Path(file_path).is_absolute():
                raise InputError(f"{table}:{line}: file_path must be relative, got {file_path}")
            if base is None:
                base = next((b for b in (root, root.parent) if is_file(b / file_path)), None)
            image = (base or root) / file_path
            if errors is None and (reason := why_missing(image)):
                raise InputError(f"{table}:{line}: {file_path}: {reason}")
            sequence = _parse_label(label, length if length > 1 else len(COMPONENTS), f"{table}:{line}")
            sample = _to_sample(image, sequence, split, root, records.get(file_path, {}))
            if length == 1:
                sample = replace(sample, sequence=(1,) if sequence else (), mask=None)
        except InputError as error:
            if errors is None:
                raise
            errors.append(error)
            continue
        yield sample


def parse_integers(text: str, what: str, where: str) -> list[int]:
    """A JSON list of whole numbers, as annotations hold them; `what` names it in an InputError at `where`."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: {what} {text[:80]!r} is not JSON") from error
    if not isinstance(values, list) or not all(type(value) is int for value in values):
        raise InputError(f"{where}: {what} must be a list of integers, got {text}")
    return values


def _read_rows(table: Path) -> Iterator[tuple[int, str, str]]:
    with open_table(table) as reader:
        missing = {"file_path", "label"} - set(reader.fieldnames or ())
        if missing:
            raise InputError(f"{table}:1: missing column {', '.join(sorted(missing))}")
        for row in reader:
            if not row["file_path"] or row["label"] is None:
                raise InputError(f"{table}:{reader.line_num}: expected file_path and label")
            yield reader.line_num, row["file_path"], row["label"]


def _parse_label(text: str, length: int, where: str) -> tuple[int, ...]:
    values = parse_integers(text, "label", where)
    if len(values) > length:
        raise InputError(f"{where}: label {text} is longer than {length}")
    try:
        return check_sequence(values, length)
    except ValueError as error:
        raise InputError(f"{where}: {error}") from error


def _read_records(path: Path) -> dict[str, dict[str, Any]]:
    records: dict[str, dict[str, Any]] = {}
    if not path.is_file():
        return records
    with path.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            try:
                record = json.loads(line)
                # A record also holds every parameter of the forging: of no use here, and large.
                kept = {key: record.get(key) for key in ("points", "mask", "group", "source")}
                records[record["file_path"]] = kept
            except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
                raise InputError(f"{path}:{number}: bad record: {error!r}") from error
    return records


def _to_sample(
    image: Path, sequence: tuple[int, ...], split: str, root: Path, record: dict[str, Any]
) -> Sample:
    points: Points | None = None
    if record.get("points") is not None:
        try:
            points = np.asarray(record["points"], dtype=np.float32)
        except (ValueError, TypeError, OverflowError):
            points = np.empty(0, dtype=np.float32)
        if points.shape != (5, 2) or not np.isfinite(points).all():
            raise InputError(f"{image}: its record must hold five finite points, got {record['points']}")
    mask = None if record.get("mask") is None else root / str(record["mask"])
    return Sample(
        image=image,
        sequence=sequence,
        group=str(record.get("group") or image.stem),
        split=split,
        dataset=root.name,
        points=points,
        mask=mask,
        source=_source_name(record.get("source")),
    )


def _source_name(file: object) -> str:
    """The collection that a source photograph belongs to: `ffhq-0012.jpg` -> `ffhq`."""
    return re.sub(r"[-_ ]?\d*$", "", Path(str(file)).stem) if file else ""
