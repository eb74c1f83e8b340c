"""Networks to be evaluated, trained or exported, behind one face."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from torch import nn

from forgerank.data.batches import Item
from forgerank.data.sample import Sample, Source
from forgerank.detect.runtime import order_output
from forgerank.metrics.scores import Scores, to_scores
from forgerank.metrics.sequence import Labels, predict_sequences
from forgerank.train.checkpoints import load_network
from forgerank.train.config import TrainConfig, parse_config
from forgerank.train.module import to_images
from forgerank.weights.description import (
    METADATA_FILE,
    Calibration,
    Thresholds,
    WeightsMetadata,
    load_weights,
)

UNKNOWN = -1  # in place of a presence


class Scorer(Protocol):
    """A network with its settings and, where it has been calibrated, its thresholds."""

    config: TrainConfig
    thresholds: Thresholds | None
    calibration: Calibration | None

    def score(self, batch: Item) -> Scores:
        """The scores of every image of a batch, on the CPU."""


class TorchScorer:
    """A network of any kind in torch, on an accelerator where there is one."""

    def __init__(
        self,
        network: nn.Module,
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
        """The scores of every image of a batch."""
        scores = to_scores(self._network(to_images(batch).to(self._device)), self.config.loss)
        own = None if scores.sequences is None else scores.sequences.cpu()
        return Scores(scores.probability.cpu(), scores.components.cpu(), scores.order.cpu(), own)


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
        """The scores of every image of a batch."""
        images = to_images(batch).contiguous().numpy()
        return Scores(*map(torch.from_numpy, self._session.run(self._outputs, {"images": images})))


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
    """What a scorer said about M images, beside the truth."""

    probability: NDArray[np.float64]  # (M,) forged, not calibrated
    components: NDArray[np.float64]  # (M, L) component probabilities
    order: NDArray[np.float64]  # (M, L) tell the order
    presence: NDArray[np.int64]  # (M, L) 1 manipulated, 0 not, UNKNOWN
    sequences: Labels  # (M, L), padded; empty where the order is unknown
    groups: Sequence[str]
    sources: Sequence[str]
    predicted: Labels | None = None  # (M, L) a network's own padded sequences; None: follow from the scores
    samples: Sequence[Sample] = ()  # the annotations, where videos are to be told apart
    fake: NDArray[np.bool_] | None = None  # (M,) forged, whatever is known of the labels; None: as these say
    in_order: NDArray[np.bool_] | None = None  # (M,) the sequence is known; None: where all labels are

    @property
    def forged(self) -> NDArray[np.int64]:
        """(M,) in {0, 1}: whether anything was manipulated. Always known."""
        labelled = (self.presence == 1).any(axis=1)
        return np.asarray(labelled if self.fake is None else labelled | self.fake, dtype=np.int64)

    @property
    def known(self) -> NDArray[np.bool_]:
        """(M, L): whether the presence is known."""
        return np.asarray(self.presence != UNKNOWN)

    @property
    def ordered(self) -> NDArray[np.bool_]:
        """(M,): whether the sequence is known."""
        return np.asarray(self.known.all(axis=1)) if self.in_order is None else self.in_order

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
            predicted=None if self.predicted is None else self.predicted[chosen],
            samples=[self.samples[row] for row in np.flatnonzero(chosen).tolist()] if self.samples else (),
            fake=None if self.fake is None else self.fake[chosen],
            in_order=None if self.in_order is None else self.in_order[chosen],
        )


def join(first: Predictions, second: Predictions) -> Predictions:
    """The rows of both, one after the other; both come from networks of one kind."""
    own = [part.predicted for part in (first, second) if part.predicted is not None]
    if len(own) == 1:
        raise ValueError("only one of the two has sequences of its own")
    return Predictions(
        probability=np.concatenate([first.probability, second.probability]),
        components=np.concatenate([first.components, second.components]),
        order=np.concatenate([first.order, second.order]),
        presence=np.concatenate([first.presence, second.presence]),
        sequences=np.concatenate([first.sequences, second.sequences]),
        groups=[*first.groups, *second.groups],
        sources=[*first.sources, *second.sources],
        predicted=np.concatenate(own) if own else None,
        samples=[*first.samples, *second.samples] if first.samples and second.samples else (),
        fake=np.concatenate([first.forged, second.forged]) == 1,
        in_order=np.concatenate([first.ordered, second.ordered]),
    )


def predict(scorer: Scorer, source: Source, batches: Iterable[Item], *, progress: bool = True) -> Predictions:
    """Score a source through its loader, whose order must be the source's.

    The truth is that of the very images that were shown: what is forged on the fly is known only then.
    """
    shown: Iterable[Any] = track(batches, description="predict") if progress else batches
    parts, truths = [], []
    for batch in shown:
        parts.append(scorer.score(batch))
        truths.append({name: batch[name] for name in ("presence", "ranks", "forged", "known", "ordered")})
    truth = {name: torch.cat([part[name] for part in truths]).numpy() for name in truths[0]}
    samples = [source.sample(index) for index in range(len(source))]
    length = len(scorer.config.data.labels)
    present = truth["presence"].astype(np.int64) * truth["ordered"][:, None]
    own = [part.sequences for part in parts if part.sequences is not None]
    return Predictions(
        probability=torch.cat([part.probability for part in parts]).double().numpy(),
        components=torch.cat([part.components for part in parts]).double().numpy(),
        order=torch.cat([part.order for part in parts]).double().numpy(),
        presence=np.where(truth["known"], truth["presence"].astype(np.int64), UNKNOWN),
        # Absent labels score 0 here, present ones from 1 for the last to L for the first.
        sequences=predict_sequences(
            (present * (length + 1 - truth["ranks"])).astype(np.float64), [0.5] * length, "first_to_last"
        ),
        groups=[sample.group for sample in samples],
        sources=[sample.source or sample.dataset for sample in samples],
        predicted=torch.cat(own).numpy() if own else None,
        samples=samples,
        fake=truth["forged"] > 0.5,
        in_order=truth["ordered"],
    )
