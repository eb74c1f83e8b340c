"""The figures of a validation as a torchmetrics `Metric`: N processes give what one gives."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from forgerank.metrics import detection, ordering, sequence

KEYS = ("auc", "map", "accuracy", "fixed", "adaptive", "complete", "order", "floor")
_FLOATS = ("probability", "components", "telling")
_WHOLE = ("presence", "ranks", "sequences")
_DERIVED = -1  # in place of a sequence that follows from the scores


class SequenceMetrics(Metric):
    """Real against forged, components, sequences and their order over everything seen since `reset`.

    length: L. order: which end of the sequence has the larger score. threshold: a component is present where
    its score reaches it; 0.5 fits probabilities, 0 logits. Every row is kept until `reset`, and processes put
    their rows together: a picture that two of them have seen counts twice.
    """

    full_state_update = False
    is_differentiable = False

    probability: list[Tensor] | Tensor
    components: list[Tensor] | Tensor
    telling: list[Tensor] | Tensor
    presence: list[Tensor] | Tensor
    ranks: list[Tensor] | Tensor
    sequences: list[Tensor] | Tensor

    def __init__(self, length: int, order: sequence.Order, *, threshold: float = 0.5, **options: Any) -> None:
        super().__init__(**options)
        self.length = length
        self.order = order
        self.threshold = threshold
        for name in (*_FLOATS, *_WHOLE):
            self.add_state(name, default=[], dist_reduce_fx="cat")
        self._begin()

    def _begin(self) -> None:
        # Processes exchange tensors of one type and dimension: one that sees no row needs them as well.
        for name in (*_FLOATS, *_WHOLE):
            kind = torch.float32 if name in _FLOATS else torch.int64
            shape = (0,) if name == "probability" else (0, self.length)
            getattr(self, name).append(torch.empty(shape, dtype=kind, device=self.device))

    def reset(self) -> None:
        """Forget every row."""
        super().reset()
        self._begin()

    def update(
        self,
        probability: Tensor,
        components: Tensor,
        order: Tensor,
        presence: Tensor,
        ranks: Tensor,
        sequences: Tensor | None = None,
    ) -> None:
        """Add a batch.

        probability (B,): any score that grows with the evidence of forgery. components (B, L): scores on the
        scale of `threshold`. order (B, L): scores that tell the order. presence (B, L) in {0, 1} and ranks
        (B, L) in 1..L: Eq. 1 and 2. sequences (B, L): a model's own padded 1-based answers, judged as they
        are; None: what `components` and `order` say.
        """
        if sequences is None:
            sequences = torch.full_like(ranks, _DERIVED)
        for name, values in zip(_FLOATS, (probability, components, order), strict=True):
            getattr(self, name).append(values.detach().float())
        for name, values in zip(_WHOLE, (presence, ranks, sequences), strict=True):
            getattr(self, name).append(values.detach().long())

    def compute(self) -> dict[str, Tensor]:
        """The figures of all rows, one scalar for each of `KEYS`; NaN where undefined or nothing was seen.

        `auc` (real against forged), `map` (mean average precision over the components), `accuracy`
        (multi-label, of the labels that the answered sequences hold), `fixed`, `adaptive`, `complete` (share
        of whole sequences), `order` (pairwise) and `floor` (Fixed-Acc of "nothing was manipulated").
        """
        values = self._figures() if len(_rows(self.ranks)) else dict.fromkeys(KEYS, float("nan"))
        return {name: torch.tensor(value, device=self.device) for name, value in values.items()}

    def _figures(self) -> dict[str, float]:
        probability, components, telling = map(_rows, (self.probability, self.components, self.telling))
        presence, ranks, own = map(_rows, (self.presence, self.ranks, self.sequences))
        # Absent labels score 0 here, present ones from 1 for the last to L for the first.
        half = np.full(self.length, 0.5)
        truth = sequence.predict_sequences(presence * (self.length + 1 - ranks), half, "first_to_last")
        cuts = np.full(self.length, self.threshold)
        derived = sequence.predict_sequences(components, cuts, self.order, telling)
        guess = np.where(own == _DERIVED, derived, own)
        return {
            "auc": detection.auc(presence.max(axis=1), probability),
            "map": detection.mean_average_precision(presence, components),
            "accuracy": sequence.multi_label_accuracy(presence, sequence.labels_present(guess, self.length)),
            "fixed": sequence.fixed_accuracy(truth, guess),
            "adaptive": sequence.adaptive_accuracy(truth, guess),
            "complete": sequence.complete_sequence_share(truth, guess),
            "order": ordering.pairwise_order_accuracy(truth, telling, self.order),
            "floor": sequence.all_none_floor(truth),
        }


def _rows(state: list[Tensor] | Tensor) -> NDArray[Any]:
    rows: NDArray[Any] = dim_zero_cat(state).cpu().numpy()
    return rows
