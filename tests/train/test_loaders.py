import os
import pickle
import tempfile
from collections.abc import Callable
from functools import partial
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import pytest
import torch

from forgerank.data.mixture import Levelled
from forgerank.train.config import TrainConfig
from forgerank.train.loaders import (
    _worker_options,
    crop_size,
    limited,
    open_crops,
    open_mixture,
    open_source,
    open_validation,
    plain_loader,
    train_loader,
)
from forgerank.types import InputError
from packs import mixture_of
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


def test_processes_share_the_images_of_one(tiny_config: Callable[..., TrainConfig]) -> None:
    config = tiny_config(batch_size=32, accumulate=2, data={"val_images": 9})
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


def test_sizes_can_be_mixed(tiny_config: Callable[..., TrainConfig]) -> None:
    size = tiny_config().model.input_size
    config = tiny_config(early_size=size // 2, early_share=0.25, mixed_sizes=True, batch_size=32, epochs=2)
    sizes = [crop_size(config, step, 96) for step in range(16)]
    assert sizes == ([size] * 3 + [size // 2]) * 4
    assert [crop_size(config, step, 96) for step in range(5, 9)] == sizes[5:9]


@pytest.fixture
def mixed_config(tiny_config: Callable[..., TrainConfig], pack_root: Path) -> Callable[..., TrainConfig]:
    def build(*, data: dict[str, Any] | None = None, **changes: Any) -> TrainConfig:
        own = {"roots": [], "sources": mixture_of(pack_root), "mask_size": 8} | (data or {})
        return tiny_config(data=own, **changes)

    return build


def test_batches_come_from_all_sources(mixed_config: Callable[..., TrainConfig]) -> None:
    config = mixed_config(batch_size=16, images_per_epoch=32)
    mixture = open_mixture(config.data)
    assert [part.name for part in mixture.ingredients] == ["alpha", "gamma", "beta", "forged"]
    loader = train_loader(config, mixture, position=partial(int, 1))
    (batch,) = list(loader)
    assert batch["forged"].tolist() == [0.0, 1.0] * 8
    assert batch["image"].shape == (16, 3, 64, 64)
    sources = {mixture.sample(index).source for index in batch["index"].tolist()}
    assert {"alpha", "beta", "gamma"} <= sources
    again = next(iter(train_loader(config, open_mixture(config.data), position=partial(int, 1))))
    assert torch.equal(again["image"], batch["image"])


def test_every_source_is_validated_with_both_classes(mixed_config: Callable[..., TrainConfig]) -> None:
    parts = open_validation(mixed_config().data)
    assert list(parts) == ["alpha", "gamma", "forged"]
    found = {
        name: [(part.sample(i).source, part.sample(i).forged) for i in range(len(part))]
        for name, part in parts.items()
    }
    assert sorted(found["alpha"]) == [("alpha", False), ("alpha", True)]
    assert found["gamma"] == [("gamma", True), ("beta", False)]  # the reals are its partner's
    assert sorted(found["forged"]) == [
        *[("alpha", False), ("alpha", True)],
        *[("beta", False), ("beta", True)],
    ]
    some = open_validation(mixed_config(data={"val_images": 1}).data)
    assert {name: len(part) for name, part in some.items()} == {"alpha": 1, "gamma": 2, "forged": 1}


def test_validation_is_levelled_where_training_is(mixed_config: Callable[..., TrainConfig]) -> None:
    config = mixed_config()
    parts = open_validation(config.data)
    # out of two sources, out of one, forged on the fly
    assert [isinstance(part, Levelled) for part in parts.values()] == [False, True, False]
    sources = [source.model_dump() | {"level": 1.0} for source in config.data.sources]
    parts = open_validation(mixed_config(data={"sources": sources}).data)
    assert all(isinstance(part, Levelled) for part in parts.values())


def test_validation_without_sources_has_no_name(tiny_config: Callable[..., TrainConfig]) -> None:
    ((name, source),) = open_validation(tiny_config(data={"val_images": 9}).data).items()
    assert (name, len(source)) == ("", 9)


def test_workers_of_processes_that_train_together_are_not_forked_from_among_their_threads(
    mixed_config: Callable[..., TrainConfig],
) -> None:
    assert "multiprocessing_context" not in _worker_options(1, (0, 1))
    assert _worker_options(1, (1, 2))["multiprocessing_context"].get_start_method() == "forkserver"
    # What such workers are given is pickled.
    config = mixed_config(batch_size=16, images_per_epoch=32)
    crops = open_crops(config, open_mixture(config.data), masks=True, augment=config.data.augment)
    given = pickle.loads(ForkingPickler.dumps(crops))
    for index in range(len(crops)):
        assert torch.equal(given[index]["image"], crops[index]["image"])


def test_workers_that_could_pass_nothing_on_are_not_begun(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (deep := tmp_path / ("d" * 100)).mkdir()
    assert _worker_options(1)["num_workers"] == 1
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", list)
    with pytest.raises(InputError, match=r"data\.workers: no folder for temporary files can be"):
        _worker_options(1)
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    with pytest.raises(InputError, match=rf"^data\.workers: {deep}: no sockets can be made .* too long\)"):
        _worker_options(1)
    assert not list(deep.iterdir())
    monkeypatch.setattr("multiprocessing.context.BaseContext.Lock", lambda _: os.open("/dev/null/shm", 0))
    with pytest.raises(InputError, match=r"shared memory, /dev/shm cannot be used \(not a directory\)"):
        _worker_options(1)
    assert _worker_options(0)["num_workers"] == 0
