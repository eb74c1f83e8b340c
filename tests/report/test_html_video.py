import re
from dataclasses import replace

import pytest

from forgerank.detect import Detector
from forgerank.detect.result import NO_EVIDENCE, Stretch, VideoReport
from forgerank.report.html import html_page, section
from forgerank.report.timeline import absences, axis, forged_spans, runs, ticks
from forgerank.report.words import clock, stretches_phrase
from forgerank.weights.description import Thresholds
from pages import assert_self_contained, parse
from results import moments, track, two_people, video_report

THRESHOLDS = Thresholds(forged=0.6, real=0.2, components=(0.3, 0.3, 0.3))
HOSTILE = '"><script>alert(1)</script>.mp4'


def page(detector: Detector, *videos: VideoReport) -> str:
    thresholds = detector.metadata.thresholds
    sections = [section(i, video, None, thresholds) for i, video in enumerate(videos, start=1)]
    return html_page(sections, videos, detector.metadata, detector.sha256)


@pytest.fixture(scope="module")
def shown(tiny_detector: Detector) -> str:
    return page(tiny_detector, replace(two_people(), path=HOSTILE), video_report(tracks=(), verdict="real"))


def test_the_page_is_whole_and_safe(shown: str) -> None:
    assert_self_contained(shown)
    tags = parse(shown)
    assert not tags.open
    assert [tag for tag, _ in tags.tags].count("script") == 1
    assert HOSTILE in tags.text


def test_what_a_reader_of_a_video_needs(shown: str) -> None:
    text = parse(shown).text
    assert "1 of 2 faces in this video shows signs of forgery." in text
    assert "Only 6.0 s could be decoded, 75 % of what the file states" in text
    assert "faces were looked for in 12 frames, 2 per second" in text
    assert "the file ends early" in text
    assert "Signs of forgery: nose, then lip." in text
    assert "from 0:00.0 to 0:04.0, seen in 7 frames" in text
    assert "small face (80 px)" in text
    assert "200 by 160 px · h264 · 25 frames per second · 8.0 s" in text
    assert "4" * 64 in text
    assert "In a video only the sampled frames are judged" in text


def test_a_stretch_is_named_with_what_it_rests_on(tiny_detector: Detector) -> None:
    part = replace(
        track(1, moments(18.0, "rrrffffffrrr"), "forged"),
        forged_probability=0.47,
        stretches=(Stretch(19.25, 22.25, 6, 0.95, 0.0057),),
    )
    alone, two = (
        page(tiny_detector, video_report(part)),
        page(tiny_detector, video_report(*two_people().tracks, part)),
    )
    text = parse(alone).text
    assert "The face in this video shows signs of forgery from 0:19 to 0:22." in text
    assert "Signs of forgery from 0:19 to 0:22: nose, then lip." in text
    assert "Of real faces seen as often, about 0.6 % would show as much somewhere." in text
    assert "Over the whole video the probability is 47 %." in text
    assert "forged with probability 95 %" in alone
    assert "2 of 3 faces in this video show signs of forgery (face 3 from 0:19 to 0:22)." in parse(two).text


def test_a_stretch_too_short_for_a_finding_is_named(tiny_detector: Detector) -> None:
    part = replace(
        track(1, moments(18.0, "rrrffffrrrrr"), "undetermined"),
        reason=NO_EVIDENCE,
        forged_probability=0.14,
        stretches=(Stretch(19.25, 21.25, 4, 0.9, 0.027),),
    )
    text = parse(page(tiny_detector, video_report(part))).text
    assert "suspicious from 0:19 to 0:21" in text
    assert "It looks most like a forgery from 0:19 to 0:21, too little for a finding." in text
    assert "about 2.7 % would show as much somewhere. Over the whole video the probability is 14 %." in text


def test_many_stretches_are_counted_not_listed() -> None:
    parts = tuple(Stretch(10.0 * i, 10.0 * i + 4, 8, 0.95, 0.001) for i in range(5))
    words = stretches_phrase(replace(track(1, moments(0.0, "f"), "forged"), stretches=parts))
    assert words == "from 0:00 to 0:04, from 0:10 to 0:14, from 0:20 to 0:24 and in 2 more stretches"


def test_the_plot_says_what_it_shows(shown: str) -> None:
    tags = parse(shown)
    texts = re.findall(r'<rect class="target"[^>]*><title>([^<]*)</title>', shown)
    assert texts[0] == "0:00.0: 40 %, no clear evidence"
    assert texts[2] == "0:01.0: 95 %, forged"
    assert len(texts) == 10
    assert "Highest 95 % at 0:01.0; forged from 0:00.8 to 0:02.2." in tags.text
    assert (
        shown.count('class="threshold forged"') == shown.count('class="threshold real"') == 4
    )  # a row and its plot
    sliders = [a for tag, a in tags.tags if tag == "input" and "Time" in (a.get("aria-label") or "")]
    assert [(a["min"], a["max"], a["step"]) for a in sliders] == [("0.000", "6.000", "0.500")] * 2


def test_eight_people_are_one_legend_and_rows_by_suspicion(tiny_detector: Detector) -> None:
    small = "face too small (31 px, at least 64 are needed)"
    seen = moments(0.0, "ru")
    people = [
        *(replace(track(number, seen, "real"), forged_probability=number / 100) for number in (1, 2, 3)),
        replace(track(4, seen, "undetermined"), reason=small, forged_probability=0.99),
        replace(
            track(5, seen, "undetermined"), reason="no clear evidence either way", forged_probability=0.5
        ),
        *(replace(track(number, seen, "forged"), forged_probability=0.9 + number / 100) for number in (6, 7)),
        replace(
            track(8, seen, "forged"), forged_probability=0.2, stretches=(Stretch(20.0, 23.0, 7, 0.99, 1e-4),)
        ),
    ]
    shown = page(tiny_detector, video_report(*people))
    rows = re.findall(r"<summary>.*?</summary>", shown, re.S)
    words = [" ".join(re.sub(r"<[^>]*>", " ", row).split()) for row in rows]
    assert [re.findall(r"Face (\d)", text)[0] for text in words] == list("87653214")
    assert "▲ forged forged from 0:20 to 0:23 ratio 99 forged 99 %" in words[0]
    assert "◆ no clear evidence seen from 0:00 to 0:00 ratio 1 forged 50 %" in words[3]
    assert "○ undetermined" in words[7]
    assert "ratio" not in words[7]
    assert shown.count('class="legend') == 1
    assert shown.count('class="small"') == 8
    assert not re.search(r"<details[^>]* open>", shown)
    assert not parse(shown).open


def test_one_person_is_open_at_once(tiny_detector: Detector) -> None:
    shown = page(tiny_detector, video_report(track(1, moments(0.0, "rr"), "real"), verdict="real"))
    assert len(re.findall(r"<details[^>]* open>", shown)) == 1


def test_each_track_has_its_own_maps_and_frames(shown: str) -> None:
    tags = parse(shown).tags
    groups = {a["name"] for tag, a in tags if tag == "input" and a.get("type") == "radio"}
    assert groups == {"map-1-1", "map-1-2"}
    layers = [a for _, a in tags if "layer" in (a.get("class") or "")]
    assert len(layers) == 4 * 4  # two frames of two tracks, three components and the dissimilarity
    assert {a["data-map"] for a in layers if "hidden" not in str(a["class"])} == {"nose"}


def test_a_track_without_key_frames_is_shown(tiny_detector: Detector) -> None:
    bare = replace(track(1, moments(0.0, "r"), "real"), key_frames=())
    shown = page(tiny_detector, video_report(bare, verdict="real", frame_rate=None, duration=None))
    assert "Most telling frames" not in shown
    assert "No sign of forgery was found in its face." in shown
    assert not parse(shown).open


def test_spans_and_absences() -> None:
    seen = moments(1.0, "ff rff  f")
    assert forged_spans(seen, 0.5) == [(0.75, 1.75), (2.75, 3.75), (4.75, 5.25)]
    assert [len(run) for run in runs(seen, 0.5)] == [2, 3, 1]
    video = video_report(track(1, seen, "forged"), decoded_seconds=7.0)
    assert absences(video.tracks[0], video) == [(0.0, 0.75), (1.75, 2.25), (3.75, 4.75), (5.25, 7.0)]


def test_many_spans_are_counted_not_listed() -> None:
    flickering = track(1, moments(0.0, "frfrfrfrfrfrfrfr"), "forged")
    part = section(1, video_report(flickering), None, THRESHOLDS)
    assert "0:04.8 to 0:05.2 and 2 more spans." in part
    assert part.count('class="band forged"') == 2 * 8


def test_one_missing_sample_is_an_absence_and_jitter_is_not() -> None:
    even = moments(0.0, "rr")
    late = [even[0], replace(even[1], time=0.8)]
    assert len(runs(late, 0.5)) == 1
    assert len(runs([even[0], replace(even[1], time=1.0)], 0.5)) == 2


@pytest.mark.parametrize(
    ("start", "duration", "expected"),
    [
        (0.0, 1e12, (0.0, 6.0)),  # what was decoded, whatever is stated
        (0.0, None, (0.0, 6.0)),
        (7.0, 8.0, (0.0, 7.0)),
        (3600.0, 8.0, (3600.0, 3606.0)),  # a stream that counts from elsewhere
    ],
)
def test_axis(start: float, duration: float | None, expected: tuple[float, float]) -> None:
    video = video_report(track(1, moments(start, "r"), "real"), duration=duration)
    assert axis(video) == expected


def test_axis_of_one_frame_has_a_length() -> None:
    still = video_report(
        track(1, moments(0.0, "f"), "forged"), duration=None, decoded_seconds=0.0, sampling_rate=0.0
    )
    start, end = axis(still)
    assert end > start


@pytest.mark.parametrize(
    ("end", "expected"),
    [(2.0, [0, 0.5, 1, 1.5, 2]), (24.0, [0, 5, 10, 15, 20]), (7200.0, [0, 1800, 3600, 5400, 7200])],
)
def test_ticks_are_round_and_few(end: float, expected: list[float]) -> None:
    assert ticks(0.0, end) == expected
    assert len(ticks(0.0, 1e12)) <= 7


@pytest.mark.parametrize("start", [0.0, 3600.0, -0.1])
def test_a_forged_span_stays_on_the_axis(start: float) -> None:
    video = video_report(track(1, moments(start, "fr"), "forged"))
    part = section(1, video, None, THRESHOLDS)
    assert 'class="band forged" x="0.00"' in part
    assert f"forged from {clock(start)} to" in part
