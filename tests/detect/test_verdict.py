import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forgerank.detect.result import Component, FaceReport
from forgerank.detect.verdict import calibrate, judge_face, judge_image, order_components, quality_warnings
from forgerank.faces.align import Alignment
from forgerank.types import Quality, Verdict
from forgerank.weights.description import Calibration, Thresholds

NAMES = ("nose", "eye", "eyebrow", "lip", "hair")
GOOD = Quality(size=200, sharpness=300, brightness=0.5, clipped=0.0, yaw=0, pitch=0, roll=0)
THRESHOLDS = Thresholds(forged=0.7, real=0.3, components=(0.5, 0.5, 0.5, 0.5, 0.9))


def face(verdict: Verdict, reason: str | None = None) -> FaceReport:
    return FaceReport(
        (0, 0, 9, 9),
        0.9,
        GOOD,
        verdict,
        reason,
        0.5,
        (),
        Alignment(np.eye(2, 3), 8),
        np.zeros((0, 2, 2)),
        np.zeros((2, 2)),
    )


@pytest.mark.parametrize(
    ("probability", "verdict", "reason"),
    [
        (0.7, "forged", None),
        (0.6999, "undetermined", "no clear evidence either way"),
        (0.3, "undetermined", "no clear evidence either way"),
        (0.2999, "real", None),
    ],
)
def test_thresholds(probability: float, verdict: str, reason: str | None) -> None:
    assert judge_face(probability, GOOD, THRESHOLDS) == (verdict, reason)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"size": 63.4}, "face too small (63 px, at least 64 are needed)"),
        ({"sharpness": 1.0}, "face too blurred"),
        ({"yaw": -75.0}, "face turned too far (yaw -75°, pitch 0°)"),
        ({"pitch": 60.0}, "face turned too far"),
    ],
)
@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_a_face_that_cannot_be_judged(change: dict[str, float], reason: str, probability: float) -> None:
    verdict, given_reason = judge_face(probability, replace(GOOD, **change), THRESHOLDS)
    assert verdict == "undetermined"
    assert given_reason is not None
    assert given_reason.startswith(reason)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"sharpness": 7.94}, "soft, sharpness 7.9"),
        ({"blocks": 2.1}, "traces of blocks"),
        ({"reduced": 0.5}, "traces of dots, few levels or blocks"),
        ({"sharpness": 5.0, "blocks": 2.1}, "soft, sharpness 5.0, traces of blocks"),
    ],
)
def test_a_face_of_which_little_is_left_is_not_called_real(change: dict[str, float], reason: str) -> None:
    quality = replace(GOOD, **change)
    expected = ("undetermined", f"too little left to call it real ({reason})")
    assert judge_face(0.1, quality, THRESHOLDS) == expected
    assert judge_face(0.5, quality, THRESHOLDS) == ("undetermined", "no clear evidence either way")
    assert judge_face(0.9, quality, THRESHOLDS) == ("forged", None)


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        (["real", "real"], ("real", None)),
        (["real", "undetermined"], ("undetermined", "face 2: why")),
        (["undetermined"], ("undetermined", "why")),
        (["undetermined", "forged"], ("forged", None)),
        ([], ("undetermined", "no face found")),
    ],
)
def test_image_verdict(verdicts: list[Verdict], expected: tuple[str, str | None]) -> None:
    faces = [face(verdict, "why" if verdict == "undetermined" else None) for verdict in verdicts]
    assert judge_image(faces) == expected


@pytest.mark.parametrize(
    ("order", "ranks"), [("first_to_last", [2, None, 1, 3, None]), ("last_to_first", [2, None, 3, 1, None])]
)
def test_order_of_components(order: str, ranks: list[int | None]) -> None:
    probabilities = np.float32([0.8, 0.4, 0.95, 0.5, 0.85])  # hair stays below its own threshold of 0.9
    components = order_components(NAMES, probabilities, probabilities, "forged", THRESHOLDS, order)  # type: ignore[arg-type]
    assert [component.rank for component in components] == ranks
    assert [component.name for component in components] == list(NAMES)


@pytest.mark.parametrize("verdict", ["real", "undetermined"])
def test_only_a_forged_face_has_a_sequence(verdict: Verdict) -> None:
    components = order_components(NAMES, *[np.ones(5, np.float32)] * 2, verdict, THRESHOLDS, "first_to_last")
    assert [component.rank for component in components] == [None] * 5


def test_order_scores_decide_the_order_alone() -> None:
    probabilities = np.array([0.9, 0.8, 0.1, 0.1, 0.1], np.float32)
    scores = np.array([0.2, 0.7, 0.9, 0.1, 0.1], np.float32)
    components = order_components(NAMES, probabilities, scores, "forged", THRESHOLDS, "first_to_last")
    assert [component.rank for component in components] == [2, 1, None, None, None]


def test_sequence_is_first_to_last() -> None:
    parts = (Component("nose", 0.7, 2), Component("eye", 0.1, None), Component("lip", 0.6, 1))
    assert [component.name for component in replace(face("forged"), components=parts).sequence] == [
        "lip",
        "nose",
    ]


def test_calibration_is_the_identity_for_slope_one() -> None:
    assert calibrate(0.37, Calibration(slope=1, intercept=0)) == pytest.approx(0.37)
    # logit(0.8) = log 4, doubled log 16, less log 2: 8 to 1
    assert calibrate(0.8, Calibration(slope=2, intercept=-math.log(2))) == pytest.approx(8 / 9)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=2), st.floats(0.01, 50), st.floats(-500, 500))
def test_calibration_stays_a_probability_and_monotone(
    pair: list[float], slope: float, intercept: float
) -> None:
    calibration = Calibration(slope=slope, intercept=intercept)
    low, high = (calibrate(value, calibration) for value in sorted(pair))
    assert 0.0 <= low <= high <= 1.0


def test_warnings_name_every_weakness() -> None:
    assert quality_warnings(GOOD) == ()
    weak = Quality(size=70, sharpness=10, brightness=0.1, clipped=0.5, yaw=40, pitch=-30, roll=0)
    assert len(quality_warnings(weak)) == 6
    assert quality_warnings(replace(GOOD, brightness=0.95)) == ("very bright",)
    assert quality_warnings(replace(GOOD, colours=0.2)) == ("without colours: forgeries are harder to tell",)
    assert quality_warnings(replace(GOOD, roll=-178)) == ("upside down: judged turned upright",)
    assert quality_warnings(replace(GOOD, roll=88)) == ("lies on its side: judged turned upright",)
