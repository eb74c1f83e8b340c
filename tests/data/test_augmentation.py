import numpy as np
import pytest
from numpy.typing import NDArray

from forgerank.data.augmentation import AugmentConfig, Level, _sampled, degrade, draw_level, to_tensors
from forgerank.data.sample import LabelledImage
from forgerank.faces.align import TEMPLATE, estimate_alignment
from forgerank.types import Image

STILL = AugmentConfig(rotation=0, scale=0, shift=0, flip=0, wild=0, colour=0)
SIDE = 128
COLOURS = ("brightness", "contrast", "saturation")


def make_image(bit: int = 1) -> LabelledImage:
    """Grey noise with a red square that the mask's `bit` marks."""
    image = np.random.default_rng(0).integers(60, 90, size=(SIDE, SIDE, 3), dtype=np.uint8)
    mask = np.zeros((SIDE, SIDE), dtype=np.uint8)
    image[40:80, 20:60] = (250, 0, 0)
    mask[40:80, 20:60] = 1 << bit
    return LabelledImage(image, TEMPLATE * SIDE, (bit + 1,), mask)


def redness(
    image: np.ndarray[tuple[int, ...], np.dtype[np.uint8]],
) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    return image[:, :, 0].astype(int) - image[:, :, 1] > 100


def test_the_same_seed_gives_the_same_tensors_and_another_does_not() -> None:
    augment = AugmentConfig(wild=0.8)
    first, second, other = (
        to_tensors(
            make_image(), size=64, length=5, mask_size=8, augment=augment, rng=np.random.default_rng(seed)
        )
        for seed in (7, 7, 8)
    )
    assert np.array_equal(first.image, second.image)
    assert first.masks is not None
    assert second.masks is not None
    assert np.array_equal(first.masks, second.masks)
    assert not np.array_equal(first.image, other.image)


@pytest.mark.parametrize("bend", [{}, {"stretch": 0.15, "warp": 0.1}])
@pytest.mark.parametrize("seed", range(12))
def test_masks_follow_the_pixels(seed: int, bend: dict[str, float]) -> None:
    chance = {"rotation": 20, "scale": 0.2, "shift": 0.1, "flip": 0.5, "wild": 0.7, "blur": 0.5, "noise": 2}
    augment = AugmentConfig.model_validate(chance | bend)
    tensors = to_tensors(
        make_image(2), size=96, length=5, mask_size=48, augment=augment, rng=np.random.default_rng(seed)
    )
    assert tensors.masks is not None
    marked = tensors.masks[2].repeat(2, axis=0).repeat(2, axis=1) > 0.5
    seen = redness(tensors.image)
    assert (marked & seen).sum() / (marked | seen).sum() > 0.9
    assert tensors.masks[[0, 1, 3, 4]].max() == 0


def test_nothing_changes_without_chance() -> None:
    image = make_image()
    plain = to_tensors(image, size=64, length=5, mask_size=8)
    still = to_tensors(image, size=64, length=5, mask_size=8, augment=STILL, rng=np.random.default_rng(0))
    # Another library samples the crops of training: several times as fast, and equal up to rounding.
    assert np.abs(plain.image.astype(int) - still.image).max() <= 1
    assert plain.masks is not None
    assert still.masks is not None
    assert np.array_equal(plain.masks, still.masks)


def test_flip_mirrors_image_and_masks() -> None:
    plain, flipped = (
        to_tensors(
            make_image(),
            size=64,
            length=5,
            mask_size=8,
            augment=STILL.model_copy(update={"flip": flip}),
            rng=np.random.default_rng(0),
        )
        for flip in (0.0, 1.0)
    )
    assert np.array_equal(flipped.image, plain.image[:, ::-1])
    assert plain.masks is not None
    assert flipped.masks is not None
    assert np.array_equal(flipped.masks, plain.masks[:, :, ::-1])


def test_mask_cells_hold_the_edited_share() -> None:
    tensors = to_tensors(make_image(0), size=SIDE, length=5, mask_size=16)
    assert tensors.masks is not None
    # 40 x 40 of 128 x 128 pixels; the alignment of the template itself is the identity.
    assert tensors.masks[0].mean() == pytest.approx(40 * 40 / SIDE**2, abs=0.01)
    assert tensors.masks[0, 6, 4] == 1
    assert tensors.masks[0, 6, 2] == pytest.approx(0.5)


def test_a_manipulated_image_needs_a_mask_and_an_original_does_not() -> None:
    image = make_image()._replace(mask=None)
    with pytest.raises(ValueError, match="mask of every manipulated image"):
        to_tensors(image, size=64, length=5, mask_size=8)
    original = to_tensors(image._replace(sequence=()), size=64, length=5, mask_size=8)
    assert original.masks is not None
    assert original.masks.shape == (5, 8, 8)
    assert original.masks.max() == 0
    assert to_tensors(image, size=64, length=5).masks is None


@pytest.mark.parametrize("webp", [0.0, 1.0])
def test_degrading_reports_how_the_image_grew(webp: float) -> None:
    augment = AugmentConfig(wild=1, resize=(0.6, 0.6), quality=(60, 60), webp=webp)
    image, factors = degrade(make_image().image, augment, np.random.default_rng(0))
    assert image.shape == (77, 77, 3)
    assert factors == (77 / 128, 77 / 128)


def test_colour_changes_keep_the_neutral_direction() -> None:
    grey = LabelledImage(np.full((64, 64, 3), 120, dtype=np.uint8), TEMPLATE * 64, (), None)
    augment = STILL.model_copy(update={"colour": 0.3})
    tensors = to_tensors(grey, size=32, length=5, augment=augment, rng=np.random.default_rng(3))
    inner = tensors.image[4:-4, 4:-4].astype(int)
    assert np.ptp(inner.reshape(-1, 3), axis=1).max() <= 1
    assert abs(int(inner.mean()) - 120) > 1


def test_warp_bends_the_inside_and_leaves_the_border() -> None:
    rows, columns = np.mgrid[0:SIDE, 0:SIDE]
    ramp = np.stack([columns * 2, rows * 2, np.full_like(rows, 50)], axis=-1).astype(np.uint8)
    image = LabelledImage(ramp, TEMPLATE * SIDE, (), None)  # its colour tells where a pixel came from
    augment = STILL.model_copy(update={"warp": 0.1})
    bent = to_tensors(image, size=SIDE, length=5, augment=augment, rng=np.random.default_rng(4)).image
    moved = np.abs(bent[:, :, :2].astype(float) - ramp[:, :, :2]).max(axis=2) / 2  # pixels
    assert moved[[1, -2]].max() <= 1
    assert moved[:, [1, -2]].max() <= 1
    assert 0.05 * SIDE < moved.max() <= 0.1 * SIDE + 1
    # continuous: a piecewise bilinear map does not jump from cell to cell
    inner = bent[8:-8, 8:-8, :2].astype(int)
    assert max(np.abs(np.diff(inner, axis=axis)).max() for axis in (0, 1)) <= 8


def test_stretch_changes_the_proportions() -> None:
    augment = STILL.model_copy(update={"stretch": 0.2})
    spans = []
    for seed in range(8):
        tensors = to_tensors(
            make_image(), size=SIDE, length=5, augment=augment, rng=np.random.default_rng(seed)
        )
        seen = redness(tensors.image)
        spans.append(seen.any(axis=0).sum() / seen.any(axis=1).sum())
    assert min(spans) < 0.95
    assert max(spans) > 1.05


def test_ranges_of_factors_are_those_of_the_settings() -> None:
    """SeqFakeFormer's are not symmetric about 1."""
    grey = LabelledImage(np.full((64, 64, 3), 120, dtype=np.uint8), TEMPLATE * 64, (), None)
    augment = STILL.model_copy(update={"brightness": (0.5, 1.3), "contrast": (0.8, 1.5)})
    rng = np.random.default_rng(0)
    # Inside the image; what lies beyond its border is black.
    levels = [
        float(to_tensors(grey, size=64, length=5, augment=augment, rng=rng).image[40, 32, 0])
        for _ in range(200)
    ]
    assert 58 < min(levels) < 75
    assert 140 < max(levels) < 165
    with pytest.raises(ValueError, match="a lowest and a highest factor"):
        AugmentConfig(saturation=(1.5, 0.2))


def test_without_ranges_older_runs_draw_the_same() -> None:
    plain, ranged = (
        to_tensors(make_image(), size=64, length=5, augment=augment, rng=np.random.default_rng(1)).image
        for augment in (
            AugmentConfig(colour=0.2),
            AugmentConfig(colour=0.9, **dict.fromkeys(COLOURS, (0.8, 1.2))),
        )
    )
    assert np.array_equal(plain, ranged)


@pytest.mark.parametrize("augment", [None, STILL])
def test_without_alignment_the_whole_image_is_resized(augment: AugmentConfig | None) -> None:
    image = np.zeros((60, 120, 3), dtype=np.uint8)
    image[:30, :60] = 200  # the upper left quarter
    mask = (image[:, :, 0] > 0).astype(np.uint8)
    points = TEMPLATE * 60
    for labelled, align in (
        (LabelledImage(image, points, (1,), mask), False),
        (LabelledImage(image, None, (1,), mask), True),  # no face was found
    ):
        rng = np.random.default_rng(0)
        tensors = to_tensors(labelled, size=32, length=5, mask_size=8, augment=augment, rng=rng, align=align)
        assert tensors.image.shape == (32, 32, 3)
        lit = tensors.image[:, :, 0] > 100
        assert lit[:15, :15].all()
        assert not lit[17:].any()
        assert not lit[:, 17:].any()
        assert tensors.masks is not None
        assert (tensors.masks[0] > 0.5).sum() == 16
        assert (tensors.masks[0][:4, :4] == 1).all()


def test_an_image_of_the_input_s_size_is_not_resampled() -> None:
    image = make_image()
    assert np.array_equal(to_tensors(image, size=SIDE, length=5, align=False).image, image.image)


def test_light_is_uneven_smooth_and_grey_and_tint_is_even_and_coloured() -> None:
    grey = LabelledImage(np.full((64, 64, 3), 120, dtype=np.uint8), TEMPLATE * 64, (), None)

    def inner(**chance: float) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
        augment = STILL.model_copy(update=chance)
        crop = to_tensors(grey, size=64, length=5, augment=augment, rng=np.random.default_rng(3)).image
        return crop[4:-4, 4:-4].astype(int)

    light, tint = inner(light=0.3), inner(tint=0.3)
    assert np.ptp(light, axis=(0, 1)).min() > 10
    assert max(np.abs(np.diff(light, axis=axis)).max() for axis in (0, 1)) <= 6
    assert np.ptp(light, axis=2).max() == 0
    assert np.ptp(tint, axis=(0, 1)).max() == 0
    assert np.ptp(tint, axis=2).max() > 10


@pytest.mark.parametrize("eyes", [(120.0, 40.0), (60.0, 60.0), (20.0, 90.0)])
def test_a_level_is_one_for_both_of_a_pair(eyes: tuple[float, float]) -> None:
    augment, limit = AugmentConfig(webp=0.5, quality=(50, 90)), min(eyes)
    drawn = []
    for seed in range(60):
        one, other = (draw_level(*pair, augment, np.random.default_rng(seed)) for pair in (eyes, eyes[::-1]))
        assert one[1:] == other[1:]
        target = one.factor * eyes[0]
        assert other.factor * eyes[1] == pytest.approx(target)
        # Never enlarged, nor to less than half or, where there is that much, 28 pixels.
        assert min(limit, max(limit / 2, 28.0)) * 0.999 <= target <= limit * 1.001
        assert 50 <= one.quality <= 90
        drawn.append(one)
    assert {level.webp for level in drawn} == {False, True}
    assert len({level.filter for level in drawn}) == 3


@pytest.mark.parametrize("webp", [False, True])
def test_a_level_comes_before_everything_else(webp: bool) -> None:
    level = Level(0.5, 0, 60, webp)
    image = make_image().image
    first, factors = degrade(image, STILL, np.random.default_rng(0), level)
    second, _ = degrade(image, STILL, np.random.default_rng(1), level)
    assert first.shape == (64, 64, 3)
    assert factors == (0.5, 0.5)
    assert np.array_equal(first, second)
    assert not np.array_equal(
        first, degrade(image, STILL, np.random.default_rng(0), level._replace(quality=90))[0]
    )
    tensors = [
        to_tensors(
            make_image(),
            size=64,
            length=5,
            mask_size=16,
            augment=STILL,
            rng=np.random.default_rng(0),
            level=some,
        )
        for some in (None, level)
    ]
    assert tensors[0].masks is not None
    assert np.array_equal(tensors[0].masks, tensors[1].masks)  # the face stays where it was


@pytest.mark.parametrize("face", [60.0, 150.0, 420.0])
def test_crops_of_training_are_those_of_inference(face: float) -> None:
    """At every scale, to a fraction of a pixel, whichever kernel is drawn."""
    rows, columns = np.mgrid[:500, :500] / face
    waves = np.stack([np.sin(9 * columns), np.cos(7 * rows), np.sin(5 * (rows + columns))], axis=-1)
    image = (127 + 100 * waves).astype(np.uint8)
    angle = 0.3
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = ((TEMPLATE - 0.5) * face @ turn.T + 250).astype(np.float32)
    alignment = estimate_alignment(points, 96)
    for seed in range(3):
        crop = _sampled(image, alignment, np.random.default_rng(seed)).astype(int)
        difference = np.abs(crop - alignment.crop(image))[4:-4, 4:-4]
        assert difference.mean() < 1.0


@pytest.mark.parametrize("toned", [0.0, 1.0])
def test_without_its_colours_a_crop_runs_along_one_line(toned: float) -> None:
    """From black to white, or from one colour to another."""
    image = make_image()
    augment = STILL.model_copy(update={"grey": 1.0, "toned": toned, "tint": 0.3})
    crop = to_tensors(image, size=SIDE, length=5, augment=augment, rng=np.random.default_rng(1)).image
    pixels = crop[8:-8, 8:-8].reshape(-1, 3).astype(float)
    apart = np.linalg.svd(pixels - pixels.mean(axis=0), compute_uv=False) / np.sqrt(len(pixels))
    assert apart[1] < 0.5 < 5 < apart[0]  # grey levels, rounded
    assert (np.ptp(pixels, axis=1).max() == 0) == (toned == 0)


def test_so_many_crops_lose_their_colours() -> None:
    augment, rng = STILL.model_copy(update={"grey": 0.3, "toned": 0.0}), np.random.default_rng(0)
    crops = [to_tensors(make_image(), size=32, length=5, augment=augment, rng=rng).image for _ in range(300)]
    assert 60 < sum(int(np.ptp(crop, axis=2).max() == 0) for crop in crops) < 120


def test_a_film_s_grain_is_grey_and_its_neighbours_are_alike_and_sharpening_raises_edges() -> None:
    quality = {"quality": (100, 100), "webp": 0, "resize": (1, 1)}
    still = STILL.model_copy(update={"wild": 1.0, "blur": 0, "noise": 0} | quality)
    flat, image = np.full((256, 256, 3), 120, dtype=np.uint8), make_image().image
    deviations = []
    for seed in range(20):

        def changed(image: Image, seed: int = seed, **chance: float) -> NDArray[np.int64]:
            augment = still.model_copy(update=chance)
            return degrade(image, augment, np.random.default_rng(seed))[0].astype(int)

        grain = changed(flat, film=12) - 120
        deviations.append(grain.std())
        assert np.abs(grain - grain[..., :1]).max() <= 1
        if deviations[-1] > 2:
            assert np.corrcoef(grain[:, 1:, 0].ravel(), grain[:, :-1, 0].ravel())[0, 1] > 0.05
        assert np.diff(changed(image, sharpen=2), axis=1).std() > np.diff(changed(image), axis=1).std()
        assert np.array_equal(changed(image), changed(image, film=0, sharpen=0))
    assert min(deviations) < 3
    assert 9 < max(deviations) < 12.5
