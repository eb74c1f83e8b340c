"""Faces reduced to dots, few levels, blocks or edges are not judged; ordinary copies of a photograph are."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image as PILImage
from PIL import ImageOps

from forgerank.detect.verdict import MAX_REDUCED, unclear, unusable
from forgerank.faces.align import estimate_alignment, five_points
from forgerank.faces.analyze import FaceAnalyzer
from forgerank.faces.quality import CROP_SIZE, light_and_shade
from forgerank.faces.reduction import reduction
from forgerank.faces.regions import face_oval, fill_polygons
from forgerank.types import Face, Quality
from laundering import LAUNDERED, ORDINARY, WEAK, Change, Photo

Portrait = tuple[Photo, Face]
STRENGTHS = [strength for strength in LAUNDERED if strength not in WEAK]
NOT_CALLED_REAL = [  # of `WEAK`, some of whose faces can be judged
    ("halftone, then blurred", "4 px, 45°, 1.5 px"),
    ("pixelated, then JPEG", "24 blocks, 50"),
    ("pixelated, then scaled, JPEG", "24 blocks, 0.75, 75"),
    ("posterised, then blurred", "3 bits, 1.5 px"),
    ("posterised, then blurred, JPEG", "2 bits, 1 px, 75"),
]


def variation(whole: Photo, number: int) -> Photo:
    """Another face of the one that there is: size, form, pose, skin and light change with the number."""
    rng = np.random.default_rng(number)
    image = ImageOps.mirror(whole) if number % 2 else whole
    image = image.rotate(float(rng.uniform(-12, 12)), PILImage.Resampling.BICUBIC)
    side = (300, 360, 420, 480, 600)[number % 5]
    size = round(side * float(rng.uniform(0.9, 1.1))), side
    image = image.resize(size, PILImage.Resampling.LANCZOS)
    pixels = np.asarray(image, np.float64) / 255
    colours = np.eye(3) + rng.uniform(-0.08, 0.08, (3, 3))
    pixels = np.clip(pixels @ colours, 0, 1) ** float(rng.uniform(0.75, 1.4))
    light = np.linspace(1, float(rng.uniform(0.7, 1)), size[0])[None, :, None]
    noise = rng.normal(0, float(rng.uniform(0, 0.005)), pixels.shape)
    return PILImage.fromarray(np.clip(255 * (pixels * light + noise), 0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def portraits(astronaut: np.ndarray) -> list[Portrait]:
    """Twenty faces of 110 to 250 pixels."""
    whole = PILImage.fromarray(np.ascontiguousarray(astronaut[:300, 80:380]))
    analyzer, found = FaceAnalyzer(), []
    for number in range(20):
        image = variation(whole, number)
        [face] = analyzer.analyze(np.asarray(image))
        found.append((image, face))
    return found


def changed_quality(change: Change, portrait: Portrait) -> Quality:
    """That of the face after a change that leaves it in its place."""
    image, face = portrait
    changed = change(image)
    scale = np.array(changed.size, np.float32) / np.array(image.size, np.float32)
    landmarks, pixels = face.landmarks * scale, np.asarray(changed)
    alignment = estimate_alignment(five_points(landmarks), CROP_SIZE)
    outline = fill_polygons([alignment.to_crop(face_oval(landmarks))], (CROP_SIZE, CROP_SIZE))
    inside = outline & alignment.covered(pixels.shape)
    shade = light_and_shade(alignment.crop(pixels), inside)
    return replace(face.quality, **reduction(pixels, landmarks), **shade)


def refusal(change: Change, portrait: Portrait) -> str | None:
    """Why the face is not judged after a change."""
    return unusable(changed_quality(change, portrait))


def check(strength: tuple[str, str], portraits: list[Portrait]) -> None:
    for portrait in portraits:
        reason = refusal(LAUNDERED[strength], portrait)
        assert reason is not None, strength
        assert reason.startswith("too little left to judge"), reason


@pytest.mark.parametrize("number", range(20))
def test_too_little_is_left_to_judge(number: int, portraits: list[Portrait]) -> None:
    """Every kind and strength, of two of the faces each."""
    for place, strength in enumerate(STRENGTHS):
        if (place - number) % 10 == 0:
            check(strength, [portraits[number]])


@pytest.mark.slow
@pytest.mark.parametrize("strength", STRENGTHS, ids=": ".join)
def test_too_little_is_left_of_any_face(strength: tuple[str, str], portraits: list[Portrait]) -> None:
    check(strength, portraits)


@pytest.mark.parametrize("strength", NOT_CALLED_REAL, ids=": ".join)
def test_what_is_hidden_in_some_faces_is_not_called_real(
    strength: tuple[str, str], portraits: list[Portrait]
) -> None:
    qualities = [changed_quality(LAUNDERED[strength], portrait) for portrait in portraits]
    assert all(unusable(quality) or unclear(quality) for quality in qualities)
    assert not all(unusable(quality) for quality in qualities)


@pytest.mark.parametrize("name", ORDINARY)
def test_ordinary_copies_are_judged(name: str, portraits: list[Portrait]) -> None:
    for portrait in portraits[::3]:
        quality = changed_quality(ORDINARY[name], portrait)
        assert unusable(quality) is None
        assert unclear(quality) is None or name in ("halved", "much noise")


def test_traces_that_decide_only_together_have_a_reason_of_their_own(portraits: list[Portrait]) -> None:
    quality = portraits[0][1].quality
    assert unusable(replace(quality, reduced=MAX_REDUCED)) is None
    reason = "too little left to judge (traces of dots, few levels or blocks)"
    assert unusable(replace(quality, reduced=MAX_REDUCED + 0.1)) == reason


def test_it_is_so_on_the_whole_way(portraits: list[Portrait]) -> None:
    """With the face sought anew in the image that is left."""
    image = LAUNDERED["posterised, then JPEG", "2 bits, 75"](portraits[0][0])
    [face] = FaceAnalyzer().analyze(np.asarray(image))
    assert (unusable(face.quality) or "").startswith("too little left to judge")


def torn(image: Photo, shift: int) -> Photo:
    """Every second line of a moment at which what is seen had moved by so many pixels."""
    pixels = np.asarray(image).copy()
    pixels[1::2] = np.roll(pixels, shift, axis=1)[1::2]
    return PILImage.fromarray(pixels)


@pytest.mark.parametrize("shift", [2, -3, 6])
def test_torn_faces_are_not_judged(shift: int, portraits: list[Portrait]) -> None:
    for number, portrait in enumerate(portraits):
        reason = refusal(lambda image: torn(image, shift), portrait)
        assert "torn into lines, as of interlaced video" in (reason or ""), number


def test_a_face_smeared_in_one_direction_is_not_torn(portraits: list[Portrait]) -> None:
    def smeared(image: Photo) -> Photo:
        pixels = np.asarray(image, np.float64)
        moved = [np.roll(pixels, shift, axis=1) for shift in range(7)]
        return PILImage.fromarray(np.mean(moved, axis=0).astype(np.uint8))

    for portrait in portraits[::3]:
        assert changed_quality(smeared, portrait).torn < 1


def test_what_is_left_is_measured_alike_whichever_way_an_image_is_turned(portraits: list[Portrait]) -> None:
    image = np.asarray(LAUNDERED["pixelated, then blurred", "24 blocks, 1.5 px"](portraits[1][0]))
    analyzer = FaceAnalyzer()
    names = ("grain", "noise", "flat", "steps", "blocks", "reduced", "torn")
    measured = []
    for turn in range(4):
        turned = np.ascontiguousarray(np.rot90(image, turn))
        for oriented in (turned, np.ascontiguousarray(turned[:, ::-1])):
            [face] = analyzer.analyze(oriented)
            measured.append([getattr(face.quality, name) for name in names])
    assert np.ptp(measured, axis=0) == pytest.approx(0, abs=1e-6)
