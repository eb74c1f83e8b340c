"""A folder of small files, good and hostile, and a runner that answers at once in this process."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as PILImage

from forgerank.serving.scan import run
from forgerank.serving.scan.scan_settings import Judging, ScanSettings
from forgerank.serving.scan.task_worker import Outcome, Task

Pixels = NDArray[np.uint8]
HOSTILE = os.fsdecode(b"\xff [red]<b>\n\x1b[0m.jpg")


@pytest.fixture(scope="session")
def media(tmp_path_factory: pytest.TempPathFactory, astronaut: Pixels, forged_astronaut: Pixels) -> Path:
    """14 files of which one has no wanted name; never written to by a test."""
    folder = tmp_path_factory.mktemp("media")
    deep = folder / "deep" / "er"
    deep.mkdir(parents=True)
    PILImage.fromarray(astronaut[40:240, 120:320]).save(folder / "real.png")
    PILImage.fromarray(forged_astronaut[40:240, 120:320]).save(folder / "forged.png")
    PILImage.fromarray(np.zeros((64, 64, 3), np.uint8)).save(deep / "black.png")
    good = (folder / "forged.png").read_bytes()
    shutil.copy(folder / "forged.png", deep / "copy of forged.JPG")
    (folder / "linked.png").symlink_to(folder / "real.png")
    (folder / "dangling.png").symlink_to(folder / "nowhere.png")
    (folder / "again").symlink_to(folder)
    (folder / "truncated.png").write_bytes(good[:50])
    (folder / "empty.jpg").touch()
    (folder / "text.jpeg").write_text("not an image")
    (folder / "clip.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + bytes(200))
    (folder / HOSTILE).write_bytes(b"x")
    (folder / "folder.jpg").mkdir()
    os.mkfifo(folder / "pipe.jpg")
    (folder / "notes.txt").write_text("nothing to see")
    return folder


class Immediate:
    """Hashes and judges in this process by a rule: the answer is the content's length as a probability."""

    def __init__(self, seen: list[Task] | None = None, stop_after: int | None = None) -> None:
        self.seen, self.stop_after = [] if seen is None else seen, stop_after

    def __enter__(self) -> "Immediate":
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def run(self, tasks: Iterator[Task]) -> Iterator[Outcome]:
        import hashlib

        for task in tasks:
            if len(self.seen) == self.stop_after:
                raise KeyboardInterrupt
            self.seen.append(task)
            content = task.path.encode() if "://" in task.path else Path(task.path).read_bytes()
            answer = {"kind": "photograph", "verdict": "real", "faces": 1, "sequence": []}
            answer |= {"forged_probability": len(content) % 97 / 97}
            digest = hashlib.sha256(content).hexdigest()
            yield Outcome(task.path, len(content), digest, answer=answer if task.judge else None)


@pytest.fixture
def immediate(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Immediate]:
    """Makes scans of this process use an `Immediate`, made with the arguments given."""

    def use(**options: Any) -> Immediate:
        runner = Immediate(**options)
        monkeypatch.setattr(run, "_open", lambda *_: runner)
        return runner

    return use


@pytest.fixture
def settings(tiny_weights: Path, tmp_path: Path) -> Callable[..., ScanSettings]:
    """ScanSettings with the tiny network: settings(*sources, workers=1, ...)."""

    def make(
        *sources: Path | str, out: Path | None = None, judging: dict[str, Any] | None = None, **more: Any
    ) -> ScanSettings:
        return ScanSettings(
            sources=tuple(map(str, sources)),
            out=out or tmp_path / "results.parquet",
            judging=Judging(weights=tiny_weights, **(judging or {})),
            **more,
        )

    return make
