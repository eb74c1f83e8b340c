"""The `forgerank` command. Every import that costs time waits inside the command that needs it."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from forgerank import __version__
from forgerank.cli import data, packs, reproduce, scan, serve, shards, sharing, training
from forgerank.cli.progress import progress_bar
from forgerank.extras import require
from forgerank.types import InputError

EXIT_CODES = (
    "Exit codes: 0 everything was read and answered, whatever the verdict; 1 the program failed; "
    "2 an input or an option was bad (one line each on standard error, the rest was answered all the same)."
)

app = typer.Typer(
    help="Tells whether a face was forged, which components were manipulated, in what order, and where.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Weights = Annotated[
    Path | None,
    typer.Option(help="Folder with forgerank.json and its files.", show_default="the package's own"),
]
FaceDetectorName = Annotated[str, typer.Option("--detector", help="Face detector: blazeface or retinaface.")]
FaceDetectorWeights = Annotated[
    Path | None,
    typer.Option("--detector-weights", help="ONNX file, needed for retinaface.", show_default=False),
]


class Task(StrEnum):
    """What the forge makes."""

    components = "components"
    binary = "binary"


class Split(StrEnum):
    """Parts of a data set."""

    train = "train"
    val = "val"
    test = "test"


def main() -> None:
    """Entry point of the console script."""
    with one_line_errors():
        app()


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Bad input ends the command with one line on standard error and exit code 2."""
    try:
        yield
    except InputError as error:
        from forgerank.cli.detect import print_error

        print_error(Console(stderr=True), str(error))
        sys.exit(2)


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)
    ] = False,
) -> None:
    if version:
        typer.echo(f"forgerank {__version__}")
        raise typer.Exit


@app.command(epilog=EXIT_CODES)
def detect(
    paths: Annotated[
        list[Path], typer.Argument(help="Photographs, videos, or folders of them.", metavar="PATH")
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
    fps: Annotated[float, typer.Option(min=0.01, help="Frames looked at in a second of video.")] = 2.0,
    max_frames: Annotated[
        int,
        typer.Option(min=1, help="Frames looked at in one video; in a longer one they lie further apart."),
    ] = 600,
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
    """
    from forgerank.cli.detect import Outputs, Sampling, detect_files
    from forgerank.detect.detector import Detector

    out, err = Console(), Console(stderr=True)
    judge = Detector(weights, detector, detector_weights)
    sampling = Sampling(fps, max_frames)
    code = detect_files(paths, judge, Outputs(json, heatmaps, html), out, err, sampling)
    raise typer.Exit(code)


@app.command(epilog=EXIT_CODES)
def faces(
    photo: Annotated[Path, typer.Argument(help="One photograph.")],
    draw: Annotated[
        Path | None,
        typer.Option(help="Write the photograph with boxes, mesh and components.", metavar="OUT.png"),
    ] = None,
    detector: FaceDetectorName = "blazeface",
    detector_weights: FaceDetectorWeights = None,
) -> None:
    """List the faces of a photograph with their quality, and draw them.

    Example: `forgerank faces portrait.jpg --draw faces.png`
    """
    from forgerank.cli.faces import list_faces

    list_faces(photo, draw, detector, detector_weights, Console())


@app.command(epilog=EXIT_CODES)
def forge(
    photos: Annotated[Path, typer.Argument(help="Folder of photographs.")],
    out: Annotated[Path, typer.Option(help="New or empty folder for the data set.", metavar="DIR")],
    per_photo: Annotated[int, typer.Option(min=1, help="Images made from each photograph.")] = 4,
    steps: Annotated[
        str | None,
        typer.Option(help="Fewest and most edits.", metavar="MIN-MAX", show_default="0-5, 0-1 for binary"),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same bytes.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    trace: Annotated[str, typer.Option(help="Strength of the saves: light, medium or strong.")] = "medium",
    task: Annotated[Task, typer.Option(help="Edit components, or forge whole faces.")] = Task.components,
    landmarks: Annotated[
        Path | None,
        typer.Option(help="Landmarks (.npz); found by the embedded models without it.", metavar="FILE"),
    ] = None,
    split_csv: Annotated[
        Path | None, typer.Option(help="CSV with file, subject, split; by name without it.", metavar="FILE")
    ] = None,
    only: Annotated[
        Split | None, typer.Option(help="Make this split alone.", show_default="every split")
    ] = None,
) -> None:
    """Make a data set of forged sequences with known answers, in the Seq-DeepFake layout.

    Example: `forgerank forge photos/ --out forged/ --per-photo 8 --steps 0-5 --workers 4`
    """
    require("forge")
    from forgerank.forge.dataset import Recipe, forge_dataset

    chosen = parse_steps(steps or ("0-5" if task is Task.components else "0-1"))
    with progress_bar("Forging images") as progress:
        counts = forge_dataset(
            photos,
            out,
            recipe=Recipe(steps=chosen, seed=seed, trace=trace, task=task.value),
            per_photo=per_photo,
            workers=workers,
            landmarks=landmarks,
            split_csv=split_csv,
            splits=[only.value] if only else list(Split),
            progress=progress,
        )
    typer.echo(f"{out}: " + ", ".join(f"{count} {split}" for split, count in counts.items()))


for command in (
    training.train,
    training.evaluate,
    training.export,
    reproduce.reproduce,
    packs.curve,
    sharing.card,
    sharing.push,
):
    app.command(epilog=EXIT_CODES)(command)

app.command(epilog=scan.EXIT_CODES)(scan.scan)
app.command(epilog=EXIT_CODES)(scan.summarize)

app.command(epilog=EXIT_CODES)(serve.serve)
app.add_typer(serve.keys_app, name="keys")

for data_command in (
    data.prepare,
    data.check,
    shards.shard,
    packs.pack,
    packs.autoencoder,
    packs.reconstruct,
    data.download,
):
    data.app.command(epilog=EXIT_CODES)(data_command)
app.add_typer(data.app, name="data")


def parse_steps(text: str) -> tuple[int, int]:
    """A range of edits.

    >>> parse_steps("0-5"), parse_steps("3")
    ((0, 5), (3, 3))
    """
    low, dash, high = text.partition("-")
    try:
        return int(low), int(high if dash else low)
    except ValueError:
        raise InputError(f"--steps {text}: give a range such as 0-5") from None
