"""What each term of the loss weighs: its share of the gradient that reaches the backbone.

python benchmarks/loss_balance.py [--config configs/default.yaml] [--weights FILE] [--batches 4]
    [--set KEY=VALUE]

Batches are those of training. For each weighted term: its value; the norm of its gradient over the parameters
of the backbone; the cosine between that and the gradient of the sum; and how much of the sum's length it
gives, <g, sum> / <sum, sum>: these add up to 1. A loss can be large and its gradient small. Means over the
batches. Without --weights the network is the one that training begins with.
"""

import argparse
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from forgerank.losses.total import LossConfig, total_loss
from forgerank.model.baselines import build_network
from forgerank.model.network import Network, Output
from forgerank.reproduce.table_file import load_run
from forgerank.train.checkpoints import load_network
from forgerank.train.loaders import open_mixture, train_loader
from forgerank.train.module import _to_targets, to_images


def weight_of(term: str, config: LossConfig) -> float:
    """What `total_loss` multiplies a term with."""
    name = {"mil": "cls", "reg": "cls", "bce_u": "1", "bce_v": "1", "rank": "2"}.get(term, term)
    separator = "" if name in "12" else "_"
    return float(getattr(config, f"lambda{separator}{name}"))


def gradients(losses: dict[str, Tensor], weights: list[Tensor], config: LossConfig) -> dict[str, Tensor]:
    """The gradient of each weighted term, and of the sum, as one long vector."""
    found = {}
    for term in (name for name in losses if name != "total"):
        parts = torch.autograd.grad(
            losses[term] * weight_of(term, config), weights, retain_graph=True, allow_unused=True
        )
        flat = [
            torch.zeros_like(weight) if part is None else part
            for part, weight in zip(parts, weights, strict=True)
        ]
        found[term] = torch.cat([part.flatten() for part in flat])
    return found | {"total": torch.stack(list(found.values())).sum(dim=0)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", type=Path, default=Path("configs/default.yaml"))
    parser.add_argument("--weights", type=Path, help="a checkpoint or .safetensors")
    parser.add_argument("--batches", type=int, default=4)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides")
    options = parser.parse_args()
    config = load_run(options.config, None, options.overrides)
    torch.manual_seed(0)
    network = load_network(options.weights)[0] if options.weights else build_network(config.model)
    assert isinstance(network, Network), "the balance is that of the ranking network's losses"
    network.train()
    weights = [value for name, value in network.named_parameters() if name.startswith("backbone.")]
    rows: dict[str, list[list[float]]] = {}
    batches = iter(train_loader(config, open_mixture(config.data), position=lambda: 0))
    for _ in range(options.batches):
        batch = next(batches)
        output: Output = network(to_images(batch))
        losses = total_loss(output, _to_targets(batch), config.loss)
        found = gradients(losses, weights, config.loss)
        total = found["total"]
        for term, gradient in found.items():
            value = losses[term].item() * (1 if term == "total" else weight_of(term, config.loss))
            along = float(gradient @ total)
            norm, length = float(gradient.norm()), float(total.norm())
            rows.setdefault(term, []).append([value, norm, along / (norm * length), along / length**2])
    table = Table("term, weighted", "value", "gradient's norm", "cosine to the sum", "share of the sum")
    for term, measured in rows.items():
        value, norm, cosine, share = torch.tensor(measured).mean(dim=0).tolist()
        table.add_row(term, f"{value:.3f}", f"{norm:.2f}", f"{cosine:.2f}", f"{share:.0%}")
    Console().print(table)


if __name__ == "__main__":
    main()
