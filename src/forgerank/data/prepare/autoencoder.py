"""Autoencoders of faces, trained on a pack, and reconstructions by them: what left a decoder."""

import hashlib
import itertools
import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from torch import Tensor, nn

from forgerank.data.formats.pack import PARTS, ZOOM, Pack
from forgerank.data.tar_files import write_tar
from forgerank.faces.align import estimate_alignment
from forgerank.files import write_together
from forgerank.processes import sole_writer
from forgerank.types import Image, InputError
from forgerank.weights.description import read_description, sealed_json
from forgerank.weights.hub import (
    load_state,
    read_checkpoint,
    read_tensors,
    safetensors_bytes,
    sealed_checkpoint,
)

WEIGHTS, DESCRIPTION, CHECKPOINT = "autoencoder.safetensors", "autoencoder.json", "last.ckpt"
_DECAY = 0.4  # the last share of a training over which the learning rate falls
_WARM_UP = 50  # steps
_CHUNK = 32  # crops that `reconstruct` takes at once

Decoder = Literal["transposed", "nearest", "shuffle"]


class AutoencoderConfig(BaseModel):
    """One autoencoder: its shape and how it learns."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    decoder: Decoder = "nearest"  # how it grows maps: transposed, nearest + convolution, pixel shuffle
    size: int = Field(128, ge=16)  # side of the crops, pixels, a multiple of 16
    width: int = Field(16, ge=4)  # channels of the encoder's first maps; the deeper ones have more
    latent: int = Field(64, ge=1)  # channels of the narrowest maps, at a sixteenth of the size
    batch: int = Field(16, ge=1)
    learning_rate: float = Field(2e-3, gt=0)
    gradient_weight: float = Field(1.0, ge=0)  # of the loss on differences between neighbouring pixels
    seed: int = Field(0, ge=0)  # of the weights, the order and the mirroring
    precision: Literal["32-true", "bf16-mixed"] = "32-true"  # bf16 where the processor has AVX512-BF16 or AMX

    @field_validator("size")
    @classmethod
    def _divisible(cls, size: int) -> int:
        if size % 16:
            raise ValueError("the size must be a multiple of 16")
        return size


class TrainedAutoencoder(NamedTuple):
    """Result of a training."""

    path: Path  # the weights, .safetensors, with a .json beside them
    steps: int
    minutes: float  # over all runs
    loss: float  # running mean at the end


class Autoencoder(nn.Module):
    """(B, 3, S, S) in -1..1 -> the same shape, unbounded."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        first = config.width
        widths = (first, 2 * first, 4 * first, 8 * first)
        encoder: list[nn.Module] = [nn.Conv2d(3, first, 5, stride=2, padding=2), _activation()]
        for before, after in itertools.pairwise(widths):
            encoder += [nn.Conv2d(before, after, 3, stride=2, padding=1), _activation()]
        deep = 12 * first
        encoder += [
            nn.Conv2d(widths[-1], deep, 3, padding=1),
            _activation(),
            nn.Conv2d(deep, config.latent, 1),
        ]
        decoder: list[nn.Module] = [nn.Conv2d(config.latent, deep, 3, padding=1), _activation()]
        before = deep
        for after in (4 * first, 2 * first, first, max(4, first // 2)):
            decoder += [_GROWTH[config.decoder](before, after), _activation()]
            before = after
        decoder.append(nn.Conv2d(before, 3, 3, padding=1))
        self.encoder, self.decoder = nn.Sequential(*encoder), nn.Sequential(*decoder)

    def forward(self, images: Tensor) -> Tensor:
        """Reconstruct a batch."""
        rebuilt: Tensor = self.decoder(self.encoder(images))
        return rebuilt


def _activation() -> nn.Module:
    return nn.LeakyReLU(0.1, inplace=True)


def _transposed(before: int, after: int) -> nn.Module:
    return nn.ConvTranspose2d(before, after, 4, stride=2, padding=1)


def _nearest(before: int, after: int) -> nn.Module:
    return nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(before, after, 3, padding=1))


def _shuffle(before: int, after: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(before, 4 * after, 3, padding=1), nn.PixelShuffle(2))


_GROWTH: dict[Decoder, Callable[[int, int], nn.Module]] = {
    "transposed": _transposed,
    "nearest": _nearest,
    "shuffle": _shuffle,
}


def reconstruction_loss(rebuilt: Tensor, images: Tensor, gradient_weight: float) -> Tensor:
    """Mean absolute error of the pixels, and of the differences between neighbours; both (B, 3, S, S)."""
    error = rebuilt - images
    loss = error.abs().mean()
    if gradient_weight:
        across, down = error.diff(dim=-1).abs().mean(), error.diff(dim=-2).abs().mean()
        loss = loss + gradient_weight * (across + down)
    return loss


def train_autoencoder(
    crop: Callable[[int], Image],
    count: int,
    config: AutoencoderConfig,
    *,
    minutes: float,
    out: Path,
    resume: bool = False,
    threads: int = 1,
    steps: int | None = None,
    save_every: float = 2.0,
    progress: Callable[[int, float, float], None] | None = None,
) -> TrainedAutoencoder:
    """Train until `minutes` over all runs (or `steps`) are over; weights and a checkpoint go to `out`.

    crop: gives the aligned crop (S, S, 3) of face i in 0..count-1; faces come in a seeded order, half of them
    mirrored. save_every: minutes between checkpoints, from which `resume` goes on. progress: is called with
    step, minutes and running loss after every step.

    Raises InputError for crops of another size, for no crops and for a checkpoint that cannot be resumed.
    """
    if count < 1:
        raise InputError("no crops to train on")
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with sole_writer(out):
            return _train(crop, count, config, minutes, out, resume, steps, save_every, progress)
    finally:
        torch.set_num_threads(before)


def _train(
    crop: Callable[[int], Image],
    count: int,
    config: AutoencoderConfig,
    minutes: float,
    out: Path,
    resume: bool,
    steps: int | None,
    save_every: float,
    progress: Callable[[int, float, float], None] | None,
) -> TrainedAutoencoder:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = Autoencoder(config).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=1e-4)
    step, spent, running = 0, 0.0, float("nan")
    if resume and (out / CHECKPOINT).exists():
        step, spent, running = _resume(out / CHECKPOINT, config, model, optimizer)
    start = saved = time.monotonic()
    batches = _batches(crop, count, config, step)
    while True:
        now = spent + (time.monotonic() - start) / 60
        done = max(now / minutes if minutes > 0 else 1.0, step / steps if steps else 0.0)
        if done >= 1:
            break
        rate = config.learning_rate * min(1.0, (step + 1) / _WARM_UP, max(0.02, (1 - done) / _DECAY))
        for group in optimizer.param_groups:
            group["lr"] = rate
        images = _to_tensor(next(batches))
        with torch.autocast("cpu", torch.bfloat16, enabled=config.precision == "bf16-mixed"):
            rebuilt = model(images)
        loss = reconstruction_loss(rebuilt.float(), images, config.gradient_weight)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step += 1
        value = float(loss.detach())
        running = value if np.isnan(running) else 0.98 * running + 0.02 * value
        if progress is not None:
            progress(step, now, running)
        if (time.monotonic() - saved) / 60 >= save_every:
            _save(out, model, optimizer, step, spent + (time.monotonic() - start) / 60, running)
            saved = time.monotonic()
    _save(out, model, optimizer, step, now, running)
    return TrainedAutoencoder(out / WEIGHTS, step, now, running)


def load_autoencoder(path: Path) -> Autoencoder:
    """An autoencoder from its .safetensors, or from the folder of its training, ready to reconstruct.

    Raises InputError for files that are missing, broken or of another shape.
    """
    path = path / WEIGHTS if path.is_dir() else path
    sidecar = path.with_suffix(".json")
    description = read_description(sidecar)
    state = read_tensors(sidecar, description, file=path)
    try:
        model = Autoencoder(AutoencoderConfig.model_validate(description.get("settings")))
    except ValidationError as error:
        raise InputError(f"{sidecar}: does not describe an autoencoder") from error
    load_state(model, state, path)
    return model.to(memory_format=torch.channels_last).eval()


def reconstruct(model: Autoencoder, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Aligned crops as the autoencoder reconstructs them, (B, S, S, 3) -> (B, S, S, 3)."""
    made = []
    with torch.inference_mode():
        for first in range(0, len(images), _CHUNK):
            rebuilt = model(_to_tensor(images[first : first + _CHUNK]))
            levels = rebuilt.add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)
            made.append(levels.permute(0, 2, 3, 1).numpy())
    return np.concatenate(made) if made else np.zeros_like(images)


def _batches(
    crop: Callable[[int], Image], count: int, config: AutoencoderConfig, step: int
) -> Iterator[NDArray[np.uint8]]:
    """Batches (B, S, S, 3) from step `step` on: the same whether or not training was interrupted."""
    shape = (config.size, config.size, 3)
    order, epoch = np.zeros(0, np.int64), -1
    while True:
        images = []
        for position in range(step * config.batch, (step + 1) * config.batch):
            if position // count != epoch:
                epoch = position // count
                order = np.random.default_rng((config.seed, epoch)).permutation(count)
            index = int(order[position % count])
            image = crop(index)
            if image.shape != shape:
                raise InputError(f"crop {index} has shape {image.shape}, expected {shape}")
            images.append(image)
        mirrored = np.random.default_rng((config.seed, step, 1)).random(config.batch) < 0.5
        yield np.stack([image[:, ::-1] if m else image for image, m in zip(images, mirrored, strict=True)])
        step += 1


def _to_tensor(images: NDArray[np.uint8]) -> Tensor:
    """(B, S, S, 3) levels -> (B, 3, S, S) in -1..1, channels last in memory."""
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


def _save(
    out: Path, model: Autoencoder, optimizer: torch.optim.Optimizer, step: int, minutes: float, loss: float
) -> None:
    settings = model.config.model_dump(mode="json")
    checkpoint: dict[str, Any] = {
        "settings": settings,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "step": step,
        "minutes": minutes,
        "loss": loss,
    }
    content = safetensors_bytes(model.state_dict())
    description = {
        "files": {"safetensors": {"file": WEIGHTS, "sha256": hashlib.sha256(content).hexdigest()}},
        "settings": settings,
        "steps": step,
        "minutes": round(minutes, 3),
        "loss": None if np.isnan(loss) else round(loss, 5),
    }
    contents = {CHECKPOINT: sealed_checkpoint(checkpoint), WEIGHTS: content}
    contents[DESCRIPTION] = sealed_json(description)
    write_together({out / name: content for name, content in contents.items()})


def _resume(
    path: Path, config: AutoencoderConfig, model: Autoencoder, optimizer: torch.optim.Optimizer
) -> tuple[int, float, float]:
    checkpoint = read_checkpoint(path)
    try:
        if checkpoint["settings"] != config.model_dump(mode="json"):
            raise InputError(f"{path}: belongs to a training with other settings")
        model.load_state_dict(checkpoint["model"])
        optimizer.load_state_dict(checkpoint["optimizer"])
        return checkpoint["step"], checkpoint["minutes"], checkpoint["loss"]
    except (RuntimeError, KeyError, ValueError) as error:
        reason = " ".join(str(error).split())[:160]
        raise InputError(f"{path}: cannot be read as a checkpoint: {reason}") from error


_BATCH = 32  # crops reconstructed at once
_BLUR = 0.35  # deviation, crop pixels, of the blur before a large face is shrunk


def face_crop(pack: Pack, index: int, size: int) -> Image:
    """The aligned face at `index` as an autoencoder sees it, (size, size, 3)."""
    image = pack.image(index)
    alignment = estimate_alignment(pack.points(index), size, ZOOM)
    if alignment.scale < 1:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), _BLUR / alignment.scale), dtype=np.uint8)
    return np.asarray(
        cv2.warpAffine(image, alignment.opencv_matrix(), (size, size), flags=cv2.INTER_LINEAR), dtype=np.uint8
    )


def cached_crops(
    pack: Pack, size: int, limit: int | None, seed: int, *, unread: list[str]
) -> tuple[Callable[[int], Image], int]:
    """`limit` faces drawn from a pack as a function of their number, cut once and kept, and how many.

    In the place of a face that cannot be read comes the next one; `unread` is told why. Raises InputError
    where none can be read.
    """
    chosen = np.random.default_rng(seed).permutation(len(pack))[:limit]
    kept: dict[int, Image | None] = {}  # None: cannot be read

    def crop(number: int) -> Image:
        for other in range(number, number + len(chosen)):
            place = other % len(chosen)
            if place not in kept:
                kept[place] = _crop_or_reason(pack, int(chosen[place]), size, unread)
            if (found := kept[place]) is not None:
                return found
        raise _unreadable(pack, len(chosen), unread)

    return crop, len(chosen)


def _unreadable(pack: Pack, count: int, unread: Sequence[str]) -> InputError:
    return InputError(f"{pack.root}: none of {count} faces can be read: {unread[-1]}")


def _crop_or_reason(pack: Pack, index: int, size: int, unread: list[str]) -> Image | None:
    try:
        return face_crop(pack, index, size)
    except InputError as error:
        unread.append(str(error))
        return None


def reconstruct_pack(
    pack: Pack,
    models: Sequence[Autoencoder],
    out: Path,
    *,
    name: str,
    limit: int | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    unread: list[str],
) -> int:
    """Reconstruct faces of a pack, each by one of the models in turn, into OUT/NAME.tar; returns how many.

    Those that cannot be read are left out; `unread` is told why. Raises InputError where none can be read.
    """
    chosen = np.random.default_rng(seed).permutation(len(pack))[:limit]

    def pairs() -> Iterator[tuple[str, Image]]:
        done, before = 0, len(unread)
        for number, model in enumerate(models):
            own = chosen[number :: len(models)]
            for start in range(0, len(own), _BATCH):
                some = own[start : start + _BATCH].tolist()
                cut = {index: _crop_or_reason(pack, index, model.config.size, unread) for index in some}
                crops = {pack.entry(index).key: crop for index, crop in cut.items() if crop is not None}
                if crops:
                    yield from zip(crops, reconstruct(model, np.stack([*crops.values()])), strict=True)
                done += len(some)
                if progress:
                    progress(done, len(chosen))
        if len(unread) - before == len(chosen):
            raise _unreadable(pack, len(chosen), unread)

    return write_reconstructions(out, name, pairs(), pack=pack)


def write_reconstructions(
    out: Path, name: str, crops: Iterable[tuple[str, Image]], *, pack: Pack, quality: int = 98
) -> int:
    """Write keys with their crops (S, S, 3) as JPEG into OUT/NAME.tar, and what tells their pack from another
    one; returns how many crops.
    """

    def members() -> Iterator[tuple[str, bytes]]:
        for key, image in crops:
            yield f"{key}.jpg", _jpeg(image, quality)
        yield PARTS, json.dumps(pack.part_indexes).encode()

    with sole_writer(out):
        return len(write_tar(out / f"{name}.tar", members(), checksums=True)) - 1


def _jpeg(image: Image, quality: int) -> bytes:
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
