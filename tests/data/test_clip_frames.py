"""Frames out of videos, folders and tars whose content is known: the grey level tells the frame."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from forgerank.data.clip import Clip, read_frames
from forgerank.data.tar_files import read_archive
from forgerank.media.frame_access import Frame, Lost, evenly_spaced
from layouts import write_images, write_tar

COUNT = 40


def grey(number: int) -> np.ndarray:
    """A frame that says its number: 5 grey levels per frame; the left half is darker by 15."""
    image = np.full((32, 64, 3), 20 + 5 * number, dtype=np.uint8)
    image[:, :32] -= 15
    return image


def number_of(image: np.ndarray) -> int:
    return round((float(np.asarray(image, dtype=np.float64).max(axis=(0, 1)).mean()) - 20) / 5)


def write_greys(
    path: Path,
    *,
    codec: str = "libx264",
    times: Sequence[int] | None = None,
    rotation: int = 0,
    gop: int = 8,
    count: int = COUNT,
    **options: str,
) -> Path:
    """`times` in milliseconds; 25 frames/s without."""
    with av.open(
        str(path), "w", options={"movflags": "faststart"} if path.suffix == ".mp4" else {}
    ) as container:
        stream = container.add_stream(
            codec, rate=25, options={"crf": "1", **options} if "x264" in codec else {}
        )
        stream.height, stream.width, stream.thread_count = 32, 64, 1
        stream.pix_fmt = "yuvj444p" if codec == "mjpeg" else "yuv420p"
        stream.gop_size = gop
        if codec == "mpeg4":
            stream.bit_rate = 4_000_000
        if rotation:
            stream.set_display_rotation(rotation)
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for number in range(count):
            frame = av.VideoFrame.from_ndarray(grey(number), format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = times[number], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def clip_of(path: Path, frames: tuple[str, ...] = ()) -> Clip:
    return Clip(path, (), "g", "train", "d", "n", frames=frames)


def read(path: Path, count: int | None = None, frames: tuple[str, ...] = ()) -> list[Frame | Lost]:
    return list(read_frames(clip_of(path, frames), count))


def frames_of(items: list[Frame | Lost]) -> list[Frame]:
    assert all(isinstance(item, Frame) for item in items), items
    return [item for item in items if isinstance(item, Frame)]


def test_spacing_covers_the_whole_length() -> None:
    for total in (1, 2, 7, 100, 301):
        for count in (1, 2, 5, 32):
            places = evenly_spaced(total, count)
            assert len(set(places)) == min(total, count)
            assert all(0 <= place < total for place in places)
            assert places == sorted(places)
    places = evenly_spaced(300, 10)
    assert set(np.diff(places)) == {30}
    assert places[0] == 15


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.mp4", {}),
        ("no_b_frames.mp4", {"bf": "0"}),
        ("open_gop.mp4", {"x264-params": "open-gop=1:bframes=3:keyint=8:scenecut=0"}),
        ("one_key.mp4", {"gop": 250}),
        ("a.mkv", {}),
        ("a.avi", {"codec": "mpeg4"}),
        ("intra.avi", {"codec": "mjpeg"}),
        ("intra.mov", {"codec": "mjpeg"}),
    ],
)
@pytest.mark.parametrize("count", [1, 7, None])
def test_each_frame_is_the_one_asked_for(name: str, options: dict, count: int | None, tmp_path: Path) -> None:
    frames = frames_of(read(write_greys(tmp_path / name, **options), count))
    assert [frame.number for frame in frames] == evenly_spaced(COUNT, count)
    assert [number_of(frame.image) for frame in frames] == [frame.number for frame in frames]
    assert [frame.time for frame in frames] == pytest.approx([f.number / 25 for f in frames], abs=0.002)


@pytest.mark.parametrize("count", [5, None])
def test_numbers_go_on_where_videos_were_joined(count: int | None, tmp_path: Path) -> None:
    """The times of the second begin anew, between those of the first."""
    times = [[step * number for number in range(COUNT)] for step in (100, 77)]
    parts = [write_greys(tmp_path / f"{i}.ts", times=some) for i, some in enumerate(times)]
    path = tmp_path / "a.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    frames = frames_of(read(path, count))
    first = COUNT - 1  # FFmpeg marks the packet before the joint as damaged
    assert [frame.number for frame in frames] == evenly_spaced(first + COUNT, count)
    assert all(number_of(f.image) == f.number - first * (f.number >= first) for f in frames)


def test_times_of_a_variable_frame_rate_come_from_the_stream(tmp_path: Path) -> None:
    times = [10 * number * number for number in range(COUNT)]
    frames = frames_of(read(write_greys(tmp_path / "a.mkv", times=times), 8))
    assert [frame.time for frame in frames] == pytest.approx(
        [times[f.number] / 1000 for f in frames], abs=0.002
    )
    assert [number_of(frame.image) for frame in frames] == [frame.number for frame in frames]


@pytest.mark.parametrize(
    ("rotation", "dark"), [(90, np.s_[-10:, :]), (180, np.s_[:, -10:]), (-90, np.s_[:10])]
)
def test_rotated_video_stands_upright(rotation: int, dark: tuple, tmp_path: Path) -> None:
    [frame] = frames_of(read(write_greys(tmp_path / "a.mp4", rotation=rotation), 1))
    assert frame.image.shape == ((64, 32, 3) if rotation != 180 else (32, 64, 3))
    # The dark half is the left one before the rotation, which counts against the clock.
    assert frame.image[dark].mean() < frame.image.mean() - 4


def test_truncated_video_gives_what_decodes(tmp_path: Path) -> None:
    whole = write_greys(tmp_path / "a.mp4").read_bytes()
    cut = tmp_path / "cut.mp4"
    media = whole.index(b"mdat")  # the index stands before it
    cut.write_bytes(whole[: media + (len(whole) - media) * 4 // 5])
    items = read(cut, 20)
    got = [item for item in items if isinstance(item, Frame)]
    lost = [item for item in items if isinstance(item, Lost)]
    assert sorted(item.number for item in items if item.number is not None) == evenly_spaced(COUNT, 20)
    assert len(got) > 4
    assert len(lost) > 3
    assert {item.reason for item in lost} <= {"truncated", "damaged"}
    assert [number_of(frame.image) for frame in got] == [frame.number for frame in got]


def test_damaged_middle_costs_only_its_own_frames(tmp_path: Path) -> None:
    path = write_greys(tmp_path / "a.mp4", gop=8, bf="0")
    data = bytearray(path.read_bytes())
    start = data.index(b"mdat")
    middle = start + (len(data) - start) // 2
    data[middle : middle + 60] = bytes(60)
    path.write_bytes(data)
    items = read(path)
    assert sorted(item.number for item in items if item.number is not None) == list(range(COUNT))
    frames = [item for item in items if isinstance(item, Frame)]
    assert {0, 1, COUNT - 1} <= {frame.number for frame in frames}


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.mp4", b"", "unreadable"),
        ("a.mp4", b"not a video" * 50, "unreadable"),
        ("a.jpg", b"not an image", "unreadable"),
        ("a.tar.gz", b"not a tar", "unreadable"),
    ],
)
def test_a_clip_that_cannot_be_opened_is_one_loss(
    name: str, data: bytes, reason: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(data)
    [lost] = read(tmp_path / name, 5)
    assert isinstance(lost, Lost)
    assert lost.reason.startswith(reason)
    assert "\n" not in lost.reason


def test_missing_and_empty_clips(tmp_path: Path) -> None:
    assert read(tmp_path / "none.mp4", 5) == [Lost(None, "missing")]
    (tmp_path / "folder").mkdir()
    assert read(tmp_path / "folder", 5) == [Lost(None, "unreadable: no images in the folder")]


def test_folder_is_read_in_the_order_of_its_numbers(tmp_path: Path) -> None:
    write_images(tmp_path, {f"{number}.png": grey(number) for number in (0, 2, 9, 10, 31)})
    frames = frames_of(read(tmp_path, 3))
    assert [(frame.number, number_of(frame.image)) for frame in frames] == [(0, 0), (9, 9), (31, 31)]
    assert [frame.number for frame in frames_of(read(tmp_path, None, ("2.png", "31.png")))] == [2, 31]
    assert read(tmp_path, None, ("2.png", "7.png"))[1] == Lost(7, "missing")


def test_a_image_is_a_clip_of_one_frame(tmp_path: Path) -> None:
    write_images(tmp_path, {"a.png": grey(3)})
    assert [number_of(frame.image) for frame in frames_of(read(tmp_path / "a.png", 9))] == [3]


def test_tar_is_streamed_and_its_members_counted(tmp_path: Path) -> None:
    names = [f"0/real/7/{number}.png" for number in (10, 2, 0)]
    write_tar(tmp_path / "0.tar.gz", dict(zip(names, (grey(10), grey(2), grey(0)), strict=True)))
    frames = frames_of(read(tmp_path / "0.tar.gz", None, tuple(reversed(names))))
    assert [(frame.number, number_of(frame.image)) for frame in frames] == [(0, 0), (2, 2), (10, 10)]
    assert [frame.number for frame in frames_of(read(tmp_path / "0.tar.gz", 2))] == [0, 10]
    items = read(tmp_path / "0.tar.gz", None, (names[0], "0/real/7/11.png"))
    assert items[1] == Lost(11, "missing")


def test_truncated_tar_gives_what_was_read(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noise = {f"{number}.png": rng.integers(0, 255, (40, 40, 3), dtype=np.uint8) for number in range(8)}
    write_tar(tmp_path / "0.tar.gz", noise)
    whole = (tmp_path / "0.tar.gz").read_bytes()
    (tmp_path / "0.tar.gz").write_bytes(whole[: len(whole) // 2])
    archive = read_archive(tmp_path / "0.tar.gz", noise)
    assert archive.reason == "truncated"
    assert 2 <= len(archive.contents) <= 5
    items = read(tmp_path / "0.tar.gz", None, tuple(noise))
    assert [item.number for item in items] == list(range(8))
    assert items[-1] == Lost(7, "truncated")


def test_a_playlist_opens_no_other_file(tmp_path: Path) -> None:
    write_greys(tmp_path / "0.mp4")
    (tmp_path / "list.mp4").write_text("ffconcat version 1.0\nfile 0.mp4\n")
    [lost] = read(tmp_path / "list.mp4", 3)
    assert isinstance(lost, Lost)
    assert lost.number is None
    assert lost.reason.startswith("unreadable: ")
