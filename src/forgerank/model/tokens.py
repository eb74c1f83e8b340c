"""From backbone maps to patch tokens: a feature pyramid resized to one stride."""

import math
from collections import OrderedDict
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork


class PatchTokens(nn.Module):
    """Feature pyramid with all levels resized to one size and averaged, so that fine levels reach the tokens.

    With `pool_first` finer maps are average-pooled before the pyramid instead of after it. Its 1x1
    convolutions and its top-down path commute with pooling; its 3x3 convolutions then span token cells.
    """

    def __init__(
        self, channels: Sequence[int], *, pyramid_width: int, width: int, pool_first: bool = False
    ) -> None:
        super().__init__()
        self.pool_first = pool_first
        self.pyramid = FeaturePyramidNetwork(list(channels), pyramid_width)
        self.project = nn.Identity() if pyramid_width == width else nn.Conv2d(pyramid_width, width, 1)

    def forward(self, maps: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        """maps (B, C_i, h_i, w_i); size (h, w); returns (B, N, d), N = h*w, rows of unit length."""
        if self.pool_first:
            maps = [_resize(level, size) if level.shape[2] > size[0] else level for level in maps]
        levels = self.pyramid(OrderedDict((str(i), level) for i, level in enumerate(maps))).values()
        merged = torch.stack([_resize(level, size) for level in levels]).mean(dim=0)
        tokens = self.project(merged).flatten(2).mT  # (B, N, d)
        return F.normalize(tokens, dim=-1)


def sine_positions(height: int, width: int, channels: int, *, device: torch.device | None = None) -> Tensor:
    """2-D sine positions, y in the first half of the channels, x in the second: (height*width, channels).

    >>> sine_positions(2, 3, 8).shape
    torch.Size([6, 8])
    """
    if channels % 4:
        raise ValueError(f"2-D sine positions need a multiple of 4 channels, got {channels}")
    quarter = channels // 4
    rates = torch.exp(torch.arange(quarter, device=device) * (-math.log(1e4) / quarter))  # (quarter,)
    y = torch.arange(height, device=device)[:, None] * rates  # (height, quarter)
    x = torch.arange(width, device=device)[:, None] * rates  # (width, quarter)
    rows = torch.cat([y.sin(), y.cos()], dim=1)[:, None, :].expand(-1, width, -1)
    columns = torch.cat([x.sin(), x.cos()], dim=1)[None, :, :].expand(height, -1, -1)
    return torch.cat([rows, columns], dim=2).flatten(0, 1)


def _resize(level: Tensor, size: tuple[int, int]) -> Tensor:
    if level.shape[2] > size[0]:  # a finer level: its stride divides the target's
        return F.avg_pool2d(level, level.shape[2] // size[0])
    if level.shape[2] < size[0]:
        return F.interpolate(level, size=size, mode="bilinear", align_corners=False)
    return level
