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

from forgerank.losses.total import weighted_terms
from forgerank.model.baselines import build_network
from forgerank.model.network import Network, Output
from forgerank.reproduce.table_file import load_run
from forgerank.train.checkpoints import load_network
from forgerank.train.loaders import open_mixture, train_loader
from forgerank.train.module import to_images, to_targets


def gradient_of(loss: Tensor, weights: list[Tensor]) -> Tensor:
    """Its gradient as one long vector, with zeros where it does not depend on a weight."""
    parts = torch.autograd.grad(loss, weights, retain_graph=True, materialize_grads=True)
    return torch.cat([part.flatten() for part in parts])


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
        terms = weighted_terms(output, to_targets(batch), config.loss)
        losses = {name: weight * loss for name, (weight, loss) in terms.items()}
        found = {name: gradient_of(loss, weights) for name, loss in losses.items()}
        losses["total"] = torch.stack(list(losses.values())).sum()
        found["total"] = total = torch.stack(list(found.values())).sum(dim=0)
        for term, gradient in found.items():
            along = float(gradient @ total)
            norm, length = float(gradient.norm()), float(total.norm())
            measured = [losses[term].item(), norm, along / (norm * length), along / length**2]
            rows.setdefault(term, []).append(measured)
    table = Table("term, weighted", "value", "gradient's norm", "cosine to the sum", "share of the sum")
    for term, batches_of_it in rows.items():
        value, norm, cosine, share = torch.tensor(batches_of_it).mean(dim=0).tolist()
        table.add_row(term, f"{value:.3f}", f"{norm:.2f}", f"{cosine:.2f}", f"{share:.0%}")
    Console().print(table)


if __name__ == "__main__":
    main()
