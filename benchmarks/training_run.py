"""Crops per second of whole training runs, as they were before and as they are now, in turns.

python benchmarks/training_run.py [--config configs/default.yaml] [--crops 960] [--rounds 3]
    [--precision 32-true] [--size 224] [--early 0.5] [--frozen 8]

Every run is `forgerank train` on the data of the configuration, reading and forging included; its time is
what the run itself counts, without the start of Python and without validation. "before": one process on all
cores, the pyramid smoothing first, convolutions not fused with their ReLU6, every crop at the full size.
"now": under torchrun a process of one thread for each core, and a share `--early` of the steps on crops of
160 px; with --frozen also with the backbone's layers up to that stride kept as they are, as where training
goes on from good weights. Weights are random. Paths in the configuration are relative to the current
directory.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from measuring import machine
from rich.console import Console
from rich.table import Table
from torch import nn
from train_step import EARLY_SIZE, unfused

from forgerank.model.baselines import build_network
from forgerank.model.config import ModelConfig
from forgerank.train import checkpoints, fit
from forgerank.train.checkpoints import LAST, read_checkpoint
from forgerank.train.config import load_config

ASKED = 2.0  # times as fast
BEFORE = "before"


def variants(options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """The settings in which the runs differ, by name."""
    plain = {"optim.frozen_stride": "null", "early_size": EARLY_SIZE}
    before = plain | {"early_share": 0, "threads": os.cpu_count(), "model.pool_first": "false"}
    now = plain | {"early_share": options.early, "threads": 1}
    found = {BEFORE: before, "now": now}
    if options.frozen:
        found["now, frozen"] = now | {"optim.frozen_stride": options.frozen}
    return found


def measure(name: str, settings: dict[str, Any], options: argparse.Namespace) -> float:
    """Crops per second of one run in processes of its own."""
    with tempfile.TemporaryDirectory() as folder:
        shared = {
            "output": f"{folder}/run", "epochs": 1, "images_per_epoch": options.crops, "mixed_sizes": "true",
            "data.val_images": 4, "model.input_size": options.size, "precision": options.precision,
        }  # fmt: skip
        sets = [part for key, value in (shared | settings).items() for part in ("--set", f"{key}={value}")]
        processes = 1 if name == BEFORE else os.cpu_count()
        start = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        worker = [__file__, "--worker", name, "--config", str(options.config), *sets]
        result = subprocess.run(
            [sys.executable, *start, *worker], capture_output=True, text=True, check=False
        )
        if result.returncode:
            raise SystemExit(result.stderr)
        checkpoint = read_checkpoint(Path(folder, "run", LAST))
        crops = checkpoint["global_step"] * load_config(options.config).batch_size
        return float(crops / checkpoint["elapsed_seconds"])


def work(options: argparse.Namespace) -> None:
    """One process of a run."""
    if options.worker == BEFORE:
        fit.build_network = checkpoints.build_network = built_before
    overrides = [*options.set, "model.pretrained=false", "init_from=null", "max_minutes=null"]
    fit.run(load_config(options.config, overrides), progress=False, unread=[])


def built_before(config: ModelConfig) -> nn.Module:
    return unfused(build_network(config))  # type: ignore[arg-type]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", type=Path, default=Path("configs/default.yaml"))
    parser.add_argument("--crops", type=int, default=960, help="of each run")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=int, default=224, help="of a full crop, pixels")
    parser.add_argument("--early", type=float, default=0.5, help=f"share of the steps at {EARLY_SIZE} px")
    parser.add_argument("--precision", choices=("32-true", "bf16-mixed"), default="32-true")
    parser.add_argument("--frozen", type=int, metavar="STRIDE", help="also with frozen layers")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--set", action="append", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        return work(options)
    runs = variants(options)
    rates: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(options.rounds):
        for name, settings in runs.items():
            rates[name].append(measure(name, settings, options))
    console = Console()
    table = Table("run", "crops/s, median", "lowest, highest", "against before", title="whole training runs")
    base = statistics.median(rates[BEFORE])
    for name, found in rates.items():
        ratio = statistics.median(found) / base
        verdict = "" if name == BEFORE else f", asked {ASKED:g}x: {'yes' if ratio >= ASKED else 'NO'}"
        spread = f"{min(found):.1f}, {max(found):.1f}"
        table.add_row(name, f"{statistics.median(found):.1f}", spread, f"{ratio:.2f}x{verdict}")
    console.print(table)
    console.print(
        f"{options.config}, {options.crops} crops a run, {options.rounds} rounds in turns, {options.size} px "
        f"and, now, {options.early:.0%} of the steps at {EARLY_SIZE} px, {options.precision}; "
        f"{machine('torch')}"
    )


if __name__ == "__main__":
    main()
