"""Photographs of a face that may be shown: the astronaut of scikit-image, as several people."""

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from PIL import Image as PILImage

from forgerank.faces.analyze import FaceAnalyzer
from forgerank.forge.photos import Photo
from forgerank.types import Image

COUNT = 4


def portrait(variant: int) -> Image:
    """The astronaut's head, (224, 224, 3), in the light of another day for every variant."""
    crop = skimage.data.astronaut()[0:224, 110:334].astype(np.float32)
    gain = 1.0 + 0.08 * np.array([variant % 3 - 1, (variant + 1) % 3 - 1, (variant + 2) % 3 - 1])
    return np.clip(crop * gain + 4 * variant, 0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def photos() -> list[Photo]:
    """A few photographs with landmarks; pixels must not be written to."""
    analyzer = FaceAnalyzer()
    made = []
    for variant in range(COUNT):
        image = portrait(variant)
        (face,) = analyzer.analyze(image)
        image.setflags(write=False)
        made.append(Photo.prepare(image, face.landmarks))
    return made


@pytest.fixture
def photo_folder(tmp_path: Path, photos: list[Photo]) -> Callable[[], tuple[Path, Path, Path]]:
    """Writes the photographs, their landmarks and their splits; returns (folder, landmarks, split table)."""

    def write() -> tuple[Path, Path, Path]:
        folder = tmp_path / "photos"
        folder.mkdir()
        names = [f"person-{i}.png" for i in range(len(photos))]
        for name, photo in zip(names, photos, strict=True):
            PILImage.fromarray(photo.image).save(folder / name)
        landmarks, splits = tmp_path / "landmarks.npz", tmp_path / "splits.csv"
        np.savez(landmarks, files=np.array(names), landmarks=np.stack([photo.landmarks for photo in photos]))
        with splits.open("w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(["file", "subject", "split"])
            writer.writerows([name, name[:-4], "val" if i == 3 else "train"] for i, name in enumerate(names))
        return folder, landmarks, splits

    return write
