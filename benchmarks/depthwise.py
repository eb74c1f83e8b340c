"""A bfloat16 training step of the default backbone, with the depthwise gradient of torch and with our own.

python benchmarks/depthwise.py [--size 224] [--batch 16] [--rounds 3]
"""

import argparse
import platform
import statistics
import time

import timm
import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from forgerank.model.depthwise import replace_depthwise

BACKBONE = "tf_efficientnet_lite0"


def build(*, ours: bool) -> nn.Module:
    net: nn.Module = timm.create_model(BACKBONE, features_only=True)
    if ours:
        replace_depthwise(net)
    return net.to(memory_format=torch.channels_last).train()


def step_seconds(net: nn.Module, images: torch.Tensor) -> float:
    started = time.perf_counter()
    with torch.autocast("cpu", torch.bfloat16):
        maps = net(images)
    sum(level.float().square().mean() for level in maps).backward()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    images = torch.rand(options.batch, 3, options.size, options.size).contiguous(
        memory_format=torch.channels_last
    )
    nets = {"torch": build(ours=False), "forgerank": build(ours=True)}
    for net in nets.values():
        step_seconds(net, images)
    times: dict[str, list[float]] = {name: [] for name in nets}
    for _ in range(options.rounds):
        for name, net in nets.items():
            times[name].append(step_seconds(net, images))
    medians = {name: statistics.median(values) for name, values in times.items()}
    table = Table("gradient of depthwise convolutions", "images/s", "ratio")
    for name, median in medians.items():
        table.add_row(name, f"{options.batch / median:.1f}", f"{medians['torch'] / median:.2f}x")
    console = Console()
    console.print(f"{BACKBONE}, {options.size} px, batch {options.batch}, forward + backward, bfloat16")
    console.print(f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    console.print(table)


if __name__ == "__main__":
    main()
