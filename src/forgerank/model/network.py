"""The network of the paper, from images to tokens, logits and maps (Fig. 2, Eq. 3)."""

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from forgerank.model.backbone import Backbone
from forgerank.model.config import ModelConfig
from forgerank.model.tokens import PatchTokens, sine_positions
from forgerank.weights.hub import Shareable


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


class Output(NamedTuple):
    """Output of the network for a batch, in training and in evaluation mode alike."""

    tokens: Tensor  # (B, N, d) rows of U~, unit length, Eq. 3
    logits_u: Tensor  # (B, L) f^U
    logits_v: Tensor  # (B, L) f^V
    logits: Tensor  # (B, L) f
    order_logits: Tensor  # (B, L) from which the order follows; f itself without `order_head`
    component_maps: Tensor  # (B, L, h, w) whose mean over positions is f^U; N = h*w
    mask_logits: Tensor | None  # (B, L, h, w), only with `mask_head`


class StepOutput(NamedTuple):
    """Output of a network that predicts a sequence step by step, in P = L steps.

    The first step is the first manipulation, or with `order="last_to_first"` the last.
    """

    step_logits: Tensor  # (B, P, L + 1), class 0 = none, i = component i
    sequences: Tensor  # (B, P) long, the predicted labels, 0 = none


class LinearOutput(NamedTuple):
    """Output of a classifier without an order."""

    logits: Tensor  # (B, L)


class ImageTokens(nn.Module):
    """From images to the input of a transformer encoder: backbone, pyramid, positions."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = Backbone(
            config.backbone,
            strides=config.levels,
            pretrained=config.pretrained,
            input_size=config.input_size,
            fold_norm=config.fold_norm,
        )
        pyramid_width = config.pyramid_width or config.width
        self.patches = PatchTokens(
            self.backbone.channels,
            pyramid_width=pyramid_width,
            width=config.width,
            pool_first=config.pool_first,
        )
        self.position_scale = nn.Parameter(torch.tensor(0.2))

    def image_tokens(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """images (B, 3, S, S), RGB in [0, 1], any S that the stride divides; returns (B, N, d) and (h, w)."""
        size = images.shape[2] // self.config.stride, images.shape[3] // self.config.stride
        if (images.shape[2] % self.config.stride, images.shape[3] % self.config.stride) != (0, 0):
            raise ValueError(f"stride {self.config.stride} does not divide {tuple(images.shape[2:])}")
        tokens = self.patches(self.backbone(images), size)
        # The layers add values of the order of 1 per channel: rows of unit length are scaled up to that.
        positions = sine_positions(*size, self.config.width, device=tokens.device)
        return tokens * math.sqrt(self.config.width) + self.position_scale * positions, size


def transformer_encoder(config: ModelConfig) -> nn.TransformerEncoder:
    """Pre-norm layers over tokens (B, N, d)."""
    layer = nn.TransformerEncoderLayer(
        config.width, config.heads, config.feedforward, config.dropout, batch_first=True, norm_first=True
    )
    return Encoder(layer, config.layers, nn.LayerNorm(config.width), enable_nested_tensor=False)


class Encoder(nn.TransformerEncoder):
    """torch's encoder; bfloat16 training on a CPU uses unfused attention, whose gradient is faster there."""

    def forward(self, src: Tensor, *args: Any, **options: Any) -> Tensor:
        """src (B, N, d); returns the same shape. Otherwise as torch's."""
        if not (self.training and src.device.type == "cpu" and torch.is_autocast_enabled("cpu")):
            encoded: Tensor = super().forward(src, *args, **options)
            return encoded
        with sdpa_kernel(SDPBackend.MATH):
            encoded = super().forward(src, *args, **options)
        return encoded


class Network(ImageTokens, Shareable):
    """CNN, feature pyramid, one transformer encoder over patch and class tokens together (Fig. 2, Eq. 3)."""

    config_type = ModelConfig

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        d, components = config.width, config.components
        self.classes = nn.Parameter(torch.randn(components, d))
        self.encoder = transformer_encoder(config)
        self.map_head = MapHead(d, components)
        self.token_head = TokenHead(d, components)
        self.mask_head = nn.Conv2d(d, components, 1) if config.mask_head else None
        self.order_head = TokenHead(d, components) if config.order_head else None

    def forward(self, images: Tensor) -> Output:
        """images (B, 3, S, S), RGB in [0, 1], any S that the stride divides; normalisation is inside."""
        patches, size = self.image_tokens(images)
        classes = self.classes.expand(images.shape[0], -1, -1)
        encoded = self.encoder(torch.cat([patches, classes], dim=1))  # (B, N + L, d)
        patches, classes = encoded[:, : -self.config.components], encoded[:, -self.config.components :]
        feature_map = patches.mT.unflatten(2, size)  # (B, d, h, w)
        logits_u, maps = self.map_head(feature_map)
        logits_v = self.token_head(classes)
        logits = {"both": (logits_u + logits_v) / 2, "u": logits_u, "v": logits_v}[self.config.prediction]
        mask_logits = None if self.mask_head is None else self.mask_head(feature_map)
        order = logits if self.order_head is None else self.order_head(classes)
        return Output(F.normalize(patches, dim=2), logits_u, logits_v, logits, order, maps, mask_logits)
