"""The model card, in Markdown, of a set of weights: from their description and from evaluations."""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from forgerank.media.files import counted

# Licences that have an identifier on hubs; any other is written out in the card.
KNOWN_LICENCES = frozenset(
    {"apache-2.0", "mit", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0"}
)
TAGS = ["deepfake-detection", "face-forgery", "image-forensics", "multi-label-ranking", "forgerank"]
TITLES = {
    "auc": "AUC of P(x)",
    "component_ap": "average precision, mean over components",
    "multi_label_accuracy": "multi-label accuracy",
    "fixed_accuracy": "Fixed-Acc",
    "all_none_floor": "all-none floor of Fixed-Acc",
    "adaptive_accuracy": "Adaptive-Acc",
    "complete_sequences": "completely right sequences",
    "pairwise_order": "pairs in the right order",
    "equal_error_rate": "equal error rate",
    "tpr_at_1_percent_fpr": "forged faces found at 1 % false positives",
    "false_positive_rate": "real faces called forged",
    "true_positive_rate": "forged faces called forged",
}


def model_card(
    description: Mapping[str, Any],
    *,
    evaluations: Mapping[str, Mapping[str, Any]] | None = None,
    notes: str = "",
) -> str:
    """The card of one set of weights: YAML front matter as the Hugging Face hub reads it, then Markdown.

    `description` is the content of forgerank.json, or of a run's weights.json. `evaluations` are results of
    `forgerank evaluate --json` by title; without them, those in the description are shown. `notes` is
    Markdown that closes the card: the origin of the data, limits of the weights.
    """
    shown = dict(evaluations or {})
    own = description.get("metrics") or {}
    if not shown and "metrics" in own:
        shown = {f"{own.get('split', 'val')} split": own}
    shown = _with_conditions(shown)
    sections = [
        f"# Model card: {description.get('name', 'forgerank')} {description.get('version', '')}".rstrip(),
        _architecture(description),
        _files(description),
        f"**Terms.** {_sentence(description.get('licence', 'not stated'))}",
        _training(description.get("settings") or {}, description.get("git_revision", "")),
        _metrics(shown) if shown else _run_metrics(own),
        _components(shown, description.get("labels", ())),
        _thresholds(description),
        _use(description),
        notes.strip(),
    ]
    return _front_matter(description, shown) + "\n\n".join(part for part in sections if part) + "\n"


def _with_conditions(shown: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Each evaluation, then its parts per data set, compression, and frame or video, where it has them."""
    columns: dict[str, Mapping[str, Any]] = {}
    for title, evaluation in shown.items():
        columns[title] = evaluation
        columns |= {f"{title}, {key}": part for key, part in evaluation.get("binary", {}).items()}
    return columns


def _front_matter(description: Mapping[str, Any], shown: Mapping[str, Mapping[str, Any]]) -> str:
    licence = str(description.get("licence", "not stated"))
    known = licence.lower() in KNOWN_LICENCES
    matter: dict[str, Any] = {"license": licence.lower() if known else "other"}
    if not known:
        matter["license_name"] = "see-the-card"
    matter |= {"library_name": "forgerank", "pipeline_tag": "image-classification", "tags": TAGS}
    matter["metrics"] = ["roc_auc", "accuracy"]
    results = [
        {
            "task": {"type": "image-classification", "name": "face forgery detection"},
            "dataset": {"name": title, "type": "forgerank"},
            "metrics": [
                {"type": name, "name": _title(name), "value": round(metric["value"], 4)}
                for name, metric in evaluation["metrics"].items()
                if metric["value"] is not None
            ],
        }
        for title, evaluation in shown.items()
    ]
    if results:
        matter["model-index"] = [{"name": str(description.get("name", "forgerank")), "results": results}]
    return f"---\n{yaml.safe_dump(matter, sort_keys=False, allow_unicode=True, width=1000)}---\n\n"


def _architecture(description: Mapping[str, Any]) -> str:
    model = (description.get("settings") or {}).get("model") or {}
    size, labels = description.get("input_size"), ", ".join(description.get("labels", ()))
    text = f"**What it is.** Input: one aligned face, {size} px, RGB in 0..1"
    if description.get("normalisation"):
        mean, std = (" ".join(f"{v:g}" for v in description["normalisation"][n]) for n in ("mean", "std"))
        text += f", normalised inside by mean {mean} and deviation {std}"
    text += f". Labels: {labels}."
    if not model:
        return text
    kind = model.get("kind", "ranking")
    text += f" Network: `{kind}` on the backbone `{model['backbone']}`"
    if kind != "ranking":
        return f"{text}."
    tokens = (model["input_size"] // model["stride"]) ** 2
    layers, heads = counted(model["layers"], "layer"), counted(model["heads"], "head")
    return (
        f"{text}, feature pyramid, {tokens} patch tokens of width {model['width']},"
        f" transformer of {layers} with {heads}."
    )


def _files(description: Mapping[str, Any]) -> str:
    lines = [f"- `{f['file']}`, SHA-256 `{f['sha256']}`" for f in (description.get("files") or {}).values()]
    return "\n".join(["**Files.**", "", *lines]) if lines else ""


def _training(settings: Mapping[str, Any], revision: str) -> str:
    if "data" not in settings:
        return ""
    data, loss, optim = settings["data"], settings["loss"], settings["optim"]
    weights = {name: loss[name] for name in ("lambda_cls", "lambda1", "lambda2") if name in loss}
    if loss.get("direct", "none") != "none":
        weights[f"lambda_direct ({loss['direct']})"] = loss["lambda_direct"]
    if loss.get("lambda_mask"):
        weights["lambda_mask"] = loss["lambda_mask"]
    terms = ", ".join(f"{name} {value:g}" for name, value in weights.items())
    return (
        f"**Training.** {_data(data)}; batches of {settings['batch_size']},"
        f" at most {counted(settings['epochs'], 'epoch')}, learning rate {optim['lr']:g}"
        f" (backbone {optim['backbone_lr']:g}), seed {settings['seed']}. Loss: {terms}, tau {loss['tau']:g},"
        f" order {loss['order']}. Made by revision `{revision or 'unknown'}`."
    )


def _data(data: Mapping[str, Any]) -> str:
    if not data.get("sources"):
        roots = ", ".join(f"`{root}`" for root in data["roots"])
        return f"Data set `{data['dataset']}` at {roots}"
    shares = (f"`{source['name']}` {source['share']:g}" for source in data["sources"] if source["share"])
    return f"Sources and their shares of a batch: {', '.join(shares)}"


def _metrics(shown: Mapping[str, Mapping[str, Any]]) -> str:
    names = list(dict.fromkeys(name for evaluation in shown.values() for name in evaluation["metrics"]))
    names.sort(key=lambda name: list(TITLES).index(name) if name in TITLES else len(TITLES))
    counts = [f"{part.get('pictures', part.get('count'))} ({part['real']})" for part in shown.values()]
    rows = [["scored (real)", *counts]]
    rows += [[_title(n), *(_interval(part["metrics"].get(n)) for part in shown.values())] for n in names]
    return "**Metrics**, 95 % bootstrap intervals over groups in brackets:\n\n" + _table(["", *shown], rows)


def _run_metrics(metrics: Mapping[str, Any]) -> str:
    """Metrics of a run that was not exported: on its validation split, without intervals."""
    rows = [
        [f"`{name}`", f"{value:.4f}"] for name, value in metrics.items() if isinstance(value, (int, float))
    ]
    return "**Metrics** of the run's own validation:\n\n" + _table(["", "value"], rows) if rows else ""


def _components(shown: Mapping[str, Mapping[str, Any]], labels: Sequence[str]) -> str:
    rows = [
        [title, *(_show(value) for value in evaluation["by_component"])]
        for title, evaluation in shown.items()
        if len(evaluation.get("by_component", ())) == len(labels) > 1
    ]
    return "Average precision per label:\n\n" + _table(["", *labels], rows) if rows else ""


def _thresholds(description: Mapping[str, Any]) -> str:
    cuts, calibration = description.get("thresholds"), description.get("calibration")
    if not cuts or not calibration or calibration == {"slope": 1.0, "intercept": 0.0}:
        return (
            "**Thresholds.** Not calibrated: 0.5 stands for every threshold. `forgerank export` finds them."
        )
    labels = ", ".join(
        f"{n} {cut:.3f}" for n, cut in zip(description["labels"], cuts["components"], strict=True)
    )
    text = (
        f"**Thresholds**, on calibrated probabilities: forged from {cuts['forged']:.3f},"
        f" real under {cuts['real']:.3f}, between them undetermined; {labels}."
    )
    metrics = description.get("metrics") or {}
    held_out = metrics.get("held_out") or {}
    text += _expected(held_out)
    if thorough := description.get("thorough"):
        cuts = thorough["thresholds"]
        text += f" With `--thorough`, forged from {cuts['forged']:.3f}, real under {cuts['real']:.3f}."
        text += _expected(metrics.get("held_out_thorough") or {})
    if sources := held_out.get("sources"):
        heads = ("false_positive_rate", "real_rate", "true_positive_rate", "miss_rate", "undetermined")
        titles = ["Source", "real called forged", "real called real", "forged found", "forged called real"]
        rows = [
            [name, *(f"{rates[head]:.1%}" if head in rates else "-" for head in heads)]
            for name, rates in sources.items()
        ]
        text += "\n\nThe same by source, plain and degraded images together:\n\n"
        text += _table([*titles, "undetermined"], rows)
    return text


def _expected(held_out: Mapping[str, Any]) -> str:
    """What the thresholds do to plain and to degraded images of other people."""
    text = ""
    for name, rates in held_out.items():
        if name == "sources":
            continue
        text += (
            f" On groups left out of the choice, {name} images: {rates['false_positive_rate']:.1%}"
            f" of real faces called forged, {rates['true_positive_rate']:.1%} of forged ones found"
        )
        text += f", {rates['undetermined']:.1%} undetermined." if "undetermined" in rates else "."
    return text


def _use(description: Mapping[str, Any]) -> str:
    lines = ["**Use.** With this folder as `weights`:", "", "```python"]
    if "onnx" in (description.get("files") or {}):
        lines += ["from forgerank.detect import Detector", "", 'detector = Detector("weights")']
    else:
        lines += [
            "from forgerank.model.network import Network",
            "",
            'network = Network.from_pretrained("weights")',
        ]
    return "\n".join([*lines, "```"])


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows])


def _title(name: str) -> str:
    return TITLES.get(name, name.replace("_", " "))


def _interval(metric: Mapping[str, float | None] | None) -> str:
    if metric is None or metric["value"] is None:
        return "-"
    return f"{metric['value']:.3f} ({_show(metric.get('low'))}-{_show(metric.get('high'))})"


def _show(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:].rstrip(".") + "."
