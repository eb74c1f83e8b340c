import pytest

from forgerank.detect.result import VideoReport
from forgerank.report.entries import Credentials
from forgerank.report.words import (
    clock,
    decoded_sentence,
    face_sentence,
    percent,
    state_sentence,
    verdict_sentence,
)
from forgerank.types import printable
from results import moments, track, two_people, video_report

FORGED_TRACK = track(1, moments(0.0, "ff"), "forged")
REAL_TRACK = track(2, moments(0.0, "rr"), "real")


@pytest.mark.parametrize(
    ("probability", "text"),
    [
        (0.0, "<1 %"),
        (0.0099, "<1 %"),
        (0.01, "1 %"),
        (0.5, "50 %"),
        (0.99, "99 %"),
        (0.9901, ">99 %"),
        (1.0, ">99 %"),
    ],
)
def test_percent_never_claims_certainty(probability: float, text: str) -> None:
    assert percent(probability) == text


@pytest.mark.parametrize(
    ("text", "shown"), [("a b.jpg", "a b.jpg"), ("a\x1b[31m\n", "a\\x1b[31m\\n"), ("é\udcff", "é\\udcff")]
)
def test_control_characters_are_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown


@pytest.mark.parametrize(
    ("video", "sentence"),
    [
        (two_people(), "1 of 2 faces in this video shows signs of forgery."),
        (video_report(FORGED_TRACK), "The face in this video shows signs of forgery."),
        (video_report(FORGED_TRACK, FORGED_TRACK), "2 of 2 faces in this video show signs of forgery."),
        (video_report(REAL_TRACK, verdict="real"), "No sign of forgery was found in its face."),
        (
            video_report(REAL_TRACK, REAL_TRACK, verdict="real"),
            "No sign of forgery was found in its 2 faces.",
        ),
        (
            video_report(verdict="undetermined", reason="no face found"),
            "This video could not be judged: no face found.",
        ),
    ],
)
def test_a_video_in_one_sentence(video: VideoReport, sentence: str) -> None:
    assert verdict_sentence(video) == sentence


def test_a_track_reads_as_a_face_does() -> None:
    assert face_sentence(FORGED_TRACK) == "Signs of forgery: nose, then lip."
    assert face_sentence(REAL_TRACK) == "No sign of forgery was found."


def test_how_much_was_decoded() -> None:
    whole = video_report(decoded_seconds=8.0, decoded_share=1.0, sampled_frames=1, sampling_rate=0.125)
    assert decoded_sentence(whole) == (
        "All 8.0 s were decoded; faces were looked for in 1 frame, 0.125 per second."
    )
    assert decoded_sentence(two_people()).startswith("Only 6.0 s could be decoded, 75 % of what the file")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0:00.0"), (59.96, "1:00.0"), (3599.99, "1:00:00.0"), (-1.5, "-0:01.5"), (-0.01, "0:00.0")],
)
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text


def test_credentials_never_sound_like_proof() -> None:
    assert "was not checked" in state_sentence(Credentials(state="Valid"))
    assert state_sentence(Credentials(state="New state")) == "New state."
    assert state_sentence(Credentials(problem="damaged: x")) == (
        "The file carries content credentials: damaged: x."
    )
