"""What autoencoders made of the faces of a pack: aligned crops in tar files, one look-up a face."""

import io
import json
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from forgerank.data.formats.seqdeepfake import read_image
from forgerank.faces.align import estimate_alignment, five_points
from forgerank.types import InputError, Points

if TYPE_CHECKING:
    from forgerank.forge.whole_faces import Reconstruction

DESCRIPTION = "reconstructions.json"
ZOOM = 1.3  # of the crops that autoencoders see


class Reconstructions:
    """Reconstructed crops by the key of their face. Raises InputError for a folder that holds none."""

    def __init__(self, root: Path) -> None:
        self._members: dict[str, tuple[Path, int, int]] = {}
        for path in sorted(root.glob("*.tar")):
            try:
                with tarfile.open(path, "r:") as tar:
                    for member in tar:
                        self._members[Path(member.name).stem] = path, member.offset_data, member.size
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
        """Of the faces that have one."""
        return frozenset(self._members)

    def load(self, key: str, landmarks: Points) -> "Reconstruction":
        """The crop, and where it lies in an image with these landmarks."""
        from forgerank.forge.whole_faces import Reconstruction

        path, at, size = self._members[key]
        with path.open("rb") as stream:
            stream.seek(at)
            image = read_image(path / f"{key}.jpg", io.BytesIO(stream.read(size)))
        alignment = estimate_alignment(five_points(landmarks), image.shape[0], ZOOM)
        return Reconstruction(image, alignment.matrix)


def write_reconstructions(
    out: Path, name: str, crops: Any, *, quality: int = 98, description: dict[str, Any] | None = None
) -> int:
    """Write `(key, image (S, S, 3))` pairs into OUT/NAME.tar; returns how many."""
    import cv2

    out.mkdir(parents=True, exist_ok=True)
    partial, count = out / f"{name}.tar.partial", 0
    with tarfile.open(partial, "w", format=tarfile.USTAR_FORMAT) as tar:
        for key, image in crops:
            bgr = cv2.cvtColor(np.asarray(image), cv2.COLOR_RGB2BGR)
            content = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
            member = tarfile.TarInfo(f"{key}.jpg")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
            count += 1
    partial.replace(out / f"{name}.tar")
    if description is not None:
        (out / DESCRIPTION).write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")
    return count
