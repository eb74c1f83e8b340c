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
_WHOLE = ("presence", "ranks", "sequences", "forged", "known", "ordered")
_PER_ROW = ("probability", "forged", "ordered")  # one value each, the others have one for every label
_DERIVED = -1  # in place of a sequence that follows from the scores


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
    telling: list[Tensor] | Tensor
    presence: list[Tensor] | Tensor
    ranks: list[Tensor] | Tensor
    sequences: list[Tensor] | Tensor
    forged: list[Tensor] | Tensor
    known: list[Tensor] | Tensor
    ordered: list[Tensor] | Tensor

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
        ranks: Tensor,
        sequences: Tensor | None = None,
        *,
        forged: Tensor | None = None,
        known: Tensor | None = None,
        ordered: Tensor | None = None,
    ) -> None:
        """Add a batch.

        probability (B,): any score that grows with the evidence of forgery. components (B, L): scores on the
        scale of `threshold`. order (B, L): scores that tell the order. presence (B, L) in {0, 1} and ranks
        (B, L) in 1..L: Eq. 1 and 2. sequences (B, L): a model's own padded 1-based answers, judged as they
        are; None: what `components` and `order` say. forged (B,) in {0, 1}; None: any known component
        is. known (B, L): whether the presence is; ordered (B,): whether the ranks are, and so the whole
        presence; None: all. With a single label, `forged` says it all.
        """
        told = torch.ones_like(presence) if known is None else known.long()
        placed = torch.ones_like(presence[:, 0]) if ordered is None else ordered
        presence = torch.where(told > 0, presence, 0)
        if forged is None:
            forged = presence.amax(dim=1)
        elif self.length == 1:
            presence, ranks = forged[:, None], torch.ones_like(ranks)
            told, placed = torch.ones_like(told), torch.ones_like(placed)
        if sequences is None:
            sequences = torch.full_like(ranks, _DERIVED)
        for name, values in zip(_FLOATS, (probability, components, order), strict=True):
            getattr(self, name).append(values.detach().float())
        for name, values in zip(_WHOLE, (presence, ranks, sequences, forged, told, placed), strict=True):
            getattr(self, name).append(values.detach().long())

    def compute(self) -> dict[str, Tensor]:
        """The figures of all rows, one scalar for each of `KEYS`; NaN where undefined or nothing was seen.

        `auc` (real against forged), `map` (mean average precision over the components), `accuracy`
        (multi-label, of the labels that the answered sequences hold), `fixed`, `adaptive`, `complete` (share
        of whole sequences), `order` (pairwise) and `floor` (Fixed-Acc of "nothing was manipulated"). `map`
        and `accuracy` are over the known labels, what compares sequences over the rows of known order.
        """
        values = self._figures() if len(_rows(self.ranks)) else dict.fromkeys(KEYS, float("nan"))
        return {name: torch.tensor(value, device=self.device) for name, value in values.items()}

    def _figures(self) -> dict[str, float]:
        probability, components, telling = map(_rows, (self.probability, self.components, self.telling))
        presence, ranks, own = map(_rows, (self.presence, self.ranks, self.sequences))
        forged, known, ordered = _rows(self.forged), _rows(self.known) > 0, _rows(self.ordered) > 0
        # Absent labels score 0 here, present ones from 1 for the last to L for the first.
        half = np.full(self.length, 0.5)
        truth = sequence.predict_sequences(presence * (self.length + 1 - ranks), half, "first_to_last")
        cuts = np.full(self.length, self.threshold)
        derived = sequence.predict_sequences(components, cuts, self.order, telling)
        guess = np.where(own == _DERIVED, derived, own)
        present = sequence.labels_present(guess, self.length)
        figures = dict.fromkeys(KEYS, float("nan")) | {
            "auc": detection.auc(forged, probability),
            "map": detection.mean_average_precision(presence, components, known),
            "accuracy": sequence.multi_label_accuracy(presence, present, known),
        }
        truth, guess = truth[ordered], guess[ordered]
        if len(truth):
            figures |= {
                "fixed": sequence.fixed_accuracy(truth, guess),
                "adaptive": sequence.adaptive_accuracy(truth, guess),
                "complete": sequence.complete_sequence_share(truth, guess),
                "order": ordering.pairwise_order_accuracy(truth, telling[ordered], self.order),
                "floor": sequence.all_none_floor(truth),
            }
        return figures


def _rows(state: list[Tensor] | Tensor) -> NDArray[Any]:
    rows: NDArray[Any] = dim_zero_cat(state).cpu().numpy()
    return rows
