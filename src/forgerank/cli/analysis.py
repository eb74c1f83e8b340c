"""`forgerank detect` and `forgerank faces`: what is found in images and videos."""

from io import BytesIO
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

from forgerank.cli.options import (
    FaceDetectorName,
    FaceDetectorWeights,
    MaxPixels,
    Thorough,
    Weights,
    dashed,
    print_error,
    printing,
)
from forgerank.types import Face, InputError


def detect(
    paths: Annotated[
        list[Path],
        typer.Argument(
            help="Photographs, videos, folders of them, or quoted patterns ('*.jpg'); - for standard input.",
            metavar="PATH",
        ),
    ],
    json: Annotated[
        str | None, typer.Option(help="Write the report as JSON; - for standard output.", metavar="FILE|-")
    ] = None,
    heatmaps: Annotated[
        Path | None,
        typer.Option(
            help="Write a PNG per face and map into this folder; of a video its key frames.", metavar="DIR"
        ),
    ] = None,
    html: Annotated[
        Path | None, typer.Option(help="Write one self-contained HTML report.", metavar="FILE")
    ] = None,
    csv: Annotated[
        str | None,
        typer.Option(help="Write a table with a line per face; - for standard output.", metavar="FILE|-"),
    ] = None,
    sort: Annotated[
        Literal["input", "probability"], typer.Option(help="Order of the table: as given, or forged first.")
    ] = "input",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors alone.")] = False,
    case: Annotated[
        str | None, typer.Option(help="A reference that the reports repeat.", metavar="TEXT")
    ] = None,
    fps: Annotated[float, typer.Option(min=0.01, help="Frames looked at in a second of video.")] = 2.0,
    max_frames: Annotated[
        int,
        typer.Option(min=1, help="Frames looked at in one video; in a longer one they lie further apart."),
    ] = 600,
    max_pixels: MaxPixels = 80_000_000,
    thorough: Thorough = False,
    weights: Weights = None,
    detector: FaceDetectorName = "blazeface",
    detector_weights: FaceDetectorWeights = None,
) -> None:
    """Judge photographs and videos: real, forged or undetermined, with the manipulated components in order.

    Examples:

    * `forgerank detect portrait.jpg`

    * `forgerank detect holiday/ extra.png --html report.html --heatmaps maps/`

    * `forgerank detect clip.mp4 --fps 4 --html report.html`

    * `forgerank detect portrait.jpg --json - | jq '.reports[].verdict'`

    * `forgerank detect 'uploads/**/*.jpg' --sort probability --csv faces.csv`

    * `curl -s https://example.com/a.jpg | forgerank detect -`
    """
    from forgerank.cli.detect import Outputs, Sampling, Shown, detect_files
    from forgerank.detect.detector import Detector

    out, err = Console(), Console(stderr=True)
    judge = Detector(weights, detector, detector_weights, thorough=thorough)
    sampling = Sampling(fps, max_frames)
    outputs = Outputs(dashed(json), heatmaps, html, dashed(csv))
    shown = Shown(sort == "probability", quiet, case)
    code = detect_files(paths, judge, outputs, out, err, sampling, max_pixels, shown)
    raise typer.Exit(code)


def faces(
    photo: Annotated[Path, typer.Argument(help="One photograph.")],
    draw: Annotated[
        Path | None,
        typer.Option(help="Write the photograph with boxes, mesh and components.", metavar="OUT.png"),
    ] = None,
    max_pixels: MaxPixels = 80_000_000,
    detector: FaceDetectorName = "blazeface",
    detector_weights: FaceDetectorWeights = None,
) -> None:
    """List the faces of a photograph with their quality, and draw them.

    Example: `forgerank faces portrait.jpg --draw faces.png`
    """
    from PIL import Image

    from forgerank.detect.detector import load_image
    from forgerank.faces.analyze import FaceAnalyzer
    from forgerank.files import check_outputs, write_atomic
    from forgerank.media.opening import with_remedy

    check_outputs([draw], [photo, detector_weights])
    if draw is not None and draw.is_file() and draw.stat().st_size:
        raise InputError(f"{draw}: is there already; remove it, or name another file for the drawing")
    if draw is not None and draw.suffix.lower() not in Image.registered_extensions():
        raise InputError(f"{draw}: cannot write the drawing (its suffix names no format, as .png does)")
    try:
        loaded = load_image(photo, max_pixels=max_pixels)
    except InputError as error:
        raise InputError(with_remedy(error, str(error))) from None
    image = loaded.image
    found = FaceAnalyzer(detector=detector, detector_weights=detector_weights).analyze(image)
    out = Console()
    with printing():
        out.print(face_table(found) if found else "no face found")
    for warning in loaded.warnings:
        print_error(Console(stderr=True), f"{photo}: {warning}")
    if draw is not None:
        from forgerank.faces.draw import draw_faces

        content = BytesIO()
        kind = Image.registered_extensions()[draw.suffix.lower()]
        try:
            Image.fromarray(draw_faces(image, found)).save(content, kind)
        except (OSError, ValueError, KeyError) as error:  # formats that are only read raise KeyError
            raise InputError(f"{draw}: cannot write the drawing ({error})") from None
        write_atomic(draw, content.getvalue())


def face_table(faces: list[Face]) -> Table:
    """A row per face, biggest first."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    columns = "Face, Box, Score, Size px, Sharpness, Brightness, Clipped, Yaw°, Pitch°, Roll°"
    for name in columns.split(", "):
        table.add_column(name, justify="right")
    for number, face in enumerate(faces, start=1):
        quality = face.quality
        table.add_row(
            str(number),
            " ".join(f"{value:.0f}" for value in face.box),
            f"{face.score:.2f}",
            f"{quality.size:.0f}",
            f"{quality.sharpness:.0f}",
            f"{quality.brightness:.2f}",
            f"{quality.clipped:.2f}",
            *(f"{angle:.0f}" for angle in (quality.yaw, quality.pitch, quality.roll)),
        )
    return table
