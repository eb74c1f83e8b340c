"""Whole-face forgeries: functions `(photo, rng, donor) -> Forgery`, and which components each one covers.

All work inside the window of the face: a crop of 300 px takes a few milliseconds on one core.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from forgerank.faces.align import similarity
from forgerank.faces.regions import EYEBROWS, EYES, LIPS, NOSE, OVAL, component_polygons
from forgerank.forge.blend import Alpha, Window
from forgerank.forge.photos import Photo
from forgerank.labels import COMPONENTS, Parts
from forgerank.types import Image, Points

# What a mask may cover, with weights: tools differ in how much of a face they replace.
HULLS: Mapping[str, float] = {
    "whole": 1.0,  # convex hull of all landmarks
    "browless": 0.7,  # without the forehead: up to the brows
    "inner": 1.3,  # convex hull of eyes, brows, nose and mouth
    "lower": 0.5,  # below the eyes
    "oval": 1.0,  # the face's outline
    "forehead": 0.6,  # the outline stretched up towards the hair
}
SWAP_HULLS: Mapping[str, float] = {**HULLS, "lower": 0.3, "forehead": 0.25}
RESYNTHESIS_HULLS: Mapping[str, float] = {
    "inner": 1.5,
    "oval": 1.0,
    "browless": 0.7,
    "whole": 0.5,
    "lower": 0.3,
}
RATIOS = (0.25, 0.5, 0.75, 1.0, 1.0, 1.0)  # how opaque a self-blend is, as published
FEATHER = (0.02, 0.16)  # Gaussian sigma of a mask's edge, eye distances
LOW_SIZES = (64, 80, 96, 112, 128, 160, 192, 224, 256)  # pixels, sides of the crops that swap tools make
LOW_REACH = 3.2  # side of such a crop, eye distances
GROWTH = 0.05  # a component's region beyond its polygon, eye distances
COVERED, TOUCHED = 0.5, 0.02  # shares of a region: manipulated above the first, untouched below the second
MINIMUM_CHANGE = 1.5  # grey levels, mean over the mask: a forgery that moves less is drawn again
_TRIES = 3
_BENDING = 0.09  # eye distances, mean: faces that differ by more beyond an affine map fold when warped

_FILTERS = {"area": cv2.INTER_AREA, "linear": cv2.INTER_LINEAR, "cubic": cv2.INTER_CUBIC}
_INNER = (*NOSE, *LIPS, *EYES[0], *EYES[1], *EYEBROWS[0], *EYEBROWS[1])
# The points that carry a warp: half of the outline, corners and rims of eyes, brows, nose and lips.
_CONTROL = (
    *OVAL[::2], 33, 133, 159, 145, 263, 362, 386, 374, 70, 105, 107, 300, 334, 336,
    168, 1, 129, 358, 2, 61, 291, 0, 17, 13, 14,
)  # fmt: skip


class Forgery(NamedTuple):
    """An image with another face in it."""

    image: Image  # (H, W, 3)
    alpha: Alpha  # (H, W) 0 untouched .. 1 replaced, before any transparency of the whole
    parameters: dict[str, Any]  # plain JSON values


class Reconstruction(NamedTuple):
    """What a network made of the aligned crop of a face."""

    image: Image  # (S, S, 3)
    matrix: NDArray[np.float64]  # (2, 3) image -> crop, pixel centres at integer + 0.5, as in Alignment


class WholeFace(NamedTuple):
    """A whole-face forgery with what is known about its components."""

    image: Image  # (H, W, 3)
    mask_bits: NDArray[np.uint8]  # (H, W) bit i set where component i of COMPONENTS was replaced
    parts: Parts  # per component 1 replaced, 0 untouched, None unknown
    kind: str
    parameters: dict[str, Any]


class _Mask(NamedTuple):
    alpha: Alpha  # (h, w) of the window
    box: Window
    parameters: dict[str, Any]


def whole_face(
    photo: Photo,
    rng: np.random.Generator,
    donor: Photo,
    kinds: Mapping[str, float],
    reconstruction: Callable[[], Reconstruction] | None = None,
) -> WholeFace:
    """Forge a face by a method drawn from `kinds` (names of FORGERIES and RECONSTRUCTED with weights).

    reconstruction: makes a network's rendering of the photograph, asked for only when the drawn method needs
    it; without it such methods are not drawn. Raises ValueError where nothing is left to draw.
    """
    possible = {name: weight for name, weight in kinds.items() if name in FORGERIES or reconstruction}
    kind = _draw(rng, possible)
    if kind in RECONSTRUCTED and reconstruction is not None:
        rendered = reconstruction()
        forgery = RECONSTRUCTED[kind](photo, rng, rendered)
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


def covered(photo: Photo, alpha: Alpha) -> tuple[NDArray[np.uint8], Parts]:
    """Which components a mask (H, W) covers: one bit per component and pixel (H, W), and what is known.

    Hair is known to be untouched, or unknown: no mask here replaces it.
    """
    inside = (alpha > 0.25).astype(np.uint8)
    bits = np.zeros(photo.shape, np.uint8)
    known: dict[str, int | None] = {}
    grown = max(1, round(2 * GROWTH * photo.eye_distance))
    for name, polygons in component_polygons(photo.landmarks).items():
        box = _box(np.concatenate(polygons), photo.shape, grown)
        region = _fill(polygons, box)
        cv2.polylines(region, [_shifted(polygon, box) for polygon in polygons], True, 1, grown)
        size = int(np.count_nonzero(region))
        region &= inside[box]
        bits[box] |= region << np.uint8(COMPONENTS.index(name))
        share = np.count_nonzero(region) / size if size else float("nan")
        known[name] = 1 if share > COVERED else 0 if share < TOUCHED else None
    hair = photo.hair > 127
    touched = int(np.count_nonzero(inside[hair]))
    known["hair"] = None if touched > TOUCHED * max(int(np.count_nonzero(hair)), 1) else 0
    return bits, tuple(known[name] for name in COMPONENTS)


def self_blend(photo: Photo, rng: np.random.Generator, donor: Photo) -> Forgery:
    """The photograph blended with a slightly moved and changed copy of itself inside a face-shaped mask.

    From the published description of self-blended images (Shiohara and Yamasaki, CVPR 2022): colour and
    sharpness of the copy or of the photograph change, the copy is resized and moved a little.
    """
    mask = _draw_mask(photo, rng, HULLS)
    copied = bool(rng.random() < 0.5)
    changed, changes = disturb(photo.image, rng)
    target, source = (photo.image, changed) if copied else (changed, photo.image)
    unit = photo.eye_distance
    scale, angle = float(rng.uniform(0.95, 1.05)), float(rng.uniform(-1.5, 1.5))
    move = rng.uniform(-0.08, 0.08, 2) * unit
    centre = photo.landmarks[1]
    matrix = np.array(cv2.getRotationMatrix2D((float(centre[0]), float(centre[1])), angle, scale), np.float64)
    matrix[:, 2] += move
    moved = _warp(source, matrix, mask.box)
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
    warp = _draw(rng, {"similarity": 0.3, "affine": 0.2, "mesh": 0.5})
    to_donor, placed = correspondence(photo, donor, warp)
    mask = _draw_mask(photo, rng, SWAP_HULLS, donor_outline=placed)
    kept = [name for name in ("lip", "eye") if rng.random() < 0.08]
    alpha = mask.alpha
    for name in kept:
        alpha = alpha * (1 - _component_alpha(photo, name, mask.box, float(rng.uniform(0.07, 0.15))))
    mask = mask._replace(alpha=alpha)
    other = _sampled(donor, to_donor(mask.box), photo)
    low = 0
    if rng.random() < 0.6:
        low = int(rng.choice(LOW_SIZES))
        other = _reduced(other, low / (LOW_REACH * photo.eye_distance), rng)
    strength = float(rng.uniform(0.5, 1.0)) if rng.random() < 0.85 else 0.0
    target = photo.image[mask.box]
    other = _match(other, target, mask.alpha, strength)
    if rng.random() < 0.2:
        other = _sharpened(other, float(rng.uniform(0.3, 1.0)))
    poisson = bool(rng.random() < 0.3)
    if poisson:
        other = membrane(other, target, mask.alpha)
    return _pasted(
        photo.image, other, mask, warp=warp, kept=kept, low=low, colour_match=strength, poisson=poisson
    )


def resynthesis_plain(photo: Photo, rng: np.random.Generator, donor: Photo) -> Forgery:
    """The person's own inner face through a smaller size, as a generator of that resolution leaves it."""
    mask = _draw_mask(photo, rng, RESYNTHESIS_HULLS, shrink=True)
    scale = float(rng.uniform(0.33, 0.75))
    part = _reduced(photo.image[mask.box], scale, rng)
    finish = _draw(rng, {"none": 0.5, "blur": 0.2, "sharpen": 0.3})
    if finish == "blur":
        part = np.asarray(cv2.GaussianBlur(part, (0, 0), float(rng.uniform(0.4, 1.2))))
    elif finish == "sharpen":
        part = _sharpened(part, float(rng.uniform(0.3, 1.2)))
    shift = rng.uniform(-6, 6, 3)
    part = _looked_up(part, *(np.arange(256) + value for value in shift))
    return _pasted(photo.image, part, mask, scale=scale, finish=finish)


def resynthesis(photo: Photo, rng: np.random.Generator, reconstruction: Reconstruction) -> Forgery:
    """The inner face as a network renders it, pasted back; sometimes with the original's finest detail."""
    mask = _draw_mask(photo, rng, RESYNTHESIS_HULLS, shrink=True)
    part, inside = _rendered(reconstruction, mask.box)
    mask = mask._replace(alpha=mask.alpha * inside)
    target = photo.image[mask.box]
    strength = float(rng.uniform(0.3, 1.0)) if rng.random() < 0.5 else 0.0
    part = _match(part, target, mask.alpha, strength)
    detail = float(rng.uniform(0.3, 0.8)) if rng.random() < 0.35 else 0.0
    if detail:
        # High band of the original at the network's own scale: what a restoring network would add.
        sigma = float(rng.uniform(0.02, 0.06)) * photo.eye_distance + 0.5
        low = cv2.GaussianBlur(target, (0, 0), sigma)
        band = cv2.addWeighted(target, detail, low, -detail, 128)
        part = np.asarray(cv2.addWeighted(part, 1, band, 1, -128))
    sharp = float(rng.uniform(0.3, 1.5)) if rng.random() < 0.3 else 0.0
    if sharp:
        part = _sharpened(part, sharp)
    poisson = bool(rng.random() < 0.2)
    if poisson:
        part = membrane(part, target, mask.alpha)
    return _pasted(
        photo.image, part, mask, colour_match=strength, detail=detail, sharpen=sharp, poisson=poisson
    )


def regenerated(photo: Photo, rng: np.random.Generator, reconstruction: Reconstruction) -> Forgery:
    """The whole crop as a network renders it: a generated face, in which nothing was pasted.

    Beyond the crop the image is taken through the same size, so that no square shows.
    """
    height, width = photo.shape
    box = (slice(0, height), slice(0, width))
    part, inside = _rendered(reconstruction, box)
    around = _reduced(
        photo.image, float(np.sqrt(abs(np.linalg.det(reconstruction.matrix[:, :2])))) * 0.6, rng
    )
    return Forgery(_mixed(around, part, inside), inside, {"size": len(reconstruction.image)})


FORGERIES: Mapping[str, Callable[[Photo, np.random.Generator, Photo], Forgery]] = {
    function.__name__: function for function in (self_blend, face_swap, resynthesis_plain)
}
RECONSTRUCTED: Mapping[str, Callable[[Photo, np.random.Generator, Reconstruction], Forgery]] = {
    function.__name__: function for function in (resynthesis, regenerated)
}


def disturb(image: Image, rng: np.random.Generator) -> tuple[Image, dict[str, Any]]:
    """Slight changes of colour and sharpness over a whole image, and what they were.

    A self-blend may apply them to its background: real images deserve them as often.
    """
    changes: dict[str, Any] = {}
    levels = np.arange(256, dtype=np.float64)
    shift, gain, lift = np.zeros(3), 1.0, 0.0
    if rng.random() < 0.5:
        shift = rng.uniform(-16, 16, 3)
        changes["rgb"] = [round(float(value), 1) for value in shift]
    if rng.random() < 0.5:
        gain, lift = float(rng.uniform(0.8, 1.2)), float(rng.uniform(-18, 18))
        changes |= {"contrast": gain, "brightness": lift}
    image = _looked_up(image, *((levels - 128) * gain + 128 + lift + value for value in shift))
    if rng.random() < 0.4:
        hue, saturation, value = (float(rng.uniform(-limit, limit)) for limit in (4, 25, 15))
        hsv = _looked_up(
            np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2HSV)),
            (levels + round(hue)) % 180,
            levels * (1 + saturation / 100),
            levels + value,
        )
        image = np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB))
        changes["hsv"] = [round(hue), round(saturation, 1), round(value, 1)]
    sharpness = _draw(rng, {"none": 0.2, "reduce": 0.35, "blur": 0.2, "sharpen": 0.25})
    if sharpness == "reduce":
        image = _reduced(image, float(rng.uniform(0.3, 0.85)), rng)
    elif sharpness == "blur":
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.4, 1.4))))
    elif sharpness == "sharpen":
        image = _sharpened(image, float(rng.uniform(0.3, 1.2)))
    return image, changes | {"sharpness": sharpness}


def hull(landmarks: Points, kind: str) -> Points:
    """Outline (K, 2) in pixels of what a mask of this kind covers; `kind` is one of HULLS."""
    if kind == "oval":
        return landmarks[list(OVAL)]
    if kind == "inner":
        return _convex(landmarks[list(_INNER)])
    up = landmarks[10] - landmarks[152]
    height = (landmarks - landmarks[152]) @ up / max(float(up @ up), 1e-6)  # 0 chin .. 1 forehead
    if kind == "browless":
        return _convex(landmarks[height <= height[list(EYEBROWS[0] + EYEBROWS[1])].max() + 0.01])
    if kind == "lower":
        return _convex(landmarks[height <= height[[145, 374]].mean()])
    if kind == "forehead":
        oval, share = landmarks[list(OVAL)], height[list(OVAL)]
        return (oval + np.outer(np.maximum(share - 0.55, 0) * 0.45, up)).astype(np.float32)
    return _convex(landmarks)


def membrane(other: Image, target: Image, alpha: Alpha, cells: int = 40) -> Image:
    """Gradient-domain blending (Perez et al. 2003): `other` plus the smooth surface that takes it to `target`
    where alpha ends.

    The surface solves Laplace's equation on a grid of at most `cells` x `cells`: it is smooth, so no more is
    needed.
    """
    height, width = alpha.shape
    factor = max(1.0, max(height, width) / cells)
    size = (max(4, round(width / factor)), max(4, round(height / factor)))
    signed = cv2.subtract(target, other, dtype=cv2.CV_32F)
    difference = np.asarray(cv2.resize(signed, size, interpolation=cv2.INTER_AREA), dtype=np.float32)
    known = (cv2.resize(alpha, size, interpolation=cv2.INTER_AREA) < 0.35).astype(np.float32)
    known[0], known[-1], known[:, 0], known[:, -1] = 1, 1, 1, 1
    surface = _harmonic(difference, known[..., None])
    full = np.asarray(cv2.resize(surface, (width, height), interpolation=cv2.INTER_LINEAR))
    return np.asarray(cv2.add(other, full, dtype=cv2.CV_8U))


def _harmonic(values: NDArray[np.float32], known: NDArray[np.float32]) -> NDArray[np.float32]:
    """Fill what is not known, coarse to fine, then relax."""
    height, width = known.shape[:2]
    if min(height, width) > 6:
        half = ((width + 1) // 2, (height + 1) // 2)
        weight = np.asarray(cv2.resize(known, half, interpolation=cv2.INTER_AREA))[..., None]
        total = np.asarray(cv2.resize(values * known, half, interpolation=cv2.INTER_AREA), dtype=np.float32)
        mean = (total / np.maximum(weight, 1e-3)).astype(np.float32)
        coarse = _harmonic(mean, (weight > 0.01).astype(np.float32))
        guess = np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR))
    else:
        guess = np.broadcast_to((values * known).sum((0, 1)) / max(float(known.sum()), 1.0), values.shape)
    filled = values * known + guess * (1 - known)
    fixed, free = values * known, 1 - known
    for _ in range(10):
        filled = fixed + free * cv2.sepFilter2D(filled, -1, _SMOOTH, _SMOOTH)
    return np.asarray(filled, dtype=np.float32)


_SMOOTH = np.array([0.25, 0.5, 0.25], dtype=np.float32)


def _draw(rng: np.random.Generator, weights: Mapping[str, float]) -> str:
    total = sum(weights.values())
    if total <= 0:
        raise ValueError(f"nothing to draw from in {dict(weights)}")
    position = rng.random() * total
    for name, weight in weights.items():
        position -= weight
        if position < 0:
            return name
    return list(weights)[-1]


def _draw_mask(
    photo: Photo,
    rng: np.random.Generator,
    hulls: Mapping[str, float],
    *,
    shrink: bool = False,
    donor_outline: Points | None = None,
) -> _Mask:
    """A hull, bent, grown or shrunk and feathered.

    donor_outline: (K, 2) where the donor's face ends on the target, beyond which there is nothing to paste.
    """
    unit = photo.eye_distance
    kind = _draw(rng, hulls)
    sigma = max(0.7, unit * float(np.exp(rng.uniform(*np.log(FEATHER)))))
    first = unit * float(rng.uniform(0.03, 0.14))
    # The first blur and its threshold move the edge: out below a half, in above.
    threshold = float(rng.uniform(0.6, 0.95) if shrink or rng.random() < 0.6 else rng.uniform(0.2, 0.6))
    bend = float(rng.uniform(0.0, 0.09)) * unit
    outline = hull(photo.landmarks, kind)
    box = _box(outline, photo.shape, round(2.5 * sigma + first + bend) + 4)
    hard = _fill([outline], box)
    if donor_outline is not None:
        hard &= _fill([donor_outline], box)
    hard *= np.uint8(255)
    rough = _blurred(hard, first, lambda small: _bent(small, bend * len(small) / len(hard), rng))
    hard = np.asarray(cv2.threshold(rough, threshold * 255, 255, cv2.THRESH_BINARY)[1])
    alpha = _blurred(hard, sigma).astype(np.float32) * np.float32(1 / 255)
    return _Mask(alpha, box, {"hull": kind, "feather": sigma, "threshold": threshold})


def _blurred(
    hard: NDArray[np.uint8],
    sigma: float,
    before: Callable[[NDArray[np.uint8]], NDArray[np.uint8]] | None = None,
) -> NDArray[np.uint8]:
    """A Gaussian blur of a mask, at a smaller size where it is wide; `before` is applied at that size too."""
    height, width = hard.shape
    factor = 1 if sigma < 2.4 else 2 if sigma < 4.8 else 4
    small = hard
    if factor > 1:
        size = (max(2, round(width / factor)), max(2, round(height / factor)))
        small = np.asarray(cv2.resize(hard, size, interpolation=cv2.INTER_AREA))
    if before is not None:
        small = before(small)
    soft = cv2.GaussianBlur(small, (0, 0), sigma / factor, borderType=cv2.BORDER_REPLICATE)
    return np.asarray(
        soft if factor == 1 else cv2.resize(soft, (width, height), interpolation=cv2.INTER_LINEAR)
    )


def _bent(hard: NDArray[np.uint8], amount: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Elastic deformation by a smooth random field of `amount` pixels."""
    height, width = hard.shape
    cells = int(rng.integers(4, 8))
    field = rng.normal(0, amount, (cells, cells, 2)).astype(np.float32)
    field = np.asarray(cv2.resize(field, (width, height), interpolation=cv2.INTER_CUBIC))
    field[..., 0] += np.arange(width, dtype=np.float32)
    field[..., 1] += np.arange(height, dtype=np.float32)[:, None]
    across, down = cv2.split(field)
    return np.asarray(cv2.remap(hard, across, down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))


def correspondence(photo: Photo, donor: Photo, kind: str) -> tuple[Callable[[Window], Points], Points]:
    """Where the pixels of a window of the target lie in the donor, and the donor's outline on the target."""
    ours, theirs = photo.landmarks[list(_CONTROL)], donor.landmarks[list(_CONTROL)]
    outline = hull(donor.landmarks, "forehead")
    matrix = similarity(theirs, ours)
    if kind != "similarity":
        padded = np.column_stack([theirs, np.ones(len(theirs))])
        affine = np.linalg.lstsq(padded, ours.astype(np.float64), rcond=None)[0].T
        misfit = np.abs(theirs @ affine[:, :2].T + affine[:, 2] - ours).mean() / photo.eye_distance
        if kind == "mesh" and misfit < _BENDING:
            cell = int(np.clip(photo.eye_distance / 7, 4, 12))
            spline = _spline(ours, theirs, photo.eye_distance)
            return (lambda box: _on_grid(spline, box, cell)), hull(photo.landmarks, "forehead")
        # A squeezed face is no face: heads turned too differently keep their shape.
        stretch = np.linalg.svd(affine[:, :2], compute_uv=False)
        if stretch[1] > 0.65 * stretch[0]:
            matrix = affine
    inverse = np.asarray(cv2.invertAffineTransform(matrix), dtype=np.float64)
    return (lambda box: _affine_grid(inverse, box)), (outline @ matrix[:, :2].T + matrix[:, 2]).astype(
        np.float32
    )


def _spline(source: Points, target: Points, unit: float) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """Thin-plate spline (Bookstein 1989) from points (n, 2) to points (n, 2), a little relaxed."""
    centre, count = source.mean(0), len(source)
    nodes = (source - centre).astype(np.float64) / unit
    system = np.zeros((count + 3, count + 3))
    system[:count, :count] = _radial(nodes, nodes) + 0.02 * np.eye(count)
    system[:count, count] = system[count, :count] = 1
    system[:count, count + 1 :], system[count + 1 :, :count] = nodes, nodes.T
    weights = np.linalg.solve(system, np.concatenate([target, np.zeros((3, 2))]))
    bends, flat = weights[:count].astype(np.float32), weights[count:].astype(np.float32)
    nodes32 = nodes.astype(np.float32)

    def apply(points: NDArray[Any]) -> NDArray[Any]:
        scaled = ((points - centre) / unit).astype(np.float32)
        return np.asarray(_radial(scaled, nodes32) @ bends + flat[0] + scaled @ flat[1:])

    return apply


def _radial(points: NDArray[Any], nodes: NDArray[Any]) -> NDArray[Any]:
    """r^2 log r between points (m, 2) and nodes (n, 2), as (m, n)."""
    squared = ((points[:, None] - nodes) ** 2).sum(-1)
    return np.asarray(0.5 * squared * np.log(squared + 1e-9))


def _on_grid(transform: Callable[[NDArray[Any]], NDArray[Any]], box: Window, cell: int) -> Points:
    """A transform at every pixel of a window (h, w, 2), computed every `cell` pixels and interpolated."""
    height, width = box[0].stop - box[0].start, box[1].stop - box[1].start
    # A cell more on every side: the outer half of a cell is not interpolated.
    down, across = -(-height // cell) + 2, -(-width // cell) + 2
    rows, columns = np.mgrid[0:down, 0:across] * cell - 0.5 * (cell + 1)
    nodes = np.column_stack([columns.ravel() + box[1].start, rows.ravel() + box[0].start])
    coarse = transform(nodes).astype(np.float32).reshape(down, across, 2)
    fine = cv2.resize(coarse, (across * cell, down * cell), interpolation=cv2.INTER_LINEAR)
    return np.ascontiguousarray(fine[cell : cell + height, cell : cell + width])


def _affine_grid(matrix: NDArray[np.float64], box: Window) -> Points:
    """An affine map at every pixel of a window (h, w, 2)."""
    across = np.outer(np.arange(box[1].start, box[1].stop), matrix[:, 0])
    down = np.outer(np.arange(box[0].start, box[0].stop), matrix[:, 1]) + matrix[:, 2]
    return across.astype(np.float32) + down.astype(np.float32)[:, None]


def _sampled(donor: Photo, field: Points, photo: Photo) -> Image:
    """The donor's image at the places of `field` (h, w, 2); reduced first where it is much larger."""
    image = donor.image
    ratio = photo.eye_distance / max(donor.eye_distance, 1.0)
    if ratio < 0.7:
        low, high = field.min((0, 1)), field.max((0, 1))
        left, top = np.clip(np.floor(low).astype(int) - 4, 0, None)
        right, bottom = np.maximum(np.ceil(high).astype(int) + 5, (left + 8, top + 8))
        image = image[top:bottom, left:right]
        height, width = image.shape[:2]
        size = (max(2, round(width * ratio)), max(2, round(height * ratio)))
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA))
        scale = np.array([size[0] / width, size[1] / height], np.float32)
        field = (field - np.array([left, top], np.float32) + np.float32(0.5)) * scale - np.float32(0.5)
    across, down = cv2.split(field)
    return np.asarray(cv2.remap(image, across, down, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101))


def _rendered(reconstruction: Reconstruction, box: Window) -> tuple[Image, Alpha]:
    """A reconstruction laid over a window of the image (h, w, 3), and how far inside its crop a pixel is:
    1, falling to 0 at the crop's rim (h, w).
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


def _warp(image: Image, matrix: NDArray[np.float64], box: Window) -> Image:
    """The window `box` of the warped image."""
    shifted = matrix - np.array([[0, 0, box[1].start], [0, 0, box[0].start]])
    size = (box[1].stop - box[1].start, box[0].stop - box[0].start)
    return np.asarray(
        cv2.warpAffine(image, shifted, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
    )


def _reduced(image: Image, scale: float, rng: np.random.Generator) -> Image:
    """Through a smaller size and back by any filters; unchanged where the scale is 1 or more."""
    if scale >= 1:
        return image
    height, width = image.shape[:2]
    size = (max(2, round(width * scale)), max(2, round(height * scale)))
    down = _FILTERS[_draw(rng, {"area": 0.5, "linear": 0.3, "cubic": 0.2})]
    up = _FILTERS[_draw(rng, {"linear": 0.5, "cubic": 0.5})]
    small = cv2.resize(image, size, interpolation=down)
    return np.asarray(cv2.resize(small, (width, height), interpolation=up))


def _sharpened(image: Image, amount: float) -> Image:
    """An unsharp mask."""
    return np.asarray(cv2.addWeighted(image, 1 + amount, cv2.GaussianBlur(image, (0, 0), 1.0), -amount, 0))


def _looked_up(image: Image, *channels: NDArray[np.float64]) -> Image:
    """Every channel through its own table of 256 values."""
    table = np.clip(np.rint(np.stack(channels, -1)), 0, 255).astype(np.uint8)
    return np.asarray(cv2.LUT(image, table[None]))


def _match(part: Image, target: Image, alpha: Alpha, strength: float) -> Image:
    """Move the part's mean and spread in Lab, measured inside the mask, towards the target's."""
    # Every third pixel both ways says enough about colours.
    inside = (alpha[::3, ::3] > 0.3).astype(np.uint8)
    if strength == 0 or np.count_nonzero(inside) < 16:
        return part
    lab = np.asarray(cv2.cvtColor(part, cv2.COLOR_RGB2LAB), dtype=np.uint8)
    sparse = cv2.cvtColor(np.ascontiguousarray(target[::3, ::3]), cv2.COLOR_RGB2LAB)
    mean, spread = _spread(np.ascontiguousarray(lab[::3, ::3]), inside)
    aim, aim_spread = _spread(sparse, inside)
    gain = 1 + (np.clip((aim_spread + 1) / (spread + 1), 0.6, 1.6) - 1) * strength
    levels = np.arange(256, dtype=np.float64)
    channels = ((levels - m) * g + m + (a - m) * strength for m, g, a in zip(mean, gain, aim, strict=True))
    return np.asarray(cv2.cvtColor(_looked_up(lab, *channels), cv2.COLOR_LAB2RGB))


def _spread(
    image: NDArray[Any], inside: NDArray[np.uint8]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation per channel inside a mask."""
    mean, spread = cv2.meanStdDev(image, mask=inside)
    return np.asarray(mean, dtype=np.float64).ravel(), np.asarray(spread, dtype=np.float64).ravel()


def _pasted(base: Image, part: Image, mask: _Mask, *, opacity: float = 1.0, **parameters: Any) -> Forgery:
    image = base.copy()
    image[mask.box] = _mixed(base[mask.box], part, mask.alpha * np.float32(opacity))
    alpha = np.zeros(base.shape[:2], np.float32)
    alpha[mask.box] = mask.alpha
    values = mask.parameters | parameters | {"opacity": opacity}
    return Forgery(image, alpha, {k: round(v, 3) if isinstance(v, float) else v for k, v in values.items()})


def _mixed(image: Image, other: Image, alpha: Alpha) -> Image:
    return np.asarray(cv2.blendLinear(other, np.ascontiguousarray(image), alpha, 1 - alpha))


def _mean_change(image: Image, forgery: Forgery) -> float:
    inside = (forgery.alpha > 0.25).astype(np.uint8)
    return float(np.mean(cv2.mean(cv2.absdiff(image, forgery.image), mask=inside)[:3]))


def _component_alpha(photo: Photo, name: str, box: Window, growth: float) -> Alpha:
    """Soft region of a component in a window, grown by `growth` eye distances."""
    polygons, thick = (
        component_polygons(photo.landmarks)[name],
        max(1, round(2 * growth * photo.eye_distance)),
    )
    region = _fill(polygons, box)
    cv2.polylines(region, [_shifted(polygon, box) for polygon in polygons], True, 1, thick)
    return np.asarray(cv2.GaussianBlur(region.astype(np.float32), (0, 0), max(0.7, thick / 3)))


def _convex(points: Points) -> Points:
    outline = cv2.convexHull(np.ascontiguousarray(points, dtype=np.float32))
    return np.asarray(outline, dtype=np.float32)[:, 0]


def _box(points: Points, shape: tuple[int, int], margin: int) -> Window:
    """The window of an image around points, at least 2 x 2 pixels."""
    low, high = np.floor(points.min(0)).astype(int) - margin, np.ceil(points.max(0)).astype(int) + margin + 1
    left, top = np.clip(low, 0, (shape[1] - 2, shape[0] - 2))
    right, bottom = np.minimum(np.maximum(high, (left + 2, top + 2)), (shape[1], shape[0]))
    return slice(int(top), int(bottom)), slice(int(left), int(right))


def _shifted(polygon: Points, box: Window) -> NDArray[np.int32]:
    return np.asarray(np.rint(polygon - np.array([box[1].start, box[0].start])), dtype=np.int32)


def _fill(polygons: list[Points], box: Window) -> NDArray[np.uint8]:
    """Filled polygons as a 0/1 mask of a window."""
    mask = np.zeros((box[0].stop - box[0].start, box[1].stop - box[1].start), np.uint8)
    for polygon in polygons:
        cv2.fillPoly(mask, [_shifted(polygon, box)], 1)
    return mask
