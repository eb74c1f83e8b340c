from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm

pytest.importorskip("matplotlib")

from forgerank.evaluation.plots import det_diagram, reliability, reliability_diagram, save_plots
from forgerank.evaluation.scorers import Predictions
from forgerank.weights.description import Calibration


def predictions(probability: list[float], forged: list[int]) -> Predictions:
    labels = np.array(forged)[:, None]
    names = [str(number) for number in range(len(forged))]
    values = np.array(probability)
    return Predictions(values, values[:, None], values[:, None], labels, labels, names, names)


# Ten faces of 0.25, of which one is forged, and thirty of 0.75, of which nine are real.
SET = predictions([0.25] * 10 + [0.75] * 30, [1] + [0] * 9 + [0] * 9 + [1] * 21)


def test_reliability_weighs_both_classes_the_same() -> None:
    found = reliability(SET.forged, SET.probability)
    assert found.predicted.tolist() == pytest.approx([0.25, 0.75])
    assert found.faces.tolist() == [10, 30]
    # 22 forged, 18 real: each class has the weight 1
    low, high = (1 / 22) / (1 / 22 + 9 / 18), (21 / 22) / (21 / 22 + 9 / 18)
    assert found.observed.tolist() == pytest.approx([low, high])
    more = np.r_[SET.forged, np.zeros(18, int)], np.r_[SET.probability, SET.probability[SET.forged == 0]]
    assert reliability(*more).observed.tolist() == pytest.approx([low, high])  # as many more real ones
    few = reliability([0, 1] * 5 + [1], [0.1] * 10 + [0.95])
    assert few.faces.tolist() == [10]  # one face makes no rate


def test_probabilities_of_their_own_odds_lie_on_the_diagonal() -> None:
    rng = np.random.default_rng(0)
    probability = rng.uniform(size=40_000)
    forged = (rng.uniform(size=40_000) < probability).astype(int)
    found = reliability(forged, probability)
    assert len(found.faces) == 10
    assert found.observed == pytest.approx(found.predicted, abs=0.03)


def test_what_is_drawn() -> None:
    calibration = Calibration(slope=2.0, intercept=0.0)
    [axes] = reliability_diagram({"one": SET, "real": replace(SET, presence=SET.presence * 0)}, None).axes
    assert [line.get_label() for line in axes.lines[1:]] == ["one"]  # of one class there is no curve
    assert axes.lines[1].get_xdata() == pytest.approx([0.25, 0.75])
    [axes] = reliability_diagram({"one": SET}, calibration).axes
    assert axes.lines[1].get_xdata() == pytest.approx([0.1, 0.9])  # odds of 1/3 and 3, squared
    [axes] = det_diagram({"one": SET}).axes
    drawn = np.column_stack([axes.lines[0].get_xdata(), axes.lines[0].get_ydata()])
    expected = norm.ppf([9 / 18, 1 / 22])  # 0.75 called forged: real ones above it, and the forged one below
    assert any(point == pytest.approx(expected) for point in drawn)


def test_both_plots_are_written(tmp_path: Path) -> None:
    paths = save_plots({"one": SET}, tmp_path / "new" / "plots", None)
    assert [path.name for path in paths] == ["reliability.png", "det.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)
