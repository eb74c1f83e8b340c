"""`forgerank data shard`: images on disk as WebDataset shards."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from forgerank.cli.data import Options, parse_options
from forgerank.extras import require
from forgerank.types import InputError


def shard(
    root: Annotated[Path, typer.Argument(help="Folder of the data set.")],
    out: Annotated[Path, typer.Option(help="Folder for the shards and their index.", metavar="DIR")],
    dataset: Annotated[
        str, typer.Option(help="What ROOT holds: seqdeepfake (also what forge writes), prepared or folder.")
    ] = "seqdeepfake",
    shard_size: Annotated[int, typer.Option(min=1, help="Faces per shard.")] = 1000,
    splits: Annotated[
        list[str] | None,
        typer.Option("--split", help="Repeat for several.", show_default="train, val and test"),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the order in which faces are written.")] = 0,
    options: Options = None,
) -> None:
    """Write images, masks and annotations into tar files, which any WebDataset reader takes.

    Train on them with `data.dataset=shards`: the batches are those of the folder. Images that cannot be
    read or show no face are listed in skipped.csv.

    Example: `forgerank data shard forged/ --out shards/ --shard-size 2000`
    """
    require("train")
    from forgerank.cli.progress import progress_bar
    from forgerank.data.formats.registry import DATASETS
    from forgerank.data.formats.shards import samples_on_disk, shard_dataset

    if dataset not in DATASETS:
        raise InputError(f"unknown data set {dataset!r}; choose from {', '.join(DATASETS)}")
    chosen = parse_options(options)
    # All are read before anything is written: a split that is missing must not leave half a set behind.
    found = {
        split: samples_on_disk(DATASETS[dataset], root, split, **chosen)
        for split in splits or ("train", "val", "test")
    }
    left_out = 0
    for split, samples in found.items():
        with progress_bar(f"Writing {split}") as progress:
            count, skipped = shard_dataset(
                samples, out, split, shard_size=shard_size, seed=seed, progress=progress
            )
        typer.echo(f"{out}: {count} {split}" + (f", {len(skipped)} skipped" if skipped else ""))
        for _, reason in skipped:
            Console(stderr=True).print(Text(reason), soft_wrap=True)
        left_out += len(skipped)
    raise typer.Exit(2 if left_out else 0)
