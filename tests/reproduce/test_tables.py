import csv
import itertools
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from forgerank.data.formats.registry import find_folders
from forgerank.reproduce import runs, tables
from forgerank.reproduce.runs import Clock, Request, make_plan, row_config, train_missing
from forgerank.reproduce.table_file import load_table
from forgerank.reproduce.tables import Results, make_table, mean_and_deviation, write_table
from forgerank.types import InputError
from squares import tiny_settings, write_squares

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


@pytest.fixture
def table(squares: Path, tmp_path: Path) -> Path:
    """A table of two rows, of a size that takes seconds."""
    folder = tmp_path / "configs"
    folder.mkdir()
    tiny = tiny_settings(squares, tmp_path / "nowhere", model={"mask_head": False}, loss={"lambda_mask": 0.0})
    tiny["data"] |= {"mask_size": None, "val_images": 8}
    write(folder / "base.yaml", tiny | {"max_minutes": 7.0})
    write(folder / "sizes.yaml", {"small": {"max_minutes": None}})
    rows = {
        "with": {"title": "with Rank", "published": {"fixed_accuracy": 72.52}},
        "without": {"title": "without", "overrides": {"loss": {"lambda2": 0.0}}},
    }
    others = {"theirs": {"fixed_accuracy": 69.65}}
    settings = {"title": "Mine", "origin": "nowhere", "base": "base.yaml", "sizes": ["small"]}
    settings |= {"columns": ["fixed_accuracy", "auc"], "rows": rows, "others": others}
    write(folder / "mine.yaml", settings)
    return folder / "mine.yaml"


@pytest.fixture
def ask(table: Path, squares: Path, tmp_path: Path) -> Callable[..., Request]:
    """A request for that table over the squares."""

    def build(**changes: Any) -> Request:
        plain = {"table": table, "data": (squares,), "out": tmp_path / "out", "progress": False}
        return Request(**{**plain, **changes})

    return build


def write(path: Path, settings: dict[str, Any]) -> None:
    path.write_text(yaml.safe_dump(settings))


def no_run(*_: Any, **__: Any) -> None:
    raise AssertionError("a finished run was trained again")


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
    request = ask(images=16, seeds=2)
    path = make_table(request)
    text = path.read_text()
    measured = {
        row: [
            json.loads((request.out / f"runs/{row}/seed-{seed}/evaluation.json").read_text())
            for seed in (0, 1)
        ]
        for row in ("with", "without")
    }
    with path.with_suffix(".csv").open(newline="") as stream:
        rows = {(row["row"], row["figure"]): row for row in csv.DictReader(stream)}
    values = [100 * run["figures"]["fixed_accuracy"] for run in measured["with"]]
    cell = rows["with", "fixed_accuracy"]
    assert [float(value) for value in cell["values"].split()] == pytest.approx(values, abs=1e-4)
    assert float(cell["mean"]) == pytest.approx(np.mean(values), abs=1e-3)
    assert float(cell["deviation"]) == pytest.approx(np.std(values, ddof=1), abs=1e-3)
    assert (cell["paper"], cell["seeds"]) == ("72.52", "2")
    assert rows["", "fixed_accuracy"]["paper"] == "69.65"
    assert f"| with Rank | 72.52 | {np.mean(values):.1f} ± " in text
    assert "| theirs | 69.65 | - |" in text
    floor = 100 * measured["with"][0]["figures"]["all_none_floor"]
    assert f"throughout | - | {floor:.1f} ±" in text
    assert [run["facts"]["pictures"] for row in measured.values() for run in row] == [16] * 4
    facts = measured["with"][0]["facts"]
    assert (facts["split"], facts["whole_images"], facts["aligned"]) == ("val", 0, True)
    assert f"whole image, resized: 0 of {facts['evaluated']} images (no face was found in them)" in text
    assert str(request.out) not in text

    monkeypatch.setattr(runs, "run", no_run)
    before = path.read_text()
    # Settings that do not change the result train nothing anew.
    assert make_table(replace(request, overrides=("threads=2", "data.workers=1"))).read_text() == before
    # An evaluation that was written before a metric had its present name.
    numbers = path.with_suffix(".csv").read_text()
    kept = request.out / "runs/with/seed-0/evaluation.json"
    assert '"component_ap"' in kept.read_text()
    kept.write_text(kept.read_text().replace('"component_ap"', '"component_map"'))
    assert make_table(request).with_suffix(".csv").read_text() == numbers
    with pytest.raises(InputError, match="see 16 images"):
        make_table(ask(images=64))
    with pytest.raises(InputError, match=r"another loss\.tau"):
        make_table(ask(images=16, overrides=("loss.tau=0.2",)))


def test_table_2_is_tested_on_the_other_data_sets(tmp_path: Path) -> None:
    data = tmp_path / "data"
    binary_squares(data / "faceforensics", {"train": 16, "val": 8, "test": 16})
    binary_squares(data / "celebdf", {"train": 16, "val": 8, "test": 12})
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
        CONFIGS / "table2.yaml",
        (data,),
        tmp_path / "out",
        seeds=1,
        rows=("swin", "swin-celebdf", "xception"),
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
    own = json.loads((request.out / "runs/swin-celebdf/seed-0/evaluation.json").read_text())
    assert (own["facts"]["evaluated"], own["facts"]["cross"]) == (12, {})
    assert re.search(r"\| Ours \| Swin \| 99\.82 \| [\d.]+ \| 99\.98 \| [\d.]+ \| 91\.56 \| [\d.]+ \|", text)
    assert "| ours, Swin | 99.82 | " in text
    assert "Not applied, as these data do not offer it: self_blends, val_share." in text
    assert "whole image, resized: 12 of 12, 16 of 16 images (alignment is off)" in text


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_a_table_shows_every_number_as_printed(number: int, tmp_path: Path) -> None:
    table = load_table(CONFIGS / f"table{number}.yaml")
    assert table.printed is not None
    request = Request(CONFIGS / f"table{number}.yaml", (tmp_path,), tmp_path, progress=False)
    write_table(request, table, None, Results())
    printed = (tmp_path / "table.md").read_text().partition("## Every metric")[0]
    _, _, *lines = [line for line in printed.splitlines() if line.startswith("|")]
    assert len(lines) == len(table.printed.lines)
    for shown, line in zip(lines, table.printed.lines, strict=True):
        method, *cells = [cell.strip() for cell in shown.strip("|").split("|")]
        assert method == line.method
        published = cells[len(cells) - 2 * len(line.values) :: 2]
        assert published == ["-" if value is None else f"{value:.2f}" for value in line.values]


def test_what_is_measured_stands_beside_what_is_printed(tmp_path: Path) -> None:
    table = load_table(CONFIGS / "table4.yaml")
    facts = dict.fromkeys((*tables.FACTS, "pictures_per_second"), 1)
    run = {"figures": {"r2/nose": 0.25, "fixed_accuracy": 0.5, "=1/auc": 0.5}, "skipped": {}, "facts": facts}
    request = Request(CONFIGS / "table4.yaml", (tmp_path,), tmp_path, progress=False)
    write_table(request, table, None, Results(runs={"ours": [run]}))
    text = (tmp_path / "table.md").read_text()
    assert "| Ours | 0.72 | 0.25 | 0.61 | - |" in text
    assert "R² in 0..1" in text
    with (tmp_path / "table.csv").open(newline="") as stream:
        rows = {(row["row"], row["figure"]): row for row in csv.DictReader(stream)}
    assert ("ours", "./=1/auc") in rows  # no formula
    row = rows["ours", "r2/nose"]
    assert (row["paper"], row["mean"]) == ("72.0", "25.0")  # the CSV is in percent throughout


def test_every_kind_of_labels_has_its_own_floor(tmp_path: Path) -> None:
    table = load_table(CONFIGS / "table1.yaml")
    facts = dict.fromkeys((*tables.FACTS, "pictures_per_second"), 1)
    runs = {
        row: [{"figures": {"all_none_floor": floor}, "skipped": {}, "facts": facts}]
        for row, floor in (("components-r34", 0.6), ("components-r50", 0.6), ("attributes-r34", 0.5))
    }
    request = Request(CONFIGS / "table1.yaml", (tmp_path,), tmp_path, progress=False)
    write_table(request, table, None, Results(runs=runs))
    text = (tmp_path / "table.md").read_text()
    assert "throughout, components | - | 60.0 ± 0.0 |" in text
    assert "throughout, attributes | - | 50.0 |" in text


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
    request = ask(images=16)
    config = row_config(request, load_table(request.table), "with", images=16)
    assert config is not None
    checkpoint = train_missing(config, progress=False)
    assert checkpoint.name == "best.ckpt"
    (config.output / "weights.json").unlink()  # killed between its last two files
    seen = []
    monkeypatch.setattr(runs, "run", lambda config, resume, progress: seen.append(resume))
    train_missing(config, progress=False)
    shutil.rmtree(config.output)
    train_missing(config, progress=False)
    assert seen == [True, False]


def test_a_finished_run_with_old_names_of_settings_is_used(
    ask: Callable[..., Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "run", no_run)
    request = ask(images=16)
    config = row_config(request, load_table(request.table), "with", images=16)
    assert config is not None
    settings = config.model_dump(mode="json")
    settings["average_decay"] = settings.pop("ema_decay")
    config.output.mkdir(parents=True)
    (config.output / "weights.json").touch()
    write(config.output / "config.yaml", settings)
    assert train_missing(config, progress=False).name == "weights.safetensors"
    settings["average_decay"] = 0.5
    write(config.output / "config.yaml", settings)
    with pytest.raises(InputError, match="another ema_decay"):
        train_missing(config, progress=False)


def test_the_budget_holds_equal_images_for_every_row(
    ask: Callable[..., Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    speeds = {"with": 10.0, "without": 40.0}
    monkeypatch.setattr(runs, "_probe", lambda request, table, row, minutes: speeds[row])
    request = ask(budget=60.0, seeds=3)
    plan = make_plan(request, load_table(request.table), ["with", "without"])
    assert plan is not None
    training = sum(3 * plan.images / speed for speed in speeds.values())
    assert training == pytest.approx(0.8 * 60 * 60, rel=0.001)
    assert plan.minutes_per_run == 10
    again = make_plan(ask(budget=20.0, seeds=1), load_table(request.table), ["with", "without"])
    assert again == plan == make_plan(ask(), load_table(request.table), ["with"])
    with pytest.raises(InputError, match=r"take 10\.0 minutes, not 5\.0"):
        make_plan(ask(budget=30.0, seeds=3), load_table(request.table), ["with", "without"])


def test_a_short_trial_measures_speed(ask: Callable[..., Request]) -> None:
    request = ask(budget=2.0, seeds=1)
    plan = make_plan(request, load_table(request.table), ["with"])
    assert plan is not None
    assert plan.images == int(0.8 * 120 * plan.probed["with"])
    assert not list((request.out / "probe").iterdir())


def test_no_run_begins_that_would_end_too_late(
    ask: Callable[..., Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = itertools.count(step=600)  # every look at the clock is ten minutes later
    monkeypatch.setattr(runs.time, "monotonic", lambda: float(next(ticks)))
    monkeypatch.setattr(tables, "train_missing", lambda config, progress: config.output)
    facts = dict.fromkeys((*tables.FACTS, "pictures_per_second"), 1)
    monkeypatch.setattr(
        tables, "measure_run", lambda *_, **__: {"figures": {}, "skipped": {}, "facts": facts}
    )
    text = make_table(ask(budget=45.0, images=8)).read_text()
    assert "Left out: without: the budget was used up before seed 0" in text
    assert "| with Rank | 72.52 | - | - | 1.0 | 1 |" in text


def test_the_clock_counts_the_longest_run(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(runs.time, "monotonic", lambda: now[0])
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
    request = ask(images=16, seeds=1)
    content = yaml.safe_load(request.table.read_text())
    content["rows"]["without"]["overrides"] = {"data": {"vocabulary": "attributes"}}
    write(request.table, content)
    text = make_table(request).read_text()
    assert "Left out: without: no data with its labels." in text


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"rows": ("nobody",)}, "--rows nobody: the rows are with, without"),
        ({"overrides": ("seed=3",)}, "reproduce sets output, seed, name itself"),
        ({"overrides": ("loss.tau=-1",)}, "loss.tau: Input should be greater than 0"),
        ({"table": Path("nowhere.yaml")}, "nowhere.yaml: cannot be read"),
        ({"data": (Path("nowhere"),), "budget": 1.0}, "nowhere: holds no data for mine"),
    ],
)
def test_bad_requests_are_one_line(ask: Callable[..., Request], changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(InputError, match=reason) as caught:
        make_table(ask(**{"images": None if "budget" in changes else 16, **changes}))
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
    request = ask(images=16, seeds=1, rows=("with",))
    monkeypatch.setattr(
        tables, "train_missing", lambda config, progress: config.output / "weights.safetensors"
    )
    path = request.out / file
    path.parent.mkdir(parents=True)
    path.write_text(content)
    with pytest.raises(InputError, match=f"{path}.*{reason}") as caught:
        make_table(request)
    assert "\n" not in str(caught.value)


def test_one_value_has_no_spread() -> None:
    assert mean_and_deviation([0.5])[0] == 0.5
    assert np.isnan([*mean_and_deviation([]), mean_and_deviation([0.5])[1]]).all()
