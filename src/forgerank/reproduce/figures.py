"""Figures 3 to 5 of the paper (Hong, Hsu, Liu, CVPR 2024): a plot as PNG each, and its numbers as CSV."""

import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import cv2
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
from forgerank.files import csv_bytes, csv_name, make_folder, write_atomic
from forgerank.labels import Sequences
from forgerank.losses.mil import similarity_map
from forgerank.metrics.scores import to_scores
from forgerank.metrics.sequence import predict_sequences
from forgerank.model.network import ImageTokens, Network, StepOutput
from forgerank.reproduce.run_metrics import default_split, on_folders
from forgerank.reproduce.runs import Request, make_plan, row_config, train_missing
from forgerank.reproduce.table_file import load_table
from forgerank.train.checkpoints import load_network
from forgerank.train.config import TrainConfig
from forgerank.types import InputError

BINS = 50
HISTOGRAM_IMAGES = 256  # of each class
Array = NDArray[np.float32]
Numbers = list[list[Any]]  # rows of a CSV, the first its heading


@dataclass(frozen=True)
class Images:
    """Some images of the evaluated split, with their labels."""

    images: Tensor  # (B, 3, S, S) in [0, 1]
    sequences: Sequence[tuple[int, ...]]
    forged: Sequence[bool]
    names: Sequence[str]

    def title(self, index: int, labels: Sequence[str]) -> str:
        """What was done to an image, in order."""
        sequence = self.sequences[index] if len(labels) > 1 else ()
        names = ", ".join(labels[label - 1] for label in sequence)
        return names or ("forged" if self.forged[index] else "real")


@dataclass(frozen=True)
class Trained:
    """A finished run that a plot is drawn from."""

    title: str
    network: nn.Module
    config: TrainConfig
    source: Source  # the evaluated split
    place: str = ""  # which data that split is of, in words


class Runs(NamedTuple):
    """Rows of a table that a figure is drawn from."""

    table: str
    rows: tuple[str, ...]


def make_figure(name: str, request: Request) -> Path:
    """Train the runs that the figure needs and that are missing, draw it, and return its PNG.

    The runs are rows of tables in the folder of `request.table`, the first of the figure's for which
    `request.data` hold images. They go to `request.out`/TABLE, where `reproduce TABLE` finds them, and the
    figure to `request.out`/`name`. Raises InputError for an unknown figure and where no data fit.
    """
    if name not in FIGURES:
        raise InputError(f"{name}: the figures are {', '.join(FIGURES)}")
    choices, draw = FIGURES[name]
    for table, rows in choices:
        path, out = request.table.with_name(f"{table}.yaml"), request.out / table
        runs = _open_runs(replace(request, table=path, out=out), rows)
        if runs:
            break
    else:
        raise InputError(f"{request.data[0]}: holds no data for {name}")
    folder = request.out / name
    make_folder(folder)
    figure, numbers = draw(runs)
    figure.suptitle(f"{name.replace('figure', 'Figure ')}: {runs[0].place}", fontsize=9)
    path = folder / f"{name}.png"
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=120)
    write_atomic(path.with_suffix(".csv"), csv_bytes(numbers))
    write_atomic(path, drawn.getvalue())
    return path


def _open_runs(request: Request, rows: Sequence[str]) -> list[Trained]:
    """The runs of these rows, trained where they are missing; none without data for them."""
    table = load_table(request.table)
    if any(row_config(request, table, row) is None for row in rows):
        return []
    plan = make_plan(request, table, list(rows))
    runs = []
    for row in rows:
        config = row_config(request, table, row, images=plan.images if plan else None)
        assert config is not None
        checkpoint = train_missing(config, progress=request.progress)
        runs.append(_open_run(table.rows[row].title, checkpoint, config, request))
    return runs


def _open_run(title: str, checkpoint: Path, config: TrainConfig, request: Request) -> Trained:
    network, _ = load_network(checkpoint)
    folders = find_folders(request.data, config.data.vocabulary)
    split = request.split or default_split(folders)
    settings = on_folders(config, folders, split)
    _, source = open_split(settings, (), split, limit=None, workers=None)
    shown = settings.data.val_roots or settings.data.roots
    names = ", ".join(root.name for root in shown)
    place = f"the split {split} of {names}, {len(source)} images"
    return Trained(title, network, settings, source, place)


def pick(source: Source, *, forged: int, real: int) -> list[int]:
    """Indices of the forged images with the most edits, then of real ones; a class has one image a group."""
    samples = [source.sample(index) for index in range(len(source))]
    order = sorted(range(len(samples)), key=lambda index: (-len(samples[index].sequence), index))
    chosen: list[int] = []
    for wanted, kind in ((forged, True), (real, False)):
        groups: set[str] = set()
        for index in order:
            sample = samples[index]
            if sample.forged == kind and len(groups) < wanted and sample.group not in groups:
                groups.add(sample.group)
                chosen.append(index)
    if not chosen:
        raise InputError("the evaluated split holds no image to draw")
    return chosen


def load_images(run: Trained, indices: Iterable[int]) -> Images:
    """The crops of these images, as input of the network."""
    model, data = run.config.model, run.config.data
    crops = Crops(
        run.source, size=model.input_size, length=len(data.labels), zoom=model.zoom, align=data.align
    )
    chosen = list(indices)
    samples = [run.source.sample(index) for index in chosen]
    images = torch.stack([crops[index]["image"] for index in chosen]).float() / 255
    names = [f"{s.video}/{s.image.name}" if s.video else s.image.name for s in samples]
    return Images(images, [s.sequence for s in samples], [s.forged for s in samples], names)


def grad_cams(network: nn.Module, images: Tensor, labels: Sequence[Sequence[int]]) -> Array:
    """Grad-CAM of the evidence for some labels of each image, summed: (B, S, S) in [0, 1].

    labels: of each image 0-based ones. The map is that of the features: the patch tokens before the encoder,
    or the last map of a network that pools it. The evidence is f_i, or the largest logit of label i over the
    steps of a network that answers step by step.
    """
    from pytorch_grad_cam import GradCAM

    layer, to_map = _features(network, images)
    with GradCAM(model=_Evidence(network), target_layers=[layer], reshape_transform=to_map) as cam:
        maps = cam(input_tensor=images, targets=[_Sum(some) for some in labels])
    return np.asarray(maps, dtype=np.float32)


def mean_similarities(network: nn.Module, images: Tensor) -> Array:
    """Of every patch the mean of S (Eq. 4) to all others, (B, h, w) in [0, 1].

    The patches are U~ of the paper's network. Of any other they are the cells of the map that `grad_cams`
    uses, scaled to length 1.
    """
    layer, to_map = _features(network, images)
    kept: list[Tensor] = []
    hook = layer.register_forward_hook(lambda _, __, output: kept.append(output))
    with torch.inference_mode():
        output = network(images)
    hook.remove()
    features = to_map(kept[0])  # (B, d, h, w)
    tokens = features.flatten(2).mT  # (B, N, d)
    tokens = output.tokens if isinstance(network, Network) else nn.functional.normalize(tokens, dim=2)
    means = mean_similarity(tokens)  # (B, N)
    return np.asarray(means.reshape(len(images), *features.shape[2:]), dtype=np.float32)


def mean_similarity(tokens: Tensor) -> Tensor:
    """Of every token (B, N, d) of unit length the mean of S to all others, (B, N)."""
    similarity = similarity_map(tokens)  # (B, N, N)
    return (similarity.sum(dim=2) - similarity.diagonal(dim1=1, dim2=2)) / (similarity.shape[1] - 1)


def _features(network: nn.Module, images: Tensor) -> tuple[nn.Module, Callable[[Tensor], Tensor]]:
    """The module with the features of a network's patches, and what makes (B, d, h, w) of its output."""
    if isinstance(network, ImageTokens):
        size = images.shape[2] // network.config.stride, images.shape[3] // network.config.stride
        return network.patches, lambda tokens: tokens.mT.unflatten(2, size)
    net: Any = network.backbone.net  # type: ignore[union-attr]
    layer: nn.Module = net.get_submodule(net.feature_info[-1]["module"])
    last = getattr(net, "output_fmt", "NCHW") == "NHWC"
    return layer, lambda maps: maps.permute(0, 3, 1, 2) if last else maps


class _Evidence(nn.Module):
    """A network with the evidence (B, L) as its only output, as pytorch_grad_cam requires."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        output = self.network(images)
        evidence: Tensor = (
            output.step_logits[:, :, 1:].amax(dim=1) if isinstance(output, StepOutput) else output.logits
        )
        return evidence


@dataclass(frozen=True)
class _Sum:
    """What Grad-CAM explains in one image."""

    labels: Sequence[int]

    def __call__(self, evidence: Tensor) -> Tensor:
        return evidence[list(self.labels)].sum()


def draw_baseline_beside_ours(runs: Sequence[Trained]) -> tuple[Figure, Numbers]:
    """Figure 3: of each image the Grad-CAM and the mean self-similarity of the baseline, beside ours.

    Grad-CAM explains the manipulated labels of a forged image together, and all labels of a real one.
    """
    labels = runs[0].config.data.labels
    chosen = pick(runs[0].source, forged=4, real=2)
    shown = load_images(runs[0], chosen)
    explained = [[label - 1 for label in some] or list(range(len(labels))) for some in shown.sequences]
    numbers: Numbers = [["run", "picture", "sequence", "map", "row", "column", "value"]]
    columns: list[tuple[str, Array, str]] = []
    for run in runs:
        images = load_images(run, chosen).images
        similarities = mean_similarities(run.network, images)
        cams = grad_cams(run.network, images, explained)
        columns += [
            (f"{run.title}\nGrad-CAM", cams, "jet"),
            (f"{run.title}\nself-similarity", similarities, ""),
        ]
        size = similarities.shape[1:]
        for name, maps in (
            ("grad_cam", [_cells_of(cam, size) for cam in cams]),
            ("similarity", similarities),
        ):
            for b, values in enumerate(maps):
                facts = [csv_name(run.title), csv_name(shown.names[b]), shown.title(b, labels), name]
                numbers += [[*facts, *cell] for cell in _cells(values)]
    columns = [*columns[::2], *columns[1::2]]  # the two methods side by side
    count = len(chosen)
    figure = Figure(figsize=(1.9 * (1 + len(columns)), 2 * count + 0.6), layout="constrained")
    axes = figure.subplots(count, 1 + len(columns), squeeze=False)
    for b in range(count):
        _show(axes[b][0], shown.images[b], shown.title(b, labels))
        for axis, (title, maps, overlay) in zip(axes[b][1:], columns, strict=True):
            if overlay:
                _show(axis, shown.images[b], title if b == 0 else "")
                axis.imshow(maps[b], cmap=overlay, alpha=0.45, vmin=0, vmax=1)
            else:
                image = axis.imshow(maps[b], cmap="viridis", vmin=0, vmax=1)
                axis.set_title(title if b == 0 else "", fontsize=8)
                axis.set_axis_off()
    figure.colorbar(image, ax=axes[:, -1].tolist(), label="mean of S per patch", shrink=0.5)
    return figure, numbers


def draw_components(runs: Sequence[Trained]) -> tuple[Figure, Numbers]:
    """Figure 4: of each forged image the Grad-CAM of its components, in order, a row for each method.

    Above each map stand the component, its true place, and the place that the method gives it.
    """
    labels = runs[0].config.data.labels
    chosen = pick(runs[0].source, forged=3, real=0)
    shown = load_images(runs[0], chosen)
    longest = max(len(sequence) for sequence in shown.sequences)
    numbers: Numbers = [
        ["run", "picture", "sequence", "component", "place", "answered", "row", "column", "grad_cam"]
    ]
    rows = len(chosen) * len(runs)
    figure = Figure(figsize=(2 * (1 + longest), 2.1 * rows + 0.6), layout="constrained")
    axes = figure.subplots(rows, 1 + longest, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for r, run in enumerate(runs):
        images = load_images(run, chosen).images
        answers = _answers(run, images)
        size = _map_size(run.network, images)
        for place in range(longest):
            explained = [sequence[place : place + 1] for sequence in shown.sequences]
            maps = grad_cams(run.network, images, [[label - 1 for label in some] for some in explained])
            for b, some in enumerate(explained):
                for label in some:
                    answer = answers[b].tolist()
                    answered = answer.index(label) + 1 if label in answer else 0
                    axis = axes[b * len(runs) + r][place + 1]
                    name = labels[label - 1]
                    found = f"found at {answered}" if answered else "not found"
                    _show(axis, images[b], f"{place + 1} {name}, {found}")
                    axis.imshow(maps[b], cmap="jet", alpha=0.45, vmin=0, vmax=1)
                    facts = [
                        csv_name(run.title),
                        csv_name(shown.names[b]),
                        shown.title(b, labels),
                        name,
                        place + 1,
                        answered,
                    ]
                    numbers += [[*facts, *cell] for cell in _cells(_cells_of(maps[b], size))]
        for b in range(len(chosen)):
            named = [labels[label - 1] for label in answers[b].tolist() if label]
            axis = axes[b * len(runs) + r][0]
            _show(axis, images[b], f"{run.title}\n{', '.join(named) or 'none'}")
    return figure, numbers


def _answers(run: Trained, images: Tensor) -> Sequences:
    """The sequences that a network answers, (B, L) padded, first to last."""
    with torch.inference_mode():
        scores = to_scores(run.network(images), run.config.loss)
    if scores.sequences is not None:
        return np.asarray(scores.sequences)
    cuts = [0.5] * scores.components.shape[1]
    return predict_sequences(scores.components, cuts, run.config.loss.order, scores.order)


def draw_histograms(runs: Sequence[Trained]) -> tuple[Figure, Numbers]:
    """Figure 5: how often each mean of u (Eq. 5) occurs in real and in forged images, one panel per run."""
    classes = (("real", False), ("forged", True))
    means = [
        {name: _mean_u(run, _some(run.source, forged=forged)) for name, forged in classes} for run in runs
    ]
    least = min(float(values.min(initial=1.0)) for some in means for values in some.values())
    edges = np.linspace(np.floor(20 * least - 1e-9) / 20, 1, BINS + 1)  # the same in every panel
    numbers: Numbers = [["run", "class", "pictures", "from", "to", "share", "mean_u"]]
    figure = Figure(figsize=(4.2 * len(runs), 3.3), layout="constrained")
    axes = figure.subplots(1, len(runs), squeeze=False, sharey=True)[0]
    for axis, run, some in zip(axes, runs, means, strict=True):
        for name, values in some.items():
            shares = np.histogram(values, bins=edges)[0] / max(1, len(values))
            mean = float(values.mean()) if len(values) else float("nan")
            label = f"{name}: {len(values)} images, mean {mean:.3f}"
            axis.stairs(shares, edges, label=label, fill=True, alpha=0.5)
            for low, high, share in zip(edges[:-1], edges[1:], shares, strict=True):
                cell = [f"{low:.4f}", f"{high:.4f}", f"{share:.6f}", f"{mean:.6f}"]
                numbers.append([csv_name(run.title), name, len(values), *cell])
        axis.set_title(run.title, fontsize=9)
        axis.set_xlabel("mean of u in an image")
        axis.legend(fontsize=8)
    axes[0].set_ylabel("share of the images")
    return figure, numbers


def _some(source: Source, *, forged: bool) -> list[int]:
    """Indices of at most HISTOGRAM_IMAGES images of a class, evenly spread."""
    chosen = [index for index in range(len(source)) if source.sample(index).forged == forged]
    return chosen[:: max(1, len(chosen) // HISTOGRAM_IMAGES)][:HISTOGRAM_IMAGES]


def _mean_u(run: Trained, chosen: Sequence[int]) -> NDArray[np.float64]:
    """The mean of u over the pairs of patches of each image."""
    if not isinstance(run.network, Network):
        raise InputError(f"{run.title}: has no patch tokens to compare")
    means: list[float] = []
    for start in range(0, len(chosen), run.config.batch_size):
        part = load_images(run, chosen[start : start + run.config.batch_size])
        with torch.inference_mode():
            # Every pair is in the mean of both of its patches.
            means += mean_similarity(run.network(part.images).tokens).mean(dim=1).clamp_max(1).tolist()
    return np.asarray(means, dtype=np.float64)


def _map_size(network: nn.Module, images: Tensor) -> tuple[int, int]:
    """Height and width of the map that `grad_cams` uses, in cells."""
    height, width = mean_similarities(network, images[:1]).shape[1:]
    return height, width


def _cells_of(values: Array, size: Sequence[int]) -> Array:
    """A map (S, S) as means over cells, (h, w)."""
    return np.asarray(cv2.resize(values, (size[1], size[0]), interpolation=cv2.INTER_AREA))


def _show(axis: Axes, image: Tensor, title: str) -> None:
    axis.imshow(image.permute(1, 2, 0).numpy())
    axis.set_title(title, fontsize=8)
    axis.set_axis_off()


def _cells(values: Array) -> Iterable[tuple[int, int, float]]:
    for (row, column), value in np.ndenumerate(values):
        yield row, column, round(float(value), 6)


# figure -> runs that it can be drawn from, the first choice first, and how
Draw = Callable[[Sequence[Trained]], tuple[Figure, Numbers]]
FIGURES: dict[str, tuple[tuple[Runs, ...], Draw]] = {
    "figure3": (
        (Runs("baselines", ("multicls", "ours")), Runs("table2", ("efficientnet-b4", "swin"))),
        draw_baseline_beside_ours,
    ),
    "figure4": ((Runs("baselines", ("multicls", "decoder", "ours")),), draw_components),
    "figure5": ((Runs("table2", ("swin", "swin-without-cls")),), draw_histograms),
}
