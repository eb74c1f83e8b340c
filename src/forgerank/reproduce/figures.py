"""Figures 3 to 5 of the paper (Hong, Hsu, Liu, CVPR 2024): a plot as PNG each, and its numbers as CSV."""

import csv
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor, nn

from forgerank.data.batches import Crops
from forgerank.data.formats.registry import find_folders
from forgerank.data.sample import Source
from forgerank.evaluation.evaluate import open_split
from forgerank.losses.mil import similarity_map
from forgerank.model.network import Network
from forgerank.reproduce.run_metrics import default_split, on_folders
from forgerank.reproduce.runs import Request, make_plan, row_config, train_missing
from forgerank.reproduce.table_file import load_table
from forgerank.train.checkpoints import load_network
from forgerank.train.config import TrainConfig
from forgerank.types import InputError

BINS = 50
HISTOGRAM_IMAGES = 256  # of each class
Array = NDArray[np.float32]


@dataclass(frozen=True)
class Images:
    """Some images of the evaluated split, with their labels."""

    images: Tensor  # (B, 3, S, S) in [0, 1]
    sequences: Sequence[tuple[int, ...]]
    names: Sequence[str]


@dataclass(frozen=True)
class Trained:
    """A finished run that a plot is drawn from."""

    title: str
    network: Network
    config: TrainConfig
    source: Source  # the evaluated split


def make_figure(name: str, request: Request, folder: Path) -> Path:
    """Train the rows of `request.table` that the figure needs, draw it, and return the PNG in `folder`.

    Raises InputError for an unknown figure, and for a network without patch tokens.
    """
    if name not in FIGURES:
        raise InputError(f"{name}: the figures are {', '.join(FIGURES)}")
    rows, draw = FIGURES[name]
    table = load_table(request.table)
    plan = make_plan(request, table, list(rows))
    runs = []
    for row in rows:
        config = row_config(request, table, row, images=plan.images if plan else None)
        if config is None:
            raise InputError(f"{request.data[0]}: holds no data for {row}")
        checkpoint = train_missing(config, progress=request.progress)
        runs.append(_open_run(table.rows[row].title, checkpoint, config, request))
    folder.mkdir(parents=True, exist_ok=True)
    figure, numbers = draw(runs)
    path = folder / f"{name}.png"
    figure.savefig(path, dpi=120)
    with path.with_suffix(".csv").open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows(numbers)
    return path


def _open_run(title: str, checkpoint: Path, config: TrainConfig, request: Request) -> Trained:
    network, _ = load_network(checkpoint)
    if not isinstance(network, Network):
        raise InputError(f"{checkpoint}: has no patch tokens to draw")
    folders = find_folders(request.data, config.data.vocabulary)
    split = request.split or default_split(folders)
    settings = on_folders(config, folders, split)
    _, source = open_split(settings, (), split, limit=None, workers=None)
    return Trained(title, network, settings, source)


def pick(source: Source, *, forged: int, real: int) -> list[int]:
    """Indices of the forged images with the most edits, then of real ones; a class has one image a group."""
    samples = [source.sample(index) for index in range(len(source))]
    order = sorted(range(len(samples)), key=lambda index: (-len(samples[index].sequence), index))
    chosen: list[int] = []
    for wanted, candidates in (
        (forged, [index for index in order if samples[index].sequence]),
        (real, [index for index in order if not samples[index].sequence]),
    ):
        groups: set[str] = set()
        for index in candidates:
            if len(groups) < wanted and samples[index].group not in groups:
                groups.add(samples[index].group)
                chosen.append(index)
    return chosen


def load_images(run: Trained, indices: Iterable[int]) -> Images:
    """The crops of these images, as input of the network."""
    model = run.config.model
    data = run.config.data
    crops = Crops(
        run.source, size=model.input_size, length=len(data.labels), zoom=model.zoom, align=data.align
    )
    chosen = list(indices)
    samples = [run.source.sample(index) for index in chosen]
    images = torch.stack([crops[index]["image"] for index in chosen]).float() / 255
    return Images(images, [s.sequence for s in samples], [s.image.name for s in samples])


def grad_cams(network: Network, images: Tensor) -> Array:
    """Grad-CAM of each f_i at the patch tokens before the encoder: (B, L, S, S) in [0, 1]."""
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    stride = network.config.stride
    size = images.shape[2] // stride, images.shape[3] // stride
    maps = []
    with GradCAM(
        model=_Logits(network),
        target_layers=[network.patches],
        reshape_transform=lambda tokens: tokens.mT.unflatten(2, size),  # (B, N, d) to (B, d, h, w)
    ) as cam:
        for component in range(network.config.components):
            maps.append(cam(input_tensor=images, targets=[ClassifierOutputTarget(component)] * len(images)))
    return np.stack(maps, axis=1).astype(np.float32)


class _Logits(nn.Module):
    """The network with its logits as only output, as pytorch_grad_cam requires."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images).logits
        return logits


def draw_grad_cam(runs: Sequence[Trained]) -> tuple[Figure, list[list[Any]]]:
    """Figure 3: each image beside the Grad-CAM of every component; numbers are means over patches."""
    (run,) = runs
    labels, stride = run.config.data.labels, run.config.model.stride
    images = load_images(run, pick(run.source, forged=4, real=1))
    maps = grad_cams(run.network, images.images)
    with torch.inference_mode():
        probabilities = run.network(images.images).logits.sigmoid().tolist()
    patches = maps.reshape(*maps.shape[:2], maps.shape[2] // stride, stride, -1, stride).mean(axis=(3, 5))
    numbers: list[list[Any]] = [
        ["picture", "sequence", "component", "probability", "row", "column", "grad_cam"]
    ]
    figure = Figure(figsize=(2 * (1 + len(labels)), 2.3 * len(maps)), layout="constrained")
    axes = figure.subplots(len(maps), 1 + len(labels), squeeze=False)
    for b, sequence in enumerate(images.sequences):
        names = [labels[label - 1] for label in sequence]
        _show(axes[b][0], images.images[b], ", ".join(names) or "real")
        for i, label in enumerate(labels):
            _show(axes[b][i + 1], images.images[b], f"{label} {probabilities[b][i]:.2f}")
            axes[b][i + 1].imshow(maps[b, i], cmap="jet", alpha=0.45, vmin=0, vmax=1)
            facts = [images.names[b], " ".join(names), label, round(probabilities[b][i], 6)]
            numbers += [[*facts, *cell] for cell in _cells(patches[b, i])]
    return figure, numbers


def draw_similarity(runs: Sequence[Trained]) -> tuple[Figure, list[list[Any]]]:
    """Figure 4: each image beside S and beside each patch's mean similarity to all others (the numbers)."""
    (run,) = runs
    images = load_images(run, pick(run.source, forged=3, real=3))
    with torch.inference_mode():
        similarity = similarity_map(run.network(images.images).tokens)  # (B, N, N)
    count, side = similarity.shape[1], images.images.shape[2] // run.config.model.stride
    means = (similarity.sum(dim=2) - similarity.diagonal(dim1=1, dim2=2)) / (count - 1)  # (B, N)
    labels = run.config.data.labels
    numbers: list[list[Any]] = [["picture", "sequence", "row", "column", "mean_similarity"]]
    figure = Figure(figsize=(6.6, 2.2 * len(means)), layout="constrained")
    axes = figure.subplots(len(means), 3, squeeze=False)
    for b, sequence in enumerate(images.sequences):
        names = [labels[label - 1] for label in sequence]
        patches = means[b].reshape(side, -1).numpy()
        _show(axes[b][0], images.images[b], ", ".join(names) or "real")
        shown = zip(axes[b][1:], (similarity[b].numpy(), patches), ("S", "mean per patch"), strict=True)
        for axis, values, title in shown:
            image = axis.imshow(values, cmap="viridis", vmin=0, vmax=1)
            axis.set_title(title, fontsize=8)
            axis.set_axis_off()
        figure.colorbar(image, ax=axes[b][2])
        numbers += [[images.names[b], " ".join(names), *cell] for cell in _cells(patches)]
    return figure, numbers


def draw_histograms(runs: Sequence[Trained]) -> tuple[Figure, list[list[Any]]]:
    """Figure 5: how often each similarity u occurs in real and in forged images, one panel per run."""
    edges = np.linspace(0, 1, BINS + 1)
    numbers: list[list[Any]] = [["run", "class", "pictures", "from", "to", "share"]]
    figure = Figure(figsize=(4.2 * len(runs), 3), layout="constrained")
    axes = figure.subplots(1, len(runs), squeeze=False, sharey=True)[0]
    for axis, run in zip(axes, runs, strict=True):
        everything = range(len(run.source))
        for name, forged in (("real", False), ("forged", True)):
            chosen = [i for i in everything if bool(run.source.sample(i).sequence) == forged]
            chosen = chosen[:: max(1, len(chosen) // HISTOGRAM_IMAGES)][:HISTOGRAM_IMAGES]
            shares = _similarity_shares(run, chosen, edges)
            axis.stairs(shares, edges, label=name, fill=True, alpha=0.5)
            for low, high, share in zip(edges[:-1], edges[1:], shares, strict=True):
                numbers.append([run.title, name, len(chosen), f"{low:.2f}", f"{high:.2f}", f"{share:.6f}"])
        axis.set_title(run.title, fontsize=9)
        axis.set_xlabel("u")
        axis.legend()
    axes[0].set_ylabel("share of the pairs")
    return figure, numbers


def _similarity_shares(
    run: Trained, chosen: Sequence[int], edges: NDArray[np.float64]
) -> NDArray[np.float64]:
    counts = np.zeros(len(edges) - 1)
    for start in range(0, len(chosen), run.config.batch_size):
        part = load_images(run, chosen[start : start + run.config.batch_size])
        with torch.inference_mode():
            similarity = similarity_map(run.network(part.images).tokens).clamp_max(1)
        above = np.triu_indices(similarity.shape[1], 1)
        counts += np.histogram(similarity.numpy()[:, above[0], above[1]], bins=edges)[0]
    shares: NDArray[np.float64] = counts / max(1.0, counts.sum())
    return shares


def _show(axis: Axes, image: Tensor, title: str) -> None:
    axis.imshow(image.permute(1, 2, 0).numpy())
    axis.set_title(title, fontsize=8)
    axis.set_axis_off()


def _cells(values: Array) -> Iterable[tuple[int, int, float]]:
    for (row, column), value in np.ndenumerate(values):
        yield row, column, round(float(value), 6)


# figure -> the rows of Table 3 that it is drawn from (III and IV differ in L_CLS alone), and how
Draw = Callable[[Sequence[Trained]], tuple[Figure, list[list[Any]]]]
FIGURES: dict[str, tuple[tuple[str, ...], Draw]] = {
    "figure3": (("model-6",), draw_grad_cam),
    "figure4": (("model-6",), draw_similarity),
    "figure5": (("model-3", "model-4"), draw_histograms),
}
