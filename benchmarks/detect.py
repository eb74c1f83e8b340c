"""Time from process start to the first verdict, and per further face, beside a plain ResNet-50.

    python benchmarks/detect.py [--weights DIR] [--repeats 5]

Cold start: a fresh process runs `forgerank detect` on one photograph; the median over the repeats, after one
that is not counted. Per face: how much longer a warm image of the same size takes when it holds four faces
instead of one, a third of it, everything included (detection, landmarks, alignment, network). Network: its
part of one face, as usual and with `--thorough`. ResNet-50: one image of 256 px, random weights, same ONNX
Runtime, same threads; the warm runs take turns.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime as ort
from measuring import machine, median_seconds
from PIL import Image
from rich.console import Console
from rich.table import Table
from skimage import data

from forgerank.detect import Detector
from forgerank.detect.runtime import usable_cores

RUN = "from forgerank.cli.main import main; main()"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()

    portrait = data.astronaut()
    with tempfile.TemporaryDirectory() as folder:
        photo = Path(folder) / "portrait.jpg"
        Image.fromarray(portrait).save(photo, quality=92)
        command = [sys.executable, "-c", RUN, "detect", str(photo)]
        command += ["--weights", str(options.weights)] if options.weights else []
        cold = median_seconds(
            {"cold": lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL)}, options.repeats
        )
        resnet = resnet50(Path(folder) / "resnet50.onnx")

    detector = Detector(options.weights)
    grey = np.full_like(portrait, 128)
    one = np.vstack([np.hstack([portrait, grey]), np.hstack([grey, grey])])
    four = np.tile(portrait, (2, 2, 1))
    faces = [len(report.faces) for report in detector.detect([one, four])]
    assert faces == [1, 4], f"expected one and four faces, found {faces}"
    thorough = detector.with_thorough(True)
    [face] = thorough.align(portrait, thorough.analyzer.analyze(portrait))
    noise = np.random.default_rng(0).random((1, 3, 256, 256), dtype=np.float32)
    warm = median_seconds(
        {
            "one": lambda: detector.detect([one]),
            "four": lambda: detector.detect([four]),
            "network": lambda: detector.predict([face]),
            "thorough network": lambda: thorough.predict([face]),
            "resnet": lambda: resnet.run(None, {"images": noise}),
        },
        4 * options.repeats,
    )
    report(cold["cold"], (warm["four"] - warm["one"]) / 3, warm)


def resnet50(path: Path) -> ort.InferenceSession:
    """A plain classifier with random weights, on as many threads as the detector."""
    import timm
    import torch

    model = timm.create_model("resnet50", pretrained=False).eval()
    torch.onnx.export(
        model,
        (torch.zeros(1, 3, 256, 256),),
        path,
        input_names=["images"],
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    options = ort.SessionOptions()
    options.intra_op_num_threads = usable_cores()
    options.log_severity_level = 3
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def report(cold: float, further: float, warm: dict[str, float]) -> None:
    """The table, and the machine it was measured on."""
    plain = warm["resnet"]
    table = Table("", "ms", "ResNet-50 = 1", "allowed ms")
    rows = (
        ("start to first verdict", cold, "2000"),
        ("one face, warm", warm["one"], ""),
        ("each further face", further, "60"),
        ("network, one face", warm["network"], ""),
        ("network, one face, --thorough", warm["thorough network"], ""),
        ("ResNet-50, 256 px", plain, ""),
    )
    for name, seconds, allowed in rows:
        table.add_row(name, f"{seconds * 1e3:.0f}", f"{seconds / plain:.2f}", allowed)
    console = Console()
    console.print(table)
    console.print(machine("onnxruntime"))


if __name__ == "__main__":
    main()
