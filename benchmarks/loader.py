"""Crops per second that one core reads, forges and augments: source by source, and a batch of all.

python benchmarks/loader.py [--config configs/default.yaml] [--crops 200] [--size 224]

Processor time is counted, so that other work on the machine does not change the rates. "reading" decodes a
stored crop and nothing else; "augmented" is all that a training crop goes through. Sources take turns, crop
by crop. Paths in the configuration are relative to the current directory, as in training.
"""

import argparse
import time
from pathlib import Path

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table

from forgerank.data.batches import Key
from forgerank.data.mixture import Ingredient, MixedBatches, Mixture
from forgerank.train.config import load_config
from forgerank.train.loaders import open_crops, open_mixture

ASKED = 200.0  # crops per second of one core, augmentation included, of what is not forged on the fly


def draw(mixture: Mixture, part: Ingredient, count: int, rng: np.random.Generator) -> list[int]:
    """Positions in the mixture of `count` images of one source."""
    start = int(mixture.starts[mixture.ingredients.index(part)])
    return (start + rng.integers(len(part.source), size=count)).tolist()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", type=Path, default=Path("configs/default.yaml"))
    parser.add_argument("--crops", type=int, default=200, help="of each source")
    parser.add_argument("--size", type=int, default=224, help="side of the crops, pixels")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    config = load_config(options.config)
    mixture = open_mixture(config.data)
    crops = open_crops(config, mixture, masks=True, augment=config.data.augment)
    rng = np.random.default_rng(0)
    places = {part.name: draw(mixture, part, options.crops, rng) for part in mixture.ingredients}
    seconds = {name: [0.0, 0.0] for name in places}
    for turn in range(options.crops):
        for name, drawn in places.items():
            started = time.process_time()
            mixture.load(drawn[turn], np.random.default_rng(turn))
            read = time.process_time()
            crops[Key(turn, drawn[turn], options.size)]
            seconds[name][0] += read - started
            seconds[name][1] += time.process_time() - read
    batches = MixedBatches(
        mixture, batch_size=config.batch_size, batches=1000, seed=1, position=lambda: 0,
        size=lambda _: options.size, level=config.data.level,
    )  # fmt: skip
    keys = [key for batch in range(-(-options.crops // config.batch_size)) for key in batches.keys(batch)]
    started = time.process_time()
    for key in keys:
        crops[key]
    mixed = len(keys) / (time.process_time() - started)
    table = Table("source", "reading, crops/s", "augmented, crops/s", f"asked {ASKED:.0f}", title="one core")
    kinds = {source.name: source.dataset for source in config.data.sources}
    for name, (reading, augmented) in seconds.items():
        rate = options.crops / augmented
        forged = kinds[name] == "packforge"
        verdict = "forged on the fly" if forged else "yes" if rate >= ASKED else "NO"
        table.add_row(name, f"{options.crops / reading:.0f}", f"{rate:.0f}", verdict)
    table.add_row("a batch of all", "", f"{mixed:.0f}", "")
    Console().print(table)


if __name__ == "__main__":
    main()
