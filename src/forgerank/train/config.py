"""The settings of a training run, a YAML file. Relative paths in it start from the current directory."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from forgerank.data.augmentation import AugmentConfig
from forgerank.data.formats.registry import DATASETS
from forgerank.files import parse_setting, read_yaml
from forgerank.labels import VOCABULARIES
from forgerank.losses.total import LossConfig
from forgerank.model.config import ModelConfig
from forgerank.types import InputError
from forgerank.weights.renamed_keys import SETTINGS as RENAMED


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SourceConfig(_Strict):
    """One of several data sets that are trained on together in a run."""

    name: str = Field(min_length=1)
    dataset: str = "pack"  # a key of DATASETS
    roots: tuple[Path, ...] = Field(min_length=1)
    options: dict[str, Any] = {}  # keywords of the data set
    share: float = Field(default=1.0, ge=0)  # of a batch, relative to the others; 0: only a partner of others
    partners: tuple[str, ...] = ()  # sources of the class, real or forged, that this one does not have
    level: float | None = Field(default=None, ge=0, le=1)  # replaces `data.level` for this source
    validate_on: bool = True  # whether the curve has a line for its validation split

    @field_validator("dataset")
    @classmethod
    def _known_dataset(cls, value: str) -> str:
        if value not in DATASETS:
            raise ValueError(f"must be one of {', '.join(DATASETS)}, got {value}")
        return value


class DataConfig(_Strict):
    """The images and how they become tensors: one data set in `roots`, or several as `sources`."""

    dataset: str = "seqdeepfake"  # a key of DATASETS
    roots: tuple[Path, ...] = ()  # the splits of several folders are joined
    # in place of `roots`: half of every batch real, half forged, see data.mixture
    sources: tuple[SourceConfig, ...] = ()
    # share of a source's pairs, one real and one forged, that are brought to the same size and encoding
    level: float = Field(default=0.5, ge=0, le=1)
    # share of the pairs of a source that forges on the fly that are a face and its own forgery
    same_face: float = Field(default=0.0, ge=0, le=1)
    val_roots: tuple[Path, ...] | None = None  # folders of the validation split; None: `roots`
    train_split: str = "train"
    val_split: str = "val"
    options: dict[str, Any] = {}  # keywords of the data set
    vocabulary: Literal["components", "attributes", "binary"] = "components"
    mask_size: int | None = Field(default=None, ge=1)  # side of the target masks; None: no masks are read
    together: int = Field(default=1, ge=1)  # images of one group that are drawn one after the other
    augment: AugmentConfig = AugmentConfig()
    # by five points of the face; false: the whole image is resized to a square, and no face is looked for
    align: bool = True
    points_cache: Path | None = None  # folder for detected points, for data sets without points
    # number used, evenly spread over the split, for validation over that of each source; None: all
    train_images: int | None = Field(default=None, ge=1)
    val_images: int | None = Field(default=None, ge=1)
    workers: int = Field(default=2, ge=0)

    @model_validator(mode="after")
    def _known_dataset(self) -> "DataConfig":
        if self.dataset not in DATASETS:
            raise ValueError(f"dataset must be one of {', '.join(DATASETS)}, got {self.dataset}")
        if bool(self.roots) == bool(self.sources):
            raise ValueError("give either roots or sources")
        names = [source.name for source in self.sources]
        if len(names) != len(set(names)):
            raise ValueError("two sources have one name")
        if "all" in names:
            raise ValueError("no source may be called all: the curve means every source by it")
        for source in self.sources:
            if unknown := set(source.partners) - set(names):
                raise ValueError(f"{source.name}: no source is called {', '.join(sorted(unknown))}")
        if self.sources and not any(source.share for source in self.sources):
            raise ValueError("no source has a share of the batches")
        return self

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the labels, L of them."""
        return VOCABULARIES[self.vocabulary]


class OptimConfig(_Strict):
    """AdamW and its learning-rate schedule. Places in the schedule are shares of the run, 0..1."""

    lr: float = Field(default=1e-3, gt=0)
    backbone_lr: float = Field(default=1e-4, ge=0)
    frozen_stride: int | None = None  # the backbone's layers up to its maps at this stride stay as they are
    weight_decay: float = Field(default=1e-4, ge=0)
    sharpness: float = Field(default=0.0, ge=0)  # radius of sharpness-aware minimisation; 0: none
    clip: float | None = Field(default=1.0, gt=0)  # largest norm of the gradient
    schedule: Literal["cosine", "step"] = "cosine"
    warmup: float = Field(default=0.02, ge=0, lt=1)  # linear from 0 over this share of the run
    min_lr_factor: float = Field(default=0.01, ge=0, le=1)  # cosine: rate at the end, relative to `lr`
    milestones: tuple[float, ...] = (0.41, 0.71)  # step: places where the rate is multiplied by `gamma`
    gamma: float = Field(default=0.1, gt=0, le=1)


class TrainConfig(_Strict):
    """All settings of a run."""

    name: str = "forgerank"
    output: Path
    data: DataConfig
    model: ModelConfig = ModelConfig()
    loss: LossConfig = LossConfig()
    optim: OptimConfig = OptimConfig()
    init_from: Path | None = None  # weights (.safetensors, .ckpt or a folder) that training begins from
    init_from_only: str = ""  # prefix of the tensors to take, such as "backbone."; "": the whole network
    seed: int = Field(default=0, ge=0)
    batch_size: int = Field(default=32, ge=1)  # images per step, over all processes and parts
    accumulate: int = Field(default=1, ge=1)  # gradient accumulation: parts of a batch, in less memory
    early_size: int | None = Field(default=None, ge=32)  # side of the small crops, pixels; they train faster
    early_share: float = Field(default=0.0, ge=0, le=1)  # share of the steps on small crops
    mixed_sizes: bool = False  # the steps on small crops are spread evenly over the run, not at its beginning
    images_per_epoch: int | None = Field(default=None, ge=1)  # between validations; None: the whole split
    epochs: int = Field(default=1, ge=1)
    max_minutes: float | None = Field(default=None, gt=0)  # time limit; the schedule then ends in time
    checkpoint_steps: int = Field(default=200, ge=1)  # steps between two saves of last.ckpt
    log_steps: int = Field(default=20, ge=1)
    monitor: str = "val/auc"  # metric that chooses best.ckpt; larger is better
    also_best: tuple[str, ...] = ()  # further metrics, each with a checkpoint such as best-fixed.ckpt
    ema_decay: float = Field(default=0.999, ge=0, lt=1)  # of the exponential moving average of the weights
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    channels_last: bool = False
    compile: bool = False  # the network, by torch.compile
    checkpoint_activations: bool = False  # recompute blocks in the backward pass, which saves memory
    threads: int | None = Field(default=None, ge=1)  # of the main process; None: torch's choice
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    devices: int | None = Field(default=None, ge=1)  # processes per machine; None: torchrun's, or one
    nodes: int | None = Field(default=None, ge=1)  # machines; None: torchrun's, or one
    strategy: Literal["auto", "ddp", "fsdp"] = "auto"  # auto: DDP where there are several processes

    @model_validator(mode="after")
    def _parts_agree(self) -> "TrainConfig":
        if self.init_from_only and self.init_from is None:
            raise ValueError(f"init_from_only {self.init_from_only} needs init_from")
        if self.model.components != len(self.data.labels):
            names = ", ".join(self.data.labels)
            raise ValueError(f"model.components is {self.model.components}, but the labels are {names}")
        if self.early_size and self.early_size % self.model.stride:
            raise ValueError(f"early_size {self.early_size} must be a multiple of stride {self.model.stride}")
        if self.loss.lambda_mask and not (self.model.mask_head and self.data.mask_size):
            raise ValueError("loss.lambda_mask needs model.mask_head and data.mask_size")
        if self.batch_size % self.accumulate:
            raise ValueError(f"accumulate {self.accumulate} must divide batch_size {self.batch_size}")
        if self.optim.frozen_stride is not None and not self.model.fold_norm:
            raise ValueError("optim.frozen_stride needs model.fold_norm: running statistics would change")
        if self.strategy == "fsdp" and self.precision == "16-mixed":
            raise ValueError("strategy fsdp takes precision 32-true or bf16-mixed")
        if self.optim.sharpness and (self.strategy == "fsdp" or self.precision == "16-mixed"):
            raise ValueError("optim.sharpness goes neither with strategy fsdp nor with precision 16-mixed")
        if self.compile and (self.checkpoint_activations or self.strategy == "fsdp"):
            raise ValueError("compile goes neither with checkpoint_activations nor with strategy fsdp")
        return self


def load_config(path: Path, overrides: Sequence[str] = ()) -> TrainConfig:
    """Read a YAML file and apply overrides such as `model.input_size=160`, whose values are YAML too.

    A file that says `base: other.yaml`, relative to itself, holds only what differs from that one. Raises
    InputError, one line naming file and key, for anything unknown or out of range.
    """
    return parse_config(with_overrides(load_values(path), overrides), str(path))


def load_values(path: Path) -> dict[str, Any]:
    """The plain values of a YAML file over those of its `base`. Raises InputError as `load_config` does."""
    return _values_over_base(path, ())


def _values_over_base(path: Path, above: tuple[Path, ...]) -> dict[str, Any]:
    if path.resolve() in above:
        raise InputError(f"{path}: is its own base")
    values = read_yaml(path)
    if not isinstance(values, dict):
        raise InputError(f"{path}: expected keys and values")
    base = values.pop("base", None)
    if base is None:
        return values
    if not isinstance(base, str):
        raise InputError(f"{path}: base must name a file, got {base}")
    return merge(_values_over_base(path.parent / base, (*above, path.resolve())), values)


def merge(values: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`changes` over `values`, key by key at every level; neither is touched.

    >>> merge({"a": 1, "model": {"width": 8, "layers": 2}}, {"model": {"layers": 1}})
    {'a': 1, 'model': {'width': 8, 'layers': 1}}
    """
    merged = dict(values)
    for key, change in changes.items():
        old = merged.get(key)
        merged[key] = merge(old, change) if isinstance(old, dict) and isinstance(change, dict) else change
    return merged


def with_overrides(values: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Plain values with `key.key=value` applied. Raises InputError for an override that says neither."""
    changed = copy.deepcopy(values)
    for override in overrides:
        _override(changed, override)
    return changed


def parse_config(values: dict[str, Any], where: str) -> TrainConfig:
    """Validate plain values. Raises InputError, one line that names `where` and the first bad key."""
    try:
        return TrainConfig.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "settings"
        reason = first["msg"]
        if first["type"] == "extra_forbidden":
            new = RENAMED.get(key, "").rpartition(".")[2]
            reason = f"now called {new}" if new else "unknown key"
        raise InputError(f"{where}: {key}: {reason}") from error


def _override(values: dict[str, Any], override: str) -> None:
    key, value = parse_setting(override)
    *parents, last = key.split(".")
    level = values
    for parent in parents:
        level = level.setdefault(parent, {})
        if not isinstance(level, dict):
            raise InputError(f"--set {override}: {parent} holds no keys")
    level[last] = value
