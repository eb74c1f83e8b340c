"""Real against forged by data set and compression, of images, frames and videos: AUC, EER, accuracy."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forgerank.data.sample import Sample
from forgerank.detect.verdict import calibrated
from forgerank.evaluation.scorers import Predictions
from forgerank.metrics import detection
from forgerank.metrics.bootstrap import bootstrap_interval
from forgerank.metrics.detection import video_scores
from forgerank.types import InputError
from forgerank.weights.description import Calibration, Thresholds

Statistic = Callable[[NDArray[np.int64]], float]

AS_IS = "as-is"  # compression of data sets that come in one form only
RATES = {"tpr_at_1_percent_fpr": 0.01, "tpr_at_0.1_percent_fpr": 0.001}


def is_binary(predictions: Predictions) -> bool:
    """Whether this protocol applies: with a single label, or with frames of videos."""
    single = predictions.presence.shape[1] == 1
    return bool(predictions.samples) and (single or any(s.video for s in predictions.samples))


def binary_metrics(
    predictions: Predictions,
    *,
    thresholds: Thresholds | None = None,
    calibration: Calibration | None = None,
    resamples: int = 500,
) -> dict[str, Any]:
    """Metrics by `dataset/compression/level`, JSON-ready but for NaN; `level` is picture, frame or video.

    The score of a video is the mean over its frames; with several faces, the largest mean of a face. Videos
    of different methods are different, even of the same name. Raises InputError for a video with real and
    forged frames: two clips share its name.
    """
    samples = predictions.samples
    conditions: dict[tuple[str, str], list[int]] = {}
    for row, sample in enumerate(samples):
        conditions.setdefault((sample.dataset or "data", sample.compression or AS_IS), []).append(row)
    results: dict[str, Any] = {}
    for condition, rows in sorted(conditions.items()):
        frames = [row for row in rows if samples[row].video]
        units = {"frame" if frames else "picture": (predictions.probability[rows], rows)}
        if frames:
            units["video"] = _merge_videos(predictions, frames)
        for level, (scores, described) in units.items():
            results["/".join((*condition, level))] = _metrics(
                scores,
                predictions.forged[described],
                [samples[row] for row in described],
                called_forged(scores, thresholds, calibration),
                beside_half=thresholds is not None and calibration is not None,
                resamples=resamples,
            )
    return results


def called_forged(
    probability: NDArray[np.float64], thresholds: Thresholds | None, calibration: Calibration | None
) -> NDArray[np.bool_]:
    """Whether the calibrated P(x) reaches the threshold; without calibration, whether P(x) reaches 0.5."""
    if thresholds is None or calibration is None:
        return probability >= 0.5
    return calibrated(probability, calibration) >= thresholds.forged


def split_video(video: str) -> tuple[str, int]:
    """The clip and the number of the face in it: `Sample.video` ends in #1, #2, ... but for the first face.

    >>> split_video("manipulated/a#b.mp4#2"), split_video("a#b.mp4")
    (('manipulated/a#b.mp4', 2), ('a#b.mp4', 0))
    """
    clip, _, track = video.rpartition("#")
    return (clip, int(track)) if clip and track.isdecimal() else (video, 0)


def _merge_videos(predictions: Predictions, rows: list[int]) -> tuple[NDArray[np.float64], list[int]]:
    """The score of each video, (V,), and for each the row of its first frame."""
    samples = [predictions.samples[row] for row in rows]
    clips, tracks = zip(*(split_video(sample.video) for sample in samples), strict=True)
    names = [f"{sample.method}\n{clip}" for sample, clip in zip(samples, clips, strict=True)]
    scores, video = video_scores(predictions.probability[rows], names, tracks)
    _, first = np.unique(video, return_index=True)
    forged = predictions.forged[rows]
    mixed = forged != forged[first][video]
    if mixed.any():
        name = clips[int(np.argmax(mixed))]
        raise InputError(f"video {name}: holds real and forged frames: two clips share this name")
    return scores, [rows[place] for place in first]


def _metrics(
    scores: NDArray[np.float64],
    forged: NDArray[np.int64],
    samples: Sequence[Sample],
    called: NDArray[np.bool_],
    *,
    beside_half: bool,
    resamples: int,
) -> dict[str, Any]:
    statistics: dict[str, Statistic] = {
        "auc": lambda i: detection.auc(forged[i], scores[i]),
        "average_precision": lambda i: detection.mean_average_precision(forged[i, None], scores[i, None]),
        "equal_error_rate": lambda i: detection.equal_error_rate(forged[i], scores[i]),
        "accuracy": lambda i: detection.accuracy(forged[i], called[i], 0.5),
    }
    if beside_half:
        statistics["accuracy_at_half"] = lambda i: detection.accuracy(forged[i], scores[i], 0.5)
    statistics |= {
        name: lambda i, rate=rate: detection.tpr_at_fpr(forged[i], scores[i], rate)  # type: ignore[misc]
        for name, rate in RATES.items()
    }
    groups = [sample.group for sample in samples]
    return {
        "count": len(scores),
        "real": int((forged == 0).sum()),
        "groups": len(set(groups)),
        "metrics": {
            name: bootstrap_interval(statistic, groups, resamples=resamples)._asdict()
            for name, statistic in statistics.items()
        },
        "by_method": _by_method(scores, forged, [sample.method for sample in samples]),
    }


def _by_method(
    scores: NDArray[np.float64], forged: NDArray[np.int64], methods: Sequence[str]
) -> dict[str, dict[str, float]]:
    """AUC of each method's forgeries against all real images."""
    names = np.asarray(methods)
    parts = {}
    for name in np.unique(names[forged == 1]):
        rows = (forged == 0) | (names == name)
        count = int(((forged == 1) & (names == name)).sum())
        parts[str(name)] = {"forged": count, "auc": detection.auc(forged[rows], scores[rows])}
    return parts
