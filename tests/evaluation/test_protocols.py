import json
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest

from forgerank.evaluation.protocols import VERDICT_RATES, best_of, set_metrics, summarize
from forgerank.evaluation.scorers import JUDGED, NOT_CALLED_REAL, NOT_JUDGED, Predictions, join
from forgerank.labels import pad_sequences
from forgerank.weights.description import Calibration, Thresholds

PREDICTIONS = Predictions(
    probability=np.array([0.1, 0.7, 0.9, 0.4]),
    components=np.array([[0.1, 0.2], [0.3, 0.1], [0.6, 0.9], [0.2, 0.55]]),
    order=np.array([[0.1, 0.2], [0.3, 0.1], [0.6, 0.9], [0.2, 0.55]]),
    presence=np.array([[0, 0], [0, 0], [1, 1], [0, 1]]),
    sequences=pad_sequences([[], [], [2, 1], [2]], 2),
    groups=["a", "b", "c", "c"],
    sources=["ffhq", "london", "ffhq", "ffhq"],
)


_OF_LABELS = ("components", "order", "presence", "sequences")


def test_golden_row_of_a_set() -> None:
    thresholds = Thresholds(forged=0.65, real=0.3, components=(0.5, 0.5))
    judged = partial(
        set_metrics,
        order="first_to_last",
        thresholds=thresholds,
        calibration=Calibration(slope=1, intercept=0),
    )
    row = judged(PREDICTIONS, resamples=30)
    expected = {"images": 4, "real": 2, "groups": 3, "whole_images": 0, "auc": 3 / 4, "map": 1, "order": 1}
    # of the real images one is called real and one forged, of the forged ones one is called forged
    expected |= {"false_positive_rate": 1 / 2, "real_rate": 1 / 2, "true_positive_rate": 1 / 2}
    expected |= {"miss_rate": 0, "undetermined": 1 / 4, "equal_error_rate": 1 / 2}
    odds = np.log2([1 + 1 / 9, 1 + 7 / 3, 1 + 1 / 9, 1 + 6 / 4])
    expected["cllr"] = (odds[:2].mean() + odds[2:].mean()) / 2
    assert {name: row[name] for name in expected} == pytest.approx(expected)
    for name in ("auc", "equal_error_rate", "tpr_at_1_percent_fpr", "cllr", "min_cllr", *VERDICT_RATES):
        assert row[f"{name}_low"] <= row[name] <= row[f"{name}_high"]
    seen = replace(PREDICTIONS, judged=np.array([JUDGED, NOT_JUDGED, JUDGED, JUDGED]))
    some = judged(seen, resamples=2)
    assert (some["false_positive_rate"], some["undetermined"], some["unjudged"]) == (0, 1 / 2, 1 / 4)
    assert some["real_rate"] == 1 / 2
    soft = replace(PREDICTIONS, judged=np.full(4, NOT_CALLED_REAL))
    some = judged(soft, resamples=2)
    assert (some["real_rate"], some["undetermined"], some["unjudged"]) == (0, 1 / 2, 0)
    assert some["true_positive_rate"] == 1 / 2
    plain = set_metrics(PREDICTIONS, order="first_to_last", resamples=2)
    assert not plain.keys() & {"cllr", "undetermined"}
    # a single label is "forged", whatever is known of it
    one = replace(PREDICTIONS, **{name: getattr(PREDICTIONS, name)[:, :1] for name in _OF_LABELS})
    one = replace(one, presence=np.full((4, 1), -1), fake=np.array([False, False, True, True]))
    assert set_metrics(one, order="first_to_last", resamples=2)["map"] == pytest.approx(5 / 6)


def test_golden_summary() -> None:
    thresholds = Thresholds(forged=0.6, real=0.3, components=(0.5, 0.5))
    result = summarize(
        PREDICTIONS,
        order="first_to_last",
        thresholds=thresholds,
        calibration=Calibration(slope=1, intercept=0),
        resamples=20,
    )
    values = {name: interval["value"] for name, interval in result["metrics"].items()}
    assert values == pytest.approx(
        {
            "auc": 3 / 4,
            "component_ap": 1,
            "multi_label_accuracy": 1,
            "fixed_accuracy": 1,
            "adaptive_accuracy": 1,
            "all_none_floor": 5 / 8,
            "complete_sequences": 1,
            "pairwise_order": 1,
            "equal_error_rate": 1 / 2,
            "tpr_at_1_percent_fpr": 1 / 2,
            "order_r2": None,
            "multi_label_accuracy_at_half": 1,
            "fixed_accuracy_at_half": 1,
            "adaptive_accuracy_at_half": 1,
            "false_positive_rate": 1 / 2,
            "true_positive_rate": 1 / 2,
        }
    )
    assert (result["pictures"], result["real"], result["groups"]) == (4, 2, 3)
    assert result["by_source"]["london"]["pictures"] == 1
    assert result["by_source"]["london"]["auc"] is None
    assert result["by_source"]["london"]["false_positive_rate"] == 1
    assert set(result["by_length"]) == {"0", "1", "2"}
    # each label was forged in one place only
    assert result["order_r2_by_component"] == [None, None]
    json.dumps(result, allow_nan=False)


def test_order_and_thresholds_change_the_figures() -> None:
    result = summarize(PREDICTIONS, order="last_to_first", resamples=2)
    assert result["metrics"]["pairwise_order"]["value"] == 0
    assert "false_positive_rate" not in result["metrics"]
    assert join(PREDICTIONS, PREDICTIONS).forged.tolist() == [0, 0, 1, 1] * 2


def values(result: dict[str, Any]) -> dict[str, float | None]:
    return {name: metric["value"] for name, metric in result["metrics"].items()}


def test_thresholds_stand_beside_a_half() -> None:
    thresholds = Thresholds(forged=0.6, real=0.3, components=(0.3, 0.7))
    found = values(summarize(PREDICTIONS, order="first_to_last", thresholds=thresholds, resamples=2))
    # answers (), (1), (2, 1), () where (), (), (2, 1), (2) are true
    assert found["fixed_accuracy"] == 6 / 8
    assert found["adaptive_accuracy"] == 3 / 5
    assert found["multi_label_accuracy"] == 6 / 8
    assert found["fixed_accuracy_at_half"] == found["adaptive_accuracy_at_half"] == 1
    alone = values(summarize(PREDICTIONS, order="first_to_last", resamples=2))
    assert alone["fixed_accuracy"] == 1
    assert not any(name.endswith("_at_half") for name in alone)


def test_own_sequences_are_judged_as_they_are() -> None:
    own = replace(PREDICTIONS, predicted=pad_sequences([[], [1], [1, 1], [2]], 2))
    thresholds = Thresholds(forged=0.6, real=0.3, components=(0.0, 0.0))
    found = values(summarize(own, order="last_to_first", thresholds=thresholds, resamples=2))
    assert found["fixed_accuracy"] == 6 / 8
    assert found["multi_label_accuracy"] == 6 / 8
    assert found["component_ap"] == 1  # of the scores
    assert "fixed_accuracy_at_half" not in found


def test_reversed_sequences_are_compared_from_their_end() -> None:
    own = replace(
        PREDICTIONS,
        sequences=pad_sequences([[], [], [2, 1], [2]], 2),
        predicted=pad_sequences([[], [], [1], [2]], 2),
    )
    plain, turned = (
        values(summarize(own, order="first_to_last", reverse=reverse, resamples=2))
        for reverse in (False, True)
    )
    # (2, 1) against (1): no match; from the end, (1, 2) against (1): one
    assert (plain["fixed_accuracy"], turned["fixed_accuracy"]) == (6 / 8, 7 / 8)
    assert plain["pairwise_order"] == turned["pairwise_order"] == 1


def test_the_best_of_several() -> None:
    parts = [
        {
            "metrics": {
                "auc": {"value": a},
                "equal_error_rate": {"value": e},
                "all_none_floor": {"value": 0.5},
            },
            "binary": {"celebdf/c23/video": {"metrics": {"auc": {"value": v}}}},
        }
        for a, e, v in ((0.9, 0.1, None), (0.8, 0.05, 0.7), (0.9, 0.2, 0.6))
    ]
    assert best_of(parts) == {
        "auc": {"value": 0.9, "checkpoint": 0},  # of equal ones the first
        "equal_error_rate": {"value": 0.05, "checkpoint": 1},
        "celebdf/c23/video/auc": {"value": 0.7, "checkpoint": 1},
    }


# Real, real, forged in (2, 1), forged in the second and perhaps the first label, forged somewhere.
PARTIAL = Predictions(
    probability=np.array([0.1, 0.7, 0.9, 0.4, 0.8]),
    components=np.array([[0.1, 0.2], [0.3, 0.6], [0.6, 0.9], [0.2, 0.55], [0.1, 0.1]]),
    order=np.array([[0.1, 0.2], [0.3, 0.6], [0.6, 0.9], [0.2, 0.55], [0.1, 0.1]]),
    presence=np.array([[0, 0], [0, 0], [1, 1], [-1, 1], [-1, -1]]),
    sequences=pad_sequences([[], [], [2, 1], [], []], 2),
    groups=["a", "b", "c", "d", "e"],
    sources=["ffhq", "london", "ffhq", "ffhq", "web"],
    fake=np.array([False, False, True, True, True]),
)


def test_labels_known_in_part() -> None:
    result = summarize(PARTIAL, order="first_to_last", resamples=20)
    assert values(result) == pytest.approx(
        {
            "auc": 5 / 6,  # every image; only 0.4 lies under a real one
            "component_ap": (1 + (1 + 2 / 3) / 2) / 2,
            "multi_label_accuracy": 6 / 7,
            # of the first three images: (), (2), (2, 1) where (), (), (2, 1) are true
            "fixed_accuracy": 5 / 6,
            "adaptive_accuracy": 3 / 4,
            "all_none_floor": 4 / 6,
            "complete_sequences": 2 / 3,
            "pairwise_order": 1,
            "equal_error_rate": 1 / 3,  # between 0.8 and 0.7 a third is missed
            "tpr_at_1_percent_fpr": 2 / 3,
            "order_r2": None,
        },
        abs=1e-9,
    )
    assert (result["pictures"], result["real"]) == (5, 2)
    assert {length: part["pictures"] for length, part in result["by_length"].items()} == {
        "0": 2,
        "2": 1,
        "unknown": 2,
    }
    assert result["by_source"]["web"]["fixed_accuracy"] is None
    json.dumps(result, allow_nan=False)


def test_what_stands_where_the_order_is_unknown_changes_no_figure() -> None:
    other = replace(PARTIAL, sequences=pad_sequences([[], [], [2, 1], [1, 2], [2]], 2))
    assert summarize(other, order="first_to_last", resamples=5) == summarize(
        PARTIAL, order="first_to_last", resamples=5
    )


@pytest.mark.parametrize("reverse", [False, True])
def test_every_forged_image_has_unknown_labels(reverse: bool) -> None:
    """Real against forged keeps its figures; a label without a known forgery has none."""
    blind = replace(
        PARTIAL,
        presence=np.array([[0, 0], [0, 0], [-1, -1], [-1, -1], [-1, -1]]),
        sequences=pad_sequences([[]] * 5, 2),
    )
    thresholds = Thresholds(forged=0.6, real=0.3, components=(0.5, 0.5))
    result = summarize(
        blind,
        order="first_to_last",
        thresholds=thresholds,
        calibration=Calibration(slope=1, intercept=0),
        resamples=20,
        reverse=reverse,
    )
    found = values(result)
    assert found["auc"] == pytest.approx(5 / 6)
    assert found["true_positive_rate"] == pytest.approx(2 / 3)
    assert found["multi_label_accuracy"] == found["fixed_accuracy"] == 3 / 4  # of the real ones
    assert found["component_ap"] is None
    assert found["pairwise_order"] is None
    assert result["by_component"] == result["order_r2_by_component"] == [None, None]
    assert set(result["by_length"]) == {"0", "unknown"}
    forged = blind.rows(blind.forged == 1)
    nothing = values(summarize(forged, order="first_to_last", thresholds=thresholds, resamples=2))
    assert not [name for name, value in nothing.items() if value is not None]


def test_said_or_not_all_known_gives_the_same_figures() -> None:
    said = replace(PREDICTIONS, fake=PREDICTIONS.forged == 1, in_order=np.ones(4, dtype=bool))
    assert summarize(said, order="first_to_last", resamples=5) == summarize(
        PREDICTIONS, order="first_to_last", resamples=5
    )
