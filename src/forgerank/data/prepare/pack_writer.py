"""Writes a pack: the faces of many data sets, found once, cut out and annotated."""

import io
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from forgerank import __version__
from forgerank.data.check.near_duplicates import THUMBNAIL, perceptual_hash, thumbnail
from forgerank.data.check.pack_integrity import pack_duplicates, sha256_of
from forgerank.data.formats.pack import (
    ARRAYS,
    HAIR_SIDE,
    INDEX,
    LANDMARK_STEPS,
    MANIFEST,
    Entry,
    Manifest,
    finished_manifest,
    pack_hair,
    pack_parts,
    read_part,
)
from forgerank.data.sample import Sample, Samples, read_image, read_mask
from forgerank.data.tar_files import read_member, write_tar
from forgerank.faces.align import Alignment, estimate_alignment, five_points
from forgerank.faces.analyze import FaceAnalyzer
from forgerank.faces.regions import hair_mask
from forgerank.files import read_json, read_yaml, write_atomic
from forgerank.labels import COMPONENTS
from forgerank.processes import process_pool, sole_writer
from forgerank.types import SPLITS, Image, InputError, Points

Progress = Callable[[int, int], None]

ROOM = 0.9  # zoom of the square that is stored: the whole head and room for jitter around it
LARGEST_PART = 40 * 2**20  # bytes
_HASH_ZOOM, _HASH_SIDE = 1.3, 64  # of the aligned face that near-duplicates are compared by
_HAIR_FACE = 90  # pixels from forehead to chin at which hair is segmented
_UNREADABLE = "unreadable"  # of the reasons why an image is left out
_SEARCH_SIDE = 640  # pixels: longer side of the image that faces are searched in, at most


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PackSource(_Strict):
    """One data set of a pack."""

    name: str = Field(pattern=r"^[\w.-]+$")
    dataset: str = "folder"  # a key of DATASETS whose images lie on disk
    root: Path
    options: dict[str, Any] = {}  # keywords of the data set
    splits: tuple[str, ...] = ("train", "val")

    @field_validator("splits")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value or set(value) - set(SPLITS):
            raise ValueError(f"must be of {', '.join(SPLITS)}")
        return value


class PackRecipe(_Strict):
    """Settings of a pack."""

    sources: tuple[PackSource, ...] = Field(min_length=1)
    side: int = Field(default=384, ge=64)  # pixels of a crop of the whole head, at most
    quality: int = Field(default=95, ge=50, le=100)  # of the stored JPEG, colour at full resolution
    faces_per_part: int = Field(default=800, ge=1)
    seed: int = Field(default=0, ge=0)  # of the order in which faces are mixed
    distance: int = Field(
        default=6, ge=0, le=16
    )  # bits of 64 in which the hashes of near-duplicates may differ

    @field_validator("sources")
    @classmethod
    def _unique(cls, value: tuple[PackSource, ...]) -> tuple[PackSource, ...]:
        names = [source.name for source in value]
        if repeated := [name for name, count in Counter(names).items() if count > 1]:
            raise ValueError(f"{', '.join(repeated)} is there more than once")
        return value


@dataclass(frozen=True)
class PackSummary:
    """Contents of a pack."""

    faces: int  # left after near-duplicates were dropped
    counts: dict[str, dict[str, int]]  # source -> "train real", "train fake", "val real", ...
    skipped: dict[str, int]  # reason -> images without a usable face
    dropped: dict[str, int]  # reason -> near-duplicates
    parts: int
    largest_part: int  # bytes
    # a line on each image that cannot be read, known where this run wrote the manifest
    unread: tuple[str, ...] = field(default=(), compare=False)


def load_recipe(path: Path) -> PackRecipe:
    """A recipe from a YAML file. Raises InputError, one line naming the file and the first bad key."""
    try:
        return PackRecipe.model_validate(read_yaml(path))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "recipe"
        reason = "unknown key" if first["type"] == "extra_forbidden" else first["msg"]
        raise InputError(f"{path}: {key}: {reason}") from error


def write_pack(
    recipe: PackRecipe, out: Path, *, workers: int = 1, progress: Progress | None = None
) -> PackSummary:
    """Write the parts that are missing, then the manifest.

    The recipe is kept beside the parts: a run that was interrupted goes on where it stopped, and a folder
    with another recipe's pack is refused. Images without a face, and those that cannot be read, are counted
    by reason in the manifest, and named in a file beside each part. Raises InputError where nothing can be
    listed or a worker dies.
    """
    listed = list_faces(recipe)
    with sole_writer(out):
        _own(recipe, out)
        numbers = range(0, len(listed), recipe.faces_per_part)
        jobs = {
            out / f"{number:05d}.tar": [
                (start + i, *item) for i, item in enumerate(listed[start : start + recipe.faces_per_part])
            ]
            for number, start in enumerate(numbers)
        }
        todo = {path: rows for path, rows in jobs.items() if not path.is_file()}
        done = len(listed) - sum(map(len, todo.values()))
        if progress:
            progress(done, len(listed))
        with process_pool(workers, _start) as pool:
            for count in pool.map(_write_part, todo, todo.values(), [recipe] * len(todo)):
                done += count
                if progress:
                    progress(done, len(listed))
        return write_manifest(recipe, out, len(listed))


def list_faces(recipe: PackRecipe) -> list[tuple[str, Sample]]:
    """Every image of every source with its source's name, mixed by the recipe's seed."""
    from forgerank.data.formats.registry import DATASETS

    listed: list[tuple[str, Sample]] = []
    for source in recipe.sources:
        if source.dataset not in DATASETS:
            raise InputError(
                f"{source.name}: dataset must be one of {', '.join(DATASETS)}, got {source.dataset}"
            )
        for split in source.splits:
            found = DATASETS[source.dataset](
                source.root, split, **{"length": len(COMPONENTS), **source.options}
            )
            if not isinstance(found, Samples):
                raise InputError(f"{source.name}: only data sets whose images lie on disk can be packed")
            listed += [(source.name, sample) for sample in found.samples]
    if not listed:
        raise InputError("the sources of the recipe hold no images")
    order = np.random.default_rng(recipe.seed).permutation(len(listed))
    return [listed[place] for place in order]


def _own(recipe: PackRecipe, out: Path) -> None:
    kept = out / "recipe.json"
    # Where a source lies does not change what is in it.
    described = recipe.model_dump(mode="json")
    begun = any(path != kept for path in out.iterdir())
    if kept.is_file():
        there = _without_roots(read_json(kept))
        if there == _without_roots(described):
            return
        if begun or there is None:  # else that pack failed before its first part
            raise InputError(f"{out}: holds the pack of another recipe: choose another folder")
    elif begun:
        raise InputError(f"{out}: not empty, and no pack")
    write_atomic(kept, (json.dumps(described, indent=1) + "\n").encode())


def _without_roots(described: Any) -> Any:
    try:
        return described | {"sources": [source | {"root": None} for source in described["sources"]]}
    except (TypeError, KeyError):
        return None  # no recipe: equal to none


def _start() -> None:
    import cv2

    cv2.setNumThreads(1)


@cache
def _analyzer() -> FaceAnalyzer:
    return FaceAnalyzer()  # one a process; opens its models on first use


def _write_part(path: Path, rows: Sequence[tuple[int, str, Sample]], recipe: PackRecipe) -> int:
    """One tar file, and beside it a line on each image that was skipped, by reason; returns how many were
    read.
    """
    skipped: dict[str, list[str]] = {}
    members: dict[str, bytes] = {}
    entries: list[dict[str, Any]] = []
    arrays: dict[str, list[NDArray[Any]]] = {"landmarks": [], "hair": [], "thumbnails": []}
    for number, source, sample in rows:
        try:
            image = read_image(sample.image)
            mask = None if sample.mask is None else read_mask(sample.mask, image)
        except InputError as error:
            skipped.setdefault(f"{source}: {_UNREADABLE}", []).append(str(error))
            continue
        landmarks = find_largest(image)
        if landmarks is None:
            skipped.setdefault(f"{source}: no face", []).append(f"{sample.image}: no face found")
            continue
        key = f"{number:09d}"
        crop = cut(image, landmarks, recipe.side)
        members[f"{key}.jpg"] = _jpeg(crop.image, recipe.quality)
        if mask is not None:
            members[f"{key}.mask.png"] = _png(crop.cut_mask(mask))
        aligned = estimate_alignment(five_points(crop.landmarks), _HASH_SIDE, _HASH_ZOOM).crop(crop.image)
        hashed = perceptual_hash(aligned)
        entry = Entry(
            key=key,
            source=source,
            label="fake" if sample.forged else "real",
            group=sample.group,
            split=sample.split,
            method=sample.method,
            sequence=sample.sequence,
            parts=sample.parts,
            eye_distance=round(float(np.linalg.norm(np.subtract(*five_points(crop.landmarks)[:2]))), 1),
            file=sample.image.name,
            hash="" if hashed is None else f"{hashed:016x}",
        )
        entries.append(entry._asdict())
        arrays["landmarks"].append(np.rint(crop.landmarks * LANDMARK_STEPS).astype(np.int16))
        # Only real faces are forged.
        hair = np.zeros((8, 8), dtype=bool) if sample.forged else _small_hair(crop.image, crop.landmarks)
        arrays["hair"].append(pack_hair(hair))
        arrays["thumbnails"].append(thumbnail(aligned))
    buffer = io.BytesIO()
    if entries:
        stacked = {name: np.stack(values) for name, values in arrays.items()}
    else:
        shapes = {"landmarks": (0, 468, 2), "hair": (0, HAIR_SIDE, HAIR_SIDE // 8)}
        shapes["thumbnails"] = (0, THUMBNAIL, THUMBNAIL)
        stacked = {name: np.zeros(shape, dtype=np.uint8) for name, shape in shapes.items()}
    np.savez_compressed(buffer, allow_pickle=False, **stacked)
    members |= {INDEX: json.dumps(entries).encode(), ARRAYS: buffer.getvalue()}
    # Before the part: one that is there has all that belongs to it.
    write_atomic(path.with_suffix(".skipped.json"), json.dumps(skipped).encode())
    write_tar(path, members.items(), checksums=True)
    return len(rows)


def find_largest(image: Image) -> Points | None:
    """Landmarks (468, 2) of the largest face of an image, in its pixels; None without one."""
    import cv2

    factor = min(1.0, _SEARCH_SIDE / max(image.shape[:2]))
    small = image
    if factor < 1:
        size = (max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor)))
        small = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA))
    found = _analyzer().largest(small)
    if found is None:
        return None
    scale = np.array(image.shape[1::-1], dtype=np.float32) / np.array(small.shape[1::-1], dtype=np.float32)
    landmarks: Points = (found * scale).astype(np.float32)
    return landmarks


@dataclass(frozen=True)
class Cut:
    """A window of an image."""

    image: Image  # (H, W, 3)
    landmarks: Points  # (468, 2) pixels of the window
    box: tuple[int, int, int, int]  # left, top, right, bottom in the image, pixels

    def cut_mask(self, mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A mask of the image, (H, W), cut and resized like it."""
        import cv2

        left, top, right, bottom = self.box
        size = self.image.shape[1::-1]
        return np.asarray(cv2.resize(mask[top:bottom, left:right], size, interpolation=cv2.INTER_NEAREST))


def cut(image: Image, landmarks: Points, side: int) -> Cut:
    """The upright window that holds the aligned head with room around it, shrunk where the head is larger
    than `side` pixels, never enlarged and never turned: pixels keep their grid and their compression.
    """
    import cv2

    alignment: Alignment = estimate_alignment(five_points(landmarks), side, ROOM)
    corners = np.array([[0, 0], [side, 0], [0, side], [side, side]], dtype=np.float32)
    reach = alignment.to_image(corners)
    limit = np.array(image.shape[1::-1])
    left, top = np.clip(np.floor(reach.min(axis=0)).astype(int), 0, limit - 1).tolist()
    right, bottom = np.clip(np.ceil(reach.max(axis=0)).astype(int), [left + 1, top + 1], limit).tolist()
    window = image[top:bottom, left:right]
    scale = np.ones(2, dtype=np.float32)
    if alignment.scale < 1:
        size = [max(1, round(length * alignment.scale)) for length in (right - left, bottom - top)]
        window = np.asarray(cv2.resize(window, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
        scale = (np.array(size) / np.array([right - left, bottom - top])).astype(np.float32)
    points: Points = ((landmarks - np.array([left, top], dtype=np.float32)) * scale).astype(np.float32)
    return Cut(np.ascontiguousarray(window), points, (left, top, right, bottom))


def _small_hair(image: Image, landmarks: Points) -> NDArray[np.bool_]:
    import cv2

    face = float(np.linalg.norm(landmarks[10] - landmarks[152]))
    factor = min(1.0, _HAIR_FACE / max(face, 1.0))
    size = [max(1, round(length * factor)) for length in image.shape[1::-1]]
    small = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    return hair_mask(small, (landmarks * np.float32(factor)).astype(np.float32))


def _jpeg(image: Image, quality: int) -> bytes:
    import cv2

    options = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR]
    options.append(cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444)
    return cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)[1].tobytes()


def _png(mask: NDArray[np.uint8]) -> bytes:
    import cv2

    return cv2.imencode(".png", mask)[1].tobytes()


def write_manifest(recipe: PackRecipe, out: Path, images: int) -> PackSummary:
    """Look for near-duplicates over the whole pack and write the manifest beside its parts.

    Raises InputError where a part, which may be of an earlier run, has changed since it was written.
    """
    parts = [read_part(path) for path in pack_parts(out)]
    entries = [entry for part in parts for entry in part.entries]
    dropped = pack_duplicates(parts, recipe.distance)
    gone = {row["key"] for row in dropped}
    counts: dict[str, Counter[str]] = {source.name: Counter() for source in recipe.sources}
    for entry in entries:
        if entry.key not in gone:
            counts[entry.source][f"{entry.split} {entry.label}"] += 1
    skipped: Counter[str] = Counter()
    unread: list[str] = []
    files = {}
    for part in parts:
        for name, member in part.members.items():
            read_member(part.path, name, member)
        files[part.path.name] = {
            "faces": len(part.entries),
            "bytes": part.size,
            "sha256": sha256_of(part.path),
            "index": part.index,
        }
        for reason, lines in _skipped(part.path.with_suffix(".skipped.json")).items():
            skipped[reason] += lines if isinstance(lines, int) else len(lines)
            if isinstance(lines, list) and reason.endswith(_UNREADABLE):
                unread += lines
    manifest: dict[str, Any] = {
        "forgerank_version": __version__,
        "recipe": recipe.model_dump(mode="json"),
        "images": images,
        "faces": len(entries) - len(gone),
        "sources": {name: dict(sorted(count.items())) for name, count in counts.items()},
        "skipped": dict(skipped.most_common()),
        "dropped": dropped,
        "parts": files,
    }
    write_atomic(out / MANIFEST, (json.dumps(manifest, indent=1) + "\n").encode())
    return replace(_summary(Manifest.model_validate(manifest)), unread=tuple(unread))


def _skipped(path: Path) -> dict[str, list[str] | int]:
    """Lines on the images that a part left out, by reason, or their number in packs of earlier versions;
    nothing where that was not noted.
    """
    if not path.is_file():
        return {}
    found = read_json(path)
    if not isinstance(found, dict) or not all(
        isinstance(left_out, int | list) for left_out in found.values()
    ):
        raise InputError(f"{path}: no images by reason")
    return found


def load_summary(root: Path) -> PackSummary:
    """What the manifest of a pack says. Raises InputError without one."""
    return _summary(finished_manifest(root))


def _summary(manifest: Manifest) -> PackSummary:
    return PackSummary(
        faces=manifest.faces,
        counts=manifest.sources,
        skipped=manifest.skipped,
        dropped=dict(Counter(face.reason for face in manifest.dropped).most_common()),
        parts=len(manifest.parts),
        largest_part=max(part.bytes for part in manifest.parts.values()),
    )
