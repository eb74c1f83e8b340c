from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def weights(tiny_weights: Path) -> list[str]:
    """The option that makes a command use the tiny network."""
    return ["--weights", str(tiny_weights)]
