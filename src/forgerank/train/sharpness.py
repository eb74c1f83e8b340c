"""Sharpness-aware minimisation (Foret et al. 2021): steps follow the gradient at the worst place nearby."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn


class Ascent:
    """Takes weights `radius` up along the gradient of a loss, rho g / |g| (their Eq. 2), and back again."""

    def __init__(self, weights: Iterable[nn.Parameter], radius: float) -> None:
        self.radius = radius
        self._weights = [weight for weight in weights if weight.requires_grad]
        self._places: list[Tensor] = []  # where they were

    def climb(self, loss: Tensor) -> None:
        """Up; `loss` is a scalar with a graph. No gradient is left anywhere."""
        slopes = torch.autograd.grad(loss, self._weights, allow_unused=True)
        norm = torch.stack([slope.norm() for slope in slopes if slope is not None]).norm()
        with torch.no_grad():
            self._places = [weight.clone() for weight in self._weights]
            for weight, slope in zip(self._weights, slopes, strict=True):
                if slope is not None:
                    weight.add_(slope * (self.radius / norm.clamp(min=1e-12)))

    def descend(self) -> None:
        """Back to exactly where the weights were before `climb`."""
        with torch.no_grad():
            for weight, place in zip(self._weights, self._places, strict=True):
                weight.copy_(place)
        self._places = []
