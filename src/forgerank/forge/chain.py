"""A chain of edits with a save after each, recorded step by step."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from forgerank.faces.align import five_points
from forgerank.forge.edits import DONATED, EDITS, Edit
from forgerank.forge.photos import Photo
from forgerank.forge.saves import TRACES, Save, Trace, apply_save, draw_save
from forgerank.forge.shapes import hard_size
from forgerank.labels import COMPONENTS
from forgerank.types import Image, Points

# An edit that changes less is drawn again, so that no label stands for an invisible edit. Grey levels, see
# `visible_change`: grain, which no crop or save keeps, does not count.
MINIMUM_CHANGE = 2.5
_TRIES = 6
_MINIMUM_REGION = 12  # pixels
# Half of the images are reduced at first, real and forged alike, to an eye distance of so many pixels.
EYE_DISTANCE = (44.0, 76.0)


@dataclass(frozen=True, slots=True)
class Forged:
    """A forged image with its ground truth."""

    image: Image  # (H, W, 3) as a reader of the encoded file sees it
    encoded: bytes  # the last save's file
    suffix: str  # .jpg or .webp
    components: tuple[str, ...]  # manipulated, first to last; empty for an original
    mask: NDArray[np.uint8]  # (H, W) bit i set where component i (0-based, vocabulary order) was edited
    points: Points  # (5, 2) pixels of `image`
    steps: tuple[dict[str, Any], ...]
    saves: tuple[dict[str, Any], ...]


def forge_image(
    photo: Photo,
    components: Sequence[str],
    rng: np.random.Generator,
    donor: Callable[[], tuple[str, Photo]],
    *,
    trace: str | Trace = "medium",
    longest: int = len(COMPONENTS),
    single_share: float | None = None,
) -> Forged:
    """Edit the components in the order given, saving after each; no component gives an original.

    A component that the image does not show, such as hair above its rim, is left out. donor() draws a
    donor's name and photograph and is called once per edit, in order. longest, single_share: the most steps
    that an image of this data set has and how many have one (`draw_components`), so that originals go
    through as many saves as forged images do. The same arguments and state of rng give the same bytes.
    """
    strength = TRACES[trace] if isinstance(trace, str) else trace
    photo = draw_size(photo, rng)
    components = [name for name in components if hard_size(photo, name) >= _MINIMUM_REGION]
    before, after = draw_rounds(rng, len(components), longest, single_share)
    later = list(components)
    image, mask = photo.image, np.zeros(photo.image.shape[:2], np.uint8)
    steps: list[dict[str, Any]] = []
    saves: list[Save] = []
    encoded = b""
    for component in [None] * before + list(components) + [None] * after:
        if component is not None:
            name, other = donor()
            later.remove(component)
            photo = photo.edited(image, frozenset(later))
            edit, edit_name = _edit_visibly(photo, component, rng, other)
            image = edit.image
            mask |= edit.mask.astype(np.uint8) << _bit(component)
            step = {
                "component": component,
                "edit": edit_name,
                "donor": name if edit_name in DONATED else None,
            }
            steps.append(step | {"parameters": edit.parameters, "saves_before": len(saves)})
        save = draw_save(rng, strength)
        image, encoded = apply_save(image, save)
        saves.append(save)
    return Forged(
        image,
        encoded,
        saves[-1].suffix,
        tuple(components),
        mask,
        five_points(photo.landmarks),
        tuple(steps),
        tuple(save.record() for save in saves),
    )


def draw_components(
    rng: np.random.Generator,
    steps: tuple[int, int],
    original_share: float,
    *,
    single_share: float | None = None,
) -> tuple[str, ...]:
    """A random sequence: an original with `original_share` if steps start at 0, else `draw_length` edits."""
    low, high = steps
    if low == 0 and (high == 0 or rng.random() < original_share):
        return ()
    length = draw_length(rng, max(low, 1), high, single_share)
    return tuple(str(name) for name in rng.permutation(COMPONENTS)[:length])


def draw_length(rng: np.random.Generator, low: int, high: int, single_share: float | None) -> int:
    """A number of edits in low..high, uniform; or 1 with probability `single_share`, the others uniform."""
    if single_share is None or low > 1:
        return int(rng.integers(low, high + 1))
    single = rng.random() < single_share
    return 1 if single or high == 1 else int(rng.integers(2, high + 1))


def draw_rounds(
    rng: np.random.Generator, steps: int, longest: int, single_share: float | None = None
) -> tuple[int, int]:
    """Numbers of saves before the first and after the last edit; an original gets those of edits too."""
    before, after = int(rng.integers(0, 3)), int(rng.random() < 0.3)
    if steps == 0:
        before += draw_length(rng, 1, max(longest, 1), single_share)
    return before, after


def draw_size(photo: Photo, rng: np.random.Generator) -> Photo:
    """The photograph itself or, half of the time, reduced to an eye distance in EYE_DISTANCE."""
    wanted, kept = float(rng.uniform(*EYE_DISTANCE)), bool(rng.random() < 0.5)
    scale = wanted / max(photo.eye_distance, 1.0)
    return photo if kept or scale >= 1.0 else photo.resized(scale)


def _edit_visibly(photo: Photo, component: str, rng: np.random.Generator, donor: Photo) -> tuple[Edit, str]:
    functions = list(EDITS[component])
    weights = np.array(list(EDITS[component].values()))
    best: tuple[float, Edit, str] | None = None
    for _ in range(_TRIES):
        function = functions[int(rng.choice(len(functions), p=weights / weights.sum()))]
        edit = function(photo, component, rng, donor)
        change = visible_change(photo.image, edit)
        if best is None or change > best[0]:
            best = (change, edit, function.__name__)
        if change >= MINIMUM_CHANGE:
            break
    assert best is not None
    return best[1], best[2]


def visible_change(image: Image, edit: Edit) -> float:
    """Mean absolute change of the pixels in an edit's mask after a 3 x 3 box blur, grey levels."""
    mask = edit.mask.astype(np.uint8)
    x, y, width, height = cv2.boundingRect(mask)
    if width == 0:
        return 0.0
    box = slice(y, y + height), slice(x, x + width)
    moved = cv2.subtract(edit.image[box], image[box], dtype=cv2.CV_16S)
    coarse = np.abs(cv2.blur(moved, (3, 3)))
    return float(np.mean(cv2.mean(coarse, mask[box])[:3]))


def _bit(component: str) -> int:
    return COMPONENTS.index(component) if component in COMPONENTS else 0
