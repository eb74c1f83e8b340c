"""The Python interface: every form of a source, and what its reports can do."""

import gzip
import io
import json
import pickle
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as PILImage

import forgerank
import videos
from forgerank.api import Detector, Failure, ImageResult, VideoResult
from forgerank.detect import detector as engine
from forgerank.detect.result import NO_EVIDENCE
from forgerank.report.words import verdict_label
from forgerank.types import InputError

Pixels = NDArray[np.uint8]
EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.fixture(scope="module")
def detector(tiny_weights: Path) -> Detector:
    return Detector(tiny_weights)


@pytest.fixture(scope="module")
def photo(forged_astronaut: Pixels, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photos") / "forged.png"
    PILImage.fromarray(forged_astronaut).save(path)
    return path


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory, forged_astronaut: Pixels) -> Path:
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    return videos.write_video(path, [videos.first_person(forged_astronaut)] * 20)


def test_the_package_gives_the_detector_and_loads_nothing_before() -> None:
    code = (
        "import sys, forgerank; assert not [m for m in ('numpy', 'PIL', 'onnxruntime') if m in sys.modules];"
        "from forgerank import Detector; assert 'onnxruntime' in sys.modules; print(Detector.__module__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "forgerank.api"
    assert "Detector" in dir(forgerank)
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        forgerank.Nothing  # noqa: B018


def forms(photo: Path, pixels: Pixels) -> dict[str, Any]:
    image = PILImage.fromarray(pixels)
    alpha = np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)])
    return {
        "path": photo, "text": str(photo), "bytes": photo.read_bytes(),
        "file": io.BytesIO(photo.read_bytes()),
        "PIL": image, "PIL with alpha": image.convert("RGBA"), "array": pixels, "RGBA": alpha,
        "float": pixels / 255.0, "float32": (pixels / 255).astype(np.float32),
        "16 bits": pixels.astype(np.uint16) * 257,
    }  # fmt: skip


def test_one_source_of_any_form_gives_one_report(
    detector: Detector, photo: Path, forged_astronaut: Pixels
) -> None:
    expected = detector.detect(photo)
    assert isinstance(expected, ImageResult)
    assert expected.verdict == "forged"
    for name, source in forms(photo, forged_astronaut).items():
        result = detector.detect(source)
        assert result.verdict == "forged", name
        assert result.faces[0].forged_probability == expected.faces[0].forged_probability, name


def test_many_sources_give_a_list_and_a_tuple_is_many(detector: Detector, photo: Path) -> None:
    first, second = detector.detect([photo, str(photo)])
    assert (first.path, second.path) == (str(photo), str(photo))
    assert len(detector.detect((photo,))) == 1
    assert detector.detect([]) == []


def test_grey_arrays_are_photographs_without_colour(detector: Detector, astronaut: Pixels) -> None:
    grey = np.asarray(PILImage.fromarray(astronaut).convert("L"))
    flat, deep = detector.detect([grey, grey[..., None]])
    colour = detector.detect(np.dstack([grey] * 3))
    assert flat.sha256 == deep.sha256 == colour.sha256
    assert len(flat.faces) == 1


def test_bgr_is_what_opencv_reads(detector: Detector, forged_astronaut: Pixels) -> None:
    expected = detector.detect(forged_astronaut)
    assert detector.detect(forged_astronaut[..., ::-1], channel_order="bgr").sha256 == expected.sha256
    # A PIL image knows its own order.
    assert (
        detector.detect(PILImage.fromarray(forged_astronaut), channel_order="bgr").sha256 == expected.sha256
    )


def test_pil_images_are_turned_upright_and_laid_on_white(detector: Detector, astronaut: Pixels) -> None:
    buffer = io.BytesIO()
    exif = PILImage.Exif()
    exif[274] = 6
    PILImage.fromarray(np.rot90(astronaut)).save(buffer, "PNG", exif=exif)
    turned = detector.detect(PILImage.open(buffer))
    assert turned.sha256 == detector.detect(astronaut).sha256
    clear = PILImage.new("RGBA", (90, 80), (255, 0, 0, 0))
    assert detector.detect(clear).sha256 == detector.detect(np.full((80, 90, 3), 255, np.uint8)).sha256


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (np.zeros((4, 4, 3)) + 2, r"a float array must be in \[0, 1\]"),
        (np.full((4, 4), np.nan), r"a float array must be in \[0, 1\]"),
        (np.zeros((4, 4, 3), np.int64), "uint8, uint16, bool or float"),
        (np.zeros((4, 4, 2), np.uint8), "C 1, 3 or 4"),
        (np.zeros((0, 4, 3), np.uint8), "C 1, 3 or 4"),
        (7, "a source is a path, bytes"),
        (io.StringIO("text"), "open for reading bytes"),
        (gzip.GzipFile(fileobj=io.BytesIO(gzip.compress(b"cut off")[:-9])), "cannot be read"),
        ("https://example.com/a.jpg", "addresses are not fetched"),
        ("nowhere.jpg", "no such file"),
        (b"no image", "not an image"),
        (PILImage.new("F", (4, 4)), "give 8 or 16 bits"),
    ],
)
def test_what_cannot_be_judged_is_one_line_with_the_remedy(
    detector: Detector, source: Any, reason: str
) -> None:
    with pytest.raises(InputError, match=reason) as caught:
        detector.detect(source)
    assert "\n" not in str(caught.value)
    failure = detector.detect(source, on_error="report")
    assert isinstance(failure, Failure)
    assert failure.reason


def test_one_bad_source_costs_nothing_of_the_rest(detector: Detector, photo: Path) -> None:
    good, bad = detector.detect([photo, "nowhere.jpg"], on_error="report")
    assert isinstance(good, ImageResult)
    assert bad == Failure("nowhere.jpg", "no such file or folder")


@pytest.mark.parametrize("options", [{"on_error": "ignore"}, {"channel_order": "hsv"}, {"speed": 3}])
def test_unknown_options_are_refused(detector: Detector, photo: Path, options: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        detector.detect(photo, **options)


@pytest.mark.parametrize("order", ["<", ">"])
def test_the_order_of_bytes_changes_no_answer(
    detector: Detector, forged_astronaut: Pixels, order: str
) -> None:
    report = detector.detect((forged_astronaut.astype(np.uint16) * 257).astype(f"{order}u2"))
    assert report.sha256 == detector.detect(forged_astronaut).sha256


def test_one_source_is_no_stream_and_a_generator_no_source(
    detector: Detector, photo: Path, astronaut: Pixels
) -> None:
    one: Any
    content, image = photo.read_bytes(), PILImage.fromarray(astronaut)
    for one in (photo, str(photo), content, io.BytesIO(content), image, astronaut):
        with pytest.raises(InputError, match=r"^stream takes several sources, got one .*: use detect$"):
            next(detector.stream(one))
    assert len(list(detector.stream(np.stack([astronaut, astronaut])))) == 2
    with pytest.raises(InputError, match=r"got generator; give a list, or use stream$"):
        detector.detect(source for source in [photo])


def test_a_stream_reads_a_source_when_it_is_asked_for(detector: Detector, astronaut: Pixels) -> None:
    taken = 0

    def endless() -> Any:
        nonlocal taken
        while True:
            taken += 1
            yield astronaut[:100, :100]

    stream = detector.stream(endless())
    next(stream)
    next(stream)
    assert taken == 2


def test_progress_goes_to_standard_error(
    detector: Detector, photo: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    detector.detect([photo], progress=True)
    assert capfd.readouterr().out == ""


def test_reports_are_short_in_print_and_whole_in_json(detector: Detector, photo: Path) -> None:
    report = detector.detect(photo)
    assert repr(report).startswith(f"<{photo} forged, 1 face: [<face forged ")
    values = report.to_dict()
    assert values == json.loads(report.to_json())
    assert values["reports"][0]["verdict"] == "forged"
    assert values["model"]["sha256"] == detector.engine.sha256


def test_print_says_what_people_read(astronaut: Pixels) -> None:
    """Between the thresholds "no clear evidence", as in the table; the JSON keeps its verdict."""
    detector = Detector()
    assert repr(detector).startswith("<Detector forgerank-default version ")
    report = detector.detect(astronaut)
    between = replace(report, verdict="undetermined", reason=NO_EVIDENCE)
    assert repr(between).startswith("<image no clear evidence, 1 face")
    unjudged = replace(report, verdict="undetermined", reason="no face")
    assert repr(unjudged).startswith("<image undetermined, 1 face")


def test_reports_are_saved_by_suffix(detector: Detector, forged_astronaut: Pixels, tmp_path: Path) -> None:
    report = detector.detect(forged_astronaut)
    saved = report.save(tmp_path / "new" / "report.json")
    assert json.loads(saved.read_text())["reports"][0]["verdict"] == "forged"
    pages = report.save(tmp_path / "report.html").read_text(), report.to_html()
    first, second = (re.sub(r"\d\d:\d\d:\d\d UTC", "", page) for page in pages)  # the time it was made
    assert first == second
    assert "srcdoc=" in report._repr_html_()
    with pytest.raises(InputError, match="a report is written as"):
        report.save(tmp_path / "report.pdf")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be made"):
        report.save(tmp_path / "file" / "report.json")


def test_heatmaps_are_images_and_their_folder_is_made(
    detector: Detector, photo: Path, forged_astronaut: Pixels, tmp_path: Path
) -> None:
    report = detector.detect(photo)
    heatmap = report.faces[0].heatmap("nose")
    assert (heatmap.mode, heatmap.size) == ("RGB", forged_astronaut.shape[1::-1])
    assert not np.array_equal(np.asarray(heatmap), forged_astronaut)
    with pytest.raises(InputError, match="a heatmap is one of nose"):
        report.faces[0].heatmap("ear")
    names = {path.name for path in report.heatmaps(tmp_path / "deep" / "maps")}
    assert {"forged-face1-nose.png", "forged-face1-dissimilarity.png"} <= names
    assert {path.name for path in (tmp_path / "deep" / "maps").iterdir()} == names


def test_a_photograph_that_changed_is_not_shown_for_the_one_that_was_judged(
    detector: Detector, photo: Path, tmp_path: Path, astronaut: Pixels
) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(photo.read_bytes())
    report = detector.detect(path)
    PILImage.fromarray(astronaut).save(path)
    with pytest.raises(InputError, match="changed since it was judged"):
        report.faces[0].heatmap("nose")


def test_an_array_that_changed_is_shown_as_it_was_judged(
    detector: Detector, forged_astronaut: Pixels
) -> None:
    frame = forged_astronaut.copy()
    report = detector.detect(frame)
    shown = report.faces[0].heatmap("nose").tobytes()
    frame[:] = 0
    assert report.faces[0].heatmap("nose").tobytes() == shown


def test_reports_go_from_one_process_to_another(detector: Detector, photo: Path, clip: Path) -> None:
    for source in (photo, photo.read_bytes(), PILImage.open(photo), clip):
        report = detector.detect(source)
        copy = pickle.loads(pickle.dumps(report))
        assert repr(copy) == repr(report)
        assert {**copy.to_dict(), "created": None} == {**report.to_dict(), "created": None}
        assert copy.to_html().startswith("<!doctype html>")
    assert len(pickle.dumps(detector.detect(photo))) < 500_000, "the network went along"


def test_bytes_are_decoded_once(detector: Detector, photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = []
    read_pages = engine.read_pages
    monkeypatch.setattr(
        engine, "read_pages", lambda *args, **options: decoded.append(1) or read_pages(*args, **options)
    )
    report = detector.detect(photo.read_bytes())
    assert decoded == [1]
    assert (
        report.faces[0].heatmap("nose").tobytes() == detector.detect(photo).faces[0].heatmap("nose").tobytes()
    )


def test_videos_are_judged_from_a_path_and_from_bytes(detector: Detector, clip: Path) -> None:
    for source in (clip, clip.read_bytes()):
        report = detector.detect(source, fps=1.0)
        assert isinstance(report, VideoResult)
        assert report.to_dict()["videos"][0]["verdict"] == report.verdict
        assert verdict_label(report.verdict, report.reason) in repr(report)
        assert report.to_html().startswith("<!doctype html>")


def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cells = json.loads((EXAMPLES / "detect.ipynb").read_text())["cells"]
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []  # a photograph's pixels are not committed
            exec("".join(cell["source"]), names)
    assert {path.name for path in tmp_path.iterdir()} == {"report.html", "report.json"}


def test_the_example_prints_a_line_for_each_face(photo: Path, tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_bytes(photo.read_bytes())
    (tmp_path / "broken.jpg").write_text("no image")
    command = [sys.executable, str(EXAMPLES / "folder_to_csv.py"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[0] == "path,face,verdict,forged_probability,sequence"
    assert done.stdout.splitlines()[1].startswith(f"{tmp_path / 'photo.png'},1,")
    assert done.stderr.startswith(f"{tmp_path / 'broken.jpg'}: not an image")


def test_the_most_suspicious_page_of_a_file_is_the_one_that_is_drawn(
    detector: Detector, astronaut: Pixels, forged_astronaut: Pixels, tmp_path: Path
) -> None:
    first, second = (PILImage.fromarray(pixels) for pixels in (astronaut, forged_astronaut))
    first.save(tmp_path / "pages.tif", save_all=True, append_images=[second])
    for source in (tmp_path / "pages.tif", (tmp_path / "pages.tif").read_bytes()):
        report = detector.detect(source)
        assert (report.verdict, report.page, report.pages) == ("forged", 2, 2)
        plain = detector.detect(forged_astronaut)
        assert report.faces[0].heatmap("nose").tobytes() == plain.faces[0].heatmap("nose").tobytes()


@pytest.mark.parametrize("option", [{"fps": 0}, {"fps": "2"}, {"max_frames": 0}, {"max_pixels": -1}])
def test_options_without_sense_are_refused_for_photographs_too(option: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=f"^{next(iter(option))} must be a number above 0, got "):
        Detector().detect(np.zeros((8, 8, 3), np.uint8), **option)


def test_sources_that_can_no_longer_be_read(tmp_path: Path, astronaut: NDArray[np.uint8]) -> None:
    path = tmp_path / "a.jpg"
    PILImage.fromarray(astronaut).save(path)
    closed_file, closed_image = path.open("rb"), PILImage.open(path)
    closed_file.close()
    closed_image.close()
    content = path.read_bytes()
    (tmp_path / "cut.jpg").write_bytes(content[: len(content) // 2])
    with PILImage.open(tmp_path / "cut.jpg") as cut:
        failures = Detector().detect([closed_file, closed_image, cut], on_error="report")
    for failure in failures:
        assert isinstance(failure, Failure)
        assert str(tmp_path) in str(failure.path)
        assert "cannot be " in failure.reason
