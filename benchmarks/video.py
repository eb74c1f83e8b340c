"""Speed of judging a video beside decoding it alone, and memory for a short and a five times longer clip.

    python benchmarks/video.py [--seconds 20] [--rate 30] [--bitrate 5000] [--repeats 3] [--weights DIR]

The clip is H.264 at 1280 x 720 and the bit rate given in kbit/s (5000 is what upload guides recommend for
this size): one face that moves before a hand-held camera, with its sensor's noise. Decoding alone, with and
without conversion to RGB arrays, runs as fast as PyAV can, on all cores; judging samples 2 frames a second.
They take turns in one process after one round that is not counted; the ratio is that of their medians. Peak
memory is measured in a fresh process per clip.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from measuring import machine, median_seconds
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.table import Table
from skimage import data

from forgerank.detect import Detector
from forgerank.detect.videos import detect_video

WIDTH, HEIGHT = 1280, 720
WANTED = 0.5
JUDGE = "judge 2 frames a second"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=int, default=20, help="of the short clip")
    parser.add_argument("--rate", type=int, default=30, help="frames per second")
    parser.add_argument("--bitrate", type=int, default=5000, help="kbit/s")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--memory-of", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory_of:
        detect_video(Detector(options.weights), options.memory_of)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
        return
    with tempfile.TemporaryDirectory() as folder:
        short, long = Path(folder) / "short.mp4", Path(folder) / "long.mp4"
        for path, seconds in ((short, options.seconds), (long, 5 * options.seconds)):
            write_clip(path, seconds * options.rate, options.rate, options.bitrate)
        detector = Detector(options.weights)
        found = [len(track.moments) for track in detect_video(detector, short).tracks]
        assert len(found) == 1, f"expected one person, found {len(found)}"
        times = median_seconds(
            {
                "decode alone": lambda: decode(short, rgb=False),
                "decode alone, to RGB": lambda: decode(short, rgb=True),
                JUDGE: lambda: detect_video(detector, short),
            },
            options.repeats,
        )
        report(times, short.stat().st_size, found[0], options)
        memory = [peak_memory(path, options.weights) for path in (short, long)]
    Console().print(
        f"peak memory: {memory[0]} MiB for {options.seconds} s, {memory[1]} MiB for {5 * options.seconds} s"
    )


def write_clip(path: Path, count: int, rate: int, kilobits: int) -> None:
    """A face of about 210 px, the camera swaying over an image of 1600 px, with noise."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.bit_rate = 1000 * kilobits
        for pixels in frames(count, rate):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


def frames(count: int, rate: int) -> Iterator[NDArray[np.uint8]]:
    """The frames of the clip, (720, 1280, 3)."""
    scene = np.asarray(Image.fromarray(data.astronaut()).resize((1600, 1200), Image.Resampling.BICUBIC))
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 4, (HEIGHT + 64, WIDTH + 64, 3))
    for number in range(count):
        seconds = number / rate
        left = round(120 + 80 * np.sin(1.3 * seconds) + 20 * np.sin(5.1 * seconds))
        top = round(60 + 40 * np.cos(0.9 * seconds) + 10 * np.sin(6.3 * seconds))
        y, x = rng.integers(0, 64, 2)
        view = scene[top : top + HEIGHT, left : left + WIDTH] + noise[y : y + HEIGHT, x : x + WIDTH]
        yield np.clip(view, 0, 255).astype(np.uint8)


def decode(path: Path, *, rgb: bool) -> None:
    """Every frame, on all cores."""
    with av.open(str(path)) as container:
        container.streams.video[0].thread_type = "AUTO"
        for frame in container.decode(video=0):
            if rgb:
                frame.to_ndarray(format="rgb24")


def peak_memory(path: Path, weights: Path | None) -> int:
    """MiB of a fresh process that judges a clip."""
    command = [sys.executable, __file__, "--memory-of", str(path)]
    command += ["--weights", str(weights)] if weights else []
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def report(times: dict[str, float], size: int, moments: int, options: argparse.Namespace) -> None:
    """The table, and the machine it was measured on."""
    count = options.seconds * options.rate
    table = Table("", "s", "frames of video per s", "judging is")
    for name, seconds in times.items():
        ratio = f"wanted {WANTED}" if name == JUDGE else f"{seconds / times[JUDGE]:.2f} as fast"
        table.add_row(name, f"{seconds:.2f}", f"{count / seconds:.0f}", ratio)
    console = Console()
    console.print(table)
    console.print(
        f"{WIDTH} x {HEIGHT}, H.264, {options.rate} frames/s, {options.seconds} s, "
        f"{size * 8e-6 / options.seconds:.1f} Mbit/s, one face in {moments} sampled frames"
    )
    console.print(machine("av"))


if __name__ == "__main__":
    main()
