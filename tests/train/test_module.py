import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from forgerank.data.batches import Item
from forgerank.data.formats.seqdeepfake import SeqDeepFake
from forgerank.evaluation.scorers import TorchScorer
from forgerank.losses.total import LOSSES
from forgerank.metrics.scores import Scores, to_scores
from forgerank.model.baselines import MODELS, SequenceDecoder, build_network
from forgerank.model.network import StepOutput
from forgerank.train import fit
from forgerank.train.config import OptimConfig, TrainConfig
from forgerank.train.loaders import open_source, plain_loader, train_loader
from forgerank.train.module import ForgeryModule, learning_rate_factor, to_images
from forgerank.train.sharpness import Ascent

COSINE = OptimConfig(schedule="cosine", warmup=0.1, min_lr_factor=0.02)
STEP = OptimConfig(schedule="step", warmup=0.1, milestones=(0.4, 0.7), gamma=0.1)


@pytest.mark.parametrize(
    ("progress", "factor"), [(0, 0), (0.05, 0.5), (0.1, 1), (0.55, 0.51), (1, 0.02), (1.2, 0.02)]
)
def test_cosine_schedule(progress: float, factor: float) -> None:
    assert learning_rate_factor(progress, COSINE) == pytest.approx(factor)


@pytest.mark.parametrize(
    ("progress", "factor"), [(0.05, 0.5), (0.39, 1), (0.4, 0.1), (0.69, 0.1), (0.7, 0.01), (1, 0.01)]
)
def test_step_schedule(progress: float, factor: float) -> None:
    assert learning_rate_factor(progress, STEP) == pytest.approx(factor)


def test_an_ascent_goes_the_radius_along_the_gradient_and_back() -> None:
    first, second, unused = (nn.Parameter(torch.tensor(v)) for v in ([1.0, 2.0], [[3.0]], [5.0]))
    fixed = nn.Parameter(torch.ones(2), requires_grad=False)
    before = [weight.detach().clone() for weight in (first, second, unused, fixed)]
    ascent = Ascent([first, second, unused, fixed], radius=0.5)
    ascent.climb((first * fixed).sum() * 2 + second.sum())  # its gradient: 2, 2, 1; norm 3
    torch.testing.assert_close(first.detach(), torch.tensor([1 + 1 / 3, 2 + 1 / 3]))
    torch.testing.assert_close(second.detach(), torch.tensor([[3 + 1 / 6]]))
    assert first.grad is None
    ascent.descend()
    for weight, place in zip((first, second, unused, fixed), before, strict=True):
        assert torch.equal(weight, place)


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")
def test_sharpness_aware_steps_take_the_gradient_elsewhere(
    tiny_config: Callable[..., TrainConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step's loss is that of climbed weights, which are where the optimiser left them again afterwards."""
    step, ended = ForgeryModule.training_step, ForgeryModule.on_train_batch_end
    losses: list[float] = []
    climbed: list[torch.Tensor] = []
    distances: list[float] = []

    def all_weights(module: ForgeryModule) -> torch.Tensor:
        return torch.cat([weight.detach().flatten() for weight in module.network.parameters()])

    def begin(self: ForgeryModule, batch: Item, batch_idx: int) -> torch.Tensor:
        total = step(self, batch, batch_idx)
        losses.append(float(total.detach()))
        climbed.append(all_weights(self))
        return total

    def end(self: ForgeryModule, *arguments: Any) -> None:
        distances.append(float((climbed[-1] - all_weights(self)).norm()))
        ended(self, *arguments)

    monkeypatch.setattr(ForgeryModule, "training_step", begin)
    monkeypatch.setattr(ForgeryModule, "on_train_batch_end", end)
    for radius in (0.0, 0.5):
        slow = {"lr": 1e-9, "backbone_lr": 1e-9, "sharpness": radius}
        config = tiny_config(optim=slow, data={"train_images": 8, "val_images": 8})
        fit.run(config.model_copy(update={"output": config.output / str(radius)}), progress=False)
    assert len(losses) == 2
    assert losses[1] > losses[0]
    assert distances == pytest.approx([0.0, 0.5], abs=1e-3)


def test_every_kind_of_network_has_its_loss() -> None:
    assert list(LOSSES) == list(MODELS)


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")
@pytest.mark.parametrize("order", ["first_to_last", "last_to_first"])
def test_the_decoder_reads_the_truth_in_training_only(
    order: str, tiny_config: Callable[..., TrainConfig], squares: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: dict[bool, list[Any]] = {True: [], False: []}
    forward = SequenceDecoder.forward

    def spied(self: SequenceDecoder, images: torch.Tensor, *sequences: torch.Tensor) -> StepOutput:
        read[self.training].extend(row.tolist() for part in sequences for row in part)
        return forward(self, images, *sequences)

    monkeypatch.setattr(SequenceDecoder, "forward", spied)
    weights = fit.run(
        tiny_config(
            model={"kind": "decoder", "mask_head": False},
            loss={"lambda_mask": 0, "order": order},
            data={"train_images": 16, "val_images": 8},
        ),
        progress=False,
    )
    truth = [sample.sequence for sample in SeqDeepFake(squares, "train").samples]
    turned = [sequence if order == "first_to_last" else sequence[::-1] for sequence in truth]
    assert read[False] == []
    assert len(read[True]) == 16
    assert {tuple(filter(None, row)) for row in read[True]} <= set(map(tuple, turned))
    assert any(len(set(row)) > 2 for row in read[True])
    metrics = json.loads(weights.with_suffix(".json").read_text())["metrics"]
    assert set(metrics) >= {"val/auc", "val/map", "val/accuracy", "val/fixed", "val/order", "val/loss_steps"}
    checkpoint = torch.load(weights.with_name("last.ckpt"), weights_only=True)
    assert {name.split(".")[0] for name in checkpoint["state_dict"]} == {"network", "average"}


def test_validation_tells_the_sources_apart(
    tiny_config: Callable[..., TrainConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config(model={"mask_head": False}, loss={"lambda_mask": 0.0})
    sources = {"first": 3, "second": 5, "real": 2}
    module = ForgeryModule(config, build_network(config.model), max_steps=1, val_sources=sources)
    logged: dict[str, float] = {}
    monkeypatch.setattr(module, "log_dict", lambda values, **_: logged.update(values))
    # P(x) is what is drawn here, whatever is shown.
    probabilities = torch.tensor([0.9, 0.2, 0.7, 0.1, 0.6, 0.3, 0.2, 0.8, 0.5, 0.4])
    forged = torch.tensor([1, 0, 0, 0, 1, 1, 0, 0, 0, 0])
    rows = torch.arange(0)

    def score(output: Any, loss: Any) -> Scores:
        return to_scores(output, loss)._replace(probability=probabilities[rows])

    monkeypatch.setattr("forgerank.train.module.to_scores", score)
    for start in range(0, 10, 4):  # batches across the borders of the sources
        rows = torch.arange(start, min(start + 4, 10))
        count = len(rows)
        item = Item(
            image=torch.zeros(count, 3, 64, 64, dtype=torch.uint8),
            presence=torch.zeros(count, 5),
            sequence=torch.zeros(count, 5, dtype=torch.long),
            forged=forged[rows].float(),
            known=torch.zeros(count, 5, dtype=torch.bool),
            ordered=torch.zeros(count, dtype=torch.bool),
            index=rows,
        )
        with torch.no_grad():
            module.validation_step(item, 0)
    module.on_validation_epoch_end()
    assert [row["source"] for row in module.curve] == list(sources)
    areas = [row["auc"] for row in module.curve]
    # 0.9 above 0.2 and 0.7; of 0.6 and 0.3 against 0.1, 0.2 and 0.8 four of six.
    assert areas[:2] == pytest.approx([1.0, 4 / 6])
    assert math.isnan(float(areas[2]))
    assert float(logged["val/sources"]) == pytest.approx((1.0 + 4 / 6 + 4 / 6) / 3)
    # 0.9 above all seven real ones, 0.6 above five, 0.3 above three.
    assert float(logged["val/auc"]) == pytest.approx(15 / 21)


class Results(TorchDispatchMode):
    """Records device and type of what every operation of torch returns."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, torch.dtype]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.seen.append((result.device.type, result.dtype))
        return result


def test_images_reach_the_device_as_bytes(tiny_config: Callable[..., TrainConfig]) -> None:
    config, meta = tiny_config(), torch.device("meta")
    source = open_source(config.data, "train")
    module = ForgeryModule(config, build_network(config.model), max_steps=1)
    for loader in (train_loader(config, source, position=lambda: 0), plain_loader(config, source)):
        batch = next(iter(loader))
        with Results() as training:
            images = to_images(module.transfer_batch_to_device(batch, meta, 0))
        assert (images.device, images.dtype) == (meta, torch.float32)
        assert ("meta", torch.uint8) in training.seen
    scorer = TorchScorer(module.network, config)
    scorer._device, scorer._network = meta, nn.Identity()
    with Results() as scoring, pytest.raises(AttributeError, match="tokens"):  # an image has none
        scorer.score(batch)
    assert scoring.seen[:2] == [("meta", torch.uint8), ("meta", torch.float32)]
