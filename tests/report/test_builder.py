"""One report for any number of files."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as PILImage

from forgerank.detect import Detector, LoadedImage
from forgerank.media.files import MediaError
from forgerank.report.builder import ReportBuilder
from forgerank.report.entries import Credentials
from pages import parse
from results import two_people

Pixels = NDArray[np.uint8]


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory, astronaut: Pixels) -> Path:
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    PILImage.fromarray(astronaut).save(path)
    return path


def test_photographs_videos_and_errors_in_the_order_of_the_input(
    tiny_detector: Detector, photo: Path, astronaut: Pixels
) -> None:
    builder = ReportBuilder(tiny_detector)
    video = two_people()
    builder.add(video)
    builder.fail("bad\udcff.mp4", "not a video")
    builder.add(*tiny_detector.detect([photo]), photo)
    image = LoadedImage("array", "1" * 64, astronaut)
    builder.add(*tiny_detector.detect([image]), image=image)
    report = json.loads(builder.json())
    assert [entry["path"] for entry in report["reports"]] == [str(photo), "array"]
    assert [entry["path"] for entry in report["videos"]] == [video.path]
    assert report["errors"] == [{"path": "bad\\udcff.mp4", "reason": "not a video"}]
    page = builder.html()
    parts = [attributes for tag, attributes in parse(page).tags if tag == "section" and "id" in attributes]
    assert [part["id"] for part in parts] == ["item-1", "item-2", "item-3"]
    assert [str(part["class"]).split()[:2] for part in parts] == [
        ["item", "video"], ["item", "real"], ["item", "real"],
    ]  # fmt: skip
    assert "bad\\udcff.mp4: not a video" in parse(page).text


def test_the_frames_of_a_video_are_in_the_page_and_not_kept(tiny_detector: Detector) -> None:
    builder, video = ReportBuilder(tiny_detector), two_people()
    builder.add(video)
    [kept] = builder.results
    frames = [key.image for track in kept.tracks for key in track.key_frames]
    assert {frame.size for frame in frames} == {3}
    assert len(frames) == builder.html().count("<figure>")
    assert json.loads(builder.json())["videos"][0]["tracks"][0]["key_frames"] == [
        key.moment.frame for key in video.tracks[0].key_frames
    ]


def test_credentials_that_were_read_before_are_shown(tiny_detector: Detector, photo: Path) -> None:
    builder = ReportBuilder(tiny_detector)
    builder.add(*tiny_detector.detect([photo]), photo, credentials=Credentials(state="Valid", issuer="Press"))
    assert json.loads(builder.json())["reports"][0]["credentials"]["issuer"] == "Press"
    assert "Press" in parse(builder.html()).text


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("=HYPERLINK(1).jpg", "./=HYPERLINK(1).jpg"),
        ("+1.jpg", "./+1.jpg"),
        ("-1.jpg", "./-1.jpg"),
        ("@a.jpg", "./@a.jpg"),
        ("\t=a.jpg", "./\t=a.jpg"),
        ('a\n="b",c.jpg', 'a\n="b",c.jpg'),
        ("a\r=b.jpg", "a\\r=b.jpg"),
        ("folder/=a.jpg", "folder/=a.jpg"),
    ],
)
def test_names_in_the_table_are_no_formulas(tiny_detector: Detector, name: str, written: str) -> None:
    builder = ReportBuilder(tiny_detector, page=False)
    video = replace(two_people(), path=name)
    builder.add(video)
    rows = list(csv.DictReader(io.StringIO(builder.csv(), newline="")))
    assert [row["file"] for row in rows] == [written] * len(video.tracks)


def test_a_file_that_went_away_adds_nothing(tiny_detector: Detector, photo: Path, tmp_path: Path) -> None:
    builder = ReportBuilder(tiny_detector)
    results = tiny_detector.detect([photo])
    with pytest.raises(MediaError, match="no such file"):
        builder.add(*results, tmp_path / "gone.png")
    with pytest.raises(ValueError, match="needs its image"):
        builder.add(*results)
    assert not builder.results
    assert json.loads(builder.json())["reports"] == []
    builder.add(*results, photo)
    assert 'id="item-1"' in builder.html()


def test_without_a_page_no_image_is_needed(tiny_detector: Detector, photo: Path) -> None:
    builder = ReportBuilder(tiny_detector, page=False)
    builder.add(*tiny_detector.detect([photo]))
    assert len(json.loads(builder.json())["reports"]) == 1
    with pytest.raises(ValueError, match="without its page"):
        builder.html()
