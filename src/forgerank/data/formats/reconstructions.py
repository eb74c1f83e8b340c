"""Faces of a pack as autoencoders reconstructed them: aligned crops in tar files, with random access."""

import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

from forgerank.data.sample import read_image
from forgerank.data.tar_members import Member, read_member, tar_members
from forgerank.faces.align import estimate_alignment, five_points
from forgerank.types import InputError, Points

if TYPE_CHECKING:
    from forgerank.forge.whole_faces import Reconstruction

ZOOM = 1.3  # of the crops that autoencoders see


class Reconstructions:
    """Reconstructed crops by the key of their face. Raises InputError for a folder that holds none."""

    def __init__(self, root: Path) -> None:
        self._members: dict[str, tuple[Path, Member]] = {}
        for path in sorted(root.glob("*.tar")):
            try:
                self._members |= {Path(name).stem: (path, at) for name, at in tar_members(path).items()}
            except (OSError, tarfile.TarError) as error:
                raise InputError(f"{path}: cannot be read as reconstructions: {error}") from error
        if not self._members:
            raise InputError(f"{root}: no reconstructions (*.tar) here")

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
        image = read_image(path / f"{key}.jpg", read_member(path, member))
        alignment = estimate_alignment(five_points(landmarks), image.shape[0], ZOOM)
        return Reconstruction(image, alignment.matrix)
