"""Photographs in black and white or one tone are told from those in colour, however pale or saved."""

import io

import numpy as np
import pytest
from PIL import Image as PILImage
from PIL import ImageEnhance, ImageOps

from forgerank.detect.verdict import COLOURLESS, MAX_TONE, unusable
from forgerank.faces.quality import CROP_SIZE, colourfulness
from forgerank.types import Quality

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


def refusal(image: Photo) -> str | None:
    quality = Quality(200, 250, 0.5, 0, 0, 0, 0, **colourfulness(np.asarray(image.convert("RGB")), INSIDE))
    return unusable(quality)


@pytest.mark.parametrize(("dark", "light"), [("navy", "orange"), ("purple", "yellow"), ("blue", "white")])
def test_of_two_colours_too_little_is_left_to_judge(face: Photo, dark: str, light: str) -> None:
    image = ImageOps.colorize(face.convert("L"), dark, light)
    assert refusal(image) == "too little left to judge (two colours are left)"


def test_old_photographs_and_any_light_are_judged(face: Photo) -> None:
    warm = PILImage.fromarray((np.asarray(face) * (1, 0.8, 0.5)).astype(np.uint8))
    sepia = ImageOps.colorize(face.convert("L"), "#2b1400", "#ffdca0")
    for image in (face, warm, sepia, face.convert("L"), ImageEnhance.Color(face).enhance(2.5)):
        assert refusal(image) is None
    assert colourfulness(np.asarray(sepia), INSIDE)["tone"] < MAX_TONE


def test_nothing_is_measured_where_next_to_no_face_is_seen(face: Photo) -> None:
    few = np.zeros_like(INSIDE)
    few[:20, :20] = True
    assert colourfulness(np.asarray(face), few) == {}
    assert colourfulness(np.full((CROP_SIZE, CROP_SIZE, 3), 255, dtype=np.uint8), INSIDE) == {}
