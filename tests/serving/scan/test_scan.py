"""A scan as a whole: its rows, that they do not depend on how it was run, and resuming."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from forgerank.detect import Detector
from forgerank.serving.scan.run import Done, scan
from forgerank.serving.scan.scan_settings import Judging, ScanSettings
from forgerank.serving.scan.task_worker import TaskWorker
from forgerank.types import InputError

Make = Callable[..., ScanSettings]


def rows_of(path: Path) -> dict[str, dict[str, Any]]:
    """By name."""
    rows = {Path(row["path"]).name: row for row in pq.read_table(path).to_pylist()}
    assert len(rows) == pq.read_metadata(path).num_rows
    return rows


@pytest.fixture(scope="module")
def reference(media: Path, tiny_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results for `media` by one process."""
    out = tmp_path_factory.mktemp("reference") / "results.parquet"
    scan(ScanSettings(sources=(str(media),), out=out, judging=Judging(weights=tiny_weights)))
    return out


def test_every_file_has_its_row(reference: Path, media: Path, tiny_weights: Path) -> None:
    rows = rows_of(reference)
    assert len(rows) == 13
    *paths, odd = [row["path"] for row in rows.values()]
    assert paths == sorted(paths)
    assert odd.endswith("\\udcff [red]<b>\n\x1b[0m.jpg"), "sorted by the bytes of the name, \\xff last"
    report = Detector(tiny_weights, threads=1, batch_size=1).detect([media / "forged.png"])[0]
    face, row = report.faces[0], rows["forged.png"]
    expected = {"verdict": "forged", "reason": None, "kind": "photograph", "width": 200, "height": 200}
    expected |= {"faces": 1, "sequence": [component.name for component in face.sequence], "error": None}
    expected |= {"sha256": report.sha256, "size": (media / "forged.png").stat().st_size}
    expected |= {"forged_probability": round(face.forged_probability, 6), "decoded_seconds": None}
    expected |= {f"{part.name}_probability": round(part.probability, 6) for part in face.components}
    assert {name: row[name] for name in expected} == expected
    assert row["sequence"][0] == "nose"
    assert (rows["black.png"]["verdict"], rows["black.png"]["reason"]) == ("undetermined", "no face found")
    assert (rows["black.png"]["faces"], rows["black.png"]["sequence"]) == (0, None)


def test_duplicates_name_the_first_path_and_share_its_answer(reference: Path, media: Path) -> None:
    rows = rows_of(reference)
    firsts = {name: row["duplicate_of"] for name, row in rows.items() if row["duplicate_of"] is not None}
    # "deep/er/copy…" comes before "forged.png", "linked.png" before "real.png".
    assert firsts == {
        "forged.png": str(media / "deep/er/copy of forged.JPG"),
        "real.png": str(media / "linked.png"),
    }
    kept = lambda row: {name: row[name] for name in row if name not in ("path", "duplicate_of")}  # noqa: E731
    assert kept(rows["forged.png"]) == kept(rows["copy of forged.JPG"])


def test_hostile_files_are_rows_with_reasons(reference: Path) -> None:
    rows = rows_of(reference)
    errors = {name: row["error"] for name, row in rows.items() if row["error"]}
    assert errors.keys() == {
        *("dangling.png", "again", "truncated.png", "empty.jpg", "text.jpeg", "clip.mp4", "pipe.jpg"),
        "\\udcff [red]<b>\n\x1b[0m.jpg",
    }
    assert errors["empty.jpg"] == "empty file"
    assert errors["pipe.jpg"] == "not a regular file"
    assert errors["truncated.png"].startswith("truncated or damaged image")
    for name in errors:
        assert "\n" not in errors[name]
        assert rows[name]["verdict"] is None
        assert str(reference.parent) not in errors[name], "a reason names no path: duplicates share it"


def test_the_metadata_says_what_answered(reference: Path, media: Path) -> None:
    metadata = pq.read_schema(reference).metadata
    assert metadata[b"forgerank.fps"] == b"2.0"
    assert b'"forged": 0.6' in metadata[b"forgerank.thresholds"]
    assert str(media).encode() in metadata[b"forgerank.sources"]
    assert not list(reference.parent.glob("*.journal*"))


@pytest.mark.parametrize("workers", [2, 3])
def test_the_number_of_processes_changes_no_byte(
    workers: int, reference: Path, media: Path, settings: Make
) -> None:
    chosen = settings(media, workers=workers)
    scan(chosen)
    assert chosen.out.read_bytes() == reference.read_bytes()


KILL = """
import os, signal, sys
from pathlib import Path
from forgerank.serving.scan.task_worker import TaskWorker
from forgerank.serving.scan.run import scan
from forgerank.serving.scan.scan_settings import ScanSettings

def told(stage, done, total):
    if (stage, done) == (sys.argv[2], int(sys.argv[3])):
        os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    scan(ScanSettings.model_validate_json(Path(sys.argv[1]).read_text()), told)
"""


def test_a_killed_scan_goes_on_where_it_was(
    reference: Path, media: Path, settings: Make, tmp_path: Path
) -> None:
    chosen = settings(media, workers=2)
    (tmp_path / "kill.py").write_text(KILL, encoding="utf-8")
    (tmp_path / "settings.json").write_text(chosen.model_dump_json(), encoding="utf-8")
    for stage, done in (("Hashing", 2), ("Judging", 3)):
        killed = subprocess.run(
            [sys.executable, tmp_path / "kill.py", tmp_path / "settings.json", stage, str(done)],
            capture_output=True,
            check=False,
        )
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        assert not chosen.out.exists()
    totals: dict[str, int | None] = {}
    done_now = scan(chosen, lambda stage, done, total: totals.update({stage: total}))
    assert "Hashing" not in totals, "what was hashed is not hashed again"
    judged_in_all = 7
    assert totals["Judging"] == done_now.judged == judged_in_all - 3
    assert chosen.out.read_bytes() == reference.read_bytes()


def test_each_content_is_judged_once_wherever_it_stops(
    immediate: Callable[..., Any], settings: Make, tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for i in range(12):
        (folder / f"{i:02d}.jpg").write_bytes(bytes([i % 5]) * (1 + i % 4))
    immediate()
    scan(settings(folder, out=tmp_path / "whole.parquet"))
    contents = {path.read_bytes() for path in folder.iterdir()}
    stopped = settings(folder, out=tmp_path / "stopped.parquet")
    judged, stops = list[str](), 0
    while not stopped.out.exists():
        runner = immediate(stop_after=1)
        try:
            scan(stopped)
        except KeyboardInterrupt:
            stops += 1
        judged += [task.path for task in runner.seen if task.judge]
    assert stops > len(contents)
    assert len(judged) == len(contents)
    assert {Path(path).read_bytes() for path in judged} == contents
    whole, after = (pq.read_table(tmp_path / f"{name}.parquet") for name in ("whole", "stopped"))
    assert after.equals(whole)


def test_a_refused_scan_leaves_nothing_in_the_way(media: Path, settings: Make, tmp_path: Path) -> None:
    (tmp_path / "face.onnx").write_bytes(b"junk")
    judging = {"detector": "retinaface", "detector_weights": tmp_path / "face.onnx"}
    with pytest.raises(InputError):
        scan(settings(media / "real.png", judging=judging))
    assert [path.name for path in tmp_path.iterdir()] == ["face.onnx"]
    assert scan(settings(media / "real.png")).files == 1


def test_what_is_known_outlasts_a_refusal(
    immediate: Callable[..., Any], settings: Make, media: Path, tmp_path: Path
) -> None:
    chosen = settings(media / "real.png", media / "black.png", media / "forged.png")
    immediate(stop_after=1)
    with pytest.raises(InputError):
        scan(chosen)
    immediate(stop_after=1)
    good = settings(media / "real.png", media / "forged.png")
    with pytest.raises(KeyboardInterrupt):
        scan(good)
    with pytest.raises(InputError, match="this scan was begun with sources"):
        scan(settings(media / "real.png"))
    immediate()
    assert scan(good).judged == 1


def test_no_output_is_a_source(settings: Make, tmp_path: Path, media: Path) -> None:
    (tmp_path / "list.txt").write_text(str(media / "real.png"))
    (tmp_path / "r.parquet.journal").symlink_to(tmp_path / "list.txt")
    with pytest.raises(InputError, match="is an input, too"):
        scan(settings(f"@{tmp_path / 'list.txt'}", out=tmp_path / "r.parquet"))


def test_results_in_the_folder_that_is_searched_are_no_part_of_it(
    immediate: Callable[..., Any], settings: Make, tmp_path: Path
) -> None:
    immediate()
    (tmp_path / "a.jpg").write_bytes(b"1")
    for number, source in enumerate((tmp_path, tmp_path / "*", tmp_path / "**/*")):
        out = tmp_path / f"{number}.parquet"
        done = scan(settings(source, out=out, all_files=True))
        assert (set(rows_of(out)), done.files, done.others) == ({"a.jpg"}, 1, {})
        out.unlink()
        assert scan(settings(source, out=out)).others == {}
        out.unlink()


def test_a_link_as_output_stays(immediate: Callable[..., Any], settings: Make, tmp_path: Path) -> None:
    immediate()
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.jpg").write_bytes(b"1")
    (tmp_path / "elsewhere").mkdir()
    out = tmp_path / "r.parquet"
    out.symlink_to("elsewhere/r.parquet")
    scan(settings(tmp_path / "in", out=out))
    assert os.readlink(out) == "elsewhere/r.parquet"
    assert rows_of(out).keys() == {"a.jpg"}


def test_a_link_that_comes_into_the_place_of_the_output_is_not_followed(
    immediate: Callable[..., Any], settings: Make, tmp_path: Path
) -> None:
    immediate()
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.jpg").write_bytes(b"1")
    (tmp_path / "other").write_bytes(b"somebody's")
    out = tmp_path / "r.parquet"

    def plant(*_: object) -> None:
        if not out.is_symlink():
            out.symlink_to("other")

    scan(settings(tmp_path / "in", out=out), plant)
    assert (tmp_path / "other").read_bytes() == b"somebody's"
    assert rows_of(out).keys() == {"a.jpg"}


def test_files_that_change_while_a_scan_rests(
    immediate: Callable[..., Any], settings: Make, tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name, content in (("a", b"1"), ("b", b"22"), ("c", b"333"), ("d", b"4444")):
        (folder / f"{name}.jpg").write_bytes(content)
    chosen = settings(folder)
    immediate(stop_after=3)
    with pytest.raises(KeyboardInterrupt):
        scan(chosen)
    (folder / "a.jpg").write_bytes(b"changed")  # was judged: judged again
    (folder / "b.jpg").unlink()  # was judged: no row
    (folder / "e.jpg").write_bytes(b"55555")  # new
    runner = immediate()
    assert scan(chosen) == Done(files=4, judged=3)
    assert [Path(task.path).name for task in runner.seen] == ["a.jpg", "d.jpg", "e.jpg"]
    assert list(rows_of(chosen.out)) == ["a.jpg", "c.jpg", "d.jpg", "e.jpg"]
    assert rows_of(chosen.out)["a.jpg"]["size"] == 7


def test_a_list_of_urls_without_sizes_is_not_repeated(
    immediate: Callable[..., Any], settings: Make, tmp_path: Path
) -> None:
    urls = [f"memory:///urls/{name}.jpg" for name in "abc"]
    (tmp_path / "list.txt").write_text("\n".join(urls), encoding="utf-8")
    immediate(stop_after=4)  # every URL is hashed first: its size is unknown
    with pytest.raises(KeyboardInterrupt):
        scan(settings(f"@{tmp_path}/list.txt"))
    runner = immediate()
    scan(settings(f"@{tmp_path}/list.txt"))
    assert [(task.path, task.judge) for task in runner.seen] == [(url, True) for url in urls[1:]]


def test_a_file_is_read_before_it_is_judged_only_where_another_has_its_size(
    immediate: Callable[..., Any], settings: Make, tmp_path: Path
) -> None:
    for name, content in (("a", b"1"), ("b", b"22"), ("c", b"21"), ("d", b"22")):
        (tmp_path / f"{name}.jpg").write_bytes(content)
    runner = immediate()
    scan(settings(tmp_path))
    assert [(Path(task.path).stem, task.judge) for task in runner.seen] == [
        *[("b", False), ("c", False), ("d", False)],
        *[("a", True), ("b", True), ("c", True)],
    ]


def test_a_file_that_changes_while_it_is_judged_is_an_error_and_its_duplicate_is_judged(
    media: Path, settings: Make, tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a.png", "b.png"):
        (folder / name).write_bytes((media / "real.png").read_bytes())
    chosen = settings(folder)

    def told(stage: str, done: int, total: int | None) -> None:
        if (stage, done) == ("Judging", 0) and total == 1 and not changed:
            changed.append(True)
            (folder / "a.png").write_bytes((media / "forged.png").read_bytes())

    changed: list[bool] = []
    scan(chosen, told)
    rows = rows_of(chosen.out)
    assert rows["a.png"]["error"] == "changed while it was scanned"
    assert (rows["b.png"]["verdict"], rows["b.png"]["duplicate_of"]) == ("real", None)


def test_other_settings_are_refused_on_resume(
    immediate: Callable[..., Any], settings: Make, media: Path
) -> None:
    immediate(stop_after=1)
    with pytest.raises(KeyboardInterrupt):
        scan(settings(media / "*.png"))
    for other in (settings(media / "*.png", judging={"fps": 4}), settings(media)):
        with pytest.raises(InputError, match=r"this scan was begun with (fps 2.0, now it is 4.0|sources)"):
            scan(other)
    immediate()
    scan(settings(media / "*.png", judging={"time_limit": 5}, workers=2))


def test_results_that_are_there_are_not_overwritten(settings: Make, media: Path, tmp_path: Path) -> None:
    (tmp_path / "results.parquet").write_bytes(b"years of work")
    with pytest.raises(InputError, match="is there already"):
        scan(settings(media))
    with pytest.raises(InputError, match="its folder does not exist"):
        scan(settings(media, out=tmp_path / "no" / "results.parquet"))
    with pytest.raises(InputError, match="is a folder"):
        scan(settings(media, out=tmp_path))
    assert (tmp_path / "results.parquet").read_bytes() == b"years of work"


def test_two_scans_do_not_write_the_same_results(
    immediate: Callable[..., Any], settings: Make, media: Path
) -> None:
    immediate()
    refused = []

    def told(stage: str, done: int, total: int | None) -> None:
        if stage == "Writing":
            with pytest.raises(InputError, match="another scan is writing these results") as raised:
                scan(settings(media / "*.png"))
            refused.append(raised)

    scan(settings(media / "*.png"), told)
    assert refused


def test_a_foreign_journal_is_refused(settings: Make, media: Path, tmp_path: Path) -> None:
    (tmp_path / "results.parquet.journal").write_bytes(b"not a database at all, " * 100)
    with pytest.raises(InputError, match="not a journal of a scan"):
        scan(settings(media))


def test_a_worker_with_other_weights_refuses(settings: Make, media: Path, tmp_path: Path) -> None:
    judging = settings(media).judging.model_copy(update={"weights_sha256": "0" * 64})
    with pytest.raises(InputError, match="other weights lie here"):
        TaskWorker(judging, tmp_path)
