"""The figures of one run of a table, kept beside it."""

import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from forgerank.data.formats.recognition import data_settings, find_folders, with_split
from forgerank.data.listing import read_json, write_whole
from forgerank.evaluation.calibration import choose_thresholds
from forgerank.evaluation.evaluate import predict_split
from forgerank.evaluation.protocols import flat_metrics, summarize
from forgerank.evaluation.scorers import Predictions, open_scorer
from forgerank.metrics import sequence
from forgerank.reproduce.experiments import progress_of
from forgerank.train.config import DataConfig, TrainConfig
from forgerank.types import InputError

Figures = dict[str, float]


def measure_run(
    config: TrainConfig,
    checkpoint: Path,
    data: Sequence[Path],
    *,
    split: str | None = None,
    cross: Sequence[str] = (),
    limit: int | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Figures (0..1) and facts of a finished run; measured once, then read from its evaluation.json.

    Measured on `split` of the data sets of `data` that have it, test or else val by default, and on the
    folders `cross` beside them, whose figures are named `folder/figure`; "skipped" says which of these could
    not be used, and why. "facts" holds the cost and the settings that a table names.
    """
    path = config.output / "evaluation.json"
    folders = find_folders(tuple(data), config.data.vocabulary)
    split = split or default_split(folders)
    places = [str(folder) for folder in (*folders, *(root / name for root in data for name in cross))]
    asked = {"checkpoint": checkpoint.name, "places": places, "split": split, "limit": limit}
    if path.is_file():
        kept = read_json(path)
        if isinstance(kept, dict) and kept.get("asked") == asked:
            return kept
    figures, count = _figures(config, checkpoint, folders, split, limit, progress)
    skipped = {}
    for name in cross:
        found = [folder for root in data for folder in find_folders((root / name,), config.data.vocabulary)]
        if not found:
            skipped[name] = "not among the data"
            continue
        # Options such as a choice of methods belong to the data set that the network was trained on.
        plain = config.model_copy(update={"data": config.data.model_copy(update={"options": {}})})
        try:
            others, _ = _figures(plain, checkpoint, found, default_split(found), limit, progress)
        except InputError as error:
            skipped[name] = str(error)
            continue
        figures |= {f"{name}/{figure}": value for figure, value in others.items()}
    facts = {"split": split, "evaluated": count, **_facts(config)}
    result = {"asked": asked, "figures": figures, "skipped": skipped, "facts": facts}
    write_whole(path, f"{json.dumps(result, indent=2)}\n".encode())
    return result


def default_split(folders: Sequence[Path]) -> str:
    """test where one of the data sets has it, else val."""
    return "test" if with_split(list(folders), "test") else "val"


def _figures(
    config: TrainConfig, checkpoint: Path, folders: list[Path], split: str, limit: int | None, progress: bool
) -> tuple[Figures, int]:
    scorer = open_scorer(checkpoint)
    scorer.config = on_folders(config, folders, split)
    predictions = predict_split(scorer, (), split, limit=limit, progress=progress)
    # No intervals: the spread over the seeds is what a table shows.
    summary = summarize(predictions, order=config.loss.order, resamples=0)
    figures = flat_metrics(summary)
    fits = zip(config.data.labels, summary["order_r2_by_component"], strict=True)
    figures |= {f"r2/{label}": value for label, value in fits}
    figures |= tuned_figures(predictions, config.loss.order)
    return {name: value for name, value in figures.items() if value is not None}, summary["pictures"]


def on_folders(config: TrainConfig, folders: Sequence[Path], split: str) -> TrainConfig:
    """The settings of a run, its data replaced by `split` of these folders."""
    data = config.data.model_dump() | data_settings(list(folders), split=split)
    return config.model_copy(update={"data": DataConfig.model_validate(data)})


def tuned_figures(predictions: Predictions, order: sequence.Order) -> Figures:
    """Figures with the most accurate threshold per component in the place of 0.5.

    Each half of the groups is judged by thresholds chosen on the other. Empty for models whose sequences
    depend on no threshold, for a single label, and where a half lacks real or forged images. Sequences are
    compared where the order is known, labels where they are; what is known nowhere has no figure.
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
    present = sequence.labels_present(guesses, predictions.presence.shape[1])
    figures: Figures = {}
    ordered = predictions.ordered
    if ordered.any():
        true, guess = predictions.sequences[ordered], guesses[ordered]
        figures["fixed_accuracy_tuned"] = sequence.fixed_accuracy(true, guess)
        figures["adaptive_accuracy_tuned"] = sequence.adaptive_accuracy(true, guess)
    if predictions.known.any():
        figures["multi_label_accuracy_tuned"] = sequence.multi_label_accuracy(
            predictions.presence, present, predictions.known
        )
    return figures


def _facts(config: TrainConfig) -> dict[str, Any]:
    _, seconds, images = progress_of(config.output)
    return {
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
