"""Runs of forged moments: the exact chance against enumeration, and false alarms in simulated real tracks."""

from itertools import pairwise, product

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import norm
from scipy.stats import t as student

from forgerank.detect.stretches import (
    CLEAR_RATE,
    CORRELATION_TIME,
    DOUBTS,
    FALSE_ALARMS,
    REAL_RATE,
    find_doubts,
    find_stretches,
    own_rate,
    run_chance,
    shortest_run,
)

THRESHOLD = 0.9


def probabilities(letters: str) -> list[float]:
    """f: forged; anything else is not."""
    return [0.98 if letter == "f" else 0.4 for letter in letters]


def wandering(rng: np.random.Generator, count: int, people: int, step: float) -> np.ndarray:
    """(count, people) of deviation 1, whose correlation falls to 0.67 in half a second."""
    kept = 0.67 ** (step / 0.5)
    wander = rng.normal(size=(count, people))
    for number in range(1, count):
        wander[number] = kept * wander[number - 1] + np.sqrt(1 - kept**2) * wander[number]
    return wander


def spans(letters: str, step: float = 0.5) -> list[tuple[float, float, int]]:
    times = step * np.arange(len(letters))
    found = find_stretches(times, probabilities(letters), THRESHOLD)
    return [(stretch.start, stretch.end, stretch.moments) for stretch in found]


@pytest.mark.parametrize(("rate", "correlation"), [(0.01, 0.0), (0.3, 0.5), (0.9, 0.2), (0.2, 1.0)])
@pytest.mark.parametrize("length", [1, 2, 3, 7, 8, 9])
def test_the_chance_is_that_of_all_sequences(length: int, rate: float, correlation: float) -> None:
    moments, total = 8, 0.0
    for states in product([0, 1], repeat=moments):
        chance = rate if states[0] else 1 - rate
        for before, after in pairwise(states):
            forged = rate + correlation * (before - rate)
            chance *= forged if after else 1 - forged
        runs = "".join(map(str, states)).split("00")  # one that is not forged does not end a run
        total += chance * any(run.count("1") >= length for run in runs)
    assert run_chance(length, moments, rate, correlation) == pytest.approx(total, abs=1e-12)


def test_the_shortest_run_is_the_first_that_is_rare_enough() -> None:
    for moments in (1, 5, 86, 600):
        length = shortest_run(moments, REAL_RATE, 0.4)
        assert run_chance(length, moments, REAL_RATE, 0.4) <= FALSE_ALARMS
        assert length == 1 or run_chance(length - 1, moments, REAL_RATE, 0.4) > FALSE_ALARMS
    assert shortest_run(5, 1.0, 0.4) == 6  # none is rare where all are forged


def test_three_forged_seconds_of_43_are_found() -> None:
    assert spans("." * 40 + "f" * 6 + "." * 40) == [(19.75, 22.75, 6)]
    assert spans("f" * 6 + "." * 80) == [(0.0, 2.75, 6)]
    assert spans("." * 80 + "f" * 6) == [(39.75, 42.5, 6)]
    assert spans("." * 40 + "f" * 6 + "." * 14 + "f" * 8 + "." * 40) == [(19.75, 22.75, 6), (29.75, 33.75, 8)]


def test_less_is_not_a_finding() -> None:
    assert spans("." * 40 + "f" * 4 + "." * 40) == []
    assert spans("." * 40 + "fff..fff" + "." * 40) == []
    assert spans("." * 300 + "f" * 6 + "." * 300) == []  # among so many moments, a real face may show it
    assert spans("") == spans("f") == spans("ff") == spans("." * 9) == []
    assert spans("." * 40 + "f" * 6 + "." * 40, step=0.1) == []  # moments so close say the same


def test_one_moment_below_the_threshold_does_not_end_a_run() -> None:
    assert spans("." * 40 + "fff.fff" + "." * 40) == [(19.75, 23.25, 6)]
    [found] = find_stretches(np.arange(87) / 2, probabilities("." * 40 + "fff.fff" + "." * 40), THRESHOLD)
    assert found.forged_probability == 0.98
    assert found.chance == run_chance(6, 87, 1 / 81, np.exp(-0.5 / CORRELATION_TIME))


@pytest.mark.parametrize(("other", "needed"), [(0.1, 5), (0.3, 6), (0.85, 6)])
def test_a_face_that_is_else_far_below_the_threshold_needs_fewer(other: float, needed: int) -> None:
    for count in (needed - 1, needed):
        scores = np.full(86, other)
        scores[30 : 30 + count] = 0.98
        found = find_stretches(np.arange(86) / 2, scores, THRESHOLD)
        assert [stretch.moments for stretch in found] == [count] * (count == needed)


def test_what_is_no_finding_may_be_a_doubt() -> None:
    times = np.arange(86) / 2
    scores = np.full(86, 0.14)
    assert find_doubts(times, scores, 0.93) == ()
    for short in ([0.98] * 4, [0.91, 0.91, 0.77, 0.88, 0.9, 0.92]):
        scores[40 : 40 + len(short)] = short
        assert find_stretches(times, scores, 0.93) == ()
        [doubt] = find_doubts(times, scores, 0.93)
        assert (doubt.start, doubt.end) == (19.75, 19.75 + len(short) / 2)
        assert doubt.forged_probability == np.median(short)
        assert FALSE_ALARMS < doubt.chance <= DOUBTS
    scores[40:46] = [0.91, 0.14, 0.14, 0.14, 0.9, 0.92]
    assert find_doubts(times, scores, 0.93) == ()


def test_own_rate() -> None:
    low = np.full(80, 0.1)
    distance = 2 * np.log(9) / np.sqrt(1 + (1 + 0.4) / (1 - 0.4) / 80)
    assert own_rate(low, 0.9, 0.4) == pytest.approx(student.sf(distance, 4))
    # few moments, and those that differ, say less; however far below, it is 0.2 %
    assert own_rate(low, 0.9, 0.4) < own_rate(low[:10], 0.9, 0.4) < own_rate(low[:10], 0.9, 0.8)
    assert own_rate(low, 0.9, 0.4) < own_rate(np.r_[low[:40] / 50, low[:39], 0.89], 0.9, 0.4)
    assert own_rate(low / 1000, 0.9, 0.4) == CLEAR_RATE
    # near the threshold, or where it was reached: by the count
    assert own_rate(np.full(80, 0.85), 0.9, 0.4) == 1 / 81
    assert own_rate(np.full(200, 0.85), 0.9, 0.4) == REAL_RATE
    assert own_rate([*low, 0.95], 0.9, 0.4) == 2 / 82
    assert own_rate([], 0.9, 0.4) == 1
    assert own_rate(low, 0.9, 1.0) == 1 / 81  # moments of one time


def test_a_face_that_reaches_the_threshold_again_and_again_is_tested_at_its_own_rate() -> None:
    assert spans("ff..f..fff..f...ff..fff..f..ff." + "f" * 6 + "..ff..f...fff..f..ff..f..fff.f.") == []


def test_a_run_ends_where_the_face_is_away() -> None:
    times = np.r_[0.5 * np.arange(43), 60 + 0.5 * np.arange(43)]
    assert find_stretches(times, probabilities("." * 40 + "f" * 6 + "." * 40), THRESHOLD) == ()
    [found] = find_stretches(times, probabilities("." * 37 + "f" * 6 + "." * 43), THRESHOLD)
    assert (found.start, found.end) == (18.25, 21.25)


@pytest.mark.parametrize("step", [0.5, 0.2])
@pytest.mark.parametrize("count", [60, 240])
@pytest.mark.parametrize(("between", "within"), [(0.0, 1.0), (0.75, 0.75), (0.95, 0.55)])
def test_false_alarms_of_real_faces(between: float, within: float, count: int, step: float) -> None:
    """Scores of 1,000 people who differ and wander: 1 % of all moments reach the threshold.

    Their correlation falls as in a real video: to 0.67 in half a second.
    """
    rng = np.random.default_rng(0)
    people = 1000
    wander = wandering(rng, count, people, step)
    scores = (rng.normal(0, between, people) + within * wander).T
    threshold = 2.3263 * np.hypot(between, within)
    assert (scores >= threshold).mean() == pytest.approx(REAL_RATE, abs=0.004)
    judged = scores[np.median(scores, axis=1) < threshold]  # the others are forged as a whole
    alarms = sum(
        bool(find_stretches(step * np.arange(count), expit(row), expit(threshold))) for row in judged
    )
    assert alarms / people <= FALSE_ALARMS


@pytest.mark.parametrize("step", [0.5, 0.2])
@pytest.mark.parametrize("count", [40, 200])
@pytest.mark.parametrize(("level", "between"), [(-1.8, 0.0), (-1.5, 1.0)])
def test_false_alarms_of_faces_that_are_mostly_far_below(
    level: float, between: float, count: int, step: float
) -> None:
    """Log-odds with the heavy tails of Student's t with three degrees of freedom about a face's own level."""
    rng = np.random.default_rng(2)
    people = 1000
    wander = wandering(rng, count, people, step)
    scores = (rng.normal(level, between, people) + student.ppf(norm.cdf(wander), 3)).T
    threshold = 2.65
    assert (scores >= threshold).mean() > 0.008
    judged = scores[np.median(scores, axis=1) < threshold]
    alarms = sum(
        bool(find_stretches(step * np.arange(count), expit(row), expit(threshold))) for row in judged
    )
    assert alarms / people <= FALSE_ALARMS
    doubts = sum(bool(find_doubts(step * np.arange(count), expit(row), expit(threshold))) for row in judged)
    assert doubts / people <= DOUBTS


@pytest.mark.parametrize("count", [20, 86, 300])
@pytest.mark.parametrize("spread", [False, True])
@pytest.mark.parametrize("rate", [REAL_RATE, 0.05])
def test_false_alarms_of_the_model_itself(rate: float, spread: bool, count: int) -> None:
    """Also of faces that reach the threshold at five times the rate that it was chosen for, as in videos,
    all of them alike or some of them much more often."""
    rng = np.random.default_rng(1)
    people, correlation = 3000, float(np.exp(-0.5 / CORRELATION_TIME))
    rates = rng.beta(1, 1 / rate - 1, people) if spread else np.full(people, rate)
    states = np.empty((count, people), bool)
    states[0] = rng.random(people) < rates
    for number in range(1, count):
        states[number] = rng.random(people) < rates + correlation * (states[number - 1] - rates)
    judged = [0.4 + 0.2 * row for row in states.T if np.median(row) < 0.5]  # just below, and above
    alarms = sum(bool(find_stretches(0.5 * np.arange(count), row, 0.5)) for row in judged)
    assert alarms / people <= FALSE_ALARMS + 1.7 * np.sqrt(FALSE_ALARMS / people)


def test_a_short_track_says_little_of_its_own_rate() -> None:
    assert spans("." * 17 + "fffff" + "." * 18) == []
    assert spans("." * 17 + "ffffff" + "." * 17) == [(8.25, 11.25, 6)]
