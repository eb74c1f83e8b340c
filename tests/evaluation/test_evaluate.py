import csv
import io
import json
import math
import shutil
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console

from forgerank.data.augmentation import to_tensors
from forgerank.data.formats.prepared import schema
from forgerank.data.formats.registry import identify_dataset
from forgerank.data.sample import LabelledImage
from forgerank.evaluation.evaluate import (
    COPIES,
    evaluate,
    evaluate_sources,
    find_checkpoints,
    open_split,
    predict_split,
)
from forgerank.evaluation.printing import print_evaluation, print_sets, sets_csv
from forgerank.evaluation.scorers import join, open_scorer
from forgerank.faces.align import TEMPLATE
from forgerank.model.baselines import build_network
from forgerank.train.checkpoints import load_network, save_weights
from forgerank.train.config import parse_config
from forgerank.train.loaders import open_source
from forgerank.types import Copies, InputError
from packs import mixture_of
from squares import SIDE, tiny_settings, write_squares

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")


def test_what_folders_hold(tmp_path: Path, squares: Path) -> None:
    assert identify_dataset(squares) == "seqdeepfake"
    for name, kind in (
        ("a/index.parquet", "prepared"),
        ("b/test.jsonl", "shards"),
        ("c/labels.csv", "folder"),
        ("d/real/1.jpg", "folder"),
        ("e/other.txt", "seqdeepfake"),
    ):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
        assert identify_dataset(tmp_path / Path(name).parts[0]) == kind
    (tmp_path / "f").mkdir()
    for name, why in (
        ("f", "an empty folder"),
        ("g", "no such file or folder"),
        ("c/labels.csv", "not a directory"),
    ):
        with pytest.raises(InputError, match=f"{name}: .*{why}"):
            identify_dataset(tmp_path / name)
    for name in ("last.ckpt", "best.ckpt", "a.ckpt"):
        (tmp_path / name).touch()
    assert [path.name for path in find_checkpoints(tmp_path)] == ["best.ckpt", "a.ckpt", "last.ckpt"]
    assert find_checkpoints(tmp_path / "a.ckpt") == [tmp_path / "a.ckpt"]
    with pytest.raises(InputError, match="neither checkpoints"):
        find_checkpoints(squares)


def test_a_trained_checkpoint_is_evaluated(trained: Path, squares: Path, tmp_path: Path) -> None:
    output = tmp_path / "deep" / "result.json"
    result = evaluate(trained / "best.ckpt", resamples=5, output=output, progress=False)
    assert json.loads(output.read_text()) == result
    assert result["pictures"] == 48
    assert result["metrics"]["auc"]["value"] > 0.95
    assert list(result["by_source"]) == ["squares"]
    other = evaluate(
        trained / "weights.safetensors",
        roots=[squares],
        split="train",
        copies="reencoded",
        limit=10,
        resamples=5,
        progress=False,
    )
    assert (other["pictures"], other["copies"]) == (10, "reencoded")
    text = io.StringIO()
    print_evaluation(result, Console(file=text, width=120))
    assert "multi label accuracy" in text.getvalue()


def test_each_data_set_has_a_row(trained: Path, tmp_path: Path) -> None:
    """Whatever their layouts, and beside the metrics of all of them together."""
    roots = [write_squares(tmp_path / name, {"val": 12}) for name in ("one", "two")]
    result = evaluate(trained / "best.ckpt", roots=roots, limit=8, resamples=5, workers=0, progress=False)
    rows = result["sets"]
    assert {name: row["images"] for name, row in rows.items()} == {"one": 8, "two": 8}
    assert result["pictures"] == 16
    alone = evaluate(trained / "best.ckpt", roots=roots[1:], limit=8, resamples=5, workers=0, progress=False)
    assert alone["sets"] == {"two": rows["two"]}
    assert rows["two"]["auc"] == alone["metrics"]["auc"]["value"]
    table = list(csv.DictReader(io.StringIO(sets_csv(rows))))
    assert [row["set"] for row in table] == ["one", "two"]
    assert float(table[0]["auc"]) == pytest.approx(rows["one"]["auc"], rel=1e-5)
    assert sets_csv({"=one": {"auc": -1.0}}).splitlines()[1].startswith("./=one,")
    assert "cllr" not in table[0]  # these weights have no calibration
    text = io.StringIO()
    print_evaluation(result, Console(file=text, width=120))
    assert sum(line.startswith(" one ") for line in text.getvalue().splitlines()) == 3


def test_what_shows_no_face_gets_no_verdict_where_that_is_asked_for(trained: Path, squares: Path) -> None:
    options: dict[str, Any] = {"roots": [squares], "tune": "train/40", "limit": 12, "resamples": 2}
    options |= {"workers": 0, "progress": False}
    [scored] = evaluate(trained / "best.ckpt", **options)["sets"].values()
    [strict] = evaluate(trained / "best.ckpt", abstain=True, **options)["sets"].values()
    assert "unjudged" not in scored
    assert scored["undetermined"] < 1
    assert (strict["unjudged"], strict["undetermined"], strict["auc"]) == (1, 1, scored["auc"])


def test_sets_of_one_class_are_said(
    trained: Path, squares: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = tmp_path / "alone"
    shutil.copytree(squares, alone)
    table = alone / "annotations/val.csv"
    head, *rows = table.read_text().splitlines()
    table.write_text("\n".join([head, *(row for row in rows if "[0, 0, 0, 0, 0]" not in row)]) + "\n")
    options: dict[str, Any] = {"split": "val", "limit": 12, "resamples": 2, "workers": 0, "progress": False}
    evaluate(trained / "best.ckpt", roots=[squares, alone], **options)
    lines = [line for line in capsys.readouterr().err.splitlines() if "mean nothing" in line]
    assert lines == ["forgerank: alone: no real image: AUC, mAP and accuracy mean nothing"]


def test_images_without_a_face_stay_in_the_test(
    trained: Path, tmp_path: Path, astronaut: NDArray[np.uint8], capsys: pytest.CaptureFixture[str]
) -> None:
    """As the benchmark's own protocol does: they are judged on the whole image, resized."""
    root = write_squares(tmp_path / "seq", {"test": 5})
    shutil.rmtree(root / "records")  # which hold the points; the published sets have none
    Image.fromarray(astronaut).save(root / "images/test/000.png")
    found = evaluate(
        trained / "best.ckpt", roots=[root], split="test", resamples=2, workers=0, progress=False
    )
    assert (found["pictures"], found["whole_images"], found["aligned"]) == (5, 4, True)
    assert "no face in 4 of 5 images of test: judged on the whole image" in capsys.readouterr().err
    print_evaluation(found)
    assert "judged on the whole image: 4 of 5, no face was found in them" in capsys.readouterr().out

    # Training leaves them out; with alignment off no face is looked for, and nothing is lost.
    config = load_network(trained / "best.ckpt")[1].data.model_copy(update={"roots": (root,)})
    assert len(open_source(config, "test")) == 1
    assert len(open_source(config.model_copy(update={"align": False}), "test")) == 5
    scorer = open_scorer(trained / "best.ckpt")
    scorer.config = scorer.config.model_copy(update={"data": config.model_copy(update={"align": False})})
    whole = predict_split(scorer, (), "test", workers=0, progress=False)
    assert whole.unaligned.all()
    assert join(whole, whole).rows(np.arange(10) < 3).unaligned.tolist() == [True] * 3


def test_files_that_are_no_weights(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.ckpt").write_bytes(b"no checkpoint")
    (tmp_path / "bad.safetensors").write_bytes(b"no tensors")
    (tmp_path / "lone.safetensors").write_bytes((trained / "weights.safetensors").read_bytes())
    named = {name: name for name in ("bad.ckpt", "bad.safetensors", "lone.safetensors", "none.ckpt")}
    for name, reason in {**named, "folder.onnx": "forgerank.json"}.items():
        with pytest.raises(InputError, match=reason):
            evaluate(tmp_path / name, progress=False)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"tune": "val"}, "the split that is evaluated"),
        ({"tune": "train/0"}, "expected a split"),
        ({"tune": "train/many"}, "expected a split"),
        ({"tune": "/3"}, "expected a split"),
    ],
)
def test_bad_splits_to_tune_on(trained: Path, options: dict[str, Any], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        evaluate(trained / "best.ckpt", progress=False, **options)


def test_an_unknown_data_set(trained: Path, squares: Path) -> None:
    with pytest.raises(InputError, match="dataset must be one of"):
        evaluate(trained / "best.ckpt", roots=[squares], dataset="none", progress=False)


def test_a_run_is_tuned_reversed_and_compared_over_its_checkpoints(trained: Path, squares: Path) -> None:
    result = evaluate(
        trained / "last.ckpt",
        others=[trained],
        roots=[squares],
        reverse=True,
        tune="train/40",
        limit=30,
        resamples=2,
        progress=False,
    )
    assert result["weights"] == str(trained / "last.ckpt")
    assert result["thresholds"] == "chosen on train/40"
    assert result["reversed"] is True
    # last.ckpt is in the folder, too, and counts once
    assert result["best_of"]["checkpoints"] == [str(trained / "last.ckpt"), str(trained / "best.ckpt")]
    best = result["best_of"]["metrics"]
    assert best["fixed_accuracy"]["value"] >= result["metrics"]["fixed_accuracy"]["value"]
    assert {"fixed_accuracy_at_half", "false_positive_rate"} <= set(best)
    text = io.StringIO()
    print_evaluation(result, Console(file=text, width=200))
    for words in ("best of 2 checkpoints", "chosen on train/40", "last to first", "order R²", "eyebrow"):
        assert words in text.getvalue()


def test_a_network_trained_on_reversed_sequences_is_compared_so(trained: Path, squares: Path) -> None:
    scorer = open_scorer(trained / "best.ckpt")
    data = scorer.config.data.model_copy(update={"options": {"reverse": True}})
    config = scorer.config.model_copy(update={"data": data})
    opened, source = open_split(config, [squares], "val", limit=None, workers=0)
    assert opened.data.options == {"reverse": True}
    _, plain = open_split(scorer.config, [squares], "val", limit=None, workers=0)
    assert source.sample(3).sequence == plain.sample(3).sequence[::-1] != plain.sample(3).sequence


def test_prepared_videos_are_scored_by_frame_and_by_video(tmp_path: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    rng = np.random.default_rng(0)
    rows = []
    for clip, forged, track in ((0, 0, 0), (1, 1, 0), (1, 1, 1), (2, 0, 0)):
        for frame in range(2):
            file = f"{clip}-{frame}-{track}.png"
            Image.fromarray(rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)).save(tmp_path / file)
            about = {
                "clip": f"{forged}/{clip}.mp4",
                "dataset": "celebdf",
                "split": "test",
                "group": str(clip),
            }
            about |= {"method": "synthesis" if forged else "", "compression": ""}
            points = (TEMPLATE * SIDE).ravel().tolist()
            numbers = {"frame": frame, "track": track, "label": [1] * forged, "points": points}
            rows.append({"file": file, **about, **numbers})
    pq.write_table(pa.Table.from_pylist(rows, schema()), tmp_path / "index.parquet")
    settings = tiny_settings(
        tmp_path,
        tmp_path / "run",
        model={"components": 1, "mask_head": False},
        loss={"lambda_mask": 0.0, "direct": "none"},
    )
    settings["data"] |= {"vocabulary": "binary", "mask_size": None}
    config = parse_config(settings, "test")
    save_weights(build_network(config.model), config, tmp_path / "w.safetensors", {})
    result = evaluate(tmp_path / "w.safetensors", roots=[tmp_path], split="test", resamples=2, progress=False)
    counts = {key: (part["count"], part["real"]) for key, part in result["binary"].items()}
    assert counts == {"celebdf/as-is/frame": (8, 4), "celebdf/as-is/video": (3, 2)}
    text = io.StringIO()
    print_evaluation(result, Console(file=text, width=120))
    assert "celebdf/as-is/video" in text.getvalue()
    assert "multi label" not in text.getvalue()  # of one label there is no sequence to speak of


def test_the_binary_table_is_printed() -> None:
    interval = {"value": 0.75, "low": 0.7, "high": None}
    part = {"count": 9, "real": 4, "groups": 3, "metrics": {"auc": interval}}
    result = {
        "by_component": [0.5],
        "binary": {
            "dfd/c23/frame": {
                **part,
                "by_method": {"a": {"forged": 2, "auc": 0.6}, "b": {"forged": 3, "auc": 0.9}},
            },
            "celebdf/as-is/video": {**part, "by_method": {}},
        },
        "thresholds": "saved",
        "reversed": False,
        "whole_images": 0,
    }
    text = io.StringIO()
    print_evaluation(result, Console(file=text, width=150))
    for words in ("celebdf/as-is/video", "9 (4 real)", "0.7000 to -", "auc, b", "0.9000"):
        assert words in text.getvalue()
    assert "last to first" not in text.getvalue()


def test_every_source_has_a_row(pack_root: Path, tmp_path: Path) -> None:
    data = {"roots": [], "sources": mixture_of(pack_root)}
    config = parse_config(tiny_settings(pack_root, tmp_path / "run", data=data), "test")
    weights = tmp_path / "w.safetensors"
    save_weights(build_network(config.model), config, weights, {})
    found = evaluate_sources(weights, config.data)
    assert {name: row["images"] for name, row in found.items()} == {"alpha": 2, "gamma": 2, "forged": 4}
    assert all(0 <= row["auc"] <= 1 for row in found.values())
    assert evaluate_sources(weights, config.data, limit=2, workers=0)["forged"]["images"] == 2
    train = evaluate_sources(weights, config.data, split="train", resamples=2)
    assert {name: row["images"] for name, row in train.items()} != {
        name: row["images"] for name, row in found.items()
    }
    # the same network from a run with another seed sees the same forgeries
    network, _ = load_network(weights)
    other = tmp_path / "other.safetensors"
    save_weights(network, config.model_copy(update={"seed": config.seed + 1}), other, {})
    assert repr(evaluate_sources(other, config.data)) == repr(found)  # of what has no value, NaN
    text = io.StringIO()
    print_sets(found, Console(file=text, width=80))
    lines = text.getvalue().splitlines()
    for name in ("alpha", "gamma", "forged", "mean"):
        assert sum(line.startswith(f" {name} ") for line in lines) == 3
    assert "…" not in text.getvalue()
    for row in found.values():
        assert row["auc_low"] <= row["auc"] <= row["auc_high"] or math.isnan(row["auc_low"])
        assert "cllr" not in row  # without calibration there are no likelihood ratios
        assert row["min_cllr"] <= 1
    thorough = evaluate_sources(weights, config.data, thorough=True, resamples=2, plots=tmp_path / "plots")
    assert {name: row["images"] for name, row in thorough.items()} == {"alpha": 2, "gamma": 2, "forged": 4}
    assert {path.name for path in (tmp_path / "plots").iterdir()} == {"reliability.png", "det.png"}
    with pytest.raises(InputError, match=r"name no data\.sources"):
        evaluate_sources(weights, config.data.model_copy(update={"sources": (), "roots": (pack_root,)}))
    with pytest.raises(InputError, match=r"data\.vocabulary binary: the network has that of components"):
        evaluate_sources(weights, config.data.model_copy(update={"vocabulary": "binary"}))
    assert identify_dataset(pack_root) == "pack"
    # All sources as one split, as `evaluate` takes them.
    _, source = open_split(config, (), "val", limit=None, workers=0)
    assert len(source) == 8
    _, one = open_split(config, [pack_root], "val", limit=None, workers=0)
    assert {one.sample(i).source for i in range(len(one))} == {"alpha", "beta", "gamma", "delta"}


def test_copies_of_every_source_are_measured(pack_root: Path, tmp_path: Path, monkeypatch: Any) -> None:
    data = {"roots": [], "sources": mixture_of(pack_root)}
    config = parse_config(tiny_settings(pack_root, tmp_path / "run", data=data), "test")
    weights = tmp_path / "w.safetensors"
    save_weights(build_network(config.model), config, weights, {})
    seen = []

    def rows(scorer: Any, sets: dict[str, Any], resamples: int) -> dict[str, Any]:
        seen.append(np.concatenate([found.probability for found in sets.values()]))
        return {}

    monkeypatch.setattr("forgerank.evaluation.evaluate._rows", rows)
    for kind in ("grey", "grey", None):
        evaluate_sources(weights, config.data, copies=kind)
    assert np.array_equal(seen[0], seen[1])
    assert not np.array_equal(seen[0], seen[2])


@pytest.mark.parametrize("kind", get_args(Copies))
def test_a_copy_of_each_kind_is_another_image_and_always_the_same(kind: Copies) -> None:
    image = np.random.default_rng(0).integers(0, 255, size=(96, 96, 3), dtype=np.uint8)
    whole, first, again = (
        to_tensors(
            LabelledImage(image, None, (), None),
            size=96,
            length=5,
            augment=augment,
            rng=np.random.default_rng(4),
        ).image
        for augment in (None, COPIES[kind], COPIES[kind])
    )
    assert np.array_equal(first, again)
    assert np.abs(first.astype(int) - whole).mean() > 0.5
