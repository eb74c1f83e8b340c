"""A tiny data set in the forge's layout: coloured squares over noise, one place and colour per component."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from forgerank.faces.align import TEMPLATE

SIDE = 64
PLACES = ((28, 34), (18, 26), (18, 16), (26, 46), (30, 4))  # x, y of each component's square
COLOURS = ((250, 40, 40), (40, 250, 40), (40, 40, 250), (250, 250, 40), (250, 40, 250))


def write_squares(root: Path, counts: dict[str, int], seed: int = 0) -> Path:
    """Images, masks, annotations and records under `root`."""
    rng = np.random.default_rng(seed)
    for split, count in counts.items():
        rows, records = [], []
        for number in range(count):
            sequence = [int(i) + 1 for i in rng.permutation(5)[: rng.integers(0, 6) if number % 2 else 0]]
            image = rng.integers(90, 130, size=(SIDE, SIDE, 3), dtype=np.uint8)
            mask = np.zeros((SIDE, SIDE), dtype=np.uint8)
            for label in sequence:
                x, y = PLACES[label - 1]
                image[y : y + 10, x : x + 10] = COLOURS[label - 1]
                mask[y : y + 10, x : x + 10] |= 1 << (label - 1)
            name = f"images/{split}/{number:03d}.png"
            mask_name = f"masks/{split}/{number:03d}.png"
            for path, pixels in ((name, image), (mask_name, mask)):
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(root / path)
            rows.append([name, json.dumps(sequence + [0] * (5 - len(sequence)))])
            points = (TEMPLATE * SIDE).tolist()
            group, source = f"person-{number // 2}", f"squares-{number:03d}.png"
            records.append(
                {"file_path": name, "mask": mask_name, "points": points, "group": group, "source": source}
            )
        for folder in ("annotations", "records"):
            (root / folder).mkdir(exist_ok=True)
        with (root / "annotations" / f"{split}.csv").open("w", newline="") as stream:
            csv.writer(stream).writerows([["file_path", "label"], *rows])
        lines = "\n".join(json.dumps(record) for record in records)
        (root / "records" / f"{split}.jsonl").write_text(lines + "\n")
    return root


def tiny_settings(root: Path, output: Path, **changes: Any) -> dict[str, Any]:
    """Settings of a run that takes seconds."""
    settings: dict[str, Any] = {
        "output": str(output),
        "data": {
            "roots": [str(root)],
            "mask_size": 8,
            "workers": 0,
            "augment": {"wild": 0, "flip": 0, "colour": 0},
        },
        "model": {
            "input_size": SIDE,
            "backbone": "test_resnet.r160_in1k",
            "width": 32,
            "layers": 1,
            "heads": 2,
            "mask_head": True,
        },
        "loss": {"lambda_mask": 1.0, "direct": "pairwise"},
        "optim": {"lr": 3e-3, "backbone_lr": 3e-3},
        "batch_size": 8,
        "ema_decay": 0.9,
        "log_steps": 1,
        "threads": 1,
        "accelerator": "cpu",
    }
    for key, value in changes.items():
        settings[key] = {**settings.get(key, {}), **value} if isinstance(value, dict) else value
    return settings
