"""Real files through a real detector: what a report on an archive, a video and a photograph holds."""

import zipfile
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from numpy.typing import NDArray
from PIL import Image

import videos
from forgerank.detect import Detector
from forgerank.detect.videos import Cancelled
from forgerank.media.files import MediaError
from forgerank.report.schema import ReportFile
from forgerank.serving.judge import FileJudge
from forgerank.serving.service.jobs import Job
from forgerank.serving.service.service_settings import ServiceSettings
from forgerank.serving.service.worker import report_job

JOB = Job(
    *("0" * 32, None, "photo", "mine.png", None, 1, False, "running", datetime.now(UTC)),
    *(None, None, 1, 0, None, None),
)


@pytest.fixture
def told() -> list[float]:
    """The progress of the job, 0..1."""
    return []


Answer = Callable[..., tuple[str, str]]


@pytest.fixture
def answer(tiny_detector: Detector, tmp_path: Path, told: list[float]) -> Answer:
    """The report on a job: answer(job, path, folder, **what_its_judge_has)."""

    def answered(job: Job, path: Path, folder: Path = tmp_path, **judge: Any) -> tuple[str, str]:
        return report_job(
            job,
            path,
            folder,
            judge=FileJudge(tiny_detector, **judge),
            limits=ServiceSettings(data=tmp_path),
            progress=told.append,
        )

    return answered


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


def test_a_photograph(answer: Answer, photo: Path, tmp_path: Path) -> None:
    texts = answer(JOB, photo, tmp_path)
    [report] = read(texts).reports
    assert (report.path, report.verdict) == ("mine.png", "forged")
    assert str(tmp_path) not in "".join(texts)


def test_a_video(answer: Answer, video: Path, tmp_path: Path, told: list[float]) -> None:
    texts = answer(replace(JOB, kind="video", name="mine.mp4"), video, tmp_path)
    [report] = read(texts).videos
    assert (report.path, report.verdict) == ("mine.mp4", "forged")
    assert told == sorted(told)
    assert 0 < told[-1] <= 1
    assert str(tmp_path) not in "".join(texts)


def test_an_archive_of_all_kinds(
    answer: Answer, photo: Path, video: Path, tmp_path: Path, told: list[float]
) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(video, "clips/1.mp4")
        archive.writestr("../notes.txt", "no image")
        archive.write(photo, "photos/0.png")
    folder = tmp_path / "scratch"
    folder.mkdir()
    texts = answer(replace(JOB, kind="archive", name="a.zip"), tmp_path / "a.zip", folder)
    report = read(texts)
    assert [(entry.path, entry.verdict) for entry in report.reports] == [("photos/0.png", "forged")]
    assert [(entry.path, entry.verdict) for entry in report.videos] == [("clips/1.mp4", "forged")]
    assert [entry.path for entry in report.errors] == ["../notes.txt"]
    assert list(folder.iterdir()) == []
    assert str(tmp_path) not in "".join(texts)
    assert told == pytest.approx([0, 1 / 3, 2 / 3])
    # The video's answer is the one that it gets alone, though its frames were let go.
    alone = read(answer(replace(JOB, kind="video", name="clips/1.mp4"), video, tmp_path))
    assert report.videos == alone.videos
    assert texts[1].count("data:image/") > 6


def test_a_video_is_stopped(answer: Answer, video: Path, told: list[float]) -> None:
    with pytest.raises(Cancelled):
        answer(replace(JOB, kind="video"), video, cancelled=lambda: len(told) > 1)
    assert told


def test_limits_reach_the_judge(answer: Answer, photo: Path, video: Path) -> None:
    for path in (photo, video):
        with pytest.raises(MediaError) as caught:
            answer(JOB, path, max_pixels=1000, max_seconds=1.0)
        assert str(caught.value).startswith("mine.png: ")
