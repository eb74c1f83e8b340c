"""Plots of an evaluation, a curve for each set: the reliability of its probabilities, and its DET curve."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import DetCurveDisplay

from forgerank.detect.verdict import calibrated
from forgerank.evaluation.calibration import balanced_weights
from forgerank.evaluation.scorers import Predictions
from forgerank.files import make_folder, write_atomic
from forgerank.weights.description import Calibration

BINS = 10  # of a reliability diagram, of equal width
_FEWEST = 5  # faces of a bin that is drawn


class Reliability(NamedTuple):
    """Of each bin that holds enough faces."""

    predicted: NDArray[np.float64]  # mean probability, 0..1
    observed: NDArray[np.float64]  # share of forged faces at even prior odds, 0..1
    faces: NDArray[np.int64]


def reliability(forged: ArrayLike, probability: ArrayLike) -> Reliability:
    """How often faces of each probability are forged, real and forged ones weighing the same as a whole.

    forged (M,) in {0, 1} with both classes; probability (M,), 0..1, calibrated at even prior odds: where a
    set holds more of one class, plain shares would show that and not the calibration.

    >>> reliability([0] * 6 + [1] * 6, [0.25] * 6 + [0.75] * 6).observed.tolist()
    [0.0, 1.0]
    """
    labels, values = np.asarray(forged), np.asarray(probability, dtype=np.float64)
    weights = balanced_weights(labels)
    bins = np.minimum((values * BINS).astype(np.int64), BINS - 1)
    faces = np.bincount(bins, minlength=BINS)
    total, predicted, observed = (
        np.bincount(bins, weights=weights * part, minlength=BINS) for part in (1.0, values, labels)
    )
    kept = faces >= _FEWEST
    return Reliability(predicted[kept] / total[kept], observed[kept] / total[kept], faces[kept])


def reliability_diagram(sets: Mapping[str, Predictions], calibration: Calibration | None) -> Figure:
    """A line for each set; the diagonal is that of probabilities that keep their word."""
    figure = Figure(figsize=(8, 6), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="black", linewidth=0.8, linestyle="--")
    for name, part in _with_both_classes(sets).items():
        values = part.probability if calibration is None else calibrated(part.probability, calibration)
        found = reliability(part.forged, values)
        axes.plot(found.predicted, found.observed, marker=".", label=name)
    kind = "P(x), not calibrated" if calibration is None else "calibrated probability of a forgery"
    axes.set(xlabel=kind, ylabel="share of forged faces, at even prior odds", xlim=(0, 1), ylim=(0, 1))
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper")
    return figure


def det_diagram(sets: Mapping[str, Predictions]) -> Figure:
    """Detection error tradeoff: missed forgeries over false alarms, on normal deviate scales."""
    figure = Figure(figsize=(8, 6), layout="constrained")
    axes = figure.subplots()
    for name, part in _with_both_classes(sets).items():
        DetCurveDisplay.from_predictions(part.forged, part.probability, name=name, ax=axes)
    axes.set(xlabel="real faces called forged", ylabel="forged faces missed")
    axes.grid(alpha=0.3)
    if (legend := axes.get_legend()) is not None:
        legend.remove()
    figure.legend(loc="outside right upper")
    return figure


def save_plots(sets: Mapping[str, Predictions], folder: Path, calibration: Calibration | None) -> list[Path]:
    """Write reliability.png and det.png into `folder`, which is made; returns their paths.

    A set of one class has no curve. Raises InputError for a place that cannot be written to.
    """
    make_folder(folder)
    figures = {"reliability": reliability_diagram(sets, calibration), "det": det_diagram(sets)}
    paths = []
    for name, figure in figures.items():
        content = io.BytesIO()
        figure.savefig(content, format="png", dpi=120)
        paths.append(folder / f"{name}.png")
        write_atomic(paths[-1], content.getvalue())
    return paths


def _with_both_classes(sets: Mapping[str, Predictions]) -> dict[str, Predictions]:
    return {name: part for name, part in sets.items() if 0 < part.forged.mean() < 1}
