"""Every kind of network, the baselines among them, built from one `ModelConfig`."""

import torch
from torch import Tensor, nn

from forgerank.model.backbone import PooledBackbone
from forgerank.model.config import Kind, ModelConfig
from forgerank.model.network import ImageTokens, LinearOutput, Network, StepOutput, transformer_encoder

NONE = 0  # the label that ends a sequence
BANDWIDTH = 1.0  # beta of the spatial weights, in squared sides of the image; the radii are learned
_SMALLEST_RADIUS = 0.05  # of the image's side: about one token of 16 x 16


class SequenceDecoder(ImageTokens):
    """Image to sequence, the family of SeqFakeFormer (Shao, Wu, Liu, ECCV 2022): a transformer encoder over
    image tokens, and a decoder that takes the labels predicted so far and predicts the next.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        d, components = config.width, config.components
        self.start = components + 1  # the token before the first step
        self.encoder = transformer_encoder(config)
        self.labels = nn.Embedding(components + 2, d)
        self.places = nn.Parameter(torch.randn(components, d))
        self.layers = DecoderLayers(config, spatial=config.spatial_attention)
        self.head = nn.Linear(d, components + 1)

    def forward(self, images: Tensor, sequences: Tensor | None = None, *, cached: bool = True) -> StepOutput:
        """images (B, 3, S, S), RGB in [0, 1], any S that the stride divides; normalisation is inside.

        With the true `sequences` (B, P), each step takes the true labels before it (teacher forcing); without
        them, those that the network has predicted (greedy decoding), and after the first 0 all are 0. Greedy
        decoding encodes the image once; `cached=False` runs the whole network for each step, as published,
        with the same result.
        """
        if sequences is not None:
            start = torch.full_like(sequences[:, :1], self.start)
            logits = self._decode(torch.cat([start, sequences[:, :-1]], dim=1), *self._encode(images))
            return StepOutput(logits, logits.argmax(dim=2))
        labels = torch.full((len(images), 1), self.start, device=images.device)
        ended = torch.zeros_like(labels, dtype=torch.bool)
        encoded, steps = None, []
        for _ in range(self.config.components):
            if encoded is None or not cached:
                encoded = self._encode(images)
            steps.append(self._decode(labels, *encoded)[:, -1])  # (B, L + 1)
            label = steps[-1].argmax(dim=1, keepdim=True).masked_fill(ended, NONE)
            ended = ended | (label == NONE)
            labels = torch.cat([labels, label], dim=1)
        return StepOutput(torch.stack(steps, dim=1), labels[:, 1:])

    def _encode(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        tokens, size = self.image_tokens(images)
        return self.encoder(tokens), size

    def _decode(self, labels: Tensor, memory: Tensor, size: tuple[int, int]) -> Tensor:
        count = labels.shape[1]
        steps = self.labels(labels) + self.places[:count]  # (B, T, d)
        future = torch.ones(count, count, dtype=torch.bool, device=labels.device).triu(diagonal=1)
        logits: Tensor = self.head(self.layers(steps, memory, size, future))
        return logits  # (B, T, L + 1)


class QueryDecoder(ImageTokens):
    """Learned queries, one per step, decoded in parallel as DETR's (Carion et al., ECCV 2020). The steps have
    an order: query t predicts step t, without matching.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.encoder = transformer_encoder(config)
        self.queries = nn.Parameter(torch.randn(config.components, config.width))
        self.layers = DecoderLayers(config, spatial=False)
        self.head = nn.Linear(config.width, config.components + 1)

    def forward(self, images: Tensor) -> StepOutput:
        """images (B, 3, S, S), RGB in [0, 1], any S that the stride divides; normalisation is inside."""
        tokens, size = self.image_tokens(images)
        queries = self.queries.expand(len(images), -1, -1)
        logits = self.head(self.layers(queries, self.encoder(tokens), size))
        return StepOutput(logits, logits.argmax(dim=2))


class DecoderLayers(nn.Module):
    """As many layers as the encoder has, and a final normalisation."""

    def __init__(self, config: ModelConfig, *, spatial: bool) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_Layer(config, spatial=spatial) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width)

    def forward(
        self, steps: Tensor, memory: Tensor, size: tuple[int, int], mask: Tensor | None = None
    ) -> Tensor:
        """steps (B, T, d) over image tokens (B, h*w, d); mask (T, T), true where a step must not attend."""
        for layer in self.layers:
            steps = layer(steps, memory, size, mask)
        normed: Tensor = self.norm(steps)
        return normed


class _Layer(nn.Module):
    """Pre-norm: attention among the steps, attention from the steps to the image tokens, feed-forward."""

    def __init__(self, config: ModelConfig, *, spatial: bool) -> None:
        super().__init__()
        d, heads, dropout = config.width, config.heads, config.dropout
        self.among = nn.MultiheadAttention(d, heads, dropout, batch_first=True)
        self.across = nn.MultiheadAttention(d, heads, dropout, batch_first=True)
        self.feedforward = nn.Sequential(
            nn.Linear(d, config.feedforward), nn.ReLU(), nn.Dropout(dropout), nn.Linear(config.feedforward, d)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(d) for _ in range(3))
        self.dropout = nn.Dropout(dropout)
        self.spatial = SpatialWeights(d) if spatial else None

    def forward(self, steps: Tensor, memory: Tensor, size: tuple[int, int], mask: Tensor | None) -> Tensor:
        x = self.norms[0](steps)
        steps = steps + self.dropout(self.among(x, x, x, attn_mask=mask, need_weights=False)[0])
        x = self.norms[1](steps)
        weights = None
        if self.spatial is not None:  # one window for all heads: (B * heads, T, N)
            weights = self.spatial(x, size).repeat_interleave(self.across.num_heads, dim=0)
        steps = steps + self.dropout(self.across(x, memory, memory, attn_mask=weights, need_weights=False)[0])
        changed: Tensor = steps + self.dropout(self.feedforward(self.norms[2](steps)))
        return changed


class SpatialWeights(nn.Module):
    """SeqFakeFormer's spatial enhancement of cross-attention: from each step's features s, a centre
    c = sigmoid(MLP(s)) and radii r = linear(s); log M(y, x) = -(y - c_y)^2 / (beta r_y^2) - (x - c_x)^2 /
    (beta r_x^2) is added to the attention logits. Positions run from 0 to 1 over the image.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.centre = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 2))
        self.radius = nn.Linear(width, 2)
        nn.init.ones_(self.radius.bias)  # initially a step attends to the whole image

    def forward(self, steps: Tensor, size: tuple[int, int]) -> Tensor:
        """steps (B, T, d), size (h, w); returns log M <= 0, (B, T, h*w)."""
        centre = self.centre(steps).sigmoid()  # (B, T, 2): y, x
        spread = BANDWIDTH * self.radius(steps).square().clamp_min(_SMALLEST_RADIUS**2)
        y, x = ((torch.arange(cells, device=steps.device) + 0.5) / cells for cells in size)
        rows = -(y - centre[..., :1]).square() / spread[..., :1]  # (B, T, h)
        columns = -(x - centre[..., 1:]).square() / spread[..., 1:]  # (B, T, w)
        weights: Tensor = rows[..., :, None] + columns[..., None, :]
        return weights.flatten(2)


TEACHER_FORCED: frozenset[Kind] = frozenset({"decoder"})  # get the true sequences in training


class _Pooled(nn.Module):
    """A CNN with one linear layer on its pooled features."""

    def __init__(self, config: ModelConfig, answers: int) -> None:
        super().__init__()
        self.config = config
        self.backbone = PooledBackbone(
            config.backbone,
            pretrained=config.pretrained,
            input_size=config.input_size,
            fold_norm=config.fold_norm,
        )
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(self.backbone.channels, answers)

    def answers(self, images: Tensor) -> Tensor:
        """images (B, 3, S, S), RGB in [0, 1]; normalisation is inside; returns (B, answers)."""
        answers: Tensor = self.head(self.dropout(self.backbone(images)))
        return answers


class StepClassifier(_Pooled):
    """Multi-Cls, the paper's baseline: one CNN, and for each of the L steps a head over L + 1 classes."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config, config.components * (config.components + 1))

    def forward(self, images: Tensor) -> StepOutput:
        """images (B, 3, S, S), RGB in [0, 1]; normalisation is inside."""
        components = self.config.components
        logits = self.answers(images).reshape(-1, components, components + 1)  # (B, P, L + 1)
        return StepOutput(logits, logits.argmax(dim=2))


class LinearClassifier(_Pooled):
    """One logit per component, or one for the whole face: the binary baselines, with timm's `legacy_xception`
    (the Xception of FaceForensics++'s benchmark) and `efficientnet_b4`.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config, config.components)

    def forward(self, images: Tensor) -> LinearOutput:
        """images (B, 3, S, S), RGB in [0, 1]; normalisation is inside."""
        return LinearOutput(self.answers(images))


MODELS: dict[Kind, type[nn.Module]] = {
    "ranking": Network,
    "multicls": StepClassifier,
    "decoder": SequenceDecoder,
    "queries": QueryDecoder,
    "linear": LinearClassifier,
}


def build_network(config: ModelConfig) -> nn.Module:
    """The network of `config.kind`, with `.config` as attribute; it takes images (B, 3, S, S) in [0, 1]."""
    return MODELS[config.kind](config)
