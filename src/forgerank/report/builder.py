"""One report for any number of files: its JSON text and its HTML page."""

import csv
import io
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import numpy as np

from forgerank.detect.detector import load_page
from forgerank.detect.result import (
    LoadedImage,
    Report,
    TrackReport,
    VideoReport,
    deciding_probability,
    faces_of,
)
from forgerank.files import csv_name, encodable
from forgerank.media.images import MAX_PIXELS
from forgerank.report.credentials import read_credentials
from forgerank.report.entries import Credentials, ErrorEntry
from forgerank.report.html import html_page, section
from forgerank.report.schema import report_file
from forgerank.weights.description import WeightsMetadata

CSV_COLUMNS = (
    *("file", "sha256", "face", "start_seconds", "end_seconds", "verdict", "reason", "forged_probability"),
    *("likelihood_ratio", "sequence"),
)
_NO_IMAGE = np.zeros((1, 1, 3), dtype=np.uint8)


class Engine(Protocol):
    """What reports say of the detector that answered, which is one of these."""

    @property
    def metadata(self) -> WeightsMetadata: ...

    @property
    def sha256(self) -> str: ...

    @property
    def thorough(self) -> bool: ...


class ReportBuilder:
    """Collects results and errors, in the order of the input, and writes them as JSON and as HTML.

    The section of the page on a file is rendered when its result is added. After that neither the file, nor
    its image, nor the frames of a video are needed or kept. `detector` names the weights that answered.

        builder = ReportBuilder(detector)
        builder.add(judge_file(detector, path), path)
        builder.fail("broken.jpg", "not an image")
        builder.json(), builder.html()
    """

    def __init__(self, detector: Engine, *, page: bool = True, case: str | None = None) -> None:
        """Without `page` no section is rendered, and `html` must not be called. `case` is a reference, such
        as a file number, that the reports repeat.
        """
        self._case, self._created = case, datetime.now(UTC).isoformat(timespec="seconds")
        self._detector, self.page = detector, page
        self._results: list[Report | VideoReport] = []
        self._errors: list[ErrorEntry] = []
        self._credentials: dict[str, Credentials] = {}  # by SHA-256 of the file
        self._sections: list[str] = []

    @property
    def results(self) -> Sequence[Report | VideoReport]:
        """What was added, without the frames of videos."""
        return self._results

    @property
    def errors(self) -> Sequence[ErrorEntry]:
        """What failed."""
        return self._errors

    def add(
        self,
        result: Report | VideoReport,
        file: Path | str | None = None,
        image: LoadedImage | None = None,
        credentials: Credentials | None = None,
    ) -> None:
        """Add the result of one file.

        `file` is where it lies: its content credentials are read, unless `credentials` are given, and for a
        page the pixels of a photograph, unless `image` is given. Raises InputError where the photograph
        cannot be read again, ValueError where a page needs an image and neither is given; nothing is added
        then.
        """
        if credentials is None and file is not None:
            credentials = read_credentials(file)
        if self.page:
            if image is None and file is not None and isinstance(result, Report):
                image = _page(file, result)
            thresholds = self._detector.metadata.thresholds
            self._sections.append(section(len(self._results) + 1, result, image, thresholds, credentials))
        if credentials is not None:
            self._credentials[result.sha256] = credentials
        self._results.append(_without_frames(result))

    def fail(self, path: str, reason: str) -> None:
        """Add a file that could not be judged; `reason` is one line."""
        self._errors.append(ErrorEntry(path=encodable(path), reason=reason))

    def json(self) -> str:
        """The JSON text (docs/report.md)."""
        images = [result for result in self._results if isinstance(result, Report)]
        videos = [result for result in self._results if isinstance(result, VideoReport)]
        metadata, sha256 = self._detector.metadata, self._detector.sha256
        return report_file(
            metadata,
            sha256,
            images,
            self._errors,
            videos,
            self._credentials,
            created=self._created,
            case=self._case,
            thorough=self._detector.thorough,
        ).to_json()

    def csv(self) -> str:
        """A line for each face or track, and one for a file without any: see `CSV_COLUMNS`.

        After these, a column for each component holds its probability, 0..1. Paths are written as by
        `csv_name`.
        """
        labels = self._detector.metadata.labels
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow([*CSV_COLUMNS, *labels])
        for result in self._results:
            file = [csv_name(result.path or ""), result.sha256]
            faces = faces_of(result)
            for number, face in enumerate(faces, start=1):
                ratio = face.likelihood_ratio
                rows.writerow(
                    [
                        *file,
                        number,
                        *((face.start, face.end) if isinstance(face, TrackReport) else ("", "")),
                        face.verdict,
                        face.reason or "",
                        f"{deciding_probability(face):.6f}",
                        "" if ratio is None else f"{ratio:.4g}",
                        " ".join(component.name for component in face.sequence),
                        *(f"{component.probability:.6f}" for component in face.components),
                    ]
                )
            if not faces:
                rows.writerow(
                    [*file, "", "", "", result.verdict, result.reason or "", *[""] * (3 + len(labels))]
                )
        return text.getvalue()

    def html(self) -> str:
        """The page, one self-contained file. Raises ValueError for a builder without `page`."""
        if not self.page:
            raise ValueError("this report was collected without its page")
        metadata, sha256 = self._detector.metadata, self._detector.sha256
        about = {"Written": self._created.replace("T", " ").replace("+00:00", " UTC")}
        if self._case is not None:
            about = {"Case": self._case, **about}
        if self._detector.thorough:
            about["Thorough"] = "each face in four views, mirrored and at two scales, averaged in log-odds"
        return html_page(self._sections, self._results, metadata, sha256, self._errors, about)


def _page(file: Path | str, result: Report) -> LoadedImage:
    """The image of a file that a result is about, of the same size."""
    most = result.width * result.height if result.pages == 1 else MAX_PIXELS
    return load_page(file, result.page, max_pixels=most)


def _without_frames(result: Report | VideoReport) -> Report | VideoReport:
    """The frames of a video are megabytes each; the JSON report only names them."""
    if isinstance(result, Report):
        return result
    tracks = [
        replace(track, key_frames=tuple(replace(key, image=_NO_IMAGE) for key in track.key_frames))
        for track in result.tracks
    ]
    return replace(result, tracks=tuple(tracks))
