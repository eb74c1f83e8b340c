"""Every kind of network, the baselines among them, built from one `ModelConfig`."""

from torch import Tensor, nn

from forgerank.model.backbone import PooledBackbone
from forgerank.model.config import Kind, ModelConfig
from forgerank.model.decoder import QueryDecoder, SequenceDecoder
from forgerank.model.network import LinearOutput, Network, StepOutput

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
