import json
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from forgerank import __version__
from forgerank.faces.align import Alignment
from forgerank.infer.result import Component, FaceReport, Report
from forgerank.infer.weights import load_weights
from forgerank.report.schema import ErrorEntry, ReportFile, report_file
from forgerank.types import Quality

FACE = FaceReport(
    box=(10.0, 20.123456, 110.0, 140.0),
    detection_score=0.98,
    quality=Quality(size=120.0, sharpness=250.5, brightness=0.5, clipped=0.01, yaw=-3.0, pitch=2.0, roll=1.0),
    verdict="forged",
    reason=None,
    forged_probability=0.934,
    components=(Component("nose", 0.9, 1), Component("eye", 0.1, None), Component("lip", 0.8, 2)),
    alignment=Alignment(np.eye(2, 3), 8),
    component_maps=np.zeros((3, 2, 2), np.float32),
    dissimilarity=np.zeros((2, 2), np.float32),
)
REPORTS = [
    Report("a.jpg", "1" * 64, 640, 480, "forged", None, (FACE,)),
    Report(None, "2" * 64, 100, 100, "undetermined", "no face found", ()),
]
# Schema version 1 in full: later versions may add to this and change nothing of it.
GOLDEN = {
    "schema_version": 1,
    "forgerank_version": __version__,
    "model": {
        "name": "tiny",
        "sha256": None,
        "thresholds": {"forged": 0.6, "real": 0.2, "components": [0.3, 0.3, 0.3, 0.3, 0.3]},
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
                    "quality": {
                        "size": 120.0,
                        "sharpness": 250.5,
                        "brightness": 0.5,
                        "clipped": 0.01,
                        "yaw": -3.0,
                        "pitch": 2.0,
                        "roll": 1.0,
                    },
                    "verdict": "forged",
                    "forged_probability": 0.934,
                    "components": [
                        {"name": "nose", "probability": 0.9, "rank": 1},
                        {"name": "eye", "probability": 0.1, "rank": None},
                        {"name": "lip", "probability": 0.8, "rank": 2},
                    ],
                }
            ],
        },
        {
            "path": None,
            "sha256": "2" * 64,
            "width": 100,
            "height": 100,
            "verdict": "undetermined",
            "reason": "no face found",
            "faces": [],
        },
    ],
    "errors": [{"path": "b.jpg", "reason": "empty file"}],
}


def test_golden_report(tiny_weights: Path) -> None:
    weights = load_weights(tiny_weights)
    errors = [ErrorEntry(path="b.jpg", reason="empty file")]
    text = report_file(weights.metadata, weights.sha256, REPORTS, errors).to_json()
    written = json.loads(text)
    assert written["model"].pop("sha256") == weights.sha256
    expected = json.loads(json.dumps(GOLDEN))
    del expected["model"]["sha256"]
    assert written == expected
    assert ReportFile.model_validate_json(text).to_json() == text


def test_file_name_that_is_no_utf8(tiny_weights: Path) -> None:
    weights = load_weights(tiny_weights)
    report = Report("caf\udce9.jpg", "1" * 64, 1, 1, "undetermined", "no face found", ())
    text = report_file(weights.metadata, weights.sha256, [report]).to_json()
    assert json.loads(text)["reports"][0]["path"] == "caf\\udce9.jpg"


def test_what_is_out_of_range_is_not_written(tiny_weights: Path) -> None:
    weights = load_weights(tiny_weights)
    with pytest.raises(ValidationError):
        report_file(weights.metadata, "no hash", REPORTS)
