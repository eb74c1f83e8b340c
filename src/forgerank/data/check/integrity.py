"""Integrity of a data set: published counts, missing and damaged files, leakage between its splits."""

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any

from forgerank.data.check.near_duplicates import nearest_earlier, perceptual_hash
from forgerank.data.clip import Clip, by_file, read_together
from forgerank.data.formats.folder import read_folder
from forgerank.data.formats.registry import CLIPS
from forgerank.data.formats.seqdeepfake import read_samples
from forgerank.data.sample import Sample
from forgerank.data.tar_files import TAR_SUFFIXES, is_archive
from forgerank.files import os_reason
from forgerank.media.files import files_below
from forgerank.media.frame_access import Frame, count_frames
from forgerank.media.suffixes import kind_by_name
from forgerank.processes import process_pool
from forgerank.types import SPLITS, InputError

# PUBLISHED[dataset][split, method], all as in `Clip`: a real video has method "". None as split: all splits
# together; None as method: real and forged together. Of a data set with compression levels, each level holds
# this many. Seq-DeepFake is left out: its counts could not be traced to their source.
Key = tuple[str | None, str | None]

_FORENSICS = ("", "Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures", "FaceShifter")

PUBLISHED: dict[str, dict[Key, int]] = {
    # FaceForensics++, dataset/README.md: 1000 original sequences, "720 videos for train and 140 videos for
    # validation as well as testing"; every method manipulated all of them, FaceShifter (its README) included.
    "faceforensics": {
        (split, method): count
        for method in _FORENSICS
        for split, count in (("train", 720), ("val", 140), ("test", 140), (None, 1000))
    },
    # Celeb-DF's paper (arXiv 1909.12962, table 1), row DFD: 363 real and 3,068 DeepFake videos.
    "dfd": {("", ""): 363, ("", "DeepFakeDetection"): 3068},
    # Celeb-DF-v2/README.md of the authors: 590 Celeb-real, 300 YouTube-real, 5639 Celeb-synthesis, of these
    # 518 in List_of_testing_videos.txt.
    "celebdf": {
        (None, ""): 590 + 300,
        (None, "Celeb-synthesis"): 5639,
        ("test", None): 518,
        ("train", None): 590 + 300 + 5639 - 518,
    },
    # The DFDC paper (arXiv 2006.07397, section on the training set): 119,154 clips, 100,000 of them forged.
    "dfdc": {("train", ""): 19_154, ("train", "FAKE"): 100_000, ("train", None): 119_154},
    # The WildDeepfake paper (arXiv 2101.01456): 3,805 real and 3,509 fake face sequences, 7,314 in all.
    "wilddeepfake": {(None, ""): 3805, (None, "fake"): 3509, (None, None): 7314},
}


KINDS = {
    "count": "other than published",
    "annotation": "annotations that cannot be used",
    "missing": "missing files",
    "unreadable": "unreadable files",
    "truncated": "truncated files",
    "damaged": "damaged frames",
    "same video": "in several splits",
    "same source": "people or sources in several splits",
    "near-duplicate": "images that another split shows too",
    "archive": "archives in which nothing was read",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem of a data set."""

    kind: str  # a key of KINDS
    name: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Count:
    """How many clips or images are there, and how many were published; None where it is not known."""

    split: str | None  # None: all together
    method: str | None  # empty: real; None: all together
    compression: str
    found: int  # missing ones are not counted
    published: int | None


@dataclass(frozen=True)
class CheckReport:
    """Result of a check."""

    dataset: str
    items: int  # clips or images
    counts: list[Count]
    problems: list[Problem]
    notes: list[Problem]  # worth knowing, but no fault of this copy

    def to_json(self) -> dict[str, Any]:
        """JSON-ready: the report, and whether it is free of problems."""
        return {**asdict(self), "ok": not self.problems}


def check_dataset(
    dataset: str,
    root: Path,
    *,
    options: Mapping[str, Any] | None = None,
    counts: bool = True,
    distance: int = 4,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> CheckReport:
    """Check a data set of CHECKED at `root`; `options` are keywords of its reader.

    Every listed file must exist, frames of videos are counted without decoding, and the middle frame of each
    clip is decoded and hashed. Images of two splits are near-duplicates where their perceptual hashes
    differ in at most `distance` of 64 bits. counts: compare with the published numbers.

    Raises InputError for a data set that cannot be listed at all.
    """
    items, problems = list_items(dataset, root, options or {})
    looked = list(_look(items, workers, progress))
    problems += [problem for _, found, _ in looked for problem in found]
    missing = {problem.name for problem in problems if problem.kind == "missing"}
    table = _count([item for item in items if item.name not in missing], dataset)
    if counts:
        problems += _miscounts(table)
    problems += same_video(items)
    shared = same_source(items)
    reasons = {problem: _excuse(problem, dataset, root) for problem in shared}
    problems += [problem for problem in shared if not reasons[problem]]
    notes = [replace(p, detail=f"{p.detail} ({reasons[p]})") for p in shared if reasons[p]]
    archives, denied = unread_archives(root, items)
    notes += [Problem("archive", name, "unpack it where it lies, if it is not yet") for name in archives]
    problems += [Problem("unreadable", str(error.filename), os_reason(error)) for error in denied]
    problems += near_duplicates([(item, value) for item, _, value in looked], distance)
    order = list(KINDS)
    problems.sort(key=lambda problem: order.index(problem.kind))
    return CheckReport(dataset, len(items), table, problems, notes)


def _excuse(problem: Problem, dataset: str, root: Path) -> str:
    """Why a source in several splits is no fault of this copy; empty where it is one."""
    if problem.name.startswith("celebdf/"):
        return "the published split shares people"
    if dataset == "seqdeepfake" and not (root / "records").is_dir():
        return "told by the file's name alone"
    return ""


def list_items(dataset: str, root: Path, options: Mapping[str, Any]) -> tuple[list[Clip], list[Problem]]:
    """Everything that the data set lists, existing or not, images as clips of one frame; and bad lines."""
    readers: dict[str, Callable[..., Any]] = {
        **CLIPS,
        "seqdeepfake": _list_sequences,
        "folder": read_folder,
    }
    if dataset not in readers:
        raise InputError(f"unknown data set {dataset!r}; choose from {', '.join(readers)}")
    reader = readers[dataset]
    unknown = sorted(options.keys() - set(list(signature(reader).parameters)[1:]))
    if unknown:
        raise InputError(f"{dataset}: no option {', '.join(unknown)}")
    found = reader(root, **options)
    items, problems = found if isinstance(found, tuple) else (found, [])
    return [item if isinstance(item, Clip) else _as_clip(item, root) for item in items], problems


_ARCHIVES = (*TAR_SUFFIXES, ".zip", ".7z", ".rar", ".zip.001", ".7z.001", ".part1.rar")


def unread_archives(root: Path, items: Sequence[Clip]) -> tuple[list[str], list[OSError]]:
    """The archives under `root` that are none of the `items`; they may be unpacked already. And what of
    `root` cannot be searched for them.
    """
    read = {item.path for item in items}
    denied: list[OSError] = []
    found = sorted(
        path.relative_to(root).as_posix()
        for path in files_below(root, denied.append)
        if path.name.lower().endswith(_ARCHIVES) and path not in read
    )
    return found, denied


CHECKED = (*CLIPS, "seqdeepfake", "folder")


def _list_sequences(root: Path, *, length: int = 5) -> tuple[list[Sample], list[Problem]]:
    splits = [split for split in SPLITS if (root / "annotations" / f"{split}.csv").is_file()]
    if not splits:
        raise InputError(f"{root}: no annotations/train.csv, val.csv or test.csv here")
    errors: list[InputError] = []
    items: list[Sample] = []
    for split in splits:
        items += read_samples(root, split, length=length, errors=errors)
    return items, [Problem("annotation", root.name, str(error)) for error in errors]


def _as_clip(sample: Sample, root: Path) -> Clip:
    places = (base for base in (root, root.parent) if sample.image.is_relative_to(base))
    return Clip(
        path=sample.image,
        sequence=sample.sequence,
        group=sample.group,
        split=sample.split,
        dataset=sample.dataset,
        name=sample.image.relative_to(next(places)).as_posix(),
        method=_method(sample),
    )


def _method(sample: Sample) -> str:
    """How an image was forged, as far as is known; empty for a real one."""
    steps = len(sample.sequence)
    if steps:
        return f"{steps} edit{'s' if steps > 1 else ''}"
    return (sample.method or "forged") if sample.forged else ""


_Look = tuple[Clip, list[Problem], int | None]  # hash of the middle frame, None where there is none


def _look(
    items: Sequence[Clip], workers: int, progress: Callable[[int, int], None] | None
) -> Iterator[_Look]:
    tasks = by_file(items)
    done = 0

    def passed(found: list[_Look]) -> Iterator[_Look]:
        nonlocal done
        done += len(found)
        if progress:
            progress(done, len(items))
        yield from found

    if workers <= 1:
        for task in tasks:
            yield from passed(_look_at(task))
        return
    # Each process imports this module as it starts, where the pool sees to what it lacks.
    with process_pool(workers, import_module, __name__) as pool:
        for found in pool.map(_look_at, tasks, chunksize=8):
            yield from passed(found)


def _look_at(clips: Sequence[Clip]) -> list[_Look]:
    found: list[_Look] = []
    for clip, frames in read_together(clips, 1):
        problems = _shortfall(clip)
        kinds = {problem.kind for problem in problems}
        value = None
        for frame in frames:
            if isinstance(frame, Frame):
                value = perceptual_hash(frame.image)
            else:
                kind, _, detail = frame.reason.partition(": ")
                place = "" if frame.number is None else f"frame {frame.number}"
                if kind not in kinds:  # said already, and better
                    problems.append(Problem(kind, clip.name, detail or place))
        found.append((clip, problems, value))
    return found


def _shortfall(clip: Clip) -> list[Problem]:
    """Problems beside the middle frame: missing images of a folder, the missing end of a video."""
    if os.path.isdir(clip.path):
        lost = [name for name in clip.frames if not os.path.isfile(clip.path / name)]
        return [Problem("missing", f"{clip.name}/{name}") for name in lost]
    if not os.path.isfile(clip.path) or is_archive(clip.path) or kind_by_name(clip.path) == "image":
        return []
    present, stated = count_frames(clip.path)
    return [Problem("truncated", clip.name, f"{present} of {stated} frames")] if present < stated else []


def _count(items: Sequence[Clip], dataset: str) -> list[Count]:
    """A row per split, method and compression that is there, and one per published total."""
    found = Counter((item.split, item.method, item.compression) for item in items)
    published = PUBLISHED.get(dataset, {})
    rows = [
        Count(split, method, level, number, published.get((split, method)))
        for (split, method, level), number in sorted(found.items(), key=lambda entry: _in_order(*entry[0]))
    ]
    levels = sorted({level for _, _, level in found})
    for (split, method), number in published.items():
        for level in levels:
            if (split, method, level) not in found:
                total = sum(
                    n
                    for (s, m, c), n in found.items()
                    if c == level and split in (None, s) and method in (None, m)
                )
                rows.append(Count(split, method, level, total, number))
    return rows


def _in_order(split: str, method: str, level: str) -> tuple[str, int, str]:
    return level, SPLITS.index(split) if split in SPLITS else len(SPLITS), method


def _miscounts(table: Sequence[Count]) -> list[Problem]:
    """Rows whose number differs from the published one. A part without any clip is no problem: a copy
    may lack whole parts.
    """
    return [
        Problem("count", _place(row), f"{row.found} instead of {row.published}")
        for row in table
        if row.found and row.published is not None and row.found != row.published
    ]


def _place(row: Count) -> str:
    split = "all splits" if row.split is None else row.split or "no split"
    method = "real and forged" if row.method is None else row.method or "real"
    return ", ".join(filter(None, (split, method, row.compression)))


def same_video(items: Sequence[Clip]) -> list[Problem]:
    """One identity, or one file, in several splits."""
    splits: dict[tuple[str, tuple[str, ...]], list[str]] = defaultdict(list)
    names: dict[tuple[str, tuple[str, ...]], str] = {}
    for item in items:
        # The sequences of one tar share its path: their frames differ.
        key = str(item.path), item.frames if is_archive(item.path) else ()
        splits[key].append(item.split)
        names[key] = item.name
    return [
        Problem("same video", names[key], ", ".join(sorted(set(found))))
        for key, found in splits.items()
        if len(set(found)) > 1
    ]


def same_source(items: Sequence[Clip]) -> list[Problem]:
    """Groups in several splits; a clip of no split leaks into none."""
    groups: dict[str, Counter[str]] = defaultdict(Counter)
    for item in items:
        if item.split:
            groups[item.group][item.split] += 1
    return [
        Problem("same source", group, ", ".join(f"{n} in {split}" for split, n in sorted(found.items())))
        for group, found in groups.items()
        if len(found) > 1
    ]


def near_duplicates(looked: Sequence[tuple[Clip, int | None]], distance: int) -> list[Problem]:
    """Each image once, against the nearest one of the splits before its own: train, val, test."""
    kept = [(item, value) for item, value in looked if value is not None and item.split in SPLITS]
    ranks = [SPLITS.index(item.split) for item, _ in kept]
    near = nearest_earlier([value for _, value in kept], ranks, distance=distance)
    return [
        Problem(
            "near-duplicate",
            f"{kept[place][0].split}: {kept[place][0].name}",
            f"{kept[other][0].split}: {kept[other][0].name}, {bits} of 64 bits differ",
        )
        for place, (other, bits) in sorted(near.items())
        if (kept[place][0].path, kept[place][0].frames) != (kept[other][0].path, kept[other][0].frames)
    ]
