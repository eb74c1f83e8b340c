import csv
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image as PILImage

from forgerank.data.formats.seqdeepfake import SeqDeepFake
from forgerank.model.baselines import build_network
from forgerank.reproduce import figures
from forgerank.reproduce.figures import (
    Trained,
    draw_baseline_beside_ours,
    draw_components,
    draw_histograms,
    grad_cams,
    load_images,
    make_figure,
    mean_similarities,
    pick,
)
from forgerank.reproduce.runs import Request
from forgerank.train.checkpoints import load_network
from forgerank.types import InputError

pytest.importorskip("pytorch_grad_cam")
pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
TOKENS = 4  # per side: 64 px at stride 16
ALL = list(range(5))


@pytest.fixture(scope="module")
def run(trained: Path, squares: Path) -> Trained:
    network, config = load_network(trained / "weights.safetensors")
    return Trained("ours", network, config, SeqDeepFake(squares, "val"), "squares")


@pytest.fixture(scope="module")
def baselines(run: Trained) -> dict[str, Trained]:
    """Networks of the other kinds, not trained."""
    plain = {"mask_head": False}
    torch.manual_seed(0)
    made = {}
    for kind in ("multicls", "decoder", "linear"):
        model = run.config.model.model_copy(update={"kind": kind, **plain})
        loss = run.config.loss.model_copy(update={"lambda_mask": 0.0})
        config = run.config.model_copy(update={"model": model, "loss": loss})
        made[kind] = Trained(kind, build_network(model).eval(), config, run.source, run.place)
    return made


def rows_of(numbers: list[list[Any]]) -> list[dict[str, Any]]:
    return [dict(zip(numbers[0], row, strict=True)) for row in numbers[1:]]


def test_images_are_the_most_edited_ones_of_different_people(run: Trained) -> None:
    chosen = pick(run.source, forged=3, real=2)
    samples = [run.source.sample(index) for index in chosen]
    counts = [len(sample.sequence) for sample in samples]
    most = sorted((len(run.source.sample(i).sequence) for i in range(len(run.source))), reverse=True)
    assert counts == [*most[:3], 0, 0]
    assert len({sample.group for sample in samples[:3]}) == 3
    assert chosen == pick(run.source, forged=3, real=2)


def test_grad_cam_is_the_published_formula(run: Trained) -> None:
    """ReLU of the channels weighted by their mean gradient, scaled to 0..1, at the patch tokens."""
    images = load_images(run, pick(run.source, forged=3, real=0))
    tokens, size = [], (64, 64)
    hook = run.network.patches.register_forward_hook(lambda _, __, output: tokens.append(output))
    logits = run.network(images.images).logits
    hook.remove()
    for labels in ([0], [3], [1, 4]):
        maps = grad_cams(run.network, images.images, [labels] * 3)
        assert maps.shape == (3, 64, 64)
        (slope,) = torch.autograd.grad(logits[:, labels].sum(), tokens[0], retain_graph=True)  # (B, N, d)
        weighted = (slope.mean(dim=1, keepdim=True) * tokens[0]).sum(dim=2).relu()  # (B, N)
        for b, patches in enumerate(weighted.detach().reshape(-1, TOKENS, TOKENS).numpy()):
            expected = cv2.resize(scaled(patches), size)
            assert maps[b] == pytest.approx(scaled(expected), abs=1e-3)


def scaled(values: NDArray[np.float32]) -> NDArray[np.float32]:
    values = values - values.min()
    return values / (1e-7 + values.max())


@pytest.mark.parametrize("kind", ["multicls", "decoder", "linear"])
def test_every_kind_of_network_has_both_maps(kind: str, baselines: dict[str, Trained], run: Trained) -> None:
    images = load_images(run, pick(run.source, forged=2, real=1)).images
    network = baselines[kind].network
    maps = grad_cams(network, images, [ALL] * 3)
    assert maps.shape == (3, 64, 64)
    assert 0 <= maps.min() <= maps.max() <= 1
    similarities = mean_similarities(network, images)
    assert similarities.shape[0] == 3
    assert min(similarities.shape[1:]) >= 2
    assert 0 <= similarities.min() <= similarities.max() <= 1 + 1e-5


def test_a_pooled_network_is_compared_at_its_last_map(baselines: dict[str, Trained], run: Trained) -> None:
    images = load_images(run, pick(run.source, forged=1, real=0)).images
    network = baselines["multicls"].network
    with torch.inference_mode():
        features = network.backbone.net.forward_features(network.backbone.normalised(images))[0]
    tokens = torch.nn.functional.normalize(features.flatten(1).T, dim=1)  # (N, d)
    similarity = (tokens @ tokens.T).clamp_min(0).fill_diagonal_(0)
    expected = similarity.sum(dim=1) / (len(tokens) - 1)
    assert mean_similarities(network, images)[0].ravel() == pytest.approx(expected.numpy(), abs=1e-4)


def test_figure_3_shows_the_baseline_beside_ours(run: Trained, baselines: dict[str, Trained]) -> None:
    figure, numbers = draw_baseline_beside_ours([baselines["multicls"], run])
    panels = [axis for axis in figure.axes if axis.images]
    assert len(panels) >= 6 * (1 + 4)
    top = [axis.get_title() for axis in figure.axes[1:5]]
    assert top == [
        f"{name}\n{what}" for what in ("Grad-CAM", "self-similarity") for name in ("multicls", "ours")
    ]
    counted = Counter((row["run"], row["map"]) for row in rows_of(numbers))
    assert counted["ours", "grad_cam"] == counted["ours", "similarity"] == 6 * TOKENS**2
    assert counted["multicls", "grad_cam"] == counted["multicls", "similarity"] > 0
    assert all(-1e-5 <= row["value"] <= 1 + 1e-5 for row in rows_of(numbers))
    assert {row["sequence"] for row in rows_of(numbers)} >= {"real"}


def test_the_mean_similarity_is_that_of_the_tokens(run: Trained) -> None:
    first = load_images(run, pick(run.source, forged=3, real=3)[:1])
    with torch.inference_mode():
        tokens = run.network(first.images).tokens[0]
    expected = [
        float(np.mean([max(0.0, float(tokens[i] @ tokens[j])) for j in range(16) if j != i]))
        for i in range(16)
    ]
    assert mean_similarities(run.network, first.images).ravel() == pytest.approx(expected, abs=1e-4)


def test_figure_4_shows_each_component_in_order_by_each_method(
    run: Trained, baselines: dict[str, Trained]
) -> None:
    figure, numbers = draw_components([baselines["multicls"], baselines["decoder"], run])
    chosen = [run.source.sample(index) for index in pick(run.source, forged=3, real=0)]
    edits = sum(len(sample.sequence) for sample in chosen)
    rows = rows_of(numbers)
    assert {row["run"] for row in rows} == {"multicls", "decoder", "ours"}
    assert sum(row["run"] == "ours" for row in rows) == edits * TOKENS**2
    labels = run.config.data.labels
    first = [row for row in rows if (row["run"], row["picture"]) == ("ours", chosen[0].image.name)]
    assert [row["component"] for row in first[:: TOKENS**2]] == [
        labels[label - 1] for label in chosen[0].sequence
    ]
    titles = [axis.get_title() for axis in figure.axes]
    # The network has learnt the squares: it finds most components.
    assert sum(", not found" in title for title in titles) < edits * 3
    found = [row["answered"] for row in rows if row["run"] == "ours"]
    assert np.mean([answer > 0 for answer in found]) > 0.7


def test_figure_5_is_of_images_and_its_shares_sum_to_one(run: Trained) -> None:
    figure, numbers = draw_histograms([run, run])
    rows = rows_of(numbers)
    means = {}
    for name, forged in (("real", False), ("forged", True)):
        mine = [row for row in rows if row["class"] == name]
        assert sum(float(row["share"]) for row in mine) == pytest.approx(2, abs=1e-3)  # one for each run
        assert len(mine) == 2 * figures.BINS
        chosen = [i for i in range(len(run.source)) if run.source.sample(i).forged == forged]
        with torch.inference_mode():
            tokens = run.network(load_images(run, chosen).images).tokens
        above = np.triu_indices(TOKENS**2, 1)
        pairs = (tokens @ tokens.mT).clamp_min(0)[:, above[0], above[1]]
        means[name] = float(pairs.mean())
        assert {row["mean_u"] for row in mine} == {f"{means[name]:.6f}"}
    assert len(figure.axes) == 2
    # What L_CLS asks for (Eq. 10-12): the patches of a real image are more alike.
    assert means["real"] > means["forged"]
    with pytest.raises(InputError, match="linear: has no patch tokens"):
        draw_histograms([Trained("linear", torch.nn.Identity(), run.config, run.source)])


def test_a_figure_is_written_with_its_numbers_and_says_of_what(
    squares: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def train_nothing(config, progress):  # type: ignore[no-untyped-def]
        seen.append(config.output)
        return trained / "best.ckpt"

    monkeypatch.setattr(figures, "train_missing", train_nothing)
    monkeypatch.setattr(figures, "open_split", _squares_split)
    places = []
    draw = figures.FIGURES["figure3"][1]
    monkeypatch.setitem(
        figures.FIGURES,
        "figure3",
        (figures.FIGURES["figure3"][0], lambda runs: (places.append(runs[0].place), draw(runs))[1]),
    )
    request = Request(CONFIGS / "figure3.yaml", (squares,), tmp_path, seeds=1, images=8, progress=False)
    path = make_figure("figure3", request)
    assert path == tmp_path / "figure3" / "figure3.png"
    # Where `reproduce baselines` finds them.
    assert seen == [tmp_path / "baselines" / "runs" / row / "seed-0" for row in ("multicls", "ours")]
    assert places == [f"the split val of {squares.name}, 48 images"]
    with PILImage.open(path) as image:
        assert image.format == "PNG"
        assert len(set(image.convert("L").resize((64, 64)).get_flattened_data())) > 10
    with path.with_suffix(".csv").open(newline="") as stream:
        assert next(csv.reader(stream))[-1] == "value"
    with pytest.raises(InputError, match="figure9: the figures are figure3, figure4, figure5"):
        make_figure("figure9", request)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty: holds no data for figure4"):
        make_figure("figure4", Request(CONFIGS / "figure4.yaml", (tmp_path / "empty",), tmp_path))


def _squares_split(config, roots, split, *, limit, workers):  # type: ignore[no-untyped-def]
    return config, SeqDeepFake(config.data.val_roots[0], split)
