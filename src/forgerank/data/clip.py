"""Clips: the videos of a data set, before faces are cut out of them."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Clip:
    """One video, or one folder of frames, with its label, as a data set's annotations promise it.

    `path` and `frames` may not exist: readers list what is annotated, so that missing files can be reported.
    """

    path: Path  # a video file, a folder of frames, or a tar file of frames
    sequence: tuple[int, ...]  # () for a real one, (1,) for a forged one: labels.BINARY
    group: str  # the source video or person: clips of one group are never independent
    split: str  # train, val or test; empty where the data set has no split
    dataset: str
    name: str  # identity: unique in the split, stable between machines, relative to the root
    method: str = ""  # how it was forged, as the data set calls it
    compression: str = ""  # raw, c23 or c40 where the data set has levels
    frames: tuple[str, ...] = ()  # the frames to use, relative to `path`; empty: every one
