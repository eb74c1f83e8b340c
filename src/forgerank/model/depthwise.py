"""Depthwise convolutions whose bfloat16 gradient avoids oneDNN's slow reference code on CPUs."""

from typing import Any

import torch
import torch.nn.functional as F
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.padding import pad_same
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class DepthwiseConv2d(nn.Module):
    """A depthwise `nn.Conv2d` or timm `Conv2dSame`: same weights and values, faster bfloat16 gradient."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.weight, self.bias = conv.weight, conv.bias
        self.stride, self.same = conv.stride[0], isinstance(conv, Conv2dSame)
        self.padding = 0 if self.same else int(conv.padding[0])

    def forward(self, images: Tensor) -> Tensor:
        """images (B, C, H, W); returns (B, C, H', W')."""
        if self.same:
            images = pad_same(images, list(self.weight.shape[2:]), [self.stride, self.stride])
        layout = self.stride, self.padding
        return depthwise_conv2d(images, self.weight, self.bias, *layout, training=self.training)


def depthwise_conv2d(
    images: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int, *, training: bool
) -> Tensor:
    """`F.conv2d` with as many groups as channels; in bfloat16 training the gradient is computed here."""
    if training and images.dtype == torch.bfloat16:
        output: Tensor = _Depthwise.apply(images, weight.bfloat16(), stride, padding)
        return output if bias is None else output + bias.bfloat16()[:, None, None]
    return F.conv2d(images, weight, bias, stride, padding, groups=weight.shape[0])


def replace_depthwise(net: nn.Module) -> None:
    """Put `DepthwiseConv2d` in the place of every square depthwise convolution, in place."""
    for name, module in list(net.named_modules()):
        if isinstance(module, nn.Conv2d) and module.groups == module.in_channels == module.out_channels > 1:
            square = len(set(module.kernel_size)) == len(set(module.stride)) == len(set(module.padding)) == 1
            if square and module.dilation == (1, 1):
                net.set_submodule(name, DepthwiseConv2d(module))


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
        ctx.save_for_backward(images, weight)
        ctx.stride, ctx.padding = stride, padding
        return F.conv2d(images, weight, None, stride, padding, groups=weight.shape[0])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        images, weight = ctx.saved_tensors
        stride, padding = ctx.stride, ctx.padding
        return (
            images_gradient(gradient, images, weight, stride, padding),
            weight_gradient(gradient, images, weight, stride, padding),
            None,
            None,
        )


def images_gradient(gradient: Tensor, images: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    """Gradient of a depthwise convolution with respect to its images.

    It is a convolution with the kernel rotated by 180 degrees over the gradient, zeros between its cells.
    """
    if stride > 1:
        height, width = (side + 2 * padding - weight.shape[2] + 1 for side in images.shape[2:])
        batch, channels = gradient.shape[:2]
        # Created in channels_last: a conversion would copy the zeros.
        spread = gradient.new_zeros(batch, height, width, channels).permute(0, 3, 1, 2)
        spread[:, :, ::stride, ::stride] = gradient
        gradient = spread
    border = weight.shape[2] - 1 - padding
    return F.conv2d(gradient, weight.flip(2, 3), None, 1, border, groups=weight.shape[0])


def weight_gradient(gradient: Tensor, images: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    """Gradient of a depthwise convolution with respect to its weight.

    oneDNN is fast for 3x3 kernels only: a larger kernel is covered by 3x3 blocks, two cells apart.
    """
    side = weight.shape[2]
    if side == 3:
        return _kernel_gradient(gradient, images, weight, stride, padding)
    if side < 3 or side % 2 == 0:
        wide = _kernel_gradient(gradient.float(), images.float(), weight.float(), stride, padding)
        return wide.to(weight.dtype)
    result = torch.empty_like(weight)
    images = F.pad(images, (padding,) * 4)
    height, width = ((cells - 1) * stride + 3 for cells in gradient.shape[2:])
    for y in range(0, side - 2, 2):
        for x in range(0, side - 2, 2):
            block = images[:, :, y : y + height, x : x + width].contiguous(memory_format=torch.channels_last)
            kernel = weight[:, :, y : y + 3, x : x + 3].contiguous()
            result[:, :, y : y + 3, x : x + 3] = _kernel_gradient(gradient, block, kernel, stride, 0)
    return result


def _kernel_gradient(gradient: Tensor, images: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    result: Tensor
    _, result, _ = torch.ops.aten.convolution_backward(
        gradient, images, weight, None,
        [stride, stride], [padding, padding], [1, 1], False, [0, 0], weight.shape[0], [False, True, False],
    )  # fmt: skip
    return result
