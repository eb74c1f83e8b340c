"""`forgerank train`, `evaluate` and `export`: thin over `forgerank.train`, which needs the train extra."""

import json as json_library
import os
from pathlib import Path
from typing import Annotated

import typer

from forgerank.extras import require

Data = Annotated[
    list[Path] | None,
    typer.Option(
        help="Data set in the Seq-DeepFake layout, prepared faces or shards; repeat to join several.",
        metavar="DIR",
        show_default="that of the config",
    ),
]
Split = Annotated[str, typer.Option(help="train, val or test.")]
Limit = Annotated[
    int | None, typer.Option(min=1, help="Use so many images, evenly spread.", show_default="all")
]
Workers = Annotated[
    int | None, typer.Option(min=0, help="Processes that read images.", show_default="as in the config")
]


def train(
    config: Annotated[Path, typer.Argument(help="YAML file of the experiment.")],
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", help="Override a key of the config; repeat as needed.", metavar="KEY=VALUE"),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the run's last checkpoint.")] = False,
) -> None:
    """Train a network.

    Examples:

    * `forgerank train configs/default.yaml`

    * `forgerank train configs/default.yaml --set model.input_size=160 --set seed=1 --resume`
    """
    require("train")
    from forgerank.train.config import load_config
    from forgerank.train.fit import run

    weights = run(load_config(config, overrides or ()), resume=resume)
    if os.environ.get("RANK", "0") == "0":  # one of several processes that torchrun started
        typer.echo(weights)


def evaluate(
    weights: Annotated[
        list[Path],
        typer.Argument(
            help="Checkpoint, .safetensors, or folder with forgerank.json. Further ones, or the folder of a "
            "run, add the best of each figure over all checkpoints.",
        ),
    ],
    data: Data = None,
    dataset: Annotated[
        str | None, typer.Option(help="What DIR holds: a data set's name.", show_default="what it looks like")
    ] = None,
    split: Split = "val",
    wild: Annotated[
        bool, typer.Option("--wild", help="Re-encode at quality 40 to 95 and resize by 0.5 to 2 first.")
    ] = False,
    reverse: Annotated[
        bool | None,
        typer.Option(
            "--reverse/--no-reverse",
            help="Compare sequences from last to first, as some follow-ups of Seq-DeepFake do.",
            show_default="as the network was trained",
        ),
    ] = None,
    tune: Annotated[
        str | None,
        typer.Option(
            help="Choose the thresholds on this other split, or on so many images of it.",
            metavar="SPLIT[/LIMIT]",
            show_default="saved ones, else 0.5",
        ),
    ] = None,
    sources: Annotated[
        Path | None,
        typer.Option(help="Measure on each validation source of this config instead.", metavar="CONFIG"),
    ] = None,
    limit: Limit = None,
    workers: Workers = None,
    json: Annotated[
        Path | None, typer.Option(help="Write the figures to this file too.", metavar="FILE")
    ] = None,
) -> None:
    """Measure a network on images with known answers, with 95 % bootstrap intervals.

    Examples:

    * `forgerank evaluate runs/default/best.ckpt --data forged/ --split val`

    * `forgerank evaluate runs/default/best.ckpt runs/default --split test --tune val/2000`

    * `forgerank evaluate runs/default/best.ckpt --sources configs/default.yaml --limit 600`
    """
    require("train")
    if sources is not None:
        _evaluate_sources(weights[0], sources, limit, workers, json)
        return
    from forgerank.evaluation.evaluate import evaluate as evaluate_weights
    from forgerank.evaluation.evaluate import print_evaluation

    result = evaluate_weights(
        weights[0],
        others=weights[1:],
        roots=data or (),
        dataset=dataset,
        split=split,
        wild=wild,
        reverse=reverse,
        tune=tune,
        limit=limit,
        workers=workers,
        output=json,
    )
    print_evaluation(result)


def _evaluate_sources(
    weights: Path, config: Path, limit: int | None, workers: int | None, json: Path | None
) -> None:
    from forgerank.data.listing import write_whole
    from forgerank.evaluation.evaluate import evaluate_sources, print_sources
    from forgerank.train.config import load_config

    found = evaluate_sources(weights, load_config(config).data, limit=limit, workers=workers)
    print_sources(found)
    if json is not None:
        write_whole(json, (json_library.dumps(found, indent=2) + "\n").encode())


def export(
    weights: Annotated[Path, typer.Argument(help="Checkpoint or .safetensors.")],
    out: Annotated[Path, typer.Argument(help="Folder for forgerank.onnx, .safetensors and .json.")],
    data: Data = None,
    split: Split = "val",
    limit: Limit = None,
    workers: Workers = None,
    int8: Annotated[bool, typer.Option(help="Keep 8-bit weights if they cost at most 0.005 of AUC.")] = True,
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

    metadata = export_weights(
        weights,
        out,
        roots=data or (),
        split=split,
        limit=limit,
        workers=workers,
        int8=int8,
        name=name,
        version=version,
        licence=licence or LICENCE,
    )
    typer.echo(f"{out}: {metadata.name} {metadata.version}, input {metadata.input_size} px")
