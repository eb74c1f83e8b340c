"""The edits: small pure functions `(photo, component, rng, donor) -> Edit`.

Each changes one component of a face, or the whole face, and reports where (a mask) and with which numbers.
To add one: write the function, name it in `EDITS` with its weight per component, test it.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from forgerank.faces.align import similarity
from forgerank.forge import faces
from forgerank.forge.blend import (
    Alpha,
    Softness,
    Window,
    draw_softness,
    fill,
    match_colour,
    mix,
    paste,
    region_alpha,
    region_polygons,
    window,
)
from forgerank.forge.photos import Photo
from forgerank.types import Image, Points


class Edit(NamedTuple):
    """What an edit did."""

    image: Image  # (H, W, 3)
    mask: NDArray[np.bool_]  # (H, W) where the component was manipulated
    parameters: dict[str, Any]  # plain JSON values


# How far liquify pushes along x and y, relative to its amount.
STRETCH = {
    "nose": (1.0, 0.25),
    "eye": (1.0, 1.0),
    "eyebrow": (0.2, 0.8),
    "lip": (0.5, 1.0),
    "hair": (1.0, 1.0),
}

EditFunction = Callable[[Photo, str, np.random.Generator, Photo], Edit]


def _finish(edited: Image, alpha: Alpha, **parameters: Any) -> Edit:
    rounded = {k: round(float(v), 3) if isinstance(v, float) else v for k, v in parameters.items()}
    return Edit(edited, alpha > 0.25, rounded)


def swap(photo: Photo, component: str, rng: np.random.Generator, donor: Photo) -> Edit:
    """Another person's component, aligned by landmarks, colour-matched and blended."""
    softness = draw_softness(photo, component, rng)
    strength = float(rng.uniform(0.6, 1.0))
    opacity = float(rng.uniform(0.55, 0.9)) if rng.random() < 0.2 else 1.0
    poisson = bool(component != "hair" and rng.random() < 0.35)
    whole = bool(component == "hair" and rng.random() < 0.4)
    outline = "face" if component == "hair" else component
    edited, alpha = photo.image.copy(), np.zeros(photo.shape, np.float32)
    for source, target in zip(
        region_polygons(donor.landmarks, outline), region_polygons(photo.landmarks, outline), strict=True
    ):
        matrix = similarity(source, target)
        if component == "hair":
            part = _hair_alpha(
                photo,
                _warp(donor.hair, matrix, (slice(0, photo.shape[0]), slice(0, photo.shape[1]))),
                whole,
                softness,
            )
        else:
            part = softness.alpha(fill([target], photo.shape))
        box = window(part)
        other = match_colour(_warp(donor.image, matrix, box), edited[box], part[box], strength)
        edited[box] = paste(edited[box], other, part[box] * np.float32(opacity), poisson=poisson)
        alpha = np.maximum(alpha, part)
    return _finish(edited, alpha, colour_match=strength, opacity=opacity, poisson=poisson, whole_hair=whole)


def _hair_alpha(photo: Photo, donor_hair: NDArray[np.uint8], whole: bool, softness: Softness) -> Alpha:
    """Where both have hair, or the donor's whole hair, which may fall over the forehead but no deeper."""
    oval = region_polygons(photo.landmarks, "face")[0]
    inner = oval.mean(0) + (oval - oval.mean(0)) * np.array([0.86, 0.9], np.float32)
    hair = np.maximum(photo.hair, donor_hair) if whole else np.minimum(photo.hair, donor_hair)
    return softness.alpha(np.where(fill([inner], photo.shape) > 0, np.uint8(0), hair))


def _warp(image: NDArray[np.uint8], matrix: NDArray[np.float64], box: Window) -> NDArray[np.uint8]:
    """The window `box` of the warped picture."""
    shifted = matrix - np.array([[0, 0, box[1].start], [0, 0, box[0].start]])
    size = (box[1].stop - box[1].start, box[0].stop - box[0].start)
    return np.asarray(
        cv2.warpAffine(image, shifted, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
    )


def liquify(photo: Photo, component: str, rng: np.random.Generator, donor: Photo) -> Edit:
    """The person's own pixels pushed: larger eyes, another nose, plumper lips, raised brows, fuller hair."""
    amount = float(rng.uniform(0.1, 0.32) * rng.choice([-1, 1]))
    lift = float(rng.uniform(-0.12, 0.12)) * photo.eye_distance if component == "eyebrow" else 0.0
    stretch_x, stretch_y = STRETCH[component]
    shift = np.zeros((2, *photo.shape), np.float32)
    for polygon in region_polygons(photo.landmarks, "face" if component == "hair" else component):
        centre, half = polygon.mean(0), np.ptp(polygon, axis=0) / 2 + 0.08 * photo.eye_distance
        reach = half * np.array([2.2, 2.4] if component == "hair" else [1.5, 1.5], np.float32)
        box = _clip_box(centre - reach, centre + reach, photo.shape)
        rows, columns = np.ogrid[box]
        dx, dy = columns - centre[0], rows - centre[1]
        falloff = np.clip(1 - (dx / reach[0]) ** 2 - (dy / reach[1]) ** 2, 0, 1) ** 2
        shift[0][box] -= falloff * dx * amount * stretch_x
        shift[1][box] -= falloff * (dy * amount * stretch_y - lift)
    if component == "hair":
        shift *= region_alpha(photo, "hair", draw_softness(photo, "hair", rng))
    moved = np.hypot(*shift)
    alpha = np.clip(moved / max(0.6, 0.35 * float(moved.max())), 0, 1).astype(np.float32)
    box = window(alpha)
    rows, columns = np.mgrid[box].astype(np.float32)
    edited = photo.image.copy()
    edited[box] = cv2.remap(
        photo.image,
        columns + shift[0][box],
        rows + shift[1][box],
        cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return _finish(edited, alpha, amount=amount, lift=lift)


def _clip_box(low: Points, high: Points, shape: tuple[int, int]) -> Window:
    (left, top), (right, bottom) = np.floor(low).astype(int), np.ceil(high).astype(int)
    return (
        slice(int(np.clip(top, 0, shape[0])), int(np.clip(bottom, 0, shape[0]))),
        slice(int(np.clip(left, 0, shape[1])), int(np.clip(right, 0, shape[1]))),
    )


def recolour(photo: Photo, component: str, rng: np.random.Generator, donor: Photo) -> Edit:
    """Lightness, saturation and hue of the region changed: dyed hair, lipstick, darker brows."""
    alpha = region_alpha(photo, component, draw_softness(photo, component, rng))
    box = window(alpha)
    lightness = float(rng.uniform(4, 18) * rng.choice([-1, 1]))
    turn = rng.uniform(0, 2 * np.pi)
    chroma = float(rng.uniform(3, 13))
    gain = float(rng.uniform(0.85, 1.25))
    lab = cv2.cvtColor(photo.image[box], cv2.COLOR_RGB2LAB).astype(np.float32)
    lab[..., 0] = (lab[..., 0] - 128) * gain + 128 + lightness
    lab[..., 1] += chroma * np.cos(turn)
    lab[..., 2] += chroma * np.sin(turn)
    tinted = cv2.cvtColor(np.clip(lab, 0, 255).astype(np.uint8), cv2.COLOR_LAB2RGB)
    return _local(photo, np.asarray(tinted), alpha, box, lightness=lightness, chroma=chroma, gain=gain)


def smooth(photo: Photo, component: str, rng: np.random.Generator, donor: Photo) -> Edit:
    """Retouched skin or hair: an edge-keeping or plain blur."""
    alpha = region_alpha(photo, component, draw_softness(photo, component, rng))
    box = window(alpha)
    sigma = float(rng.uniform(1.2, 3.5))
    bilateral = bool(rng.random() < 0.5)
    part = photo.image[box]
    blurred = (
        cv2.bilateralFilter(part, -1, float(rng.uniform(25, 60)), sigma * 1.5)
        if bilateral
        else cv2.GaussianBlur(part, (0, 0), sigma)
    )
    return _local(photo, np.asarray(blurred), alpha, box, sigma=sigma, bilateral=bilateral)


def sharpen(photo: Photo, component: str, rng: np.random.Generator, donor: Photo) -> Edit:
    """Unsharp mask: clearer eyes, crisper lashes."""
    alpha = region_alpha(photo, component, draw_softness(photo, component, rng))
    box = window(alpha)
    amount, sigma = float(rng.uniform(0.8, 2.5)), float(rng.uniform(0.8, 2.0))
    part = photo.image[box]
    crisp = cv2.addWeighted(part, 1 + amount, cv2.GaussianBlur(part, (0, 0), sigma), -amount, 0)
    return _local(photo, np.asarray(crisp), alpha, box, amount=amount, sigma=sigma)


def renoise(photo: Photo, component: str, rng: np.random.Generator, donor: Photo) -> Edit:
    """Own grain removed and other grain added, as generators and retouchers leave it."""
    alpha = region_alpha(photo, component, draw_softness(photo, component, rng))
    box = window(alpha)
    sigma, size = float(rng.uniform(4, 12)), float(rng.uniform(0.0, 1.2))
    part = cv2.GaussianBlur(photo.image[box], (0, 0), 1.0).astype(np.float32)
    grain = rng.normal(0, 1, (*part.shape[:2], 1 if rng.random() < 0.5 else 3)).astype(np.float32)
    if size > 0.3:
        grain = np.asarray(cv2.GaussianBlur(grain, (0, 0), size), np.float32).reshape(*part.shape[:2], -1)
    grain *= np.float32(sigma / (float(grain.std()) + 1e-6))
    noisy = np.clip(part + grain, 0, 255).astype(np.uint8)
    return _local(photo, noisy, alpha, box, sigma=sigma, grain_size=size)


def resample(photo: Photo, component: str, rng: np.random.Generator, donor: Photo) -> Edit:
    """The region taken through a small size and back: the mark of a low-resolution generator."""
    alpha = region_alpha(photo, component, draw_softness(photo, component, rng))
    box = window(alpha)
    scale = float(rng.uniform(0.25, 0.55))
    part = photo.image[box]
    height, width = part.shape[:2]
    small = cv2.resize(
        part, (max(2, round(width * scale)), max(2, round(height * scale))), interpolation=cv2.INTER_AREA
    )
    back = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
    return _local(photo, np.asarray(back), alpha, box, scale=scale)


def inpaint(photo: Photo, component: str, rng: np.random.Generator, donor: Photo) -> Edit:
    """Parts of the region erased and filled from around (Telea 2004): thinned brows, removed marks."""
    alpha = region_alpha(photo, component, draw_softness(photo, component, rng))
    box = window(alpha)
    part, weight = photo.image[box], alpha[box]
    holes = np.zeros(part.shape[:2], np.uint8)
    inside = np.argwhere(weight > 0.6)
    count = int(rng.integers(2, 6))
    for row, column in inside[rng.integers(len(inside), size=count)] if len(inside) else []:
        axes = np.maximum(2, rng.uniform(0.05, 0.14, 2) * photo.eye_distance).astype(int)
        cv2.ellipse(
            holes, (int(column), int(row)), tuple(map(int, axes)), float(rng.uniform(0, 180)), 0, 360, 255, -1
        )
    filled = np.asarray(cv2.inpaint(part, holes, 3, cv2.INPAINT_TELEA), dtype=np.uint8)
    soft = cv2.GaussianBlur(holes.astype(np.float32) / 255, (0, 0), 1.0) * np.minimum(1, weight * 1.5)
    where = np.zeros_like(alpha)
    where[box] = soft
    return _local(photo, filled, where, box, holes=count)


def _local(photo: Photo, part: Image, alpha: Alpha, box: Window, **parameters: Any) -> Edit:
    edited = photo.image.copy()
    edited[box] = mix(photo.image[box], part, alpha[box])
    return _finish(edited, alpha, **parameters)


def face_swap(photo: Photo, component: str, rng: np.random.Generator, donor: Photo) -> Edit:
    """A whole-face forgery: the donor's face in the target's head."""
    forgery = faces.face_swap(photo, rng, donor)
    return _finish(forgery.image, forgery.alpha, **forgery.parameters)


def self_blend(photo: Photo, component: str, rng: np.random.Generator, donor: Photo) -> Edit:
    """A whole-face forgery: the photograph blended with a slightly changed copy of itself."""
    forgery = faces.self_blend(photo, rng, donor)
    return _finish(forgery.image, forgery.alpha, **forgery.parameters)


# Weight of every edit per component: swaps carry most, and what makes no sense for a component is absent.
_OWN: dict[EditFunction, float] = {
    liquify: 1.6, recolour: 1.0, smooth: 0.7, sharpen: 0.6, renoise: 0.6, resample: 0.8, inpaint: 0.7,
}  # fmt: skip
EDITS: Mapping[str, Mapping[EditFunction, float]] = {
    "nose": {swap: 5.0, **_OWN},
    "eye": {swap: 5.0, **_OWN},
    "eyebrow": {swap: 5.0, **_OWN},
    "lip": {swap: 5.0, **_OWN},
    "hair": {swap: 3.0, **_OWN, recolour: 2.5},
    "face": {face_swap: 1.0, self_blend: 1.0},
}
DONATED = (swap.__name__, face_swap.__name__)  # the edits that use the donor
