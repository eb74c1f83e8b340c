import numpy as np
import pytest

from forgerank.metrics.detection import video_scores


def test_golden_means() -> None:
    videos = ["b", "a", "b", "b"]
    scores, video = video_scores([0.2, 0.9, 0.4, 0.9], videos)
    assert scores == pytest.approx([0.9, 0.5])  # in the order of the names
    assert video.tolist() == [1, 0, 1, 1]


def test_each_face_is_averaged_before_the_largest_counts() -> None:
    # A bystander's many real frames must not drown the forged face, nor one frame decide for a face.
    scores = [0.9, 0.7, 0.1, 0.1, 0.1, 0.1, 0.95, 0.05]
    tracks = [0, 0, 1, 1, 1, 1, 2, 2]
    assert video_scores(scores, ["a"] * 8, tracks)[0] == pytest.approx([0.8])
    assert video_scores(scores, ["a"] * 8)[0] == pytest.approx([np.mean(scores)])


@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_loops(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores, videos = rng.random(60), [f"video-{number}" for number in rng.integers(0, 9, 60)]
    tracks = rng.integers(0, 3, 60).tolist()
    expected = []
    for name in sorted(set(videos)):
        faces: dict[int, list[float]] = {}
        for score, video, track in zip(scores, videos, tracks, strict=True):
            if video == name:
                faces.setdefault(track, []).append(score)
        expected.append(max(sum(face) / len(face) for face in faces.values()))
    assert video_scores(scores, videos, tracks)[0] == pytest.approx(expected)
