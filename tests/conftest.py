"""Weights of a tiny network and images for every test."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from forgerank.detect import Detector
from forgerank.processes import this_process
from priority import ordinary_priority
from tiny import tiny_network, write_weights

pytest_plugins = ["trained"]


def pytest_configure() -> None:
    # A shell ignores Ctrl-C in what it runs in the background, and so would the commands under test.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _ordinary_priority() -> Iterator[None]:
    yield
    ordinary_priority()


@pytest.fixture(scope="session")
def make_weights() -> Callable[..., Path]:
    """Writes a folder of weights: make_weights(folder, network=None, **changes of the description)."""
    tiny = tiny_network()

    def make(folder: Path, network: bytes | None = None, **changes: Any) -> Path:
        return write_weights(folder, tiny if network is None else network, **changes)

    return make


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory: pytest.TempPathFactory, make_weights: Callable[..., Path]) -> Path:
    return make_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="session")
def tiny_detector(tiny_weights: Path) -> Detector:
    return Detector(tiny_weights)


@pytest.fixture(scope="session")
def astronaut() -> NDArray[np.uint8]:
    """A photograph with one face at about x 177-270, y 65-170."""
    from skimage import data

    image: NDArray[np.uint8] = data.astronaut()
    image.flags.writeable = False
    return image


@pytest.fixture(scope="session")
def forged_astronaut(astronaut: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Forged by the tiny network's lights: a red nose."""
    image = astronaut.copy()
    image[105:130, 205:235] = (255, 0, 0)
    return image


@pytest.fixture(scope="session")
def pack_sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data sets of `packs.write_sources`."""
    from packs import write_sources

    return write_sources(tmp_path_factory.mktemp("sources"))


@pytest.fixture(scope="session")
def pack_root(pack_sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pack of `packs.recipe_of`, not to be written to."""
    from forgerank.data.prepare.pack_writer import write_pack
    from packs import recipe_of

    out = tmp_path_factory.mktemp("pack") / "pack"
    write_pack(recipe_of(pack_sources), out, workers=1)
    return out


@pytest.fixture(scope="session")
def dead_process() -> str:
    """The name of a process that has ended."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    return this_process().rpartition(" ")[0] + f" {ended.pid}"
