"""What the page's tests share: a scripted judge, a video's report, and Debian's Chromium."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from live_page import ScriptedJudge
from numpy.typing import NDArray
from playwright.sync_api import Browser, expect, sync_playwright

from forgerank.detect import Detector, KeyFrame, Moment, TrackReport, VideoReport

_CHROMIUM = "/usr/bin/chromium"
_OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="session")
def video_report(tiny_detector: Detector, forged_astronaut: NDArray[np.uint8]) -> VideoReport:
    """One person over 40 seconds, real at first, with a forged nose in the second half."""
    face = tiny_detector.detect([forged_astronaut])[0].faces[0]
    moments = tuple(
        Moment(
            frame=12 * i,
            time=i / 2,
            box=face.box,
            detection_score=0.9,
            forged_probability=0.05 if i < 40 else 0.9,
            verdict="real" if i < 40 else "forged",
            reason=None,
        )
        for i in range(80)
    )
    key = KeyFrame(moments[50], forged_astronaut, replace(face, forged_probability=0.9))
    track = TrackReport(
        number=1,
        start=0.0,
        end=39.5,
        verdict="forged",
        reason=None,
        forged_probability=0.9,
        components=face.components,
        moments=moments,
        key_frames=(key,),
        quality=face.quality,
    )
    return VideoReport(
        path="clip.mp4",
        sha256="0" * 64,
        width=512,
        height=512,
        duration=40.0,
        decoded_seconds=38.0,
        decoded_share=0.95,
        frame_rate=24.0,
        codec="h264",
        sampled_frames=80,
        sampling_rate=2.0,
        warnings=("the last 2.0 s could not be decoded",),
        verdict="forged",
        reason=None,
        tracks=(track,),
    )


@pytest.fixture
def judge(tiny_detector: Detector, video_report: VideoReport) -> ScriptedJudge:
    return ScriptedJudge(tiny_detector, video_report)


# Not for the session: as long as Playwright's synchronous API is open, no other test can run an event loop.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if shutil.which(_CHROMIUM) is None:
        if os.environ.get("CI"):
            pytest.fail(f"{_CHROMIUM} is missing, and CI must not skip these tests")
        pytest.skip(f"{_CHROMIUM} is missing: apt-get install chromium")
    expect.set_options(timeout=20_000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=_CHROMIUM, args=_OPTIONS)
        yield browser
        browser.close()


@pytest.fixture(params=[1280, 390], ids=["desktop", "phone"])
def width(request: pytest.FixtureRequest) -> int:
    """Of the window, pixels."""
    return int(request.param)
