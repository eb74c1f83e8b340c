"""A data set in the Seq-DeepFake layout from a folder of photographs, the same bytes for the same seed."""

import csv
import hashlib
import json
import os
import zipfile
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np

from forgerank import __version__
from forgerank.faces.analyze import FaceAnalyzer
from forgerank.files import composed, open_table, writing
from forgerank.forge.chain import Forged, draw_components, forge_image
from forgerank.forge.photos import Photo, PhotoEntry, choose_donor
from forgerank.forge.saves import TRACES
from forgerank.labels import BINARY, COMPONENTS
from forgerank.media.files import MediaError, counted, find_photos
from forgerank.media.images import MAX_PIXELS, read_photo
from forgerank.processes import clear_partial_folder, partial_folder, process_pool
from forgerank.types import SPLITS, Image, InputError, Points

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Recipe:
    """All settings that determine a data set, apart from the photographs."""

    steps: tuple[int, int] = (0, 5)  # fewest and most edits
    seed: int = 0
    trace: str = "medium"
    task: Literal["components", "binary"] = "components"
    original_share: float = 1 / 3  # of originals, where steps start at 0
    single_share: float | None = None  # of forged images with one edit; None: every length alike

    def __post_init__(self) -> None:
        low, high = self.steps
        longest = len(COMPONENTS) if self.task == "components" else 1
        if not 0 <= low <= high <= longest:
            raise InputError(
                f"--steps {low}-{high}: give a range within 0-{longest} for the {self.task} task"
            )
        if self.trace not in TRACES:
            raise InputError(f"--trace {self.trace}: choose one of {', '.join(TRACES)}")
        if not 0 <= self.original_share < 1:
            raise InputError(f"original share {self.original_share}: give a number in [0, 1)")
        if self.single_share is not None and not 0 <= self.single_share <= 1:
            raise InputError(f"single share {self.single_share}: give a number in [0, 1]")
        if self.single_share is not None and low > 1:
            raise InputError(f"single share {self.single_share}: steps {low}-{high} hold no single edit")


@dataclass(slots=True)
class LeftOut:
    """What was passed over in a folder of photographs."""

    unread: list[MediaError] = field(default_factory=list)  # files that cannot be read, one line each
    faceless: list[Path] = field(default_factory=list)  # photographs without a face, or without landmarks
    unnamed: list[Path] = field(default_factory=list)  # photographs that the table of splits does not name
    others: Counter[str] = field(default_factory=Counter)  # files that are no images, by kind


def forge_dataset(
    photos: Path,
    out: Path,
    *,
    recipe: Recipe,
    per_photo: int = 4,
    workers: int = 1,
    landmarks: Path | None = None,
    split_csv: Path | None = None,
    splits: Sequence[str] = SPLITS,
    progress: Progress | None = None,
    left_out: LeftOut | None = None,
    max_pixels: int = MAX_PIXELS,
) -> dict[str, int]:
    """Forge `per_photo` images from every photograph under `photos` into `out`; returns images per split.

    landmarks: an .npz with `files` and `landmarks` (N, 468, 2); found by the embedded models when absent.
    split_csv: columns file, subject, split; without it files are split 80/10/10 by a hash of their name.
    splits: only photographs of these are used. A person's images never cross splits, nor do donors.
    left_out: is told which files were passed over.
    max_pixels: larger photographs are passed over.
    The folder appears when it is complete: until then it lies in `out`.partial, which the next forge clears
    away if this one is killed. Raises InputError for an `out` that is not empty or cannot be written, for no
    photographs and for no face in any of them.
    """
    out = Path(os.path.realpath(out))  # a link stays
    clear_partial_folder(out)
    if out.exists() and any(out.iterdir()):
        raise InputError(f"{out}: not empty; give a new folder")
    entries = collect_photos(
        photos, landmarks=landmarks, split_csv=split_csv, left_out=left_out, max_pixels=max_pixels
    )
    found = counted(len(entries), "photograph")
    entries = [entry for entry in entries if entry.split in splits]
    if not entries:
        raise InputError(f"{photos}: none of its {found} is of the split {' or '.join(splits)}")
    with writing(out), partial_folder(out) as folder:
        counts = _forge_splits(entries, folder, recipe, per_photo, workers, progress)
        folder.replace(out)
    return counts


def _forge_splits(
    entries: Sequence[PhotoEntry],
    out: Path,
    recipe: Recipe,
    per_photo: int,
    workers: int,
    progress: Progress | None,
) -> dict[str, int]:
    groups = [[e for e in entries if e.split == split] for split in SPLITS]
    total, done = len(entries) * per_photo, 0
    counts: dict[str, int] = {}
    for number, (split, group) in enumerate(zip(SPLITS, groups, strict=True)):
        if group:
            writer = SplitWriter(out, split, recipe)
            make = partial(_forge_index, recipe=recipe, stream=number, per_photo=per_photo)
            with closing(writer), closing(_spread(make, group, len(group) * per_photo, workers)) as made:
                for index, source, forged in made:
                    writer.write(index, source, forged)
                    done += 1
                    if progress:
                        progress(done, total)
            counts[split] = len(group) * per_photo
    return counts


def collect_photos(
    photos: Path,
    *,
    landmarks: Path | None = None,
    split_csv: Path | None = None,
    left_out: LeftOut | None = None,
    max_pixels: int = MAX_PIXELS,
) -> list[PhotoEntry]:
    """The photographs of a folder with landmarks, subject and split, sorted by name.

    Those that cannot be read or show no face are left out, and noted in `left_out`. Raises InputError where
    none is left.
    """
    noted = LeftOut() if left_out is None else left_out
    paths, errors = find_photos([photos], noted.others)
    if not paths:
        noted.unread += errors[1:]
        raise InputError(str(errors[0]) if errors else f"{photos}: no photographs")
    noted.unread += errors
    known = _read_landmarks(landmarks) if landmarks else None
    analyzer = FaceAnalyzer()  # opens its models on first use
    table = _read_splits(split_csv) if split_csv else {}
    entries = []
    for path in paths:
        name = composed(path.name)
        if split_csv and name not in table:
            noted.unnamed.append(path)
            continue
        try:
            image = read_photo(path, max_pixels=max_pixels)
        except MediaError as error:
            noted.unread.append(error)
            continue
        points = _detect(analyzer, image) if known is None else known.get(name)
        if points is None:
            noted.faceless.append(path)
            continue
        subject, split = table.get(name) or (composed(path.stem), _hash_split(name))
        entries.append(PhotoEntry(path, subject, split, points, max_pixels))
    if split_csv and len(noted.unnamed) == len(paths):
        raise InputError(f"{split_csv}: names none of the {counted(len(paths), 'photograph')} of {photos}")
    if not entries:
        raise InputError(f"{photos}: no face found in {counted(len(paths), 'photograph')}")
    return entries


def forge_one(
    entries: Sequence[PhotoEntry], entry: PhotoEntry, recipe: Recipe, rng: np.random.Generator
) -> Forged:
    """One image of a recipe from one photograph, donors from the same collection."""
    components = draw_components(rng, recipe.steps, recipe.original_share, single_share=recipe.single_share)
    if recipe.task == "binary":
        components = BINARY if components else ()

    def donor() -> tuple[str, Photo]:
        chosen = choose_donor(entry, entries, rng)
        return chosen.path.name, chosen.load()

    return forge_image(
        entry.load(),
        components,
        rng,
        donor,
        trace=recipe.trace,
        longest=recipe.steps[1],
        single_share=recipe.single_share,
    )


def sequence_label(components: Sequence[str], task: str) -> list[int]:
    """1-based labels, right-padded with 0 to 5 (components) or 1 (binary)."""
    vocabulary = COMPONENTS if task == "components" else BINARY
    labels = [vocabulary.index(name) + 1 for name in components]
    return labels + [0] * (len(vocabulary) - len(labels))


class SplitWriter:
    """Writes images, masks, the annotation CSV and one JSON record per image of one split."""

    def __init__(self, out: Path, split: str, recipe: Recipe) -> None:
        self.out, self.split, self.recipe = out, split, recipe
        for folder in ("annotations", "records", f"masks/{split}"):
            (out / folder).mkdir(parents=True, exist_ok=True)
        self._csv = (out / f"annotations/{split}.csv").open("w", newline="", encoding="utf-8")
        self._rows = csv.writer(self._csv, lineterminator="\n")
        self._rows.writerow(["file_path", "label"])
        self._records = (out / f"records/{split}.jsonl").open("w", encoding="utf-8")

    def write(self, index: int, source: PhotoEntry, forged: Forged) -> None:
        """Add one image."""
        folder = f"images/{self.split}/{'-'.join(forged.components) or 'original'}"
        (self.out / folder).mkdir(parents=True, exist_ok=True)
        file_path = f"{folder}/{index:06d}{forged.suffix}"
        mask_path = f"masks/{self.split}/{index:06d}.png"
        (self.out / file_path).write_bytes(forged.encoded)
        (self.out / mask_path).write_bytes(cv2.imencode(".png", forged.mask)[1].tobytes())
        label = sequence_label(forged.components, self.recipe.task)
        self._rows.writerow([file_path, json.dumps(label)])
        record: dict[str, Any] = {
            "file_path": file_path,
            "label": label,
            "mask": mask_path,
            "points": [[round(float(x), 2), round(float(y), 2)] for x, y in forged.points],
            "group": source.subject,
            "source": source.path.name,
            "trace": self.recipe.trace,
            "seed": self.recipe.seed,
            "forgerank_version": __version__,
            "steps": forged.steps,
            "saves": forged.saves,
        }
        self._records.write(json.dumps(record) + "\n")

    def close(self) -> None:
        """Flush both tables."""
        self._csv.close()
        self._records.close()


# A worker process holds its split's photographs here, set once by its initializer.
_ENTRIES: list[PhotoEntry] = []


def _hold(entries: list[PhotoEntry]) -> None:
    cv2.setNumThreads(1)
    _ENTRIES[:] = entries


def _forge_index(
    index: int, *, recipe: Recipe, stream: int, per_photo: int
) -> tuple[int, PhotoEntry, Forged]:
    entry = _ENTRIES[index // per_photo]
    rng = np.random.default_rng([recipe.seed, stream, index])
    return index, entry, forge_one(_ENTRIES, entry, recipe, rng)


def _spread(
    make: Callable[[int], tuple[int, PhotoEntry, Forged]], entries: list[PhotoEntry], count: int, workers: int
) -> Generator[tuple[int, PhotoEntry, Forged]]:
    """make(0) .. make(count - 1) in order, computed in `workers` processes."""
    if workers <= 1:
        _hold(entries)
        yield from map(make, range(count))
        return
    with process_pool(workers, _hold, entries) as pool:
        indices = iter(range(count))
        # Blocks keep the results waiting to be written few, however slow the disk is.
        while block := list(islice(indices, 256 * workers)):
            yield from pool.map(make, block, chunksize=16)


def _read_landmarks(path: Path) -> dict[str, Points]:
    try:
        # np.load leaves a file open that it cannot read.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            files, points = stored["files"], stored["landmarks"].astype(np.float32)
        if points.shape != (len(files), 468, 2):
            raise ValueError(f"expected ({len(files)}, 468, 2) landmarks, got {points.shape}")
        if not np.isfinite(points).all() or not np.ptp(points, axis=1).all():
            raise ValueError("a face's landmarks lie in one line or nowhere")
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: not a landmark file with `files` and `landmarks`: {error}") from error
    return {composed(str(name)): row for name, row in zip(files, points, strict=True)}


def _read_splits(path: Path) -> dict[str, tuple[str, str]]:
    with open_table(path) as rows:
        if missing := {"file", "subject", "split"} - set(rows.fieldnames or ()):
            raise InputError(f"{path}:1: missing column {', '.join(sorted(missing))}")
        table = {}
        for row in rows:
            if row["split"] not in SPLITS:
                split = f"split must be of {', '.join(SPLITS)}, got {row['split']!r}"
                raise InputError(f"{path}:{rows.line_num}: {split}")
            table[composed(row["file"])] = row["subject"], row["split"]
        return table


def _detect(analyzer: FaceAnalyzer, image: Image) -> Points | None:
    faces = analyzer.analyze(image)
    return faces[0].landmarks if faces else None


def _hash_split(name: str) -> str:
    bucket = int(hashlib.sha256(os.fsencode(name)).hexdigest(), 16) % 10
    return "train" if bucket < 8 else SPLITS[bucket - 7]
