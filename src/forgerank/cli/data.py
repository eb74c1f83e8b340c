"""`forgerank data`: data sets read, checked, prepared, packed, sharded and downloaded."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from forgerank.cli.data_reports import (
    check_pack,
    check_shards,
    print_pack,
    print_report,
    summary_line,
    write_json,
)
from forgerank.cli.options import (
    EXIT_CODES,
    FaceDetectorWeights,
    Processes,
    ReaderOptions,
    dashed,
    local,
    parse_settings,
    print_error,
    print_unread,
    progress_bar,
)
from forgerank.extras import require
from forgerank.types import InputError

app = typer.Typer(
    help="Read, check and prepare the field's data sets.", no_args_is_help=True, rich_markup_mode="markdown"
)

Root = Annotated[Path, typer.Argument(help="Folder of the data set, as its authors lay it out.")]
PackRoot = Annotated[Path, typer.Argument(help="Folder of a pack.", metavar="PACK")]


class Faces(StrEnum):
    """Which faces of a frame are cut out."""

    largest = "largest"
    all = "all"


@app.command(epilog=EXIT_CODES)
@local
def prepare(
    dataset: Annotated[
        str,
        typer.Argument(help="faceforensics, dfd, celebdf, dfdc, dfdcpreview, wilddeepfake or deepfakebench."),
    ],
    root: Root,
    out: Annotated[Path, typer.Option(help="Folder for crops and index.", metavar="DIR")],
    frames: Annotated[
        int, typer.Option(min=0, help="Frames of each clip, evenly spaced over it; 0 for every one.")
    ] = 32,
    size: Annotated[int, typer.Option(min=16, help="Side of the crops, pixels.")] = 384,
    margin: Annotated[
        float, typer.Option(min=0, max=2, help="Room around the aligned face, share of its side.")
    ] = 0.15,
    faces: Annotated[Faces, typer.Option(help="The largest face, or all, joined by track.")] = Faces.largest,
    detector: Annotated[
        str | None,
        typer.Option(
            help="Face detector: blazeface or retinaface.",
            show_default="retinaface, as the paper, where its weights are given, else blazeface",
        ),
    ] = None,
    detector_weights: FaceDetectorWeights = None,
    options: ReaderOptions = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Prepare so many clips, evenly spread.", show_default="all")
    ] = None,
    workers: Processes = 1,
) -> None:
    """Cut faces out of videos, with landmarks and an index in Parquet.

    Start it again after an interruption: finished clips are kept. Frames without a face and files that cannot
    be read are listed in skipped.csv. prepare.json says which detector found the faces.

    Examples:

    * `forgerank data prepare faceforensics FaceForensics++/ --out ffpp/ --workers 8`

    * `forgerank data prepare faceforensics FaceForensics++/ --out ffpp40/ --set compression=c40 --frames 16`

    * `forgerank data prepare celebdf Celeb-DF-v2/ --out celebdf/ --detector-weights retinaface.onnx`
    """
    require("data")
    from forgerank.data.check.integrity import list_items, unread_archives
    from forgerank.data.formats.prepared import INDEX, SETTINGS, SKIPPED
    from forgerank.data.formats.registry import CLIPS
    from forgerank.data.prepare.face_crops import CutConfig
    from forgerank.data.prepare.video_faces import prepare as prepare_clips
    from forgerank.files import check_outputs, os_reason
    from forgerank.media.files import counted
    from forgerank.media.frame_access import evenly_spaced

    if dataset not in CLIPS:
        raise InputError(f"unknown data set {dataset!r}; choose from {', '.join(CLIPS)}")
    chosen = parse_settings(options)
    files = [out / name for name in (INDEX, SKIPPED, SETTINGS)]
    check_outputs(files, [root, detector_weights], folders=[out])
    clips, _ = list_items(dataset, root, chosen)
    archives, denied = unread_archives(root, clips)
    for error in denied:
        print_error(Console(stderr=True), f"{error.filename}: {os_reason(error)}")
    if archives:
        some = ", ".join([*archives[:3], *(["..."] if len(archives) > 3 else [])])
        line = f"{root}: {counted(len(archives), 'archive')} not read, {some}: unpack what is not yet"
        print_error(Console(stderr=True), line)
    if limit is not None:
        clips = [clips[place] for place in evenly_spaced(len(clips), limit)]
    config = CutConfig(frames or None, size, margin, faces.value, detector or "", detector_weights)
    request = {"dataset": dataset, "options": chosen, "limit": limit}
    with progress_bar("Preparing clips") as progress:
        summary = prepare_clips(clips, out, config, request=request, workers=workers, progress=progress)
    typer.echo(f"{out}: {summary_line(summary)}; faces found by {config.detector}")
    raise typer.Exit(2 if summary.damaged or denied else 0)


@app.command(epilog=EXIT_CODES)
@local
def check(
    dataset: Annotated[
        str,
        typer.Argument(
            help="faceforensics, dfd, celebdf, dfdc, dfdcpreview, wilddeepfake, deepfakebench, "
            "seqdeepfake, folder, pack or shards."
        ),
    ],
    root: Root,
    counts: Annotated[bool, typer.Option(help="Compare with the published counts.")] = True,
    distance: Annotated[
        int, typer.Option(min=0, max=16, help="Bits of 64 in which near-duplicates may differ.")
    ] = 4,
    json: Annotated[
        str | None, typer.Option(help="Write everything as JSON; - for standard output.", metavar="FILE|-")
    ] = None,
    options: ReaderOptions = None,
    workers: Processes = 1,
) -> None:
    """Check a data set: counts, missing and unreadable files, and leakage between its splits.

    Examples:

    * `forgerank data check celebdf Celeb-DF-v2/ --workers 8`

    * `forgerank data check seqdeepfake Seq-DeepFake/facial_components --json report.json`

    * `forgerank data check pack packs/`, over all sources of a pack together

    * `forgerank data check shards shards/`, whether any byte has changed
    """
    require("data")
    if whole := {"pack": check_pack, "shards": check_shards}.get(dataset):
        if json is not None or options:
            raise InputError(f"data check {dataset} takes neither --json nor --set")
        raise typer.Exit(whole(root, Console()))
    from forgerank.data.check.integrity import check_dataset
    from forgerank.files import check_outputs

    json = dashed(json)
    if json not in (None, "-"):
        inside = Path(json).is_file() and Path(json).resolve().is_relative_to(root.resolve())
        check_outputs([], [root, *([Path(json)] if inside else [])], texts=[Path(json)])

    with progress_bar("Checking files") as progress:
        report = check_dataset(
            dataset,
            root,
            options=parse_settings(options),
            counts=counts,
            distance=distance,
            workers=workers,
            progress=progress,
        )
    if json is not None:
        write_json(report, json)
    if json != "-":
        print_report(report, Console())
    raise typer.Exit(2 if report.problems else 0)


@app.command(epilog=EXIT_CODES)
@local
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
    options: ReaderOptions = None,
) -> None:
    """Write images, masks and annotations into tar files, which any WebDataset reader takes.

    Train on them with `data.dataset=shards`: the batches are those of the folder. Images that cannot be
    read or show no face are listed in skipped.csv. Start it again after an interruption: finished splits are
    kept.

    Example: `forgerank data shard forged/ --out shards/ --shard-size 2000`
    """
    require("train")
    from forgerank.data.formats.registry import DATASETS
    from forgerank.data.prepare.shard_writer import SKIPPED, samples_on_disk, shard_dataset
    from forgerank.files import check_outputs

    if dataset not in DATASETS:
        raise InputError(f"unknown data set {dataset!r}; choose from {', '.join(DATASETS)}")
    chosen = parse_settings(options)
    check_outputs([out / SKIPPED], [root], folders=[out])
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


@app.command(epilog=EXIT_CODES)
@local
def pack(
    recipe: Annotated[Path, typer.Argument(help="YAML file that lists the sources.", metavar="RECIPE")],
    out: Annotated[Path, typer.Option(help="Folder for the pack.", metavar="DIR")],
    workers: Processes = 1,
) -> None:
    """Find every face of many data sets once, and keep the crops with landmarks and labels in one pack.

    The pack comes in parts of at most 40 MiB, each a mixture of all sources. Near-duplicates across sources,
    splits and labels are looked for over all of them and left out; manifest.json says which. Start it again
    after an interruption: finished parts are kept.

    Example: `forgerank data pack configs/pack.yaml --out packs --workers 2`
    """
    require("train")
    require("data")
    from forgerank.data.formats.pack import MANIFEST
    from forgerank.data.prepare.pack_writer import LARGEST_PART, load_recipe, write_pack
    from forgerank.files import check_outputs
    from forgerank.media.files import counted

    chosen = load_recipe(recipe)
    check_outputs([out / MANIFEST], [recipe, *(source.root for source in chosen.sources)], folders=[out])
    with progress_bar("Packing faces") as progress:
        summary = write_pack(chosen, out, workers=workers, progress=progress)
    for line in summary.unread:
        print_error(Console(stderr=True), line)
    print_pack(summary, Console())
    typer.echo(f"{out}: {counted(summary.faces, 'face')} in {counted(summary.parts, 'part')}")
    if summary.largest_part > LARGEST_PART:
        typer.echo("a part is larger than 40 MiB: choose a smaller faces_per_part", err=True)
    raise typer.Exit(2 if any("unreadable" in reason for reason in summary.skipped) else 0)


@app.command(epilog=EXIT_CODES)
@local
def autoencoder(
    root: PackRoot,
    out: Annotated[Path, typer.Option(help="Folder for weights and checkpoint.", metavar="DIR")],
    decoder: Annotated[str, typer.Option(help="transposed, nearest or shuffle.")] = "nearest",
    size: Annotated[int, typer.Option(min=16, help="Side of the crops, pixels.")] = 128,
    minutes: Annotated[float, typer.Option(min=0.1, help="Over all sessions.")] = 30,
    faces: Annotated[int, typer.Option(min=1, help="Real training faces that it sees.")] = 9000,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint.")] = False,
    threads: Annotated[int, typer.Option(min=1, help="Threads.")] = 1,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    precision: Annotated[str, typer.Option(help="32-true; bf16-mixed with AVX512-BF16 or AMX.")] = "32-true",
) -> None:
    """Train a small autoencoder on the real faces of a pack, for forgeries that left a decoder.

    Example: `forgerank data autoencoder packs --out ae/transposed --decoder transposed --size 128`
    """
    require("train")
    from pydantic import ValidationError

    from forgerank.data.formats.pack import Pack
    from forgerank.data.prepare.autoencoder import AutoencoderConfig, cached_crops, train_autoencoder
    from forgerank.files import check_outputs

    check_outputs([], [root], folders=[out])
    try:
        config = AutoencoderConfig.model_validate(
            {"decoder": decoder, "size": size, "seed": seed, "precision": precision}
        )
    except ValidationError as error:
        raise InputError(f"--{error.errors()[0]['loc'][0]}: {error.errors()[0]['msg']}") from error
    unread: list[str] = []
    pack = Pack(root, "train", label="real")
    crop, count = cached_crops(pack, size, faces, seed, unread=unread)
    trained = train_autoencoder(crop, count, config, minutes=minutes, out=out, resume=resume, threads=threads)
    typer.echo(
        f"{trained.path}: {trained.steps} steps, {trained.minutes:.1f} minutes, loss {trained.loss:.4f}"
    )
    print_unread(unread)
    raise typer.Exit(2 if unread else 0)


@app.command(epilog=EXIT_CODES)
@local
def reconstruct(
    root: PackRoot,
    out: Annotated[Path, typer.Option(help="Folder for the reconstructions.", metavar="DIR")],
    weights: Annotated[
        list[Path], typer.Option("--autoencoder", help="Folder of one; repeat for several.", metavar="DIR")
    ],
    limit: Annotated[
        int | None, typer.Option(min=1, help="So many faces of a split.", show_default="all")
    ] = None,
    splits: Annotated[list[str] | None, typer.Option("--split", show_default="train and val")] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Reconstruct the real faces of a pack by autoencoders, for the forge of `data.dataset=packforge`.

    Example: `forgerank data reconstruct packs --autoencoder ae/a --autoencoder ae/b --out reconstructions`
    """
    require("train")
    from forgerank.data.formats.pack import Pack, pack_parts
    from forgerank.data.prepare.autoencoder import load_autoencoder, reconstruct_pack
    from forgerank.files import check_outputs

    chosen = splits or ["train", "val"]
    inputs = [root, *pack_parts(root), *weights]
    check_outputs([out / f"{split}.tar" for split in chosen], inputs, folders=[out])
    models = [load_autoencoder(path) for path in weights]
    unread: list[str] = []
    for split in chosen:
        with progress_bar(f"Reconstructing {split}") as progress:
            faces = Pack(root, split, label="real")
            count = reconstruct_pack(
                faces, models, out, name=split, limit=limit, seed=seed, progress=progress, unread=unread
            )
        typer.echo(f"{out}: {count} {split}")
    print_unread(unread)
    raise typer.Exit(2 if unread else 0)


@app.command(epilog=EXIT_CODES)
@local
def download(
    dataset: Annotated[str, typer.Argument(help="seq-deepfake, or a gated set to learn where to ask.")],
    out: Annotated[Path, typer.Option(help="Folder for the data set.", metavar="DIR")],
    repository: Annotated[
        str | None,
        typer.Option(help="Repository of the hub.", metavar="OWNER/NAME", show_default="the authors' own"),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Files at a time.")] = 4,
) -> None:
    """Download a public data set from the Hugging Face hub.

    Example: `forgerank data download seq-deepfake --out Seq-DeepFake/`
    """
    require("data")
    from forgerank.data.prepare.download import download as download_dataset

    archives = download_dataset(dataset, out, repository=repository, workers=workers)
    typer.echo(f"{out}: downloaded")
    for path in archives:
        typer.echo(f"{path}: to be unpacked where it lies")
