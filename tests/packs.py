"""Small data sets made of one photograph that may be shown, and the recipe of a pack of them."""

import csv
import io
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import skimage.data
from numpy.typing import NDArray
from PIL import Image as PILImage

from forgerank.data.prepare.pack_writer import PackRecipe, PackSource
from forgerank.types import Image

SIDE = 200  # pixels of a photograph
SMALL, SMALL_SIDE = 4, 112  # one person's photograph is smaller
# Of each source the reals and forgeries that stay when near-duplicates are gone; "alpha" or "beta" loses one.
NAMES = ("alpha", "beta", "gamma", "delta")
NOSE = (slice(105, 130), slice(85, 120))  # rows and columns that delta's forgeries changed


@cache
def person(number: int) -> Image:
    """The astronaut's head in a light of its own, odd numbers mirrored: to a hash somebody else."""
    side = SMALL_SIDE if number == SMALL else SIDE
    head = skimage.data.astronaut()[0:224, 110:334]
    head = head[:, ::-1] if number % 2 else head
    coarse = np.random.default_rng(number).uniform(0.45, 1.35, (5, 5)).astype(np.float32)
    light = np.asarray(PILImage.fromarray(coarse).resize((side, side), PILImage.Resampling.BICUBIC))
    small = np.asarray(PILImage.fromarray(np.ascontiguousarray(head)).resize((side, side)))
    return np.clip(small * light[..., None], 0, 255).astype(np.uint8)


def recoloured(image: Image) -> Image:
    """A forgery of it: red and blue change places in the middle."""
    changed = image.copy()
    rows, columns = (slice(side // 4, side * 3 // 4) for side in image.shape[:2])
    changed[rows, columns] = 255 - changed[rows, columns, ::-1]
    return changed


def write_sources(root: Path) -> Path:
    """Four data sets under `root`: alpha with both classes, beta real, gamma forged, delta with sequences.

    beta repeats a training and a validation photograph of alpha, and holds a file that is no image and one
    without a face.
    """
    rows: list[tuple[str, Image | bytes, str, str, str, str]] = []
    for number, split in ((0, "train"), (1, "train"), (2, "val")):
        rows.append(("alpha", person(number), "real", f"p{number}", split, ""))
        method = "tint" if number else "mirror"
        rows.append(("alpha", recoloured(person(number)), "fake", f"p{number}", split, method))
    for number, split in ((3, "train"), (SMALL, "train"), (5, "val")):
        rows.append(("beta", person(number), "real", f"p{number}", split, ""))
    for number in (0, 2):
        rows.append(("beta", person(number) // 2 + 60, "real", f"copy{number}", "train", ""))
    rows.append(("beta", b"no image", "real", "broken", "train", ""))
    rows.append(("beta", np.full((60, 60, 3), 90, np.uint8), "real", "empty", "train", ""))
    for number, split in ((6, "train"), (7, "val")):
        rows.append(("gamma", recoloured(person(number)), "fake", f"p{number}", split, "gan"))
    for name in ("alpha", "beta", "gamma"):
        (root / name).mkdir(parents=True)
        with (root / name / "faces.csv").open("w", newline="") as stream:
            table = csv.writer(stream)
            table.writerow(["path", "label", "group", "split", "method"])
            for place, (source, image, label, group, split, method) in enumerate(rows):
                if source != name:
                    continue
                file = f"{place:02d}-{label}.png"
                (root / name / file).write_bytes(image if isinstance(image, bytes) else _png(image))
                table.writerow([file, label, group, split, method])
    _write_sequences(root / "delta")
    return root


def _write_sequences(root: Path) -> None:
    """A forged nose and an original to train on, nose before lip to validate on; masks mark NOSE."""
    for split, faces in {"train": {8: [1], 9: []}, "val": {10: [1, 4]}}.items():
        rows, records = [], []
        for number, sequence in faces.items():
            image, mask = person(number).copy(), np.zeros((SIDE, SIDE), np.uint8)
            if sequence:
                image[NOSE] = image[NOSE][..., ::-1]
                mask[NOSE] = sum(1 << (label - 1) for label in sequence)
            files = {"file_path": f"images/{split}/{number}.png", "mask": f"masks/{split}/{number}.png"}
            for file, pixels in zip(files.values(), (image, mask), strict=True):
                (root / file).parent.mkdir(parents=True, exist_ok=True)
                (root / file).write_bytes(_png(pixels))
            rows.append([files["file_path"], json.dumps(sequence + [0] * (5 - len(sequence)))])
            records.append(files | {"group": f"p{number}"})
        for folder in ("annotations", "records"):
            (root / folder).mkdir(exist_ok=True)
        with (root / "annotations" / f"{split}.csv").open("w", newline="") as stream:
            csv.writer(stream).writerows([["file_path", "label"], *rows])
        text = "".join(json.dumps(record) + "\n" for record in records)
        (root / "records" / f"{split}.jsonl").write_text(text)


def recipe_of(root: Path) -> PackRecipe:
    """Of the sources that `write_sources` wrote: 18 images in three parts."""
    table = {"table": "faces.csv"}
    sources = [PackSource(name=name, root=root / name, options=table) for name in NAMES[:3]]
    sources.append(PackSource(name="delta", dataset="seqdeepfake", root=root / "delta"))
    return PackRecipe(sources=tuple(sources), side=160, faces_per_part=6)


def _png(pixels: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    PILImage.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def mixture_of(root: Path) -> list[dict[str, Any]]:
    """Sources of a run on a pack: both classes, a forged one with a real partner, and a forge."""

    def source(name: str, **settings: Any) -> dict[str, Any]:
        chosen = settings.pop("options", {"sources": [name]})
        return {"name": name, "roots": [str(root)], "options": chosen} | settings

    return [
        source("alpha", share=2.0),
        source("gamma", partners=["beta"]),
        source("beta", share=0.0, validate_on=False),
        source("forged", dataset="packforge", options={"without": ["delta"]}),
    ]
