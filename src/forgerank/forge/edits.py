"""The edits: small pure functions `(photo, component, rng, donor) -> Edit`.

Each changes one component of a face, or the whole face, and returns a mask of it and the numbers drawn.
To add one: write the function, name it in `EDITS` with its weight per component, test it.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from forgerank.forge import whole_faces
from forgerank.forge.blend import Alpha, mix
from forgerank.forge.donors import Transplant, transplant
from forgerank.forge.filters import unsharp_mask
from forgerank.forge.photos import Photo
from forgerank.forge.shapes import MASKED, clip_box, draw_regions, kept_out, region_polygons
from forgerank.types import Image


class Edit(NamedTuple):
    """The result of an edit."""

    image: Image  # (H, W, 3)
    mask: NDArray[np.bool_]  # (H, W) where the component was manipulated
    parameters: dict[str, Any]  # plain JSON values


# How far liquify moves pixels along x and y, relative to its amount.
STRETCH = {
    "nose": (1.0, 0.25),
    "eye": (1.0, 1.0),
    "eyebrow": (0.2, 0.8),
    "lip": (0.5, 1.0),
    "hair": (1.0, 1.0),
}

EditFunction = Callable[[Photo, str, np.random.Generator, Photo], Edit]
Filter = Callable[[Image], Image]


def _round(parameters: Mapping[str, Any]) -> dict[str, Any]:
    return {k: round(float(v), 3) if isinstance(v, float) else v for k, v in parameters.items()}


def swap(photo: Photo, component: str, rng: np.random.Generator, donor: Photo) -> Edit:
    """Another person's component, fitted by landmarks, mostly colour-matched, blended."""
    return _transplanted(photo, transplant(photo, component, rng, donor, "donor"))


def rescale(photo: Photo, component: str, rng: np.random.Generator, donor: Photo) -> Edit:
    """The component itself at another size and a little turned: bigger eyes, a smaller mouth."""
    return _transplanted(photo, transplant(photo, component, rng, photo, "scaled"))


def copy_side(photo: Photo, component: str, rng: np.random.Generator, donor: Photo) -> Edit:
    """One eye or brow replaced by the person's other one, mirrored."""
    return _transplanted(photo, transplant(photo, component, rng, photo, "other side"))


def _transplanted(photo: Photo, made: Transplant) -> Edit:
    return Edit(made.image, made.mask, _round(made.parameters))


def liquify(photo: Photo, component: str, rng: np.random.Generator, donor: Photo) -> Edit:
    """The person's own pixels warped locally: larger eyes, another nose, plumper lips, raised brows."""
    amount = float(rng.uniform(0.16, 0.42) * rng.choice([-1, 1])) * (0.6 if component == "hair" else 1.0)
    lift = float(rng.uniform(-0.18, 0.18)) * photo.eye_distance if component == "eyebrow" else 0.0
    stretch = np.array(STRETCH[component], np.float32)
    edited, mask = photo.image.copy(), np.zeros(photo.shape, bool)
    hair = draw_regions(photo, "hair", rng).parts if component == "hair" else ()
    for polygon in region_polygons(photo.landmarks, "face" if component == "hair" else component):
        centre, half = polygon.mean(0), np.ptp(polygon, axis=0) / 2 + 0.08 * photo.eye_distance
        reach = half * np.array([2.2, 2.4] if component == "hair" else [1.5, 1.5], np.float32)
        box = clip_box(centre - reach, centre + reach, 0, photo.shape)
        rows, columns = (grid.astype(np.float32) for grid in np.ogrid[box])
        if rows.size == 0 or columns.size == 0:
            continue
        dx, dy = columns - centre[0], rows - centre[1]
        falloff = np.clip(1 - (dx / reach[0]) ** 2 - (dy / reach[1]) ** 2, 0, 1) ** 2
        if component == "hair":
            falloff = falloff * _inside(hair[0].alpha, hair[0].box, box) if hair else falloff * 0
        alpha, shift = _displacement(falloff, dx, dy, amount * stretch, lift)
        kept = kept_out(photo, component, alpha, box)
        if kept is not None:
            alpha, shift = _displacement(falloff * (1 - kept), dx, dy, amount * stretch, lift)
        edited[box] = cv2.remap(
            edited,
            columns + shift[0],
            rows + shift[1],
            cv2.INTER_CUBIC,
            borderMode=cv2.BORDER_REPLICATE,
        )
        mask[box] |= alpha > MASKED
    return Edit(edited, mask, _round({"amount": amount, "lift": lift}))


def _displacement(
    falloff: Alpha,
    dx: NDArray[np.float32],
    dy: NDArray[np.float32],
    amount: NDArray[np.float32],
    lift: float,
) -> tuple[Alpha, tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Where pixels move visibly, and how far along x and y."""
    across = (-falloff * dx * amount[0]).astype(np.float32)
    down = (-falloff * (dy * amount[1] - np.float32(lift))).astype(np.float32)
    moved = np.hypot(across, down)
    return np.clip(moved / max(0.6, 0.35 * float(moved.max())), 0, 1), (across, down)


def _inside(alpha: Alpha, box: tuple[slice, slice], wanted: tuple[slice, slice]) -> Alpha:
    """An alpha of window `box` in window `wanted`, 0 where they do not overlap."""
    rows, columns = (
        slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(box, wanted, strict=True)
    )
    out = np.zeros([s.stop - s.start for s in wanted], np.float32)
    if rows.stop > rows.start and columns.stop > columns.start:
        out[_from(rows, wanted[0]), _from(columns, wanted[1])] = alpha[
            _from(rows, box[0]), _from(columns, box[1])
        ]
    return out


def _from(inner: slice, outer: slice) -> slice:
    return slice(inner.start - outer.start, inner.stop - outer.start)


def recolour(photo: Photo, component: str, rng: np.random.Generator, donor: Photo) -> Edit:
    """Lightness, saturation and hue of the region changed: dyed hair, lipstick, darker brows."""
    lightness = float(rng.uniform(5, 20) * rng.choice([-1, 1]))
    turn = rng.uniform(0, 2 * np.pi)
    chroma = float(rng.uniform(4, 14))
    gain = float(rng.uniform(0.8, 1.3))

    def tint(part: Image) -> Image:
        lab = cv2.cvtColor(part, cv2.COLOR_RGB2LAB)
        table = np.arange(256, dtype=np.float64)
        tables = [
            (table - 128) * gain + 128 + lightness,
            table + chroma * np.cos(turn),
            table + chroma * np.sin(turn),
        ]
        lab = cv2.LUT(lab, np.clip(np.stack(tables, 1), 0, 255).astype(np.uint8)[None])
        return np.asarray(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB), np.uint8)

    return _local(photo, component, rng, tint, lightness=lightness, chroma=chroma, gain=gain)


def smooth(photo: Photo, component: str, rng: np.random.Generator, donor: Photo) -> Edit:
    """Retouched skin or hair: an edge-keeping or plain blur."""
    sigma = max(1.2, float(rng.uniform(0.025, 0.07)) * photo.eye_distance)
    bilateral, colour = bool(rng.random() < 0.4), float(rng.uniform(35, 80))

    def blur(part: Image) -> Image:
        if bilateral:
            return np.asarray(cv2.bilateralFilter(part, 7, colour, sigma * 1.5), np.uint8)
        return np.asarray(cv2.GaussianBlur(part, (0, 0), sigma), np.uint8)

    return _local(photo, component, rng, blur, sigma=sigma, bilateral=bilateral)


def sharpen(photo: Photo, component: str, rng: np.random.Generator, donor: Photo) -> Edit:
    """Unsharp mask: clearer eyes, crisper lashes."""
    amount = float(rng.uniform(0.8, 2.4))
    sigma = max(1.0, float(rng.uniform(0.016, 0.04)) * photo.eye_distance)

    return _local(
        photo, component, rng, lambda part: unsharp_mask(part, amount, sigma), amount=amount, sigma=sigma
    )


def renoise(photo: Photo, component: str, rng: np.random.Generator, donor: Photo) -> Edit:
    """The image's own grain removed and other grain added, as generators and retouchers do."""
    sigma, size = float(rng.uniform(6, 15)), float(rng.uniform(0.4, 1.4))
    channels = 1 if rng.random() < 0.5 else 3
    seed = int(rng.integers(2**31))

    def grainy(part: Image) -> Image:
        noise = np.random.default_rng(seed).standard_normal((*part.shape[:2], channels), np.float32)
        grain = np.asarray(cv2.GaussianBlur(noise, (0, 0), size), np.float32).reshape(*part.shape[:2], -1)
        grain *= np.float32(sigma / (float(grain.std()) + 1e-6))
        soft = cv2.GaussianBlur(part, (0, 0), 1.0)
        return np.asarray(np.clip(soft + grain, 0, 255), np.uint8)

    return _local(photo, component, rng, grainy, sigma=sigma, grain_size=size)


def resample(photo: Photo, component: str, rng: np.random.Generator, donor: Photo) -> Edit:
    """The region resized to a smaller size and back: the trace of a low-resolution generator."""
    scale = min(0.6, float(rng.uniform(12, 30)) / max(photo.eye_distance, 1.0))

    def through(part: Image) -> Image:
        height, width = part.shape[:2]
        size = max(2, round(width * scale)), max(2, round(height * scale))
        small = cv2.resize(part, size, interpolation=cv2.INTER_AREA)
        return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)

    return _local(photo, component, rng, through, scale=scale)


def inpaint(photo: Photo, component: str, rng: np.random.Generator, donor: Photo) -> Edit:
    """Parts of the region erased and inpainted (Telea 2004): thinned brows, removed marks."""
    edited, mask = photo.image.copy(), np.zeros(photo.shape, bool)
    count, unit = int(rng.integers(2, 6)), photo.eye_distance
    for alpha, box, _ in draw_regions(photo, component, rng).parts:
        holes = np.zeros(alpha.shape, np.uint8)
        inside = np.argwhere(alpha > 0.6)
        for row, column in inside[rng.integers(len(inside), size=count)] if len(inside) else []:
            axes = np.maximum(2, rng.uniform(0.08, 0.2, 2) * unit).astype(int)
            turn = float(rng.uniform(0, 180))
            cv2.ellipse(holes, (int(column), int(row)), (int(axes[0]), int(axes[1])), turn, 0, 360, 255, -1)
        soft = cv2.GaussianBlur(holes.astype(np.float32) / 255, (0, 0), 1.0) * np.minimum(1, alpha * 1.5)
        filled = np.asarray(cv2.inpaint(edited[box], holes, 3, cv2.INPAINT_TELEA), np.uint8)
        edited[box] = mix(edited[box], filled, soft)
        mask[box] |= soft > MASKED
    return Edit(edited, mask, {"holes": count})


def _local(photo: Photo, component: str, rng: np.random.Generator, change: Filter, **parameters: Any) -> Edit:
    """The person's own pixels through a filter, inside a drawn region."""
    regions = draw_regions(photo, component, rng)
    edited, mask = photo.image.copy(), np.zeros(photo.shape, bool)
    for alpha, box, _ in regions.parts:
        edited[box] = mix(edited[box], change(edited[box]), alpha)
        mask[box] |= alpha > MASKED
    return Edit(edited, mask, _round(parameters | regions.parameters))


def face_swap(photo: Photo, component: str, rng: np.random.Generator, donor: Photo) -> Edit:
    """A whole-face forgery: the donor's face in the target's head."""
    forgery = whole_faces.face_swap(photo, rng, donor)
    return Edit(forgery.image, forgery.alpha > MASKED, _round(forgery.parameters))


def self_blend(photo: Photo, component: str, rng: np.random.Generator, donor: Photo) -> Edit:
    """A whole-face forgery: the photograph blended with a slightly changed copy of itself."""
    forgery = whole_faces.self_blend(photo, rng, donor)
    return Edit(forgery.image, forgery.alpha > MASKED, _round(forgery.parameters))


# Weight of every edit per component: swaps have most; an edit that makes no sense for a component is absent.
_OWN: dict[EditFunction, float] = {
    liquify: 1.4, recolour: 1.0, smooth: 0.6, sharpen: 0.5, renoise: 0.4, resample: 0.7, inpaint: 0.6,
}  # fmt: skip
_PAIRED: dict[EditFunction, float] = {swap: 5.5, rescale: 0.8, copy_side: 0.6, **_OWN}
_MIDDLE: dict[EditFunction, float] = {swap: 5.5, rescale: 0.8, **_OWN}
EDITS: Mapping[str, Mapping[EditFunction, float]] = {
    "nose": _MIDDLE,
    "eye": _PAIRED,
    "eyebrow": _PAIRED,
    "lip": _MIDDLE,
    "hair": {swap: 3.0, **_OWN, recolour: 2.5},
    "face": {face_swap: 1.0, self_blend: 1.0},
}
DONATED = (swap.__name__, face_swap.__name__)  # the edits that use the donor
