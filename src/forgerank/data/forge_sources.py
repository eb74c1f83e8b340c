"""Real faces forged on the fly, of photographs or of a pack: chains of edits, swaps, self-blends."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.text import Text

from forgerank.data.formats.pack import LANDMARK_STEPS, Pack, Reconstructions
from forgerank.data.sample import LabelledImage, Sample
from forgerank.faces.align import five_points
from forgerank.labels import COMPONENTS
from forgerank.types import InputError, Points

if TYPE_CHECKING:
    from forgerank.forge.photos import Photo


FORGED_PHOTOS = "forge"  # name of the data set whose images are real or forged as they are drawn
CHAIN = "chain"  # edits of single components, in a known order; every other kind is a whole-face forgery
KINDS: Mapping[str, float] = {CHAIN: 1.0}
_CANDIDATES = 12  # donors drawn, of which the one in the most similar pose is taken
_LIKE = 1.5  # largest ratio of two eye distances of like resolution
_KEPT = 64  # decoded faces kept in memory: donors are used again soon


class PackForge:
    """One split of a pack's real faces as a `Source`: of each an original and a forgery, new at every draw.

    Item 2i is real face i, 2i + 1 a forgery of it. Originals go through as many saves as forgeries do, and
    through the same ones. kinds: `chain` and names in FORGERIES or RECONSTRUCTED of `forge.whole_faces`, each
    with its weight; RECONSTRUCTED needs `reconstructions`, a folder that `forgerank data reconstruct` wrote,
    and is drawn for the faces that it holds, which are all the faces where no other kind is named. longest:
    the most edits of a chain; single_share: of chains, those of one edit. webp: share of saves that are WebP,
    in place of the trace's. Donors are other people of the split at like resolution and in a like pose.
    sources, without: as for `Pack`.
    """

    def __init__(
        self,
        root: Path,
        split: str,
        *,
        length: int = len(COMPONENTS),
        sources: Sequence[str] | None = None,
        without: Sequence[str] = (),
        kinds: Mapping[str, float] = KINDS,
        trace: str = "medium",
        webp: float | None = None,
        single_share: float = 0.5,
        longest: int = len(COMPONENTS),
        reconstructions: Path | None = None,
    ) -> None:
        from forgerank.forge.saves import TRACES
        from forgerank.forge.whole_faces import FORGERIES, RECONSTRUCTED

        self.length, self.single_share = length, single_share
        self.longest = longest
        self.kinds = {name: float(weight) for name, weight in kinds.items() if weight}
        self.reconstructions = None if reconstructions is None else Reconstructions(Path(reconstructions))
        known = {CHAIN, *FORGERIES, *RECONSTRUCTED}
        if unknown := self.kinds.keys() - known:
            raise InputError(f"kinds must be of {', '.join(sorted(known))}, got {', '.join(sorted(unknown))}")
        needy = self.kinds.keys() & RECONSTRUCTED.keys()
        if not self.kinds or (needy and self.reconstructions is None):
            raise InputError(f"kinds {', '.join(sorted(needy)) or 'none'}: needs reconstructions")
        if trace not in TRACES:
            raise InputError(f"trace must be one of {', '.join(TRACES)}, got {trace}")
        self.trace = TRACES[trace] if webp is None else replace(TRACES[trace], webp=webp)
        self.pack = Pack(root, split, length=length, sources=sources, without=without, label="real")
        if self.reconstructions is not None and needy:
            self.reconstructions.check_made_of(self.pack)
            held = self.pack.only(self.reconstructions.keys)
            if not len(held):
                raise InputError(f"{reconstructions}: holds none of the {split} faces of {root}")
            if self.kinds.keys() == needy:  # the faces that have a reconstruction are all there is
                self.pack = held
        self._poses, self._eyes = _poses(self.pack)
        groups = [self.pack.entry(i).group for i in range(len(self.pack))]
        self._groups = np.unique(groups, return_inverse=True)[1]

    def __len__(self) -> int:
        return 2 * len(self.pack)

    def sample(self, index: int) -> Sample:
        """The face that is used, and whether it is forged; how is drawn in `load`."""
        sample = self.pack.sample(index // 2)
        if index % 2 == 0:
            return sample
        parts = (1,) if self.length == 1 else None
        return Sample(
            sample.image, (), sample.group, sample.split, sample.dataset, sample.points, source=sample.source,
            method="forge", parts=parts, fake=True,
        )  # fmt: skip

    def load(self, index: int, rng: np.random.Generator) -> LabelledImage:
        """Forge it, or save it as often as if it had been forged; every random choice comes from `rng`."""
        from forgerank.forge.chain import draw_components, forge_image

        face, forged = divmod(index, 2)
        kind = self._draw_kind(face, rng)
        photo = self._photo(face)
        if kind != CHAIN:
            return self._whole(face, photo, kind, rng, forged=bool(forged))
        components = draw_components(rng, (1, self.longest), 0.0, single_share=self.single_share)
        if not forged:
            components = ()
        result = forge_image(
            photo,
            components,
            rng,
            lambda: ("", self._photo(self._draw_donor(face, rng))),
            trace=self.trace,
            longest=self.longest,
            single_share=self.single_share,
        )
        sequence = tuple(COMPONENTS.index(name) + 1 for name in result.components)
        if self.length == 1:
            return LabelledImage(
                result.image, result.points, (), None, (int(bool(sequence)),), bool(sequence)
            )
        return LabelledImage(result.image, result.points, sequence, result.mask)

    def _whole(
        self, face: int, photo: "Photo", kind: str, rng: np.random.Generator, *, forged: bool
    ) -> LabelledImage:
        """A whole-face forgery, or the original in its place, with the saves of one edit around it."""
        from forgerank.forge.chain import draw_rounds, draw_size
        from forgerank.forge.filters import disturb
        from forgerank.forge.photos import Photo
        from forgerank.forge.saves import apply_save, draw_save
        from forgerank.forge.whole_faces import self_blend, whole_face

        photo = draw_size(photo, rng)
        image, bits, parts = photo.image, None, None
        before, after = draw_rounds(rng, 1, self.longest)
        for turn in range(before + 1 + after):
            if forged and turn == before:
                now = Photo(image, photo.landmarks, photo.hair)
                donor = self._photo(self._draw_donor(face, rng))
                made = whole_face(now, rng, donor, {kind: 1.0}, self._reconstruction(face, photo))
                image, bits, parts = made.image, made.mask_bits, made.parts
            elif turn == before and kind == self_blend.__name__ and rng.random() < 0.5:
                # Half of all self-blends change the background: it must not separate them from originals.
                image, _ = disturb(image, rng)
            image, _ = apply_save(image, draw_save(rng, self.trace))
        if self.length == 1:
            bits, parts = None, (int(forged),)
        elif parts is not None and set(parts) == {None}:
            bits = None
        return LabelledImage(image, five_points(photo.landmarks), (), bits, parts, forged)

    def _draw_kind(self, face: int, rng: np.random.Generator) -> str:
        held = self.reconstructions is not None and self.pack.entry(face).key in self.reconstructions
        kinds = {name: weight for name, weight in self.kinds.items() if held or name not in _reconstructed()}
        if not kinds:
            raise InputError("kinds: a face without a reconstruction needs another kind")
        weights = np.array(list(kinds.values()))
        return list(kinds)[int(rng.choice(len(weights), p=weights / weights.sum()))]

    def _reconstruction(self, face: int, photo: "Photo") -> Any:
        if self.reconstructions is None:
            return None
        key, store = self.pack.entry(face).key, self.reconstructions
        return (lambda: store.load(key, photo.landmarks)) if key in store else None

    def _draw_donor(self, face: int, rng: np.random.Generator) -> int:
        """Of a few other people at like resolution the one in the most similar pose."""
        candidates = rng.integers(len(self.pack), size=_CANDIDATES)
        others = candidates[self._groups[candidates] != self._groups[face]]
        ratios = np.abs(np.log(self._eyes[others] / self._eyes[face]))
        alike = others[ratios <= np.log(_LIKE)]
        chosen = alike if len(alike) else others[np.argsort(ratios)[:1]]
        if not len(chosen):
            return face  # a pack of one person: the forge takes the face itself
        return int(chosen[np.abs(self._poses[chosen] - self._poses[face]).sum(axis=(1, 2)).argmin()])

    @lru_cache(maxsize=_KEPT)  # noqa: B019 - a source lives as long as its loader
    def _photo(self, face: int) -> "Photo":
        from forgerank.forge.photos import Photo

        return Photo(*self.pack.face(face))


def _reconstructed() -> frozenset[str]:
    from forgerank.forge.whole_faces import RECONSTRUCTED

    return frozenset(RECONSTRUCTED)


def _poses(pack: Pack) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Of every face its five points about their mean, upright and at an eye distance of 1, (N, 5, 2), and its
    eye distance, (N,), pixels.
    """
    points: Points = np.stack([pack.points(index) for index in range(len(pack))])
    points = points - points.mean(axis=1, keepdims=True)
    across = points[:, 1] - points[:, 0]
    eyes = np.maximum(np.linalg.norm(across, axis=1), 1.0 / LANDMARK_STEPS)
    cos, sin = (across / eyes[:, None]).T
    turn = np.stack([np.stack([cos, sin], axis=1), np.stack([-sin, cos], axis=1)], axis=1)  # (N, 2, 2)
    poses = np.einsum("nij,nkj->nki", turn, points) / eyes[:, None, None]
    return poses.astype(np.float32), eyes.astype(np.float32)


class PhotoForge:
    """A folder of photographs as a `Source` of `per_photo` forged images or originals of each.

    Validation uses the same random seeds every time, and so sees the same images.
    """

    def __init__(
        self,
        root: Path,
        split: str,
        *,
        length: int = len(COMPONENTS),
        per_photo: int = 16,
        steps: Sequence[int] = (0, 5),
        trace: str = "medium",
        original_share: float = 1 / 3,
        landmarks: Path | None = None,
        split_csv: Path | None = None,
    ) -> None:
        # Not at the top: the forge needs OpenCV, and this module is imported with every other data set.
        from forgerank.forge.dataset import LeftOut, Recipe, collect_photos

        low, high = steps
        self.recipe = Recipe(
            steps=(low, high),
            trace=trace,
            task="components" if length == len(COMPONENTS) else "binary",
            original_share=original_share,
        )
        self.split, self.per_photo = split, per_photo
        left_out = LeftOut()
        photos = collect_photos(
            root,
            left_out=left_out,
            landmarks=None if landmarks is None else Path(landmarks),
            split_csv=None if split_csv is None else Path(split_csv),
        )
        for error in left_out.unread:
            Console(stderr=True).print(Text(f"left out: {error}"), soft_wrap=True)
        self.entries = [entry for entry in photos if entry.split == split]
        if not self.entries:
            raise InputError(f"{root}: no photographs of the {split} split")

    def __len__(self) -> int:
        return len(self.entries) * self.per_photo

    def sample(self, index: int) -> Sample:
        """The photograph that is used; how it is forged is drawn in `load`."""
        entry = self.entries[index // self.per_photo]
        return Sample(entry.path, (), entry.subject, self.split, FORGED_PHOTOS)

    def load(self, index: int, rng: np.random.Generator) -> LabelledImage:
        """Forge the photograph; every random choice comes from `rng`."""
        from forgerank.forge.dataset import forge_one, sequence_label

        forged = forge_one(self.entries, self.entries[index // self.per_photo], self.recipe, rng)
        labels = sequence_label(forged.components, self.recipe.task)
        return LabelledImage(forged.image, forged.points, tuple(filter(None, labels)), forged.mask)
