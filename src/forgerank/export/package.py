"""Export: from trained weights to the folder that `Detector` loads (ONNX, safetensors, description)."""

import hashlib
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forgerank.extras import require
from forgerank.files import check_outputs, make_folder, write_together, writing
from forgerank.types import InputError
from forgerank.weights.description import (
    METADATA_FILE,
    Decision,
    FileEntry,
    FileKind,
    WeightsMetadata,
    read_metadata,
    sealed_json,
)

if TYPE_CHECKING:
    from forgerank.evaluation.scorers import Predictions
    from forgerank.train.config import DataConfig

INT8_COST = 0.005  # AUC of P(x) that int8 may cost
CALIBRATION_IMAGES = 256
LICENCE = "non-commercial research use only, inherited from the training photographs"


def export(
    weights: Path,
    out: Path,
    *,
    roots: Sequence[Path] = (),
    sources: "DataConfig | None" = None,
    split: str = "val",
    limit: int | None = None,
    int8: bool = True,
    thorough: bool = False,
    name: str | None = None,
    version: str = "1",
    licence: str = LICENCE,
    resamples: int = 500,
    workers: int | None = None,
    progress: bool = True,
) -> WeightsMetadata:
    """Write forgerank.onnx, forgerank.safetensors and forgerank.json to the folder `out`.

    The ONNX graph is compared with torch. Metrics come from its predictions on the validation `split` of
    `roots` or of the sources of other settings, `sources`, by default of the training data; calibration and
    thresholds from these and from predictions on the same images re-encoded and resized, so that the
    false-positive rate holds for other data too; all sources of a mixture weigh the same there. `int8` also
    tries static quantisation and keeps it where it costs less than INT8_COST of AUC. `thorough` also chooses
    a calibration and thresholds for faces seen in several views (`Detector(thorough=True)`), which takes
    several times as long. Raises InputError for unusable weights or data.
    """
    require("train")
    from forgerank.evaluation.calibration import calibrate, check_classes, held_out_rates
    from forgerank.evaluation.evaluate import on_sources, predict_split
    from forgerank.evaluation.protocols import summarize
    from forgerank.evaluation.scorers import OnnxScorer
    from forgerank.export.onnx_graph import export_onnx
    from forgerank.model.network import Network
    from forgerank.train.checkpoints import git_revision, load_network
    from forgerank.weights.hub import normalisation, safetensors_bytes

    names = [out / name for name in ("forgerank.onnx", "forgerank.safetensors", METADATA_FILE)]
    check_outputs(names, [weights, weights.with_suffix(".json"), *roots], folders=[out])
    # Before anything is written: `out` may be a folder of the repository, which would then be dirty.
    revision = git_revision()
    network, config = load_network(weights)
    if not isinstance(network, Network):
        raise InputError(f"{weights}: only networks of kind ranking are exported, not {config.model.kind}")
    if not config.data.align:
        raise InputError(
            f"{weights}: was trained on whole images (data.align: false), a detector aligns faces"
        )
    judged = config if sources is None else on_sources(config, sources)
    make_folder(out)
    options: dict[str, Any] = {"limit": limit, "workers": workers, "progress": progress}
    options |= {"roots": roots, "split": split}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "float.onnx"
        difference = export_onnx(network, config.loss.tau, path)
        model, predictions, choice = _choose(path, judged, int8=int8, **options)
    check_classes(predictions.forged, f"{', '.join(map(str, roots)) or weights}, {split} split")
    scorer = OnnxScorer(model, judged)
    degraded = predict_split(scorer, copies="reencoded", **options)
    calibration, thresholds = calibrate(predictions, degraded)
    held_out = {"held_out": held_out_rates(predictions, degraded)}
    views = None
    if thorough:
        averaged = [
            predict_split(scorer, copies=copies, thorough=True, **options) for copies in (None, "reencoded")
        ]
        of_views = calibrate(*averaged)
        views = Decision(calibration=of_views[0], thresholds=of_views[1])
        held_out["held_out_thorough"] = held_out_rates(*averaged)
    metrics = summarize(
        predictions,
        order=config.loss.order,
        thresholds=thresholds,
        calibration=calibration,
        resamples=resamples,
    )
    contents: dict[FileKind, bytes] = {"onnx": model, "safetensors": safetensors_bytes(network.state_dict())}
    metadata = WeightsMetadata(
        name=name or config.name,
        version=version,
        files={
            kind: FileEntry(file=f"forgerank.{kind}", sha256=hashlib.sha256(content).hexdigest())
            for kind, content in contents.items()
        },
        input_size=config.model.input_size,
        zoom=config.model.zoom,
        normalisation=normalisation(network),
        labels=config.data.labels,
        order=config.loss.order,
        thresholds=thresholds,
        calibration=calibration,
        thorough=views,
        tau=config.loss.tau,
        metrics={**metrics, **held_out, "split": split, "torch_difference": difference, **choice},
        settings=config.model_dump(mode="json"),
        git_revision=revision,
        licence=licence,
    )
    described = sealed_json(json.loads(metadata.model_dump_json()))
    named = {out / metadata.files[kind].file: content for kind, content in contents.items()}
    write_together({**named, out / METADATA_FILE: described})
    return read_metadata(out / METADATA_FILE)


def _choose(
    path: Path, config: Any, *, int8: bool, roots: Sequence[Path], split: str, **options: Any
) -> tuple[bytes, "Predictions", dict[str, Any]]:
    """The ONNX file to export, its predictions, and its precision with the AUCs that decided on it."""
    from forgerank.evaluation.evaluate import predict_split
    from forgerank.evaluation.scorers import OnnxScorer
    from forgerank.metrics.detection import auc

    scorer: OnnxScorer = OnnxScorer(path.read_bytes(), config)
    predictions = predict_split(scorer, roots, split, **options)
    full = auc(predictions.forged, predictions.probability)
    if not int8:
        return path.read_bytes(), predictions, {"precision": "float32"}
    small = _quantized(path, config, roots, split)
    small_predictions = predict_split(OnnxScorer(small, config), roots, split, **options)
    reduced = auc(small_predictions.forged, small_predictions.probability)
    measured = {"float32_auc": full, "int8_auc": reduced}
    if full - reduced < INT8_COST:
        return small, small_predictions, {"precision": "int8", **measured}
    return path.read_bytes(), predictions, {"precision": "float32", **measured}


def _quantized(path: Path, config: Any, roots: Sequence[Path], split: str) -> bytes:
    from forgerank.evaluation.evaluate import open_split
    from forgerank.export.quantization import quantize
    from forgerank.train.loaders import plain_loader

    config, source = open_split(config, roots, split, limit=CALIBRATION_IMAGES, workers=0)
    target = path.with_name("int8.onnx")
    with writing(target):
        quantize(path, target, plain_loader(config, source))
    return target.read_bytes()
