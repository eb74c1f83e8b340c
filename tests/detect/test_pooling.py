"""Pooling, consensus and the verdict on a track, by hand."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forgerank.detect.pooling import POOLS, consensus, judge_track, pool, quality_weight
from forgerank.types import Quality
from forgerank.weights.description import Thresholds

GOOD = Quality(size=200, sharpness=300, brightness=0.5, clipped=0.0, yaw=0, pitch=0, roll=0)
THRESHOLDS = Thresholds(forged=0.7, real=0.3, components=(0.5,) * 5)
VALUES = [0.1, 0.2, 0.3, 0.4, 0.9]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("mean", 0.38),
        ("median", 0.3),
        ("trimmed mean", 0.3),
        ("mean logit", 1 / (1 + (9 * 4 * (7 / 3) * 1.5 / 9) ** 0.2)),
        ("top-share mean", 0.65),
        ("quality-weighted mean", (0.1 + 0.2 + 0.3 + 0.4 + 6 * 0.9) / 10),
    ],
)
def test_rules_by_hand(rule: str, expected: float) -> None:
    assert pool(VALUES, [1, 1, 1, 1, 6], rule) == pytest.approx(expected)


@given(
    st.sampled_from(sorted(POOLS)),
    st.lists(st.tuples(st.floats(0, 1), st.floats(0.05, 1)), min_size=1, max_size=20),
)
def test_every_rule_stays_between_the_extremes_and_knows_no_order(
    rule: str, pairs: list[tuple[float, float]]
) -> None:
    values, weights = zip(*pairs, strict=True)
    pooled = pool(values, weights, rule)
    assert min(values) - 2e-6 <= pooled <= max(values) + 2e-6
    assert pool(values[::-1], weights[::-1], rule) == pytest.approx(pooled)


@pytest.mark.parametrize("rule", sorted(POOLS))
def test_certainty_is_no_error(rule: str) -> None:
    assert pool([0.0, 0.0], [1, 1], rule) == pytest.approx(0, abs=1e-5)
    assert pool([1.0, 1.0, 1.0], [1, 1, 1], rule) == pytest.approx(1, abs=1e-5)


def test_quality_weights() -> None:
    small = Quality(80, 300, 0.5, 0.0, 0, 0, 0)
    turned = Quality(200, 300, 0.5, 0.0, 60, 0, 0)
    assert [quality_weight(quality) for quality in (GOOD, small, turned)] == pytest.approx([1, 0.5, 0.5])
    assert quality_weight(Quality(1, 0, 0.5, 0.0, 90, 90, 0)) == 0.05


def test_forged_frames_alone_decide_the_components() -> None:
    values = [[0.9, 0.1], [0.7, 0.3], [0.0, 1.0]]
    assert consensus(values, [0.8, 0.7, 0.2], 0.7) == pytest.approx([0.8, 0.2])
    assert consensus(values, [0.6, 0.5, 0.2], 0.7) == pytest.approx([1.6 / 3, 1.4 / 3])
    assert consensus(values, [0.6, 0.5, 0.2], 0.7).dtype == np.float32


@pytest.mark.parametrize(
    ("probability", "usable", "expected"),
    [
        (0.7, 3, ("forged", None)),
        (0.2, 9, ("real", None)),
        (0.5, 9, ("undetermined", "no clear evidence either way")),
        (0.9, 2, ("undetermined", "only 2 frames of this face can be judged, 3 are needed")),
        (0.9, 1, ("undetermined", "only 1 frame of this face can be judged, 3 are needed")),
    ],
)
def test_verdict_on_a_track(probability: float, usable: int, expected: tuple[str, str | None]) -> None:
    assert judge_track(probability, usable, GOOD, THRESHOLDS) == expected


def test_a_soft_track_is_not_called_real() -> None:
    soft = replace(GOOD, sharpness=5.0)
    reason = "too little left to call it real (soft, sharpness 5.0)"
    assert judge_track(0.2, 9, soft, THRESHOLDS) == ("undetermined", reason)
    assert judge_track(0.7, 9, soft, THRESHOLDS) == ("forged", None)


def test_a_track_of_bad_quality_says_why() -> None:
    blurred = Quality(200, 1.0, 0.5, 0.0, 0, 0, 0)
    verdict, reason = judge_track(0.9, 0, blurred, THRESHOLDS)
    assert verdict == "undetermined"
    assert reason is not None
    assert reason.startswith("face too blurred")
