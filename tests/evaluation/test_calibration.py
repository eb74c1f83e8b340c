from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forgerank.detect.verdict import calibrate as calibrate_one
from forgerank.detect.verdict import calibrated
from forgerank.evaluation.calibration import (
    balanced_weights,
    calibrate,
    choose_thresholds,
    fit_calibration,
    held_out_rates,
    verdict_rates,
)
from forgerank.evaluation.scorers import Predictions, join
from forgerank.types import InputError
from forgerank.weights.description import Calibration


def sigmoid(
    values: np.ndarray[tuple[int], np.dtype[np.float64]],
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return 1 / (1 + np.exp(-values))


def test_platt_finds_the_transformation_that_made_the_labels() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, size=20_000)
    labels = rng.random(20_000) < sigmoid(0.5 * logits)
    found = fit_calibration(sigmoid(logits), labels.astype(int))
    assert found.slope == pytest.approx(0.5, abs=0.05)
    assert found.intercept == pytest.approx(0, abs=0.05)


def test_the_mixture_does_not_shift_the_calibration() -> None:
    rng = np.random.default_rng(0)
    scores = np.concatenate([rng.normal(-1, 1, 2000), rng.normal(1, 1, 8000)])
    labels = np.repeat([0, 1], [2000, 8000])
    assert fit_calibration(sigmoid(scores), labels).intercept == pytest.approx(0, abs=0.15)


def test_calibration_agrees_with_the_detector_and_keeps_the_order() -> None:
    calibration = Calibration(slope=1.7, intercept=-0.4)
    values = np.array([0.0, 1e-9, 0.2, 0.5, 0.99999, 1.0])
    found = calibrated(values, calibration)
    assert found.tolist() == pytest.approx([calibrate_one(value, calibration) for value in values])
    assert (np.diff(found) >= 0).all()
    assert 0 < found[0] < found[-1] < 1


def test_useless_predictions_are_refused() -> None:
    with pytest.raises(InputError, match="real and forged"):
        fit_calibration([0.1, 0.2], [1, 1])
    with pytest.raises(InputError, match="no larger"):
        fit_calibration([0.9, 0.8, 0.2, 0.1], [0, 0, 1, 1])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0, 3))
def test_thresholds_keep_their_promises(seed: int, separation: float) -> None:
    rng = np.random.default_rng(seed)
    presence = (rng.random((300, 5)) < 0.2).astype(int)
    presence[0], presence[1] = 0, 1
    forged = presence.max(axis=1)
    probability = sigmoid(rng.normal(0, 1, 300) + separation * (2 * forged - 1))
    components = sigmoid(rng.normal(0, 1, (300, 5)) + separation * (2 * presence - 1))
    found = choose_thresholds(probability, components, presence)
    assert 0.5 <= found.forged <= 1
    assert found.real <= found.forged
    assert (probability[forged == 0] >= found.forged).mean() <= 0.01
    assert (probability[forged == 1] < found.real).mean() <= 0.10
    for i, threshold in enumerate(found.components):
        right = ((components[:, i] >= threshold) == presence[:, i]).mean()
        others = [((components[:, i] >= cut) == presence[:, i]).mean() for cut in np.linspace(0, 1, 101)]
        assert right >= max(others) - 1e-9


def test_component_thresholds_stay_at_the_middle_of_a_gap() -> None:
    presence = np.array([[0], [0], [1], [1]])
    found = choose_thresholds([0.1, 0.2, 0.9, 0.9], [[0.1], [0.2], [0.6], [0.9]], presence)
    assert found.components == (pytest.approx(0.4),)
    # 0.5 parts the classes of the probability as well as anything between 0.2 and 0.9
    assert found.forged == 0.5


def predictions(rng: np.random.Generator, count: int, separation: float) -> Predictions:
    forged = rng.integers(0, 2, size=count)
    presence = np.repeat(forged[:, None], 5, axis=1)
    return Predictions(
        probability=sigmoid(rng.normal(separation * forged, 1.0)),
        components=presence.astype(np.float64),
        order=presence.astype(np.float64),
        presence=presence,
        sequences=presence,
        groups=[f"person-{i // 4}" for i in range(count)],
        sources=["here"] * count,
    )


def test_held_out_rates_are_near_the_promise_and_find_what_can_be_found() -> None:
    plain, degraded = (predictions(np.random.default_rng(seed), 4000, separation=4.0) for seed in (0, 1))
    rates = held_out_rates(plain, degraded)
    assert list(rates["sources"]) == ["here"]
    for found in (rates["plain"], rates["wild"], rates["sources"]["here"]):
        assert found["false_positive_rate"] == pytest.approx(0.01, abs=0.008)
        assert found["true_positive_rate"] > 0.9
        assert found["miss_rate"] < 0.13


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(10, 400))
def test_every_source_weighs_the_same_and_each_keeps_a_promise_of_its_own(seed: int, size: int) -> None:
    """A small source whose real faces score high moves the thresholds as much as a large one."""
    rng = np.random.default_rng(seed)
    sources = np.repeat(["large", "small"], [2000, size])
    forged = rng.integers(0, 2, len(sources))
    forged[[0, 1, -1, -2]] = 0, 1, 0, 1
    odd = sources == "small"
    probability = sigmoid(rng.normal(0, 1, len(sources)) + 3 * forged + 1.5 * odd)
    presence = forged[:, None]
    found = choose_thresholds(probability, probability[:, None], presence, sources=sources.tolist())
    called, real = probability >= found.forged, forged == 0
    shares = [called[real & rows].mean() for rows in (odd, ~odd)]
    assert np.mean(shares) <= 0.01 + 1e-9
    if (real & odd).sum() >= 50:
        assert max(shares) <= 0.02 + 1e-9
    misses = [(probability < found.real)[~real & rows].mean() for rows in (odd, ~odd)]
    assert np.mean(misses) <= 0.10 + 1e-9


def test_many_images_of_one_person_do_not_decide_for_a_source() -> None:
    """Two of a hundred people may be called forged, however many images there are of them."""
    rng = np.random.default_rng(0)
    people = np.concatenate([np.arange(100), np.zeros(6), np.arange(1000, 7000)]).astype(int)
    sources = [str(max(number // 300, 1)) for number in people]  # of each of the others 300 people
    forged = np.concatenate([np.zeros(106), np.tile([0, 1], 3000)]).astype(int)
    probability = np.where(people < 2, 0.95, rng.uniform(0.1, 0.8, len(people)) + 0.1 * forged)
    scores, presence = probability[:, None], forged[:, None]
    counted = choose_thresholds(
        probability, scores, presence, sources=sources, groups=[str(one) for one in people]
    )
    assert counted.forged < 0.95 < choose_thresholds(probability, scores, presence, sources=sources).forged
    few = [str(one % 49 if one < 1000 else one) for one in people]  # no rate of its own
    assert choose_thresholds(probability, scores, presence, sources=sources, groups=few).forged < 0.95


def test_the_sources_of_a_mixture_weigh_the_same_however_many_data_sets_they_hold() -> None:
    rng = np.random.default_rng(0)
    made, found = (predictions(rng, count, separation=gap) for count, gap in ((8000, 2.0), (1000, 6.0)))
    sets = [f"set {i % 8}" for i in range(8000)]
    both = join(
        replace(made, sources=sets, ingredients=["edits"] * 8000),
        replace(found, sources=["swaps"] * 1000, ingredients=["swaps"] * 1000),
    )
    calibration, thresholds = calibrate(both)
    values, forged, parts = (
        calibrated(both.probability, calibration),
        both.forged == 1,
        np.array(both.balanced),
    )
    missed = [(values < thresholds.real)[forged & (parts == part)].mean() for part in ("edits", "swaps")]
    assert np.mean(missed) == pytest.approx(0.10, abs=0.002)
    assert list(held_out_rates(both, both)["sources"]) == ["edits", "swaps"]
    apart = replace(both, ingredients=None)
    assert list(apart.balanced) == list(apart.sources)
    assert calibrate(apart)[1].real < thresholds.real  # there the edits are eight sources of nine


def test_degraded_images_decide_with_the_others_but_not_on_what_is_called_real() -> None:
    plain, degraded = (
        predictions(np.random.default_rng(seed), 4000, separation=gap) for seed, gap in ((0, 2.0), (1, 1.0))
    )
    calibration, thresholds = calibrate(plain, degraded)
    assert calibration == calibrate(join(plain, degraded))[0]
    values = calibrated(plain.probability, calibration)[plain.forged == 1]
    assert (values < thresholds.real).mean() == pytest.approx(0.10, abs=0.002)
    assert thresholds.forged == calibrate(join(plain, degraded))[1].forged
    assert calibrate(join(plain, degraded))[1].real < thresholds.real


def test_a_rare_source_weighs_as_much_as_a_common_one_in_the_calibration() -> None:
    rng = np.random.default_rng(0)
    forged = np.tile([0, 1], 2200)
    sources = np.repeat(["common", "rare"], [4000, 400])
    shift = np.where(sources == "rare", 4.0, 0.0)  # all of its faces score higher
    probability = sigmoid(rng.normal(4.0 * forged - 2 + shift, 1.0))
    pooled = fit_calibration(probability, forged)
    level = fit_calibration(probability, forged, sources=sources.tolist())
    again = fit_calibration(
        np.concatenate([probability, np.tile(probability[4000:], 9)]),
        np.concatenate([forged, np.tile(forged[4000:], 9)]),
    )
    assert level.intercept == pytest.approx(again.intercept, abs=1e-3)
    assert level.intercept < pooled.intercept - 0.3


def test_balanced_weights_sum_to_one_in_each_class() -> None:
    forged = np.array([0, 0, 0, 1, 1, 1, 1])
    weights = balanced_weights(forged, ["a", "a", "b", "a", "b", "c", "c"])
    assert weights.tolist() == pytest.approx([1 / 4, 1 / 4, 1 / 2, 1 / 3, 1 / 3, 1 / 6, 1 / 6])


def test_rates_of_verdicts() -> None:
    forged = [0, 0, 0, 0, 1, 1]
    rates = verdict_rates(forged, [1, 0, 0, 0, 1, 0], [0, 1, 1, 0, 0, 1], ["a", "a", "a", "b", "a", "b"])
    assert rates == {
        "false_positive_rate": pytest.approx(1 / 6), "real_rate": pytest.approx(1 / 3),
        "true_positive_rate": pytest.approx(1 / 2), "miss_rate": pytest.approx(1 / 2),
        "undetermined": pytest.approx(1 / 4),
    }  # fmt: skip
    assert set(verdict_rates([1], [1], [0])) == {"true_positive_rate", "miss_rate", "undetermined"}


def test_a_person_is_not_judged_by_a_threshold_of_their_own() -> None:
    """One person's real images score highest: a threshold that knew them would let them pass."""
    plain, degraded = (predictions(np.random.default_rng(seed), 2000, separation=4.0) for seed in (2, 3))
    for part in (plain, degraded):
        odd = np.array([group == "person-3" for group in part.groups])
        part.presence[odd] = 0
        part.probability[odd] = 0.99999
    rates = held_out_rates(plain, degraded)
    assert rates["plain"]["false_positive_rate"] >= odd.sum() / (plain.forged == 0).sum()


def test_sequences_of_its_own_change_no_threshold() -> None:
    plain, degraded = (predictions(np.random.default_rng(seed), 400, separation=4.0) for seed in (0, 1))
    own, own_degraded = (replace(part, predicted=part.sequences) for part in (plain, degraded))
    assert calibrate(own) == calibrate(plain)
    assert held_out_rates(own, own_degraded) == held_out_rates(plain, degraded)


def test_thresholds_are_chosen_on_known_labels() -> None:
    scores = np.array([[0.1, 0.3, 0.2], [0.2, 0.3, 0.2], [0.6, 0.3, 0.2], [0.9, 0.3, 0.2], [0.15, 0.3, 0.2]])
    presence = np.array([[0, 0, 0], [0, 0, 0], [1, -1, -1], [1, -1, 1], [-1, -1, -1]])
    forged = [0, 0, 1, 1, 1]
    found = choose_thresholds([0.1, 0.2, 0.9, 0.9, 0.8], scores, presence, forged=forged)
    # The last image may hold the first label. The second is known of real images alone; of the third
    # one image of three tells, and no threshold parts equal scores: the majority decides.
    assert found.components == (pytest.approx(0.4), 0.5, 1.0)
    assert found.forged == found.real == 0.5
    told = choose_thresholds([0.1, 0.2, 0.9, 0.9], scores[:4], np.maximum(presence[:4], 0), forged=forged[:4])
    assert told == choose_thresholds([0.1, 0.2, 0.9, 0.9], scores[:4], np.maximum(presence[:4], 0))


def test_calibration_needs_no_known_label() -> None:
    plain, degraded = (predictions(np.random.default_rng(seed), 400, separation=4.0) for seed in (0, 1))
    blind, blind_degraded = (
        replace(part, presence=np.where(part.presence == 1, -1, 0), fake=part.forged == 1)
        for part in (plain, degraded)
    )
    (calibration, thresholds), (expected, wanted) = calibrate(blind), calibrate(plain)
    assert calibration == expected
    assert (thresholds.forged, thresholds.real) == (wanted.forged, wanted.real)
    assert thresholds.components == (0.5,) * 5
    assert held_out_rates(blind, blind_degraded) == held_out_rates(plain, degraded)
