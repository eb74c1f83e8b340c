"""Evaluation of networks on data sets: which checkpoints, images and thresholds."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from forgerank.data.augmentation import AugmentConfig
from forgerank.data.formats.registry import DATASETS, identify_dataset
from forgerank.data.sample import Source
from forgerank.detect.result import likelihood_ratio
from forgerank.detect.verdict import calibrated
from forgerank.evaluation.calibration import calibrate, verdict_rates
from forgerank.evaluation.protocols import best_of, summarize
from forgerank.evaluation.scorers import Predictions, Scorer, open_scorer, predict
from forgerank.files import write_atomic
from forgerank.metrics import detection
from forgerank.metrics.bootstrap import bootstrap_interval
from forgerank.metrics.torchmetric import SequenceMetrics
from forgerank.train.checkpoints import BEST
from forgerank.train.config import DataConfig, TrainConfig
from forgerank.train.loaders import (
    Joined,
    limited,
    open_source,
    open_validation,
    plain_loader,
    say_unread,
    why_unread,
)
from forgerank.train.module import add_to_metrics, unread_of
from forgerank.types import InputError
from forgerank.weights.description import METADATA_FILE

# What happens to images that are shared: one resize and one encoding, on every image.
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

REVERSIBLE = ("seqdeepfake", "shards")  # data sets with the option `reverse`


def evaluate(
    weights: Path,
    *,
    others: Sequence[Path] = (),
    roots: Sequence[Path] = (),
    dataset: str | None = None,
    split: str = "val",
    wild: bool = False,
    reverse: bool | None = None,
    tune: str | None = None,
    limit: int | None = None,
    resamples: int = 500,
    workers: int | None = None,
    output: Path | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Evaluate a checkpoint, weights or an exported network on `roots` or its own data set.

    others: further weights, or folders of runs with their checkpoints; the result then has, under `best_of`,
    the best value of every metric over all of them. dataset: a key of DATASETS, by default identified by its
    layout. wild: re-encode every image at quality 40 to 95 and resize it by 0.5 to 2 first. reverse: compare
    sequences from the last manipulation to the first; None: as the network was trained. tune: SPLIT or
    SPLIT/LIMIT of the same data, on which thresholds are chosen in place of the saved ones.

    The result, JSON-ready, is also written to `output`. Images that cannot be read are left out of the
    metrics, and listed under `unread`. Raises InputError for an empty split, and for a
    `tune` that names the evaluated one.
    """
    options: dict[str, Any] = {"dataset": dataset, "wild": wild, "workers": workers, "progress": progress}
    tuning = _parse_tune(tune, split) if tune else None
    found = [path for place in (weights, *others) for path in find_checkpoints(place)]
    checkpoints = list(dict.fromkeys(found))
    results, unread = [], list[str]()
    for path in checkpoints:
        scorer = open_scorer(path)
        thresholds = "saved" if scorer.thresholds else "0.5"
        if tuning:
            known = predict_split(scorer, roots, tuning[0], limit=tuning[1], unread=unread, **options)
            scorer.calibration, scorer.thresholds = calibrate(known)
            thresholds = f"chosen on {tune}"
        predictions = predict_split(scorer, roots, split, limit=limit, unread=unread, **options)
        about = {"weights": str(path), "split": split, "wild": wild, "thresholds": thresholds}
        about["roots"] = [str(root) for root in roots or scorer.config.data.roots]
        results.append(about | _metrics(scorer, predictions, reverse, resamples))
    result = results[0]
    if len(results) > 1:
        result["best_of"] = {"checkpoints": [str(path) for path in checkpoints], "metrics": best_of(results)}
    if unread:
        result["unread"] = list(dict.fromkeys(unread))
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(output, (json.dumps(result, indent=2) + "\n").encode())
    return result


def _metrics(
    scorer: Scorer, predictions: Predictions, reverse: bool | None, resamples: int
) -> dict[str, Any]:
    config = scorer.config
    trained = bool(config.data.options.get("reverse"))
    reversed_ = trained if reverse is None else reverse
    metrics = summarize(
        predictions,
        order=config.loss.order,
        thresholds=scorer.thresholds,
        calibration=scorer.calibration,
        resamples=resamples,
        reverse=reversed_ != trained,
    )
    facts = {"reversed": reversed_, "labels": list(config.data.labels), "aligned": config.data.align}
    return {**facts, **metrics}


def evaluate_sources(
    weights: Path, data: DataConfig, *, limit: int | None = None, workers: int | None = None
) -> dict[str, dict[str, float]]:
    """Metrics of a network on the validation split of every source of `data`, by the source's name.

    limit: images of each source. Images that are forged on the fly come from one seed: every network is
    evaluated on the same images. Beside the metrics of a validation: the 95 % interval of the AUC over
    groups, EER, C_llr, and with thresholds the shares of verdicts. Raises InputError for data without
    sources.
    """
    if not data.sources:
        raise InputError("the settings name no data.sources to evaluate on")
    scorer = open_scorer(weights)
    changes: dict[str, Any] = {"val_images": limit or data.val_images, "mask_size": None}
    changes |= {} if workers is None else {"workers": workers}
    config = scorer.config.model_copy(update={"data": data.model_copy(update=changes), "seed": 0})
    found: dict[str, dict[str, float]] = {}
    for name, source in open_validation(config.data).items():
        metrics = SequenceMetrics(len(data.labels), config.loss.order)
        whole = 0
        lost: set[int] = set()
        probability, forged, rows = [], [], list[int]()
        for batch in plain_loader(config, source):
            unread = unread_of(batch)
            lost |= unread
            kept = torch.tensor([int(index) not in unread for index in batch["index"]])
            scores = scorer.score(batch)
            add_to_metrics(metrics, scores, batch, kept)
            probability.append(scores.probability[kept].double().numpy())
            forged.append(batch["forged"][kept].numpy() > 0.5)
            rows += batch["index"][kept].tolist()
            whole += int((batch["whole"] & kept).sum())
        say_unread(why_unread(source, lost))
        counts = {"images": len(source) - len(lost), "whole_images": whole}
        found[name] = counts | {key: float(value) for key, value in metrics.compute().items()}
        found[name] |= _verdicts(
            scorer,
            np.concatenate(probability),
            np.concatenate(forged).astype(np.int64),
            [source.sample(row).group for row in rows],
        )
    return found


def _verdicts(
    scorer: Scorer, probability: NDArray[np.float64], forged: NDArray[np.int64], groups: Sequence[str]
) -> dict[str, float]:
    """What calibration and thresholds make of P(x), and the interval of its AUC over groups."""
    area = bootstrap_interval(lambda i: detection.auc(forged[i], probability[i]), groups)
    values = {
        "auc_low": area.low,
        "auc_high": area.high,
        "equal_error_rate": detection.equal_error_rate(forged, probability),
        "tpr_at_1_percent_fpr": detection.tpr_at_fpr(forged, probability, 0.01),
        "min_cllr": detection.min_cllr(forged, probability),
    }
    if scorer.calibration is None or scorer.thresholds is None:
        return values
    found = calibrated(probability, scorer.calibration)
    values["cllr"] = detection.cllr(forged, [likelihood_ratio(value) for value in found])
    called, cleared = found >= scorer.thresholds.forged, found < scorer.thresholds.real
    return values | verdict_rates(forged, called, cleared)


def find_checkpoints(place: Path) -> list[Path]:
    """The checkpoints in the folder of a run, best.ckpt first; any other path is returned as it is.

    Raises InputError for a folder that holds neither checkpoints nor exported weights.
    """
    if not place.is_dir() or (place / METADATA_FILE).is_file():
        return [place]
    found = sorted(place.glob("*.ckpt"), key=lambda path: (path.name != BEST, path.name))
    if not found:
        raise InputError(f"{place}: holds neither checkpoints (*.ckpt) nor {METADATA_FILE}")
    return found


def _parse_tune(text: str, evaluated: str) -> tuple[str, int | None]:
    split, slash, count = text.partition("/")
    if not split or (slash and (not count.isdecimal() or int(count) < 1)):
        raise InputError(f"--tune {text}: expected a split such as val, or val/2000 for so many images of it")
    if split == evaluated:
        raise InputError(f"--tune {text}: the split that is evaluated: thresholds must come from another")
    return split, int(count) if count else None


def predict_split(
    scorer: Scorer,
    roots: Sequence[Path],
    split: str,
    *,
    dataset: str | None = None,
    wild: bool = False,
    limit: int | None = None,
    workers: int | None = None,
    progress: bool = True,
    unread: list[str] | None = None,
) -> Predictions:
    """Predictions on one split of `roots`, by default of the data set that the network was trained on."""
    config, source = open_split(scorer.config, roots, split, dataset=dataset, limit=limit, workers=workers)
    loader = plain_loader(config, source, augment=WILD if wild else None)
    return predict(scorer, source, loader, progress=progress, unread=unread)


def open_split(
    config: TrainConfig,
    roots: Sequence[Path],
    split: str,
    *,
    dataset: str | None = None,
    limit: int | None,
    workers: int | None,
) -> tuple[TrainConfig, Source]:
    """One split of `roots`, by default of the run's own validation data, and the settings to load it with.

    dataset: a key of DATASETS; None: identified by the layout of the first root. Raises InputError for an
    empty split.
    """
    changes: dict[str, Any] = {} if workers is None else {"workers": workers}
    if roots:
        kind = dataset or identify_dataset(roots[0])
        if kind not in DATASETS:
            raise InputError(f"dataset must be one of {', '.join(DATASETS)}, got {kind}")
        # Labels stay in the order that the network was trained on; other options belong to its own data.
        reverse = config.data.options.get("reverse") and kind in REVERSIBLE
        options = {"reverse": True} if reverse else {}
        changes |= {"dataset": kind, "options": options, "roots": tuple(roots), "val_roots": None}
        changes |= {"sources": ()}
    data = config.data.model_copy(update=changes)
    if data.sources:
        parts = open_validation(data.model_copy(update={"val_split": split, "val_images": limit}))
        source: Source = Joined(list(parts.values()))
    else:
        source = limited(open_source(data, split, roots=data.val_roots, keep_faceless=True), limit)
    if not len(source):
        raise InputError(f"the split {split} holds no usable image")
    return config.model_copy(update={"data": data}), source
