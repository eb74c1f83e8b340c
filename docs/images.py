"""The images of the documentation, made from scikit-image's astronaut: `python docs/images.py [NAME...]`.

`demo.png` and `web.png` show the network's answers: make them again when the embedded weights change. They
need the extra `demo`, and `web.png` the extra `web`, Playwright and Debian's Chromium as well.
"""

import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from skimage import data

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "images"
HEAD = (60, 0, 380, 320)  # x0, y0, x1, y1 in the photograph
GAP, CAPTION = 10, 42  # pixels between tiles and above them
CHROMIUM = "/usr/bin/chromium"
FORGED = "four-edits.jpg"  # of the examples of the web page and of `make demo`


def faces() -> Image.Image:
    """The face that is found, as `forgerank faces --draw` shows it."""
    from forgerank.faces.analyze import FaceAnalyzer
    from forgerank.faces.draw import draw_faces

    image = np.asarray(_head())
    return Image.fromarray(draw_faces(image, FaceAnalyzer().analyze(image)))


def judgeable() -> Image.Image:
    """Four copies of a portrait, and what the program says of their faces."""
    from forgerank.detect.verdict import unusable
    from forgerank.faces.analyze import FaceAnalyzer

    head, analyzer = _head(), FaceAnalyzer()
    copies = {
        "as it was": head,
        "smaller": head.resize((140, 140), Image.Resampling.LANCZOS),
        "blurred": head.filter(ImageFilter.GaussianBlur(3)),
        "more blurred": head.filter(ImageFilter.GaussianBlur(9)),
    }
    tiles = {}
    for name, copy in copies.items():
        found = analyzer.analyze(np.asarray(copy))
        reason = unusable(found[0].quality) or "can be judged" if found else "no face found"
        tiles[f"{name}:\n{reason.partition(' (')[0]}"] = copy.resize(head.size, Image.Resampling.NEAREST)
    return _row(tiles)


def demo() -> Image.Image:
    """The portrait, the forged version of it that `make demo` judges, and heatmaps over that."""
    from forgerank import Detector

    made, truth = _forged()
    face = Detector().detect(made).faces[0]
    maps = {name: face.heatmap(name).crop(HEAD) for name in ("nose", "lip", "dissimilarity")}
    return _row(
        {"original": _head(), truth.replace(" then", ""): Image.open(BytesIO(made)).crop(HEAD), **maps}
    )


def web() -> Image.Image:
    """The web page's verdict on that forged version."""
    from playwright.sync_api import sync_playwright

    name, made = FORGED, _forged()[0]
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        command = [sys.executable, "-m", "forgerank", "serve", "--web", "--port", "0", "--data", folder]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        with subprocess.Popen(command, **pipes, text=True) as server:
            try:
                lines = iter(server.stdout.readline, "")
                address = next(found[0] for line in lines if (found := re.search(r"http://\S+:\d+", line)))
                browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
                page = browser.new_page(viewport={"width": 1100, "height": 900})
                page.goto(address)
                file = {"name": name, "mimeType": "image/jpeg", "buffer": made}
                page.get_by_label("Choose a photograph or a video").first.set_input_files(file)
                report = page.get_by_title(f"Report on {name}").content_frame
                report.get_by_role("heading", name="Face 1").wait_for(timeout=120_000)
                shot = page.screenshot()
                browser.close()
            finally:
                server.terminate()
    return Image.open(BytesIO(shot)).convert("RGB")


MAKERS: dict[str, Callable[[], Image.Image]] = {
    "faces.jpg": faces,
    "judgeable.jpg": judgeable,
    "demo.png": demo,
    "web.png": web,
}


def _forged() -> tuple[bytes, str]:
    """The forged version with the most edits, and what was done to it."""
    from forgerank.serving.web.examples import EXAMPLES, example_bytes

    return example_bytes(FORGED), EXAMPLES[FORGED].truth


def _head() -> Image.Image:
    return Image.fromarray(data.astronaut()).crop(HEAD)


def _row(tiles: dict[str, Image.Image]) -> Image.Image:
    """Images of one size beside each other, their captions above them."""
    width, height = next(iter(tiles.values())).size
    row = Image.new("RGB", (len(tiles) * (width + GAP) - GAP, CAPTION + height), "white")
    draw, font = ImageDraw.Draw(row), ImageFont.load_default(14)
    for place, (caption, tile) in enumerate(tiles.items()):
        draw.text((place * (width + GAP) + 4, CAPTION - 5), caption, "black", font, anchor="ld", spacing=2)
        row.paste(tile, (place * (width + GAP), CAPTION))
    return row


def main(names: list[str]) -> None:
    for name in names or MAKERS:
        options = {"quality": 88, "subsampling": 0} if name.endswith(".jpg") else {"optimize": True}
        MAKERS[name]().save(FOLDER / name, **options)


if __name__ == "__main__":
    main(sys.argv[1:])
