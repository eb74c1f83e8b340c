"""Real files through a real detector: what a report on an archive, a video and a photograph holds."""

import zipfile
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from numpy.typing import NDArray
from PIL import Image

import videos
from forgerank.detect import Detector
from forgerank.detect.videos import Cancelled
from forgerank.media.images import MediaError
from forgerank.report.schema import ReportFile
from forgerank.serving.service.answer import Judge, answer
from forgerank.serving.service.jobs import Job
from forgerank.serving.service.settings import Settings

JOB = Job(
    "0" * 32, None, "photo", "mine.png", None, 1, "running", datetime.now(UTC), None, None, 1, 0, None, None
)


@pytest.fixture
def told() -> list[float]:
    """The progress that the judge told."""
    return []


@pytest.fixture
def judge(tiny_detector: Detector, tmp_path: Path, told: list[float]) -> Judge:
    return Judge(tiny_detector, Settings(data=tmp_path), told.append, lambda: False)


@pytest.fixture
def photo(tmp_path: Path, forged_astronaut: NDArray[object]) -> Path:
    Image.fromarray(forged_astronaut).save(tmp_path / "0.png")
    return tmp_path / "0.png"


@pytest.fixture
def video(tmp_path: Path, forged_astronaut: NDArray[object]) -> Path:
    scene = videos.first_person(forged_astronaut)  # type: ignore[arg-type]
    return videos.write_video(tmp_path / "1.mp4", videos.shots((scene, 3)))


def read(texts: tuple[str, str]) -> ReportFile:
    assert "<html" in texts[1]
    return ReportFile.model_validate_json(texts[0])


def test_a_photograph(judge: Judge, photo: Path, tmp_path: Path) -> None:
    texts = answer(judge, JOB, photo, tmp_path)
    [report] = read(texts).reports
    assert (report.path, report.verdict) == ("mine.png", "forged")
    assert str(tmp_path) not in "".join(texts)


def test_a_video(judge: Judge, video: Path, tmp_path: Path, told: list[float]) -> None:
    texts = answer(judge, replace(JOB, kind="video", name="mine.mp4"), video, tmp_path)
    [report] = read(texts).videos
    assert (report.path, report.verdict) == ("mine.mp4", "forged")
    assert told == sorted(told)
    assert 0 < told[-1] <= 1
    assert str(tmp_path) not in "".join(texts)


def test_an_archive_of_all_kinds(
    judge: Judge, photo: Path, video: Path, tmp_path: Path, told: list[float]
) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(video, "clips/1.mp4")
        archive.writestr("../notes.txt", "no image")
        archive.write(photo, "photos/0.png")
    folder = tmp_path / "scratch"
    folder.mkdir()
    texts = answer(judge, replace(JOB, kind="archive", name="a.zip"), tmp_path / "a.zip", folder)
    report = read(texts)
    assert [(entry.path, entry.verdict) for entry in report.reports] == [("photos/0.png", "forged")]
    assert [(entry.path, entry.verdict) for entry in report.videos] == [("clips/1.mp4", "forged")]
    assert [entry.path for entry in report.errors] == ["../notes.txt"]
    assert list(folder.iterdir()) == []
    assert str(tmp_path) not in "".join(texts)
    assert told == pytest.approx([0, 1 / 3, 2 / 3])
    # The video's answer is the one that it gets alone, though its frames were let go.
    alone = read(answer(judge, replace(JOB, kind="video", name="clips/1.mp4"), video, tmp_path))
    assert report.videos == alone.videos
    assert texts[1].count("data:image/") > 6


def test_a_video_is_stopped(judge: Judge, video: Path, tmp_path: Path, told: list[float]) -> None:
    stopping = replace(judge, cancelled=lambda: len(told) > 1)
    with pytest.raises(Cancelled):
        answer(stopping, replace(JOB, kind="video"), video, tmp_path)
    assert told


def test_limits_reach_the_judge(judge: Judge, photo: Path, video: Path, tmp_path: Path) -> None:
    settings = judge.settings.model_copy(update={"photo_pixels": 1000, "video_seconds": 1.0})
    limited = replace(judge, settings=settings)
    for path in (photo, video):
        with pytest.raises(MediaError) as caught:
            answer(limited, JOB, path, tmp_path)
        assert str(caught.value).startswith("mine.png: ")
