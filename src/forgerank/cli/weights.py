"""`forgerank export`, `card` and `push`: weights made, described and published."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from forgerank.cli.options import EvaluatedData, EvaluatedSplit, Limit, Readers, printing
from forgerank.extras import require
from forgerank.types import InputError


def export(
    weights: Annotated[Path, typer.Argument(help="Checkpoint or .safetensors.")],
    out: Annotated[Path, typer.Argument(help="Folder for forgerank.onnx, .safetensors and .json.")],
    data: EvaluatedData = None,
    sources: Annotated[
        Path | None,
        typer.Option(help="Calibrate on each validation source of this config instead.", metavar="CONFIG"),
    ] = None,
    split: EvaluatedSplit = "val",
    limit: Limit = None,
    workers: Readers = None,
    int8: Annotated[bool, typer.Option(help="Keep 8-bit weights if they cost at most 0.005 of AUC.")] = True,
    thorough: Annotated[
        bool,
        typer.Option("--thorough", help="Calibrate for detect --thorough too; takes far longer."),
    ] = False,
    name: Annotated[
        str | None, typer.Option(help="Name of the weights.", show_default="that of the config")
    ] = None,
    version: Annotated[str, typer.Option(help="Version of the weights.")] = "1",
    licence: Annotated[
        str | None, typer.Option(help="Licence of the weights.", show_default="non-commercial research")
    ] = None,
) -> None:
    """Turn a trained network into weights for `forgerank detect`, thresholds and calibration included.

    Example: `forgerank export runs/default/best.ckpt weights/ --data forged/`
    """
    require("train")
    from forgerank.export.package import LICENCE
    from forgerank.export.package import export as export_weights
    from forgerank.train.config import load_config

    if data and sources is not None:
        raise InputError("--data and --sources: name one")

    metadata = export_weights(
        weights,
        out,
        roots=data or (),
        sources=None if sources is None else load_config(sources).data,
        split=split,
        limit=limit,
        workers=workers,
        int8=int8,
        thorough=thorough,
        name=name,
        version=version,
        licence=licence or LICENCE,
    )
    typer.echo(f"{out}: {metadata.name} {metadata.version}, input {metadata.input_size} px")


def card(
    weights: Annotated[Path, typer.Argument(help="Folder of weights or of a run, or a .safetensors.")],
    evaluation: Annotated[
        list[Path] | None,
        typer.Option(
            help="Written by `forgerank evaluate --json`; a column each, repeat to add.",
            metavar="FILE",
            show_default="the metrics that came with the weights",
        ),
    ] = None,
    notes: Annotated[
        Path | None, typer.Option(help="Markdown to close the card with.", metavar="FILE", show_default=False)
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write the card here.", metavar="FILE", show_default="standard output")
    ] = None,
) -> None:
    """Write the model card of weights: what they are, how they were made, what was measured.

    Example: `forgerank card weights/ --evaluation plain.json --evaluation wild.json --out README.md`
    """
    require("train")
    from forgerank.files import check_outputs, read_text, write_atomic
    from forgerank.weights.card import model_card
    from forgerank.weights.description import find_description, read_description

    path = find_description(weights)
    if path is None:
        raise InputError(f"{weights}: no folder of weights and no .safetensors file")
    check_outputs([], [weights, path, notes, *(evaluation or ())], texts=[out])
    evaluations: dict[str, Any] = {}
    for file in evaluation or ():
        evaluations |= _read_evaluations(file)
    description = read_description(path)
    if "labels" not in description:
        raise InputError(f"{path}: describes no network of forgerank: it names no labels")
    text = model_card(description, evaluations=evaluations, notes=read_text(notes) if notes else "")
    if out is None:
        with printing():
            typer.echo(text, nl=False)
    else:
        write_atomic(out, text.encode())


def push(
    weights: Annotated[Path, typer.Argument(help="Folder that `forgerank export` wrote.")],
    repo: Annotated[str, typer.Argument(help="Repository, NAME or OWNER/NAME; made where it is missing.")],
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
) -> None:
    """Upload weights with their model card to the Hugging Face hub, as the user of `hf auth login`.

    Example: `forgerank push weights/ someone/forgerank-portraits --private`
    """
    require("train")
    from forgerank.weights.hub import push_folder

    typer.echo(push_folder(weights, repo, private=private or None))


def _read_evaluations(file: Path) -> dict[str, Any]:
    """One evaluation under the name of its file, or several under their own names."""
    from forgerank.files import read_text

    try:
        content = json.loads(read_text(file))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file}: is not JSON: {error}") from error
    found = {file.stem: content} if isinstance(content, dict) and "metrics" in content else content
    if not isinstance(found, dict) or not all(
        isinstance(part, dict) and {"metrics", "pictures", "real"} <= set(part) for part in found.values()
    ):
        raise InputError(f"{file}: holds no metrics of forgerank evaluate")
    return found
