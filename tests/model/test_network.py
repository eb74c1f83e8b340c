"""Shapes, exactness of the component maps, and that the network learns, on tiny inputs."""

import pytest
import torch
from pydantic import ValidationError

from forgerank.losses.total import LossConfig, Targets, total_loss
from forgerank.model.config import ModelConfig
from forgerank.model.network import Network, Output

SMALL = {"width": 32, "pyramid_width": 16, "feedforward": 32, "layers": 1}
PAPER = {
    "resnet34": ("resnet34", 64),
    "resnet50": ("resnet50", 64),
    "swin": ("swin_tiny_patch4_window7_224", 96),
}


def make_network(backbone: str = "resnet18", input_size: int = 64, **options: object) -> Network:
    torch.manual_seed(0)
    return Network(
        ModelConfig.model_validate({"backbone": backbone, "input_size": input_size, **SMALL, **options})
    )


@pytest.mark.parametrize("name", PAPER)
def test_output_of_the_papers_backbones(name: str) -> None:
    backbone, size = PAPER[name]
    network = make_network(backbone, size, mask_head=True)
    images = torch.rand(2, 3, size, size)
    side = size // 16
    for training in (True, False):
        output = network.train(training)(images)
        assert isinstance(output, Output)
        assert output.tokens.shape == (2, side * side, 32)
        assert output.logits_u.shape == output.logits_v.shape == output.logits.shape == (2, 5)
        assert output.component_maps.shape == (2, 5, side, side)
        assert output.mask_logits is not None
        assert output.mask_logits.shape == (2, 5, side, side)
        torch.testing.assert_close(output.tokens.norm(dim=2), torch.ones(2, side * side))
        torch.testing.assert_close(output.component_maps.mean(dim=(2, 3)), output.logits_u)
        torch.testing.assert_close((output.logits_u + output.logits_v) / 2, output.logits)
        assert all(part is None or part.isfinite().all() for part in output)


def test_input_size_is_free() -> None:
    network = make_network().eval()
    output = network(torch.rand(1, 3, 80, 112))
    assert output.component_maps.shape == (1, 5, 5, 7)
    assert output.tokens.shape == (1, 35, 32)
    with pytest.raises(ValueError, match="stride 16 does not divide"):
        network(torch.rand(1, 3, 72, 72))


@pytest.mark.parametrize("stride", [8, 32])
def test_stride_sets_the_number_of_tokens(stride: int) -> None:
    output = make_network(stride=stride).eval()(torch.rand(1, 3, 64, 64))
    assert output.tokens.shape[1] == (64 // stride) ** 2


def test_fine_and_coarse_levels_reach_the_tokens() -> None:
    network = make_network().eval()
    maps = network.backbone(torch.rand(1, 3, 64, 64))
    tokens = network.patches(maps, (4, 4))
    for level in range(4):
        changed = [m + torch.randn_like(m) if i == level else m for i, m in enumerate(maps)]
        assert not torch.allclose(network.patches(changed, (4, 4)), tokens)


@pytest.mark.parametrize("stride", [8, 16, 32])
def test_pooling_first_has_the_same_parameters_and_shapes(stride: int) -> None:
    after, first = make_network(stride=stride), make_network(stride=stride, pool_first=True)
    theirs = first.state_dict()
    assert list(theirs) == list(after.state_dict())
    assert all(torch.equal(value, theirs[name]) for name, value in after.state_dict().items())
    images = torch.rand(2, 3, 64, 96)
    expected, found = after.eval()(images), first.eval()(images)
    assert found.tokens.shape == expected.tokens.shape == (2, 4 * 6 * 256 // stride**2, 32)
    assert found.component_maps.shape == expected.component_maps.shape
    assert not torch.allclose(found.tokens, expected.tokens)


def test_pooling_first_changes_the_smoothing_alone() -> None:
    """With 3x3 convolutions that do nothing, the pyramid commutes with the mean over a token's cell."""
    after, first = make_network(), make_network(pool_first=True)
    for network in (after, first):
        for block in network.patches.pyramid.layer_blocks:
            torch.nn.init.dirac_(block[0].weight)
    images = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(first.eval()(images).tokens, after.eval()(images).tokens)


def test_images_of_a_batch_do_not_mix() -> None:
    network = make_network().eval()
    images = torch.rand(3, 3, 64, 64)
    together, alone = network(images), network(images[1:2])
    for ours, theirs in zip(together[:6], alone[:6], strict=True):
        torch.testing.assert_close(ours[1:2], theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("choice", ["u", "v"])
def test_prediction_from_one_head(choice: str) -> None:
    output = make_network(prediction=choice).eval()(torch.rand(1, 3, 64, 64))
    assert torch.equal(output.logits, {"u": output.logits_u, "v": output.logits_v}[choice])
    assert output.mask_logits is None
    assert output.order_logits is output.logits


def test_an_order_head_leaves_presence_alone() -> None:
    output = make_network(order_head=True).eval()(torch.rand(2, 3, 64, 64))
    assert output.order_logits.shape == output.logits.shape
    assert not torch.equal(output.order_logits, output.logits)


@pytest.mark.parametrize(
    "wrong",
    [
        {"width": 36, "heads": 8},
        {"input_size": 72},
        {"input_size": 48, "stride": 48},
        {"levels": (12, 16)},
        {"depth": 2},
    ],
)
def test_impossible_shapes_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ModelConfig.model_validate(wrong)


def test_losses_are_float32_under_autocast() -> None:
    network = make_network()
    targets = Targets(
        torch.tensor([[0.0, 1, 0, 1, 0], [0, 0, 0, 0, 0]]), torch.tensor([[4, 2, 0, 0, 0], [0] * 5])
    )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = network(torch.rand(2, 3, 64, 64))
        losses = total_loss(output, targets, LossConfig(direct="plackett_luce"))
    assert output.logits_u.dtype == torch.bfloat16
    assert all(loss.dtype == torch.float32 for loss in losses.values())
    losses["total"].backward()
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    assert gradients
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_network_overfits_two_images() -> None:
    network = make_network(dropout=0.0)
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    targets = Targets(
        torch.tensor([[0.0, 1, 0, 1, 0], [0, 0, 0, 0, 0]]), torch.tensor([[4, 2, 0, 0, 0], [0] * 5])
    )
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    config = LossConfig(direct="pairwise", lambda_cls=0.5)
    first = total_loss(network(images), targets, config)["total"].item()
    for _ in range(30):
        optimizer.zero_grad()
        loss = total_loss(network(images), targets, config)["total"]
        loss.backward()
        optimizer.step()
    output = network(images)
    assert loss.item() < first / 3
    assert torch.equal((output.logits > 0).float(), targets.presence)
    assert output.logits[0, 3] > output.logits[0, 1]
