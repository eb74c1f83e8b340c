"""Convolutions fused with their ReLU6: the same function, trained with fewer passes over memory."""

from typing import Any

import torch
import torch.nn.functional as F
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.padding import pad_same
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from forgerank.model.depthwise import depthwise_conv2d, images_gradient, weight_gradient

_CACHED_BYTES = 4 * 2**20  # per thread, of what a pointwise convolution's gradient touches at once


class ActivatedConv2d(nn.Module):
    """A convolution with a bias, followed by ReLU6 if `relu6`: same weights and values as the two layers.

    In training on a CPU, channels_last, in float32 or under bfloat16 autocast, the gradient is computed here.
    torch keeps a copy of the input of ReLU6; here the output, which the next layer keeps anyway, shows where
    ReLU6 was flat. Bias gradients are sums and those of 1x1 convolutions matrix products, faster than oneDNN.
    """

    def __init__(self, conv: nn.Conv2d, *, relu6: bool) -> None:
        super().__init__()
        assert conv.bias is not None
        self.weight, self.bias = conv.weight, conv.bias
        self.stride, self.groups, self.relu6 = conv.stride[0], conv.groups, relu6
        self.same = isinstance(conv, Conv2dSame)
        self.padding = 0 if self.same else int(conv.padding[0])

    def forward(self, images: Tensor) -> Tensor:
        """images (B, C, H, W); returns (B, C', H', W')."""
        if self.same:
            images = pad_same(images, list(self.weight.shape[2:]), [self.stride, self.stride])
        dtype = self._gradient_dtype(images)
        if dtype is not None:
            values = images.to(dtype), self.weight.to(dtype), self.bias.to(dtype)
            with torch.autocast("cpu", enabled=False):
                output: Tensor = _ActivatedConv2d.apply(
                    *values, self.stride, self.padding, self.groups, self.relu6
                )
            return output
        layout = self.stride, self.padding
        if self.groups == self.weight.shape[0]:
            output = depthwise_conv2d(images, self.weight, self.bias, *layout, training=self.training)
        else:
            output = F.conv2d(images, self.weight, self.bias, *layout, groups=self.groups)
        return F.relu6(output, inplace=not output.requires_grad) if self.relu6 else output

    def _gradient_dtype(self, images: Tensor) -> torch.dtype | None:
        """The dtype in which torch would compute the gradient, if it is computed here; else None."""
        here = (
            self.training
            and torch.is_grad_enabled()
            and images.device.type == "cpu"
            and self.weight.dtype == torch.float32
            and not torch.compiler.is_compiling()
            and images.is_contiguous(memory_format=torch.channels_last)
        )
        if not here:
            return None
        autocast = torch.is_autocast_enabled("cpu")
        dtype = torch.get_autocast_dtype("cpu") if autocast else images.dtype
        return dtype if dtype == (torch.bfloat16 if autocast else torch.float32) else None


def can_be_activated(conv: nn.Conv2d, *, relu6: bool) -> bool:
    """Whether `ActivatedConv2d` supports the convolution and is faster: without ReLU6, only if it is 1x1."""
    square = len(set(conv.kernel_size)) == len(set(conv.stride)) == 1 and conv.dilation == (1, 1)
    padded = not isinstance(conv.padding, str) and len(set(conv.padding)) == 1
    return square and padded and conv.padding_mode == "zeros" and (relu6 or conv.kernel_size == (1, 1))


class _ActivatedConv2d(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        images: Tensor,
        weight: Tensor,
        bias: Tensor,
        stride: int,
        padding: int,
        groups: int,
        relu6: bool,
    ) -> Tensor:
        output = F.conv2d(images, weight, bias, stride, padding, groups=groups)
        if relu6:
            output.clamp_(0, 6)
        ctx.save_for_backward(images, weight, output if relu6 else None)
        ctx.layout = stride, padding, groups
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        images, weight, output = ctx.saved_tensors
        found: tuple[Tensor | None, Tensor, Tensor]
        stride, padding, groups = ctx.layout
        if weight.shape[2] == 1 and ctx.layout == (1, 0, 1):
            found = _pointwise_gradients(gradient, images, weight, output)
        else:
            gradient = _before_relu6(gradient, output)
            wanted = ctx.needs_input_grad[0]
            if groups == len(weight) and images.dtype == torch.bfloat16:
                of_images = images_gradient(gradient, images, weight, stride, padding) if wanted else None
                of_weight = weight_gradient(gradient, images, weight, stride, padding)
            else:
                of_images = _gradient(gradient, images, weight, ctx.layout, of=0) if wanted else None
                of_weight = _gradient(gradient, images, weight, ctx.layout, of=1)
            found = of_images, of_weight, _rows(gradient).sum(dim=0)
        return (*found, None, None, None, None)


def _pointwise_gradients(
    gradient: Tensor, images: Tensor, weight: Tensor, output: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Of images, weight and bias; a few images at a time, whose pixels stay in the cache."""
    matrix = weight.flatten(1)  # (C', C)
    of_images = torch.empty_like(images)
    # Sums over many images: in float32 for any dtype.
    of_weight, of_bias = torch.zeros_like(matrix, dtype=torch.float32), torch.zeros(len(matrix))
    pixels = images.shape[2] * images.shape[3]
    per_image = images.element_size() * pixels * (3 * matrix.shape[0] + 2 * matrix.shape[1])
    count = max(1, _CACHED_BYTES * torch.get_num_threads() // per_image)
    for start in range(0, len(images), count):
        part = slice(start, start + count)
        rows = _rows(_before_relu6(gradient[part], None if output is None else output[part]))
        torch.mm(rows, matrix, out=_rows(of_images[part]))
        if rows.dtype == torch.float32:
            of_weight.addmm_(rows.T, _rows(images[part]))
        else:
            of_weight += rows.T @ _rows(images[part])
        of_bias += rows.sum(dim=0, dtype=torch.float32)
    return of_images, of_weight.view_as(weight).to(weight.dtype), of_bias.to(weight.dtype)


def _before_relu6(gradient: Tensor, output: Tensor | None) -> Tensor:
    """The gradient before ReLU6, channels_last; `output` is that of ReLU6, None without one."""
    if output is not None:
        # ReLU6 is flat where its output is 0 or 6; its input is not needed.
        gradient = torch.ops.aten.hardtanh_backward(gradient, output, 0, 6)
    return gradient.contiguous(memory_format=torch.channels_last)


def _rows(images: Tensor) -> Tensor:
    """(B, C, H, W), channels_last, as a matrix (B H W, C) of the same memory."""
    return images.permute(0, 2, 3, 1).view(-1, images.shape[1])


def _gradient(
    gradient: Tensor, images: Tensor, weight: Tensor, layout: tuple[int, int, int], *, of: int
) -> Tensor:
    """Of the images (0) or the weight (1) of a convolution."""
    stride, padding, groups = layout
    wanted = [index == of for index in range(3)]
    result: Tensor = torch.ops.aten.convolution_backward(
        gradient, images, weight, None,
        [stride, stride], [padding, padding], [1, 1], False, [0, 0], groups, wanted,
    )[of]  # fmt: skip
    return result
