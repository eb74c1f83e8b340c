"""The results of a scan as counts, a histogram and a page; the Parquet file is read a part at a time."""

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

from forgerank.report.html import template_environment
from forgerank.report.words import LIMITS, VIDEO_LIMITS
from forgerank.serving.scan.parquet_file import METADATA_PREFIX
from forgerank.types import InputError
from forgerank.weights.description import Thresholds

BINS = 20  # of the histogram over 0..1
_BATCH = 65_536  # rows held at once
_SHOWN = ("path", "kind", "verdict", "forged_probability", "sequence")


@dataclass(slots=True)
class Summary:
    """What a Parquet file of results holds. Duplicates are files like any other, unless said otherwise."""

    facts: dict[str, Any]  # the file's metadata: version, weights, thresholds, settings
    files: int = 0
    size: int = 0  # bytes, all files together
    duplicates: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)  # why a verdict is undetermined; numbers are #
    kinds: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)  # by reason, numbers are #
    histogram: list[int] = field(default_factory=lambda: [0] * BINS)  # files by forged_probability
    worst: list[dict[str, Any]] = field(default_factory=list)  # most suspicious first, no duplicates

    @property
    def thresholds(self) -> Thresholds:
        """Those of the weights that answered."""
        return Thresholds.model_validate(self.facts["thresholds"])


def summarize(path: Path, worst: int = 20) -> Summary:
    """Counts, histogram and the `worst` most suspicious files.

    Raises InputError for what is no Parquet file of a scan.
    """
    try:
        with pq.ParquetFile(path) as file:
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
            for batch in file.iter_batches(_BATCH):
                _add(summary, pa.Table.from_batches([batch]), worst)
            return summary
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from None
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
    summary.files += len(rows)
    summary.size += pc.sum(rows["size"]).as_py() or 0
    summary.duplicates += len(rows) - rows["duplicate_of"].null_count
    summary.verdicts.update(_counts(rows["verdict"]))
    summary.kinds.update(_counts(rows["kind"]))
    for counter, column in ((summary.reasons, "reason"), (summary.errors, "error")):
        for reason, count in _counts(rows[column]).items():
            counter[_general(reason)] += count
    probabilities = rows["forged_probability"].drop_null().to_numpy()
    counts, _ = np.histogram(probabilities, BINS, (0.0, 1.0))
    summary.histogram = [a + int(b) for a, b in zip(summary.histogram, counts, strict=True)]
    chosen = rows.filter(pc.and_(rows["forged_probability"].is_valid(), rows["duplicate_of"].is_null()))
    chosen = chosen.sort_by([("forged_probability", "descending"), ("path", "ascending")])
    # Forged files first: a face too small to be judged may have the higher probability.
    forged = pc.equal(chosen["verdict"], "forged")
    picked = [chosen.filter(part).slice(0, worst).select(_SHOWN) for part in (forged, pc.invert(forged))]
    summary.worst += [row for part in picked for row in part.to_pylist()]
    summary.worst.sort(key=lambda row: (row["verdict"] != "forged", -row["forged_probability"], row["path"]))
    del summary.worst[worst:]


def _counts(column: pa.ChunkedArray) -> dict[str, int]:
    pairs = column.drop_null().value_counts().to_pylist()
    return {pair["values"]: pair["counts"] for pair in pairs}


def _general(reason: str) -> str:
    """Reasons that differ in their numbers alone are one."""
    return re.sub(r"\b\d+(\.\d+)?\b", "#", reason)


_REASONS = 30  # shown of each kind
_WIDTH, _HEIGHT = 640, 150  # of the histogram, pixels of its own system


def summary_page(summary: Summary, path: Path) -> str:
    """The page; `path` names the results."""
    counts = [(verdict, summary.verdicts[verdict]) for verdict in ("forged", "undetermined", "real")]
    return (
        template_environment(__package__)
        .get_template("summary.html")
        .render(
            style=Markup(_asset("report/page.css") + _asset("serving/scan/summary.css")),
            file_name=path.name,
            path=str(path),
            summary=summary,
            counts=[*counts, ("not read", summary.errors.total()), ("duplicates", summary.duplicates)],
            bars=_bars(summary.histogram),
            most=max(1, *summary.histogram),
            width=_WIDTH,
            height=_HEIGHT,
            undetermined=most_common(summary.reasons, _REASONS),
            unread=most_common(summary.errors, _REASONS),
            limits=(*LIMITS, *VIDEO_LIMITS),
        )
    )


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
