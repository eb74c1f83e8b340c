"""What is kept of a report, for photographs and for videos."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from forgerank.detect import Detector
from forgerank.detect.result import (
    NO_EVIDENCE,
    Component,
    FaceReport,
    Moment,
    Quality,
    Report,
    Stretch,
    TrackReport,
    VideoReport,
)
from forgerank.serving.scan.parquet_file import answer_of, no_answer, schema
from forgerank.serving.scan.scan_settings import ScanSettings
from forgerank.serving.scan.task_worker import Task, TaskWorker
from results import moments, track, video_report


@pytest.fixture(scope="module")
def face(media: Path, tiny_weights: Path) -> FaceReport:
    return Detector(tiny_weights, threads=1).detect([media / "forged.png"])[0].faces[0]


def test_a_forged_face_comes_before_a_likelier_one_that_was_not_judged(face: FaceReport) -> None:
    small = replace(face, verdict="undetermined", forged_probability=0.999)
    forged = replace(face, verdict="forged", forged_probability=0.7)
    report = Report("a.jpg", "0" * 64, 10, 20, "forged", None, (small, forged))
    assert answer_of(report)["forged_probability"] == 0.7
    assert answer_of(replace(report, faces=(small,)))["forged_probability"] == 0.999
    blurred = replace(small, reason="too blurred")
    judged = replace(
        face, verdict="undetermined", reason="no clear evidence either way", forged_probability=0.6
    )
    answer = answer_of(replace(report, faces=(blurred, judged)))
    assert (answer["forged_probability"], answer["likelihood_ratio"]) == (0.6, 1.5)
    assert answer["face_box"] == [round(edge) for edge in face.box]
    assert "likelihood_ratio" not in answer_of(replace(report, faces=(blurred,)))
    assert "forged_probability" not in answer_of(replace(report, faces=()))


def test_a_video_has_its_people_and_what_was_decoded() -> None:
    components = (Component("nose", 0.81234567, 2), Component("eye", 0.9, 1), Component("lip", 0.1, None))
    quality = Quality(100.0, 100.0, 0.5, 0.0, 0.0, 0.0, 0.0)
    moment = Moment(10, 0.4004, (1.4, 2.0, 30.6, 40.0), 0.9, 0.98, "forged", None)
    track = TrackReport(1, 0.0, 2.0, "forged", None, 0.98765432, components, (moment,), (), quality)
    report = VideoReport(
        *("v.mp4", "0" * 64, 1280, 720, 4.0, 2.0004, 0.50008, 25.0, "h264", 4, 2.0, (), "forged", None),
        (track, replace(track, number=2, verdict="real", forged_probability=0.1)),
    )
    assert answer_of(report) == {
        **{"kind": "video", "width": 1280, "height": 720, "verdict": "forged", "reason": None, "faces": 2},
        **{"forged_probability": 0.987654, "sequence": ["eye", "nose"], "likelihood_ratio": 80.0},
        **{"face_box": [1, 2, 31, 40], "face_time": 0.4},
        **{"nose_probability": 0.812346, "eye_probability": 0.9, "lip_probability": 0.1},
        **{"decoded_seconds": 2.0, "decoded_share": 0.5001, "stretches": []},
    }


def test_a_stretch_decides_what_stands_for_its_video() -> None:
    part = replace(
        track(1, moments(0.0, "rrffffrr"), "forged"),
        forged_probability=0.3,
        stretches=(Stretch(0.75, 2.75, 4, 0.95, 0.004),),
    )
    answer = answer_of(video_report(part, track(2, moments(0.0, "rrr"), "real")))
    assert answer["forged_probability"] == 0.95
    assert answer["stretches"] == [{"start": 0.75, "end": 2.75}]
    table = pa.Table.from_pylist([answer], schema(["nose", "eye", "lip"]))
    assert table["stretches"].to_pylist() == [answer["stretches"]]


def test_a_stretch_without_clear_evidence_is_not_listed_as_forged() -> None:
    doubt = replace(
        track(1, moments(0.0, "rrffffrr"), "undetermined"),
        reason=NO_EVIDENCE,
        forged_probability=0.1,
        stretches=(Stretch(0.75, 2.75, 4, 0.9, 0.03),),
    )
    answer = answer_of(video_report(doubt))
    assert (answer["forged_probability"], answer["stretches"]) == (0.9, [])


def test_reasons_are_one_encodable_line() -> None:
    assert no_answer("bad\n \udcff file") == {"error": "bad \\udcff file"}


def test_a_file_on_which_the_program_fails_is_a_row(
    media: Path, settings: Callable[..., ScanSettings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("tensor of\nno shape")

    judge = TaskWorker(settings("x").judging, tmp_path)
    monkeypatch.setattr("forgerank.serving.judge.judge_file", fail)
    outcome = judge(Task(str(media / "real.png"), None, True), lambda known: None)
    assert outcome.answer == {"error": "the program failed on it (RuntimeError: tensor of no shape)"}


@pytest.mark.parametrize("name", ["picture.mp4", "picture.txt"])
def test_the_name_does_not_decide_how_a_image_is_judged(
    name: str, media: Path, settings: Callable[..., ScanSettings], tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes((media / "forged.png").read_bytes())
    judge = TaskWorker(settings("x").judging, tmp_path)
    outcome = judge(Task(str(tmp_path / name), None, True), lambda known: None)
    assert outcome.answer is not None
    assert (outcome.answer["kind"], outcome.answer["verdict"]) == ("photograph", "forged")
