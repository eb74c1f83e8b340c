"""All figures of a network on a data set, with intervals, floors and breakdowns."""

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from forgerank.data.sample import Source
from forgerank.data.transforms import AugmentConfig
from forgerank.infer.verdict import calibrated
from forgerank.infer.weights import Calibration, Thresholds
from forgerank.metrics import detection, ordering, sequence
from forgerank.metrics.bootstrap import bootstrap_interval
from forgerank.train.config import TrainConfig
from forgerank.train.loaders import limited, open_source, plain_loader
from forgerank.train.scorers import Predictions, Scorer, open_scorer, predict
from forgerank.types import InputError

# What happens to pictures between people: one resize and one encoding, on every picture.
WILD = AugmentConfig(
    rotation=0,
    scale=0,
    shift=0,
    flip=0,
    wild=1,
    resize=(0.5, 2.0),
    blur=0,
    quality=(40, 95),
    noise=0,
    colour=0,
)

Statistic = Callable[[NDArray[np.int64]], float]


def evaluate(
    weights: Path,
    *,
    roots: Sequence[Path] = (),
    split: str = "val",
    wild: bool = False,
    limit: int | None = None,
    resamples: int = 500,
    workers: int | None = None,
    output: Path | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Evaluate a checkpoint, weights or an exported network on `roots` (Seq-DeepFake layout) or its own data
    set.

    `wild` re-encodes every picture at quality 40 to 95 and resizes it by 0.5 to 2 first. The result, JSON-
    ready, is also written to `output`. Raises InputError for an empty split.
    """
    scorer = open_scorer(weights)
    predictions = predict_split(
        scorer, roots, split, wild=wild, limit=limit, workers=workers, progress=progress
    )
    result = {
        "weights": str(weights),
        "roots": [str(root) for root in roots or scorer.config.data.roots],
        "split": split,
        "wild": wild,
        **summarize(
            predictions,
            order=scorer.config.loss.order,
            thresholds=scorer.thresholds,
            calibration=scorer.calibration,
            resamples=resamples,
        ),
    }
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return result


def predict_split(
    scorer: Scorer,
    roots: Sequence[Path],
    split: str,
    *,
    wild: bool = False,
    limit: int | None = None,
    workers: int | None = None,
    progress: bool = True,
) -> Predictions:
    """Predictions on one split of `roots`, by default of the data set that the network was trained on."""
    config, source = open_split(scorer.config, roots, split, limit=limit, workers=workers)
    loader = plain_loader(config, source, augment=WILD if wild else None)
    return predict(scorer, source, loader, progress=progress)


def open_split(
    config: TrainConfig, roots: Sequence[Path], split: str, *, limit: int | None, workers: int | None
) -> tuple[TrainConfig, Source]:
    """One split of `roots`, by default of the run's own validation data, and the settings to load it with.

    Raises InputError for an empty one.
    """
    changes: dict[str, Any] = {} if workers is None else {"workers": workers}
    if roots:
        # Whatever the network was trained on, folders hold Seq-DeepFake's layout.
        changes |= {"dataset": "seqdeepfake", "options": {}, "roots": tuple(roots), "val_roots": None}
    data = config.data.model_copy(update=changes)
    source = limited(open_source(data, split, roots=data.val_roots), limit)
    if not len(source):
        raise InputError(f"the split {split} holds no usable picture")
    return config.model_copy(update={"data": data}), source


def summarize(
    predictions: Predictions,
    *,
    order: sequence.Order,
    thresholds: Thresholds | None = None,
    calibration: Calibration | None = None,
    resamples: int = 500,
) -> dict[str, Any]:
    """Figures with 95 % bootstrap intervals over groups, JSON-ready; 0.5 stands in for missing thresholds."""
    cuts = np.array(thresholds.components if thresholds else [0.5] * predictions.presence.shape[1])
    guesses = sequence.predict_sequences(predictions.components, cuts, order, predictions.order)
    judged = None
    if thresholds is not None and calibration is not None:
        judged = calibrated(predictions.probability, calibration) >= thresholds.forged
    statistics = _statistics(predictions, guesses, cuts, order, judged)
    metrics = {
        name: _plain(bootstrap_interval(statistic, predictions.groups, resamples=resamples)._asdict())
        for name, statistic in statistics.items()
    }
    return {
        "pictures": len(predictions.probability),
        "groups": len(set(predictions.groups)),
        "real": int((predictions.forged == 0).sum()),
        "metrics": metrics,
        "by_component": _plain_list(
            detection.average_precision(predictions.presence, predictions.components)
        ),
        "by_source": _breakdown(predictions.sources, statistics),
        "by_length": _breakdown([str(count) for count in predictions.presence.sum(axis=1)], statistics),
    }


def _statistics(
    predictions: Predictions,
    guesses: sequence.Labels,
    cuts: NDArray[np.float64],
    order: sequence.Order,
    judged: NDArray[np.bool_] | None,
) -> dict[str, Statistic]:
    forged, probability = predictions.forged, predictions.probability
    truth, presence, components = predictions.sequences, predictions.presence, predictions.components
    present = (components >= cuts).astype(np.int64)
    statistics: dict[str, Statistic] = {
        "auc": lambda i: detection.auc(forged[i], probability[i]),
        "component_map": lambda i: detection.mean_average_precision(presence[i], components[i]),
        "multi_label_accuracy": lambda i: sequence.multi_label_accuracy(presence[i], present[i]),
        "fixed_accuracy": lambda i: sequence.fixed_accuracy(truth[i], guesses[i]),
        "adaptive_accuracy": lambda i: sequence.adaptive_accuracy(truth[i], guesses[i]),
        "all_none_floor": lambda i: sequence.all_none_floor(truth[i]),
        "complete_sequences": lambda i: sequence.complete_sequence_share(truth[i], guesses[i]),
        "pairwise_order": lambda i: ordering.pairwise_order_accuracy(truth[i], predictions.order[i], order),
        "equal_error_rate": lambda i: detection.equal_error_rate(forged[i], probability[i]),
        "tpr_at_1_percent_fpr": lambda i: _found(forged[i], probability[i]),
    }
    if judged is not None:
        scores = judged.astype(np.float64)
        statistics["false_positive_rate"] = lambda i: detection.false_positive_rate(forged[i], scores[i], 0.5)
        statistics["true_positive_rate"] = lambda i: detection.false_positive_rate(
            1 - forged[i], scores[i], 0.5
        )
    return statistics


def _found(forged: NDArray[np.int64], probability: NDArray[np.float64]) -> float:
    if forged.min() == forged.max():
        return math.nan
    return detection.tpr_at_fpr(forged, probability, 0.01)


def _breakdown(keys: Sequence[str], statistics: dict[str, Statistic]) -> dict[str, dict[str, float | None]]:
    names = np.asarray(keys)
    parts: dict[str, dict[str, float | None]] = {}
    for key in np.unique(names):
        rows = np.flatnonzero(names == key)
        parts[str(key)] = {"pictures": len(rows)} | _plain({n: s(rows) for n, s in statistics.items()})
    return parts


def _plain(values: dict[str, float]) -> dict[str, float | None]:
    """JSON knows no NaN."""
    return {name: None if math.isnan(value) else float(value) for name, value in values.items()}


def _plain_list(values: NDArray[np.float64]) -> list[float | None]:
    return [None if math.isnan(value) else float(value) for value in values]


def print_evaluation(result: dict[str, Any], console: Console | None = None) -> None:
    """The figures as a table, one column for all pictures and one per source."""
    console = console or Console()
    title = f"{result['pictures']} pictures, {result['real']} real, {result['groups']} groups"
    table = Table("", "all", "95 %", *result["by_source"], title=title)
    for name, value in result["metrics"].items():
        interval = f"{_show(value['low'])} to {_show(value['high'])}"
        sources = (_show(part[name]) for part in result["by_source"].values())
        table.add_row(name.replace("_", " "), _show(value["value"]), interval, *sources)
    console.print(table)


def _show(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
