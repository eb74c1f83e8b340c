"""Exact l_MIL of forgerank against a literal implementation of Eq. 4-10: time and peak memory on the CPU.

Both go from tokens (B, N, d) to the scalar l_MIL and its gradient with respect to the tokens. The literal one
sorts u, loops over 100 evenly spaced k with slice means, and takes the logarithm of tanh. Times alternate
between the two in one process and the fastest round counts; memory is the growth of the peak resident set in
a fresh process for each, or on a GPU that of its peak memory in this one. --device cuda: on a GPU.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from measuring import machine, peak_growth
from rich.console import Console
from rich.table import Table
from torch import Tensor

from forgerank.losses.mil import forgery_gap, mil_loss

SIZES = (64, 196, 256, 576, 1024)
BATCH, WIDTH, TAU, K_POINTS = 8, 256, 0.1, 100
REQUIRED_SPEEDUP = 3.0


def exact_mil(tokens: Tensor, forged: Tensor) -> Tensor:
    return mil_loss(forgery_gap(tokens), forged, tau=TAU)


def literal_mil(tokens: Tensor, forged: Tensor) -> Tensor:
    """Eq. 4-10 as printed, vectorised over the batch."""
    similarity = (tokens @ tokens.mT).clamp_min(0)
    rows, columns = torch.triu_indices(tokens.shape[1], tokens.shape[1], 1)
    v = 1 - similarity[:, rows, columns].sort(dim=1).values
    n = v.shape[1]
    probabilities = []
    for k in torch.linspace(1, n - 1, K_POINTS).round().long().tolist():
        gap = v[:, :k].mean(dim=1) - v[:, k:].mean(dim=1)
        probabilities.append(torch.tanh(gap / (2 * TAU)))
    probability = torch.stack(probabilities, dim=1).amax(dim=1)
    return -(forged * probability.log() + (1 - forged) * (1 - probability).log()).mean()


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"exact": exact_mil, "literal": literal_mil}


def make_batch(count: int, device: str) -> tuple[Tensor, Tensor]:
    """Tokens that are similar in real images; in forged ones a quarter of them differs from the others."""
    generator = torch.Generator().manual_seed(count)
    tokens = torch.randn(BATCH, count, WIDTH, generator=generator)
    tokens += torch.randn(BATCH, 1, WIDTH, generator=generator)
    forged = (torch.arange(BATCH) % 2).float()
    tokens[forged > 0, : count // 4] -= 2 * tokens[forged > 0].mean(dim=1, keepdim=True)
    return F.normalize(tokens, dim=-1).to(device).requires_grad_(), forged.to(device)


def run_once(name: str, tokens: Tensor, forged: Tensor) -> float:
    """Seconds for one forward and backward pass."""
    wait_for(tokens.device)
    start = time.perf_counter()
    torch.autograd.grad(LOSSES[name](tokens, forged), tokens)
    wait_for(tokens.device)
    return time.perf_counter() - start


def wait_for(device: torch.device) -> None:
    """Wait for the kernels of a GPU, which run on when a call returns."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def pass_growth(name: str, count: int) -> float:
    """MiB by which one pass raises the peak resident set; meaningful only in a fresh process."""
    run_once(name, *make_batch(4, "cpu"))  # loads libraries and starts thread pools
    tokens, forged = make_batch(count, "cpu")
    return peak_growth(lambda: run_once(name, tokens, forged))


def gpu_peak_growth(name: str, count: int) -> float:
    """Peak of the GPU memory in one pass beside its inputs, MiB."""
    tokens, forged = make_batch(count, "cuda")
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run_once(name, tokens, forged)
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def measure_memory(name: str, count: int, threads: int, device: str) -> float:
    if device == "cuda":
        return gpu_peak_growth(name, count)
    command = [sys.executable, __file__, "--threads", str(threads), "--memory", name, str(count)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def measure_times(count: int, rounds: int, device: str) -> dict[str, float]:
    """Milliseconds, the fastest of `rounds`, the two losses in turn."""
    tokens, forged = make_batch(count, device)
    seconds: dict[str, list[float]] = {name: [] for name in LOSSES}
    for _ in range(rounds + 1):
        for name, times in seconds.items():
            times.append(run_once(name, tokens, forged))
    return {name: 1000 * min(times[1:]) for name, times in seconds.items()}  # the first round warms up


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--memory", nargs=2, metavar=("LOSS", "N"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.memory:
        print(pass_growth(options.memory[0], int(options.memory[1])))
        return 0
    where = f"{options.threads} threads" if options.device == "cpu" else torch.cuda.get_device_name()
    table = Table(title=f"l_MIL, forward + backward, batch {BATCH}, d {WIDTH}, {where}")
    for heading in ("N", "exact, ms", "literal, ms", "faster by", "exact, MiB", "literal, MiB"):
        table.add_column(heading, justify="right")
    passed, console = True, Console()
    for count in SIZES:
        console.print(f"measuring N = {count}", style="dim")
        times = measure_times(count, options.rounds, options.device)
        memory = {name: measure_memory(name, count, options.threads, options.device) for name in LOSSES}
        ratio = times["literal"] / times["exact"]
        passed &= ratio >= REQUIRED_SPEEDUP and memory["exact"] <= memory["literal"]
        row = [f"{times['exact']:.1f}", f"{times['literal']:.1f}", f"{ratio:.1f}x"]
        table.add_row(str(count), *row, f"{memory['exact']:.1f}", f"{memory['literal']:.1f}")
    console.print(table)
    console.print(machine("torch"), highlight=False)
    console.print(f"at least {REQUIRED_SPEEDUP:g}x as fast in no more memory: {'yes' if passed else 'NO'}")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
