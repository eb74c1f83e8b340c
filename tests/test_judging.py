"""One function for any file."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as PILImage

import videos
from forgerank.detect import Detector, Report, VideoReport
from forgerank.judging import judge_file
from forgerank.media.files import MediaError
from forgerank.media.opening import TooManyPixelsError

Pixels = NDArray[np.uint8]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory, forged_astronaut: Pixels) -> Path:
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    return videos.write_video(path, [videos.first_person(forged_astronaut)] * 20)


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory, astronaut: Pixels) -> Path:
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    PILImage.fromarray(astronaut).save(path)
    return path


def test_content_decides_and_the_name_is_shown(
    tiny_detector: Detector, clip: Path, photo: Path, tmp_path: Path
) -> None:
    swapped = tmp_path / "clip.jpg", tmp_path / "photo.jpeg"
    swapped[0].write_bytes(clip.read_bytes())
    swapped[1].write_bytes(photo.read_bytes())
    video = judge_file(tiny_detector, swapped[0], name="theirs.bin")
    image = judge_file(tiny_detector, swapped[1])
    assert isinstance(judge_file(tiny_detector, clip, name="theirs.jpg"), VideoReport)
    assert isinstance(judge_file(tiny_detector, photo, name="theirs.mp4"), Report)
    assert isinstance(video, VideoReport)
    assert isinstance(image, Report)
    assert (video.path, video.verdict) == ("theirs.bin", "forged")
    assert (image.path, image.verdict) == (str(swapped[1]), "real")


def test_the_name_decides_where_the_content_does_not(tiny_detector: Detector, tmp_path: Path) -> None:
    (tmp_path / "upload").write_text("neither")
    with pytest.raises(MediaError, match="not a video"):
        judge_file(tiny_detector, tmp_path / "upload", name="theirs.mp4")
    for name in ("theirs.jpg", None):
        with pytest.raises(MediaError, match="not an image"):
            judge_file(tiny_detector, tmp_path / "upload", name=name)


def test_errors_show_the_name_alone(tiny_detector: Detector, clip: Path, photo: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.mp4").write_text("no video")
    with pytest.raises(MediaError, match=r"^theirs\.mp4: not a video") as caught:
        judge_file(tiny_detector, tmp_path / "secret.mp4", name="theirs.mp4")
    assert "secret" not in str(caught.value)
    for path in (clip, photo):
        with pytest.raises(MediaError, match=r"^a: .*over the limit of 1000$"):
            judge_file(tiny_detector, path, name="a", max_pixels=1000)
    with pytest.raises(TooManyPixelsError):
        judge_file(tiny_detector, photo, max_pixels=1000)
    with pytest.raises(MediaError, match="no such file"):
        judge_file(tiny_detector, tmp_path / "missing.mp4")
