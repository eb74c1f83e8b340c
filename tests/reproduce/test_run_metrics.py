import numpy as np

from forgerank.evaluation.scorers import Predictions
from forgerank.labels import pad_sequences
from forgerank.reproduce.run_metrics import tuned_metrics


def test_thresholds_of_the_other_half_judge() -> None:
    rng = np.random.default_rng(0)
    presence = rng.integers(0, 2, (80, 2))
    presence[::4] = 0
    sequences = pad_sequences([[i + 1 for i in np.flatnonzero(row)] for row in presence], 2)
    # Between 0.2 for absent and 0.4 (the first) or 0.3 for present labels: 0.5 finds nothing.
    components = np.where(presence == 1, [0.4, 0.3], 0.2)
    predictions = Predictions(
        probability=presence.max(axis=1).astype(float),
        components=components,
        order=components,
        presence=presence,
        sequences=sequences,
        groups=[str(number) for number in range(80)],
        sources=[""] * 80,
    )
    tuned = tuned_metrics(predictions, "first_to_last")
    assert tuned["fixed_accuracy_tuned"] == tuned["multi_label_accuracy_tuned"] == 1
    # All of one group: there is nobody else to learn from.
    alone = Predictions(**{**vars(predictions), "groups": ["one"] * 80})
    assert tuned_metrics(alone, "first_to_last") == {}
    own = Predictions(**{**vars(predictions), "predicted": sequences})
    assert tuned_metrics(own, "first_to_last") == {}
    # Known in part: wrong answers where nothing is known cost nothing.
    known = rng.random((80, 2)) < 0.8
    partly = Predictions(
        **{
            **vars(predictions),
            "components": np.where(known, components, 0.9 - components),
            "presence": np.where(known, presence, -1),
            "fake": presence.any(axis=1),
        }
    )
    assert set(tuned_metrics(partly, "first_to_last").values()) == {1}
    blind = Predictions(**{**vars(partly), "presence": np.full((80, 2), -1)})
    assert tuned_metrics(blind, "first_to_last") == {}
