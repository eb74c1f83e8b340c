import pytest
import torch
from timm.layers.conv2d_same import Conv2dSame
from torch import nn

from forgerank.model.depthwise import DepthwiseConv2d, replace_depthwise


@pytest.mark.parametrize("side", [2, 3, 5, 7])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("same", [False, True])
@pytest.mark.parametrize("size", [12, 13])
def test_values_and_gradients_are_those_of_the_plain_convolution(
    side: int, stride: int, same: bool, size: int
) -> None:
    torch.manual_seed(side + stride)
    kind, padding = (Conv2dSame, 0) if same else (nn.Conv2d, side // 2)
    conv = kind(6, 6, side, stride=stride, padding=padding, groups=6)
    fast = DepthwiseConv2d(conv).train()
    images = torch.randn(2, 6, size, size).bfloat16().contiguous(memory_format=torch.channels_last)
    plain_images, fast_images = images.float().requires_grad_(), images.clone().requires_grad_()
    plain = conv(plain_images)
    upstream = torch.randn_like(plain).bfloat16()
    plain.backward(upstream.float())
    expected = {name: value.grad.clone() for name, value in conv.named_parameters() if value.grad is not None}
    conv.zero_grad()
    output = fast(fast_images)
    output.backward(upstream)
    assert output.dtype == torch.bfloat16
    torch.testing.assert_close(output.float(), plain, rtol=0.02, atol=0.03)
    assert plain_images.grad is not None
    assert fast_images.grad is not None
    torch.testing.assert_close(fast_images.grad.float(), plain_images.grad, rtol=0.02, atol=0.03)
    for name, value in fast.named_parameters():
        scale = float(expected[name].abs().max())
        torch.testing.assert_close(value.grad, expected[name], rtol=0.02, atol=0.02 * scale)


def test_float32_and_evaluation_are_left_exact() -> None:
    conv = nn.Conv2d(4, 4, 3, padding=1, groups=4)
    images = torch.randn(1, 4, 8, 8)
    assert torch.equal(DepthwiseConv2d(conv).train()(images), conv(images))
    assert torch.equal(DepthwiseConv2d(conv).eval()(images), conv(images))


def test_only_square_depthwise_convolutions_are_replaced() -> None:
    net = nn.Sequential(
        nn.Conv2d(4, 4, 3, groups=4),
        nn.Conv2d(4, 8, 3, groups=4),
        nn.Conv2d(8, 8, (1, 3), groups=8),
        nn.Conv2d(8, 8, 3, dilation=2, groups=8),
        nn.Conv2d(8, 8, 1),
    )
    names = list(net.state_dict())
    replace_depthwise(net)
    assert [isinstance(layer, DepthwiseConv2d) for layer in net] == [True, False, False, False, False]
    assert list(net.state_dict()) == names
