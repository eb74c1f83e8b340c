"""Settings and metrics whose names changed. Kept for one release: delete it with its uses after that.

A settings file with an old name is refused, and the error gives the new one. What forgerank itself wrote
(checkpoints, descriptions of weights, config.yaml of a run) is converted when it is read.
"""

import copy
from collections.abc import Mapping
from typing import Any

SETTINGS = {
    "start": "init_from",
    "start_only": "init_from_only",
    "average_decay": "ema_decay",
    "pictures_per_epoch": "images_per_epoch",
    "data.train_pictures": "data.train_images",
    "data.val_pictures": "data.val_images",
    "optim.floor": "optim.min_lr_factor",
}
METRICS = {"component_map": "component_ap"}


def convert_settings(settings: Any) -> Any:
    """A copy of the settings of a run in which every old name is replaced; other values are not touched.

    >>> convert_settings({"start": None, "optim": {"floor": 0.01}})
    {'optim': {'min_lr_factor': 0.01}, 'init_from': None}
    """
    converted = copy.deepcopy(settings)
    for old, new in SETTINGS.items():
        *parents, last = old.split(".")
        level = converted
        for parent in parents:
            level = level.get(parent) if isinstance(level, dict) else None
        if isinstance(level, dict) and last in level:
            level[new.rpartition(".")[2]] = level.pop(last)
    return converted


def convert_description(description: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a description of weights with the new names in its `settings` and `metrics`.

    An autoencoder's description had no `files`, but the hash of its one file as `sha256`.
    """
    converted = dict(description)
    if "sha256" in converted and "files" not in converted:
        converted["files"] = {
            "safetensors": {"file": "autoencoder.safetensors", "sha256": converted.pop("sha256")}
        }
    for key, convert in (("settings", convert_settings), ("metrics", _convert_metrics)):
        if key in converted:
            converted[key] = convert(converted[key])
    return converted


def _convert_metrics(value: Any) -> Any:
    """Metrics also stand in groups: by source, by length of the sequence."""
    if not isinstance(value, dict):
        return value
    return {METRICS.get(key, key): _convert_metrics(part) for key, part in value.items()}
