"""Videos whose answer is known: who is seen when, the verdict on each, the order, and what was decoded."""

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as PILImage

import videos
from forgerank.detect import Detector, VideoReport
from forgerank.detect.result import likelihood_ratio
from forgerank.detect.videos import Cancelled, detect_video
from forgerank.media.files import MediaError
from forgerank.types import InputError
from videos import beside, cut_file, damage_file, shots, write_video

Pixels = NDArray[np.uint8]
Span = tuple[float, float]


@pytest.fixture(scope="module")
def real(astronaut: Pixels) -> Pixels:
    return videos.first_person(astronaut)


@pytest.fixture(scope="module")
def forged(forged_astronaut: Pixels) -> Pixels:
    return videos.first_person(forged_astronaut)


@pytest.fixture(scope="module")
def other(astronaut: Pixels) -> Pixels:
    return videos.second_person(astronaut)


@pytest.fixture(scope="module")
def empty(astronaut: Pixels) -> Pixels:
    return videos.empty_scene(astronaut)


@pytest.fixture
def judge(tiny_detector: Detector, tmp_path: Path) -> Callable[..., VideoReport]:
    def judge(*parts: tuple[Pixels, float], **options: object) -> VideoReport:
        path = write_video(tmp_path / "a.mp4", shots(*parts))
        return detect_video(tiny_detector, path, **options)  # type: ignore[arg-type]

    return judge


def spans(report: VideoReport) -> list[Span]:
    return [(round(track.start, 1), round(track.end, 1)) for track in report.tracks]


def test_one_person(judge: Callable[..., VideoReport], real: Pixels) -> None:
    report = judge((real, 3))
    assert (report.verdict, report.reason) == ("real", None)
    assert (report.width, report.height, report.codec, report.frame_rate) == (240, 240, "h264", 10)
    assert (report.sampled_frames, report.sampling_rate, report.warnings) == (6, 2, ())
    assert (report.duration, report.decoded_seconds, report.decoded_share) == pytest.approx((3, 3, 1))
    [track] = report.tracks
    assert (track.number, track.verdict, track.sequence) == (1, "real", ())
    assert [moment.time for moment in track.moments] == pytest.approx([0, 0.5, 1, 1.5, 2, 2.5], abs=0.31)
    assert [moment.frame / 10 for moment in track.moments] == pytest.approx([m.time for m in track.moments])
    assert 80 < track.quality.size < 120
    assert 1 <= len(track.key_frames) <= 3


def test_a_forged_person_with_the_order(judge: Callable[..., VideoReport], forged: Pixels) -> None:
    report = judge((forged, 4))
    [track] = report.tracks
    assert (report.verdict, track.verdict, track.reason) == ("forged", "forged", None)
    assert [component.name for component in track.sequence] == ["nose", "lip"]
    assert {moment.verdict for moment in track.moments} == {"forged"}
    key = track.key_frames[0]
    assert key.image.shape == (240, 240, 3)
    assert key.face.box == key.moment.box
    assert key.face.component_maps[0].max() > 0.6
    times = sorted(key.moment.time for key in track.key_frames)
    assert len(times) == 3
    assert np.diff(times).min() >= 1


def test_a_forged_stretch_of_a_real_video_is_named(
    judge: Callable[..., VideoReport], real: Pixels, forged: Pixels
) -> None:
    report = judge((real, 9), (forged, 3), (real, 9))
    [track] = report.tracks
    assert (report.verdict, track.verdict, track.reason) == ("forged", "forged", None)
    assert track.forged_probability < 0.6  # the median
    [stretch] = track.stretches
    assert (stretch.start, stretch.end) == pytest.approx((9, 12), abs=0.5)
    assert stretch.moments == 6
    assert stretch.forged_probability > 0.6
    assert [component.name for component in track.sequence] == ["nose", "lip"]


def test_a_face_is_not_called_real_for_a_stretch_too_short_for_a_finding(
    judge: Callable[..., VideoReport], real: Pixels, forged: Pixels
) -> None:
    report = judge((real, 20), (forged, 1.5), (real, 20))
    [track] = report.tracks
    assert (report.verdict, track.verdict) == ("undetermined", "undetermined")
    assert track.reason == "no clear evidence either way"
    [stretch] = track.stretches
    assert (stretch.start, stretch.end) == pytest.approx((20, 21.5), abs=0.5)
    assert track.likelihood_ratio == likelihood_ratio(stretch.forged_probability)


def test_what_is_forged_as_a_whole_has_no_stretch(
    judge: Callable[..., VideoReport], real: Pixels, forged: Pixels
) -> None:
    [track] = judge((forged, 5), (real, 1)).tracks
    assert (track.verdict, track.stretches) == ("forged", ())
    [track] = judge((real, 9), (forged, 1), (real, 9)).tracks
    assert (track.verdict, track.stretches) == ("real", ())


def test_two_people(judge: Callable[..., VideoReport], forged: Pixels, other: Pixels) -> None:
    report = judge((beside(forged, other), 3))
    by_place = sorted(report.tracks, key=lambda track: track.moments[0].box[0])
    assert [len(track.moments) for track in by_place] == [6, 6]
    assert by_place[0].verdict == "forged"
    assert by_place[1].verdict != "forged"
    assert by_place[1].sequence == ()
    assert report.verdict == "forged"


def test_the_second_person_enters_later(
    judge: Callable[..., VideoReport], real: Pixels, other: Pixels, empty: Pixels
) -> None:
    report = judge((beside(real, empty), 2), (beside(real, other), 2))
    assert spans(report) == [
        (0.0, pytest.approx(3.5, abs=0.3)),
        (pytest.approx(2, abs=0.6), pytest.approx(3.5, abs=0.3)),
    ]


def test_a_cut_to_another_person_starts_a_track(
    judge: Callable[..., VideoReport], real: Pixels, other: Pixels
) -> None:
    report = judge((real, 2), (other, 2))
    [first, second] = report.tracks
    assert first.end < 2 <= second.start
    assert (len(first.moments), len(second.moments)) == (4, 4)


def test_a_cut_back_joins_the_track_again(
    judge: Callable[..., VideoReport], real: Pixels, other: Pixels, empty: Pixels
) -> None:
    report = judge((real, 2), (other, 2), (empty, 1), (real, 2))
    [first, second] = report.tracks
    assert (first.start, second.start) == (0, pytest.approx(2, abs=0.3))
    assert first.end > 6
    assert second.end < 4
    assert not any(2 <= moment.time < 5 for moment in first.moments)


def test_people_who_swap_sides_over_a_cut_keep_their_tracks(
    judge: Callable[..., VideoReport], forged: Pixels, other: Pixels
) -> None:
    report = judge((beside(forged, other), 2), (beside(other, forged), 2))
    assert len(report.tracks) == 2
    for track in report.tracks:
        sides = [moment.box[0] >= 240 for moment in track.moments]
        assert sides in ([False] * 4 + [True] * 4, [True] * 4 + [False] * 4)
    assert {track.verdict for track in report.tracks} >= {"forged"}
    assert all(len({m.verdict == "forged" for m in track.moments}) == 1 for track in report.tracks)


def test_no_face(judge: Callable[..., VideoReport], empty: Pixels) -> None:
    report = judge((empty, 2))
    assert (report.verdict, report.reason, report.tracks) == ("undetermined", "no face found", ())


def test_too_few_frames_for_a_verdict(judge: Callable[..., VideoReport], forged: Pixels) -> None:
    report = judge((forged, 0.2))
    assert report.verdict == "undetermined"
    assert report.reason == "only 2 frames of this face can be judged, 3 are needed"


def test_a_short_video_is_sampled_more_densely(judge: Callable[..., VideoReport], forged: Pixels) -> None:
    report = judge((forged, 1))
    assert (report.verdict, report.sampled_frames) == ("forged", 6)
    assert report.sampling_rate == pytest.approx(6)
    assert judge((forged, 1), max_frames=3).sampled_frames == 3
    assert judge((forged, 1), fps=10).sampled_frames == 10


def test_the_cap_spreads_the_frames(judge: Callable[..., VideoReport], real: Pixels) -> None:
    report = judge((real, 6), max_frames=4)
    assert report.sampled_frames == 4
    assert report.sampling_rate == pytest.approx(4 / 6, rel=0.05)
    assert report.tracks[0].end > 4
    assert report.decoded_share == 1
    assert any("because the video is long" in warning for warning in report.warnings)


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4", "a.gif"])
def test_a_long_gap_costs_no_frames(tiny_detector: Detector, real: Pixels, tmp_path: Path, name: str) -> None:
    times = [*range(0, 3000, 100), 3_600_000, 3_600_500]
    if name == "a.gif":
        first, *others = [PILImage.fromarray(np.roll(real, shift, axis=1)) for shift in range(32)]
        lengths = [100] * 29 + [60_000, 500, 500]
        first.save(tmp_path / name, save_all=True, append_images=others, duration=lengths)
    else:
        write_video(tmp_path / name, [real] * len(times), times=times, bf="0")
    report = detect_video(tiny_detector, tmp_path / name, max_frames=20)
    assert 8 <= report.sampled_frames <= 20
    assert sum(moment.time < 3 for moment in report.tracks[0].moments) >= 6
    assert report.sampling_rate > 1.9
    assert report.decoded_share == 1


@pytest.mark.parametrize("frames", [59, 60, 61, 120, 121])
def test_a_long_video_is_covered_to_its_end(
    tiny_detector: Detector, real: Pixels, tmp_path: Path, frames: int
) -> None:
    path = write_video(tmp_path / "a.mp4", [real] * frames)
    report = detect_video(tiny_detector, path, max_frames=10)
    assert 9 <= report.sampled_frames <= 10
    assert not any("its first" in warning for warning in report.warnings)


def test_a_turned_video_is_judged_upright(
    tiny_detector: Detector, forged: Pixels, empty: Pixels, tmp_path: Path
) -> None:
    upright = beside(forged, empty)
    stored = np.rot90(upright, -1)  # turned by 90 degrees counter-clockwise it stands upright
    path = write_video(tmp_path / "a.mp4", [stored] * 20, rotation=90)
    report = detect_video(tiny_detector, path)
    assert (report.width, report.height) == (480, 240)
    assert (report.verdict, len(report.tracks)) == ("forged", 1)
    assert report.tracks[0].key_frames[0].image.shape == (240, 480, 3)


def test_a_variable_frame_rate_keeps_the_times_of_the_stream(
    tiny_detector: Detector, real: Pixels, tmp_path: Path
) -> None:
    times = [0, 40, 80, 500, 540, 1900, 1950, 2000, 3000, 3040, 4000]
    path = write_video(tmp_path / "a.mkv", [real] * len(times), times=times, bf="0")
    report = detect_video(tiny_detector, path)
    moments = report.tracks[0].moments
    assert [round(1000 * moment.time) for moment in moments] == [0, 500, 1900, 2000, 3000, 4000]
    assert [moment.frame for moment in moments] == [0, 3, 5, 7, 8, 10]
    assert report.decoded_share == 1


@pytest.mark.parametrize(
    ("name", "codec", "shown"),
    [
        ("a.mkv", "libx265", "hevc"),
        ("a.webm", "libvpx-vp9", "vp9"),
        ("a.mp4", "libsvtav1", "av1"),
        ("a.avi", "mpeg4", "mpeg4"),
        ("a.ts", "libx264", "h264"),
        ("a.flv", "libx264", "h264"),
    ],
)
def test_codecs_and_containers(
    name: str, codec: str, shown: str, tiny_detector: Detector, forged: Pixels, tmp_path: Path
) -> None:
    if codec not in av.codecs_available:
        pytest.skip(f"this PyAV has no {codec}")
    path = write_video(tmp_path / name, [forged] * 20, codec=codec)
    report = detect_video(tiny_detector, path)
    assert (report.verdict, len(report.tracks)) == ("forged", 1)
    assert report.codec == shown
    assert report.decoded_share == 1
    assert (report.tracks[0].start, report.tracks[0].end) == (0, pytest.approx(1.5, abs=0.31))


def test_a_truncated_video_is_judged_on_what_decodes(
    tiny_detector: Detector, forged: Pixels, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    noisy = [np.clip(forged + rng.integers(-6, 7, forged.shape), 0, 255).astype(np.uint8) for _ in range(60)]
    cut = cut_file(write_video(tmp_path / "a.mp4", noisy), 0.5)
    report = detect_video(tiny_detector, cut)
    assert report.verdict == "forged"
    assert report.duration == 6
    assert 2 < report.decoded_seconds < 4
    assert report.decoded_share == pytest.approx(report.decoded_seconds / 6)
    assert report.tracks[0].end < 4
    assert any("of the 6.0 s that it states" in warning for warning in report.warnings)


def test_a_damaged_middle_costs_only_itself(tiny_detector: Detector, forged: Pixels, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noisy = [np.clip(forged + rng.integers(-6, 7, forged.shape), 0, 255).astype(np.uint8) for _ in range(60)]
    path = write_video(tmp_path / "a.mp4", noisy, bf="0")
    report = detect_video(tiny_detector, damage_file(path, size=60_000))
    assert report.verdict == "forged"
    assert 0.4 < report.decoded_share < 1
    assert any("damaged frame" in warning for warning in report.warnings)
    assert report.tracks[0].end > 5


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("empty.mp4", b"", "empty file"),
        ("text.mp4", b"not a video" * 50, "not a video"),
        ("playlist.mp4", b"#EXTM3U\n#EXTINF:9,\nfile:///etc/passwd\n", "a playlist, which holds no video"),
        ("page.mp4", b"<!DOCTYPE html><html>" + bytes(99), r"a web page \(HTML\)"),
        ("zeros.mp4", bytes(9000), "it begins with zeros alone"),
        ("packed.avi", b"\x1f\x8b\x08" + bytes(99), r"an archive \(gzip\)"),
        ("bare.avi", b"\0\0\0\1\x67" + bytes(99), r"a video of a kind that is not read \(bare H.264\)"),
        ("ffconcat.mkv", b"ffconcat version 1.0\nfile 'a.mp4'\n", "not a video"),
        ("no_index.mp4", b"\x00\x00\x00\x20ftypisom" + bytes(400), "damaged or no video"),
        ("matroska.mkv", b"\x1a\x45\xdf\xa3" + bytes(400), "damaged or no video"),
    ],
)
def test_what_is_no_video_is_refused_with_one_line(
    name: str,
    content: bytes,
    reason: str,
    tiny_detector: Detector,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(MediaError, match=reason) as caught:
        detect_video(tiny_detector, tmp_path / name)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("rotation", "askew"), [(90, False), (30, True), (-120, True)])
def test_a_turn_that_is_not_followed_is_said(
    rotation: int, askew: bool, tiny_detector: Detector, real: Pixels, tmp_path: Path
) -> None:
    report = detect_video(tiny_detector, write_video(tmp_path / "a.mp4", [real] * 3, rotation=rotation))
    assert any("no multiple of 90 degrees" in warning for warning in report.warnings) is askew


def test_sound_alone_is_refused(tiny_detector: Detector, tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="no video in the file"):
        detect_video(tiny_detector, videos.write_sound(tmp_path / "a.mp4"))


def test_nothing_that_decodes_is_refused(tiny_detector: Detector, real: Pixels, tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", [real] * 20)
    with pytest.raises(MediaError, match=r"no frame of this video can be decoded|damaged or no video"):
        detect_video(tiny_detector, damage_file(path, at=0.0, size=10_000_000))


def test_limits_are_held(judge: Callable[..., VideoReport], real: Pixels) -> None:
    with pytest.raises(MediaError, match=r"3 s long, over the limit of 2 s"):
        judge((real, 3), max_seconds=2)
    with pytest.raises(MediaError, match=r"frames of 240 x 240 pixels, over the limit of 50000"):
        judge((real, 1), max_pixels=50_000)


def test_progress_and_stopping(judge: Callable[..., VideoReport], real: Pixels) -> None:
    told: list[Span] = []
    judge((real, 3), progress=lambda done, total: told.append((done, total)))
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert {total for _, total in told} == {3}
    assert told[-1] == (3, 3)
    with pytest.raises(Cancelled):
        judge((real, 3), cancelled=lambda: True)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "a.avi", "a.flv"])
def test_the_cap_holds_in_every_container(
    name: str, tiny_detector: Detector, real: Pixels, tmp_path: Path
) -> None:
    codec = "mpeg4" if name == "a.avi" else "libx264"
    path = write_video(tmp_path / name, [real] * 40, codec=codec)
    report = detect_video(tiny_detector, path, max_frames=3)
    times = [moment.time for moment in report.tracks[0].moments]
    assert len(times) == report.sampled_frames == 3
    assert times == pytest.approx([0, 4 / 3, 8 / 3], abs=0.4)


def test_numbers_that_make_no_sense_are_refused(judge: Callable[..., VideoReport], real: Pixels) -> None:
    for options in ({"fps": 0}, {"fps": float("nan")}, {"fps": "2"}, {"max_frames": 0}, {"max_seconds": -1}):
        with pytest.raises(InputError, match="must be a number above 0"):
            judge((real, 1), **options)
