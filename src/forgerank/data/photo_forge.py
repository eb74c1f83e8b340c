"""Photographs forged on the fly: every draw of an index is another image."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from forgerank.data.sample import LabelledImage, Sample
from forgerank.labels import COMPONENTS
from forgerank.types import InputError


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
        from forgerank.forge.dataset import Recipe, collect_photos

        low, high = steps
        self.recipe = Recipe(
            steps=(low, high),
            trace=trace,
            task="components" if length == len(COMPONENTS) else "binary",
            original_share=original_share,
        )
        self.split, self.per_photo = split, per_photo
        photos = collect_photos(
            root,
            landmarks=None if landmarks is None else Path(landmarks),
            split_csv=None if split_csv is None else Path(split_csv),
        )
        self.entries = [entry for entry in photos if entry.split == split]
        if not self.entries:
            raise InputError(f"{root}: no photographs of the {split} split")

    def __len__(self) -> int:
        return len(self.entries) * self.per_photo

    def sample(self, index: int) -> Sample:
        """The photograph that is used; how it is forged is drawn in `load`."""
        entry = self.entries[index // self.per_photo]
        return Sample(entry.path, (), entry.subject, self.split, "forge")

    def load(self, index: int, rng: np.random.Generator) -> LabelledImage:
        """Forge the photograph; every random choice comes from `rng`."""
        from forgerank.forge.dataset import forge_one, sequence_label

        forged = forge_one(self.entries, self.entries[index // self.per_photo], self.recipe, rng)
        labels = sequence_label(forged.components, self.recipe.task)
        return LabelledImage(forged.image, forged.points, tuple(filter(None, labels)), forged.mask)
