"""The metrics of a validation as a torchmetrics `Metric`: N processes give what one gives."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from forgerank import labels
from forgerank.labels import Order
from forgerank.metrics import detection, sequence

KEYS = ("auc", "map", "accuracy", "fixed", "adaptive", "complete", "order", "floor")
_FLOATS = ("probability", "components", "order_scores")
_WHOLE = ("presence", "sequences", "predicted", "forged", "known", "ordered")
_PER_ROW = ("probability", "forged", "ordered")  # one value each, the others have one for every label
_DERIVED = -1  # in place of a predicted sequence that follows from the scores


class SequenceMetrics(Metric):
    """Real against forged, components, sequences and their order over everything seen since `reset`.

    length: L. order: which end of the sequence has the larger score. threshold: a component is present where
    its score reaches it; 0.5 fits probabilities, 0 logits. Every row is kept until `reset`, and processes put
    their rows together: an image that two of them have seen counts twice.
    """

    full_state_update = False
    is_differentiable = False

    probability: list[Tensor] | Tensor
    components: list[Tensor] | Tensor
    order_scores: list[Tensor] | Tensor
    presence: list[Tensor] | Tensor
    sequences: list[Tensor] | Tensor
    predicted: list[Tensor] | Tensor
    forged: list[Tensor] | Tensor
    known: list[Tensor] | Tensor
    ordered: list[Tensor] | Tensor

    def __init__(self, length: int, order: Order, *, threshold: float = 0.5, **options: Any) -> None:
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
            shape = (0,) if name in _PER_ROW else (0, self.length)
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
        sequences: Tensor,
        predicted: Tensor | None = None,
        *,
        forged: Tensor | None = None,
        known: Tensor | None = None,
        ordered: Tensor | None = None,
    ) -> None:
        """Add a batch.

        probability (B,): any score that grows with the evidence of forgery. components (B, L): scores on the
        scale of `threshold`. order (B, L): scores from which the order follows. presence (B, L) in {0, 1},
        Eq. 1, and sequences (B, L) padded: the truth. predicted (B, L): sequences that the network itself
        predicts, padded; None: they follow from `components` and `order`. forged (B,) in {0, 1}; None: where
        any known component is present. known (B, L): where the presence is known; ordered (B,): where the
        sequence is; None: everywhere. With a single label, only `forged` is read.
        """
        known = torch.ones_like(presence) if known is None else known.long()
        ordered = torch.ones_like(presence[:, 0]) if ordered is None else ordered
        presence = torch.where(known > 0, presence, 0)
        if forged is None:
            forged = presence.amax(dim=1)
        elif self.length == 1:
            presence = sequences = forged[:, None]
            known, ordered = torch.ones_like(known), torch.ones_like(ordered)
        if predicted is None:
            predicted = torch.full_like(sequences, _DERIVED)
        for name, values in zip(_FLOATS, (probability, components, order), strict=True):
            getattr(self, name).append(values.detach().float())
        whole = (presence, sequences, predicted, forged, known, ordered)
        for name, values in zip(_WHOLE, whole, strict=True):
            getattr(self, name).append(values.detach().long())

    def compute(self) -> dict[str, Tensor]:
        """The metrics of all rows, one scalar for each of `KEYS`; NaN where undefined and without any row.

        `auc` (real against forged), `map` (mean average precision over the components), `accuracy`
        (multi-label, of the labels in the predicted sequences), `fixed`, `adaptive`, `complete` (share of
        whole sequences), `order` (pairwise) and `floor` (Fixed-Acc of "nothing was manipulated"). `map` and
        `accuracy` are over the known labels, all that compare sequences over the rows of known order.
        """
        values = self._metrics() if len(_rows(self.forged)) else dict.fromkeys(KEYS, float("nan"))
        return {name: torch.tensor(value, device=self.device) for name, value in values.items()}

    def _metrics(self) -> dict[str, float]:
        probability, components = _rows(self.probability), _rows(self.components)
        order_scores = _rows(self.order_scores)
        presence, truth, own = map(_rows, (self.presence, self.sequences, self.predicted))
        forged, known, ordered = _rows(self.forged), _rows(self.known) > 0, _rows(self.ordered) > 0
        cuts = np.full(self.length, self.threshold)
        derived = sequence.predict_sequences(components, cuts, self.order, order_scores)
        guess = np.where(own == _DERIVED, derived, own)
        present = labels.presence(guess, self.length)
        values = dict.fromkeys(KEYS, float("nan")) | {
            "auc": detection.auc(forged, probability),
            "map": detection.mean_average_precision(presence, components, known),
            "accuracy": sequence.multi_label_accuracy(presence, present, known),
        }
        truth, guess = truth[ordered], guess[ordered]
        if len(truth):
            values |= {
                "fixed": sequence.fixed_accuracy(truth, guess),
                "adaptive": sequence.adaptive_accuracy(truth, guess),
                "complete": sequence.complete_sequence_share(truth, guess),
                "order": sequence.pairwise_order_accuracy(truth, order_scores[ordered], self.order),
                "floor": sequence.all_none_floor(truth),
            }
        return values


def _rows(state: list[Tensor] | Tensor) -> NDArray[Any]:
    rows: NDArray[Any] = dim_zero_cat(state).cpu().numpy()
    return rows
