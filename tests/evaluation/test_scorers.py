"""One shape of scores for every kind of network, and one way through training and evaluation."""

import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image as PILImage
from PIL import ImageFilter

from forgerank.data.batches import Item
from forgerank.data.sample import LabelledImage, Sample
from forgerank.evaluation.evaluate import evaluate
from forgerank.evaluation.protocols import summarize
from forgerank.evaluation.scorers import (
    JUDGED,
    NOT_CALLED_REAL,
    NOT_JUDGED,
    Judgeable,
    Predictions,
    join,
    open_scorer,
    predict,
)
from forgerank.labels import Order, face_labels, pad_sequences
from forgerank.losses.mil import forgery_gap, forgery_probability
from forgerank.losses.total import LossConfig
from forgerank.metrics.scores import Scores, to_scores
from forgerank.metrics.sequence import predict_sequences
from forgerank.model.network import LinearOutput, Output, StepOutput
from forgerank.train import fit
from forgerank.train.config import TrainConfig, parse_config
from forgerank.types import InputError
from squares import tiny_settings

FORWARD, BACKWARD = LossConfig(), LossConfig(order="last_to_first")


def test_what_detect_would_judge(astronaut: NDArray[np.uint8]) -> None:
    can = Judgeable()
    small = np.ascontiguousarray(astronaut[::3, ::3])
    assert can(LabelledImage(astronaut, None, (), None)) == JUDGED
    soft = np.asarray(PILImage.fromarray(astronaut).filter(ImageFilter.GaussianBlur(2)))
    assert can(LabelledImage(soft, None, (), None)) == NOT_CALLED_REAL
    assert can(LabelledImage(small, None, (), None)) == NOT_JUDGED
    assert can(LabelledImage(np.zeros_like(astronaut), None, (), None)) == NOT_JUDGED
    # of two faces that of the annotation
    both = np.zeros_like(np.concatenate([astronaut, astronaut], axis=1))
    both[:, :512], both[:171, 600:771] = astronaut, small
    points = np.array([[670.0, 40.0]] * 5, np.float32)
    assert can(LabelledImage(both, points, (), None)) == NOT_JUDGED
    assert can(LabelledImage(both, points - (450, 0), (), None)) == JUDGED


@pytest.mark.filterwarnings("error")
def test_weights_of_others_are_one_line(tmp_path: Path) -> None:
    class Doubled(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 2 * x

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(Doubled(), torch.zeros(1)).save(tmp_path / "script.ckpt")
    for name in ("other.onnx", "other.safetensors"):
        (tmp_path / name).write_bytes(b"other")
    refused = {
        "script.ckpt": "truncated, damaged or no checkpoint",
        "other.onnx": "its description, forgerank.json, is not beside it",
        "other.safetensors": "its description, other.json, is not beside it",
        "nowhere.safetensors": "no such file or folder",
        ".": "cannot read the weights (no such file or folder)",
    }
    for name, reason in refused.items():
        with pytest.raises(InputError) as caught:
            open_scorer(tmp_path / name)
        assert str(caught.value).startswith(f"{tmp_path / name}")
        assert str(caught.value).endswith(reason)


def test_scores_of_steps_worked_out_by_hand() -> None:
    probabilities = torch.tensor([[[0.1, 0.7, 0.2], [0.5, 0.1, 0.4]]])
    scores = to_scores(StepOutput(probabilities.log(), torch.tensor([[1, 0]])), FORWARD)
    assert scores.probability.tolist() == pytest.approx([0.9])
    assert scores.components[0].tolist() == pytest.approx([1 - 0.3 * 0.9, 1 - 0.8 * 0.6])
    # mean earliness, 1 for the first step and 1/2 for the second
    assert scores.order[0].tolist() == pytest.approx([(0.7 + 0.05) / 0.8, (0.2 + 0.2) / 0.6])
    assert scores.sequences is not None
    assert scores.sequences.tolist() == [[1, 0]]


def test_backward_answers_are_turned_round() -> None:
    said = torch.tensor([[3, 1, 0], [0, 0, 0], [2, 0, 1], [1, 2, 3], [0, 2, 0]])
    scores = to_scores(StepOutput(torch.zeros(5, 3, 4), said), BACKWARD)
    assert scores.sequences is not None
    assert scores.sequences.tolist() == [[1, 3, 0], [0, 0, 0], [1, 0, 2], [3, 2, 1], [2, 0, 0]]


@pytest.mark.parametrize("order", ["first_to_last", "last_to_first"])
def test_sure_answers_tell_one_sequence_by_every_way(order: Order) -> None:
    """Probabilities and order scores, read as the paper's are, give the network's own sequence."""
    rng = np.random.default_rng(0)
    truth = [rng.permutation(5)[: rng.integers(0, 6)] + 1 for _ in range(40)]
    steps = torch.tensor(pad_sequences([s if order == "first_to_last" else s[::-1] for s in truth], 5))
    logits = F.one_hot(steps, 6) * 12.0 + torch.rand(40, 5, 6, generator=torch.Generator().manual_seed(0))
    scores = to_scores(StepOutput(logits, steps), LossConfig(order=order))
    assert scores.sequences is not None
    assert scores.sequences.tolist() == pad_sequences(truth, 5).tolist()
    derived = predict_sequences(scores.components, np.full(5, 0.5), order, scores.order)
    assert derived.tolist() == pad_sequences(truth, 5).tolist()
    assert ((scores.probability > 0.5) == (steps[:, 0] > 0)).all()


def test_scores_of_a_linear_head() -> None:
    logits = torch.tensor([[0.0, 0.0], [-40.0, 3.0], [-1e4, -1e4], [1e4, -1e4]])
    scores = to_scores(LinearOutput(logits), FORWARD)
    assert scores.probability.tolist() == pytest.approx([0.75, torch.tensor(3.0).sigmoid().item(), 0, 1])
    assert torch.equal(scores.components, logits.sigmoid())
    assert scores.sequences is None
    single = torch.linspace(-20, 10, 7)[:, None]
    torch.testing.assert_close(to_scores(LinearOutput(single), FORWARD).probability, single[:, 0].sigmoid())


def test_scores_of_the_papers_network() -> None:
    tokens = F.normalize(torch.randn(3, 9, 6, generator=torch.Generator().manual_seed(0)), dim=2)
    logits, order = torch.randn(3, 5), torch.randn(3, 5)
    scores = to_scores(Output(tokens, logits, logits, logits, order, logits, None), LossConfig(tau=0.2))
    assert torch.equal(scores.probability, forgery_probability(forgery_gap(tokens), 0.2))
    assert torch.equal(scores.components, logits.sigmoid())
    assert torch.equal(scores.order, order.sigmoid())
    assert scores.sequences is None


@pytest.mark.parametrize("extreme", [1e4, -1e4])
def test_extreme_and_coarse_logits(extreme: float) -> None:
    logits = torch.randn(2, 5, 6).bfloat16()
    logits[0, :, 2] = extreme
    scores = to_scores(StepOutput(logits, logits.argmax(dim=2)), FORWARD)
    for values in (scores.probability, scores.components, scores.order):
        assert values.dtype == torch.float32
        assert 0 <= values.min() <= values.max() <= 1


def test_a_networks_own_sequences_are_judged_as_they_are() -> None:
    """Also one that says a label twice, or none before another, whatever the scores say."""
    scores = np.array([[0.1, 0.2], [0.3, 0.1], [0.6, 0.9], [0.2, 0.55]])
    own = Predictions(
        probability=np.array([0.1, 0.7, 0.9, 0.4]),
        components=scores,
        order=scores,
        presence=np.array([[0, 0], [0, 0], [1, 1], [0, 1]]),
        sequences=pad_sequences([[], [], [2, 1], [2]], 2),
        groups=["a", "b", "c", "c"],
        sources=["here"] * 4,
        predicted=np.array([[0, 0], [1, 1], [2, 1], [0, 2]]),
    )
    result = summarize(own, order="first_to_last", resamples=2)
    values = {name: interval["value"] for name, interval in result["metrics"].items()}
    assert values["fixed_accuracy"] == 4 / 8
    assert values["complete_sequences"] == 2 / 4
    assert values["multi_label_accuracy"] == 7 / 8
    assert values["pairwise_order"] == 1
    kept = join(own, own).rows(np.arange(8) % 4 == 1).predicted
    assert kept is not None
    assert kept.tolist() == [[1, 1]] * 2
    with pytest.raises(ValueError, match="only one"):
        join(own, replace(own, predicted=None))


class Told:
    """A source that has annotations and no images."""

    def __init__(self, *samples: dict[str, Any]) -> None:
        self.samples = [
            Sample(
                Path(f"{i}.png"), **{"sequence": (), "group": str(i), "split": "val", "dataset": "d", **about}
            )
            for i, about in enumerate(samples)
        ]

    def __len__(self) -> int:
        return len(self.samples)

    def load(self, index: int, rng: np.random.Generator) -> LabelledImage:
        raise NotImplementedError

    def sample(self, index: int) -> Sample:
        return self.samples[index]


class Guesser:
    """Scores without a network."""

    thresholds = calibration = None

    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        self.length = len(config.data.labels)

    def score(self, batch: Item) -> Scores:
        count = len(batch["index"])
        return Scores(torch.rand(count), torch.rand(count, self.length), torch.rand(count, self.length))


FACES: tuple[dict[str, Any], ...] = (
    {"sequence": (4, 2)},
    {},
    {"fake": True},
    {"parts": (1, 0, None, 1, 0)},
    {"parts": (0, 0, 1, 0, 0)},  # a single manipulation: its place is known
    {"parts": (0, 0, 0, 0, 0)},
    {"parts": (0, 0, 0, 0, 0), "fake": True},  # forged elsewhere
)


def shown(faces: Sequence[dict[str, Any]], length: int) -> Item:
    """The batch that a loader makes of these faces, without their images."""
    truth = [
        face_labels(face.get("sequence", ()), length, parts=face.get("parts"), fake=face.get("fake", False))
        for face in faces
    ]
    return Item(
        index=torch.arange(len(faces)),
        presence=torch.tensor([[float(part or 0) for part in face.presence] for face in truth]),
        sequence=torch.tensor([face.sequence for face in truth]),
        forged=torch.tensor([float(face.forged) for face in truth]),
        known=torch.tensor([[part is not None for part in face.presence] for face in truth]),
        ordered=torch.tensor([face.ordered for face in truth]),
        whole=torch.tensor([face.get("whole", False) for face in faces]),
    )


def test_predictions_tell_what_is_known(tiny_config: Callable[..., TrainConfig]) -> None:
    scorer = Guesser(tiny_config())
    found = predict(scorer, Told(*FACES), [shown(FACES, 5)], progress=False)
    assert found.presence.tolist() == [
        [0, 1, 0, 1, 0],
        [0] * 5,
        [-1] * 5,
        [1, 0, -1, 1, 0],
        [0, 0, 1, 0, 0],
        [0] * 5,
        [0] * 5,
    ]
    assert found.sequences.tolist() == pad_sequences([[4, 2], [], [], [], [3], [], []], 5).tolist()
    assert found.forged.tolist() == [1, 0, 1, 1, 1, 0, 1]
    assert found.ordered.tolist() == [True, True, False, False, True, True, False]
    assert found.known.sum(axis=1).tolist() == [5, 5, 0, 4, 5, 5, 5]
    kept = join(found, found).rows(np.arange(14) % 7 == 6)
    assert kept.forged.tolist() == [1, 1]
    assert kept.ordered.tolist() == [False, False]
    assert summarize(found, order="first_to_last", resamples=2)["by_length"].keys() == {
        "0",
        "1",
        "2",
        "unknown",
    }


def test_joined_with_predictions_that_say_less() -> None:
    """All known and nothing said of it, beside labels that are known in part."""
    scores = np.array([[0.1, 0.2], [0.6, 0.9]])
    plain = Predictions(
        probability=scores[:, 0],
        components=scores,
        order=scores,
        presence=np.array([[0, 0], [1, 1]]),
        sequences=pad_sequences([[], [2, 1]], 2),
        groups=["a", "b"],
        sources=["here"] * 2,
    )
    partly = replace(plain, presence=np.array([[0, 0], [-1, -1]]), fake=np.array([False, True]))
    for both in (join(plain, partly), join(partly, plain)):
        assert both.forged.tolist() == [0, 1, 0, 1]
        assert both.ordered.tolist() == both.known.all(axis=1).tolist()


def test_a_single_label_is_known_from_forged(tiny_config: Callable[..., TrainConfig]) -> None:
    config = tiny_config()
    config = config.model_copy(update={"data": config.data.model_copy(update={"vocabulary": "binary"})})
    assert config.data.labels == ("face",)
    faces = ({"fake": True}, {}, {"sequence": (1,)}, {"parts": (None,), "fake": True})
    found = predict(Guesser(config), Told(*faces), [shown(faces, 1)], progress=False)
    assert found.presence.tolist() == found.sequences.tolist() == [[1], [0], [1], [1]]
    assert found.ordered.all()


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")
@pytest.mark.parametrize("kind", ["multicls", "decoder", "queries", "linear"])
def test_every_kind_trains_and_evaluates_by_one_way(
    kind: str, tiny_config: Callable[..., TrainConfig]
) -> None:
    config = tiny_config(
        model={"kind": kind, "mask_head": False},
        loss={"lambda_mask": 0, "order": "last_to_first"},
        data={"train_images": 16, "val_images": 12},
    )
    weights = fit.run(config, progress=False)
    trained = json.loads(weights.with_suffix(".json").read_text())["metrics"]
    for path in (weights, config.output / "last.ckpt"):
        scorer = open_scorer(path)
        assert scorer.config.model.kind == kind
        found = evaluate(path, limit=12, resamples=2, progress=False)["metrics"]
        names = {"fixed_accuracy": "fixed", "multi_label_accuracy": "accuracy", "pairwise_order": "order"}
        for ours, theirs in {**names, "auc": "auc", "component_ap": "map"}.items():
            assert found[ours]["value"] == pytest.approx(trained[f"val/{theirs}"], abs=1e-6), ours


def test_settings_that_no_baseline_has_are_one_line(tiny_config: Callable[..., TrainConfig]) -> None:
    with pytest.raises(InputError, match=r"test: model: .*mask_head True needs kind ranking.*not decoder$"):
        tiny_config(model={"kind": "decoder"})
    with pytest.raises(InputError, match=r"lambda_mask needs model.mask_head"):
        tiny_config(model={"kind": "decoder", "mask_head": False})


def test_settings_from_before_the_baselines_still_mean_the_papers_network() -> None:
    settings = tiny_settings(".", "run")  # type: ignore[arg-type]
    assert "kind" not in settings["model"]
    assert parse_config(settings, "test").model.kind == "ranking"
