import math

import numpy as np
import pytest

from forgerank.metrics.bootstrap import bootstrap_interval


def test_interval_of_a_mean_is_about_two_standard_errors_wide() -> None:
    values = np.random.default_rng(0).standard_normal(400)
    groups = [str(number) for number in range(400)]
    interval = bootstrap_interval(lambda i: float(values[i].mean()), groups, resamples=1000)
    assert interval.value == pytest.approx(values.mean())
    assert interval.low < interval.value < interval.high
    assert interval.high - interval.low == pytest.approx(2 * 1.96 / 20, rel=0.15)


def test_groups_are_drawn_whole() -> None:
    values = np.repeat(np.random.default_rng(0).standard_normal(40), 10)
    grouped = [str(number // 10) for number in range(400)]
    alone = [str(number) for number in range(400)]
    wide, narrow = (
        bootstrap_interval(lambda i: float(values[i].mean()), groups, resamples=400)
        for groups in (grouped, alone)
    )
    # ten equal values each: the standard error grows by the root of ten
    assert (wide.high - wide.low) / (narrow.high - narrow.low) == pytest.approx(10**0.5, rel=0.25)


def test_the_seed_decides_and_undefined_resamples_are_left_out() -> None:
    values = np.array([0.0, 1.0, 2.0])

    def statistic(rows: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> float:
        return float(values[rows].mean()) if len(set(rows)) > 1 else math.nan

    first = bootstrap_interval(statistic, ["a", "b", "c"], resamples=100, seed=5)
    assert first == bootstrap_interval(statistic, ["a", "b", "c"], resamples=100, seed=5)
    assert not math.isnan(first.low)
    undefined = bootstrap_interval(lambda _: math.nan, ["a", "b"], resamples=3)
    assert all(math.isnan(bound) for bound in undefined)


def test_one_group_has_no_interval() -> None:
    interval = bootstrap_interval(lambda rows: float(len(rows)), ["a", "a"], resamples=3)
    assert interval.value == 2
    assert math.isnan(interval.low)
    assert math.isnan(interval.high)
