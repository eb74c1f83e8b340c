"""The results in figures, as text and as a page."""

import base64
import hashlib
import io
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image as PILImage
from playwright.sync_api import sync_playwright
from rich.console import Console

from forgerank.cli.scan import print_summary
from forgerank.detect.result import likelihood_ratio
from forgerank.media.frame_access import read_frame
from forgerank.serving.scan.parquet_file import METADATA_PREFIX, schema
from forgerank.serving.scan.scan_settings import ScanSettings, describe, weights_of
from forgerank.serving.scan.summary import left_out, most_common, row_label, summarize, summary_page
from forgerank.types import InputError
from videos import write_video

CHROMIUM = Path("/usr/bin/chromium")
LABELS = ("nose", "eye", "eyebrow", "lip", "hair")


NO_EVIDENCE = "no clear evidence either way"


def judged(path: str, verdict: str, probability: float | None, **more: Any) -> dict[str, Any]:
    row: dict[str, Any] = {"path": path, "size": 10, "kind": "photograph", "verdict": verdict, "faces": 1}
    row |= {"forged_probability": probability, "sequence": ["lip", "nose"]} | more
    if probability is not None and "small" not in row.get("reason", ""):
        row["likelihood_ratio"] = likelihood_ratio(probability)
    return row


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
    judged("k.jpg", "undetermined", 0.55, reason=NO_EVIDENCE),
    judged("l.jpg", "undetermined", 0.45, reason=f"face 2: {NO_EVIDENCE}"),
]


Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path, settings: Callable[..., ScanSettings]) -> Write:
    """Writes rows as the results of a scan: write(rows, without=("page",))."""

    def make(rows: list[dict[str, Any]], without: tuple[str, ...] = ()) -> Path:
        chosen = settings("in & out")
        facts = describe(chosen, *weights_of(chosen.judging))
        columns = schema(LABELS).with_metadata({METADATA_PREFIX + name: facts[name] for name in facts})
        table = pa.Table.from_pylist(rows, columns).drop_columns(list(without))
        pq.write_table(table, tmp_path / "r.parquet", row_group_size=3)
        return tmp_path / "r.parquet"

    return make


@pytest.fixture
def results(write: Write) -> Path:
    return write(ROWS)


def test_counts(results: Path) -> None:
    summary = summarize(results.rename(results.with_name(os.fsdecode(b"not UTF-8 \xe9"))))
    assert (summary.files, summary.size, summary.duplicates) == (12, 95, 1)
    assert summary.verdicts == {"forged": 3, "no clear evidence": 2, "undetermined": 3, "real": 1}
    assert summary.kinds == {"photograph": 8, "video": 1}
    assert summary.reasons == {"face too small (# px, at least # are needed)": 2, "no face found": 1}
    assert summary.errors == {"truncated or damaged image (# bytes missing)": 2, "empty file <b>": 1}
    assert summary.histogram == [1, *[0] * 8, 1, 0, 1, *[0] * 7, 3]
    assert summary.thresholds.forged == 0.6


def test_the_suspicious_are_ranked_by_likelihood_ratio(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = summarize(results)
    assert [row["path"] for row in summary.worst] == ["e.mp4", "a.jpg", "k.jpg"]
    assert [row_label(row) for row in summary.worst] == ["forged", "forged", "no clear evidence"]
    assert (summary.suspicious, summary.unsuspicious, summary.unjudged) == (3, 2, 3)
    assert left_out(summary) == "Not listed: 2 with a likelihood ratio of at most 1, 3 that cannot be judged."
    monkeypatch.setattr("forgerank.serving.scan.summary._BATCH", 2)
    assert [row["path"] for row in summarize(results, worst=2).worst] == ["e.mp4", "a.jpg"]
    assert left_out(summarize(results, worst=2)).startswith("Not listed: 1 less suspicious file, 2 with")
    assert summarize(results, worst=0).worst == []


def test_results_of_an_earlier_version_are_ranked_too(write: Write) -> None:
    older = write(ROWS, without=("likelihood_ratio", "face_box", "face_time", "page"))
    new, old = summarize(write(ROWS)), summarize(older)
    assert [row["path"] for row in old.worst] == ["e.mp4", "a.jpg", "k.jpg"]
    assert (old.histogram, left_out(old)) == (new.histogram, left_out(new))


def test_what_is_forged_is_listed_whatever_its_ratio(write: Write) -> None:
    stretch = judged("stretch.mp4", "forged", 0.3, kind="video")
    assert [row["path"] for row in summarize(write([stretch])).worst] == ["stretch.mp4"]


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def thumbnails(page: str) -> list[PILImage.Image]:
    found = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', page)
    return [PILImage.open(io.BytesIO(base64.b64decode(content))) for content in found]


def test_thumbnails_are_cut_from_files_that_are_unchanged(write: Write, tmp_path: Path) -> None:
    names = ("first.png", "second.png", "changed.png", "gone.png", "as #1.png")
    red = np.zeros((60, 80, 3), np.uint8)
    red[20:40, 30:50] = (255, 0, 0)
    rows = []
    for number, name in enumerate(names):
        path = tmp_path / name
        PILImage.fromarray(red).save(path)
        box = None if name == "second.png" else [30, 20, 50, 40]
        place: dict[str, Any] = {"width": 80, "height": 60, "face_box": box, "sha256": sha256(path)}
        rows.append(judged(str(path), "forged", 0.9 - number / 100, **place))
    (tmp_path / "changed.png").write_bytes(b"x")
    (tmp_path / "gone.png").unlink()
    results = write([*rows, judged("s3://bucket/far.jpg", "forged", 0.99)])
    page = summary_page(summarize(results), results)
    images = thumbnails(page)
    assert [image.size for image in images] == [(30, 30), (30, 30)]  # the box and a quarter on each side
    assert images[0].getpixel((15, 15))[0] > 200  # type: ignore[index]
    assert page.count(">changed since the scan<") == page.count(">no such file or folder<") == 1
    links = re.findall(r'href="([^"]+)"', page)
    assert links == [(tmp_path / name).as_uri() for name in names if name != "gone.png"]
    assert "as%20%231.png" in links[-1]


def test_thumbnails_are_bounded(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "large.png"
    PILImage.fromarray(np.zeros((600, 800, 3), np.uint8)).save(path)
    place: dict[str, Any] = {
        "width": 800,
        "height": 600,
        "face_box": [-5, 0, 900, 600],
        "sha256": sha256(path),
    }
    results = write([judged(str(path), "forged", 0.9, **place)] * 3)
    monkeypatch.setattr("forgerank.serving.scan.summary._THUMBNAILS", 2)
    images = thumbnails(summary_page(summarize(results), results))
    assert [image.size for image in images] == [(112, 84)] * 2


def test_a_video_and_an_animation_are_shown_at_the_time_of_the_face(write: Write, tmp_path: Path) -> None:
    frames = [np.full((64, 64, 3), 20 * number, np.uint8) for number in range(10)]
    write_video(tmp_path / "clip.mp4", frames, rate=5)
    images = [PILImage.fromarray(frame) for frame in frames]
    images[0].save(tmp_path / "clip.gif", save_all=True, append_images=images[1:], duration=200)
    place: dict[str, Any] = {
        "kind": "video",
        "width": 64,
        "height": 64,
        "face_box": [8, 8, 56, 56],
        "face_time": 1.2,
    }
    paths = (tmp_path / "clip.mp4", tmp_path / "clip.gif")
    rows = [judged(str(path), "forged", 0.9, sha256=sha256(path), **place) for path in paths]
    results = write(rows)
    shown = thumbnails(summary_page(summarize(results), results))
    assert [round(float(np.asarray(image).mean()) / 20) for image in shown] == [6, 6]


@pytest.mark.parametrize("name", ["a.ts", "a.mpg"])
def test_no_frame_stands_for_another_of_a_joined_video(write: Write, tmp_path: Path, name: str) -> None:
    """Its times repeat: 1.2 s is there twice, and 3.2 s, of the second part, nowhere."""
    parts = []
    for number, rate in enumerate((5, 4)):
        frames = [np.full((64, 64, 3), 20 * number + 10 * i, np.uint8) for i in range(10)]
        parts.append(write_video(tmp_path / f"{number}{name}", frames, rate=rate, codec="mpeg2video"))
    path = tmp_path / name
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    place = {"kind": "video", "width": 64, "height": 64, "face_box": [8, 8, 56, 56], "sha256": sha256(path)}
    results = write([judged(str(path), "forged", 0.9, face_time=time, **place) for time in (1.2, 3.2)])
    page = summary_page(summarize(results), results)
    assert thumbnails(page) == []
    assert page.count("its face cannot be shown") == 2
    assert [read_frame(part, 1.2) is not None for part in parts] == [True, True]


@pytest.mark.skipif(not CHROMIUM.exists(), reason="Debian's chromium is not installed")
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_in_a_browser(write: Write, tmp_path: Path, width: int) -> None:
    names = ("short.png", "a-long-name-" * 8 + ".png")
    rows = []
    for name in names:
        PILImage.fromarray(np.full((60, 80, 3), 200, np.uint8)).save(tmp_path / name)
        place: dict[str, Any] = {"width": 80, "height": 60, "face_box": [30, 20, 50, 40]}
        rows.append(judged(str(tmp_path / name), "forged", 0.9, sha256=sha256(tmp_path / name), **place))
    results = write([*ROWS, *rows])
    (tmp_path / "summary.html").write_text(summary_page(summarize(results), results), encoding="utf-8")
    messages: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme="dark")
        page.on("console", lambda message: messages.append(message.text))
        page.on("request", lambda request: messages.append(request.url))
        page.goto((tmp_path / "summary.html").as_uri())
        asked = [message for message in messages if not message.startswith("data:image/")]
        assert asked == [(tmp_path / "summary.html").as_uri()]
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert page.evaluate("[...document.images].map((image) => image.naturalWidth)") == [30, 30]
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(22, 21, 23)"
        page.emulate_media(media="print")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        browser.close()


def test_the_page_is_self_contained_and_harmless(results: Path) -> None:
    page = summary_page(summarize(results), results)
    assert "12 files" in page
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
    assert re.search(r"forged +25.0% +3 *\n", text)
    assert re.search(r"no clear evidence +16.7% +2 *\n", text)
    assert re.search(r"e.mp4 +forged +≥1000 +>99 % +lip, then nose", text)
    assert "Not listed: 2 with a likelihood ratio of at most 1, 3 that cannot be judged." in text
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
