from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn import metrics

from forgerank.data.sample import Sample
from forgerank.detect.verdict import calibrated
from forgerank.evaluation.binary import binary_metrics, split_video
from forgerank.evaluation.protocols import summarize
from forgerank.evaluation.scorers import Predictions, join
from forgerank.types import InputError
from forgerank.weights.description import Calibration, Thresholds


def face(score: float, video: str = "", *, forged: bool = False, **about: Any) -> tuple[float, Sample]:
    described = {"group": video, "dataset": "faceforensics", "compression": "c23"} | about
    image = Path(f"{video}.jpg")
    return score, Sample(image, (1,) if forged else (), split="test", video=video, **described)


def to_predictions(faces: Sequence[tuple[float, Sample]]) -> Predictions:
    scores = np.array([score for score, _ in faces])
    samples = [sample for _, sample in faces]
    presence = np.array([[len(sample.sequence)] for sample in samples])
    return Predictions(
        probability=scores,
        components=scores[:, None],
        order=scores[:, None],
        presence=presence,
        sequences=presence,
        groups=[sample.group for sample in samples],
        sources=[sample.dataset for sample in samples],
        samples=samples,
    )


# Means of the videos: 0.25 and 0.4375 real, 0.5 and 0.25 forged.
FACES = [
    face(0.125, "r/1.mp4"),
    face(0.375, "r/1.mp4"),
    face(0.75, "r/2.mp4"),
    face(0.125, "r/2.mp4"),
    face(0.875, "a/1_2.mp4", forged=True, method="Deepfakes"),
    face(0.125, "a/1_2.mp4", forged=True, method="Deepfakes"),
    face(0.25, "b/1_2.mp4", forged=True, method="FaceSwap"),
    face(0.25, "b/1_2.mp4", forged=True, method="FaceSwap"),
]


def figures(faces: Sequence[tuple[float, Sample]], **options: Any) -> dict[str, Any]:
    return binary_metrics(to_predictions(faces), resamples=20, **options)


def values(part: dict[str, Any]) -> dict[str, float]:
    return {name: metric["value"] for name, metric in part["metrics"].items()}


def test_golden_frames_and_videos() -> None:
    found = figures(FACES)
    assert list(found) == ["faceforensics/c23/frame", "faceforensics/c23/video"]
    frames, videos = found.values()
    # forged 0.875 wins 4 times against the real ones, 0.125 has two halves, 0.25 wins twice, and again
    assert values(frames)["auc"] == (4 + 1 + 2 + 2) / 16
    assert values(frames)["accuracy"] == (3 + 1) / 8
    assert (frames["count"], frames["real"], frames["groups"]) == (8, 4, 4)
    assert values(videos) == pytest.approx(
        {
            "auc": (2 + 0.5) / 4,
            "average_precision": (1 + 2 / 4) / 2,
            "equal_error_rate": 0.5,
            "accuracy": 3 / 4,
            "tpr_at_1_percent_fpr": 1 / 2,
            "tpr_at_0.1_percent_fpr": 1 / 2,
        }
    )
    assert (videos["count"], videos["real"]) == (4, 2)
    assert videos["by_method"] == {
        "Deepfakes": {"forged": 1, "auc": 1.0},
        "FaceSwap": {"forged": 1, "auc": 0.25},
    }


def test_agrees_with_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    faces = [face(float(rng.random()), str(i // 5), forged=i // 5 % 2 == 1) for i in range(200)]
    labels = [int(bool(sample.sequence)) for _, sample in faces]
    scores = np.array([score for score, _ in faces])
    frames, videos = figures(faces).values()
    for part, truth, values_ in (
        (frames, np.array(labels), scores),
        (videos, np.array(labels)[::5], scores.reshape(-1, 5).mean(axis=1)),
    ):
        found = values(part)
        assert found["auc"] == pytest.approx(metrics.roc_auc_score(truth, values_))
        assert found["average_precision"] == pytest.approx(metrics.average_precision_score(truth, values_))
        assert found["accuracy"] == metrics.accuracy_score(truth, values_ >= 0.5)


def test_videos_of_two_methods_with_one_name_stay_two() -> None:
    renamed = [
        face(score, sample.video[2:], forged=bool(sample.sequence), method=sample.method)
        for score, sample in FACES
    ]
    assert figures(renamed)["faceforensics/c23/video"]["count"] == 4
    assert values(figures(renamed)["faceforensics/c23/video"])["auc"] == (2 + 0.5) / 4


def test_compressions_and_data_sets_are_never_mixed() -> None:
    faces = [
        *FACES,
        face(0.3, "r/1.mp4", compression="c40"),
        face(0.2, "a/1_2.mp4", compression="c40", forged=True),
        face(0.5, "x.mp4", dataset="celebdf", compression=""),
        face(0.6, dataset="portraits", compression=""),
    ]
    found = figures(faces)
    assert set(found) == {
        *("faceforensics/c23/frame", "faceforensics/c23/video"),
        *("faceforensics/c40/frame", "faceforensics/c40/video"),
        *("celebdf/as-is/frame", "celebdf/as-is/video"),
        "portraits/as-is/picture",
    }
    assert found["faceforensics/c40/video"]["count"] == 2
    assert values(found["faceforensics/c40/video"])["auc"] == 0
    assert np.isnan(values(found["celebdf/as-is/video"])["auc"])


def test_further_faces_of_a_video_are_averaged_alone() -> None:
    assert split_video("a/1.mp4#3") == ("a/1.mp4", 3)
    assert split_video("#1") == ("#1", 0)
    faces = [
        *(face(0.1, "a/1.mp4", forged=True) for _ in range(4)),
        *(face(score, "a/1.mp4#1", forged=True) for score in (0.6, 0.8)),
        *(face(0.5, "r/1.mp4") for _ in range(2)),
    ]
    videos = figures(faces)["faceforensics/c23/video"]
    assert (videos["count"], values(videos)["auc"]) == (2, 1)  # 0.7 against 0.5


def test_real_and_forged_frames_of_one_video_are_an_error() -> None:
    with pytest.raises(InputError, match=r"1\.mp4: holds real and forged"):
        figures([face(0.1, "1.mp4"), face(0.9, "1.mp4", forged=True)])


def test_the_saved_threshold_judges_the_mean() -> None:
    thresholds = Thresholds(forged=0.6, real=0.1, components=(0.5,))
    calibration = Calibration(slope=2, intercept=1)
    videos = figures(FACES, thresholds=thresholds, calibration=calibration)["faceforensics/c23/video"]
    assert (calibrated([0.25, 0.4375, 0.5, 0.25], calibration) >= 0.6).tolist() == [False, True, True, False]
    assert values(videos)["accuracy"] == 2 / 4
    assert values(videos)["accuracy_at_half"] == 3 / 4


def test_intervals_come_from_groups() -> None:
    rng = np.random.default_rng(0)
    person = rng.random((12, 1)) + 0.2 * (np.arange(12)[:, None] % 2)
    scores = np.repeat(person, 20, axis=1).ravel()
    alone, grouped = (
        figures(
            [face(scores[i], str(i // 20), forged=i // 20 % 2 == 1, group=str(i // by)) for i in range(240)]
        )["faceforensics/c23/frame"]["metrics"]["auc"]
        for by in (1, 20)
    )
    assert grouped["value"] == alone["value"]
    assert grouped["high"] - grouped["low"] > 2 * (alone["high"] - alone["low"])


def test_where_the_protocol_applies() -> None:
    photographs = to_predictions([face(0.1), face(0.9, forged=True)])
    assert list(summarize(photographs, order="first_to_last", resamples=2)["binary"]) == [
        "faceforensics/c23/picture"
    ]
    both = join(photographs, photographs)
    assert both.rows(np.array([True, False, False, True])).samples == [*photographs.samples]
    unknown = Predictions(**{**vars(photographs), "samples": ()})
    assert "binary" not in summarize(unknown, order="first_to_last", resamples=2)
