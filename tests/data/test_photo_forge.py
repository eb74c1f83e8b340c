import csv
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from PIL import Image as PILImage

from forgerank.data.augmentation import AugmentConfig
from forgerank.data.batches import Crops
from forgerank.data.forge_sources import PhotoForge
from forgerank.data.formats.registry import DATASETS
from forgerank.types import InputError


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two people, one a split: the astronaut of scikit-image by day and by night."""
    folder = tmp_path_factory.mktemp("photos")
    portrait = skimage.data.astronaut()[:224, 110:334]
    PILImage.fromarray(portrait).save(folder / "day.png")
    PILImage.fromarray((portrait * 0.7).astype(np.uint8)).save(folder / "night.png")
    with (folder / "splits.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(
            [("file", "subject", "split"), ("day.png", "a", "train"), ("night.png", "b", "val")]
        )
    return folder


@pytest.fixture(scope="module")
def source(photos: Path) -> PhotoForge:
    made = DATASETS["forge"](photos, "train", length=5, per_photo=8, split_csv=photos / "splits.csv")
    assert isinstance(made, PhotoForge)
    return made


def test_every_image_comes_with_its_answer(source: PhotoForge) -> None:
    assert len(source) == 8
    assert {source.sample(i).group for i in range(8)} == {"a"}
    lengths = set()
    for index in range(8):
        image = source.load(index, np.random.default_rng(index))
        assert image.mask is not None
        assert {i + 1 for i in range(5) if (image.mask >> i & 1).any()} == set(image.sequence)
        lengths.add(len(image.sequence))
    assert len(lengths) > 1


def test_another_draw_is_another_image_and_the_same_draw_the_same(source: PhotoForge) -> None:
    crops = Crops(source, size=64, length=5, seed=3, mask_size=4, augment=AugmentConfig())
    first, again, other = (crops[key]["image"].numpy() for key in [(0, 2, 64), (0, 2, 64), (1, 2, 64)])
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_splits_are_kept_apart(photos: Path) -> None:
    val = PhotoForge(photos, "val", split_csv=photos / "splits.csv", per_photo=1)
    assert val.sample(0).image.name == "night.png"
    with pytest.raises(InputError, match="no photographs of the test split"):
        PhotoForge(photos, "test", split_csv=photos / "splits.csv")
