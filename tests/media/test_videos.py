"""Sampling of videos whose frames show their number."""

import gc
import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from forgerank.extras import MissingExtraError
from forgerank.media.containers import displayed
from forgerank.media.files import MediaError
from forgerank.media.frame_access import Frame, Lost, read_video
from forgerank.media.hdr import HDR_PEAK, SDR_PEAK, light_to_pq
from forgerank.media.videos import Progress, Sample, open_video
from videos import cut_file, damage_file, join_streams, write_hdr_video, write_sound, write_video

COUNT = 40


def greys(count: int = COUNT, size: int = 64) -> list[np.ndarray]:
    """Frames of 5 grey levels more each; the left half is darker by 15."""
    frames = []
    for number in range(count):
        image = np.full((size // 2, size, 3), 20 + 5 * number, dtype=np.uint8)
        image[:, : size // 2] -= 15
        frames.append(image)
    return frames


def number_of(sample: Sample) -> int:
    return round((float(sample.image.max(axis=(0, 1)).mean()) - 20) / 5)


def read(path: Path, rate: float, threads: int = 1) -> tuple[list[Sample], Progress]:
    with open_video(path, threads=threads) as video:
        return list(video.samples(rate)), video.progress


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.mp4", {}),
        ("no_b_frames.mp4", {"bf": "0"}),
        ("many_b_frames.mkv", {"bf": "8", "gop": 250}),
        ("intra.mp4", {"gop": 1}),
        ("a.avi", {"codec": "mpeg4"}),
        ("no_times.avi", {"bf": "2"}),
        ("a.ts", {}),
    ],
)
@pytest.mark.parametrize(("rate", "late"), [(5.0, 0), (2.5, 8)])  # far apart, some may be passed over
def test_samples_say_their_own_number_and_time(
    name: str, options: dict, threads: int, rate: float, late: int, tmp_path: Path
) -> None:
    samples, progress = read(write_video(tmp_path / name, greys(), rate=25, **options), rate, threads)
    numbers = [sample.number for sample in samples]
    assert [number_of(sample) for sample in samples] == numbers
    assert [sample.time for sample in samples] == pytest.approx([n / 25 for n in numbers], abs=0.002)
    wanted = range(0, COUNT, round(25 / rate))
    assert len(numbers) == len(wanted)
    assert all(0 <= number - place <= late for number, place in zip(numbers, wanted, strict=True))
    assert numbers[0] == 0
    assert progress.lost == 0
    assert progress.seconds == progress.end == pytest.approx(COUNT / 25, abs=0.01)


def test_a_recorders_header_before_a_program_stream_is_passed_over(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mpg", greys(), rate=25, codec="mpeg2video")
    plain, _ = read(path, 5.0)
    (tmp_path / "b.mp4").write_bytes(b"IMKH" + bytes(36) + path.read_bytes())
    behind, progress = read(tmp_path / "b.mp4", 5.0)
    assert [number_of(sample) for sample in behind] == [number_of(sample) for sample in plain]
    assert progress.lost == 0


@pytest.mark.parametrize(("name", "codec"), [("a.mpg", "mpeg2video"), ("a.ts", "libx264")])
def test_time_goes_on_where_videos_were_joined(name: str, codec: str, tmp_path: Path) -> None:
    path = write_video(tmp_path / name, greys(), rate=25, codec=codec, bf="2")
    path.write_bytes(path.read_bytes() * 3)
    with open_video(path) as video:
        samples = list(video.samples(5.0))
        assert max(video.times()) == pytest.approx(3 * COUNT / 25, abs=0.02)
    assert len(samples) == 3 * COUNT // 5
    assert [sample.time for sample in samples] == pytest.approx([n / 5 for n in range(24)], abs=0.09)
    shown = [number_of(sample) for sample in samples]
    assert all(
        abs(number - round(25 * sample.time) % COUNT) <= 1
        for number, sample in zip(shown, samples, strict=True)
    )


def test_time_goes_on_where_the_joined_video_was_recorded_earlier(tmp_path: Path) -> None:
    """By more than a minute, which FFmpeg takes for an overflow of the clock: 26 hours."""
    early = write_video(tmp_path / "early.ts", greys(), rate=25, bf="0")
    late, path = tmp_path / "late.ts", tmp_path / "a.ts"
    with av.open(str(early)) as source, av.open(str(late), "w") as shifted:
        stream = shifted.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None and packet.pts is not None:
                packet.dts, packet.pts = packet.dts + 3600 * 90_000, packet.pts + 3600 * 90_000
                packet.stream = stream
                shifted.mux(packet)
    path.write_bytes(late.read_bytes() + early.read_bytes())
    with open_video(path) as video:
        samples = list(video.samples(5.0))
        assert video.duration is None or video.duration < 10
        assert max(video.times()) == pytest.approx(2 * COUNT / 25, abs=0.1)
    assert [sample.time for sample in samples] == pytest.approx(
        [n / 5 for n in range(len(samples))], abs=0.09
    )
    assert len(samples) == 2 * COUNT // 5


def test_a_frame_of_another_shape_is_not_distorted(tmp_path: Path) -> None:
    """As where a telephone is turned in a call that is recorded."""
    wide, high = np.full((96, 160, 3), 100, np.uint8), np.full((160, 96, 3), 200, np.uint8)
    parts = [write_video(tmp_path / f"{i}.ts", [part] * 25, bf="0") for i, part in enumerate((wide, high))]
    path = tmp_path / "a.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    samples, _ = read(path, 2.0)
    assert {sample.image.shape for sample in samples} == {wide.shape}
    bright = samples[-1].image[..., 0] > 150
    assert bright.any(axis=1).sum() == 96
    assert bright.any(axis=0).sum() == pytest.approx(96 * 96 / 160, abs=1)


@pytest.mark.parametrize("suffix", ["ts", "mpg"])
def test_the_shape_of_pixels_may_change(suffix: str, tmp_path: Path) -> None:
    """As a broadcast does between 4:3 and 16:9."""
    square, wide = np.full((96, 128, 3), 100, np.uint8), np.full((96, 128, 3), 200, np.uint8)
    parts = [
        write_video(tmp_path / f"{i}.{suffix}", [part] * 50, codec="mpeg2video", rate=25, aspect=aspect)
        for i, (part, aspect) in enumerate(((square, Fraction(1)), (wide, Fraction(4, 3))))
    ]
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    shown = [sample.image for sample in read(path, 2.0)[0]]
    assert {image.shape for image in shown} == {square.shape}
    heights = [int((image[..., 0] > 150).any(axis=1).sum()) for image in shown]
    assert heights == [0] * 4 + [72] * 4
    single = [frame.image.shape[:2] for frame in read_video(path, 4) if isinstance(frame, Frame)]
    assert single == [(96, 128)] * 2 + [(96, 171)] * 2


@pytest.mark.parametrize("name", ["a.mp4", "a.avi", "a.ts"])
def test_of_two_fields_one_is_shown(name: str, tmp_path: Path) -> None:
    """A bar that moves by 16 pixels from a field to the next."""
    fields = np.full((22, 96, 160, 3), 40, np.uint8)
    for number, field in enumerate(fields):
        field[:, 4 + 6 * number : 24 + 6 * number] = 220
    frames = fields[::2].copy()
    frames[:, 1::2] = fields[1::2, 1::2]
    codec = "mpeg2video" if name == "a.ts" else "libx264"
    for options in ({}, {"flags": "+ilme+ildct"}):
        path = write_video(tmp_path / name, frames, codec=codec, bf="0", **options)
        with open_video(path) as video:
            [first, *_] = video.samples(1.0)
            assert video.interlaced == bool(options)
        torn = np.abs(np.diff(first.image[10:-10, :, 0].astype(int), axis=0)).mean()
        assert torn < 2 if options else torn > 8
    single = next(frame.image for frame in read_video(path, 1) if isinstance(frame, Frame))
    assert np.abs(np.diff(single[10:-10, :, 0].astype(int), axis=0)).mean() < 2


@pytest.mark.parametrize("count", [1, 3])
def test_frames_of_a_short_transport_stream_are_found(count: int, tmp_path: Path) -> None:
    """Where its first time is searched for, FFmpeg may go past the first key frame."""
    frames = np.full((11, 96, 160, 3), 40, np.uint8)
    for number, frame in enumerate(frames):
        frame[:, 4 + 12 * number : 24 + 12 * number] = 220
        frame[1::2] = np.roll(frame[1::2], 6, axis=1)
    path = write_video(tmp_path / "a.ts", frames, codec="mpeg2video", bf="0")
    assert all(isinstance(frame, Frame) for frame in read_video(path, count))


def test_a_transport_stream_that_begins_amid_a_packet(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.ts", greys(), rate=25, gop=5)
    path.write_bytes(path.read_bytes()[1000:])
    samples, _ = read(path, 5.0)
    assert len(samples) >= 6


def test_a_rate_above_the_frame_rate_gives_every_frame(tmp_path: Path) -> None:
    samples, _ = read(write_video(tmp_path / "a.mp4", greys(), rate=25), 1000.0)
    assert [number_of(sample) for sample in samples] == list(range(COUNT))


def test_times_of_a_variable_frame_rate(tmp_path: Path) -> None:
    times = [10 * number * number for number in range(COUNT)]
    samples, _ = read(write_video(tmp_path / "a.mkv", greys(), times=times, bf="0"), 1.0)
    assert [sample.time for sample in samples] == pytest.approx(
        [times[number_of(s)] / 1000 for s in samples], abs=0.002
    )
    firsts = [next(n for n, time in enumerate(times) if time >= 1000 * second) for second in range(16)]
    assert [number_of(sample) for sample in samples] == sorted(set(firsts))


@pytest.mark.parametrize(
    ("rotation", "dark"), [(90, np.s_[-10:, :]), (180, np.s_[:, -10:]), (-90, np.s_[:10])]
)
def test_rotated_video_stands_upright(rotation: int, dark: tuple, tmp_path: Path) -> None:
    samples, _ = read(write_video(tmp_path / "a.mp4", greys(), rotation=rotation), 1.0)
    assert samples[0].image.shape == ((64, 32, 3) if rotation != 180 else (32, 64, 3))
    assert samples[0].image[dark].mean() < samples[0].image.mean() - 4


def marked() -> np.ndarray:
    """A frame whose corners differ: red, green, blue, and black at the bottom right."""
    image = np.full((96, 160, 3), 200, np.uint8)
    image[:32, :32], image[:32, -32:] = (220, 20, 20), (20, 220, 20)
    image[-32:, :32], image[-32:, -32:] = (20, 20, 220), 10
    return image


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
@pytest.mark.parametrize("flips", ["", "h", "v", "hv"])
@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_every_turn_and_flip_is_shown_as_a_player_does(
    rotation: int, flips: str, name: str, tmp_path: Path
) -> None:
    path = write_video(tmp_path / name, [marked()] * 3, rotation=rotation, flips=flips)
    # As FFmpeg has it: the stored frame is turned counter-clockwise, then its columns and rows change sides.
    expected = np.rot90(marked(), rotation // 90)
    expected = expected[:: -1 if "v" in flips else 1, :: -1 if "h" in flips else 1]
    [sample] = read(path, 1.0)[0]
    [frame] = [frame for frame in read_video(path, 1) if isinstance(frame, Frame)]
    for image in (sample.image, frame.image):
        assert image.shape == expected.shape
        assert np.abs(image.astype(int) - expected).mean() < 6


def test_a_matrix_is_taken_for_the_nearest_of_the_eight() -> None:
    image, turned = marked(), [round(65536 * x) for x in (np.cos(1.7), np.sin(1.7))]
    matrix = np.array([turned[0], turned[1], 0, -turned[1], turned[0], 0, 0, 0, 1 << 30], np.int32)
    np.testing.assert_array_equal(displayed(image, matrix), np.rot90(image, -1))
    np.testing.assert_array_equal(displayed(image, np.zeros(9, np.int32)), image)


@pytest.mark.parametrize(
    ("aspect", "size"),
    [("2/1", (320, 96)), ("1/2", (160, 192)), ("64/45", (228, 96)), ("1/1", (160, 96)), ("250/1", (160, 96))],
)
def test_pixels_become_square(aspect: str, size: tuple[int, int], tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", [marked()] * 3, aspect=Fraction(aspect))
    with open_video(path) as video:
        [sample] = video.samples(1.0)
        assert video.size == size
        assert max(video.times()) > 0
    assert sample.image.shape == (size[1], size[0], 3)
    corners = sample.image[[5, 5, -5, -5], [5, -5, 5, -5]].astype(int)
    assert np.abs(corners - [(220, 20, 20), (20, 220, 20), (20, 20, 220), (10, 10, 10)]).max() < 30
    turned = write_video(tmp_path / "b.mp4", [marked()] * 3, aspect=Fraction(aspect), rotation=90)
    assert read(turned, 1.0)[0][0].image.shape == (size[0], size[1], 3)
    if aspect == "2/1":
        with pytest.raises(MediaError, match="frames of 320 x 96 pixels"), open_video(path, max_pixels=20000):
            pass


def test_frames_are_freed_at_once(tmp_path: Path) -> None:
    """Not by the garbage collector: until then they would keep their pixels, and threads that scaled them."""
    path = write_video(tmp_path / "a.mp4", [marked()] * 3, rotation=90)
    gc.collect()
    gc.disable()
    try:
        read(path, 10.0)
        left = [value for value in gc.get_objects() if type(value) is av.VideoFrame]
    finally:
        gc.enable()
    assert left == []


@pytest.mark.parametrize("transfer", [18, 16])
def test_hdr_comes_out_as_bt_709(transfer: int, tmp_path: Path) -> None:
    """A grey ramp mastered with white at 100 cd/m², against the same ramp in BT.709."""
    sdr = np.linspace(0.02, 1, 64)[None].repeat(64, axis=0)
    light = SDR_PEAK * sdr**2.4
    signal = hlg_signal((light / HDR_PEAK) ** (1 / 1.2)) if transfer == 18 else light_to_pq(light)
    path = write_hdr_video(tmp_path / "a.mp4", signal, transfer)
    with open_video(path) as video:
        [sample] = video.samples(1.0)
        assert video.hdr == ("HLG" if transfer == 18 else "PQ")
    shown = sample.image.mean(axis=(0, 2))
    assert np.ptp(sample.image.astype(int), axis=2).max() <= 3  # grey stays grey
    assert np.abs(shown - 255 * sdr[0]).mean() < 13
    assert np.abs(shown - 255 * sdr[0])[:32].max() < 4  # the dark half is below the knee
    assert np.abs(255 * signal[0] - 255 * sdr[0]).mean() > 25


def write_coded(path: Path, coding: int, primaries: int) -> Path:
    """One frame whose colours are coded by a number of H.273."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264" if path.suffix == ".mp4" else "libvpx-vp9", rate=10)
        stream.height, stream.width, stream.pix_fmt = 64, 64, "yuv420p"
        context = stream.codec_context
        context.colorspace, context.color_primaries, context.color_range = coding, primaries, 1
        frame = av.VideoFrame(64, 64, "yuv420p")
        for plane, value in zip(frame.planes, (120, 90, 170), strict=True):
            plane.update(bytes([value]) * plane.buffer_size)
        container.mux([*stream.encode(frame), *stream.encode()])
    return path


@pytest.mark.parametrize(
    ("coding", "primaries", "near", "suffix"),
    [(3, 1, 2, ".webm"), (10, 9, 9, ".mp4"), (12, 9, 9, ".mp4"), (12, 1, 1, ".mp4"), (13, 1, 1, ".mp4")],
)
def test_colours_that_ffmpeg_does_not_convert(
    coding: int, primaries: int, near: int, suffix: str, tmp_path: Path
) -> None:
    """They are shown as a player shows them, who takes them for a coding that is near."""
    shown = [
        read(write_coded(tmp_path / f"{number}{suffix}", number, primaries), 1.0)[0][0].image
        for number in (coding, near)
    ]
    assert (shown[0] == shown[1]).all()


@pytest.mark.parametrize(("coding", "name"), [(8, "YCgCo"), (11, "Y'D'zD'x"), (14, "ICtCp")])
def test_colours_that_nobody_converts_are_named(coding: int, name: str, tmp_path: Path) -> None:
    path = write_coded(tmp_path / "a.mp4", coding, 1)
    reason = f"its colours are coded as {name}: convert it to BT.709 first"
    with pytest.raises(MediaError, match=f"a.mp4: {reason}$"):
        read(path, 1.0)
    assert list(read_video(path, 1)) == [Lost(None, f"unreadable: {reason}")]


def hlg_signal(scene: np.ndarray) -> np.ndarray:
    """BT.2100, OETF."""
    a = 0.17883277
    bright = a * np.log(np.maximum(12 * scene - (1 - 4 * a), 1e-9)) + 0.5 - a * np.log(4 * a)
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), bright)


def test_a_truncated_file_gives_what_is_there(tmp_path: Path) -> None:
    cut = cut_file(write_video(tmp_path / "a.mp4", greys(), rate=25, bf="0"), 0.6)
    with open_video(cut) as video:
        samples = list(video.samples(25.0))
        assert video.duration == pytest.approx(COUNT / 25)
        assert [number_of(sample) for sample in samples] == list(range(len(samples)))
        assert 5 < len(samples) < COUNT - 5
        assert video.progress.end == pytest.approx(len(samples) / 25, abs=0.05)


@pytest.mark.parametrize("size", [2000, 2000 + (1 << 32)])
def test_a_file_that_ends_before_its_index_says_so(tmp_path: Path, size: int) -> None:
    path = tmp_path / "a.mp4"
    length = struct.pack(">I4s", size, b"mdat") if size < 1 << 32 else struct.pack(">I4sQ", 1, b"mdat", size)
    path.write_bytes(struct.pack(">I4s", 20, b"ftyp") + b"isom\0\0\2\0isom" + length + bytes(900))
    with pytest.raises(MediaError, match=r"cut off before its index \(moov\)"), open_video(path):
        pass


def test_a_file_that_ends_inside_its_index_says_so(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    for content in (b"", bytes(8) + b"mvhd" + bytes(200)):
        head = struct.pack(">I4s", 20, b"ftyp") + b"isom\0\0\2\0isom"
        path.write_bytes(head + struct.pack(">I4s", 2000, b"moov") + content)
        with pytest.raises(MediaError, match=r"cut off inside its index \(moov\)"), open_video(path):
            pass


@pytest.mark.parametrize("before", [b"", b"\0\0\0\x10stypmsdh\0\0\0\0", b"\0\0\0\x10ftypisom\0\0\0\0"])
def test_a_piece_of_a_stream_says_so(tmp_path: Path, before: bytes) -> None:
    path = tmp_path / "a.m4s"
    path.write_bytes(before + b"\0\0\0\x18moof" + bytes(16) + b"\0\0\0\x18mdat" + bytes(16))
    with pytest.raises(MediaError, match=r"a piece of a stream, without its first piece"), open_video(path):
        pass


def test_damage_is_counted_and_passed_over(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", greys(), rate=25, bf="0", gop=8)
    samples, progress = read(damage_file(path, size=60), 25.0)
    assert progress.lost > 0
    assert progress.seconds < progress.end == pytest.approx(COUNT / 25, abs=0.01)
    assert samples[-1].number == number_of(samples[-1]) == COUNT - 1


@pytest.mark.parametrize(("b_frames", "steps"), [("0", (40, 80)), ("2", (40, 40))])
def test_an_avi_with_empty_frames_between(tmp_path: Path, b_frames: str, steps: tuple[int, int]) -> None:
    """So FFmpeg keeps the times of H.264 in one: at a higher rate, of which few frames are there."""
    times = [0, *np.cumsum([steps[number >= COUNT // 2] for number in range(COUNT - 1)]).tolist()]
    path = write_video(tmp_path / "a.avi", greys(), times=times, bf=b_frames)
    with open_video(path) as video:
        assert video.frame_rate is not None
        assert video.frame_rate > 100
        samples = list(video.samples(1000.0))
    assert [number_of(sample) for sample in samples] == list(range(COUNT))
    assert [1000 * sample.time for sample in samples] == pytest.approx(times, abs=2)


@pytest.mark.parametrize("container", ["mkv", "mov"])
def test_a_cover_that_no_flag_names_is_not_the_video(tmp_path: Path, container: str) -> None:
    cover = write_video(tmp_path / "cover.avi", greys()[:1], codec="mjpeg", strict="unofficial")
    video = write_video(tmp_path / "a.mp4", greys(), rate=25, bf="0")
    with open_video(join_streams(tmp_path / f"both.{container}", cover, video)) as both:
        assert (both.streams, both.number, both.codec) == (2, 2, "h264")
        assert len(list(both.samples(25.0))) == COUNT
    with open_video(join_streams(tmp_path / f"other.{container}", video, cover)) as both:
        assert (both.streams, both.number, both.codec) == (2, 1, "h264")
    with open_video(cover) as alone:
        assert (alone.streams, alone.number, alone.codec) == (1, 1, "mjpeg")


def test_extent_is_read_without_decoding(tmp_path: Path) -> None:
    with open_video(write_video(tmp_path / "a.mp4", greys(), rate=25)) as video:
        times = list(video.times())
        assert sorted(times) == pytest.approx([number / 25 for number in range(COUNT + 1)])
        assert len(list(video.samples(5.0))) == 8  # and it can be read afterwards


def test_a_name_like_a_protocol_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "a.mp4", greys(5)).rename(tmp_path / "http:x%20\udce4.mp4")
    samples, _ = read(Path("http:x%20\udce4.mp4"), 1.0)
    assert len(samples) == 1


def test_without_pyav_one_line_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_sound(tmp_path / "a.mp4")

    def missing(extra: str) -> None:
        raise MissingExtraError(f"no {extra}")

    monkeypatch.setattr("forgerank.media.containers.require", missing)
    with pytest.raises(MissingExtraError, match="no video"), open_video(path):
        pass
