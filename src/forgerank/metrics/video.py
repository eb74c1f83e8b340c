"""Scores of videos from scores of frames."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray


def video_scores(
    scores: ArrayLike, videos: Sequence[str], tracks: Sequence[int] | None = None
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """One score per video: the mean over frames for each face, and of these means the largest.

    scores (M,) of faces; videos (M,): names of their videos; tracks (M,): number of the face in its video, by
    default one face per video. Returns scores (V,) in the order of the videos' names, and the video of each
    row, (M,) in 0..V-1.

    >>> video_scores([0.0, 1.0, 0.25], ["b", "b", "a"])[0].tolist()
    [0.25, 0.5]
    >>> video_scores([0.0, 1.0, 0.25], ["b", "b", "a"], [0, 1, 0])[0].tolist()
    [0.25, 1.0]
    """
    values = np.asarray(scores, dtype=np.float64)
    names, video = np.unique(np.asarray(videos), return_inverse=True)
    faces = np.stack([video, np.zeros_like(video) if tracks is None else np.asarray(tracks)], axis=1)
    tracked, track = np.unique(faces, axis=0, return_inverse=True)
    means = np.bincount(track.ravel(), weights=values) / np.bincount(track.ravel())
    largest = np.full(len(names), -np.inf)
    np.maximum.at(largest, tracked[:, 0], means)
    return largest, video
