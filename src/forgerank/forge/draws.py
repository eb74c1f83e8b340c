"""Weighted random choice, which every part of the forge draws with."""

from collections.abc import Mapping

import numpy as np


def pick(rng: np.random.Generator, weights: Mapping[str, float]) -> str:
    """One of the names, with a probability proportional to its weight. Raises ValueError for a sum of 0."""
    total = sum(weights.values())
    if total <= 0:
        raise ValueError(f"nothing to draw from in {dict(weights)}")
    position = float(rng.random()) * total
    for name, weight in weights.items():
        position -= weight
        if position < 0:
            return name
    return name  # rounding may leave a little of the sum
