import os
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as PILImage

from forgerank.detect import Detector
from forgerank.report.heatmap import (
    crop_layer,
    face_maps,
    heatmap_stem,
    image_layer,
    overlay,
    palette,
    save_heatmaps,
)

Pixels = NDArray[np.uint8]


def oklab_lightness(colours: Pixels) -> NDArray[np.float64]:
    """sRGB (K, 3) -> OKLab lightness, by Ottosson's forward matrices."""
    encoded = colours / 255.0
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    lms = np.cbrt(
        linear
        @ np.array(
            [
                [0.4122214708, 0.2119034982, 0.0883024619],
                [0.5363325363, 0.6806995451, 0.2817188376],
                [0.0514459929, 0.1073969566, 0.6299787005],
            ]
        )
    )
    return np.asarray(lms @ [0.2104542553, 0.7936177850, -0.0040720468])


def test_palette_grows_lighter_all_the_way() -> None:
    lightness = oklab_lightness(palette())
    assert palette().shape == (256, 3)
    assert lightness[0] < 0.2
    assert lightness[-1] > 0.9
    # 8-bit rounding moves dark colours by a few thousandths
    assert np.diff(lightness).min() > -0.004
    assert np.diff(lightness[::8]).min() > 0.005


def test_heat_lands_on_the_edit_through_the_inverse_alignment(
    tiny_detector: Detector, forged_astronaut: Pixels
) -> None:
    face = tiny_detector.detect([forged_astronaut])[0].faces[0]
    layer = image_layer(face, face_maps(face)["nose"], forged_astronaut.shape[:2])
    heat = layer[..., 3].astype(np.float64)
    rows, columns = np.indices(heat.shape)
    # the red patch spans rows 105-130 and columns 205-235
    assert (rows * heat).sum() / heat.sum() == pytest.approx(117.0, abs=4.0)
    assert (columns * heat).sum() / heat.sum() == pytest.approx(219.5, abs=4.0)
    assert heat[:40].max() == heat[250:].max() == 0.0


def test_every_map_is_there_under_its_name(tiny_detector: Detector, forged_astronaut: Pixels) -> None:
    maps = face_maps(tiny_detector.detect([forged_astronaut])[0].faces[0])
    assert list(maps) == ["nose", "eye", "eyebrow", "lip", "hair", "dissimilarity"]
    assert maps["nose"].max() > 0.8 > maps["hair"].max() == 0.0
    # the few red tokens differ from all others, the others only from those few
    hottest = np.unravel_index(maps["dissimilarity"].argmax(), (8, 8))
    assert maps["nose"][hottest] == maps["nose"].max()


def test_layer_over_the_crop_fades_at_its_edge() -> None:
    layer = crop_layer(np.ones((4, 4), np.float32), 100)
    assert layer.shape == (100, 100, 4)
    assert layer[50, 50, 3] == 255
    assert layer[0, :, 3].max() < 64
    assert (layer[50, 50, :3] == palette()[-1]).all()


def test_overlay_follows_opacity() -> None:
    image = np.full((2, 2, 3), 100, np.uint8)
    layer = np.zeros((2, 2, 4), np.uint8)
    layer[0, 0] = (200, 0, 100, 255)
    mixed = overlay(image, layer, 0.5)
    assert mixed[0, 0].tolist() == [150, 50, 100]
    assert (mixed[1] == 100).all()
    assert (overlay(image, layer, 0.0) == image).all()


def test_files_per_face_and_map(tiny_detector: Detector, forged_astronaut: Pixels, tmp_path: Path) -> None:
    faces = tiny_detector.detect([forged_astronaut])[0].faces
    paths = save_heatmaps(forged_astronaut, faces, tmp_path, "x")
    assert sorted(paths) == sorted(tmp_path.iterdir())
    assert {path.name for path in paths} >= {"x-face1-nose.png", "x-face1-dissimilarity.png"}
    saved = np.asarray(PILImage.open(tmp_path / "x-face1-hair.png"))
    assert (saved == forged_astronaut).all()  # no heat, so the image as it is


@pytest.mark.parametrize("stem", [b"n" * 251, "é".encode() * 125, b"\xe9" * 251])
def test_names_that_are_as_long_as_can_be_have_heatmaps(tmp_path: Path, stem: bytes) -> None:
    photo = tmp_path / os.fsdecode(stem + b".jpg")
    photo.touch()
    number, rest = "123456-", "-track12-12345.67s-face12-dissimilarity.png.partial"
    (tmp_path / f"{number}{heatmap_stem(str(photo))}{rest}").touch()
    assert (heatmap_stem("in/a.b.jpg"), heatmap_stem(None)) == ("a.b", "image")
