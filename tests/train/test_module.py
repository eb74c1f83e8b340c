import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from forgerank.data.seqdeepfake import SeqDeepFake
from forgerank.losses.total import LOSSES
from forgerank.model.baselines import MODELS
from forgerank.model.decoder import SequenceDecoder
from forgerank.model.network import StepOutput
from forgerank.train import fit
from forgerank.train.config import OptimConfig, TrainConfig
from forgerank.train.module import learning_rate_factor

COSINE = OptimConfig(schedule="cosine", warmup=0.1, floor=0.02)
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
            data={"train_pictures": 16, "val_pictures": 8},
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
