"""All figures of predictions: sequences, real against forged, intervals, floors and breakdowns."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forgerank.evaluation.binary import Statistic, binary_figures, called_forged, found_at, is_binary
from forgerank.evaluation.scorers import Predictions
from forgerank.metrics import detection, ordering, sequence
from forgerank.metrics.bootstrap import bootstrap_interval
from forgerank.weights.description import Calibration, Thresholds

# Of these the smallest is the best; of the floor none is.
SMALLER_IS_BETTER = frozenset({"equal_error_rate", "false_positive_rate"})
NOT_AN_ACHIEVEMENT = frozenset({"all_none_floor"})


def summarize(
    predictions: Predictions,
    *,
    order: sequence.Order,
    thresholds: Thresholds | None = None,
    calibration: Calibration | None = None,
    resamples: int = 500,
    reverse: bool = False,
) -> dict[str, Any]:
    """Figures with 95 % bootstrap intervals over groups, JSON-ready.

    0.5 stands in for missing thresholds; beside saved ones, figures that end in `_at_half` tell what 0.5
    gives. Real against forged is over all images, what compares labels over the known ones, what compares
    sequences over the images of known order; None where that leaves none. A network's own sequences are
    judged as they are, whatever the thresholds. `reverse` turns true and answered sequences round before they
    are compared.
    """
    guesses = answered(predictions, order, thresholds)
    statistics = _detection_statistics(predictions, thresholds, calibration)
    statistics |= _sequence_statistics(predictions, guesses, order, reverse=reverse)
    if thresholds is not None and predictions.predicted is None:
        halved = _sequence_statistics(predictions, answered(predictions, order), order, reverse=reverse)
        names = ("multi_label_accuracy", "fixed_accuracy", "adaptive_accuracy")
        statistics |= {f"{name}_at_half": halved[name] for name in names}
    metrics = {
        name: bootstrap_interval(statistic, predictions.groups, resamples=resamples)._asdict()
        for name, statistic in statistics.items()
    }
    result: dict[str, Any] = {
        "pictures": len(predictions.probability),
        "groups": len(set(predictions.groups)),
        "real": int((predictions.forged == 0).sum()),
        "metrics": metrics,
        "by_component": detection.average_precision(
            predictions.presence, predictions.components, predictions.known
        ).tolist(),
        "order_r2_by_component": _order_r2(predictions, guesses, reverse=reverse).tolist(),
        "by_source": _breakdown(predictions.sources, statistics),
        "by_length": _breakdown(_lengths(predictions), statistics),
    }
    if is_binary(predictions):
        result["binary"] = binary_figures(
            predictions, thresholds=thresholds, calibration=calibration, resamples=resamples
        )
    plain: dict[str, Any] = _plain(result)
    return plain


def answered(
    predictions: Predictions, order: sequence.Order, thresholds: Thresholds | None = None
) -> sequence.Labels:
    """The sequences that the network answers, (M, L): its own, or the components above their thresholds."""
    if predictions.predicted is not None:
        return predictions.predicted
    cuts = thresholds.components if thresholds else [0.5] * predictions.presence.shape[1]
    return sequence.predict_sequences(predictions.components, cuts, order, predictions.order)


def flat_metrics(result: dict[str, Any]) -> dict[str, float | None]:
    """Every figure of a summary by name, those of the binary protocol as `condition/figure`."""
    parts = {"": result["metrics"]}
    parts |= {f"{key}/": part["metrics"] for key, part in result.get("binary", {}).items()}
    return {f"{key}{name}": metric["value"] for key, part in parts.items() for name, metric in part.items()}


def best_of(results: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """For every figure the best of several summaries of the same images, and the place of its summary."""
    values = [flat_metrics(result) for result in results]
    best = {}
    for path in values[0]:
        name = path.rpartition("/")[2]
        found = [(value, -place) for place, part in enumerate(values) if (value := part[path]) is not None]
        if name in NOT_AN_ACHIEVEMENT or not found:
            continue
        sign = -1 if name in SMALLER_IS_BETTER else 1
        value, place = max(found, key=lambda pair: (sign * pair[0], pair[1]))
        best[path] = {"value": value, "checkpoint": -place}
    return best


def _detection_statistics(
    predictions: Predictions, thresholds: Thresholds | None, calibration: Calibration | None
) -> dict[str, Statistic]:
    forged, probability = predictions.forged, predictions.probability
    presence, components, known = predictions.presence, predictions.components, predictions.known
    statistics: dict[str, Statistic] = {
        "auc": lambda i: detection.auc(forged[i], probability[i]),
        "component_map": lambda i: detection.mean_average_precision(presence[i], components[i], known[i]),
        "equal_error_rate": lambda i: detection.equal_error_rate(forged[i], probability[i]),
        "tpr_at_1_percent_fpr": lambda i: found_at(forged[i], probability[i], 0.01),
    }
    if thresholds is not None and calibration is not None:
        judged = called_forged(probability, thresholds, calibration)
        statistics["false_positive_rate"] = lambda i: detection.false_positive_rate(forged[i], judged[i], 0.5)
        statistics["true_positive_rate"] = lambda i: detection.false_positive_rate(
            1 - forged[i], judged[i], 0.5
        )
    return statistics


def _sequence_statistics(
    predictions: Predictions, guesses: sequence.Labels, order: sequence.Order, *, reverse: bool
) -> dict[str, Statistic]:
    presence, known, truth = predictions.presence, predictions.known, predictions.sequences
    present = sequence.labels_present(guesses, presence.shape[1])
    true, guess = _turned(truth, guesses, reverse=reverse)
    compared: dict[str, Statistic] = {
        "fixed_accuracy": lambda i: sequence.fixed_accuracy(true[i], guess[i]),
        "adaptive_accuracy": lambda i: sequence.adaptive_accuracy(true[i], guess[i]),
        "all_none_floor": lambda i: sequence.all_none_floor(true[i]),
        "complete_sequences": lambda i: sequence.complete_sequence_share(true[i], guess[i]),
        "pairwise_order": lambda i: ordering.pairwise_order_accuracy(truth[i], predictions.order[i], order),
        "order_r2": lambda i: _mean(ordering.order_r2(true[i], guess[i], presence.shape[1])),
    }
    statistics: dict[str, Statistic] = {
        "multi_label_accuracy": lambda i: sequence.multi_label_accuracy(presence[i], present[i], known[i]),
    }
    ordered = predictions.ordered
    return statistics | {name: _where(ordered, statistic) for name, statistic in compared.items()}


def _where(kept: NDArray[np.bool_], statistic: Statistic) -> Statistic:
    """The statistic of the rows that are kept, (M,); NaN where none is."""

    def of_kept(rows: NDArray[np.int64]) -> float:
        chosen = rows[kept[rows]]
        return statistic(chosen) if len(chosen) else math.nan

    return of_kept


def _lengths(predictions: Predictions) -> list[str]:
    """How many components of each image were manipulated, in figures or as "unknown"."""
    counts = np.where(predictions.known, predictions.presence, 0).sum(axis=1)
    # A forged image without a label was manipulated somewhere else.
    told = predictions.known.all(axis=1) & ((counts > 0) | (predictions.forged == 0))
    return [str(count) if known else "unknown" for count, known in zip(counts, told, strict=True)]


def _order_r2(predictions: Predictions, guesses: sequence.Labels, *, reverse: bool) -> NDArray[np.float64]:
    rows = predictions.ordered
    true, guess = _turned(predictions.sequences[rows], guesses[rows], reverse=reverse)
    return ordering.order_r2(true, guess, predictions.presence.shape[1])


def _turned(
    truth: sequence.Labels, guesses: sequence.Labels, *, reverse: bool
) -> tuple[sequence.Labels, sequence.Labels]:
    if not reverse:
        return truth, guesses
    return sequence.reverse_sequences(truth), sequence.reverse_sequences(guesses)


def _mean(values: NDArray[np.float64]) -> float:
    """Of what is defined."""
    kept = values[~np.isnan(values)]
    return float(kept.mean()) if len(kept) else math.nan


def _breakdown(keys: Sequence[str], statistics: dict[str, Statistic]) -> dict[str, dict[str, float]]:
    names = np.asarray(keys)
    parts: dict[str, dict[str, float]] = {}
    for key in np.unique(names):
        rows = np.flatnonzero(names == key)
        parts[str(key)] = {"pictures": len(rows)} | {n: s(rows) for n, s in statistics.items()}
    return parts


def _plain(value: Any) -> Any:
    """JSON knows no NaN: None stands for it, at any depth."""
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_plain(part) for part in value]
    return None if isinstance(value, float) and math.isnan(value) else value
