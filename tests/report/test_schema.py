import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from forgerank import __version__
from forgerank.detect.result import Report
from forgerank.report.schema import Credentials, ErrorEntry, ReportFile, report_file
from forgerank.weights.description import Weights, load_weights
from results import FORGED, POOR, face_report, moments, track, two_people, video_report

REPORTS = [
    Report("a.jpg", "1" * 64, 640, 480, "forged", None, (face_report("forged", FORGED),)),
    Report(None, "2" * 64, 100, 100, "undetermined", "no face found", ()),
]
QUALITY = {
    "size": 120.0,
    "sharpness": 250.5,
    "brightness": 0.5,
    "clipped": 0.01,
    "yaw": -3.0,
    "pitch": 2.0,
    "roll": 1.0,
    "grain": 0.0,
    "noise": 0.0,
    "flat": 0.0,
    "steps": 0.0,
    "blocks": 0.0,
    "reduced": 0.0,
    "torn": 0.0,
    "shade": 1.0,
    "eyes": 0.0,
    "colours": 255.0,
    "tone": 0.0,
}
COMPONENTS = [
    {"name": "nose", "probability": 0.9, "rank": 1},
    {"name": "eye", "probability": 0.1, "rank": None},
    {"name": "lip", "probability": 0.8, "rank": 2},
]
MOMENT = {
    "frame": 25,
    "time": 1.0,
    "box": [10.0, 20.12, 110.0, 140.0],
    "detection_score": 0.98,
    "forged_probability": 0.95,
    "verdict": "forged",
    "reason": None,
}
# Schema version 2 in full: later versions may add to this and change nothing of it.
GOLDEN: dict[str, Any] = {
    "schema_version": 2,
    "forgerank_version": __version__,
    "created": None,
    "case": None,
    "model": {
        "name": "tiny",
        "version": "1",
        "git_revision": "0" * 40,
        "labels": ["nose", "eye", "eyebrow", "lip", "hair"],
        "thresholds": {"forged": 0.6, "real": 0.2, "components": [0.3, 0.3, 0.3, 0.3, 0.3]},
        "thorough": False,
    },
    "reports": [
        {
            "path": "a.jpg",
            "sha256": "1" * 64,
            "width": 640,
            "height": 480,
            "verdict": "forged",
            "reason": None,
            "faces": [
                {
                    "box": [10.0, 20.12, 110.0, 140.0],
                    "detection_score": 0.98,
                    "quality": QUALITY,
                    "verdict": "forged",
                    "reason": None,
                    "forged_probability": 0.934,
                    "likelihood_ratio": 14.15,
                    "components": COMPONENTS,
                    "warnings": [],
                }
            ],
            "credentials": None,
            "page": 1,
            "pages": 1,
            "warnings": [],
        },
        {
            "path": None,
            "sha256": "2" * 64,
            "width": 100,
            "height": 100,
            "verdict": "undetermined",
            "reason": "no face found",
            "faces": [],
            "credentials": None,
            "page": 1,
            "pages": 1,
            "warnings": [],
        },
    ],
    "videos": [
        {
            "path": "clip.mp4",
            "sha256": "4" * 64,
            "width": 200,
            "height": 160,
            "duration": 8.0,
            "decoded_seconds": 6.0,
            "decoded_share": 0.75,
            "frame_rate": 25.0,
            "codec": "h264",
            "sampled_frames": 12,
            "sampling_rate": 2.0,
            "warnings": ["the file ends early"],
            "verdict": "forged",
            "reason": None,
            "tracks": [
                {
                    "number": 1,
                    "start": 1.0,
                    "end": 1.0,
                    "verdict": "forged",
                    "reason": None,
                    "forged_probability": 0.91,
                    "likelihood_ratio": 10.11,
                    "components": COMPONENTS,
                    "quality": {**QUALITY, "size": 80.0, "yaw": 40.0},
                    "warnings": ["small face (80 px)", "turned sideways (40°)"],
                    "moments": [MOMENT],
                    "key_frames": [25],
                    "stretches": [],
                }
            ],
            "credentials": {
                "state": "Valid",
                "problem": None,
                "failures": [],
                "claim_generator": None,
                "issuer": None,
                "signer": "Leaf",
                "signed": None,
                "title": None,
                "actions": [],
                "ingredients": [],
            },
        }
    ],
    "errors": [{"path": "b.jpg", "reason": "empty file"}],
}


@pytest.fixture
def weights(tiny_weights: Path) -> Weights:
    return load_weights(tiny_weights)


def test_golden_report(weights: Weights) -> None:
    errors = [ErrorEntry(path="b.jpg", reason="empty file")]
    videos = [video_report(track(1, moments(1.0, "f"), "forged", POOR))]
    signed = {"4" * 64: Credentials(state="Valid", signer="Leaf")}
    text = report_file(weights.metadata, weights.sha256, REPORTS, errors, videos, signed).to_json()
    written = json.loads(text)
    assert written["model"].pop("sha256") == weights.sha256
    assert written == GOLDEN
    assert ReportFile.model_validate_json(text).to_json() == text


def test_a_file_of_version_1_reads_with_empty_new_fields() -> None:
    text = (Path(__file__).parent / "report-1.json").read_text()
    read = ReportFile.model_validate_json(text)
    assert read.schema_version == 2
    assert read.videos == ()
    assert read.model.version is None
    assert read.reports[0].faces[0].warnings == ()
    again = json.loads(read.to_json())
    face = json.loads(text)["reports"][0]["faces"][0]
    read_face = again["reports"][0]["faces"][0]
    quality = {name: read_face["quality"][name] for name in face["quality"]}
    assert {**{name: read_face[name] for name in face}, "quality": quality} == face


@pytest.mark.parametrize("version", [0, 3, "1", None])
def test_other_versions_are_refused(version: object) -> None:
    file = json.loads((Path(__file__).parent / "report-1.json").read_text())
    with pytest.raises(ValidationError, match="schema_version"):
        ReportFile.model_validate_json(json.dumps({**file, "schema_version": version}))


def test_moments_of_a_track_keep_their_time_and_verdict(weights: Weights) -> None:
    (video,) = report_file(weights.metadata, weights.sha256, [], videos=[two_people()]).videos
    assert [(moment.time, moment.verdict) for moment in video.tracks[0].moments][:3] == [
        (0.0, "undetermined"),
        (0.5, "real"),
        (1.0, "forged"),
    ]
    assert video.tracks[1].warnings == ("small face (80 px)", "turned sideways (40°)")


def test_file_name_that_is_no_utf8(weights: Weights) -> None:
    report = Report("caf\udce9.jpg", "1" * 64, 1, 1, "undetermined", "no face found", ())
    video = video_report(path="caf\udce9.mp4")
    written = json.loads(report_file(weights.metadata, weights.sha256, [report], videos=[video]).to_json())
    assert written["reports"][0]["path"] == "caf\\udce9.jpg"
    assert written["videos"][0]["path"] == "caf\\udce9.mp4"


def test_what_is_out_of_range_is_not_written(weights: Weights) -> None:
    with pytest.raises(ValidationError):
        report_file(weights.metadata, "no hash", REPORTS)
