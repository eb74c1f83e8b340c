"""Scorers: one interface to networks in torch and in ONNX Runtime, and their predictions on a data set."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from itertools import compress
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from torch import nn

from forgerank.data.batches import Item
from forgerank.data.sample import LabelledImage, Sample, Source
from forgerank.detect.runtime import onnx_errors, open_session, order_output
from forgerank.detect.verdict import unclear, unusable
from forgerank.detect.views import mean_odds
from forgerank.faces.analyze import FaceAnalyzer
from forgerank.labels import Sequences
from forgerank.metrics.scores import Scores, to_scores
from forgerank.train.checkpoints import load_network
from forgerank.train.config import TrainConfig, parse_config
from forgerank.train.loaders import say_unread, why_unread
from forgerank.train.module import to_images, unread_of
from forgerank.types import InputError
from forgerank.weights.description import (
    METADATA_FILE,
    Calibration,
    Thresholds,
    load_weights,
    read_metadata,
)

UNKNOWN = -1  # in place of a presence


class Scorer(Protocol):
    """A network with its settings and, if it has been calibrated, its thresholds."""

    config: TrainConfig
    thresholds: Thresholds | None
    calibration: Calibration | None

    def score(self, batch: Item) -> Scores:
        """The scores of every image of a batch, on the CPU."""


class TorchScorer:
    """A network of any kind in torch, on the GPU if there is one."""

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
        scores = to_scores(self._network(to_images(batch, device=self._device)), self.config.loss)
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
        name: str = "the network",
    ) -> None:
        """`name` is what the file is called in errors. Raises InputError where it is no forgerank network."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or config.threads or 0
        self.config = config
        self.thresholds = thresholds
        self.calibration = calibration
        self._name = name
        self._session = open_session(model, options, name)
        self._outputs = ["probability", "component_probabilities", order_output(self._session)]

    def score(self, batch: Item) -> Scores:
        """The scores of every image of a batch. Raises InputError for a network that cannot take them."""
        images = to_images(batch).contiguous().numpy()
        with onnx_errors(self._name, "run"):
            found = [np.asarray(out) for out in self._session.run(self._outputs, {"images": images})]
        wanted = (len(images),), (len(images), len(self.config.data.labels))
        if [out.shape for out in found] != [wanted[0], wanted[1], wanted[1]] or not all(
            np.issubdtype(out.dtype, np.floating) and np.isfinite(out).all() for out in found
        ):
            raise InputError(f"{self._name}: not a forgerank network (shapes or values of its outputs)")
        return Scores(*map(torch.from_numpy, found))


NOT_JUDGED, NOT_CALLED_REAL, JUDGED = range(3)


class Judgeable:
    """What `forgerank detect` would see of the annotated face of an image: too little to judge it
    (`NOT_JUDGED`), too little to call it real (`NOT_CALLED_REAL`), or enough (`JUDGED`).
    """

    def __init__(self) -> None:
        self._analyzer = FaceAnalyzer()

    def __call__(self, image: LabelledImage) -> int:
        faces = self._analyzer.analyze(image.image)
        if image.points is not None:  # not somebody else in the image
            centre = image.points.mean(axis=0)
            faces.sort(key=lambda face: float(np.linalg.norm(face.landmarks.mean(axis=0) - centre)))
        if not faces or unusable(faces[0].quality) is not None:
            return NOT_JUDGED
        return JUDGED if unclear(faces[0].quality) is None else NOT_CALLED_REAL


class BothWays:
    """A scorer that averages, in log-odds, what another one says of an image and of its mirror image."""

    def __init__(self, scorer: Scorer) -> None:
        self.config, self.thresholds, self.calibration = scorer.config, scorer.thresholds, scorer.calibration
        self._scorer = scorer

    def score(self, batch: Item) -> Scores:
        """The scores of every image of a batch; sequences that the network predicts are the plain image's."""
        plain = self._scorer.score(batch)
        mirrored = self._scorer.score(Item(**{**batch, "image": batch["image"].flip(3)}))
        probability, components, order = (
            torch.from_numpy(mean_odds(pair)) for pair in zip(plain[:3], mirrored[:3], strict=True)
        )
        return Scores(probability, components, order, plain.sequences)


def open_scorer(weights: Path, *, thorough: bool = False) -> Scorer:
    """A scorer for a .ckpt, a .safetensors with its .json, or an exported folder (or its .onnx).

    thorough: with the calibration and the thresholds for several views, where the weights hold them. Raises
    InputError for anything else and for files that do not fit together.
    """
    if weights.is_dir() or weights.suffix == ".onnx":
        if weights.is_file() and not (weights.parent / METADATA_FILE).is_file():
            raise InputError(f"{weights}: its description, {METADATA_FILE}, is not beside it")
        loaded = load_weights(weights if weights.is_dir() else weights.parent, kind="onnx")
        described = loaded.metadata.with_thorough(thorough)
        config = parse_config(described.settings, str(weights))
        name = str(loaded.path)
        return OnnxScorer(loaded.content, config, described.thresholds, described.calibration, name=name)
    network, config = load_network(weights)
    description = weights.with_suffix(".json")
    if description.name == METADATA_FILE:
        exported = read_metadata(description).with_thorough(thorough)
        return TorchScorer(network, config, exported.thresholds, exported.calibration)
    return TorchScorer(network, config)


@dataclass(frozen=True)
class Predictions:
    """The scores of M images and their true labels."""

    probability: NDArray[np.float64]  # (M,) of being forged, not calibrated
    components: NDArray[np.float64]  # (M, L) component probabilities
    order: NDArray[np.float64]  # (M, L) scores from which the order follows
    presence: NDArray[np.int64]  # (M, L) 1 manipulated, 0 not, UNKNOWN
    sequences: Sequences  # (M, L) padded; empty where the order is unknown
    groups: Sequence[str]
    sources: Sequence[str]
    predicted: Sequences | None = None  # (M, L) that the network itself predicts; None: from the scores
    samples: Sequence[Sample] = ()  # the annotations: needed for metrics of videos
    fake: NDArray[np.bool_] | None = None  # (M,) forged, even if no label is known; None: as the labels say
    in_order: NDArray[np.bool_] | None = None  # (M,) the sequence is known; None: where all labels are
    whole: NDArray[np.bool_] | None = None  # (M,) judged on the whole image, not aligned; None: no image was
    judged: NDArray[np.int64] | None = None  # (M,) what `Judgeable` said; None: not looked at
    ingredients: Sequence[str] | None = None  # (M,) names of a mixture's sources; None: as `sources`

    @property
    def forged(self) -> NDArray[np.int64]:
        """(M,) in {0, 1}: whether anything was manipulated; never unknown."""
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

    @property
    def unaligned(self) -> NDArray[np.bool_]:
        """(M,): whether the whole image was judged, resized, in place of an aligned crop."""
        return np.zeros(len(self.groups), dtype=np.bool_) if self.whole is None else self.whole

    @property
    def balanced(self) -> Sequence[str]:
        """(M,): names of what weighs the same in calibration."""
        return self.sources if self.ingredients is None else self.ingredients

    def rows(self, chosen: NDArray[np.bool_]) -> "Predictions":
        """The rows where `chosen`, (M,), is true."""

        def choose(values: Any) -> Any:
            if isinstance(values, np.ndarray):
                return values[chosen]
            return None if values is None else list(compress(values, chosen))

        return Predictions(**{field.name: choose(getattr(self, field.name)) for field in fields(self)})


def join(first: Predictions, second: Predictions) -> Predictions:
    """The rows of both, one after the other. Raises ValueError where only one has sequences of its own."""
    if (first.predicted is None) != (second.predicted is None):
        raise ValueError("only one of the two has sequences of its own")

    def concatenate(one: Any, other: Any) -> Any:
        if one is None:
            return None
        return np.concatenate([one, other]) if isinstance(one, np.ndarray) else [*one, *other]

    stated = [
        replace(part, fake=part.forged == 1, in_order=part.ordered, whole=part.unaligned)
        for part in (first, second)
    ]
    if not (first.samples and second.samples):
        stated = [replace(part, samples=()) for part in stated]
    names = [field.name for field in fields(Predictions)]
    return Predictions(**{name: concatenate(*(getattr(part, name) for part in stated)) for name in names})


def averaged(views: Sequence[Predictions]) -> Predictions:
    """The predictions of several views of the same images, their scores averaged in log-odds."""
    return replace(
        views[0],
        probability=mean_odds([view.probability for view in views]),
        components=mean_odds([view.components for view in views]),
        order=mean_odds([view.order for view in views]),
    )


def predict(
    scorer: Scorer,
    source: Source,
    batches: Iterable[Item],
    *,
    progress: bool = True,
    unread: list[str] | None = None,
) -> Predictions:
    """Score the batches of a source, which must come in the order of the source.

    The labels are those in the batches: of images that are forged on the fly, the source knows none. Images
    that cannot be read are left out; `unread`, or else standard error, is told why, a line for each.
    """
    shown: Iterable[Any] = track(batches, description="predict") if progress else batches
    parts, truths, lost = [], [], set[int]()
    named = ("presence", "sequence", "forged", "known", "ordered", "whole", "judged")
    for batch in shown:
        parts.append(scorer.score(batch))
        truths.append({name: batch[name] for name in named if name in batch})
        lost |= unread_of(batch)
    truth = {name: torch.cat([part[name] for part in truths]).numpy() for name in truths[0]}
    samples = [source.sample(index) for index in range(len(source))]
    own = [part.sequences for part in parts if part.sequences is not None]
    reasons = why_unread(source, lost)
    if unread is None:
        say_unread(reasons)
    else:
        unread += reasons
    predictions = Predictions(
        probability=torch.cat([part.probability for part in parts]).double().numpy(),
        components=torch.cat([part.components for part in parts]).double().numpy(),
        order=torch.cat([part.order for part in parts]).double().numpy(),
        presence=np.where(truth["known"], truth["presence"].astype(np.int64), UNKNOWN),
        sequences=truth["sequence"],
        groups=[sample.group for sample in samples],
        sources=[sample.source or sample.dataset for sample in samples],
        predicted=torch.cat(own).numpy() if own else None,
        samples=samples,
        fake=truth["forged"] > 0.5,
        in_order=truth["ordered"],
        whole=truth["whole"],
        judged=truth.get("judged"),
    )
    return predictions.rows(np.array([i not in lost for i in range(len(samples))])) if lost else predictions
