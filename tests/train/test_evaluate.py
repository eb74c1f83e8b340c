import io
import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from forgerank.infer.weights import Calibration, Thresholds
from forgerank.metrics.sequence import pad_sequences
from forgerank.train.evaluate import evaluate, print_evaluation, summarize
from forgerank.train.scorers import Predictions, join
from forgerank.types import InputError

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")

PREDICTIONS = Predictions(
    probability=np.array([0.1, 0.7, 0.9, 0.4]),
    components=np.array([[0.1, 0.2], [0.3, 0.1], [0.6, 0.9], [0.2, 0.55]]),
    order=np.array([[0.1, 0.2], [0.3, 0.1], [0.6, 0.9], [0.2, 0.55]]),
    presence=np.array([[0, 0], [0, 0], [1, 1], [0, 1]]),
    sequences=pad_sequences([[], [], [2, 1], [2]], 2),
    groups=["a", "b", "c", "c"],
    sources=["ffhq", "london", "ffhq", "ffhq"],
)


def test_golden_summary() -> None:
    thresholds = Thresholds(forged=0.6, real=0.3, components=(0.5, 0.5))
    result = summarize(
        PREDICTIONS,
        order="first_to_last",
        thresholds=thresholds,
        calibration=Calibration(slope=1, intercept=0),
        resamples=20,
    )
    values = {name: interval["value"] for name, interval in result["metrics"].items()}
    assert values == pytest.approx(
        {
            "auc": 3 / 4,
            "component_map": 1,
            "multi_label_accuracy": 1,
            "fixed_accuracy": 1,
            "adaptive_accuracy": 1,
            "all_none_floor": 5 / 8,
            "complete_sequences": 1,
            "pairwise_order": 1,
            "equal_error_rate": 1 / 2,
            "tpr_at_1_percent_fpr": 1 / 2,
            "false_positive_rate": 1 / 2,
            "true_positive_rate": 1 / 2,
        }
    )
    assert (result["pictures"], result["real"], result["groups"]) == (4, 2, 3)
    assert result["by_source"]["london"]["pictures"] == 1
    assert result["by_source"]["london"]["auc"] is None
    assert result["by_source"]["london"]["false_positive_rate"] == 1
    assert set(result["by_length"]) == {"0", "1", "2"}
    json.dumps(result, allow_nan=False)


def test_order_and_thresholds_change_the_figures() -> None:
    result = summarize(PREDICTIONS, order="last_to_first", resamples=2)
    assert result["metrics"]["pairwise_order"]["value"] == 0
    assert "false_positive_rate" not in result["metrics"]
    assert join(PREDICTIONS, PREDICTIONS).forged.tolist() == [0, 0, 1, 1] * 2


def test_a_trained_checkpoint_is_evaluated(trained: Path, squares: Path, tmp_path: Path) -> None:
    output = tmp_path / "deep" / "result.json"
    result = evaluate(trained / "best.ckpt", resamples=5, output=output, progress=False)
    assert json.loads(output.read_text()) == result
    assert result["pictures"] == 48
    assert result["metrics"]["auc"]["value"] > 0.95
    assert list(result["by_source"]) == ["squares"]
    other = evaluate(
        trained / "weights.safetensors",
        roots=[squares],
        split="train",
        wild=True,
        limit=10,
        resamples=5,
        progress=False,
    )
    assert (other["pictures"], other["wild"]) == (10, True)
    text = io.StringIO()
    print_evaluation(result, Console(file=text, width=120))
    assert "multi label accuracy" in text.getvalue()


def test_files_that_are_no_weights(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.ckpt").write_bytes(b"no checkpoint")
    (tmp_path / "bad.safetensors").write_bytes(b"no tensors")
    (tmp_path / "lone.safetensors").write_bytes((trained / "weights.safetensors").read_bytes())
    named = {name: name for name in ("bad.ckpt", "bad.safetensors", "lone.safetensors", "none.ckpt")}
    for name, reason in {**named, "folder.onnx": "forgerank.json"}.items():
        with pytest.raises(InputError, match=reason):
            evaluate(tmp_path / name, progress=False)
