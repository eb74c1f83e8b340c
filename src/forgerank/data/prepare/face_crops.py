"""The faces of one clip as square crops, with landmarks and tracks."""

import hashlib
import io
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image as PILImage

from forgerank.data.clip import Clip
from forgerank.data.formats.prepared import Row, Skip
from forgerank.faces.align import estimate_alignment, five_points
from forgerank.faces.analyze import FaceAnalyzer
from forgerank.faces.track import Observation, Track, assign, embed
from forgerank.files import write_atomic
from forgerank.media.frame_access import Frame, Lost
from forgerank.types import Face, Image, InputError, Points

_FACES = "faces"
_EMBEDDED_SIDE = 96  # pixels of the aligned crop by which a face is recognised in other frames
_SMALLEST = 4.0  # pixels across: nothing below can be aligned
_QUALITY = 95  # of the crops' JPEG, without chroma subsampling
NO_FACE = "no face"


@dataclass(frozen=True, slots=True)
class CutConfig:
    """Settings of the crops."""

    frames: int | None = 32  # of each clip; None: every one
    size: int = 384  # side of the crops, pixels
    margin: float = 0.15  # on each side of what alignment takes, share of its side: room for augmentation
    faces: Literal["largest", "all"] = "largest"
    detector: str = ""  # of DETECTORS; "": retinaface where its weights are given, else blazeface
    detector_weights: Path | None = None

    def __post_init__(self) -> None:
        if (self.frames is not None and self.frames < 1) or self.size < 16 or not 0 <= self.margin <= 2:
            raise InputError("give at least 1 frame, a size of at least 16 and a margin in 0..2")

        if not self.detector:
            chosen = "blazeface" if self.detector_weights is None else "retinaface"
            object.__setattr__(self, "detector", chosen)

    def settings(self) -> dict[str, Any]:
        """What two runs into one folder must share, without paths of this machine."""
        weights = self.detector_weights
        sha256 = None if weights is None else hashlib.sha256(weights.read_bytes()).hexdigest()
        return {**asdict(self), "detector_weights": sha256}


def cut_clip(
    clip: Clip, frames: Iterable[Frame | Lost], out: Path, config: CutConfig, analyzer: FaceAnalyzer
) -> tuple[int, list[Row], list[Skip]]:
    """Write the crops of one clip; returns the number of frames searched, a row per face and the frames
    without one, both in order.
    """
    folder = out / _FACES / (clip.split or "all") / clip.name
    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.glob("*.jpg*"):  # of an attempt that was cut off
        stale.unlink()
    asked, rows, skipped, tracks = 0, list[Row](), list[Skip](), list[Track]()
    for frame in frames:
        asked += 1
        if not isinstance(frame, Frame):
            skipped.append((frame.number, frame.reason))
            continue
        faces = [face for face in analyzer.analyze(frame.image) if np.ptp(face.landmarks) >= _SMALLEST]
        if not faces:
            skipped.append((frame.number, NO_FACE))
            continue
        if config.faces == "largest":
            faces, numbers = faces[:1], [0]
        else:
            tracks, numbers = assign(tracks, [_observe(frame.image, face) for face in faces])
        for face, track in zip(faces, numbers, strict=True):
            file = folder / (f"{frame.number:06d}" + (f"-{track}" if track else "") + ".jpg")
            cut, square = cut_face(frame.image, face, config)
            content = io.BytesIO()
            PILImage.fromarray(cut).save(content, "JPEG", quality=_QUALITY, subsampling=0)
            write_atomic(file, content.getvalue())
            row = _row(clip, frame, face, square, config.size)
            rows.append({"file": file.relative_to(out).as_posix(), "track": track, **row})
    rows.sort(key=lambda row: (row["frame"], row["track"]))
    return asked, rows, sorted(skipped, key=lambda skip: -1 if skip[0] is None else skip[0])


def _observe(image: Image, face: Face) -> Observation:
    alignment = estimate_alignment(five_points(face.landmarks), _EMBEDDED_SIDE)
    return Observation(face.box, embed(alignment.crop(image)))


Square = tuple[int, int, int]  # x0, y0, side, pixels of the frame


def cut_face(image: Image, face: Face, config: CutConfig) -> tuple[Image, Square]:
    """The upright square around all that alignment takes of a face, with the margin, at the config's size.

    Black where the frame ends. Returns it with its place in the frame.
    """
    alignment = estimate_alignment(five_points(face.landmarks), 1)
    corners = alignment.to_image(np.array([[0, 0], [1, 0], [0, 1], [1, 1]], np.float32))
    low, high = corners.min(axis=0), corners.max(axis=0)
    side = max(1, round(float((high - low).max()) * (1 + 2 * config.margin)))
    x0, y0 = (round(float(middle) - side / 2) for middle in (low + high) / 2)
    square = PILImage.fromarray(image).crop((x0, y0, x0 + side, y0 + side))
    cut = square.resize((config.size, config.size), PILImage.Resampling.LANCZOS, reducing_gap=3.0)
    return np.asarray(cut), (x0, y0, side)


def _row(clip: Clip, frame: Frame, face: Face, square: Square, size: int) -> Row:
    def to_crop(points: Points) -> Points:
        return ((points - square[:2]) * (size / square[2])).astype(np.float32)

    return {
        "clip": clip.name,
        "frame": frame.number,
        "time_s": frame.time,
        "split": clip.split,
        "dataset": clip.dataset,
        "method": clip.method,
        "compression": clip.compression,
        "group": clip.group,
        "label": list(clip.sequence),
        "points": to_crop(five_points(face.landmarks)).ravel(),
        "landmarks": to_crop(face.landmarks).astype(np.float16).ravel(),
        "box": face.box,
        "square": square,
        "score": face.score,
        "width": frame.image.shape[1],
        "height": frame.image.shape[0],
    }
