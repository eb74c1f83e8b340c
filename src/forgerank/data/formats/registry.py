"""The data sets that a config or a command can name, and which of them lies in a folder."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from forgerank.data.clip import Clip
from forgerank.data.forge_sources import PackForge, PhotoForge
from forgerank.data.formats.celebdf import celebdf
from forgerank.data.formats.deepfakebench import deepfakebench
from forgerank.data.formats.dfdc import dfdc, dfdc_preview
from forgerank.data.formats.faceforensics import dfd, faceforensics
from forgerank.data.formats.folder import Folder
from forgerank.data.formats.pack import Pack
from forgerank.data.formats.prepared import INDEX, Prepared
from forgerank.data.formats.seqdeepfake import SeqDeepFake
from forgerank.data.formats.shards import Shards
from forgerank.data.formats.wilddeepfake import wilddeepfake
from forgerank.data.sample import Source
from forgerank.files import os_reason
from forgerank.types import InputError

# Faces to train on. Each is called as (root, split) with the config's `options` as keywords.
DATASETS: dict[str, Callable[..., Source]] = {
    "seqdeepfake": SeqDeepFake,
    "forge": PhotoForge,
    "folder": Folder,
    "prepared": Prepared,
    "shards": Shards,
    "pack": Pack,
    "packforge": PackForge,
}

# Videos to cut faces out of. Each is called as (root) with its options as keywords and gives every split.
CLIPS: dict[str, Callable[..., list[Clip]]] = {
    "faceforensics": faceforensics,
    "dfd": dfd,
    "celebdf": celebdf,
    "dfdc": dfdc,
    "dfdcpreview": dfdc_preview,
    "wilddeepfake": wilddeepfake,
    "deepfakebench": deepfakebench,
}

# The folder below --data in which a data set with labels of a vocabulary lies, if not there itself.
FOLDERS = {"components": "facial_components", "attributes": "facial_attributes", "binary": "faceforensics"}


def identify_dataset(root: Path) -> str:
    """The key in DATASETS of the data set in a folder; "seqdeepfake" for an unknown layout.

    Raises InputError for a folder that is not there, and for an empty one.
    """
    try:
        if next(root.iterdir(), None) is None:
            raise InputError(f"{root}: an empty folder")
    except OSError as error:
        raise InputError(f"{root}: cannot be read: {os_reason(error)}") from error
    if any(root.glob("[0-9]*.tar")):
        return "pack"
    if _is_prepared(root):
        return "prepared"
    if (root / "annotations").is_dir():
        return "seqdeepfake"
    if any(root.glob("*.jsonl")):
        return "shards"
    return "folder" if (root / "real").is_dir() or (root / "labels.csv").is_file() else "seqdeepfake"


def open_dataset(name: str, root: Path, split: str, **options: Any) -> Source:
    """One split of a data set by its key in DATASETS. Raises InputError for an option that it lacks."""
    known = inspect.signature(DATASETS[name]).parameters
    if unknown := options.keys() - known.keys():
        raise InputError(f"the data set {name} takes no option {', '.join(sorted(unknown))}")
    return DATASETS[name](root, split, **options)


def find_folders(roots: tuple[Path, ...], vocabulary: str, folder: str = "") -> list[Path]:
    """The data sets with labels of `vocabulary` at or under each of `roots`; none where there is none.

    folder: a name under `roots` in place of that of the vocabulary. Whether anything was manipulated can be
    asked of any data: without a data set of its own, it is learnt from the components.
    """
    if folder:
        return [root / folder for root in roots if _is_data(root / folder)]
    found = _find_own(roots, vocabulary)
    return found if found or vocabulary != "binary" else _find_own(roots, "components")


def _find_own(roots: tuple[Path, ...], vocabulary: str) -> list[Path]:
    own = FOLDERS[vocabulary]
    found = []
    for root in roots:
        if _is_data(root / own):
            found.append(root / own)
        # Components and attributes share a layout: only the folder's name says which of them it holds.
        elif _is_data(root) and (
            root.name == own or (vocabulary != "attributes" and root.name != FOLDERS["attributes"])
        ):
            found.append(root)
    return found


def with_split(folders: list[Path], split: str) -> list[Path]:
    """Those folders that have the split; prepared ones always count, as each may hold any split."""
    return [f for f in folders if _is_prepared(f) or (f / "annotations" / f"{split}.csv").is_file()]


def data_settings(folders: list[Path], *, split: str = "val") -> dict[str, Any]:
    """Settings of `data` that train on `folders` and compute metrics on those of them that have `split`."""
    training = with_split(folders, "train") or folders
    checked = with_split(folders, split) or folders
    return {
        "dataset": "prepared" if _is_prepared(folders[0]) else "seqdeepfake",
        "roots": [str(folder) for folder in training],
        "val_roots": [str(folder) for folder in checked],
    }


def _is_prepared(folder: Path) -> bool:
    return (folder / INDEX).is_file()


def _is_data(folder: Path) -> bool:
    return _is_prepared(folder) or (folder / "annotations").is_dir()
