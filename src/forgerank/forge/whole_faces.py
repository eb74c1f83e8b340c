"""Whole-face forgeries: functions `(photo, rng, donor) -> Forgery`, and which components each one covers.

All work inside the window of the face: a crop of 300 pixels takes a few milliseconds on one core.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from forgerank.forge.blend import Alpha, Window, match_colour, membrane, mix
from forgerank.forge.face_masks import HULLS, FaceMask, component_alpha, covered, draw_mask
from forgerank.forge.filters import apply_tables, disturb, lose_resolution, pick, unsharp_mask
from forgerank.forge.photos import Photo
from forgerank.forge.warps import correspondence, sample_donor, warp
from forgerank.labels import COMPONENTS, Parts
from forgerank.types import Image

SWAP_HULLS: Mapping[str, float] = {**HULLS, "lower": 0.3, "forehead": 0.25}
RESYNTHESIS_HULLS: Mapping[str, float] = {
    "inner": 1.5,
    "oval": 1.0,
    "browless": 0.7,
    "whole": 0.5,
    "lower": 0.3,
}
RATIOS = (0.25, 0.5, 0.75, 1.0, 1.0, 1.0)  # opacity of a self-blend, as published
LOW_SIZES = (64, 80, 96, 112, 128, 160, 192, 224, 256)  # pixels, sides of the crops that swap tools make
LOW_REACH = 3.2  # side of such a crop, eye distances
MINIMUM_CHANGE = 1.5  # grey levels, mean over the mask: a forgery that changes less is drawn again
_TRIES = 3


class Forgery(NamedTuple):
    """An image with another face in it."""

    image: Image  # (H, W, 3)
    alpha: Alpha  # (H, W) 0 untouched .. 1 replaced, before any transparency of the whole
    parameters: dict[str, Any]  # plain JSON values


class Reconstruction(NamedTuple):
    """A network's rendering of the aligned crop of a face."""

    image: Image  # (S, S, 3)
    matrix: NDArray[np.float64]  # (2, 3) image -> crop, pixel centres at integer + 0.5, as in Alignment


class WholeFace(NamedTuple):
    """A whole-face forgery and what is known about its components."""

    image: Image  # (H, W, 3)
    mask_bits: NDArray[np.uint8]  # (H, W) bit i set where component i of COMPONENTS was replaced
    parts: Parts  # per component 1 replaced, 0 untouched, None unknown
    kind: str  # the method: a name of FORGERIES or RECONSTRUCTED
    parameters: dict[str, Any]  # plain JSON values


def whole_face(
    photo: Photo,
    rng: np.random.Generator,
    donor: Photo,
    kinds: Mapping[str, float],
    reconstruction: Callable[[], Reconstruction] | None = None,
) -> WholeFace:
    """Forge a face by a method drawn from `kinds` (names of FORGERIES and RECONSTRUCTED with weights).

    reconstruction: makes a network's rendering of the photograph; called only when the drawn method needs it.
    Without it such methods are not drawn. Raises ValueError where no method is left.
    """
    possible = {name: weight for name, weight in kinds.items() if name in FORGERIES or reconstruction}
    kind = pick(rng, possible)
    if kind in RECONSTRUCTED and reconstruction is not None:
        forgery = RECONSTRUCTED[kind](photo, rng, reconstruction())
    else:
        forgery = FORGERIES[kind](photo, rng, donor)
        for _ in range(_TRIES - 1):
            if _mean_change(photo.image, forgery) >= MINIMUM_CHANGE:
                break
            forgery = FORGERIES[kind](photo, rng, donor)
    if kind == regenerated.__name__:
        unknown: Parts = (None,) * len(COMPONENTS)
        bits = np.zeros(photo.shape, np.uint8)
        return WholeFace(forgery.image, bits, unknown, kind, forgery.parameters)
    bits, parts = covered(photo, forgery.alpha)
    return WholeFace(forgery.image, bits, parts, kind, forgery.parameters)


def self_blend(photo: Photo, rng: np.random.Generator, donor: Photo) -> Forgery:
    """The photograph blended with a slightly moved and changed copy of itself inside a face-shaped mask.

    From the published description of self-blended images (Shiohara and Yamasaki, CVPR 2022): colour and
    sharpness of the copy or of the photograph change, the copy is resized and moved a little.
    """
    mask = draw_mask(photo, rng, HULLS)
    copied = bool(rng.random() < 0.5)
    changed, changes = disturb(photo.image, rng)
    target, source = (photo.image, changed) if copied else (changed, photo.image)
    unit = photo.eye_distance
    scale, angle = float(rng.uniform(0.95, 1.05)), float(rng.uniform(-1.5, 1.5))
    move = rng.uniform(-0.08, 0.08, 2) * unit
    centre = photo.landmarks[1]
    matrix = np.array(cv2.getRotationMatrix2D((float(centre[0]), float(centre[1])), angle, scale), np.float64)
    matrix[:, 2] += move
    moved = warp(source, matrix, mask.box)
    ratio = float(rng.choice(RATIOS))
    return _pasted(
        target,
        moved,
        mask,
        opacity=ratio,
        changed="copy" if copied else "photograph",
        scale=scale,
        angle=angle,
        **changes,
    )


def face_swap(photo: Photo, rng: np.random.Generator, donor: Photo) -> Forgery:
    """Another person's face in the target's head, warped by landmarks, colour-matched and blended."""
    kind = pick(rng, {"similarity": 0.3, "affine": 0.2, "mesh": 0.5})
    to_donor, placed = correspondence(photo, donor, kind)
    mask = draw_mask(photo, rng, SWAP_HULLS, donor_outline=placed)
    kept = [name for name in ("lip", "eye") if rng.random() < 0.08]
    alpha = mask.alpha
    for name in kept:
        alpha = alpha * (1 - component_alpha(photo, name, mask.box, float(rng.uniform(0.07, 0.15))))
    mask = mask._replace(alpha=alpha)
    other = sample_donor(donor, to_donor(mask.box), photo)
    low = 0
    if rng.random() < 0.6:
        low = int(rng.choice(LOW_SIZES))
        other = lose_resolution(other, low / (LOW_REACH * photo.eye_distance), rng)
    strength = float(rng.uniform(0.5, 1.0)) if rng.random() < 0.85 else 0.0
    target = photo.image[mask.box]
    other = match_colour(other, target, mask.alpha, strength, step=3)
    if rng.random() < 0.2:
        other = unsharp_mask(other, float(rng.uniform(0.3, 1.0)))
    poisson = bool(rng.random() < 0.3)
    if poisson:
        other = membrane(other, target, mask.alpha)
    return _pasted(
        photo.image, other, mask, warp=kind, kept=kept, low=low, colour_match=strength, poisson=poisson
    )


def resynthesis_plain(photo: Photo, rng: np.random.Generator, donor: Photo) -> Forgery:
    """The person's own inner face at a lower resolution, as a generator of that resolution leaves it."""
    mask = draw_mask(photo, rng, RESYNTHESIS_HULLS, shrink=True)
    scale = float(rng.uniform(0.33, 0.75))
    part = lose_resolution(photo.image[mask.box], scale, rng)
    finish = pick(rng, {"none": 0.5, "blur": 0.2, "sharpen": 0.3})
    if finish == "blur":
        part = np.asarray(cv2.GaussianBlur(part, (0, 0), float(rng.uniform(0.4, 1.2))))
    elif finish == "sharpen":
        part = unsharp_mask(part, float(rng.uniform(0.3, 1.2)))
    shift = rng.uniform(-6, 6, 3)
    part = apply_tables(part, *(np.arange(256) + value for value in shift))
    return _pasted(photo.image, part, mask, scale=scale, finish=finish)


def resynthesis(photo: Photo, rng: np.random.Generator, reconstruction: Reconstruction) -> Forgery:
    """The inner face as a network renders it, pasted back; in some cases with the original's fine detail."""
    mask = draw_mask(photo, rng, RESYNTHESIS_HULLS, shrink=True)
    part, inside = _rendered(reconstruction, mask.box)
    mask = mask._replace(alpha=mask.alpha * inside)
    target = photo.image[mask.box]
    strength = float(rng.uniform(0.3, 1.0)) if rng.random() < 0.5 else 0.0
    part = match_colour(part, target, mask.alpha, strength, step=3)
    detail = float(rng.uniform(0.3, 0.8)) if rng.random() < 0.35 else 0.0
    if detail:
        # High band of the original at the network's own scale: what a restoring network would add.
        sigma = float(rng.uniform(0.02, 0.06)) * photo.eye_distance + 0.5
        low = cv2.GaussianBlur(target, (0, 0), sigma)
        band = cv2.addWeighted(target, detail, low, -detail, 128)
        part = np.asarray(cv2.addWeighted(part, 1, band, 1, -128))
    sharp = float(rng.uniform(0.3, 1.5)) if rng.random() < 0.3 else 0.0
    if sharp:
        part = unsharp_mask(part, sharp)
    poisson = bool(rng.random() < 0.2)
    if poisson:
        part = membrane(part, target, mask.alpha)
    return _pasted(
        photo.image, part, mask, colour_match=strength, detail=detail, sharpen=sharp, poisson=poisson
    )


def regenerated(photo: Photo, rng: np.random.Generator, reconstruction: Reconstruction) -> Forgery:
    """The whole crop as a network renders it: a generated face, without a pasted part.

    Beyond the crop the image loses resolution to the same degree, so that the crop's border does not show.
    """
    height, width = photo.shape
    box = (slice(0, height), slice(0, width))
    part, inside = _rendered(reconstruction, box)
    around = lose_resolution(
        photo.image, float(np.sqrt(abs(np.linalg.det(reconstruction.matrix[:, :2])))) * 0.6, rng
    )
    return Forgery(mix(around, part, inside), inside, {"size": len(reconstruction.image)})


FORGERIES: Mapping[str, Callable[[Photo, np.random.Generator, Photo], Forgery]] = {
    function.__name__: function for function in (self_blend, face_swap, resynthesis_plain)
}
RECONSTRUCTED: Mapping[str, Callable[[Photo, np.random.Generator, Reconstruction], Forgery]] = {
    function.__name__: function for function in (resynthesis, regenerated)
}


def _rendered(reconstruction: Reconstruction, box: Window) -> tuple[Image, Alpha]:
    """A reconstruction warped to a window of the image (h, w, 3), and its opacity (h, w): 1 inside the crop,
    falling to 0 at the crop's border.
    """
    size = (box[1].stop - box[1].start, box[0].stop - box[0].start)
    matrix = np.array(reconstruction.matrix, np.float64)
    # OpenCV's pixel centres lie at whole numbers.
    matrix[:, 2] += matrix[:, :2] @ (box[1].start + 0.5, box[0].start + 0.5) - 0.5
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    part = cv2.warpAffine(reconstruction.image, matrix, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
    side = len(reconstruction.image)
    ramp = np.clip((np.minimum(np.arange(side), np.arange(side)[::-1]) - 0.5) / (0.05 * side), 0, 1)
    rim = np.minimum.outer(ramp, ramp).astype(np.float32)
    inside = cv2.warpAffine(rim, matrix, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    return np.asarray(part), np.asarray(inside)


def _pasted(base: Image, part: Image, mask: FaceMask, *, opacity: float = 1.0, **parameters: Any) -> Forgery:
    image = base.copy()
    image[mask.box] = mix(base[mask.box], part, mask.alpha * np.float32(opacity))
    alpha = np.zeros(base.shape[:2], np.float32)
    alpha[mask.box] = mask.alpha
    values = mask.parameters | parameters | {"opacity": opacity}
    return Forgery(image, alpha, {k: round(v, 3) if isinstance(v, float) else v for k, v in values.items()})


def _mean_change(image: Image, forgery: Forgery) -> float:
    inside = (forgery.alpha > 0.25).astype(np.uint8)
    return float(np.mean(cv2.mean(cv2.absdiff(image, forgery.image), mask=inside)[:3]))
