"""Backbones: starting weights, folding, errors."""

import copy
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from forgerank.model.backbone import PACKAGED, PACKAGED_BACKBONE, Backbone, PooledBackbone, fold_batch_norm
from forgerank.types import InputError


def test_packaged_weights_are_timms_in_order() -> None:
    backbone = Backbone(PACKAGED_BACKBONE, pretrained=PACKAGED, input_size=64).eval()
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    maps = backbone(images)
    assert [tuple(level.shape[1:]) for level in maps] == [(24, 16, 16), (40, 8, 8), (112, 4, 4), (320, 2, 2)]
    # trained statistics: a wrong order of the tensors would leave normalisation far from unit scale
    variances = [m.running_var.mean() for m in backbone.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert all(variance != 1 for variance in variances)
    assert all(level.isfinite().all() and level.abs().mean() < 10 for level in maps)


@pytest.mark.parametrize("name", ["resnet18", PACKAGED_BACKBONE, "mobilenetv4_conv_small"])
def test_folding_keeps_the_features(name: str) -> None:
    torch.manual_seed(0)
    images = torch.rand(4, 3, 64, 64)
    plain = timm.create_model(name, features_only=True)
    for _ in range(3):  # running statistics that are not those of a fresh network
        plain(images)
    folded = copy.deepcopy(plain.eval())
    fold_batch_norm(folded, images[:1])
    with torch.no_grad():
        for before, after in zip(plain(images), folded(images), strict=True):
            torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-4)
    assert all(parameter.requires_grad for parameter in folded.parameters())
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in folded.modules())


def test_folded_packaged_weights_give_the_same_features_in_training_mode() -> None:
    plain = Backbone(PACKAGED_BACKBONE, pretrained=PACKAGED, input_size=64).eval()
    folded = Backbone(PACKAGED_BACKBONE, pretrained=PACKAGED, input_size=64, fold_norm=True)
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for before, after in zip(plain(images), folded.train()(images), strict=True):
            torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-4)
    assert all(parameter.requires_grad for parameter in folded.parameters())


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_weights_from_a_file(tmp_path: Path, suffix: str) -> None:
    torch.manual_seed(1)
    state = timm.create_model("resnet18").state_dict()
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save(state, path)
    else:
        save_file(state, path)
    loaded = Backbone("resnet18", pretrained=str(path), input_size=64).net.state_dict()
    assert loaded
    assert all(torch.equal(state[name], values) for name, values in loaded.items())


@pytest.mark.parametrize("fold_norm", [False, True])
def test_pooled_features_are_timms(fold_norm: bool) -> None:
    """Up to and with the head's convolution, from the packaged weights too."""
    pooled = PooledBackbone(PACKAGED_BACKBONE, pretrained=PACKAGED, input_size=64, fold_norm=fold_norm).eval()
    theirs = timm.create_model(PACKAGED_BACKBONE, num_classes=0).eval()
    theirs.load_state_dict(PooledBackbone(PACKAGED_BACKBONE, pretrained=PACKAGED).net.state_dict())
    images = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        features = pooled(images)
        expected = theirs((images - pooled.mean) / pooled.std)
    assert features.shape == (2, pooled.channels) == (2, 1280)
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv3_small_050", "swin_tiny_patch4_window7_224"])
def test_pooled_channels_are_counted(name: str) -> None:
    pooled = PooledBackbone(name, input_size=96).eval()
    with torch.no_grad():
        assert pooled(torch.rand(1, 3, 96, 96)).shape == (1, pooled.channels)


def test_pooled_weights_from_a_file_need_no_classifier(tmp_path: Path) -> None:
    state = timm.create_model("resnet18").state_dict()
    trunk = {name: value for name, value in state.items() if not name.startswith("fc.")}
    for number, saved in enumerate((state, trunk)):
        path = tmp_path / f"{number}.safetensors"
        save_file(saved, path)
        loaded = PooledBackbone("resnet18", pretrained=str(path)).net.state_dict()
        assert set(loaded) == set(trunk)
        assert all(torch.equal(state[name], values) for name, values in loaded.items())


def test_offline_hub_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    create_model = timm.create_model

    def offline(name: str, pretrained: bool = False, **options: object) -> torch.nn.Module:
        if pretrained:
            raise ConnectionError("no route\nto host")
        model = create_model(name, **options)
        assert isinstance(model, torch.nn.Module)
        return model

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(InputError, match="resnet18: no weights from timm's hub") as caught:
        Backbone("resnet18", pretrained=True)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        ("no_such_net", {}, "timm knows no such backbone"),
        ("resnet18", {"pretrained": PACKAGED}, "fit tf_efficientnet_lite0 only"),
        ("resnet18", {"pretrained": "absent.pth"}, "no such file"),
        ("resnet18", {"pretrained": "weights.bin"}, "must be a .safetensors or a .pth"),
        ("resnet18", {"strides": (4, 64)}, "no features at stride"),
    ],
)
def test_bad_choices_are_named(name: str, options: dict[str, object], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        Backbone(name, **options)  # type: ignore[arg-type]


def test_frozen_layers_are_those_of_their_maps_and_the_others_learn_as_before() -> None:
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    gradients = []
    for stride in (None, 8):
        torch.manual_seed(2)
        backbone = Backbone(PACKAGED_BACKBONE, input_size=64, fold_norm=True)
        if stride:
            backbone.freeze(stride)
        assert backbone.training
        maps = backbone(images)
        assert [one.requires_grad for one in maps] == [stride is None, stride is None, True, True]
        torch.stack([one.square().mean() for one in maps]).sum().backward()
        gradients.append({name: value.grad for name, value in backbone.named_parameters()})
    whole, frozen = gradients
    kept = [name for name, gradient in frozen.items() if gradient is None]
    assert {name.split(".")[1] for name in kept} == {"conv_stem", "blocks"}
    assert {name.split(".")[2] for name in kept if "blocks" in name} == {"0", "1", "2"}
    for name, gradient in frozen.items():
        if gradient is not None:
            torch.testing.assert_close(gradient, whole[name])


def test_layers_without_maps_cannot_be_frozen() -> None:
    backbone = Backbone(PACKAGED_BACKBONE, strides=(8, 16), input_size=64, fold_norm=True)
    with pytest.raises(InputError, match=r"no maps at stride 4, only at \[8, 16\]"):
        backbone.freeze(4)
