import copy

import pytest
import torch
from torch import Tensor, nn

from forgerank.model.baselines import build_network
from forgerank.model.config import Kind, ModelConfig
from forgerank.train.sharding import blocks, recompute_blocks


def tiny(kind: Kind = "ranking", backbone: str = "test_resnet.r160_in1k") -> nn.Module:
    torch.manual_seed(0)
    config = ModelConfig(kind=kind, backbone=backbone, input_size=64, width=16, heads=2, feedforward=16)
    return build_network(config).train()


@pytest.mark.parametrize(
    ("kind", "last"),
    [("ranking", "encoder.layers.1"), ("decoder", "layers.layers.1"), ("multicls", ".layer4.0")],
)
def test_blocks_are_residual_blocks_and_transformer_layers(kind: Kind, last: str) -> None:
    network = tiny(kind)
    names = {module: name for name, module in network.named_modules()}
    found = [names[block] for block in blocks(network)]
    assert found[0].startswith("backbone.net.layer1.")
    assert found[-1].endswith(last)
    # No block lies in another one: nothing is computed three times.
    assert not [a for a in found for b in found if a != b and a.startswith(f"{b}.")]


def gradients(network: nn.Module, images: Tensor) -> dict[str, Tensor]:
    torch.manual_seed(1)  # dropout
    output = network(images)
    (output.logits.square().sum() + output.tokens.sum()).backward()
    return {name: weight.grad for name, weight in network.named_parameters() if weight.grad is not None}


def test_recomputing_changes_neither_gradients_nor_statistics() -> None:
    plain = tiny()
    recomputed = copy.deepcopy(plain)
    recompute_blocks(recomputed)
    calls = []
    next(blocks(recomputed)).register_forward_hook(lambda *_: calls.append("hook"))
    inner = next(m for m in next(blocks(recomputed)).modules() if isinstance(m, nn.Conv2d))
    inner.register_forward_hook(lambda *_: calls.append("conv"))
    images = torch.rand(3, 3, 64, 64)
    expected, found = gradients(plain, images), gradients(recomputed, images)
    assert calls == ["conv", "hook", "conv"]  # computed again for the backward pass
    assert expected.keys() == found.keys()
    assert [name for name in expected if not torch.equal(expected[name], found[name])] == []
    statistics = dict(recomputed.named_buffers())
    assert any("running_mean" in name for name in statistics)
    for name, buffer in plain.named_buffers():
        assert torch.equal(buffer, statistics[name]), name
    assert {m.momentum for m in recomputed.modules() if isinstance(m, nn.BatchNorm2d)} == {0.1}
