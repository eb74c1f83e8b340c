from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

from forgerank.train.config import TrainConfig
from forgerank.train.loaders import crop_size, limited, open_source, plain_loader, train_loader
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


def test_processes_share_the_pictures_of_one(tiny_config: Callable[..., TrainConfig]) -> None:
    config = tiny_config(batch_size=32, accumulate=2, data={"val_pictures": 9})
    source, validation = (limited(open_source(config.data, split), 9) for split in ("train", "val"))
    alone = next(iter(train_loader(tiny_config(batch_size=32), source, position=partial(int, 0))))
    shares = [
        list(train_loader(config, source, position=partial(int, 0), share=(rank, 2))) for rank in range(2)
    ]
    joined = torch.cat([share[part]["image"] for part in range(2) for share in shares])
    assert torch.equal(joined, alone["image"])
    seen = [
        batch["index"] for rank in range(2) for batch in plain_loader(config, validation, share=(rank, 2))
    ]
    assert sorted(torch.cat(seen).tolist()) == list(range(9))


def test_an_early_size_must_fit_the_stride(tiny_config: Callable[..., TrainConfig]) -> None:
    with pytest.raises(InputError, match="early_size 33"):
        tiny_config(early_size=33)


def test_validation_may_lie_elsewhere(tiny_config: Callable[..., TrainConfig], tmp_path: Path) -> None:
    other = write_squares(tmp_path / "other", {"val": 7})
    data = tiny_config().data.model_copy(update={"val_roots": (other,)})
    assert len(open_source(data, "val", roots=data.val_roots)) == 7
    assert len(open_source(data, "train")) == 96
