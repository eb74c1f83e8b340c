"""Settings of the networks."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Kind = Literal["ranking", "multicls", "decoder", "queries", "linear"]


class ModelConfig(BaseModel):
    """Settings of a network. The paper gives no widths: the defaults are those of SeqFakeFormer."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Kind = "ranking"  # the paper's network, or one of model.baselines
    backbone: str = "resnet50"  # any timm name
    pretrained: bool | str = False  # see model.backbone.Backbone
    fold_norm: bool = False  # fold frozen batch normalisation into the convolutions
    components: int = Field(default=5, ge=1)  # L
    input_size: int = Field(default=256, ge=32)  # pixels, a multiple of `stride`
    zoom: float = Field(default=1.0, ge=0.5, le=2.0)  # of the aligned crop; 1: the whole head with its hair
    stride: int = Field(default=16, ge=1)  # pixels per patch token
    levels: tuple[int, ...] = (4, 8, 16, 32)  # strides of the backbone's maps that enter the pyramid
    width: int = Field(default=256, ge=8, multiple_of=4)  # d
    pyramid_width: int | None = Field(default=None, ge=1)  # channels inside the pyramid; None: `width`
    pool_first: bool = False  # average finer maps before the pyramid's convolutions, not after
    layers: int = Field(default=2, ge=1)
    heads: int = Field(default=4, ge=1)
    feedforward: int = Field(default=512, ge=1)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    prediction: Literal["both", "u", "v"] = (
        "both"  # f: mean of f^U and f^V, or one alone as in Table 3's I to V
    )
    mask_head: bool = False  # auxiliary localisation head
    order_head: bool = False  # separate logits for the order, which otherwise follows from f
    spatial_attention: bool = True  # kind "decoder": each step attends around a position that it predicts

    @model_validator(mode="after")
    def _check(self) -> "ModelConfig":
        if self.width % self.heads:
            raise ValueError(f"width {self.width} must be a multiple of heads {self.heads}")
        if self.input_size % self.stride or self.input_size < 2 * self.stride:
            raise ValueError(
                f"input_size {self.input_size} must be a multiple, 2 or more, of stride {self.stride}"
            )
        if not self.levels or any(max(level, self.stride) % min(level, self.stride) for level in self.levels):
            raise ValueError(f"levels {self.levels} must divide stride {self.stride} or be divided by it")
        for option, plain in (("prediction", "both"), ("mask_head", False), ("order_head", False)):
            if self.kind != "ranking" and getattr(self, option) != plain:
                value = getattr(self, option)
                raise ValueError(
                    f"{option} {value} needs kind ranking, which has those heads, not {self.kind}"
                )
        return self
