"""`forgerank train`, `evaluate` and `export`: thin over `forgerank.train`, which needs the train extra."""

from pathlib import Path
from typing import Annotated

import typer

from forgerank.extras import require

Data = Annotated[
    list[Path] | None,
    typer.Option(
        help="Data set in the Seq-DeepFake layout; repeat to join several.",
        metavar="DIR",
        show_default="that of the config",
    ),
]
Split = Annotated[str, typer.Option(help="train, val or test.")]
Limit = Annotated[
    int | None, typer.Option(min=1, help="Use so many pictures, evenly spread.", show_default="all")
]
Workers = Annotated[
    int | None, typer.Option(min=0, help="Processes that read pictures.", show_default="as in the config")
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

    * `forgerank train configs/default.yaml --set data.size=160 --set seed=1 --resume`
    """
    require("train")
    from forgerank.train.config import load_config
    from forgerank.train.fit import run

    typer.echo(run(load_config(config, overrides or ()), resume=resume))


def evaluate(
    weights: Annotated[Path, typer.Argument(help="Checkpoint, .safetensors, or folder with forgerank.json.")],
    data: Data = None,
    split: Split = "val",
    wild: Annotated[
        bool, typer.Option("--wild", help="Re-encode at quality 40 to 95 and resize by 0.5 to 2 first.")
    ] = False,
    limit: Limit = None,
    workers: Workers = None,
    json: Annotated[
        Path | None, typer.Option(help="Write the figures to this file too.", metavar="FILE")
    ] = None,
) -> None:
    """Measure a network on pictures with known answers, with 95 % bootstrap intervals.

    Example: `forgerank evaluate runs/default/best.ckpt --data forged/ --split val`
    """
    require("train")
    from forgerank.train.evaluate import evaluate as evaluate_weights
    from forgerank.train.evaluate import print_evaluation

    result = evaluate_weights(
        weights, roots=data or (), split=split, wild=wild, limit=limit, workers=workers, output=json
    )
    print_evaluation(result)


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
    from forgerank.infer.export import LICENCE
    from forgerank.infer.export import export as export_weights

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
