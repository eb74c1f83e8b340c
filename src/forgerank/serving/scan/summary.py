"""The results of a scan as counts, a histogram and a page; the Parquet file is read a part at a time."""

import hashlib
import json
import re
from collections import Counter
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from markupsafe import Markup

from forgerank.detect.result import NO_EVIDENCE, likelihood_ratio
from forgerank.files import check_regular, os_reason
from forgerank.media.animations import is_animation, open_animation
from forgerank.media.files import MediaError, check_file, counted
from forgerank.media.frame_access import read_frame
from forgerank.media.images import MAX_PIXELS, read_pages
from forgerank.report.heatmap import jpeg
from forgerank.report.html import template_environment
from forgerank.report.words import LIMITS, VIDEO_LIMITS, ratio, support, verdict_label
from forgerank.serving.scan.parquet_file import METADATA_PREFIX
from forgerank.serving.scan.sources import is_url
from forgerank.types import Image, InputError
from forgerank.weights.description import Thresholds

LABELS = ("forged", "no clear evidence", "real", "undetermined")  # verdicts as people read them
BINS = 20  # of the histogram over 0..1
_BATCH = 65_536  # rows held at once
_SHOWN = (
    *("path", "sha256", "kind", "width", "height", "verdict", "forged_probability", "likelihood_ratio"),
    *("sequence", "face_box", "face_time", "page"),
)


@dataclass(slots=True)
class Summary:
    """What a Parquet file of results holds. Duplicates are files like any other, unless said otherwise."""

    facts: dict[str, Any]  # the file's metadata: version, weights, thresholds, settings
    files: int = 0
    size: int = 0  # bytes, all files together
    duplicates: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)  # as people read them: see `verdict_label`
    reasons: Counter[str] = field(default_factory=Counter)  # why a file cannot be judged; numbers are #
    kinds: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)  # by reason, numbers are #
    histogram: list[int] = field(default_factory=lambda: [0] * BINS)  # judged files by forged_probability
    suspicious: int = 0  # called forged, or with a likelihood ratio above 1; this and the next two without
    unsuspicious: int = 0  # judged, and neither of these
    unjudged: int = 0  # read, but without a face that can be judged
    worst: list[dict[str, Any]] = field(
        default_factory=list
    )  # of the suspicious files, most suspicious first

    @property
    def thresholds(self) -> Thresholds:
        """Those of the weights that answered."""
        return Thresholds.model_validate(self.facts["thresholds"])


def summarize(path: Path, worst: int = 20) -> Summary:
    """Counts, histogram and the `worst` most suspicious files.

    Only files that are called forged, or whose likelihood ratio is above 1, are suspicious.

    Raises InputError for what is no Parquet file of a scan.
    """
    try:
        check_regular(path)
        with path.open("rb") as opened, pq.ParquetFile(opened) as file:  # Arrow takes no name but UTF-8
            metadata = file.schema_arrow.metadata or {}
            prefix = METADATA_PREFIX.encode()
            facts = {
                key.removeprefix(prefix).decode(): json.loads(value)
                for key, value in metadata.items()
                if key.startswith(prefix)
            }
            if "thresholds" not in facts:
                raise InputError(f"{path}: not the results of a scan")
            summary = Summary(facts)
            for batch in file.iter_batches(_BATCH, use_threads=False):  # none holds the file as Python ends
                _add(summary, pa.Table.from_batches([batch]), worst)
            return summary
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({os_reason(error)})") from None
    except (pa.ArrowException, ValueError, LookupError, TypeError, RecursionError) as error:
        raise InputError(
            f"{path}: not the results of a scan ({' '.join(str(error).split())[:120]})"
        ) from None


def most_common(reasons: Counter[str], limit: int) -> list[tuple[str, int]]:
    """The `limit` most frequent reasons and, where there are more, a last line for the others."""
    ordered = sorted(reasons.items(), key=lambda pair: (-pair[1], pair[0]))
    rest = ordered[limit:]
    return ordered[:limit] + (
        [(f"{len(rest)} other reasons", sum(count for _, count in rest))] if rest else []
    )


def _add(summary: Summary, rows: pa.Table, worst: int) -> None:
    rows = _with_all_columns(rows)
    summary.files += len(rows)
    summary.size += pc.sum(rows["size"]).as_py() or 0
    summary.duplicates += len(rows) - rows["duplicate_of"].null_count
    summary.kinds.update(_counts(rows["kind"]))
    for (verdict, reason), count in _pairs(rows["verdict"], rows["reason"]).items():
        label = verdict_label(verdict, reason)
        summary.verdicts[label] += count
        if label == "undetermined" and reason:
            summary.reasons[_general(reason)] += count
    for reason, count in _counts(rows["error"]).items():
        summary.errors[_general(reason)] += count
    judged = pc.is_valid(rows["likelihood_ratio"])
    probabilities = rows.filter(judged)["forged_probability"].to_numpy()
    counts, _ = np.histogram(probabilities, BINS, (0.0, 1.0))
    summary.histogram = [a + int(b) for a, b in zip(summary.histogram, counts, strict=True)]

    first = pc.and_(pc.is_null(rows["duplicate_of"]), pc.is_valid(rows["verdict"]))
    above = pc.fill_null(pc.greater(rows["likelihood_ratio"], 1.0), False)
    forged = pc.fill_null(pc.equal(rows["verdict"], "forged"), False)
    chosen = rows.filter(pc.and_(first, pc.or_(forged, above)))
    summary.suspicious += len(chosen)
    unjudged = pc.sum(pc.and_not(pc.and_(first, pc.invert(judged)), forged)).as_py() or 0
    summary.unjudged += unjudged
    summary.unsuspicious += (pc.sum(first).as_py() or 0) - len(chosen) - unjudged
    # Beyond 1000 the ratio says no more: the probability orders what is left.
    order = [("likelihood_ratio", "descending"), ("forged_probability", "descending"), ("path", "ascending")]
    summary.worst += chosen.sort_by(order).slice(0, worst).select(_SHOWN).to_pylist()
    summary.worst.sort(key=_rank)
    del summary.worst[worst:]


def _rank(row: dict[str, Any]) -> tuple[float, float, str]:
    return -(row["likelihood_ratio"] or 0.0), -(row["forged_probability"] or 0.0), row["path"]


def _with_all_columns(rows: pa.Table) -> pa.Table:
    """Results of an earlier version lack columns: the ratio follows from others, the rest stays unknown."""
    if "likelihood_ratio" not in rows.column_names:
        judged = pc.or_(pc.is_null(rows["reason"]), pc.ends_with(rows["reason"], NO_EVIDENCE))
        judged = pc.and_(judged, pc.is_valid(rows["verdict"]))
        known = zip(
            rows["forged_probability"].to_pylist(), pc.fill_null(judged, False).to_pylist(), strict=True
        )
        ratios = [
            likelihood_ratio(value) if answers and value is not None else None for value, answers in known
        ]
        rows = rows.append_column("likelihood_ratio", pa.array(ratios, pa.float64()))
    for name in _SHOWN:
        if name not in rows.column_names:
            rows = rows.append_column(name, pa.nulls(len(rows)))
    return rows


def _pairs(verdicts: pa.ChunkedArray, reasons: pa.ChunkedArray) -> dict[tuple[str, str | None], int]:
    table = pa.table({"verdict": verdicts, "reason": reasons}).filter(pc.is_valid(verdicts))
    rows = table.group_by(["verdict", "reason"]).aggregate([([], "count_all")]).to_pylist()
    return {(row["verdict"], row["reason"]): row["count_all"] for row in rows}


def _counts(column: pa.ChunkedArray) -> dict[str, int]:
    pairs = column.drop_null().value_counts().to_pylist()
    return {pair["values"]: pair["counts"] for pair in pairs}


def _general(reason: str) -> str:
    """Reasons that differ in their numbers alone are one."""
    return re.sub(r"\b\d+(\.\d+)?\b", "#", reason)


_REASONS = 30  # shown of each kind
_WIDTH, _HEIGHT = 640, 150  # of the histogram, pixels of its own system
_THUMBNAILS, _THUMBNAIL_SIDE = 100, 112  # most of a page, and pixels of the longer side
_EVERY_FRAME = 1000.0  # frames per second, more than an animation has
_MARGIN = 0.25  # of the face box, on every side


def summary_page(summary: Summary, path: Path) -> str:
    """The page; `path` names the results.

    The most suspicious files are read again for thumbnails of their faces, of at most 100 files: local ones
    that still hold what was judged.
    """
    environment = template_environment(__package__)
    environment.filters.update(ratio=ratio, support=support)
    rows = [shown_row(row, number < _THUMBNAILS) for number, row in enumerate(summary.worst)]
    return environment.get_template("summary.html").render(
        style=Markup(_asset("report/page.css") + _asset("serving/scan/summary.css")),
        file_name=path.name,
        path=str(path),
        summary=summary,
        counts=counts(summary),
        labels=LABELS,
        rows=rows,
        left_out=left_out(summary),
        bars=_bars(summary.histogram),
        most=max(1, *summary.histogram),
        width=_WIDTH,
        height=_HEIGHT,
        undetermined=most_common(summary.reasons, _REASONS),
        unread=most_common(summary.errors, _REASONS),
        files=counted(summary.files, "file"),
        limits=(*LIMITS, *VIDEO_LIMITS),
    )


def counts(summary: Summary) -> list[tuple[str, int]]:
    """Files by verdict, those that could not be read, and duplicates, by their names."""
    found = [(name, summary.verdicts[name]) for name in LABELS]
    return [*found, ("not read", summary.errors.total()), ("duplicates", summary.duplicates)]


def left_out(summary: Summary) -> str:
    """What the list of the most suspicious files does not hold, as a sentence.

    >>> left_out(Summary({}, suspicious=3, unsuspicious=1200, worst=[{}]))
    'Not listed: 2 less suspicious files, 1,200 with a likelihood ratio of at most 1.'
    """
    less = summary.suspicious - len(summary.worst)
    parts = [
        counted(less, "less suspicious file") if less else "",
        f"{summary.unsuspicious:,} with a likelihood ratio of at most 1" if summary.unsuspicious else "",
        f"{summary.unjudged:,} that cannot be judged" if summary.unjudged else "",
    ]
    return f"Not listed: {', '.join(filter(None, parts))}." if any(parts) else ""


def row_label(row: dict[str, Any]) -> str:
    """The verdict on a row of `Summary.worst`, which is on the face that the row is about."""
    judged = row["verdict"] == "undetermined" and row["likelihood_ratio"] is not None
    return "no clear evidence" if judged else str(row["verdict"])


def shown_row(row: dict[str, Any], with_thumbnail: bool) -> dict[str, Any]:
    """A row of `Summary.worst` for the page: with a link to its file, a thumbnail, or why there is none.

    Only a file on this machine that still has its hash is shown.
    """
    shown = {**row, "label": row_label(row), "link": None, "thumbnail": None, "missing": None}
    if is_url(row["path"]):
        return shown
    path = Path(row["path"])
    try:
        check_file(path)
        shown["link"] = path.absolute().as_uri()
        if not with_thumbnail:
            return shown
        with open(path, "rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != row["sha256"]:
                return {**shown, "missing": "changed since the scan"}
        face = _face(path, row)
    except MediaError as error:
        return {**shown, "missing": error.reason}
    except OSError as error:
        return {**shown, "missing": f"cannot be read ({os_reason(error)})"}
    if face is None:
        return shown if row["face_box"] is None else {**shown, "missing": "its face cannot be shown"}
    return {**shown, "thumbnail": jpeg(face, _THUMBNAIL_SIDE)}


def _face(path: Path, row: dict[str, Any]) -> Image | None:
    """The face of a row, cut out of its file with a margin; None where it is not known where it is."""
    if row["face_box"] is None:
        return None
    image = _picture(path, row)
    if image is None or image.shape[:2] != (row["height"], row["width"]):
        return None
    x0, y0, x1, y1 = row["face_box"]
    margin = round(_MARGIN * max(x1 - x0, y1 - y0))
    face = image[max(0, y0 - margin) : max(0, y1 + margin), max(0, x0 - margin) : max(0, x1 + margin)]
    return face if face.size else None


def _picture(path: Path, row: dict[str, Any]) -> Image | None:
    time = row["face_time"]
    if time is None:
        number = row["page"] or 1
        most = row["width"] * row["height"] if number == 1 else MAX_PIXELS
        pages = read_pages(path, max_pixels=most)
        return next((page.image for page in pages if page.number == number), None)
    if is_animation(path):
        with open_animation(path) as animation:
            frames = animation.samples(_EVERY_FRAME)
            return next((frame.image for frame in frames if frame.time > time - 1e-3), None)
    frame = read_frame(path, time)
    return None if frame is None else frame.image


def _bars(histogram: list[int]) -> list[dict[str, str]]:
    """The SVG rectangles of a histogram over 0..1, with their counts as titles."""
    most, step = max(1, *histogram), _WIDTH / BINS
    heights = [count / most * _HEIGHT for count in histogram]
    return [
        {
            "x": f"{i * step + 1:.1f}",
            "y": f"{_HEIGHT - height:.1f}",
            "width": f"{step - 2:.1f}",
            "height": f"{height:.1f}",
            "title": f"{i / BINS:.2f} to {(i + 1) / BINS:.2f}: {count:,}",
        }
        for i, (height, count) in enumerate(zip(heights, histogram, strict=True))
    ]


def _asset(name: str) -> str:
    return files("forgerank").joinpath(name).read_text(encoding="utf-8")
