"""Evaluation of networks on data sets: which checkpoints, images and thresholds."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import Any

from forgerank.data.augmentation import AugmentConfig
from forgerank.data.formats.registry import DATASETS, identify_dataset
from forgerank.data.sample import Source
from forgerank.detect.views import SCALES
from forgerank.evaluation.calibration import calibrate, check_classes
from forgerank.evaluation.protocols import best_of, plain, set_metrics, summarize
from forgerank.evaluation.scorers import (
    BothWays,
    Judgeable,
    Predictions,
    Scorer,
    averaged,
    join,
    open_scorer,
    predict,
)
from forgerank.files import make_folder, write_atomic
from forgerank.metrics.detection import lacking_class
from forgerank.train.checkpoints import BEST, say
from forgerank.train.config import DataConfig, TrainConfig
from forgerank.train.loaders import joined, open_validation, plain_loader
from forgerank.types import Copies, InputError
from forgerank.weights.description import METADATA_FILE

_STILL = ("rotation", "scale", "shift", "flip", "blur", "noise", "colour")
_UNCHANGED: dict[str, Any] = dict.fromkeys(_STILL, 0)
# What happens to images that are shared: one resize and one encoding; and what people do to photographs.
COPIES: dict[Copies, AugmentConfig] = {
    "reencoded": AugmentConfig(**_UNCHANGED, wild=1, resize=(0.5, 2.0), quality=(40, 95)),
    "grey": AugmentConfig(**_UNCHANGED, wild=0, grey=1, toned=0),
    "toned": AugmentConfig(**_UNCHANGED, wild=0, grey=1, toned=1),
    "tinted": AugmentConfig(**_UNCHANGED, wild=0, tint=0.3),
    "film": AugmentConfig(**_UNCHANGED, wild=1, resize=(1, 1), quality=(85, 95), film=12),
    "sharpened": AugmentConfig(**_UNCHANGED, wild=1, resize=(1, 1), quality=(85, 95), sharpen=2),
    "captioned": AugmentConfig(**_UNCHANGED, wild=0, caption=1),
    "screen": AugmentConfig(**_UNCHANGED, wild=0, screen=1),
    "printed": AugmentConfig(**_UNCHANGED, wild=0, printed=1),
}

REVERSIBLE = ("seqdeepfake", "shards")  # data sets with the option `reverse`


def evaluate(
    weights: Path,
    *,
    others: Sequence[Path] = (),
    roots: Sequence[Path] = (),
    dataset: str | None = None,
    split: str = "val",
    copies: Copies | None = None,
    reverse: bool | None = None,
    tune: str | None = None,
    limit: int | None = None,
    resamples: int = 500,
    workers: int | None = None,
    thorough: bool = False,
    abstain: bool = False,
    output: Path | None = None,
    plots: Path | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Evaluate a checkpoint, weights or an exported network on `roots` or its own data set.

    others: further weights, or folders of runs with their checkpoints; the result then has, under `best_of`,
    the best value of every metric over all of them. dataset: a key of DATASETS, by default identified by its
    layout. copies: change every image first, a key of `COPIES`. reverse: compare sequences from the last
    manipulation to the first; None: as the network was trained. tune: SPLIT or SPLIT/LIMIT of the same data,
    on which thresholds are chosen in place of the saved ones. limit: images of each root. thorough: as
    `Detector(thorough=True)` judges. abstain: no verdict in `sets` for faces that `detect` would not judge.
    plots: a folder for the plots of `save_plots`.

    The result, JSON-ready, is also written to `output`; under `sets` it has the row of `set_metrics` for each
    root, by its name, of the first weights. Images that cannot be read are left out of the metrics, and
    listed under `unread`, as are those of `others` that cannot be opened. Raises InputError for unusable
    `weights`, for an empty split, and for a `tune` that names the evaluated one.
    """
    options: dict[str, Any] = {"dataset": dataset, "copies": copies, "workers": workers, "progress": progress}
    options |= {"thorough": thorough, "abstain": abstain}
    tuning = _parse_tune(tune, split) if tune else None
    paths = [path for place in (weights, *others) for path in find_checkpoints(place)]
    checkpoints = list(dict.fromkeys(paths))
    results, unread = list[dict[str, Any]](), list[str]()
    for path in checkpoints:
        try:
            scorer = open_scorer(path, thorough=thorough)
        except InputError as error:
            if not results:
                raise
            unread.append(str(error))
            continue
        thresholds = "saved" if scorer.thresholds else "0.5"
        if tuning:
            known = _predict_roots(scorer, roots, tuning[0], limit=tuning[1], unread=unread, **options)
            tuned_on = _joined(known)
            check_classes(tuned_on.forged, f"--tune {tune}")
            scorer.calibration, scorer.thresholds = calibrate(tuned_on)
            thresholds = f"chosen on {tune}"
        found = _predict_roots(scorer, roots, split, limit=limit, unread=unread, **options)
        about: dict[str, Any] = {"weights": str(path), "split": split, "copies": copies}
        about |= {"thresholds": thresholds, "thorough": thorough}
        about["roots"] = [str(root) for root in roots or scorer.config.data.roots]
        about |= _metrics(scorer, _joined(found), reverse, resamples)
        if not results:
            _say_one_class(found)
            about["sets"] = {} if not roots else plain(_rows(scorer, found, resamples))
            if plots is not None:
                _plot(scorer, found, plots)
        results.append(about)
    result = results[0]
    if len(results) > 1:
        result["best_of"] = {
            "checkpoints": [about["weights"] for about in results],
            "metrics": best_of(results),
        }
    if unread:
        result["unread"] = list(dict.fromkeys(unread))
    if output is not None:
        make_folder(output.parent)
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
    weights: Path,
    data: DataConfig,
    *,
    split: str | None = None,
    limit: int | None = None,
    workers: int | None = None,
    thorough: bool = False,
    abstain: bool = False,
    copies: Copies | None = None,
    resamples: int = 500,
    plots: Path | None = None,
) -> dict[str, dict[str, float]]:
    """The row of `set_metrics` for one split of every validation source of `data`, by the source's name.

    split: None: the `val_split` of `data`. limit: images of each source. Images that are forged on the fly
    come from one seed: every network is evaluated on the same images. thorough, abstain, copies, plots: as
    for `evaluate`. Raises InputError for data without sources.
    """
    scorer = open_scorer(weights, thorough=thorough)
    config, parts = open_parts(
        on_sources(scorer.config, data),
        (),
        split or data.val_split,
        limit=limit or data.val_images,
        workers=workers,
    )
    options: dict[str, Any] = {"thorough": thorough, "abstain": abstain, "copies": copies, "progress": False}
    found = {name: _predict(scorer, config, source, **options) for name, source in parts.items()}
    _say_one_class(found)
    if plots is not None:
        _plot(scorer, found, plots)
    return _rows(scorer, found, resamples)


def on_sources(config: TrainConfig, data: DataConfig) -> TrainConfig:
    """The settings of a network with the sources of `data`, to predict on; forgeries come from one seed.

    Raises InputError for data without sources, or with other labels.
    """
    if not data.sources:
        raise InputError("the settings name no data.sources to evaluate on")
    if data.labels != config.data.labels:
        raise InputError(
            f"data.vocabulary {data.vocabulary}: the network has that of {config.data.vocabulary}"
        )
    return config.model_copy(update={"data": data.model_copy(update={"mask_size": None}), "seed": 0})


def _say_one_class(sets: Mapping[str, Predictions]) -> None:
    """A line on standard error for each set whose images are all real or all forged."""
    for name, predictions in sets.items():
        if len(predictions.forged) and (missing := lacking_class(predictions.forged)):
            say(f"{name or 'the data'}: no {missing} image: AUC, mAP and accuracy mean nothing")


def _rows(scorer: Scorer, sets: dict[str, Predictions], resamples: int) -> dict[str, dict[str, float]]:
    return {
        name: set_metrics(
            predictions,
            order=scorer.config.loss.order,
            thresholds=scorer.thresholds,
            calibration=scorer.calibration,
            resamples=resamples,
        )
        for name, predictions in sets.items()
    }


def _plot(scorer: Scorer, sets: dict[str, Predictions], folder: Path) -> None:
    from forgerank.evaluation.plots import save_plots

    save_plots(sets, folder, scorer.calibration)


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
    copies: Copies | None = None,
    limit: int | None = None,
    workers: int | None = None,
    thorough: bool = False,
    abstain: bool = False,
    progress: bool = True,
    unread: list[str] | None = None,
) -> Predictions:
    """Predictions on one split of `roots`, by default of the data that the network was trained on.

    Where that data is a mixture of sources, `ingredients` of the predictions are their names.
    """
    config, parts = open_parts(scorer.config, roots, split, dataset=dataset, limit=limit, workers=workers)
    options: dict[str, Any] = {"thorough": thorough, "abstain": abstain, "progress": progress}
    options |= {"copies": copies, "unread": unread}
    found = {name: _predict(scorer, config, source, **options) for name, source in parts.items()}
    if config.data.sources:
        found = {name: replace(one, ingredients=[name] * len(one.groups)) for name, one in found.items()}
    return _joined(found)


def _predict_roots(
    scorer: Scorer, roots: Sequence[Path], split: str, **options: Any
) -> dict[str, Predictions]:
    """`predict_split` of each root, by its name, or its path where several have that name."""
    names = [root.resolve().name for root in roots]
    return {
        name if names.count(name) == 1 else str(root): predict_split(scorer, [root], split, **options)
        for name, root in zip(names, roots, strict=True)
    } or {"": predict_split(scorer, (), split, **options)}


def _joined(sets: dict[str, Predictions]) -> Predictions:
    return reduce(join, sets.values())


def _predict(
    scorer: Scorer,
    config: TrainConfig,
    source: Source,
    *,
    thorough: bool,
    abstain: bool,
    copies: Copies | None = None,
    progress: bool = True,
    unread: list[str] | None = None,
) -> Predictions:
    """Predictions on a source: of its aligned crops or, `thorough`, averaged over the views of each."""
    changes = COPIES[copies] if copies else None
    views: list[Predictions] = []
    for scale in SCALES if thorough else (1.0,):
        model = config.model.model_copy(update={"zoom": config.model.zoom * scale})
        scaled = config.model_copy(update={"model": model})
        judgeable = Judgeable() if abstain and not views else None
        loader = plain_loader(scaled, source, augment=changes, judgeable=judgeable)
        told = [] if views else unread  # once is enough
        judge: Scorer = BothWays(scorer) if thorough else scorer
        views.append(predict(judge, source, loader, progress=progress, unread=told))
    return averaged(views) if thorough else views[0]


def open_split(
    config: TrainConfig, roots: Sequence[Path], split: str, **options: Any
) -> tuple[TrainConfig, Source]:
    """As `open_parts`, the sources of a mixture joined."""
    config, parts = open_parts(config, roots, split, **options)
    return config, joined(list(parts.values()))


def open_parts(
    config: TrainConfig,
    roots: Sequence[Path],
    split: str,
    *,
    dataset: str | None = None,
    limit: int | None,
    workers: int | None,
) -> tuple[TrainConfig, dict[str, Source]]:
    """One split of `roots`, by default of the run's own validation data, and the settings to load it with.

    Of a mixture each source by its name, else all under an empty name. dataset: a key of DATASETS; None:
    identified by the layout of the first root. Raises InputError for an empty split.
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
    parts = open_validation(data.model_copy(update={"val_split": split, "val_images": limit}))
    parts = {name: source for name, source in parts.items() if len(source)}
    if not parts:
        raise InputError(f"the split {split} holds no usable image")
    return config.model_copy(update={"data": data}), parts
