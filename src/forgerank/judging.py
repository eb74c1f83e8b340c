"""Any file in, a report out: what the command, the service, the page and the scan share."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from forgerank.detect.detector import Detector, load_image
from forgerank.detect.result import LoadedImage, Report, VideoReport
from forgerank.detect.videos import FPS, MAX_FRAMES, detect_video
from forgerank.media.images import MAX_PIXELS, VIDEO_EXTENSIONS, MediaError, is_photo
from forgerank.media.videos import is_video
from forgerank.report.credentials import read_credentials
from forgerank.report.entries import Credentials, ErrorEntry
from forgerank.report.html import html_page, image_section, video_section
from forgerank.report.schema import report_file


def wants_video(path: str | Path, name: str | None = None) -> bool:
    """Whether a file is judged as a video: by content, or by name where the content is of no known kind.

    `name` is the client's of a file that is kept under another, the path by default.
    """
    suffix = Path(path if name is None else name).suffix.lower()
    return is_video(path) or (suffix in VIDEO_EXTENSIONS and not is_photo(path))


def judge_file(
    detector: Detector,
    path: str | Path,
    *,
    name: str | None = None,
    max_pixels: int = MAX_PIXELS,
    fps: float = FPS,
    max_frames: int = MAX_FRAMES,
    max_seconds: float | None = None,
    progress: Callable[[float, float], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Report | VideoReport:
    """The report on a photograph or a video, told apart by content.

    `name` is shown instead of the path, in errors as well. `max_pixels` limits a photograph and a frame; the
    rest is passed to `detect_video`. Raises MediaError for what cannot be read, over a limit included.
    """
    shown = str(path) if name is None else name
    try:
        if not wants_video(path, name):
            [report] = detector.detect([load_image(path, max_pixels=max_pixels)])
            return replace(report, path=shown)
        video = detect_video(
            detector,
            path,
            fps=fps,
            max_frames=max_frames,
            max_seconds=max_seconds,
            max_pixels=max_pixels,
            progress=progress,
            cancelled=cancelled,
        )
        return replace(video, path=shown)
    except MediaError as error:
        raise type(error)(shown, error.reason) from None


def render(
    detector: Detector,
    results: Sequence[Report | VideoReport],
    sources: Sequence[LoadedImage | Path | str],
    errors: Sequence[ErrorEntry] = (),
) -> tuple[str, str]:
    """The JSON text and the HTML page for results of one or more files.

    `sources` holds for each result the file that it came from, or for a photograph the image itself, whose
    content credentials are then not read. Photographs are decoded again for the page.
    """
    sections, signed = [], {}
    for number, (result, source) in enumerate(zip(results, sources, strict=True), start=1):
        credentials = None if isinstance(source, LoadedImage) else read_credentials(source)
        if credentials is not None:
            signed[result.sha256] = credentials
        image = None if isinstance(result, VideoReport) else load_image(source)
        sections.append(section(number, result, image, detector, credentials))
    page = html_page(sections, results, detector.metadata, detector.sha256, errors)
    return json_text(detector, results, errors, signed), page


def section(
    number: int,
    result: Report | VideoReport,
    image: LoadedImage | None,
    detector: Detector,
    credentials: Credentials | None,
) -> str:
    """The part of a page on one result; `image` is that of a photograph. `number` counts from 1."""
    thresholds = detector.metadata.thresholds
    if isinstance(result, VideoReport):
        return video_section(number, result, thresholds, credentials)
    if image is None:
        raise ValueError("the section on a photograph needs its image")
    return image_section(number, result, image, thresholds, credentials)


def json_text(
    detector: Detector,
    results: Sequence[Report | VideoReport],
    errors: Sequence[ErrorEntry],
    credentials: dict[str, Credentials],
) -> str:
    """The JSON text; photographs and videos stand apart in it, each in the order of `results`."""
    images = [result for result in results if isinstance(result, Report)]
    videos = [result for result in results if isinstance(result, VideoReport)]
    return report_file(detector.metadata, detector.sha256, images, errors, videos, credentials).to_json()
