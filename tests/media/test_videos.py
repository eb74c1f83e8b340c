"""Sampling of videos whose frames show their number."""

from pathlib import Path

import numpy as np
import pytest

from forgerank.extras import MissingExtraError
from forgerank.media.videos import Progress, Sample, open_video
from videos import cut_file, damage_file, write_sound, write_video

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


def test_a_truncated_file_gives_what_is_there(tmp_path: Path) -> None:
    cut = cut_file(write_video(tmp_path / "a.mp4", greys(), rate=25, bf="0"), 0.6)
    with open_video(cut) as video:
        samples = list(video.samples(25.0))
        assert video.duration == pytest.approx(COUNT / 25)
        assert [number_of(sample) for sample in samples] == list(range(len(samples)))
        assert 5 < len(samples) < COUNT - 5
        assert video.progress.end == pytest.approx(len(samples) / 25, abs=0.05)


def test_damage_is_counted_and_passed_over(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", greys(), rate=25, bf="0", gop=8)
    samples, progress = read(damage_file(path, size=60), 25.0)
    assert progress.lost > 0
    assert progress.seconds < progress.end == pytest.approx(COUNT / 25, abs=0.01)
    assert samples[-1].number == number_of(samples[-1]) == COUNT - 1


def test_extent_is_read_without_decoding(tmp_path: Path) -> None:
    with open_video(write_video(tmp_path / "a.mp4", greys(), rate=25)) as video:
        assert video.extent() == pytest.approx((COUNT - 1) / 25)
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
