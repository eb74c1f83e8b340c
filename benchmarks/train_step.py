"""Images per second and peak memory of a training step and of inference: ours against the decoder baseline.

python benchmarks/train_step.py [--backbone resnet50] [--size 256] [--batch 8] [--rounds 5] [--flags]

Both have the same backbone, pyramid and encoder, and random weights. The decoder says one label at a time: it
is measured re-running the whole network for each, and with its encoder cached. In training it may also read
the true labels, all steps in one pass (teacher forcing, as this family is trained). Variants take turns, the
median round counts; memory is the growth of the peak resident set over one step in a fresh process for each.

With --flags: what each setting of docs/scale.md does to our own training step.
"""

import argparse
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from forgerank.labels import COMPONENTS
from forgerank.losses.steps import step_targets
from forgerank.losses.total import LOSSES, LossConfig, Targets
from forgerank.model.baselines import build_network
from forgerank.model.network import Kind, ModelConfig
from forgerank.train.blocks import recompute_blocks

Step = Callable[[], object]
Make = Callable[[argparse.Namespace], Step]
ASKED = {"training": 1.5, "inference": 3.0}  # images per second, ours over the decoder's


def make_batch(options: argparse.Namespace) -> tuple[Tensor, Targets]:
    """Noise, and sequences of 0 to L labels."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(options.batch, 3, options.size, options.size, generator=generator)
    count = len(COMPONENTS)
    order = torch.rand(options.batch, count, generator=generator).argsort(dim=1) + 1  # (B, L) positions
    present = order <= (torch.arange(options.batch) % (count + 1))[:, None]
    return images, Targets(present.float(), torch.where(present, order, count))


def build(kind: Kind, options: argparse.Namespace) -> nn.Module:
    torch.manual_seed(0)
    return build_network(ModelConfig(kind=kind, backbone=options.backbone, input_size=options.size))


def training(
    kind: Kind,
    options: argparse.Namespace,
    *,
    teacher: bool = False,
    bf16: bool = False,
    parts: int = 1,
    compiled: bool = False,
    recompute: bool = False,
    **decoding: bool,
) -> Step:
    """One step on one batch: forward, loss, backward, AdamW."""
    network = build(kind, options).train()
    if recompute:
        recompute_blocks(network)
    if compiled:
        network.compile()
    optimizer = torch.optim.AdamW(network.parameters())
    images, targets = make_batch(options)

    def step() -> None:
        optimizer.zero_grad()
        for rows in torch.arange(options.batch).chunk(parts):
            part = Targets(targets.presence[rows], targets.ranks[rows])
            told = (step_targets(part.presence, part.ranks, "first_to_last"),) if teacher else ()
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                output = network(images[rows], *told, **decoding)
            (LOSSES[kind](output, part, LossConfig())["total"] / parts).backward()
        optimizer.step()

    return step


def inference(kind: Kind, options: argparse.Namespace, **decoding: bool) -> Step:
    """One batch of answers."""
    network = build(kind, options).eval()
    images, _ = make_batch(options)

    def step() -> None:
        with torch.inference_mode():
            network(images, **decoding)

    return step


VARIANTS: dict[str, dict[str, Make]] = {
    "training": {
        "ours": partial(training, "ranking"),
        "decoder, network per step": partial(training, "decoder", cached=False),
        "decoder, encoder cached": partial(training, "decoder", cached=True),
        "decoder, teacher forcing": partial(training, "decoder", teacher=True),
    },
    "inference": {
        "ours": partial(inference, "ranking"),
        "decoder, network per step": partial(inference, "decoder", cached=False),
        "decoder, encoder cached": partial(inference, "decoder", cached=True),
    },
}
FLAGS: dict[str, dict[str, Make]] = {
    "flags": {
        "none": partial(training, "ranking"),
        "precision: bf16-mixed": partial(training, "ranking", bf16=True),
        "accumulate: 4": partial(training, "ranking", parts=4),
        "compile": partial(training, "ranking", compiled=True),
        "checkpoint_activations": partial(training, "ranking", recompute=True),
    }
}


def median_seconds(steps: dict[str, Step], rounds: int) -> dict[str, float]:
    """Of each step; they take turns, after one round that does not count."""
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(rounds + 1):
        for name, step in steps.items():
            started = time.perf_counter()
            step()
            if turn:
                taken[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in taken.items()}


def peak_growth(step: Step) -> float:
    """MiB by which a step raises the peak resident set; only meaningful in a fresh process."""
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak: importing torch has the highest so far
    before = resident_peak()
    step()
    return resident_peak() - before


def resident_peak() -> float:
    """MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024


def measure_memory(section: str, name: str) -> float:
    command = [sys.executable, *sys.argv, "--memory", section, name]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def measure(section: str, variants: dict[str, Make], options: argparse.Namespace) -> Table:
    seconds = median_seconds({name: make(options) for name, make in variants.items()}, options.rounds)
    first = next(iter(variants))
    table = Table("", "images/s", f"time / {first}", "peak, MiB", "asked", title=section)
    for name, taken in seconds.items():
        ratio, asked = taken / seconds[first], ASKED.get(section)
        verdict = "" if asked is None or name == first else f"{asked:g}x: {'yes' if ratio >= asked else 'NO'}"
        memory = f"{measure_memory(section, name):.0f}"
        table.add_row(name, f"{options.batch / taken:.2f}", f"{ratio:.2f}x", memory, verdict)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--flags", action="store_true")
    parser.add_argument("--memory", nargs=2, metavar=("SECTION", "VARIANT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    sections = FLAGS if options.flags else VARIANTS
    if options.memory:
        section, name = options.memory
        print(peak_growth(sections[section][name](options)))
        return
    console = Console()
    console.print(f"{options.backbone}, {options.size} px, batch {options.batch}, median of {options.rounds}")
    for section, variants in sections.items():
        console.print(measure(section, variants, options))
    machine = f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    console.print(f"{machine}, {options.threads} threads, torch {torch.__version__}")


if __name__ == "__main__":
    main()
