"""Tiny training runs over drawn squares, for the tests of training and of what follows it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from forgerank.train import fit
from forgerank.train.config import TrainConfig, parse_config
from squares import tiny_settings, write_squares


@pytest.fixture(scope="session")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """96 training and 48 validation images."""
    return write_squares(tmp_path_factory.mktemp("squares"), {"train": 96, "val": 48})


@pytest.fixture
def tiny_config(squares: Path, tmp_path: Path) -> Callable[..., TrainConfig]:
    """Builds a validated config over `squares`; keywords replace or extend top-level settings."""

    def build(**changes: Any) -> TrainConfig:
        return parse_config(tiny_settings(squares, tmp_path / "run", **changes), "test")

    return build


@pytest.fixture(scope="session")
def trained(squares: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that has learnt the squares."""
    output = tmp_path_factory.mktemp("trained") / "run"
    settings = tiny_settings(squares, output, epochs=12)
    fit.run(parse_config(settings, "test"), progress=False)
    return output
