"""Which data sets lie under the folders that a person names."""

from pathlib import Path
from typing import Any

# Where a data set for a vocabulary lies under --data, if not there itself.
FOLDERS = {"components": "facial_components", "attributes": "facial_attributes", "binary": "faceforensics"}


def find_folders(roots: tuple[Path, ...], vocabulary: str) -> list[Path]:
    """The data sets with labels of `vocabulary` at or under each of `roots`; none where there is none."""
    own = FOLDERS[vocabulary]
    found = []
    for root in roots:
        if _is_data(root / own):
            found.append(root / own)
        # Components and attributes share a layout: only a name can tell that a root holds attributes.
        elif _is_data(root) and (
            root.name == own or (vocabulary != "attributes" and root.name != FOLDERS["attributes"])
        ):
            found.append(root)
    return found


def with_split(folders: list[Path], split: str) -> list[Path]:
    """Those folders that have the split; in prepared ones every split may be."""
    return [f for f in folders if _is_prepared(f) or (f / "annotations" / f"{split}.csv").is_file()]


def data_settings(folders: list[Path], *, split: str = "val") -> dict[str, Any]:
    """Settings of `data` that train on `folders`; figures come from those of them that have `split`."""
    training = with_split(folders, "train") or folders
    checked = with_split(folders, split) or folders
    return {
        "dataset": "prepared" if _is_prepared(folders[0]) else "seqdeepfake",
        "roots": [str(folder) for folder in training],
        "val_roots": [str(folder) for folder in checked],
    }


def _is_prepared(folder: Path) -> bool:
    return (folder / "index.parquet").is_file()


def _is_data(folder: Path) -> bool:
    return _is_prepared(folder) or (folder / "annotations").is_dir()
