"""`forgerank detect`: files and folders in, table, JSON, heatmaps and HTML out."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from forgerank.infer.detector import Detector, load_picture
from forgerank.infer.result import FaceReport, Picture, Report
from forgerank.media import find_photos
from forgerank.report.schema import ErrorEntry, encodable, report_file
from forgerank.report.words import percent, printable
from forgerank.types import InputError

STDOUT = "-"
_COLOURS = {"forged": "bold red", "real": "green", "undetermined": "yellow"}
_CHUNK_PICTURES, _CHUNK_PIXELS = 8, 24_000_000


@dataclass(frozen=True, slots=True)
class Outputs:
    """Where the results go; None leaves one out."""

    json: str | None = None  # a file, or "-" for standard output, which then carries nothing else
    heatmaps: Path | None = None  # a folder, made where it is missing
    html: Path | None = None

    def prepare(self) -> None:
        """Fail before the work rather than after it. Raises InputError."""
        files = [self.html, None if self.json in (None, STDOUT) else Path(str(self.json))]
        for path in files:
            if path is not None and not path.absolute().parent.is_dir():
                raise InputError(f"{path}: its folder does not exist")
            if path is not None and path.is_dir():
                raise InputError(f"{path}: is a folder")
        if self.heatmaps is not None:
            try:
                self.heatmaps.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise InputError(f"{self.heatmaps}: cannot make this folder ({error.strerror})") from None


def detect_files(
    paths: Sequence[Path], detector: Detector, outputs: Outputs, out: Console, err: Console
) -> int:
    """Judge every picture, print and write what was asked for; bad input stops nothing.

    Returns the exit code: 2 if an input failed, else 0. Raises InputError where an output cannot be written.
    """
    outputs.prepare()
    found, missing = find_photos(paths)
    errors = [ErrorEntry(path=encodable(error.path), reason=error.reason) for error in missing]
    reports: list[Report] = []
    sections: list[str] = []
    with Progress(console=err, transient=True, disable=len(found) < 2 or not err.is_terminal) as progress:
        task = progress.add_task("Judging pictures", total=len(found))
        for chunk, failed in _chunks(found):
            for report, picture in zip(detector.detect(chunk), chunk, strict=True):
                reports.append(report)
                _write_pictures(report, picture, len(reports), detector, outputs, sections)
            errors.extend(failed)
            progress.advance(task, len(chunk) + len(failed))
    if outputs.json != STDOUT and reports:
        out.print(report_table(reports))
    for error in errors:
        print_error(err, f"{error.path}: {error.reason}")
    _write_files(reports, errors, detector, outputs, sections)
    return 2 if errors else 0


def print_error(err: Console, message: str) -> None:
    """One line on standard error, whatever the message holds."""
    err.print(Text(f"forgerank: {printable(message)}"), soft_wrap=True)


def report_table(reports: Sequence[Report]) -> Table:
    """A row per face, or one with the reason for a picture without any."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("Picture", overflow="fold", ratio=2)
    table.add_column("Face", justify="right")
    table.add_column("Verdict", no_wrap=True)
    table.add_column("Forged", justify="right", no_wrap=True)
    table.add_column("Manipulated, first to last", overflow="fold", ratio=3)
    for report in reports:
        name = Text(printable(report.path or "picture"))
        if not report.faces:
            table.add_row(name, "", _verdict(report.verdict), "", Text(report.reason or ""))
        for number, face in enumerate(report.faces, start=1):
            shown = name if number == 1 else Text("")
            probability = Text(percent(face.forged_probability))
            table.add_row(shown, str(number), _verdict(face.verdict), probability, Text(_components(face)))
    return table


def _verdict(verdict: str) -> Text:
    return Text(verdict, style=_COLOURS[verdict])


def _components(face: FaceReport) -> str:
    if face.verdict != "forged":
        return face.reason or ""
    named = [
        f"{component.rank} {component.name} {percent(component.probability)}" for component in face.sequence
    ]
    return ", ".join(named) or "no single component stands out"


def _chunks(paths: Sequence[Path]) -> Iterator[tuple[list[Picture], list[ErrorEntry]]]:
    """Pictures in bounded memory: a chunk ends at so many pictures or pixels, whichever comes first."""
    chunk: list[Picture] = []
    failed: list[ErrorEntry] = []
    for path in paths:
        try:
            chunk.append(load_picture(path))
        except InputError as error:
            failed.append(ErrorEntry(path=encodable(str(path)), reason=_reason(path, error)))
        pixels = sum(picture.image.shape[0] * picture.image.shape[1] for picture in chunk)
        if len(chunk) == _CHUNK_PICTURES or pixels > _CHUNK_PIXELS:
            yield chunk, failed
            chunk, failed = [], []
    yield chunk, failed


def _reason(path: Path, error: InputError) -> str:
    reason = getattr(error, "reason", None)
    return reason if isinstance(reason, str) else str(error).removeprefix(f"{path}: ")


def _write_pictures(
    report: Report, picture: Picture, number: int, detector: Detector, outputs: Outputs, sections: list[str]
) -> None:
    if outputs.heatmaps is not None:
        from forgerank.report.heatmap import save_heatmaps

        # The number keeps pictures of the same name in different folders apart.
        stem = f"{number:04d}-{encodable(Path(report.path or 'picture').stem)}"
        save_heatmaps(picture.image, report.faces, outputs.heatmaps, stem)
    if outputs.html is not None:
        from forgerank.report.html import picture_section

        sections.append(picture_section(number, report, picture, detector.metadata.thresholds))


def _write_files(
    reports: Sequence[Report],
    errors: Sequence[ErrorEntry],
    detector: Detector,
    outputs: Outputs,
    sections: Sequence[str],
) -> None:
    if outputs.html is not None:
        from forgerank.report.html import html_page

        page = html_page(sections, reports, detector.metadata, detector.sha256, errors)
        outputs.html.write_text(page, encoding="utf-8")
    if outputs.json is not None:
        text = report_file(detector.metadata, detector.sha256, reports, errors).to_json()
        if outputs.json == STDOUT:
            sys.stdout.write(text)
        else:
            Path(outputs.json).write_text(text, encoding="utf-8")
