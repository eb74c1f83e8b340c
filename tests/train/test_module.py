import pytest

from forgerank.train.config import OptimConfig
from forgerank.train.module import learning_rate_factor

COSINE = OptimConfig(schedule="cosine", warmup=0.1, floor=0.02)
STEP = OptimConfig(schedule="step", warmup=0.1, milestones=(0.4, 0.7), gamma=0.1)


@pytest.mark.parametrize(
    ("progress", "factor"), [(0, 0), (0.05, 0.5), (0.1, 1), (0.55, 0.51), (1, 0.02), (1.2, 0.02)]
)
def test_cosine_schedule(progress: float, factor: float) -> None:
    assert learning_rate_factor(progress, COSINE) == pytest.approx(factor)


@pytest.mark.parametrize(
    ("progress", "factor"), [(0.05, 0.5), (0.39, 1), (0.4, 0.1), (0.69, 0.1), (0.7, 0.01), (1, 0.01)]
)
def test_step_schedule(progress: float, factor: float) -> None:
    assert learning_rate_factor(progress, STEP) == pytest.approx(factor)
