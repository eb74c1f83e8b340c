"""Heads from encoded tokens to logits: f^U on patch tokens, f^V on class tokens."""

import torch
from torch import Tensor, nn


class MapHead(nn.Module):
    """f^U: a convolution on the U~ map, average-pooled; before pooling, an exact class activation map."""

    def __init__(self, width: int, components: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, components, 3, padding=1)

    def forward(self, encoded: Tensor) -> tuple[Tensor, Tensor]:
        """encoded (B, d, h, w); returns logits (B, L) and maps (B, L, h, w), of which they are the means."""
        maps = self.conv(encoded)
        return maps.mean(dim=(2, 3)), maps


class TokenHead(nn.Module):
    """f^V: each component's logit from its own class token."""

    def __init__(self, width: int, components: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(components, width) * width**-0.5)
        self.bias = nn.Parameter(torch.zeros(components))

    def forward(self, encoded: Tensor) -> Tensor:
        """encoded (B, L, d); returns logits (B, L)."""
        return (encoded * self.weight).sum(dim=2) + self.bias
