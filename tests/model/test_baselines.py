"""Baselines: shapes on any size, what their answers may depend on, and that each learns right sequences."""

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from forgerank.labels import presence
from forgerank.losses.total import LOSSES, LossConfig, Targets
from forgerank.model.baselines import MODELS, TEACHER_FORCED, SequenceDecoder, SpatialWeights, build_network
from forgerank.model.config import ModelConfig
from forgerank.model.network import LinearOutput, Network, StepOutput
from squares import COLOURS, PLACES

STEP_KINDS = ["multicls", "decoder", "queries"]
SMALL = {"backbone": "test_resnet.r160_in1k", "width": 32, "feedforward": 32, "layers": 1, "heads": 2}
SEQUENCES = [[4, 2, 0, 0, 0], [0, 0, 0, 0, 0], [2, 4, 5, 1, 3], [3, 0, 0, 0, 0]]


def make(kind: str, **options: object) -> nn.Module:
    torch.manual_seed(0)
    settings = {"kind": kind, "input_size": 64, **SMALL, **options}
    return build_network(ModelConfig.model_validate(settings))


def squares() -> Tensor:
    """One image per sequence; later squares are brighter, so that the order can be seen."""
    images = torch.full((len(SEQUENCES), 3, 64, 64), 0.45)
    for image, sequence in zip(images, SEQUENCES, strict=True):
        for step, label in enumerate(filter(None, sequence)):
            x, y = PLACES[label - 1]
            colour = torch.tensor(COLOURS[label - 1]) / 255 * (0.3 + 0.15 * step)
            image[:, y : y + 10, x : x + 10] = colour[:, None, None]
    return images


def targets() -> Targets:
    sequences = torch.tensor(SEQUENCES)
    return Targets(presence(sequences, 5).float(), sequences)


@pytest.mark.parametrize("kind", STEP_KINDS)
@pytest.mark.parametrize("size", [(64, 64), (96, 64)])
@pytest.mark.parametrize("components", [1, 5])
def test_steps_of_any_image(kind: str, size: tuple[int, int], components: int) -> None:
    network = make(kind, components=components).eval()
    images = torch.rand(3, 3, *size)
    output = network(images)
    assert isinstance(output, StepOutput)
    assert output.step_logits.shape == (3, components, components + 1)
    assert output.sequences.shape == (3, components)
    assert output.sequences.dtype == torch.long
    assert 0 <= int(output.sequences.min()) <= int(output.sequences.max()) <= components
    alone = network(images[1:2])
    torch.testing.assert_close(output.step_logits[1:2], alone.step_logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("backbone", ["test_resnet.r160_in1k", "legacy_xception", "efficientnet_b4"])
def test_the_binary_baselines(backbone: str) -> None:
    network = make("linear", backbone=backbone, components=1).eval()
    output = network(torch.rand(2, 3, 64, 96))
    assert isinstance(output, LinearOutput)
    assert output.logits.shape == (2, 1)
    expected = {"legacy_xception": 2048, "efficientnet_b4": 1792}.get(backbone)
    assert expected in (None, network.head.in_features)


@pytest.mark.parametrize("kind", MODELS)
def test_normalisation_and_settings_are_inside(kind: str) -> None:
    network = make(kind).eval()
    assert network.config.kind == kind
    seen: list[Tensor] = []
    network.backbone.net.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    network(network.backbone.mean.expand(2, 3, 64, 64))
    assert seen[0].abs().max() < 1e-6


def test_a_stride_must_divide_the_image() -> None:
    for kind in ("decoder", "queries"):
        with pytest.raises(ValueError, match="stride 16 does not divide"):
            make(kind)(torch.rand(1, 3, 72, 72))


@pytest.mark.parametrize("spatial", [True, False])
def test_decoding_with_a_cached_encoder_changes_nothing(spatial: bool) -> None:
    network = make("decoder", spatial_attention=spatial).eval()
    runs: list[int] = []
    network.encoder.register_forward_hook(lambda *_: runs.append(1))
    images = torch.rand(2, 3, 64, 64)
    once, again = network(images), network(images, cached=False)
    assert len(runs) == 1 + 5
    assert torch.equal(once.step_logits, again.step_logits)
    assert torch.equal(once.sequences, again.sequences)


def test_a_step_reads_earlier_labels_only() -> None:
    network = make("decoder").eval()
    images, first = torch.rand(1, 3, 64, 64), torch.tensor([[1, 2, 3, 4, 5]])
    second = first.clone()
    second[0, 2] = 5
    ours, theirs = (network(images, sequences).step_logits[0] for sequences in (first, second))
    torch.testing.assert_close(ours[:3], theirs[:3])
    assert not torch.allclose(ours[3:], theirs[3:])


def test_greedy_decoding_reads_its_own_answers_and_stops_at_none() -> None:
    network = make("decoder").eval()
    assert isinstance(network, SequenceDecoder)
    images = torch.rand(2, 3, 64, 64)
    for _ in range(6):
        network.head.bias.data = torch.randn(6) * 2
        output = network(images)
        forced = network(images, output.sequences)
        ended = (output.sequences == 0).cumsum(dim=1) > 0
        assert (output.sequences[ended] == 0).all()
        torch.testing.assert_close(output.step_logits, forced.step_logits, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(output.sequences[~ended], forced.step_logits.argmax(dim=2)[~ended])


def test_spatial_weights_are_the_papers_window() -> None:
    weights = SpatialWeights(8)
    nn.init.zeros_(weights.centre[2].weight)
    nn.init.zeros_(weights.radius.weight)
    weights.centre[2].bias.data = torch.tensor([0.25, 0.75]).logit()
    weights.radius.bias.data = torch.tensor([0.5, 2.0])
    found = weights(torch.randn(1, 1, 8), (2, 3)).reshape(2, 3)
    for i, y in enumerate((0.25, 0.75)):
        for j, x in enumerate((1 / 6, 1 / 2, 5 / 6)):
            expected = -((y - 0.25) ** 2) / 0.25 - (x - 0.75) ** 2 / 4
            assert found[i, j].item() == pytest.approx(expected, abs=1e-6)
    weights.radius.bias.data.zero_()  # a window without width stays finite
    assert weights(torch.randn(1, 1, 8), (16, 16)).isfinite().all()


@pytest.mark.parametrize("kind", ["decoder", "queries", "multicls", "linear"])
def test_every_weight_is_trained(kind: str) -> None:
    """Also under autocast, and so that no process of several waits for a gradient that never comes."""
    network = make(kind)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inputs = (torch.tensor(SEQUENCES),) if kind in TEACHER_FORCED else ()
        losses = LOSSES[kind](network(squares(), *inputs), targets(), LossConfig())
    assert losses["total"].dtype == torch.float32
    losses["total"].backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("kind", ["decoder", "queries", "multicls", "linear"])
def test_each_kind_learns_a_few_images(kind: str) -> None:
    network, images, wanted = make(kind, dropout=0.0), squares(), targets()
    inputs = (torch.tensor(SEQUENCES),) if kind in TEACHER_FORCED else ()
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    for _ in range(40):
        optimizer.zero_grad()
        losses = LOSSES[kind](network(images, *inputs), wanted, LossConfig())
        losses["total"].backward()
        optimizer.step()
    for module in network.modules():  # batch statistics, as in training
        module.training = isinstance(module, nn.BatchNorm2d)
    output = network(images)
    if kind == "linear":
        assert torch.equal((output.logits > 0).float(), wanted.presence)
    else:
        assert output.sequences.tolist() == SEQUENCES


@pytest.mark.parametrize("option", [{"mask_head": True}, {"order_head": True}, {"prediction": "u"}])
@pytest.mark.parametrize("kind", ["multicls", "linear"])
def test_heads_that_a_baseline_lacks_are_refused(kind: str, option: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="needs kind ranking"):
        ModelConfig.model_validate({"kind": kind, **option})


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValidationError, match="'ranking', 'multicls', 'decoder', 'queries' or 'linear'"):
        ModelConfig.model_validate({"kind": "drn"})


def test_the_papers_network_is_the_default() -> None:
    assert isinstance(build_network(ModelConfig.model_validate(SMALL)), Network)
