"""A video in, a verdict per person out: frames are sampled, faces tracked, and their results pooled."""

import hashlib
import math
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, closing
from numbers import Real
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from forgerank.detect.detector import AlignedFace, Detector
from forgerank.detect.people import People
from forgerank.detect.result import FaceReport, TrackReport, VideoReport
from forgerank.detect.runtime import Prediction
from forgerank.detect.verdict import judge_image
from forgerank.faces.track import Observation, Track, assign, embed
from forgerank.faces.video_search import VideoFaceSearch
from forgerank.media.animations import FRAMES_LOOKED_AT, Animation, is_animation, open_animation
from forgerank.media.files import MediaError, counted
from forgerank.media.images import MAX_PIXELS
from forgerank.media.videos import Sample, Video, open_video
from forgerank.types import InputError

T = TypeVar("T")

FPS = 2.0  # frames per second of video
MAX_FRAMES = 600  # of one video
_MOST_FPS = 1000.0  # of an animated image or a short video
_FEWEST_SAMPLED = 6  # frames of a video that has them, however short it is: a verdict needs three good ones
_AHEAD = 3  # samples that wait decoded, and as many that wait for the network


class Cancelled(Exception):  # noqa: N818 - not an error: the caller asked for it
    """The caller asked to stop: there is no report."""


def check_limits(**limits: object) -> None:
    """Raises InputError, one line, for a limit that is no number above 0; `max_seconds` may be None."""
    for name, value in limits.items():
        number = isinstance(value, Real) and not isinstance(value, bool) and float(value) > 0
        if not (number or (name == "max_seconds" and value is None)):
            raise InputError(f"{name} must be a number above 0, got {value!r}")


class _Plan(NamedTuple):
    """Which frames of a video are sampled."""

    rate: float  # frames per second of video
    capped: bool  # the rate is lower than asked for
    extent: float  # seconds of video that there should be, for the progress


class _Submitted(NamedTuple):
    """One sampled frame whose faces were submitted to the network."""

    sample: Sample
    faces: list[AlignedFace]
    numbers: list[int]  # of each face's track
    prediction: "Future[Prediction] | None"  # None without a face

    def answers(self, detector: Detector) -> tuple[FaceReport, ...]:
        """The results of the faces; waits for the network."""
        prediction = None if self.prediction is None else self.prediction.result()
        return detector.face_reports(self.faces, prediction)


def detect_video(
    detector: Detector,
    path: str | Path,
    *,
    fps: float = FPS,
    max_frames: int = MAX_FRAMES,
    max_seconds: float | None = None,
    max_pixels: int = MAX_PIXELS,
    progress: Callable[[float, float], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> VideoReport:
    """Judge every person in a video or in an animated image. Memory does not grow with its length.

    `fps` frames per second of video are sampled, of a short one more, of a long one `max_frames`, evenly
    spread. A video of more than `max_seconds`, and one with more than `max_pixels` in a frame, is refused.
    `progress(done, total)` is called with seconds of video. Raises Cancelled soon after `cancelled()` turned
    true, MediaError for a file that is no video or of which no frame can be decoded, InputError for numbers
    that are not above 0, and MissingExtraError without PyAV.
    """
    check_limits(fps=fps, max_frames=max_frames, max_seconds=max_seconds)
    # Decoding, finding and judging run side by side, so each takes half of the cores.
    worker = detector.with_threads(max(1, detector.threads // 2))
    with _open(path, worker.threads, max_pixels) as video:
        fewest = FRAMES_LOOKED_AT if isinstance(video, Animation) else _FEWEST_SAMPLED
        if isinstance(video, Animation) or (video.duration or 0.0) * fps < fewest:
            fps = max(fps, _spread(video.times(), _MOST_FPS, fewest)[1])
        plan = _plan(video, fps, max_frames, max_seconds)
        people = People(worker.metadata)
        sampled: list[float] = []  # seconds
        stopped = False
        with closing(_judged(worker, video.samples(plan.rate))) as judged:
            for seen in judged:
                if cancelled is not None and cancelled():
                    raise Cancelled
                if max_seconds is not None and seen.sample.time > max_seconds:
                    raise MediaError(path, f"over the limit of {max_seconds:g} s")
                stopped = len(sampled) == max_frames
                if stopped:
                    break
                sampled.append(seen.sample.time)
                people.add(seen.sample, seen.answers(worker), seen.numbers)
                if progress is not None:
                    progress(min(seen.sample.time, plan.extent), plan.extent)
        if not sampled:
            raise MediaError(path, "no frame of this video can be decoded")
        if progress is not None:
            progress(plan.extent, plan.extent)
        return _report(video, plan, people.tracks(), sampled, stopped=stopped)


def _open(path: str | Path, threads: int, max_pixels: int) -> AbstractContextManager[Video | Animation]:
    if is_animation(path):
        return open_animation(path, max_pixels=max_pixels)
    return open_video(path, threads=threads, max_pixels=max_pixels)


def _plan(video: Video | Animation, fps: float, max_frames: int, max_seconds: float | None) -> _Plan:
    """The highest rate that covers the whole video with the frames allowed."""
    length, rate = video.duration, fps
    if length is None or length * fps > max_frames:  # the file says much, or not how much
        length, rate = _spread(video.times(), fps, max_frames)
    longest = max(length, video.duration or 0.0)
    if max_seconds is not None and longest > max_seconds:
        raise MediaError(video.path, f"{longest:.0f} s long, over the limit of {max_seconds:g} s")
    return _Plan(rate, rate < fps, length)


def _spread(times: Iterable[float], fps: float, max_frames: int) -> tuple[float, float]:
    """The last of the times, and the rate, at most `fps`, at which at most `max_frames` of them are sampled.

    Of times with long gaps a steady rate over the whole would sample few.
    """
    last, step = 0.0, 1.0 / fps
    taken: set[int] = set()  # numbers of the steps in which there is a time
    for time in times:
        last = max(last, time)
        taken.add(max(0, math.floor(time / step + 1e-3)))
        while len(taken) > max(1, max_frames):
            step *= 2
            taken = {number // 2 for number in taken}
    return last, max(1.0 / step, min(fps, max_frames / last) if last > 0 else fps)


def _report(
    video: Video | Animation,
    plan: _Plan,
    tracks: tuple[TrackReport, ...],
    sampled: list[float],
    *,
    stopped: bool,
) -> VideoReport:
    seconds, share, warnings = _coverage(video, plan, stopped=stopped)
    verdict, reason = judge_image(tracks)
    width, height = video.size
    return VideoReport(
        path=str(video.path),
        sha256=_sha256(video.path),
        width=width,
        height=height,
        duration=video.duration,
        decoded_seconds=seconds,
        decoded_share=share,
        frame_rate=video.frame_rate,
        codec=video.codec,
        sampled_frames=len(sampled),
        sampling_rate=_sampling_rate(plan.rate, video.frame_rate, sampled),
        warnings=tuple(warnings),
        verdict=verdict,
        reason=reason,
        tracks=tracks,
    )


def _sampling_rate(rate: float, frame_rate: float | None, times: list[float]) -> float:
    """Sampled frames per second of video, gaps between frames apart."""
    if frame_rate is None or frame_rate >= rate:
        return rate
    step = float(np.median(np.diff(times))) if len(times) > 1 else 1.0 / frame_rate
    return min(rate, 1.0 / max(step, 1e-3))


def _coverage(video: Video | Animation, plan: _Plan, *, stopped: bool) -> tuple[float, float, list[str]]:
    """Seconds decoded, their share of what the file states, and in words what was left out."""
    done = video.progress
    stated = video.duration or plan.extent or done.end
    seconds = min(done.seconds, stated)
    remarks = []
    if plan.capped:
        remarks.append(f"one frame in {1 / plan.rate:.1f} s was looked at, because the video is long")
    if video.streams > 1:
        judged = "the first" if video.number == 1 else f"number {video.number}"
        remarks.append(f"it holds {counted(video.streams, 'video stream')}; {judged} was judged")
    if video.hdr is not None:
        remarks.append(f"its HDR ({video.hdr}) was tone-mapped to BT.709")
    if video.interlaced:
        remarks.append("it is interlaced; of each frame one field was judged")
    if video.askew:
        remarks.append("the turn that it states is no multiple of 90 degrees; the nearest one was taken")
    if done.lost:
        remarks.append(f"{counted(done.lost, 'damaged frame')} could not be used")
    # Sound can outlast the images a little, and some files count the time before the first frame.
    missing = stated - done.end > max(3 / (video.frame_rate or 25), min(0.5, 0.05 * stated))
    if stopped:
        remarks.append(f"only its first {done.end:.1f} s were looked at: it is longer than it states")
    elif missing:
        remarks.append(f"it ends after {done.end:.1f} s of the {stated:.1f} s that it states")
    complete = not (stopped or missing or done.lost)
    return seconds, 1.0 if complete else seconds / max(stated, seconds, 1e-9), remarks


def _sha256(path: str | Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _judged(detector: Detector, samples: Iterator[Sample]) -> Generator[_Submitted]:
    """Sampled frames with their faces; the network runs a few frames behind the search."""
    search = VideoFaceSearch(detector.analyzer)
    tracks: list[Track] = []
    waiting: deque[_Submitted] = deque()
    with closing(_ahead(samples)) as decoded, ThreadPoolExecutor(1) as network:
        for sample in decoded:
            found, cut = search.find(sample.image, sample.time)
            faces = detector.align(sample.image, found)
            crops = [face.crop for face in faces]
            observations = [
                Observation(face.box, embed(crop)) for face, crop in zip(found, crops, strict=True)
            ]
            tracks, numbers = assign(tracks, observations, cut=cut)
            prediction = network.submit(detector.predict, faces) if faces else None
            waiting.append(_Submitted(sample, faces, numbers, prediction))
            if len(waiting) > _AHEAD:
                yield waiting.popleft()
        yield from waiting


def _ahead(items: Iterator[T]) -> Generator[T]:
    """The items, computed in advance in a thread."""
    thread = ThreadPoolExecutor(1)
    try:
        waiting = deque(thread.submit(next, items, None) for _ in range(_AHEAD))
        while (item := waiting.popleft().result()) is not None:
            waiting.append(thread.submit(next, items, None))
            yield item
    finally:
        thread.shutdown(cancel_futures=True)
