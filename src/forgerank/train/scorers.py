"""Networks to be evaluated, trained or exported, behind one face."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track

from forgerank.data.crops import Item
from forgerank.data.sample import Source
from forgerank.infer.runtime import order_output
from forgerank.infer.weights import METADATA_FILE, Calibration, Thresholds, WeightsMetadata, load_weights
from forgerank.labels import presence
from forgerank.losses.mil import forgery_gap, forgery_probability
from forgerank.metrics.sequence import Labels, pad_sequences
from forgerank.model.network import Network
from forgerank.train.checkpoints import load_network
from forgerank.train.config import TrainConfig, parse_config
from forgerank.train.module import to_images

Float = NDArray[np.float32]


class Scores(NamedTuple):
    """What a network says about a batch."""

    probability: Float  # (B,) P(x), not calibrated
    components: Float  # (B, L) component probabilities
    order: Float  # (B, L) tell the order; the component probabilities unless the network has an order head


class Scorer(Protocol):
    """A network with its settings and, where it has been calibrated, its thresholds."""

    config: TrainConfig
    thresholds: Thresholds | None
    calibration: Calibration | None

    def score(self, batch: Item) -> Scores:
        """The scores of every picture of a batch."""


class TorchScorer:
    """A network in torch, on an accelerator where there is one."""

    def __init__(
        self,
        network: Network,
        config: TrainConfig,
        thresholds: Thresholds | None = None,
        calibration: Calibration | None = None,
    ) -> None:
        self.config = config
        self.thresholds = thresholds
        self.calibration = calibration
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._network = network.to(self._device).eval()

    @torch.inference_mode()
    def score(self, batch: Item) -> Scores:
        """The scores of every picture of a batch."""
        output = self._network(to_images(batch).to(self._device))
        gap = forgery_gap(output.tokens, self.config.loss.k_points)
        probability = forgery_probability(gap, self.config.loss.tau)
        values = probability, output.logits.sigmoid(), output.order_logits.sigmoid()
        return Scores(*(value.cpu().numpy() for value in values))


class OnnxScorer:
    """An exported network in ONNX Runtime."""

    def __init__(
        self,
        model: bytes,
        config: TrainConfig,
        thresholds: Thresholds | None = None,
        calibration: Calibration | None = None,
        threads: int | None = None,
    ) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = threads or config.threads or 0
        self.config = config
        self.thresholds = thresholds
        self.calibration = calibration
        self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self._outputs = ["probability", "component_probabilities", order_output(self._session)]

    def score(self, batch: Item) -> Scores:
        """The scores of every picture of a batch."""
        images = to_images(batch).contiguous().numpy()
        probability, components, order = self._session.run(self._outputs, {"images": images})
        return Scores(probability, components, order)


def open_scorer(weights: Path) -> Scorer:
    """A scorer for a .ckpt, a .safetensors with its .json, or an exported folder (or its .onnx).

    Raises InputError for anything else and for files that do not fit together.
    """
    if weights.is_dir() or weights.suffix == ".onnx":
        loaded = load_weights(weights if weights.is_dir() else weights.parent, kind="onnx")
        described = loaded.metadata
        config = parse_config(described.settings, str(weights))
        return OnnxScorer(loaded.content, config, described.thresholds, described.calibration)
    network, config = load_network(weights)
    if weights.with_suffix(".json").name == METADATA_FILE:
        text = weights.with_suffix(".json").read_text(encoding="utf-8")
        exported = WeightsMetadata.model_validate_json(text)
        return TorchScorer(network, config, exported.thresholds, exported.calibration)
    return TorchScorer(network, config)


@dataclass(frozen=True)
class Predictions:
    """What a scorer said about M pictures, beside the truth."""

    probability: NDArray[np.float64]  # (M,) P(x), not calibrated
    components: NDArray[np.float64]  # (M, L) component probabilities
    order: NDArray[np.float64]  # (M, L) tell the order
    presence: NDArray[np.int64]  # (M, L) in {0, 1}
    sequences: Labels  # (M, L), padded
    groups: Sequence[str]
    sources: Sequence[str]

    @property
    def forged(self) -> NDArray[np.int64]:
        """(M,) in {0, 1}: whether any component was manipulated."""
        forged: NDArray[np.int64] = self.presence.max(axis=1)
        return forged

    def rows(self, chosen: NDArray[np.bool_]) -> "Predictions":
        """The rows where `chosen`, (M,), is true."""
        return Predictions(
            probability=self.probability[chosen],
            components=self.components[chosen],
            order=self.order[chosen],
            presence=self.presence[chosen],
            sequences=self.sequences[chosen],
            groups=[group for group, kept in zip(self.groups, chosen, strict=True) if kept],
            sources=[source for source, kept in zip(self.sources, chosen, strict=True) if kept],
        )


def join(first: Predictions, second: Predictions) -> Predictions:
    """The rows of both, one after the other."""
    return Predictions(
        probability=np.concatenate([first.probability, second.probability]),
        components=np.concatenate([first.components, second.components]),
        order=np.concatenate([first.order, second.order]),
        presence=np.concatenate([first.presence, second.presence]),
        sequences=np.concatenate([first.sequences, second.sequences]),
        groups=[*first.groups, *second.groups],
        sources=[*first.sources, *second.sources],
    )


def predict(scorer: Scorer, source: Source, batches: Iterable[Item], *, progress: bool = True) -> Predictions:
    """Score a source through its loader, whose order must be the source's."""
    shown: Iterable[Any] = track(batches, description="predict") if progress else batches
    parts = [scorer.score(batch) for batch in shown]
    samples = [source.sample(index) for index in range(len(source))]
    length = len(scorer.config.data.labels)
    return Predictions(
        probability=np.concatenate([part.probability for part in parts]).astype(np.float64),
        components=np.concatenate([part.components for part in parts]).astype(np.float64),
        order=np.concatenate([part.order for part in parts]).astype(np.float64),
        presence=np.array([presence(sample.sequence, length) for sample in samples]),
        sequences=pad_sequences([sample.sequence for sample in samples], length),
        groups=[sample.group for sample in samples],
        sources=[sample.source or sample.dataset for sample in samples],
    )
