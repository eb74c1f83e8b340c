"""Photographs in black and white or one tone are told from those in colour, however pale or saved."""

import io

import numpy as np
import pytest
from PIL import Image as PILImage
from PIL import ImageEnhance, ImageOps

from forgerank.detect.verdict import COLOURLESS
from forgerank.faces.quality import CROP_SIZE, colourfulness

Photo = PILImage.Image
INSIDE = np.zeros((CROP_SIZE, CROP_SIZE), dtype=bool)
INSIDE[60:200, 60:165] = True


@pytest.fixture(scope="module")
def face(astronaut: np.ndarray) -> Photo:
    crop = PILImage.fromarray(np.ascontiguousarray(astronaut[60:190, 160:290]))
    return crop.resize((CROP_SIZE, CROP_SIZE), PILImage.Resampling.BICUBIC)


def colours(image: Photo) -> float:
    return colourfulness(np.asarray(image.convert("RGB")), INSIDE)["colours"]


def jpeg(image: Photo, quality: int) -> Photo:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return PILImage.open(stream)


@pytest.mark.parametrize(
    ("dark", "light"),
    [("black", "white"), ("#2b1400", "#ffdca0"), ("#00153a", "#f0f6ff"), ("navy", "orange")],
)
def test_of_a_toned_photograph_luma_tells_the_colours(face: Photo, dark: str, light: str) -> None:
    assert colours(ImageOps.colorize(face.convert("L"), dark, light)) < COLOURLESS / 2


def test_a_grey_one_has_none_also_saved(face: Photo) -> None:
    assert colours(face.convert("L")) < 0.01
    assert colours(jpeg(face.convert("L"), 30)) < 0.01


def test_skin_has_colours_of_its_own_also_pale_dark_or_saved(face: Photo) -> None:
    for image in (
        face,
        jpeg(face, 30),
        ImageEnhance.Color(face).enhance(0.4),
        ImageEnhance.Brightness(face).enhance(0.5),
    ):
        assert colours(image) > COLOURLESS


def test_nothing_is_measured_where_next_to_no_face_is_seen(face: Photo) -> None:
    few = np.zeros_like(INSIDE)
    few[:20, :20] = True
    assert colourfulness(np.asarray(face), few) == {}
    assert colourfulness(np.full((CROP_SIZE, CROP_SIZE, 3), 255, dtype=np.uint8), INSIDE) == {}
