"""Reconstructions of the real faces of a pack by autoencoders, and the crops that these are trained on."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from forgerank.data.formats.pack import Pack
from forgerank.data.formats.reconstructions import ZOOM
from forgerank.data.prepare.autoencoder import Autoencoder, reconstruct
from forgerank.data.tar_members import write_tar
from forgerank.faces.align import estimate_alignment
from forgerank.types import Image

_BATCH = 32  # crops reconstructed at once
_BLUR = 0.35  # deviation, crop pixels, of the blur before a large face is shrunk


def face_crop(pack: Pack, index: int, size: int) -> Image:
    """The aligned face at `index` as an autoencoder sees it, (size, size, 3)."""
    image = pack.image(index)
    alignment = estimate_alignment(pack.points(index), size, ZOOM)
    if alignment.scale < 1:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), _BLUR / alignment.scale), dtype=np.uint8)
    return np.asarray(
        cv2.warpAffine(image, alignment.opencv_matrix(), (size, size), flags=cv2.INTER_LINEAR), dtype=np.uint8
    )


def cached_crops(pack: Pack, size: int, limit: int | None, seed: int) -> tuple[Callable[[int], Image], int]:
    """`limit` faces drawn from a pack as a function of their number, cut once and kept, and how many."""
    chosen = np.random.default_rng(seed).permutation(len(pack))[:limit]
    kept: dict[int, Image] = {}

    def crop(number: int) -> Image:
        if number not in kept:
            kept[number] = face_crop(pack, int(chosen[number]), size)
        return kept[number]

    return crop, len(chosen)


def reconstruct_pack(
    pack: Pack,
    models: Sequence[Autoencoder],
    out: Path,
    *,
    name: str,
    limit: int | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Reconstruct faces of a pack, each by one of the models in turn, into OUT/NAME.tar; returns how many."""
    chosen = np.random.default_rng(seed).permutation(len(pack))[:limit]

    def pairs() -> Iterator[tuple[str, Image]]:
        done = 0
        for number, model in enumerate(models):
            own = chosen[number :: len(models)]
            for start in range(0, len(own), _BATCH):
                some = own[start : start + _BATCH].tolist()
                crops = np.stack([face_crop(pack, index, model.config.size) for index in some])
                keys = [pack.entry(index).key for index in some]
                yield from zip(keys, reconstruct(model, crops), strict=True)
                done += len(some)
                if progress:
                    progress(done, len(chosen))

    return write_reconstructions(out, name, pairs())


def write_reconstructions(
    out: Path, name: str, crops: Iterable[tuple[str, Image]], *, quality: int = 98
) -> int:
    """Write keys with their crops (S, S, 3) as JPEG into OUT/NAME.tar; returns how many."""
    out.mkdir(parents=True, exist_ok=True)
    return write_tar(out / f"{name}.tar", ((f"{key}.jpg", _jpeg(image, quality)) for key, image in crops))


def _jpeg(image: Image, quality: int) -> bytes:
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
