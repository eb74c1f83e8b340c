"""Seq-DeepFake's layout, as the academic sets and as `forgerank forge` writes it (design, section 3)."""

import csv
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PILImage

from forgerank.data.listing import is_file, parse_integers
from forgerank.data.sample import LabelledImage, Sample
from forgerank.labels import COMPONENTS, check_sequence
from forgerank.media.images import read_photo
from forgerank.types import Image, InputError, Points


class Samples:
    """Samples on disk as a `Source`."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def sample(self, index: int) -> Sample:
        """The annotation at `index`."""
        return self.samples[index]

    def load(self, index: int, rng: np.random.Generator) -> LabelledImage:
        """Decode the image and its mask; `rng` is not used. Raises InputError for an unreadable file."""
        return load_sample(self.samples[index])


class SeqDeepFake(Samples):
    """One split of `root/annotations/{split}.csv` as a `Source`.

    `file_path` is relative to `root` or, in the academic sets, to the folder above it. Points, masks and
    groups come from `root/records/{split}.jsonl` where it exists. `reverse` turns every sequence round, as
    some follow-ups of the benchmark do: their Fixed-Acc is not comparable.

    Raises InputError naming file and line for a missing image or a bad label.
    """

    def __init__(
        self, root: Path, split: str, *, reverse: bool = False, length: int = len(COMPONENTS)
    ) -> None:
        samples = list(read_samples(root, split, length=length))
        if reverse:
            samples = [replace(sample, sequence=sample.sequence[::-1]) for sample in samples]
        super().__init__(samples)


def load_sample(sample: Sample) -> LabelledImage:
    """Decode one sample. Raises InputError for an unreadable file or a sample without points."""
    if sample.points is None:
        raise InputError(f"{sample.image}: no points of the face are known")
    mask = None if sample.mask is None else read_mask(sample.mask)
    return LabelledImage(
        read_image(sample.image), sample.points, sample.sequence, mask, sample.parts, sample.fake
    )


def read_image(path: Path, content: IO[bytes] | None = None) -> Image:
    """An image as RGB (H, W, 3), turned upright; `content` stands for the file where it is inside another.

    Raises InputError for an unreadable file.
    """
    return read_photo(path, data=None if content is None else content.read())


def read_mask(path: Path, content: IO[bytes] | None = None) -> NDArray[np.uint8]:
    """A mask of edited labels, (H, W), one bit per label; `content` as in `read_image`.

    Raises InputError for an unreadable file.
    """
    try:
        with PILImage.open(content or path) as opened:
            if opened.mode != "L":
                raise InputError(f"{path}: a mask must be 8-bit grey, got mode {opened.mode}")
            return np.asarray(opened)
    except InputError:
        raise
    except Exception as error:  # a decoder raises whatever its code stumbles over
        raise InputError(f"{path}: cannot be read as a mask: {error}") from error


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
            if errors is None and not is_file(image):
                raise InputError(f"{table}:{line}: missing image {file_path}")
            sequence = _parse_label(label, length, f"{table}:{line}")
            sample = _to_sample(image, sequence, split, root, records.get(file_path, {}))
        except InputError as error:
            if errors is None:
                raise
            errors.append(error)
            continue
        yield sample


def _read_rows(table: Path) -> Iterator[tuple[int, str, str]]:
    try:
        with table.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            missing = {"file_path", "label"} - set(reader.fieldnames or ())
            if missing:
                raise InputError(f"{table}:1: missing column {', '.join(sorted(missing))}")
            for row in reader:
                if not row["file_path"] or row["label"] is None:
                    raise InputError(f"{table}:{reader.line_num}: expected file_path and label")
                yield reader.line_num, row["file_path"], row["label"]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{table}: cannot be read: {error}") from error


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
