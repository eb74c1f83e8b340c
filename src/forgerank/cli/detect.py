"""`forgerank detect`: photographs, videos and folders in, table, JSON, heatmaps and HTML out."""

import json as json_library
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from forgerank.detect.detector import Detector, load_pages
from forgerank.detect.result import FaceReport, LoadedImage, Report, TrackReport, VideoReport, faces_of
from forgerank.detect.videos import FPS, MAX_FRAMES, detect_video
from forgerank.files import check_outputs, write_atomic
from forgerank.media.animations import is_animation
from forgerank.media.files import by_kind, find_media
from forgerank.media.images import MAX_PIXELS, TooManyPixelsError
from forgerank.media.suffixes import media_kind
from forgerank.report.builder import ReportBuilder
from forgerank.report.schema import encodable
from forgerank.report.words import clock, percent, printable
from forgerank.types import InputError

STDOUT = "-"
_COLOURS = {"forged": "bold red", "real": "green", "undetermined": "yellow"}
_BATCH_IMAGES, _BATCH_PIXELS = 8, 24_000_000


@dataclass(frozen=True, slots=True)
class Outputs:
    """Where the results go; None leaves one out."""

    json: str | None = None  # a file, or "-" for standard output, which then carries nothing else
    heatmaps: Path | None = None  # a folder, made where it is missing
    html: Path | None = None

    def prepare(self, inputs: Sequence[Path] = ()) -> None:
        """Fail before the work rather than after it. Raises InputError, also for an output that is an input
        or another output, and for a folder of another run's heatmaps.
        """
        json = None if self.json in (None, STDOUT) else Path(str(self.json))
        check_outputs([self.html, json], inputs, folders=[self.heatmaps])
        if self.heatmaps is not None:
            try:
                self.heatmaps.mkdir(parents=True, exist_ok=True)
                if any(path.suffix == ".png" for path in self.heatmaps.iterdir()):
                    raise InputError(
                        f"{self.heatmaps}: holds images already, which nothing would tell from the new ones: "
                        "name another folder for the heatmaps"
                    )
            except OSError as error:
                raise InputError(f"{self.heatmaps}: cannot make this folder ({error.strerror})") from None


@dataclass(frozen=True, slots=True)
class Sampling:
    """How videos are sampled."""

    fps: float = FPS
    max_frames: int = MAX_FRAMES


class _Run:
    """The report on what has been judged so far, and the heatmaps of it."""

    def __init__(self, detector: Detector, outputs: Outputs) -> None:
        self.detector, self.outputs = detector, outputs
        self.report = ReportBuilder(detector, page=outputs.html is not None)
        self._failures: dict[str, None] = {}

    def add(self, result: Report | VideoReport, path: Path, image: LoadedImage | None = None) -> None:
        """Keep a result and write what can be written at once, so that no image has to be kept."""
        reported = self.outputs.html is not None or self.outputs.json is not None
        self.report.add(result, path if reported else None, image)
        if self.outputs.heatmaps is not None:
            number, folder = len(self.report.results), self.outputs.heatmaps
            self._try(lambda: _write_heatmaps(number, result, image, folder))

    def write(self) -> list[str]:
        """Write the files that hold everything; returns why an output could not be written."""
        if self.outputs.html is not None:
            html = self.outputs.html
            self._try(lambda: write_atomic(html, self.report.html().encode()))
        if self.outputs.json == STDOUT:
            write_stdout(self.report.json())
        elif self.outputs.json is not None:
            json = Path(self.outputs.json)
            self._try(lambda: write_atomic(json, self.report.json().encode()))
        return list(self._failures)

    def _try(self, write: Callable[[], None]) -> None:
        """One output that cannot be written costs neither the others nor the answers."""
        try:
            write()
        except InputError as error:
            self._failures[str(error)] = None


def detect_files(
    paths: Sequence[Path],
    detector: Detector,
    outputs: Outputs,
    out: Console,
    err: Console,
    sampling: Sampling = Sampling(),
    max_pixels: int = MAX_PIXELS,
) -> int:
    """Judge every photograph and video, print and write what was asked for; bad input stops nothing.

    `max_pixels` limits a photograph and a frame.
    All reports are written before the table is printed. Returns the exit code: 2 if an input failed or an
    output could not be written, else 0. Raises InputError for outputs that are refused, before any work.
    """
    others: Counter[str] = Counter()
    found, missing = find_media(paths, others)
    outputs.prepare([*paths, *found, *detector.files])
    run = _Run(detector, outputs)
    report = run.report
    for error in missing:
        report.fail(error.path, error.reason)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f} {task.fields[unit]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as progress:
        files = progress.add_task("Judging files", total=len(found), unit="", visible=len(found) > 1)
        for batch in _batches(found, report, max_pixels):
            if isinstance(batch, Path):
                _judge_video(batch, run, sampling, progress, max_pixels)
            else:
                results = detector.detect([image for _, image in batch])
                for result, (path, image) in zip(results, batch, strict=True):
                    run.add(result, path, image)
            progress.update(files, completed=len(report.results) + len(report.errors) - len(missing))
    unwritten = run.write()
    if outputs.json != STDOUT and report.results:
        out.print(report_table(report.results))
    for judged in report.results:
        for warning in judged.warnings:
            print_error(err, f"{_name(judged)}: {warning}")
    for entry in report.errors:
        print_error(err, f"{entry.path}: {entry.reason}")
    for reason in unwritten:
        print_error(err, reason)
    print_left_out(err, others)
    return 2 if report.errors or unwritten else 0


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
        run.report.fail(str(path), _reason(path, error))
    finally:
        progress.remove_task(task)


def _batches(
    paths: Sequence[Path], report: ReportBuilder, max_pixels: int
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
            report.fail(str(path), _reason(path, error))
    yield batch


def _reason(path: Path, error: InputError) -> str:
    reason = getattr(error, "reason", None)
    reason = reason if isinstance(reason, str) else str(error).removeprefix(f"{path}: ")
    return f"{reason}; --max-pixels raises it" if isinstance(error, TooManyPixelsError) else reason


def _write_heatmaps(
    number: int, result: Report | VideoReport, image: LoadedImage | None, folder: Path
) -> None:
    from forgerank.report.heatmap import save_heatmaps

    # The number keeps files of the same name in different folders apart.
    stem = f"{number:04d}-{encodable(Path(result.path or 'image').stem)}"
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
    sys.stdout.write(text)


def print_left_out(err: Console, others: Counter[str]) -> None:
    """One line on the files of a folder that are neither images nor videos, where there are any."""
    if others:
        files = "1 file that is" if others.total() == 1 else f"{others.total()} files that are"
        print_error(err, f"left out {files} no image or video: {by_kind(others)}")


def print_error(err: Console, message: str) -> None:
    """One line on standard error, whatever the message holds."""
    err.print(Text(f"forgerank: {printable(message)}"), soft_wrap=True)


def report_table(results: Sequence[Report | VideoReport]) -> Table:
    """A row per face or track, or one with the reason for a file without any."""
    videos = any(isinstance(result, VideoReport) for result in results)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("File" if videos else "Image", overflow="fold", ratio=2)
    table.add_column("Face", justify="right")
    if videos:
        table.add_column("Seen", no_wrap=True)
    table.add_column("Verdict", no_wrap=True)
    table.add_column("Forged", justify="right", no_wrap=True)
    table.add_column("Manipulated, first to last", overflow="fold", ratio=3)
    for result in results:
        name = printable(_name(result))
        faces = faces_of(result)
        for number, face in enumerate(faces, start=1):
            seen = ""
            if isinstance(face, TrackReport):
                seen = f"{clock(face.start, digits=0)}-{clock(face.end, digits=0)}"
            table.add_row(
                Text(name if number == 1 else ""),
                str(number),
                *([seen] if videos else []),
                _verdict(face.verdict),
                percent(face.forged_probability),
                Text(_components(face)),
            )
        if not faces:
            empty = ["", ""] if videos else [""]
            table.add_row(Text(name), *empty, _verdict(result.verdict), "", Text(result.reason or ""))
    return table


def _name(result: Report | VideoReport) -> str:
    return (result.name if isinstance(result, Report) else result.path) or "image"


def _verdict(verdict: str) -> Text:
    return Text(verdict, style=_COLOURS[verdict])


def _components(face: FaceReport | TrackReport) -> str:
    if face.verdict != "forged":
        return face.reason or ""
    named = [
        f"{component.rank} {component.name} {percent(component.probability)}" for component in face.sequence
    ]
    return ", ".join(named) or "no single component stands out"
