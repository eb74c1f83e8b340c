"""Convolutions with ReLU6 in one: values and gradients are those of the two apart."""

import copy

import pytest
import torch
import torch.nn.functional as F
from timm.layers.conv2d_same import Conv2dSame
from torch import nn

from forgerank.model import activated
from forgerank.model.activated import ActivatedConv2d, can_be_activated
from forgerank.model.backbone import Backbone

LAYERS = {
    "pointwise": nn.Conv2d(6, 8, 1),
    "strided pointwise": nn.Conv2d(6, 8, 1, stride=2),
    "depthwise": nn.Conv2d(6, 6, 5, padding=2, groups=6),
    "same": Conv2dSame(6, 6, 3, stride=2, groups=6),
    "stem": Conv2dSame(6, 4, 3, stride=2),
}


def images_of(*shape: int) -> torch.Tensor:
    images = 20 * torch.randn(*shape, generator=torch.Generator().manual_seed(0))
    return images.contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("relu6", [False, True])
@pytest.mark.parametrize("cached", [1, 2**20])  # the images of a batch one after the other, or at once
def test_values_and_gradients(name: str, relu6: bool, cached: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activated, "_CACHED_BYTES", cached)
    plain = copy.deepcopy(LAYERS[name]).train()
    layer = ActivatedConv2d(copy.deepcopy(plain), relu6=relu6).train()
    assert list(layer.state_dict()) == list(plain.state_dict())
    theirs, ours = images_of(3, 6, 9, 12).requires_grad_(), images_of(3, 6, 9, 12).requires_grad_()
    expected = F.relu6(plain(theirs)) if relu6 else plain(theirs)
    output = layer(ours)
    assert torch.equal(output, expected)
    upstream = torch.randn(expected.shape[0], expected.shape[1], expected.shape[2], expected.shape[3] + 1)
    upstream = upstream[:, :, :, 1:]  # as after a crop: not dense
    expected.backward(upstream)
    output.backward(upstream)
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-5, atol=1e-4)
    for (_, found), (_, known) in zip(layer.named_parameters(), plain.named_parameters(), strict=True):
        torch.testing.assert_close(found.grad, known.grad, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("given", [torch.float32, torch.bfloat16])
def test_bfloat16_gradients_are_near_those_of_float32(name: str, given: torch.dtype) -> None:
    plain = copy.deepcopy(LAYERS[name]).train()
    layer = ActivatedConv2d(copy.deepcopy(plain), relu6=True).train()
    # whole numbers of few bits: the same in both
    values = images_of(3, 6, 9, 12).round()
    theirs, ours = values.clone().requires_grad_(), values.to(given).requires_grad_()
    with torch.no_grad():
        for one, other in zip(layer.parameters(), plain.parameters(), strict=True):
            other.copy_(one.copy_(one.bfloat16()))
    expected = F.relu6(plain(theirs))
    with torch.autocast("cpu", torch.bfloat16):
        output = layer(ours)
    assert output.dtype == torch.bfloat16
    assert "ActivatedConv2d" in type(output.grad_fn).__name__
    torch.testing.assert_close(output.float(), expected, rtol=0.01, atol=0.01)
    # Where one lies just inside a bend of ReLU6 and the other on it they differ: not asked here.
    upstream = torch.randn_like(expected).bfloat16() * ((expected > 0.1) & (expected < 5.9)).bfloat16()
    expected.backward(upstream.float())
    output.backward(upstream)
    assert ours.grad is not None
    assert ours.grad.dtype == given
    torch.testing.assert_close(ours.grad.float(), theirs.grad, rtol=0.02, atol=0.05)
    for (_, found), (_, known) in zip(layer.named_parameters(), plain.named_parameters(), strict=True):
        assert found.grad.dtype == torch.float32
        scale = float(known.grad.abs().max())
        torch.testing.assert_close(found.grad, known.grad, rtol=0.02, atol=0.01 * scale)


def test_evaluation_and_other_layouts_are_left_to_torch() -> None:
    plain = nn.Conv2d(6, 8, 1)
    layer = ActivatedConv2d(plain, relu6=True)
    images = images_of(2, 6, 5, 5)
    expected = F.relu6(plain(images))
    for found in (layer.eval()(images), layer.train()(images.contiguous())):
        assert "ActivatedConv2d" not in type(found.grad_fn).__name__
        torch.testing.assert_close(found, expected)
    assert "ActivatedConv2d" in type(layer(images).grad_fn).__name__
    with torch.autocast("cpu", torch.float16):
        assert "ActivatedConv2d" not in type(layer(images).grad_fn).__name__


def test_which_convolutions_are_taken() -> None:
    assert can_be_activated(nn.Conv2d(4, 8, 1), relu6=False)
    assert not can_be_activated(nn.Conv2d(4, 8, 3), relu6=False)
    assert can_be_activated(nn.Conv2d(4, 8, 3), relu6=True)
    for options in (
        {"kernel_size": (1, 3)},
        {"kernel_size": 3, "dilation": 2},
        {"kernel_size": 3, "padding": "same"},
    ):
        assert not can_be_activated(nn.Conv2d(4, 8, **options), relu6=True)


def test_a_folded_backbone_has_its_activations_inside() -> None:
    torch.manual_seed(0)
    backbone = Backbone("tf_efficientnet_lite0", input_size=64, fold_norm=True)
    joined = [module for module in backbone.modules() if isinstance(module, ActivatedConv2d)]
    assert [sum(layer.relu6 for layer in joined), len(joined)] == [32, 48]
    assert not any(isinstance(module, nn.ReLU6) for module in backbone.modules())
