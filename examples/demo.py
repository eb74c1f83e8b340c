"""Judge a real photograph and a forged version of it: `make demo`, or `python examples/demo.py [FOLDER]`.

The photograph, NASA's portrait of Eileen Collins, ships in scikit-image. The forge edits four components
in a known order and saves the image after each edit, as people do. The seed was chosen so that the forgery
is found: the present weights call 1 of 24 such forgeries forged, as docs/results/default.md says.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console
from skimage import data

from forgerank.cli.detect import Outputs, detect_files
from forgerank.cli.main import one_line_errors
from forgerank.detect import Detector
from forgerank.faces.analyze import FaceAnalyzer
from forgerank.forge.chain import Forged, forge_image
from forgerank.forge.photos import Photo

SEQUENCE = ("eyebrow", "nose", "eye", "lip")
SEED = 16


def main(folder: Path) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    made = forged_astronaut()
    real, forged = folder / "astronaut.png", folder / f"astronaut-forged{made.suffix}"
    Image.fromarray(data.astronaut()).save(real)
    forged.write_bytes(made.encoded)

    console = Console()
    console.print(
        f"{real.name} is a real photograph. {forged.name} was forged: {', then '.join(SEQUENCE)}.\n"
    )
    report = folder / "report.html"
    code = detect_files([real, forged], Detector(), Outputs(html=report), console, Console(stderr=True))
    console.print(f"\nReport: {report.resolve().as_uri()}", soft_wrap=True)
    return code


def forged_astronaut() -> Forged:
    image = data.astronaut()
    photo = with_landmarks(image)
    mirrored = with_landmarks(np.ascontiguousarray(image[:, ::-1]))
    return forge_image(photo, SEQUENCE, np.random.default_rng(SEED), lambda: ("mirrored", mirrored))


def with_landmarks(image: np.ndarray) -> Photo:
    return Photo.prepare(image, FaceAnalyzer().analyze(image)[0].landmarks)


if __name__ == "__main__":
    with one_line_errors():
        sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo")))
