"""`forgerank detect`: photographs, videos and folders in, table, JSON, CSV, heatmaps and HTML out."""

import glob
import json as json_library
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from forgerank.cli.options import print_error, printing
from forgerank.cli.table import legend, name_of, print_table, report_table, totals
from forgerank.detect.detector import Detector, load_pages
from forgerank.detect.result import LoadedImage, Report, VideoReport, deciding_probability, faces_of
from forgerank.detect.videos import FPS, MAX_FRAMES, detect_video
from forgerank.files import (
    OutputError,
    check_outputs,
    make_folder,
    write_atomic,
    writing,
)
from forgerank.media.animations import is_animation
from forgerank.media.files import (
    HEATMAP,
    MediaError,
    by_kind,
    counted,
    edit_lists_left_out,
    find_media,
    matches,
    unreadable,
)
from forgerank.media.images import MAX_PIXELS
from forgerank.media.opening import with_remedy
from forgerank.media.suffixes import EDIT_LISTS, is_litter_file, kind_by_content, media_kind
from forgerank.processes import clear_partial_folder, move_out, partial_folder
from forgerank.report.builder import ReportBuilder
from forgerank.types import InputError, printable

STDOUT = "-"
_MAPS = "heatmaps"  # the name of the folder in which they wait
_BATCH_IMAGES, _BATCH_PIXELS = 8, 24_000_000


@dataclass(frozen=True, slots=True)
class Outputs:
    """Where the results go; None leaves one out."""

    json: str | None = None  # a file, or "-" for standard output, which then carries nothing else
    heatmaps: Path | None = None  # a folder, made where it is missing
    html: Path | None = None
    csv: str | None = None  # as `json`

    @property
    def written(self) -> list[str]:
        """The files and folders, as they were named."""
        outputs = (self.html, self.json, self.csv, self.heatmaps)
        return [str(path) for path in outputs if path not in (None, STDOUT)]

    @property
    def to_stdout(self) -> bool:
        """Whether standard output carries a report, and no table."""
        return STDOUT in (self.json, self.csv)

    def prepare(self, inputs: Sequence[Path] = ()) -> None:
        """Fail before the work rather than after it. Raises InputError, also for an output that is an input
        or another output, and for a folder of another run's heatmaps.
        """
        if self.json == self.csv == STDOUT:
            raise InputError("--json - and --csv -: standard output takes one report: name a file for one")
        tables = [None if file in (None, STDOUT) else Path(str(file)) for file in (self.json, self.csv)]
        check_outputs([], inputs, folders=[self.heatmaps], texts=[self.html, *tables])
        if self.heatmaps is not None:
            make_folder(self.heatmaps)
            clear_partial_folder(self.heatmaps / _MAPS)
            if any(path.suffix.lower() == ".png" for path in self.heatmaps.iterdir()):
                raise InputError(
                    f"{self.heatmaps}: holds images already, which nothing would tell from the new ones: "
                    "name another folder for the heatmaps"
                )


@dataclass(frozen=True, slots=True)
class Sampling:
    """How videos are sampled."""

    fps: float = FPS
    max_frames: int = MAX_FRAMES


@dataclass(frozen=True, slots=True)
class Shown:
    """What is printed, and what the reports carry."""

    by_probability: bool = False  # the table: most probably forged first
    quiet: bool = False  # errors alone
    case: str | None = None  # a reference that the reports repeat


class _Run:
    """The report on what has been judged so far, and the heatmaps of it."""

    def __init__(
        self, detector: Detector, outputs: Outputs, names: dict[Path, str], case: str | None
    ) -> None:
        self.detector, self.outputs, self.names = detector, outputs, names
        self.report = ReportBuilder(detector, page=outputs.html is not None, case=case)
        self.maps: Path | None = None  # where heatmaps wait until all are there, while all could be written
        self._unwritten: dict[str, str] = {}  # output -> the first reason

    def add(self, result: Report | VideoReport, path: Path, image: LoadedImage | None = None) -> None:
        """Keep a result and write what can be written at once, so that no image has to be kept."""
        if path in self.names:
            result = replace(result, path=self.names[path])
        reported = self.outputs.html is not None or self.outputs.json is not None
        self.report.add(result, path if reported else None, image)
        if self.maps is not None:
            number, folder = len(self.report.results), self.maps
            if not self._try(self.outputs.heatmaps, lambda: _write_heatmaps(number, result, image, folder)):
                self.maps = None  # all heatmaps, or none

    def fail(self, path: Path, error: InputError) -> None:
        """Keep why a file could not be judged."""
        self.report.fail(self.names.get(path, str(path)), _reason(path, error))

    def write(self) -> list[str]:
        """Write the files that hold everything; returns why outputs could not be written, a line a reason."""
        if (maps := self.maps) is not None and (folder := self.outputs.heatmaps) is not None:
            self._try(folder, lambda: _move_out(maps, folder))
        if self.outputs.html is not None:
            html = self.outputs.html
            self._try(html, lambda: write_atomic(html, self.report.html().encode()))
        self._write_text(self.outputs.csv, self.report.csv, _print)
        self._write_text(self.outputs.json, self.report.json, write_stdout)
        outputs: dict[str, list[str]] = {}
        for output, reason in self._unwritten.items():
            outputs.setdefault(reason, []).append(output)
        return [f"{', '.join(names)}: {reason}" for reason, names in outputs.items()]

    def _write_text(
        self, output: str | None, made: Callable[[], str], to_stdout: Callable[[str], object]
    ) -> None:
        if output == STDOUT:
            self._try(Path("standard output"), lambda: to_stdout(made()))
        elif output is not None:
            path = Path(output)
            self._try(path, lambda: write_atomic(path, made().encode()))

    def _try(self, output: Path | None, write: Callable[[], object]) -> bool:
        """Whether it was written: one output that cannot be costs neither the others nor the answers."""
        try:
            write()
        except OutputError as error:
            self._unwritten.setdefault(str(output), error.reason)
            return False
        return True


def detect_files(
    paths: Sequence[Path],
    detector: Detector,
    outputs: Outputs,
    out: Console,
    err: Console,
    sampling: Sampling = Sampling(),
    max_pixels: int = MAX_PIXELS,
    shown: Shown = Shown(),
) -> int:
    """Judge every photograph and video, print and write what was asked for; bad input stops nothing.

    A path that names nothing and holds `*`, `?` or `[` is a pattern; "-" is standard input. A file that is
    named twice is judged once. `max_pixels` limits a photograph and a frame. All reports are written before
    the table is printed. Returns the exit code: 2 if an input failed or an output could not be written,
    else 0. Raises InputError for outputs that are refused, before any work.
    """
    with ExitStack() as stack:
        return _detect_files(paths, stack, detector, outputs, out, err, sampling, max_pixels, shown)


def _detect_files(
    paths: Sequence[Path],
    stack: ExitStack,  # for a file of what comes from standard input
    detector: Detector,
    outputs: Outputs,
    out: Console,
    err: Console,
    sampling: Sampling,
    max_pixels: int,
    shown: Shown,
) -> int:
    others: Counter[str] = Counter()
    named, unmatched = _expanded(paths)
    names: dict[Path, str] = {}
    if Path(STDOUT) in named:
        standard_input = Path(stack.enter_context(tempfile.TemporaryDirectory()), "-")
        standard_input.write_bytes(sys.stdin.buffer.read())
        named = [standard_input if path == Path(STDOUT) else path for path in named]
        names[standard_input] = "<stdin>"
    found, missing = find_media(named, others)
    missing = [*unmatched, *missing]
    outputs.prepare([*named, *found, *detector.files])
    run = _Run(detector, outputs, names, shown.case)
    found, repeated = _without_repetitions(found, run.names)
    report = run.report
    for error in missing:
        report.fail(error.path, error.reason)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f} {task.fields[unit]}"),
        TimeRemainingColumn(),
    )
    with _heatmaps(outputs.heatmaps) as run.maps:
        with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as progress:
            files = progress.add_task("Judging files", total=len(found), unit="", visible=len(found) > 1)
            for batch in _batches(found, run, max_pixels):
                if isinstance(batch, Path):
                    _judge_video(batch, run, sampling, progress, max_pixels)
                else:
                    results = detector.detect([image for _, image in batch])
                    for result, (path, image) in zip(results, batch, strict=True):
                        run.add(result, path, image)
                progress.update(files, completed=len(report.results) + len(report.errors) - len(missing))
        unwritten = run.write()
    if not (outputs.to_stdout or shown.quiet) and report.results:
        ordered: list[Report | VideoReport] = list(report.results)
        written = [] if unwritten else outputs.written
        if shown.by_probability:
            ordered.sort(key=_probability, reverse=True)
        try:
            with printing():
                print_table(out, report_table(ordered, out.width if out.is_terminal else None))
                out.print(Text(totals(ordered, len(report.errors), written)), soft_wrap=True)
                out.print(
                    Text(legend(detector.metadata.thresholds), style="dim"), soft_wrap=not out.is_terminal
                )
        except OutputError as error:
            unwritten.append(str(error))
    for line in repeated:
        print_error(err, line)
    for judged in report.results:
        for warning in judged.warnings:
            print_error(err, f"{name_of(judged)}: {warning}")
    for entry in report.errors:
        print_error(err, f"{entry.path}: {entry.reason}")
    for reason in unwritten:
        print_error(err, reason)
    print_left_out(err, others)
    return 2 if report.errors or unwritten else 0


def _heatmaps(folder: Path | None) -> AbstractContextManager[Path | None]:
    """Where heatmaps lie until all are there, so that a run that is stopped stands in the way of no other."""
    if folder is None:
        return nullcontext()
    return partial_folder(folder / _MAPS)


def _move_out(maps: Path, folder: Path) -> None:
    with writing(folder):
        move_out(maps)


def _expanded(paths: Sequence[Path]) -> tuple[list[Path], list[MediaError]]:
    """The paths with patterns replaced by the files that match them, and patterns that match none."""
    named: list[Path] = []
    errors: list[MediaError] = []
    for path in paths:
        if not glob.has_magic(str(path)) or os.path.exists(path):
            named.append(path)
            continue
        denied: list[OSError] = []
        found = [
            match
            for match in map(Path, sorted(matches(str(path), denied.append)))
            if not is_litter_file(match, partial(kind_by_content, match))
        ]
        named += found
        errors += map(unreadable, denied)
        if not found:
            errors.append(MediaError(path, "no file matches this pattern"))
    return named, errors


def _without_repetitions(paths: Sequence[Path], names: Mapping[Path, str]) -> tuple[list[Path], list[str]]:
    """Each file once, whatever its names, and a line for each further name; `names` are other than paths."""
    first: dict[str, Path] = {}
    kept, lines = [], []
    for path in paths:
        known = first.setdefault(os.path.realpath(path), path)
        if known is path:
            kept.append(path)
        else:
            same = "named twice" if known == path else f"the same file as {known}"
            lines.append(f"{names.get(path, str(path))}: {same}, judged once")
    return kept, lines


def _probability(result: Report | VideoReport) -> float:
    """Of the face that is most probably forged, of those that can be judged; -1 without one."""
    judged = (deciding_probability(face) for face in faces_of(result) if face.likelihood_ratio is not None)
    return max(judged, default=-1.0)


def _judge_video(path: Path, run: _Run, sampling: Sampling, progress: Progress, max_pixels: int) -> None:
    task: TaskID = progress.add_task(f"Judging {printable(path.name)}", total=0, unit="s")
    try:
        result = detect_video(
            run.detector,
            path,
            fps=sampling.fps,
            max_frames=sampling.max_frames,
            max_pixels=max_pixels,
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
        run.add(result, path)
    except InputError as error:
        run.fail(path, error)
    finally:
        progress.remove_task(task)


def _batches(
    paths: Sequence[Path], run: _Run, max_pixels: int
) -> Iterator[list[tuple[Path, LoadedImage]] | Path]:
    """Photographs and pages in bounded memory, a batch ends at so many images or pixels; each video alone."""
    batch: list[tuple[Path, LoadedImage]] = []
    for path in paths:
        if media_kind(path) == "video" or is_animation(path):
            yield batch
            batch = []
            yield path
            continue
        try:
            for image in load_pages(path, max_pixels=max_pixels):
                batch.append((path, image))
                pixels = sum(image.image.shape[0] * image.image.shape[1] for _, image in batch)
                if len(batch) == _BATCH_IMAGES or pixels > _BATCH_PIXELS:
                    yield batch
                    batch = []
        except InputError as error:
            run.fail(path, error)
    yield batch


def _reason(path: Path, error: InputError) -> str:
    reason = getattr(error, "reason", None)
    reason = reason if isinstance(reason, str) else str(error).removeprefix(f"{path}: ")
    return with_remedy(error, reason)


def _write_heatmaps(
    number: int, result: Report | VideoReport, image: LoadedImage | None, folder: Path
) -> None:
    from forgerank.report.heatmap import heatmap_stem, save_heatmaps

    # The number keeps files of the same name in different folders apart.
    stem = f"{number:04d}-{heatmap_stem(result.path)}"
    if isinstance(result, VideoReport):
        for track in result.tracks:
            for key in track.key_frames:
                name = f"{stem}-track{track.number}-{key.moment.time:.2f}s"
                save_heatmaps(key.image, (key.face,), folder, name)
    elif image is not None:
        save_heatmaps(image.image, result.faces, folder, stem)


def write_stdout(text: str) -> None:
    """JSON on standard output, whatever its encoding: what it lacks is escaped as JSON does it."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        text = json_library.dumps(json_library.loads(text), indent=2) + "\n"
    _print(text)


def _print(text: str) -> None:
    with printing():
        sys.stdout.write(text)


def print_left_out(err: Console, others: Counter[str]) -> None:
    """Lines on what a folder holds beside photographs and videos: heatmaps, edit lists, other files."""
    others = others.copy()
    if heatmaps := others.pop(HEATMAP, 0):
        print_error(err, f"left out {counted(heatmaps, 'heatmap')} of earlier reports")
    edit_lists = Counter({kind: others[kind] for kind in EDIT_LISTS if kind in others})
    if edit_lists:
        print_error(err, edit_lists_left_out(edit_lists))
    if others := others - edit_lists:
        files = counted(others.total(), "file that is", "files that are")
        print_error(err, f"left out {files} no image or video: {by_kind(others)}")
