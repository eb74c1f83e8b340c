"""All metrics of predictions: real against forged, components, sequences; with intervals and breakdowns."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from forgerank import labels
from forgerank.detect.result import likelihood_ratio
from forgerank.detect.verdict import calibrated
from forgerank.evaluation.binary import Statistic, binary_metrics, called_forged, is_binary
from forgerank.evaluation.calibration import balanced_weights, verdict_rates
from forgerank.evaluation.scorers import JUDGED, NOT_JUDGED, Predictions
from forgerank.labels import Order, Sequences
from forgerank.metrics import detection, sequence
from forgerank.metrics.bootstrap import bootstrap_interval
from forgerank.metrics.torchmetric import SequenceMetrics
from forgerank.weights.description import Calibration, Thresholds

# Metrics of which the smallest value is the best, and those that depend on the data alone.
SMALLER_IS_BETTER = frozenset({"equal_error_rate", "false_positive_rate"})
NOT_AN_ACHIEVEMENT = frozenset({"all_none_floor"})

VERDICT_RATES = ("false_positive_rate", "real_rate", "true_positive_rate", "miss_rate", "undetermined")


def summarize(
    predictions: Predictions,
    *,
    order: Order,
    thresholds: Thresholds | None = None,
    calibration: Calibration | None = None,
    resamples: int = 500,
    reverse: bool = False,
) -> dict[str, Any]:
    """Metrics with 95 % bootstrap intervals over groups, JSON-ready; None where a metric is undefined.

    Without thresholds 0.5 is used; with them, metrics that end in `_at_half` are those of 0.5. Real against
    forged is measured over all images, components over the known labels, sequences over the images of known
    order. "whole_images" counts those that were judged on the whole image, resized, in place of an aligned
    crop: where no face was found, or with alignment off. Sequences that a network itself predicts depend on
    no threshold. With `reverse`, true and predicted sequences are reversed before they are compared.
    """
    guesses = predicted_sequences(predictions, order, thresholds)
    true, guess = (part[predictions.ordered] for part in _compared(predictions, guesses, reverse=reverse))
    statistics = _detection_statistics(predictions, thresholds, calibration)
    statistics |= _sequence_statistics(predictions, guesses, order, reverse=reverse)
    if thresholds is not None and predictions.predicted is None:
        at_half = predicted_sequences(predictions, order)
        halved = _sequence_statistics(predictions, at_half, order, reverse=reverse)
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
        "whole_images": int(predictions.unaligned.sum()),
        "metrics": metrics,
        "by_component": detection.average_precision(
            predictions.presence, predictions.components, predictions.known
        ).tolist(),
        "order_r2_by_component": sequence.order_r2(true, guess, predictions.presence.shape[1]).tolist(),
        "by_source": _breakdown(predictions.sources, statistics),
        "by_length": _breakdown(_lengths(predictions), statistics),
    }
    if is_binary(predictions):
        result["binary"] = binary_metrics(
            predictions, thresholds=thresholds, calibration=calibration, resamples=resamples
        )
    values: dict[str, Any] = plain(result)
    return values


def set_metrics(
    predictions: Predictions,
    *,
    order: Order,
    thresholds: Thresholds | None = None,
    calibration: Calibration | None = None,
    resamples: int = 500,
) -> dict[str, float]:
    """The row of one data set: counts, the metrics of a validation at 0.5 (`SequenceMetrics`), and those of
    `_set_statistics` with their 95 % bootstrap interval over groups, `auc` from `auc_low` to `auc_high`.

    NaN where a metric is undefined; those that need thresholds and calibration are left out without them.
    Faces that cannot be judged get no verdict: `undetermined` counts them, and `unjudged` them alone.
    """
    shown = SequenceMetrics(predictions.presence.shape[1], order)
    own = predictions.predicted
    shown.update(
        torch.from_numpy(predictions.probability),
        torch.from_numpy(predictions.components),
        torch.from_numpy(predictions.order),
        torch.from_numpy(predictions.presence),
        torch.from_numpy(predictions.sequences),
        None if own is None else torch.from_numpy(own),
        forged=torch.from_numpy(predictions.forged),
        known=torch.from_numpy(predictions.known),
        ordered=torch.from_numpy(predictions.ordered),
    )
    row: dict[str, float] = {
        "images": len(predictions.probability),
        "real": int((predictions.forged == 0).sum()),
        "groups": len(set(predictions.groups)),
        "whole_images": int(predictions.unaligned.sum()),
    }
    row |= {name: float(value) for name, value in shown.compute().items()}
    for name, statistic in _set_statistics(predictions, order, thresholds, calibration).items():
        found = bootstrap_interval(statistic, predictions.groups, resamples=resamples)
        row |= {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}
    return row


def _set_statistics(
    predictions: Predictions, order: Order, thresholds: Thresholds | None, calibration: Calibration | None
) -> dict[str, Statistic]:
    forged, probability, truth = predictions.forged, predictions.probability, predictions.sequences
    given, components, known = predictions.presence, predictions.components, predictions.known
    if given.shape[1] == 1:  # the only label is "forged"
        given, known = forged[:, None], np.ones_like(known)
    statistics: dict[str, Statistic] = {
        "auc": lambda i: detection.auc(forged[i], probability[i]),
        "equal_error_rate": lambda i: detection.equal_error_rate(forged[i], probability[i]),
        "tpr_at_1_percent_fpr": lambda i: detection.tpr_at_fpr(forged[i], probability[i], 0.01),
        "map": lambda i: detection.mean_average_precision(given[i], components[i], known[i]),
        "order": _where(
            predictions.ordered,
            lambda i: sequence.pairwise_order_accuracy(truth[i], predictions.order[i], order),
        ),
        "min_cllr": lambda i: detection.min_cllr(forged[i], probability[i]),
    }
    if thresholds is None or calibration is None:
        return statistics
    found = calibrated(probability, calibration)
    odds = np.array([likelihood_ratio(value) for value in found])
    judged = np.full(len(found), JUDGED) if predictions.judged is None else predictions.judged
    called = (judged != NOT_JUDGED) & (found >= thresholds.forged)
    cleared = (judged == JUDGED) & (found < thresholds.real)
    if predictions.judged is not None:
        unjudged = judged == NOT_JUDGED
        statistics["unjudged"] = lambda i: float(np.average(unjudged[i], weights=balanced_weights(forged[i])))

    def rate(name: str) -> Statistic:
        return lambda i: verdict_rates(forged[i], called[i], cleared[i]).get(name, math.nan)

    statistics["cllr"] = lambda i: detection.cllr(forged[i], odds[i])
    return statistics | {name: rate(name) for name in VERDICT_RATES}


def predicted_sequences(
    predictions: Predictions, order: Order, thresholds: Thresholds | None = None
) -> Sequences:
    """(M, L) padded: what the network itself predicts, or the components that reach their thresholds."""
    if predictions.predicted is not None:
        return predictions.predicted
    cuts = thresholds.components if thresholds else [0.5] * predictions.presence.shape[1]
    return sequence.predict_sequences(predictions.components, cuts, order, predictions.order)


def flat_metrics(result: dict[str, Any]) -> dict[str, float | None]:
    """The value of every metric of a summary by name, those of the binary protocol as `condition/name`."""
    parts = {"": result["metrics"]}
    parts |= {f"{key}/": part["metrics"] for key, part in result.get("binary", {}).items()}
    return {f"{key}{name}": metric["value"] for key, part in parts.items() for name, metric in part.items()}


def best_of(results: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """For every metric the best value in several summaries of the same images, and which summary has it."""
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
    forged, probability, given = predictions.forged, predictions.probability, predictions.presence
    components, known = predictions.components, predictions.known
    statistics: dict[str, Statistic] = {
        "auc": lambda i: detection.auc(forged[i], probability[i]),
        "component_ap": lambda i: detection.mean_average_precision(given[i], components[i], known[i]),
        "equal_error_rate": lambda i: detection.equal_error_rate(forged[i], probability[i]),
        "tpr_at_1_percent_fpr": lambda i: detection.tpr_at_fpr(forged[i], probability[i], 0.01),
    }
    if thresholds is not None and calibration is not None:
        called = called_forged(probability, thresholds, calibration)
        statistics["false_positive_rate"] = lambda i: detection.false_positive_rate(forged[i], called[i], 0.5)
        statistics["true_positive_rate"] = lambda i: detection.true_positive_rate(forged[i], called[i], 0.5)
    return statistics


def _sequence_statistics(
    predictions: Predictions, guesses: Sequences, order: Order, *, reverse: bool
) -> dict[str, Statistic]:
    given, known, truth = predictions.presence, predictions.known, predictions.sequences
    length = given.shape[1]
    predicted = labels.presence(guesses, length)
    true, guess = _compared(predictions, guesses, reverse=reverse)
    statistics: dict[str, Statistic] = {
        "multi_label_accuracy": lambda i: sequence.multi_label_accuracy(given[i], predicted[i], known[i]),
    }
    ordered: dict[str, Statistic] = {
        "fixed_accuracy": lambda i: sequence.fixed_accuracy(true[i], guess[i]),
        "adaptive_accuracy": lambda i: sequence.adaptive_accuracy(true[i], guess[i]),
        "all_none_floor": lambda i: sequence.all_none_floor(true[i]),
        "complete_sequences": lambda i: sequence.complete_sequence_share(true[i], guess[i]),
        "pairwise_order": lambda i: sequence.pairwise_order_accuracy(truth[i], predictions.order[i], order),
        "order_r2": lambda i: _mean(sequence.order_r2(true[i], guess[i], length)),
    }
    return statistics | {name: _where(predictions.ordered, statistic) for name, statistic in ordered.items()}


def _compared(predictions: Predictions, guesses: Sequences, *, reverse: bool) -> tuple[Sequences, Sequences]:
    """True and predicted sequences, (M, L) each, in the direction in which they are compared."""
    both = predictions.sequences, guesses
    return (labels.reverse(both[0]), labels.reverse(both[1])) if reverse else both


def _where(kept: NDArray[np.bool_], statistic: Statistic) -> Statistic:
    """The statistic over those of the given rows where `kept`, (M,), is true; NaN without any."""

    def of_kept(rows: NDArray[np.int64]) -> float:
        chosen = rows[kept[rows]]
        return statistic(chosen) if len(chosen) else math.nan

    return of_kept


def _lengths(predictions: Predictions) -> list[str]:
    """The number of manipulated components of each image as text, or "unknown"."""
    counts = (predictions.presence == 1).sum(axis=1)
    # A forged image without a label was manipulated somewhere else.
    certain = predictions.known.all(axis=1) & ((counts > 0) | (predictions.forged == 0))
    return [str(count) if sure else "unknown" for count, sure in zip(counts, certain, strict=True)]


def _mean(values: NDArray[np.float64]) -> float:
    """The mean without NaN; NaN where that leaves nothing."""
    kept = values[~np.isnan(values)]
    return float(kept.mean()) if len(kept) else math.nan


def _breakdown(keys: Sequence[str], statistics: dict[str, Statistic]) -> dict[str, dict[str, float]]:
    names = np.asarray(keys)
    parts: dict[str, dict[str, float]] = {}
    for key in np.unique(names):
        rows = np.flatnonzero(names == key)
        parts[str(key)] = {"pictures": len(rows)} | {n: s(rows) for n, s in statistics.items()}
    return parts


def plain(value: Any) -> Any:
    """None in place of NaN, which JSON does not have, at any depth."""
    if isinstance(value, dict):
        return {name: plain(part) for name, part in value.items()}
    if isinstance(value, list):
        return [plain(part) for part in value]
    return None if isinstance(value, float) and math.isnan(value) else value
