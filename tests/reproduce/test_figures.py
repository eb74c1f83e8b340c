import csv
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image as PILImage

from forgerank.data.formats.seqdeepfake import SeqDeepFake
from forgerank.reproduce import figures
from forgerank.reproduce.figures import (
    Trained,
    draw_grad_cam,
    draw_histograms,
    draw_similarity,
    grad_cams,
    load_images,
    make_figure,
    pick,
)
from forgerank.reproduce.runs import Request
from forgerank.train.checkpoints import load_network
from forgerank.types import InputError

pytest.importorskip("pytorch_grad_cam")
pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")

TOKENS = 4  # per side: 64 px at stride 16


@pytest.fixture(scope="module")
def run(trained: Path, squares: Path) -> Trained:
    network, config = load_network(trained / "weights.safetensors")
    return Trained("squares", network, config, SeqDeepFake(squares, "val"))


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
    maps = grad_cams(run.network, images.images)
    assert maps.shape == (3, 5, 64, 64)
    tokens, size = [], (64, 64)
    hook = run.network.patches.register_forward_hook(lambda _, __, output: tokens.append(output))
    logits = run.network(images.images).logits
    hook.remove()
    for component in range(5):
        (slope,) = torch.autograd.grad(logits[:, component].sum(), tokens[0], retain_graph=True)  # (B, N, d)
        weighted = (slope.mean(dim=1, keepdim=True) * tokens[0]).sum(dim=2).relu()  # (B, N)
        for b, patches in enumerate(weighted.detach().reshape(-1, TOKENS, TOKENS).numpy()):
            expected = cv2.resize(scaled(patches), size)
            assert maps[b, component] == pytest.approx(scaled(expected), abs=1e-3)


def scaled(values: NDArray[np.float32]) -> NDArray[np.float32]:
    values = values - values.min()
    return values / (1e-7 + values.max())


def test_figure_3_has_a_map_per_component_and_its_numbers(run: Trained, tmp_path: Path) -> None:
    figure, numbers = draw_grad_cam([run])
    assert len(figure.axes) == 5 * (1 + 5)
    rows = [dict(zip(numbers[0], row, strict=True)) for row in numbers[1:]]
    assert len(rows) == 5 * 5 * TOKENS**2
    assert Counter(row["component"] for row in rows)["hair"] == 5 * TOKENS**2
    assert all(0 <= row["grad_cam"] <= 1 for row in rows)
    assert rows[-1]["sequence"] == ""


def test_figure_4_shows_the_mean_similarity_of_each_patch(run: Trained) -> None:
    _, numbers = draw_similarity([run])
    rows = [dict(zip(numbers[0], row, strict=True)) for row in numbers[1:]]
    assert len(rows) == 6 * TOKENS**2
    first = load_images(run, pick(run.source, forged=3, real=3)[:1])
    with torch.inference_mode():
        tokens = run.network(first.images).tokens[0]
    expected = [
        float(np.mean([max(0.0, float(tokens[i] @ tokens[j])) for j in range(16) if j != i]))
        for i in range(16)
    ]
    assert [row["mean_similarity"] for row in rows[:16]] == pytest.approx(expected, abs=1e-4)


def test_figure_5_shares_sum_to_one(run: Trained) -> None:
    figure, numbers = draw_histograms([run, run])
    rows = [dict(zip(numbers[0], row, strict=True)) for row in numbers[1:]]
    for name in ("real", "forged"):
        shares = [float(row["share"]) for row in rows if row["class"] == name]
        assert sum(shares) == pytest.approx(2, abs=1e-3)  # one for each run
        assert len(shares) == 2 * figures.BINS
    assert len(figure.axes) == 2
    # What L_CLS asks for (Eq. 10-12): real images' patches are more alike.
    centre = {
        name: sum(float(row["from"]) * float(row["share"]) for row in rows if row["class"] == name)
        for name in ("real", "forged")
    }
    assert centre["real"] > centre["forged"]


def test_a_figure_is_written_with_its_numbers(
    squares: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures, "train_missing", lambda config, progress: trained / "best.ckpt")
    monkeypatch.setattr(figures, "open_split", _squares_split)
    configs = Path(__file__).resolve().parents[2] / "configs"
    request = Request(
        configs / "table3.yaml", (squares,), tmp_path / "table3", seeds=1, images=8, progress=False
    )
    path = make_figure("figure4", request, tmp_path / "figure4")
    with PILImage.open(path) as image:
        assert image.format == "PNG"
        assert len(set(image.convert("L").resize((64, 64)).get_flattened_data())) > 10
    with path.with_suffix(".csv").open(newline="") as stream:
        assert next(csv.reader(stream))[-1] == "mean_similarity"
    with pytest.raises(InputError, match="figure9: the figures are figure3, figure4, figure5"):
        make_figure("figure9", request, tmp_path)


def _squares_split(config, roots, split, *, limit, workers):  # type: ignore[no-untyped-def]
    return config, SeqDeepFake(config.data.val_roots[0], split)
