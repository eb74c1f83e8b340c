import csv
import itertools
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from forgerank.data.formats.recognition import find_folders
from forgerank.evaluation.scorers import Predictions
from forgerank.labels import COMPONENTS
from forgerank.metrics.sequence import pad_sequences
from forgerank.reproduce import experiments, tables
from forgerank.reproduce.experiments import (
    Clock,
    Request,
    choose_rows,
    load_experiment,
    make_plan,
    row_config,
    train_missing,
)
from forgerank.reproduce.measure import tuned_figures
from forgerank.reproduce.tables import NAMES, make_table, mean_and_deviation
from forgerank.train.config import load_config, load_values
from forgerank.types import InputError
from squares import tiny_settings, write_squares

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
TABLES = sorted(path.parent for path in CONFIGS.glob("*/table.yaml"))


def shipped_rows() -> list[Path]:
    return [folder / f"{row}.yaml" for folder in TABLES for row in load_experiment(folder).rows]


@pytest.fixture
def table(squares: Path, tmp_path: Path) -> Path:
    """A table of two rows, of a size that takes seconds."""
    folder = tmp_path / "configs" / "mine"
    folder.mkdir(parents=True)
    tiny = tiny_settings(squares, tmp_path / "nowhere", model={"mask_head": False}, loss={"lambda_mask": 0.0})
    tiny["data"] |= {"mask_size": None, "val_images": 8}
    write(folder / "with.yaml", tiny | {"max_minutes": 7.0})
    write(folder / "without.yaml", {"base": "with.yaml", "loss": {"lambda2": 0.0}})
    write(folder / "size.yaml", {"max_minutes": None})
    rows = {
        "with": {"title": "with Rank", "paper": {"fixed_accuracy": 72.52}},
        "without": {"title": "without"},
    }
    others = {"theirs": {"fixed_accuracy": 69.65}}
    settings = {"title": "Mine", "origin": "nowhere", "size": "size.yaml", "rows": rows, "others": others}
    write(folder / "table.yaml", settings | {"figures": ["fixed_accuracy", "auc"]})
    return folder


@pytest.fixture
def ask(table: Path, squares: Path, tmp_path: Path) -> Callable[..., Request]:
    """A request for that table over the squares."""

    def build(**changes: Any) -> Request:
        plain = {"folder": table, "data": (squares,), "out": tmp_path / "out", "progress": False}
        return Request(**{**plain, **changes})

    return build


def write(path: Path, settings: dict[str, Any]) -> None:
    path.write_text(yaml.safe_dump(settings))


def no_run(*_: Any, **__: Any) -> None:
    raise AssertionError("a finished run was trained again")


@pytest.mark.parametrize("path", shipped_rows(), ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_shipped_rows_are_valid_at_both_sizes(path: Path, squares: Path) -> None:
    config = load_config(path)
    assert config.name == f"{path.parent.name}-{path.stem}"
    assert config.output == Path("runs", path.parent.name, path.stem)
    experiment = load_experiment(path.parent)
    data = squares if config.data.vocabulary != "attributes" else squares / "nothing"
    small = row_config(Request(path.parent, (data,), Path("out")), experiment, path.stem, images=64)
    if small is None:
        assert config.data.vocabulary == "attributes"
        return
    # The size takes nothing away that the row is about.
    assert small.loss == config.loss.model_copy(update={"k_points": None})
    assert (small.model.kind, small.model.prediction, small.model.order_head) == (
        config.model.kind,
        config.model.prediction,
        config.model.order_head,
    )
    assert (small.images_per_epoch, small.epochs, small.max_minutes) == (64, 1, None)


@pytest.mark.parametrize("folder", TABLES, ids=lambda folder: folder.name)
def test_a_table_and_its_files_agree(folder: Path) -> None:
    experiment = load_experiment(folder)
    assert {path.stem for path in folder.glob("*.yaml")} - {"table"} == set(experiment.rows)
    configs = [load_config(folder / f"{row}.yaml") for row in experiment.rows]
    distinct = {(c.model, c.loss, c.data.vocabulary).__repr__() for c in configs}
    assert len(distinct) == len(configs)
    known = {*NAMES, *(f"r2/{name}" for name in COMPONENTS), *(f"{name}/auc" for name in experiment.cross)}
    assert set(experiment.figures) <= known
    for published in (*(row.paper for row in experiment.rows.values()), *experiment.others.values()):
        assert set(published) <= set(experiment.figures)
        assert all(1 < value <= 100 for value in published.values())


def test_every_table_of_the_paper_is_there() -> None:
    names = {folder.name: len(load_experiment(folder).rows) for folder in TABLES}
    assert {"table1": 6, "table2": 3, "table3": 6, "table4": 2}.items() <= names.items()
    assert {"baselines", "alternatives"} <= set(names)


def test_table_3_switches_the_terms_as_the_paper() -> None:
    switched = []
    for number in range(1, 7):
        config = load_config(CONFIGS / "table3" / f"model-{number}.yaml")
        loss = config.loss
        terms = (loss.bce_u, loss.bce_v, bool(loss.lambda_cls), bool(loss.lambda2))
        switched.append((*terms, config.model.prediction))
    assert switched == [
        (True, False, False, False, "u"),
        (True, False, True, False, "u"),
        (True, False, False, True, "u"),
        (True, False, True, True, "u"),
        (False, True, True, True, "v"),
        (True, True, True, True, "both"),
    ]


def test_tables_1_and_2_are_the_paper() -> None:
    backbones = {
        row: load_config(CONFIGS / "table1" / f"components-{row}.yaml").model.backbone
        for row in ("r34", "r50")
    }
    assert backbones == {"r34": "resnet34", "r50": "resnet50"}
    attributes = load_config(CONFIGS / "table1" / "attributes-swin.yaml")
    assert attributes.model.backbone.startswith("swin")
    assert (attributes.data.vocabulary, attributes.data.roots[0].name) == ("attributes", "facial_attributes")
    binary = load_config(CONFIGS / "table2" / "swin.yaml")
    assert (binary.model.components, binary.loss.lambda2, binary.model.input_size) == (1, 0, 384)
    assert (binary.data.dataset, binary.data.vocabulary) == ("prepared", "binary")


def test_a_base_is_relative_to_its_file_and_gives_way(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    write(tmp_path / "one.yaml", {"seed": 1, "model": {"width": 8, "layers": 1}})
    write(tmp_path / "deep" / "two.yaml", {"base": "../one.yaml", "model": {"layers": 2}})
    write(tmp_path / "deep" / "three.yaml", {"base": "two.yaml", "seed": 3})
    assert load_values(tmp_path / "deep" / "three.yaml") == {"seed": 3, "model": {"width": 8, "layers": 2}}


@pytest.mark.parametrize(
    ("base", "reason"),
    [
        ("a.yaml", "is its own base"),
        ("b.yaml", "is its own base"),
        (3, "base must name a file"),
        ("no.yaml", "no.yaml: cannot be read"),
    ],
)
def test_a_bad_base_is_refused(tmp_path: Path, base: object, reason: str) -> None:
    write(tmp_path / "a.yaml", {"base": base})
    write(tmp_path / "b.yaml", {"base": "a.yaml"})
    with pytest.raises(InputError, match=reason):
        load_config(tmp_path / "a.yaml")


def test_each_vocabulary_finds_its_data(tmp_path: Path) -> None:
    for folder in ("academic/facial_components", "academic/facial_attributes", "forged"):
        (tmp_path / folder / "annotations").mkdir(parents=True)
    (tmp_path / "faces" / "faceforensics").mkdir(parents=True)
    (tmp_path / "faces" / "faceforensics" / "index.parquet").touch()
    academic, forged, faces = (tmp_path / name for name in ("academic", "forged", "faces"))
    assert find_folders((academic, forged), "components") == [academic / "facial_components", forged]
    assert find_folders((academic, forged), "attributes") == [academic / "facial_attributes"]
    assert find_folders((academic / "facial_attributes",), "components") == []
    assert find_folders((academic / "facial_attributes",), "attributes") == [academic / "facial_attributes"]
    assert find_folders((faces, academic), "binary") == [faces / "faceforensics"]


def test_a_table_is_trained_measured_and_written(
    ask: Callable[..., Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    request = ask(pictures=16, seeds=2)
    path = make_table(request)
    text = path.read_text()
    runs = {
        row: [
            json.loads((request.out / f"runs/{row}/seed-{seed}/evaluation.json").read_text())
            for seed in (0, 1)
        ]
        for row in ("with", "without")
    }
    with path.with_suffix(".csv").open(newline="") as stream:
        rows = {(row["row"], row["figure"]): row for row in csv.DictReader(stream)}
    values = [100 * run["figures"]["fixed_accuracy"] for run in runs["with"]]
    cell = rows["with", "fixed_accuracy"]
    assert [float(value) for value in cell["values"].split()] == pytest.approx(values, abs=1e-4)
    assert float(cell["mean"]) == pytest.approx(np.mean(values), abs=1e-3)
    assert float(cell["deviation"]) == pytest.approx(np.std(values, ddof=1), abs=1e-3)
    assert (cell["paper"], cell["seeds"]) == ("72.52", "2")
    assert rows["", "fixed_accuracy"]["paper"] == "69.65"
    assert f"| with Rank | 72.52 | {np.mean(values):.1f} ± " in text
    assert "| theirs | 69.65 | - |" in text
    floor = 100 * runs["with"][0]["figures"]["all_none_floor"]
    assert f"throughout | - | {floor:.1f} ±" in text
    assert [run["facts"]["pictures"] for row in runs.values() for run in row] == [16] * 4
    assert runs["with"][0]["facts"]["split"] == "val"
    assert str(request.out) not in text

    monkeypatch.setattr(experiments, "run", no_run)
    before = path.read_text()
    # How a run is computed is no other run.
    assert make_table(replace(request, overrides=("threads=2", "data.workers=1"))).read_text() == before
    with pytest.raises(InputError, match="see 16 images"):
        make_table(ask(pictures=64))
    with pytest.raises(InputError, match=r"another loss\.tau"):
        make_table(ask(pictures=16, overrides=("loss.tau=0.2",)))


def test_table_2_is_tested_on_the_other_data_sets(tmp_path: Path) -> None:
    data = tmp_path / "data"
    binary_squares(data / "faceforensics", {"train": 16, "val": 8, "test": 16})
    binary_squares(data / "celebdf", {"test": 12})
    binary_squares(data / "dfd", {"train": 8})
    tiny = tiny_settings(data, tmp_path, model={"mask_head": False, "components": 1, "pretrained": False})
    chosen = [f"model.{key}={value}" for key, value in tiny["model"].items()]
    chosen += [
        "data.workers=0",
        "batch_size=8",
        "precision=32-true",
        "accelerator=cpu",
        "model.fold_norm=false",
        "log_steps=1",
    ]
    request = Request(
        CONFIGS / "table2",
        (data,),
        tmp_path / "out",
        seeds=1,
        rows=("swin", "xception"),
        images=16,
        overrides=tuple(chosen),
        progress=False,
    )
    text = make_table(request).read_text()
    assert "Not tested on wilddeepfake: not among the data." in text
    assert "Not tested on dfd: " in text
    for row, backbone in (("swin", "ranking"), ("xception", "linear")):
        run = json.loads((request.out / f"runs/{row}/seed-0/evaluation.json").read_text())
        assert run["facts"]["kind"] == backbone
        assert (run["facts"]["split"], run["facts"]["evaluated"]) == ("test", 16)
        assert {"auc", "celebdf/auc"} <= set(run["figures"])
        assert "dfd/auc" not in run["figures"]
    assert "| ours, Swin | 99.82 | " in text


def binary_squares(root: Path, counts: dict[str, int]) -> None:
    """Squares with one label: forged or not."""
    write_squares(root, counts)
    for path in (root / "annotations").glob("*.csv"):
        with path.open(newline="") as stream:
            heading, *rows = csv.reader(stream)
        with path.open("w", newline="") as stream:
            forged = [[name, "[0]" if label == "[0, 0, 0, 0, 0]" else "[1]"] for name, label in rows]
            csv.writer(stream).writerows([heading, *forged])


def test_a_run_that_was_killed_goes_on(ask: Callable[..., Request], monkeypatch: pytest.MonkeyPatch) -> None:
    request = ask(pictures=16)
    config = row_config(request, load_experiment(request.folder), "with", images=16)
    assert config is not None
    checkpoint = train_missing(config, progress=False)
    assert checkpoint.name == "best.ckpt"
    (config.output / "weights.safetensors").unlink()
    seen = []
    monkeypatch.setattr(experiments, "run", lambda config, resume, progress: seen.append(resume))
    train_missing(config, progress=False)
    shutil.rmtree(config.output)
    train_missing(config, progress=False)
    assert seen == [True, False]


def test_the_budget_holds_equal_images_for_every_row(
    ask: Callable[..., Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    speeds = {"with": 10.0, "without": 40.0}
    monkeypatch.setattr(experiments, "_probe", lambda request, experiment, row, minutes: speeds[row])
    request = ask(budget=60.0, seeds=3)
    plan = make_plan(request, load_experiment(request.folder), ["with", "without"])
    assert plan is not None
    training = sum(3 * plan.pictures / speed for speed in speeds.values())
    assert training == pytest.approx(0.8 * 60 * 60, rel=0.001)
    assert plan.minutes_per_run == 10
    again = make_plan(ask(budget=20.0, seeds=1), load_experiment(request.folder), ["with", "without"])
    assert again == plan == make_plan(ask(), load_experiment(request.folder), ["with"])
    with pytest.raises(InputError, match=r"take 10\.0 minutes, not 5\.0"):
        make_plan(ask(budget=30.0, seeds=3), load_experiment(request.folder), ["with", "without"])


def test_a_short_trial_measures_speed(ask: Callable[..., Request]) -> None:
    request = ask(budget=2.0, seeds=1)
    plan = make_plan(request, load_experiment(request.folder), ["with"])
    assert plan is not None
    assert plan.pictures == int(0.8 * 120 * plan.probed["with"])
    assert not list((request.out / "probe").iterdir())


def test_no_run_begins_that_would_end_too_late(
    ask: Callable[..., Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = itertools.count(step=600)  # every look at the clock is ten minutes later
    monkeypatch.setattr(experiments.time, "monotonic", lambda: float(next(ticks)))
    monkeypatch.setattr(tables, "train_missing", lambda config, progress: config.output)
    facts = dict.fromkeys((*tables.FACTS, "pictures_per_second"), 1)
    monkeypatch.setattr(
        tables, "measure_run", lambda *_, **__: {"figures": {}, "skipped": {}, "facts": facts}
    )
    text = make_table(ask(budget=45.0, pictures=8)).read_text()
    assert "Left out: without: the budget was used up before seed 0" in text
    assert "| with Rank | 72.52 | - | - | 1.0 | 1 |" in text


def test_the_clock_counts_the_longest_run(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(experiments.time, "monotonic", lambda: now[0])
    clock = Clock(10.0)
    assert not clock.over
    for minute, over in ((4, False), (6, False), (8, True)):
        now[0] = 60.0 * minute
        clock.lap()
        assert clock.over is over
    assert not Clock(None).over


def train_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs without figures, in the place of training."""
    monkeypatch.setattr(tables, "train_missing", lambda config, progress: config.output)
    facts = dict.fromkeys((*tables.FACTS, "pictures_per_second"), 1)
    empty = {"figures": {}, "skipped": {}, "facts": facts}
    monkeypatch.setattr(tables, "measure_run", lambda *_, **__: empty)


def test_a_row_without_data_is_named(ask: Callable[..., Request], monkeypatch: pytest.MonkeyPatch) -> None:
    train_nothing(monkeypatch)
    request = ask(pictures=16, seeds=1)
    write(request.folder / "without.yaml", {"base": "with.yaml", "data": {"vocabulary": "attributes"}})
    text = make_table(request).read_text()
    assert "Left out: without: no data with its labels." in text


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"rows": ("nobody",)}, "--rows nobody: the rows are with, without"),
        ({"overrides": ("seed=3",)}, "reproduce sets output, seed, name itself"),
        ({"overrides": ("loss.tau=-1",)}, "loss.tau: Input should be greater than 0"),
        ({"folder": Path("nowhere")}, "nowhere/table.yaml: cannot be read"),
        ({"data": (Path("nowhere"),), "budget": 1.0}, "nowhere: holds no data for mine"),
    ],
)
def test_bad_requests_are_one_line(ask: Callable[..., Request], changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(InputError, match=reason) as caught:
        make_table(ask(**{"pictures": None if "budget" in changes else 16, **changes}))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("file", "content", "reason"),
    [
        ("plan.json", '{"pict', "not JSON"),
        ("plan.json", '{"images": 16}', "no plan of this version"),
        ("runs/with/seed-0/evaluation.json", '{"asked', "not JSON"),
    ],
)
def test_a_damaged_record_is_named(
    ask: Callable[..., Request], monkeypatch: pytest.MonkeyPatch, file: str, content: str, reason: str
) -> None:
    request = ask(pictures=16, seeds=1, rows=("with",))
    monkeypatch.setattr(
        tables, "train_missing", lambda config, progress: config.output / "weights.safetensors"
    )
    path = request.out / file
    path.parent.mkdir(parents=True)
    path.write_text(content)
    with pytest.raises(InputError, match=f"{path}.*{reason}") as caught:
        make_table(request)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [("a: [", "is not YAML"), ("title: x", "origin: Field required"), ("- 1", "valid dictionary")],
)
def test_a_broken_table(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "table.yaml").write_text(text)
    with pytest.raises(InputError, match=reason):
        load_experiment(tmp_path)


def test_rows_keep_the_order_of_the_table(table: Path) -> None:
    assert choose_rows(load_experiment(table), ("without", "with")) == ["with", "without"]


def test_thresholds_of_the_other_half_judge(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    presence = rng.integers(0, 2, (80, 2))
    presence[::4] = 0
    sequences = pad_sequences([[i + 1 for i in np.flatnonzero(row)] for row in presence], 2)
    # Between 0.2 for absent and 0.4 (the first) or 0.3 for present labels: 0.5 finds nothing.
    components = np.where(presence == 1, [0.4, 0.3], 0.2)
    predictions = Predictions(
        probability=presence.max(axis=1).astype(float),
        components=components,
        order=components,
        presence=presence,
        sequences=sequences,
        groups=[str(number) for number in range(80)],
        sources=[""] * 80,
    )
    tuned = tuned_figures(predictions, "first_to_last")
    assert tuned["fixed_accuracy_tuned"] == tuned["multi_label_accuracy_tuned"] == 1
    # All of one group: there is nobody else to learn from.
    alone = Predictions(**{**vars(predictions), "groups": ["one"] * 80})
    assert tuned_figures(alone, "first_to_last") == {}
    own = Predictions(**{**vars(predictions), "predicted": sequences})
    assert tuned_figures(own, "first_to_last") == {}
    # Known in part: wrong answers where nothing is known cost nothing.
    known = rng.random((80, 2)) < 0.8
    partly = Predictions(
        **{
            **vars(predictions),
            "components": np.where(known, components, 0.9 - components),
            "presence": np.where(known, presence, -1),
            "fake": presence.any(axis=1),
        }
    )
    assert set(tuned_figures(partly, "first_to_last").values()) == {1}
    blind = Predictions(**{**vars(partly), "presence": np.full((80, 2), -1)})
    assert tuned_figures(blind, "first_to_last") == {}


def test_one_value_has_no_spread() -> None:
    assert mean_and_deviation([0.5])[0] == 0.5
    assert np.isnan([*mean_and_deviation([]), mean_and_deviation([0.5])[1]]).all()
