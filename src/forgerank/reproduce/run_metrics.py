"""The metrics of one run of a table, kept in its evaluation.json."""

import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from forgerank.data.formats.prepared import INDEX, detector_of
from forgerank.data.formats.registry import data_settings, find_folders, with_split
from forgerank.evaluation.calibration import choose_thresholds
from forgerank.evaluation.evaluate import predict_split
from forgerank.evaluation.protocols import flat_metrics, summarize
from forgerank.evaluation.scorers import Predictions, open_scorer
from forgerank.files import read_json, write_atomic
from forgerank.labels import Order, presence
from forgerank.metrics import sequence
from forgerank.reproduce.runs import progress_of
from forgerank.train.config import DataConfig, TrainConfig
from forgerank.types import InputError
from forgerank.weights.renamed_keys import METRICS


def measure_run(
    config: TrainConfig,
    checkpoint: Path,
    data: Sequence[Path],
    *,
    split: str | None = None,
    folder: str = "",
    cross: Sequence[str] = (),
    limit: int | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Metrics (0..1) and facts of a finished run; measured once, then read from its evaluation.json.

    The metrics under "figures" are measured on `split` of the data sets of `data` that have it (default:
    test, else val; `folder` as in `find_folders`), and on the folders `cross` beside them under the names
    `folder/metric`. "skipped" holds the reason for each of those that could not be used, "facts" the cost and
    settings that a table names: "evaluated" images, "whole_images" of them that were judged as a whole, not
    aligned, and under "cross" the same two of each of those folders.
    """
    path = config.output / "evaluation.json"
    folders = find_folders(tuple(data), config.data.vocabulary, folder)
    split = split or default_split(folders)
    places = [str(folder) for folder in (*folders, *(root / name for root in data for name in cross))]
    asked = {"checkpoint": checkpoint.name, "places": places, "split": split, "limit": limit}
    if path.is_file():
        kept = read_json(path)
        if isinstance(kept, dict) and kept.get("asked") == asked:
            kept["figures"] = {METRICS.get(name, name): value for name, value in kept["figures"].items()}
            return kept
    metrics, counts = _measure(config, checkpoint, folders, split, limit, progress)
    skipped, others = {}, {}
    for name in cross:
        found = [folder for root in data for folder in find_folders((root / name,), config.data.vocabulary)]
        if not found:
            skipped[name] = "not among the data"
            continue
        # Options of the reader, such as a choice of methods, are those of the training data.
        plain = config.model_copy(update={"data": config.data.model_copy(update={"options": {}})})
        try:
            more, others[name] = _measure(plain, checkpoint, found, default_split(found), limit, progress)
        except InputError as error:
            skipped[name] = str(error)
            continue
        metrics |= {f"{name}/{metric}": value for metric, value in more.items()}
    cut = [root for root in places if (Path(root) / INDEX).is_file()]
    facts = {"split": split, **counts, "cross": others, "aligned": config.data.align, **_facts(config)}
    facts["faces_cut_by"] = {Path(root).name: detector_of(Path(root)) for root in cut}
    result = {"asked": asked, "figures": metrics, "skipped": skipped, "facts": facts}
    write_atomic(path, f"{json.dumps(result, indent=2)}\n".encode())
    return result


def default_split(folders: Sequence[Path]) -> str:
    """`test` where one of the data sets has that split, else `val`."""
    return "test" if with_split(list(folders), "test") else "val"


def _measure(
    config: TrainConfig, checkpoint: Path, folders: list[Path], split: str, limit: int | None, progress: bool
) -> tuple[dict[str, float], dict[str, int]]:
    """The metrics that are known on these folders, and how many images there were, and as a whole."""
    scorer = open_scorer(checkpoint)
    scorer.config = on_folders(config, folders, split)
    predictions = predict_split(scorer, (), split, limit=limit, progress=progress)
    # No bootstrap intervals: a table shows the spread over the seeds.
    summary = summarize(predictions, order=config.loss.order, resamples=0)
    r2 = zip(config.data.labels, summary["order_r2_by_component"], strict=True)
    metrics = (
        flat_metrics(summary)
        | {f"r2/{label}": value for label, value in r2}
        | tuned_metrics(predictions, config.loss.order)
    )
    counts = {"evaluated": summary["pictures"], "whole_images": summary["whole_images"]}
    return {name: value for name, value in metrics.items() if value is not None}, counts


def on_folders(config: TrainConfig, folders: Sequence[Path], split: str) -> TrainConfig:
    """The settings of a run with its data replaced by `split` of these folders."""
    data = config.data.model_dump() | data_settings(list(folders), split=split)
    return config.model_copy(update={"data": DataConfig.model_validate(data)})


def tuned_metrics(predictions: Predictions, order: Order) -> dict[str, float]:
    """Metrics with the most accurate threshold per component in place of 0.5, by cross-validation.

    The groups are split in two halves; the thresholds of each are chosen on the other. Empty for models whose
    sequences do not depend on thresholds, for a single label, and where a half lacks real or forged images.
    Sequences are compared on images of known order, labels where they are known; a metric without a single
    such image is left out.
    """
    if predictions.components.shape[1] == 1 or predictions.predicted is not None:
        return {}
    names = sorted(set(predictions.groups))
    half = dict(zip(names, np.random.default_rng(0).permutation(len(names)) % 2, strict=True))
    fold = np.array([half[group] for group in predictions.groups])
    guesses = np.zeros_like(predictions.sequences)
    for number in (0, 1):
        known, judged = predictions.rows(fold != number), predictions.rows(fold == number)
        if not len(judged.groups) or not len(known.groups) or len(set(known.forged.tolist())) < 2:
            return {}
        cuts = choose_thresholds(
            known.probability, known.components, known.presence, forged=known.forged
        ).components
        guesses[fold == number] = sequence.predict_sequences(judged.components, cuts, order, judged.order)
    present = presence(guesses, predictions.presence.shape[1])
    metrics: dict[str, float] = {}
    ordered = predictions.ordered
    if ordered.any():
        true, guess = predictions.sequences[ordered], guesses[ordered]
        metrics["fixed_accuracy_tuned"] = sequence.fixed_accuracy(true, guess)
        metrics["adaptive_accuracy_tuned"] = sequence.adaptive_accuracy(true, guess)
    if predictions.known.any():
        metrics["multi_label_accuracy_tuned"] = sequence.multi_label_accuracy(
            predictions.presence, present, predictions.known
        )
    return metrics


def _facts(config: TrainConfig) -> dict[str, Any]:
    _, seconds, images = progress_of(config.output)
    return {
        "options": config.data.options,
        "pictures": images,
        "minutes": seconds / 60,
        "pictures_per_second": images / seconds,
        "backbone": config.model.backbone,
        "kind": config.model.kind,
        "input_size": config.model.input_size,
        "machine": machine(),
    }


def machine() -> str:
    """Processor, cores, accelerator and torch, in one line."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parts = [names[0] if names else platform.machine(), f"{cores} cores"]
    if torch.cuda.is_available():
        parts.append(torch.cuda.get_device_name())
    return ", ".join([*parts, f"torch {torch.__version__}"])
