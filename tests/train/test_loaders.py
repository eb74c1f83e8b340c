from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from forgerank.train.config import TrainConfig
from forgerank.train.loaders import crop_size, open_source, train_loader
from forgerank.types import InputError
from squares import write_squares


def test_small_crops_come_first(tiny_config: Callable[..., TrainConfig]) -> None:
    size = tiny_config().model.input_size
    config = tiny_config(early_size=size // 2, early_share=0.5, batch_size=32, epochs=2)
    steps = 2 * (96 // 32)
    assert [crop_size(config, step, 96) for step in range(steps)] == [size // 2] * 3 + [size] * 3
    source = open_source(config.data, "train")
    for position, expected in [(0, size // 2), (steps - 1, size)]:
        batch = next(iter(train_loader(config, source, position=partial(int, position))))
        assert batch["image"].shape[-2:] == (expected, expected)
    assert {crop_size(tiny_config(), step, 96) for step in range(4)} == {size}


def test_an_early_size_must_fit_the_stride(tiny_config: Callable[..., TrainConfig]) -> None:
    with pytest.raises(InputError, match="early_size 33"):
        tiny_config(early_size=33)


def test_validation_may_lie_elsewhere(tiny_config: Callable[..., TrainConfig], tmp_path: Path) -> None:
    other = write_squares(tmp_path / "other", {"val": 7})
    data = tiny_config().data.model_copy(update={"val_roots": (other,)})
    assert len(open_source(data, "val", roots=data.val_roots)) == 7
    assert len(open_source(data, "train")) == 96
