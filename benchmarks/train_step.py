"""Images per second and peak memory of a training step and of inference: ours against the decoder baseline.

python benchmarks/train_step.py [--backbone resnet50] [--size 256] [--batch 8] [--rounds 5] [--flags]
python benchmarks/train_step.py --parts | --speed [--batch 32] [--config configs/default.yaml] [--cpu]
    [--processes 2] [--frozen 8]

Both have the same backbone, pyramid and encoder, and random weights. The decoder predicts one label at a
time: it is measured re-running the whole network for each, and with its encoder cached. In training it may
also read the true labels, all steps in one pass (teacher forcing, as this family is trained). Variants take
turns, the median round counts; memory is the growth of the peak resident set over one step in a fresh process
for each.

With --flags: what each setting of docs/distributed-training.md does to our own training step.

With --parts and --speed the network, the losses and the optimiser are those of a configuration, weights and
images are random. --parts: where a step's time goes, at 160 px and at the full size; "before" is the network
without pooling first and without convolutions fused with their ReLU6, "now" the one with both. --speed:
images per second of "before" at the full size against those of a run whose first half is at 160 px; on a GPU
with and without torch.compile, on a CPU with --processes also by so many processes of one thread each,
gradients averaged over gloo as under torchrun. --frozen: also with the backbone's layers up to that stride
kept as they are, as where training goes on from good weights. --cpu counts the processor time of all threads:
fairer on a busy machine.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from measuring import machine, median_seconds, peak_growth
from rich.console import Console
from rich.table import Table
from timm.layers.padding import pad_same
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from forgerank.labels import COMPONENTS, presence
from forgerank.losses.mil import forgery_gap, mil_loss
from forgerank.losses.total import LOSSES, LossConfig, Targets
from forgerank.model.activated import ActivatedConv2d
from forgerank.model.baselines import build_network
from forgerank.model.config import Kind, ModelConfig
from forgerank.model.depthwise import depthwise_conv2d
from forgerank.model.network import Network, Output
from forgerank.train.config import TrainConfig, load_config
from forgerank.train.sharding import recompute_blocks

Step = Callable[[], object]
Make = Callable[[argparse.Namespace], Step]
ASKED = {"training": 1.5, "inference": 3.0}  # images per second, ours over the decoder's


def make_batch(options: argparse.Namespace) -> tuple[Tensor, Targets]:
    """Noise, and sequences of 0 to L labels."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(options.batch, 3, options.size, options.size, generator=generator)
    count = len(COMPONENTS)
    labels = torch.rand(options.batch, count, generator=generator).argsort(dim=1) + 1  # (B, L)
    kept = torch.arange(count) < (torch.arange(options.batch) % (count + 1))[:, None]
    sequences = torch.where(kept, labels, 0)
    return images, Targets(presence(sequences, count).float(), sequences)


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
            part = Targets(targets.presence[rows], targets.sequences[rows])
            true = (part.sequences,) if teacher else ()
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                output = network(images[rows], *true, **decoding)
            (LOSSES[kind](output, part, LossConfig())["total"] / parts).backward()
        optimizer.step()

    return step


def inference(kind: Kind, options: argparse.Namespace, **decoding: bool) -> Step:
    """One batch in evaluation mode, without gradients."""
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


EARLY_SIZE = 160  # pixels, of the first half of a run
ASKED_SPEED = 2.0
PARTS = (
    "backbone", "pyramid", "encoder", "heads and losses",
    "losses, heads: backward", "encoder: backward", "pyramid: backward", "backbone: backward",
    "clip", "optimiser", "average",
)  # fmt: skip


class Trained:
    """A network in training as the configuration says; `now` false: as it was before."""

    def __init__(
        self,
        config: TrainConfig,
        options: argparse.Namespace,
        size: int,
        *,
        now: bool,
        compiled: bool = False,
        shared: bool = False,
        frozen: bool = False,
    ) -> None:
        """shared: a batch is split over all processes, which average their gradients. frozen: `--frozen`."""
        torch.manual_seed(0)
        model = config.model.model_copy(update={"pretrained": False, "pool_first": now})
        layout = torch.channels_last if config.channels_last else torch.contiguous_format
        network = Network(model) if now else unfused(Network(model))
        if frozen:
            network.backbone.freeze(options.frozen)
        self.network: nn.Module = network.to(options.device).to(memory_format=layout).train()
        self.average = [value.detach().clone() for value in self.network.parameters()]
        learnt = [value for value in self.network.parameters() if value.requires_grad]
        self.optimizer = torch.optim.AdamW(learnt, lr=1e-4)
        if compiled:
            self.network.compile()
        batch = options.batch
        if shared:
            batch //= dist.get_world_size()
            # As in the trainer.
            self.network = DistributedDataParallel(self.network, find_unused_parameters=False)
        images, targets = make_batch(argparse.Namespace(batch=batch, size=size))
        cells = size // model.stride
        masks = torch.rand(batch, len(COMPONENTS), cells, cells) * targets.presence[:, :, None, None]
        self.images = images.to(options.device).contiguous(memory_format=layout)
        self.targets = Targets(*(value.to(options.device) for value in (*targets[:2], masks)))
        self.config, self.options = config, options

    def losses(self) -> Tensor:
        mixed = self.options.precision == "bf16-mixed"
        with torch.autocast(self.options.device, torch.bfloat16, enabled=mixed):
            output: Output = self.network(self.images)
            return LOSSES["ranking"](output, self.targets, self.config.loss)["total"]

    def step(self) -> None:
        self.optimizer.zero_grad()
        self.losses().backward()
        self.finish()

    def finish(self, mark: Callable[[str], None] = lambda _: None) -> None:
        if self.config.optim.clip is not None:
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.config.optim.clip)
        mark("clip")
        self.optimizer.step()
        mark("optimiser")
        with torch.no_grad():
            torch._foreach_lerp_(self.average, list(self.network.parameters()), 1e-3)
        mark("average")

    def parts(self) -> dict[str, float]:
        """Seconds of each of PARTS in one step."""
        found: dict[str, float] = {}
        last = clock(self.options)

        def mark(name: str) -> None:
            nonlocal last
            now = clock(self.options)
            found[name] = found.get(name, 0.0) + now - last
            last = now

        def on_gradient(name: str) -> Callable[[Tensor], None]:
            return lambda _: mark(name)

        def after_backbone(_: nn.Module, given: tuple[list[Tensor], tuple[int, int]]) -> object:
            mark("backbone")
            # Views, because the next stage of the backbone adds to the gradient of the levels themselves.
            levels = [level.view_as(level) for level in given[0]]
            for level in levels:
                level.register_hook(on_gradient("pyramid: backward"))
            return levels, given[1]

        def after_pyramid(_: nn.Module, __: object, tokens: Tensor) -> None:
            mark("pyramid")
            tokens.register_hook(on_gradient("encoder: backward"))

        def after_encoder(_: nn.Module, __: object, tokens: Tensor) -> None:
            mark("encoder")
            tokens.register_hook(on_gradient("losses, heads: backward"))

        net = self.network
        hooks = [
            net.patches.register_forward_pre_hook(after_backbone),
            net.patches.register_forward_hook(after_pyramid),
            net.encoder.register_forward_hook(after_encoder),
        ]
        self.optimizer.zero_grad()
        total = self.losses()
        mark("heads and losses")
        total.backward()
        mark("backbone: backward")
        self.finish(mark)
        for hook in hooks:
            hook.remove()
        return found

    def mil(self) -> float:
        """Seconds of L_MIL and its gradient alone."""
        with torch.no_grad():
            tokens = self.network(self.images).tokens.float()
        started = clock(self.options)
        gap = forgery_gap(tokens.requires_grad_(), self.config.loss.k_points)
        mil_loss(gap, self.targets.presence.amax(dim=1), tau=self.config.loss.tau).backward()
        return clock(self.options) - started


class Unfused(nn.Module):
    """A convolution followed by ReLU6 in place, as in timm."""

    def __init__(self, layer: ActivatedConv2d) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, images: Tensor) -> Tensor:
        layer, weight = self.layer, self.layer.weight
        if layer.same:
            images = pad_same(images, list(weight.shape[2:]), [layer.stride, layer.stride])
        layout = layer.stride, layer.padding
        if layer.groups == len(weight):
            output = depthwise_conv2d(images, weight, layer.bias, *layout, training=self.training)
        else:
            output = F.conv2d(images, weight, layer.bias, *layout, groups=layer.groups)
        return F.relu6(output, inplace=True) if layer.relu6 else output


def unfused(network: Network) -> Network:
    """Change the network in place: convolutions not fused with their ReLU6, attention as in torch."""
    network.encoder.__class__ = nn.TransformerEncoder
    for name, layer in list(network.named_modules()):
        if isinstance(layer, ActivatedConv2d):
            network.set_submodule(name, Unfused(layer))
    return network


def clock(options: argparse.Namespace) -> float:
    """Seconds: of the wall, or of this process's threads together."""
    if options.device == "cuda":
        torch.cuda.synchronize()
    return time.process_time() if options.cpu else time.perf_counter()


def measure_parts(config: TrainConfig, options: argparse.Namespace) -> Table:
    """Milliseconds per image of every part of a step; the networks take turns."""
    columns = {
        f"{size} px, {'now' if now else 'before'}": Trained(config, options, size, now=now)
        for size in (EARLY_SIZE, config.model.input_size)
        for now in (False, True)
    }
    taken: dict[str, dict[str, list[float]]] = {name: {} for name in columns}
    for turn in range(options.rounds + 1):
        for name, trained in columns.items():
            parts = trained.parts()
            parts["whole step"] = sum(parts.values())
            parts["L_MIL and its gradient alone"] = trained.mil()
            for part, seconds in parts.items() if turn else ():
                taken[name].setdefault(part, []).append(seconds)
    table = Table("ms per image", *columns, title="parts of a training step")
    for part in (*PARTS, "whole step", "L_MIL and its gradient alone"):
        medians = [1000 * statistics.median(taken[name][part]) / options.batch for name in columns]
        wholes = [1000 * statistics.median(taken[name]["whole step"]) / options.batch for name in columns]
        cells = (f"{ms:.2f} ({ms / whole:.0%})" for ms, whole in zip(medians, wholes, strict=True))
        table.add_row(part, *cells, end_section=part == PARTS[-1])
    return table


class Variant(NamedTuple):
    """How a step is computed."""

    now: bool
    compiled: bool = False
    shared: bool = False  # by all processes, one thread each
    frozen: bool = False  # the backbone's layers up to the stride `--frozen`


def measure_speed(config: TrainConfig, options: argparse.Namespace) -> Table:
    """Images per second before, now, and over a run of which half of the images are small."""
    if options.processes == 1:
        return speed_table(config, options, time_variants(config, options))
    with tempfile.TemporaryDirectory() as folder:
        spawn = torch.multiprocessing.get_context("spawn")
        results = spawn.SimpleQueue()
        arguments = (config, options, f"file://{folder}/rendezvous", results)
        torch.multiprocessing.spawn(take_part, arguments, nprocs=options.processes, join=True)
        return speed_table(config, options, results.get())


def take_part(
    rank: int, config: TrainConfig, options: argparse.Namespace, rendezvous: str, results: Any
) -> None:
    """The work of one process; only the first computes the steps that are not shared."""
    dist.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=options.processes)
    seconds = time_variants(config, options)
    if rank == 0:
        results.put(seconds)
    dist.destroy_process_group()


def time_variants(config: TrainConfig, options: argparse.Namespace) -> dict[tuple[str, int], list[float]]:
    """Seconds of every step, by variant and size; the variants take turns."""
    variants = {"before": Variant(now=False), "now": Variant(now=True)}
    if options.device == "cuda":
        variants |= {f"{name}, compiled": one._replace(compiled=True) for name, one in variants.items()}
    if options.processes > 1:
        variants[f"now, {options.processes} processes"] = Variant(now=True, shared=True)
    if options.frozen:
        kept = {name: one._replace(frozen=True) for name, one in variants.items() if one.now}
        variants |= {f"{name}, frozen": one for name, one in kept.items()}
    alone = options.processes == 1 or dist.get_rank() == 0
    seconds: dict[tuple[str, int], list[float]] = {
        (name, size): [] for name in variants for size in (EARLY_SIZE, config.model.input_size)
    }
    trained = {
        (name, size): Trained(config, options, size, **variants[name]._asdict())
        for name, size in seconds
        if alone or variants[name].shared
    }
    for turn in range(options.rounds + 2):
        for key, values in seconds.items():
            shared = variants[key[0]].shared
            torch.set_num_threads(1 if shared else options.threads)
            if options.processes > 1:
                dist.barrier()
            started = clock(options)
            if alone or shared:
                trained[key].step()
            if turn > 1:
                values.append(clock(options) - started)
    return seconds


def speed_table(
    config: TrainConfig, options: argparse.Namespace, seconds: dict[tuple[str, int], list[float]]
) -> Table:
    full = config.model.input_size
    per_image = {key: statistics.median(values) / options.batch for key, values in seconds.items()}
    base = per_image["before", full]
    heads = (f"{EARLY_SIZE} px", f"{full} px", "half and half", "against before at the full size")
    table = Table("images/s", *heads, title="a training step")
    for kind in dict.fromkeys(name for name, _ in seconds):
        small, large = per_image[kind, EARLY_SIZE], per_image[kind, full]
        mean = (small + large) / 2
        ratio = base / mean
        verdict = f"{ratio:.2f}x"
        if kind.startswith("now"):
            verdict += f", asked {ASKED_SPEED:g}x: {'yes' if ratio >= ASKED_SPEED else 'NO'}"
        table.add_row(kind, *(f"{1 / value:.1f}" for value in (small, large, mean)), verdict)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--parts", action="store_true")
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--config", type=Path, default=Path("configs/default.yaml"))
    parser.add_argument("--precision", choices=("32-true", "bf16-mixed"), help="default: the configuration's")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--processes", type=int, default=1, help="--speed on a CPU: also by so many")
    parser.add_argument("--frozen", type=int, metavar="STRIDE", help="--speed: also with frozen layers")
    parser.add_argument("--cpu", action="store_true", help="count processor time, not wall time")
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
    if options.parts or options.speed:
        config = load_config(options.config)
        options.precision = options.precision or config.precision
        console.print(
            f"{options.config}: {config.model.backbone}, batch {options.batch}, {options.precision}, "
            f"{options.device}, median of {options.rounds}{', processor time' if options.cpu else ''}"
        )
        for wanted, section in ((options.parts, measure_parts), (options.speed, measure_speed)):
            if wanted:
                console.print(section(config, options))
        console.print(conditions(options))
        return
    console.print(f"{options.backbone}, {options.size} px, batch {options.batch}, median of {options.rounds}")
    for section, variants in sections.items():
        console.print(measure(section, variants, options))
    console.print(conditions(options))


def conditions(options: argparse.Namespace) -> str:
    name = (
        torch.cuda.get_device_name() if options.device == "cuda" else torch.backends.cpu.get_cpu_capability()
    )
    return f"{name}, {options.threads} threads; {machine('torch')}"


if __name__ == "__main__":
    main()
