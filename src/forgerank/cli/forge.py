"""`forgerank forge`: a data set of forged images with known answers."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from forgerank.cli.options import MaxPixels, Processes, print_error, progress_bar
from forgerank.extras import require
from forgerank.types import InputError


class Task(StrEnum):
    """What the forge makes."""

    components = "components"
    binary = "binary"


class Split(StrEnum):
    """Parts of a data set."""

    train = "train"
    val = "val"
    test = "test"


def forge(
    photos: Annotated[Path, typer.Argument(help="Folder of photographs.")],
    out: Annotated[Path, typer.Option(help="New or empty folder for the data set.", metavar="DIR")],
    per_photo: Annotated[int, typer.Option(min=1, help="Images made from each photograph.")] = 4,
    steps: Annotated[
        str | None,
        typer.Option(help="Fewest and most edits.", metavar="MIN-MAX", show_default="0-5, 0-1 for binary"),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same bytes.")] = 0,
    workers: Processes = 1,
    trace: Annotated[str, typer.Option(help="Strength of the saves: light, medium or strong.")] = "medium",
    task: Annotated[Task, typer.Option(help="Edit components, or forge whole faces.")] = Task.components,
    landmarks: Annotated[
        Path | None,
        typer.Option(help="Landmarks (.npz); found by the embedded models without it.", metavar="FILE"),
    ] = None,
    split_csv: Annotated[
        Path | None, typer.Option(help="CSV with file, subject, split; by name without it.", metavar="FILE")
    ] = None,
    max_pixels: MaxPixels = 80_000_000,
    only: Annotated[
        Split | None, typer.Option(help="Make this split alone.", show_default="every split")
    ] = None,
) -> None:
    """Make a data set of forged sequences with known answers, in the Seq-DeepFake layout.

    Photographs that cannot be read are listed and passed over; the exit code is 2 then.

    Example: `forgerank forge photos/ --out forged/ --per-photo 8 --steps 0-5 --workers 4`
    """
    require("forge")
    from forgerank.cli.detect import print_left_out
    from forgerank.files import check_outputs
    from forgerank.forge.dataset import LeftOut, Recipe, forge_dataset
    from forgerank.media.files import counted
    from forgerank.media.opening import with_remedy

    check_outputs([], [photos, landmarks, split_csv], folders=[out])
    left_out, err = LeftOut(), Console(stderr=True)
    chosen = parse_steps(steps or ("0-5" if task is Task.components else "0-1"))
    recipe = Recipe(steps=chosen, seed=seed, trace=trace, task=task.value)
    try:
        with progress_bar("Forging images") as progress:
            counts = forge_dataset(
                photos,
                out,
                recipe=recipe,
                per_photo=per_photo,
                workers=workers,
                landmarks=landmarks,
                split_csv=split_csv,
                splits=[only.value] if only else list(Split),
                progress=progress,
                left_out=left_out,
                max_pixels=max_pixels,
            )
    finally:
        for error in left_out.unread:
            print_error(err, with_remedy(error, str(error)))
        if left_out.faceless:
            faceless = counted(len(left_out.faceless), "photograph shows", "photographs show")
            print_error(err, f"{photos}: {faceless} no face: left out")
        if left_out.unnamed:
            unnamed = counted(len(left_out.unnamed), "photograph is", "photographs are")
            print_error(err, f"{photos}: {unnamed} not in {split_csv}: left out")
        print_left_out(err, left_out.others)
    typer.echo(f"{out}: " + ", ".join(f"{count} {split}" for split, count in counts.items()))
    raise typer.Exit(2 if left_out.unread else 0)


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
