"""Whole-face forgeries: functions `(photo, rng, donor) -> Forgery`, and which components each one covers."""

from typing import Any, NamedTuple

import cv2
import numpy as np

from forgerank.faces.align import similarity
from forgerank.forge.blend import (
    Alpha,
    draw_softness,
    match_colour,
    mix,
    paste,
    region_alpha,
    region_polygons,
    window,
)
from forgerank.forge.photos import Photo
from forgerank.types import Image


class Forgery(NamedTuple):
    """A picture with another face in it."""

    image: Image  # (H, W, 3)
    alpha: Alpha  # (H, W) 0 untouched .. 1 replaced
    parameters: dict[str, Any]  # plain JSON values


def face_swap(photo: Photo, rng: np.random.Generator, donor: Photo) -> Forgery:
    """The donor's face in the target's head."""
    alpha = region_alpha(photo, "face", draw_softness(photo, "face", rng))
    strength, poisson = float(rng.uniform(0.6, 1.0)), bool(rng.random() < 0.35)
    edited, box = photo.image.copy(), window(alpha)
    matrix = similarity(
        region_polygons(donor.landmarks, "face")[0], region_polygons(photo.landmarks, "face")[0]
    )
    matrix[:, 2] -= (box[1].start, box[0].start)
    size = (box[1].stop - box[1].start, box[0].stop - box[0].start)
    other = cv2.warpAffine(
        donor.image, matrix, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101
    )
    other = match_colour(np.asarray(other), edited[box], alpha[box], strength)
    edited[box] = paste(edited[box], other, alpha[box], poisson=poisson)
    return Forgery(edited, alpha, {"colour_match": round(strength, 3), "poisson": poisson})


def self_blend(photo: Photo, rng: np.random.Generator, donor: Photo) -> Forgery:
    """The photograph blended with a slightly moved and recoloured copy of itself inside a face-shaped mask.

    From the published description of self-blended images (Shiohara and Yamasaki, CVPR 2022).
    """
    height, width = photo.shape
    angle, scale = float(rng.uniform(-2, 2)), float(rng.uniform(0.96, 1.04))
    move = rng.uniform(-0.05, 0.05, 2) * photo.eye_distance
    matrix = np.array(cv2.getRotationMatrix2D((width / 2, height / 2), angle, scale), np.float64)
    matrix[:, 2] += move
    copy = cv2.warpAffine(
        photo.image, matrix, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101
    )
    lab = cv2.cvtColor(copy, cv2.COLOR_RGB2LAB).astype(np.float32) + rng.uniform(-8, 8, 3).astype(np.float32)
    copy = np.asarray(cv2.cvtColor(np.clip(lab, 0, 255).astype(np.uint8), cv2.COLOR_LAB2RGB))
    if rng.random() < 0.5:
        copy = np.asarray(cv2.GaussianBlur(copy, (0, 0), float(rng.uniform(0.4, 1.2))))
    alpha = region_alpha(photo, "face", draw_softness(photo, "face", rng)) * np.float32(rng.uniform(0.5, 1.0))
    return Forgery(mix(photo.image, copy, alpha), alpha, {"angle": round(angle, 3), "scale": round(scale, 3)})
