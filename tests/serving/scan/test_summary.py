"""The results in figures, as text and as a page."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from forgerank.cli.scan import print_summary
from forgerank.serving.scan.parquet_file import METADATA_PREFIX, schema
from forgerank.serving.scan.scan_settings import ScanSettings, describe, weights_of
from forgerank.serving.scan.summary import most_common, summarize, summary_page
from forgerank.types import InputError

LABELS = ("nose", "eye", "eyebrow", "lip", "hair")


def judged(path: str, verdict: str, probability: float | None, **more: Any) -> dict[str, Any]:
    row = {"path": path, "size": 10, "kind": "photograph", "verdict": verdict, "sequence": ["lip", "nose"]}
    return row | {"forged_probability": probability, "faces": 1} | more


ROWS = [
    judged("a.jpg", "forged", 0.97),
    judged("b.jpg", "forged", 0.97, duplicate_of="a.jpg"),
    judged("c.jpg", "undetermined", 0.99, reason="face too small (31 px, at least 64 are needed)"),
    judged("d.jpg", "undetermined", 0.5, reason="face too small (60 px, at least 64 are needed)"),
    judged("e.mp4", "forged", 1.0, kind="video", decoded_seconds=2.5),
    judged("f.jpg", "real", 0.0),
    judged("g.jpg", "undetermined", None, reason="no face found"),
    {"path": "<script>h\x1b.jpg", "size": 2, "error": "truncated or damaged image (12 bytes missing)"},
    {"path": "i.jpg", "size": 3, "error": "truncated or damaged image (7 bytes missing)"},
    {"path": "j.jpg", "error": "empty file <b>"},
]


@pytest.fixture
def results(tmp_path: Path, settings: Callable[..., ScanSettings]) -> Path:
    chosen = settings("in & out")
    facts = describe(chosen, *weights_of(chosen.judging))
    columns = schema(LABELS).with_metadata({METADATA_PREFIX + name: value for name, value in facts.items()})
    pq.write_table(pa.Table.from_pylist(ROWS, columns), tmp_path / "r.parquet", row_group_size=3)
    return tmp_path / "r.parquet"


def test_counts(results: Path) -> None:
    summary = summarize(results)
    assert (summary.files, summary.size, summary.duplicates) == (10, 75, 1)
    assert summary.verdicts == {"forged": 3, "undetermined": 3, "real": 1}
    assert summary.kinds == {"photograph": 6, "video": 1}
    assert summary.reasons == {"face too small (# px, at least # are needed)": 2, "no face found": 1}
    assert summary.errors == {"truncated or damaged image (# bytes missing)": 2, "empty file <b>": 1}
    assert summary.histogram == [1, *[0] * 9, 1, *[0] * 8, 4]
    assert summary.thresholds.forged == 0.6


def test_the_worst_are_forged_first_and_no_duplicates(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [row["path"] for row in summarize(results).worst] == ["e.mp4", "a.jpg", "c.jpg", "d.jpg", "f.jpg"]
    monkeypatch.setattr("forgerank.serving.scan.summary._BATCH", 2)
    assert [row["path"] for row in summarize(results, worst=3).worst] == ["e.mp4", "a.jpg", "c.jpg"]
    assert summarize(results, worst=0).worst == []


def test_the_page_is_self_contained_and_harmless(results: Path) -> None:
    page = summary_page(summarize(results), results)
    assert "10 files" in page
    assert "<script" not in page
    assert "\x1b" not in page
    assert "empty file &lt;b&gt;" in page
    assert not re.search(r"(src|href|url\()\s*=?\s*[\"']?(http|//)", page)
    assert page.count("<rect ") == 20
    assert "e.mp4" in page[page.index("Most suspicious") :]


def test_the_text_holds_what_the_page_holds(results: Path, tmp_path: Path) -> None:
    with open(tmp_path / "out.txt", "w", encoding="utf-8") as file:
        print_summary(summarize(results), Console(file=file, width=120))
    text = (tmp_path / "out.txt").read_text(encoding="utf-8")
    assert re.search(r"forged +30.0% +3 *\n", text)
    assert re.search(r"e.mp4 +forged +>99 % +lip, then nose", text)
    assert re.search(r"truncated or damaged image \(# bytes missing\) +2 *\n", text)


def test_many_reasons_end_with_a_line_for_the_rest() -> None:
    summary_line = most_common({"a": 3, "b": 5, "c": 1, "d": 1}, 2)  # type: ignore[arg-type]
    assert summary_line == [("b", 5), ("a", 3), ("2 other reasons", 2)]


def test_other_files_are_refused_with_one_line(tmp_path: Path) -> None:
    (tmp_path / "text.parquet").write_text("not Parquet")
    pq.write_table(pa.table({"path": ["a"]}), tmp_path / "other.parquet")
    (tmp_path / "empty.parquet").touch()
    for name, reason in (
        *(("text", "not the results of a scan"), ("other", "not the results of a scan")),
        *(("empty", "not the results of a scan"), ("missing", "cannot be read")),
    ):
        with pytest.raises(InputError, match=reason) as raised:
            summarize(tmp_path / f"{name}.parquet")
        assert "\n" not in str(raised.value)
