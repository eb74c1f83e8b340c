"""Videos made on the spot: scenes of 240 px with the one real face there is and a second made of it."""

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
RATE = 10  # frames per second, unless told otherwise


def first_person(astronaut: Pixels) -> Pixels:
    """A face of about 93 px in a scene of its own, (240, 240, 3)."""
    return astronaut[20:260, 100:340]


def second_person(astronaut: Pixels) -> Pixels:
    """Mirrored, with red and blue exchanged: still a face, and unlike the first in form and colour."""
    return np.ascontiguousarray(first_person(astronaut)[:, ::-1, ::-1])


def empty_scene(astronaut: Pixels) -> Pixels:
    """A scene without a face."""
    return np.ascontiguousarray(astronaut[270:510, 100:340])


def beside(*scenes: Pixels) -> Pixels:
    return np.concatenate(scenes, axis=1)


def shots(*parts: tuple[Pixels, float], rate: int = RATE) -> list[Pixels]:
    """Scenes one after another, each for so many seconds."""
    return [scene for scene, seconds in parts for _ in range(round(seconds * rate))]


def write_video(
    path: Path,
    frames: Iterable[Pixels],
    *,
    codec: str = "libx264",
    rate: int = RATE,
    times: Sequence[int] | None = None,
    rotation: int = 0,
    flips: str = "",
    aspect: Fraction = Fraction(1),
    gop: int = 10,
    **options: str,
) -> Path:
    """`times` in milliseconds, for a variable frame rate; `rotation` as a phone stores it, in degrees, with
    `flips` "h" and "v"; `aspect` of a pixel, width by height.
    """
    movflags = {"movflags": "faststart"} if path.suffix in (".mp4", ".mov") else {}
    quality = {"libx264": {"crf": "12"}, "libx265": {"crf": "12", "x265-params": "log-level=none"}}.get(
        codec, {}
    )
    with av.open(str(path), "w", options=movflags) as container:
        stream = container.add_stream(codec, rate=rate, options={**quality, **options})
        stream.gop_size, stream.thread_count = gop, 1
        stream.pix_fmt = "yuv420p"
        if not quality:
            stream.bit_rate = 4_000_000
        if rotation or flips:
            stream.set_display_rotation(rotation, hflip="h" in flips, vflip="v" in flips)
        stream.codec_context.sample_aspect_ratio = aspect
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for number, pixels in enumerate(frames):
            if number == 0:
                stream.height, stream.width = pixels.shape[:2]
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = times[number], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def write_sound(path: Path, seconds: float = 1.0) -> Path:
    """A file with sound and no images."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=48000, layout="mono")
        count = round(48000 * seconds) // 1024
        for number in range(count):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 48000, 1024 * number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def cut_file(path: Path, share: float) -> Path:
    """A copy without the end: `share` of the images' bytes are left. Its index stands before them."""
    whole = path.read_bytes()
    start = whole.index(b"mdat")
    cut = path.with_stem(f"{path.stem}-cut")
    cut.write_bytes(whole[: start + round((len(whole) - start) * share)])
    return cut


def damage_file(path: Path, *, at: float = 0.5, size: int = 400) -> Path:
    """A copy with zeros in the middle of the images' bytes."""
    data = bytearray(path.read_bytes())
    start = data.index(b"mdat")
    middle = start + round((len(data) - start) * at)
    data[middle : middle + size] = bytes(size)
    damaged = path.with_stem(f"{path.stem}-damaged")
    damaged.write_bytes(data)
    return damaged


def write_hdr_video(path: Path, levels: NDArray[np.float64], transfer: int, count: int = 4) -> Path:
    """A grey 10-bit video of BT.2020; `levels` (H, W) is its signal, 0..1, coded as `transfer` of H.273."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx265", rate=RATE, options={"x265-params": "log-level=none:qp=4"})
        stream.height, stream.width = levels.shape
        stream.pix_fmt = "yuv420p10le"
        context = stream.codec_context
        context.color_primaries, context.color_trc, context.colorspace, context.color_range = (
            9,
            transfer,
            9,
            1,
        )
        for _ in range(count):
            frame = av.VideoFrame(stream.width, stream.height, "yuv420p10le")
            for plane, values in zip(
                frame.planes, (np.rint(64 + 876 * levels), *[np.full((1, 1), 512.0)] * 2), strict=True
            ):
                padded = np.zeros((plane.height, plane.line_size // 2), np.uint16)
                padded[:, : plane.width] = values
                plane.update(padded.tobytes())
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def join_streams(path: Path, *parts: Path) -> Path:
    """One file with the video stream of each part."""
    with av.open(str(path), "w") as joined, ExitStack() as stack:
        sources = [stack.enter_context(av.open(str(part))) for part in parts]
        streams = [joined.add_stream_from_template(source.streams.video[0]) for source in sources]
        for source, stream in zip(sources, streams, strict=True):
            for packet in source.demux(video=0):
                if packet.dts is not None:
                    packet.stream = stream
                    joined.mux(packet)
    return path
