"""Packs: faces of many data sets, found once, in parts that a loader reads without finding them again.

DIR/00000.tar, 00001.tar, ... hold per face `{key}.jpg`, an upright window of the image around the head, at
most `side` pixels for the whole head and never enlarged, and where there is one `{key}.mask.png`; then
`index.json`, the annotation of each face, `arrays.npz`, its landmarks, hair and thumbnail, and `crc32.json`,
the CRC-32 of each of these, which is compared whenever one is read. Faces of all sources are mixed in every
part, so that some of the parts are a smaller pack, and training can begin before all have arrived.
DIR/manifest.json says how the pack was made, what each part holds and which faces are left out as
near-duplicates. `forgerank.data.prepare.pack_writer` writes packs.
"""

import io
import json
import tarfile
import zlib
from collections.abc import Collection, Container, Sequence
from copy import copy
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from rich.console import Console
from rich.text import Text

from forgerank.data.check.near_duplicates import THUMBNAIL
from forgerank.data.sample import LabelledImage, Sample, read_image, read_mask
from forgerank.data.tar_files import Member, read_member, tar_members
from forgerank.faces.align import estimate_alignment, five_points
from forgerank.files import os_reason, read_json
from forgerank.labels import COMPONENTS, Parts, check_sequence
from forgerank.types import SPLITS, Image, InputError, Points

if TYPE_CHECKING:
    from forgerank.forge.whole_faces import Reconstruction

MANIFEST = "manifest.json"
INDEX, ARRAYS = "index.json", "arrays.npz"
LANDMARK_STEPS = 32  # of a pixel: landmarks are stored as whole numbers of these
HAIR_SIDE = 96  # cells of the stored hair mask along a side


class Entry(NamedTuple):
    """The annotation of one face of a part."""

    key: str
    source: str  # name of the data set in the recipe
    label: str  # real or fake
    group: str
    split: str
    method: str
    sequence: tuple[int, ...]
    parts: Parts | None
    eye_distance: float  # pixels of the stored crop
    file: str  # the image it was cut out of, within its source
    hash: str  # perceptual hash of the aligned face, 16 hexadecimal digits; empty for a flat one


@dataclass(frozen=True)
class Part:
    """One tar file with its index."""

    path: Path
    entries: tuple[Entry, ...]
    members: dict[str, Member]
    landmarks: NDArray[np.int16]  # (n, 468, 2) x, y in 1/LANDMARK_STEPS pixels of the crop
    hair: NDArray[np.uint8]  # (n, HAIR_SIDE, HAIR_SIDE / 8) bits; zeros where it was not segmented
    thumbnails: NDArray[np.uint8]  # (n, 32, 32) grey, aligned
    points: NDArray[np.float32]  # (n, 5, 2) pixels of the crop
    size: int  # bytes
    index: int  # CRC-32 of its index.json, which no other part has


_SHAPES = {
    "landmarks": (468, 2),
    "hair": (HAIR_SIDE, HAIR_SIDE // 8),
    "thumbnails": (THUMBNAIL, THUMBNAIL),
}


class _Read(BaseModel):
    model_config = ConfigDict(frozen=True)


class ListedPart(_Read):
    """What a manifest says of a part."""

    faces: int
    bytes: int
    sha256: str
    index: int | None = None  # as in `Part`; older manifests do not say


class DroppedFace(_Read):
    """A near-duplicate that is in a part, but no part of any split."""

    key: str
    source: str
    file: str
    repeats: str | None  # SOURCE/FILE of the one that stays; None where none does
    reason: str


class ManifestRecipe(_Read):
    """What is read of the settings that a pack was made with."""

    distance: int  # bits of 64 in which the hashes of near-duplicates may differ


class Manifest(_Read):
    """What is read of manifest.json."""

    recipe: ManifestRecipe
    faces: int  # without the dropped ones
    sources: dict[str, dict[str, int]]  # source -> "train real", "train fake", "val real", ... -> faces
    skipped: dict[str, int]  # reason -> images without a usable face
    dropped: tuple[DroppedFace, ...]
    parts: dict[str, ListedPart] = Field(min_length=1)


def read_manifest(root: Path) -> Manifest | None:
    """The manifest; None before it is written, or where it has not arrived yet. Raises InputError."""
    path = root / MANIFEST
    if not path.exists():
        return None
    if not path.is_file():
        raise InputError(f"{path}: not a regular file")
    try:
        return Manifest.model_validate(read_json(path))
    except ValidationError as error:
        first = error.errors()[0]
        where = "".join(f"{part}: " for part in first["loc"])
        raise InputError(f"{path}: not the manifest of a pack: {where}{first['msg']}") from error


def finished_manifest(root: Path) -> Manifest:
    """As `read_manifest`; raises InputError where there is none."""
    manifest = read_manifest(root)
    if manifest is None:
        raise InputError(f"{root}: no {MANIFEST} here: the pack is not finished, or none")
    return manifest


def read_part(path: Path) -> Part:
    """Open one part; kept in memory, so that several readers of a pack share it. Raises InputError."""
    try:
        status = path.stat()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {os_reason(error)}") from error
    return _read_part(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=4096)
def _read_part(path: Path, size: int, changed: int) -> Part:
    try:
        members = tar_members(path)
        if missing := [name for name in (INDEX, ARRAYS) if name not in members]:
            raise InputError(f"{path}: is no part of a pack: it holds no {missing[0]}")
        index, arrays = (read_member(path, name, members[name]) for name in (INDEX, ARRAYS))
        entries = tuple(_to_entry(row) for row in json.loads(index))
        with np.load(io.BytesIO(arrays), allow_pickle=False) as stored:
            values = {name: stored[name] for name in _SHAPES}
        for name, shape in _SHAPES.items():
            if values[name].shape != (len(entries), *shape):
                raise ValueError(f"{name} of shape {values[name].shape} for {len(entries)} faces")
    except (InputError, MemoryError):
        raise
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {os_reason(error)}") from error
    except Exception as error:  # NumPy and zipfile raise errors of every kind
        raise InputError(f"{path}: cannot be read as a part of a pack: {error!r}") from error
    meshes = values["landmarks"].astype(np.float32) / np.float32(LANDMARK_STEPS)
    points = five_points(meshes.transpose(1, 0, 2)).transpose(1, 0, 2)  # (n, 5, 2)
    return Part(
        path,
        entries,
        members,
        **values,
        points=np.ascontiguousarray(points),
        size=size,
        index=zlib.crc32(index),
    )


def _to_entry(row: dict[str, Any]) -> Entry:
    parts = None if row["parts"] is None else tuple(row["parts"])
    entry = Entry(**{**row, "sequence": tuple(row["sequence"]), "parts": parts})
    if entry.label not in ("real", "fake") or entry.split not in SPLITS:
        raise ValueError(f"{entry.key}: a {entry.label} face of the {entry.split} split")
    return entry


def pack_parts(root: Path) -> list[Path]:
    """The parts that are there, in order. Raises InputError where there is none."""
    found = _tars(root)
    if not found:
        raise InputError(f"{root}: no parts of a pack (00000.tar, ...) here")
    return found


def _tars(root: Path) -> list[Path]:
    try:
        return sorted(path for path in root.iterdir() if path.suffix == ".tar")
    except OSError as error:
        raise InputError(f"{root}: cannot be read: {os_reason(error)}") from error


def check_listed(parts: Sequence[Part], manifest: Manifest | None) -> None:
    """Raises InputError for a part that is not the one that the manifest lists, and for faces in two parts.

    Faces are not read: `read_member` does that, and `forgerank data check pack`.
    """
    places: dict[str, Path] = {}
    for part in parts:
        if manifest is not None:
            listed = manifest.parts.get(part.path.name)
            if listed is None:
                raise InputError(f"{part.path}: {MANIFEST} does not list it")
            if (listed.faces, listed.bytes) != (len(part.entries), part.size) or listed.index not in (
                None,
                part.index,
            ):
                raise InputError(f"{part.path}: is not the part that {MANIFEST} lists")
        for entry in part.entries:
            if places.setdefault(entry.key, part.path) != part.path:
                raise InputError(f"{part.path}: holds faces of {places[entry.key].name} again")


class Face(NamedTuple):
    """One stored face with all that the forge needs of it."""

    image: Image  # (H, W, 3)
    landmarks: Points  # (468, 2) pixels of the crop
    hair: NDArray[np.uint8]  # (H, W) 0 or 255


class Pack:
    """One split of a pack as a `Source`.

    sources, without: only faces of these data sets, all but these. label: real or fake alone. methods: only
    forged faces made in these ways. Raises InputError for a root without parts, a name that the pack does not
    hold, and nothing left; and as `check_listed` does.
    """

    def __init__(
        self,
        root: Path,
        split: str,
        *,
        length: int = len(COMPONENTS),
        sources: Sequence[str] | None = None,
        without: Collection[str] = (),
        label: str | None = None,
        methods: Collection[str] | None = None,
    ) -> None:
        self.root, self.split, self.length = root, split, length
        manifest = read_manifest(root)
        self._parts = [read_part(path) for path in pack_parts(root)]
        check_listed(self._parts, manifest)
        there = {part.path.name for part in self._parts}
        lost = tuple(name for name in (manifest.parts if manifest else ()) if name not in there)
        _say_incomplete(root, lost, manifest is not None)
        dropped = {face.key for face in manifest.dropped} if manifest else set()
        names = {entry.source for part in self._parts for entry in part.entries}
        # Some parts may be on their way still.
        if unknown := {*(sources or ()), *without} - names - set(manifest.sources if manifest else ()):
            raise InputError(
                f"{root}: holds no {', '.join(sorted(unknown))}; it holds {', '.join(sorted(names))}"
            )
        self._places = [
            (number, row)
            for number, part in enumerate(self._parts)
            for row, entry in enumerate(part.entries)
            if entry.split == split
            and (sources is None or entry.source in sources)
            and entry.source not in without
            and label in (None, entry.label)
            and (methods is None or entry.label == "real" or entry.method in methods)
            and entry.key not in dropped
        ]
        if not self._places:
            chosen = f" of {', '.join(sources)}" if sources else ""
            missing = f"; missing are {', '.join(lost)}" if lost else ""
            raise InputError(f"{root}: no {label or 'face'}{chosen} in the {split} split{missing}")

    def __len__(self) -> int:
        return len(self._places)

    def only(self, keys: Container[str]) -> "Pack":
        """This split without the faces whose keys are not among these; it may be empty."""
        chosen = copy(self)
        chosen._places = [place for i, place in enumerate(self._places) if self.entry(i).key in keys]
        return chosen

    @property
    def part_indexes(self) -> dict[str, int]:
        """`Part.index` of every part by its name: what tells this pack from another one."""
        return {part.path.name: part.index for part in self._parts}

    def entry(self, index: int) -> Entry:
        """The annotation of the face at `index` in the part."""
        number, row = self._places[index]
        return self._parts[number].entries[row]

    def landmarks(self, index: int) -> Points:
        """Its landmarks, (468, 2), pixels of the crop."""
        number, row = self._places[index]
        steps = self._parts[number].landmarks[row].astype(np.float32)
        return np.asarray(steps / np.float32(LANDMARK_STEPS), dtype=np.float32)

    def points(self, index: int) -> Points:
        """Its five points, (5, 2), pixels of the crop."""
        number, row = self._places[index]
        return np.asarray(self._parts[number].points[row], dtype=np.float32)

    def sample(self, index: int) -> Sample:
        """The annotation at `index`; its path names a member: PART/KEY.jpg."""
        number, _ = self._places[index]
        entry = self.entry(index)
        binary = self.length == 1
        return Sample(
            image=self._parts[number].path / f"{entry.key}.jpg",
            sequence=check_sequence(entry.sequence, 1 if binary else self.length) if not binary else (),
            group=f"{entry.source}/{entry.group}",
            split=entry.split,
            dataset=entry.source,
            points=self.points(index),
            source=entry.source,
            method=entry.method,
            parts=(int(entry.label == "fake"),) if binary else entry.parts,
            fake=entry.label == "fake",
        )

    def load(self, index: int, rng: np.random.Generator) -> LabelledImage:
        """Read and decode one face; `rng` is not used. Raises InputError for an unreadable one."""
        number, _ = self._places[index]
        sample = self.sample(index)
        assert sample.points is not None
        mask_name = f"{self.entry(index).key}.mask.png"
        image, mask = self.image(index), None
        if mask_name in self._parts[number].members and self.length > 1:
            mask = read_mask(sample.image.with_name(mask_name), image, self._read(number, mask_name))
        return LabelledImage(image, sample.points, sample.sequence, mask, sample.parts, sample.fake)

    def image(self, index: int) -> Image:
        """The stored crop, (H, W, 3)."""
        number, _ = self._places[index]
        name = f"{self.entry(index).key}.jpg"
        return read_image(self._parts[number].path / name, self._read(number, name))

    def face(self, index: int) -> Face:
        """The crop with its landmarks and hair."""
        number, row = self._places[index]
        image = self.image(index)
        return Face(image, self.landmarks(index), unpack_hair(self._parts[number].hair[row], image.shape[:2]))

    def _read(self, number: int, name: str) -> bytes:
        part = self._parts[number]
        if name not in part.members:
            raise InputError(f"{part.path / name}: is missing")
        return read_member(part.path, name, part.members[name])


@cache
def _say_incomplete(root: Path, lost: tuple[str, ...], listed: bool) -> None:
    """A line on standard error, once, on a pack of which something has not arrived."""
    if not listed:
        line = f"{root}: no {MANIFEST} here: near-duplicates are not left out, and parts may be missing"
    elif lost:
        names = ", ".join((*lost[:3], *(["..."] if len(lost) > 3 else [])))
        line = f"{root}: without {names}, which {MANIFEST} lists"
    else:
        return
    Console(stderr=True).print(Text(f"forgerank: {line}"), soft_wrap=True)


def pack_hair(hair: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """A hair mask (H, W) of any size as HAIR_SIDE x HAIR_SIDE bits."""
    import cv2

    small = cv2.resize(hair.astype(np.uint8) * 255, (HAIR_SIDE, HAIR_SIDE), interpolation=cv2.INTER_AREA)
    return np.packbits(np.asarray(small) > 127, axis=1)


def unpack_hair(bits: NDArray[np.uint8], shape: tuple[int, int]) -> NDArray[np.uint8]:
    """The mask at the size of its crop, (H, W), 0 or 255."""
    import cv2

    small = np.unpackbits(bits, axis=1) * np.uint8(255)
    full = cv2.resize(small, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR)
    return (np.asarray(full) > 127).astype(np.uint8) * np.uint8(255)


ZOOM = 1.3  # of the crops that autoencoders see
PARTS = "parts.json"  # a member of reconstructions: `Pack.part_indexes` of the pack that they were made of


class Reconstructions:
    """Reconstructed crops by the key of their face. Raises InputError for a folder that holds none."""

    def __init__(self, root: Path) -> None:
        self._members: dict[str, tuple[Path, Member]] = {}
        self._parts: list[tuple[Path, dict[str, int]]] = []
        for path in _tars(root):
            try:
                members = tar_members(path)
                if PARTS in members:  # older ones do not say
                    self._parts.append((path, _read_parts(path, members.pop(PARTS))))
            except (OSError, tarfile.TarError, ValueError) as error:
                raise InputError(f"{path}: cannot be read as reconstructions: {error}") from error
            self._members |= {Path(name).stem: (path, at) for name, at in members.items()}
        if not self._members:
            raise InputError(f"{root}: no reconstructions (*.tar) here")

    def check_made_of(self, pack: Pack) -> None:
        """Raises InputError where they are of another pack, whose faces may have the same keys.

        Either may lack parts that the other has.
        """
        there = pack.part_indexes
        for path, parts in self._parts:
            if any(there[name] != parts[name] for name in there.keys() & parts.keys()):
                raise InputError(f"{path}: its reconstructions are of another pack than {pack.root}")

    def __len__(self) -> int:
        return len(self._members)

    def __contains__(self, key: str) -> bool:
        return key in self._members

    @property
    def keys(self) -> frozenset[str]:
        """Keys of the faces that have a reconstruction."""
        return frozenset(self._members)

    def load(self, key: str, landmarks: Points) -> "Reconstruction":
        """The reconstructed crop, and its alignment in an image with these landmarks."""
        from forgerank.forge.whole_faces import Reconstruction

        path, member = self._members[key]
        image = read_image(path / f"{key}.jpg", read_member(path, f"{key}.jpg", member))
        alignment = estimate_alignment(five_points(landmarks), image.shape[0], ZOOM)
        return Reconstruction(image, alignment.matrix)


def _read_parts(path: Path, member: Member) -> dict[str, int]:
    parts = json.loads(read_member(path, PARTS, member))
    if not isinstance(parts, dict):
        raise InputError(f"{path / PARTS}: not a list of parts")
    return parts
