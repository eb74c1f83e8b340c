"""One track per person: faces of a video's frames joined by their place and by an embedding of the crop.

Pure functions: `assign` takes the tracks before a frame and returns those after it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image as PILImage

from forgerank.faces.boxes import Box, Floats, overlaps
from forgerank.types import Image

_SIDE = 12  # pixels of the reduced crop that an embedding is made of
# Similarity is the product of two embeddings. Measured on aligned photographs: of two people at most 0.86 in
# 95 % of pairs and 0.91 in 99 %; of one photograph and its relit, strongly compressed, jittered copy at least
# 0.96 in 99 %.
_SAME_PERSON = 0.9  # wherever the face is
_SAME_PERSON_IN_PLACE = 0.5  # where the boxes overlap within a scene
_SAME_PLACE = 0.2  # IoU with the box in the frame before
_PLACE_WEIGHT = 0.1  # of the IoU beside the similarity: between people who look alike, place decides
_MAX_EMBEDDINGS, _NEW_EMBEDDING = 8, 0.97  # a track keeps embeddings whose similarity is below this


@dataclass(frozen=True, slots=True, eq=False)
class Observation:
    """One face in one frame."""

    box: Box  # x0, y0, x1, y1 in pixels
    embedding: Floats  # (K,), see `embed`


@dataclass(frozen=True, slots=True, eq=False)
class Track:
    """One person, up to the last frame that was assigned."""

    box: Box  # of the last observation
    active: bool  # whether that was in the last frame
    embeddings: Floats  # (1..8, K), the latest last


def embed(crop: Image) -> Floats:
    """The embedding of a face's aligned crop (S, S, 3): reduced to 12 x 12, zero mean, unit length; (432,).

    The product of two is their correlation, -1..1, which overall brightness and contrast do not change.
    """
    small = PILImage.fromarray(crop).resize((_SIDE, _SIDE), PILImage.Resampling.BOX)
    values = np.asarray(small, dtype=np.float32).ravel()
    values = values - values.mean()
    return np.asarray(values / max(float(np.linalg.norm(values)), 1e-6), dtype=np.float32)


def assign(
    tracks: Sequence[Track], observations: Sequence[Observation], *, cut: bool = False
) -> tuple[list[Track], list[int]]:
    """The tracks after one more frame, and for each observation the index of its track in that list.

    A face continues the track of a similar face wherever that was, or, within a scene, the track of the face
    that was in its place in the frame before; the most similar pairs first, one face per track. Any other
    face starts a new track. `cut`: the scene changed since the frame before, so that places are not compared.
    """
    scores = np.full((len(tracks), len(observations)), -np.inf)
    boxes = np.array([seen.box for seen in observations], dtype=np.float32).reshape(-1, 4)
    for row, track in enumerate(tracks):
        compares_place = track.active and not cut
        place = overlaps(np.array(track.box, np.float32), boxes) if compares_place else 0.0 * boxes[:, 0]
        for column, seen in enumerate(observations):
            similarity = float((track.embeddings @ seen.embedding).max())
            in_place = place[column] >= _SAME_PLACE and similarity >= _SAME_PERSON_IN_PLACE
            if in_place or similarity >= _SAME_PERSON:
                scores[row, column] = similarity + _PLACE_WEIGHT * place[column]
    matches = _best_pairs(scores)
    numbers, count = [], len(tracks)
    for column in range(len(observations)):
        if column not in matches:
            matches[column] = count
            count += 1
        numbers.append(matches[column])
    assigned = dict(zip(numbers, observations, strict=True))
    known: list[Track | None] = [*tracks, *[None] * (count - len(tracks))]
    return [_continue(track, assigned.get(number)) for number, track in enumerate(known)], numbers


def _best_pairs(scores: Floats) -> dict[int, int]:
    """Column -> row, highest score first, each row and column at most once; -inf never matches."""
    matches: dict[int, int] = {}
    scores = scores.copy()
    while scores.size and np.isfinite(best := scores.max()):
        row, column = (int(index[0]) for index in np.nonzero(scores == best))
        matches[column] = row
        scores[row], scores[:, column] = -np.inf, -np.inf
    return matches


def _continue(track: Track | None, seen: Observation | None) -> Track:
    if seen is None:
        assert track is not None
        return Track(track.box, False, track.embeddings)
    if track is None:
        return Track(seen.box, True, seen.embedding[None])
    embeddings = track.embeddings
    if float((embeddings @ seen.embedding).max()) < _NEW_EMBEDDING:
        embeddings = np.concatenate([embeddings, seen.embedding[None]])[-_MAX_EMBEDDINGS:]
    return Track(seen.box, True, embeddings)
