import csv
from pathlib import Path

import pytest
import yaml

from forgerank.data.prepare.face_crops import CutConfig
from forgerank.labels import COMPONENTS
from forgerank.losses.total import LossConfig
from forgerank.model.config import ModelConfig
from forgerank.reproduce.runs import Request, row_config
from forgerank.reproduce.table_file import choose_rows, load_run, load_table, row_values
from forgerank.reproduce.tables import NAMES
from forgerank.train.config import OptimConfig, load_config, load_values
from forgerank.types import InputError
from squares import tiny_settings

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
ROWS = {"table1": 6, "table2": 6, "table3": 6, "table4": 2, "baselines": 5, "alternatives": 9}
TABLES = [CONFIGS / f"{name}.yaml" for name in ROWS]
SHIPPED = [(path, row) for path in TABLES for row in load_table(path).rows]

PAPER = Path(__file__).with_name("paper.csv")  # every number of tables 1 to 4, as printed

# Of other papers, percent.
PUBLISHED = {
    "table1": {
        "SeqFakeFormer, components": {"adaptive_accuracy": 55.30},
        "DRN, attributes": {"adaptive_accuracy": 43.20},
        "SFGLA-Net, attributes": {"fixed_accuracy": 68.94, "adaptive_accuracy": 49.74},
    },
    "baselines": {
        "ours": {"fixed_accuracy": 74.54, "multi_label_accuracy": 84.12},
        "ours-pairwise": {},
        "multicls": {"fixed_accuracy": 69.65, "adaptive_accuracy": 50.57},
        "decoder": {"fixed_accuracy": 72.65, "adaptive_accuracy": 55.30},
        "queries": {"fixed_accuracy": 69.75, "adaptive_accuracy": 49.84},
    },
    "alternatives": {"paper": {"fixed_accuracy": 74.54, "multi_label_accuracy": 84.12}},
}
COUNTS = {"table1": 16, "table2": 0, "table3": 0, "table4": 0, "baselines": 8, "alternatives": 2}


# Fields that are of no use to the paper's network, or that Table 3 switches.
PASSIVE = {
    *(
        "kind",
        "components",
        "zoom",
        "fold_norm",
        "pool_first",
        "mask_head",
        "order_head",
        "spatial_attention",
    ),
    *("lambda_direct", "lambda_mask", "bce_u", "bce_v"),
}


TABLE2 = ("swin", "swin-plain", "swin-without-cls", "swin-celebdf", "xception")


def write(path: Path, content: object) -> None:
    path.write_text(yaml.safe_dump(content))


@pytest.fixture
def mine(squares: Path, tmp_path: Path) -> Path:
    """A table of two rows."""
    write(tmp_path / "base.yaml", tiny_settings(squares, tmp_path / "nowhere"))
    write(tmp_path / "sizes.yaml", {"small": {"batch_size": 4, "seed": 7}, "smaller": {"batch_size": 2}})
    rows = {"a": {"title": "A"}, "b": {"title": "B", "overrides": {"loss": {"tau": 0.3}, "output": "own"}}}
    content = {"title": "Mine", "origin": "nowhere", "base": "base.yaml", "sizes": ["small", "smaller"]}
    content |= {"columns": ["auc"], "rows": rows, "overrides": {"loss": {"tau": 0.2, "lambda2": 0.5}}}
    write(tmp_path / "mine.yaml", content)
    return tmp_path / "mine.yaml"


def test_every_number_of_the_paper_is_in_its_table() -> None:
    """Table, method, backbone, column and value, one by one, and none that the paper does not print."""
    found, measured = {}, []
    for number in "1234":
        printed = load_table(CONFIGS / f"table{number}.yaml").printed
        assert printed is not None
        for line in printed.lines:
            for cell in printed.cells(line):
                key = (number, line.method, line.backbone, line.losses or cell.heading)
                assert key not in found
                measured += [(number, cell.row, cell.metric)] if cell.row else []
                if cell.value is not None:
                    found[key] = cell.value
    with PAPER.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == len(found) == 99
    assert len(measured) == len(set(measured))  # what is measured once stands in one cell
    assert found == {
        (row["table"], row["method"], row["backbone"], row["column"]): float(row["value"]) for row in rows
    }


def test_a_row_knows_what_the_paper_prints_of_it() -> None:
    table1, table4 = (load_table(CONFIGS / f"{name}.yaml") for name in ("table1", "table4"))
    r34 = {"multi_label_accuracy": 82.31, "fixed_accuracy": 73.72}
    assert table1.published("components-r34") == r34
    assert table4.published("multicls")["r2/eye"] == 38  # percent, printed as 0.38


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.stem)
def test_the_metrics_of_other_papers(path: Path) -> None:
    table = load_table(path)
    published = {name: row.published for name, row in table.rows.items()} | table.others
    expected = PUBLISHED.get(path.stem, {})
    assert {name: published[name] for name in expected} == expected
    assert sum(map(len, published.values())) == COUNTS[path.stem]
    metrics = [metric for row in table.rows for metric in table.published(row)]
    assert {*metrics, *(metric for values in table.others.values() for metric in values)} <= set(
        table.columns
    )


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ({"method": "A", "values": [1.0]}, "A: needs a value for each of 2 columns"),
        ({"method": "A", "values": [1.0, 2.0], "rows": ["a", "c"]}, "no row is called c"),
    ],
)
def test_a_printed_table_that_does_not_fit_is_one_line(mine: Path, line: object, reason: str) -> None:
    content = yaml.safe_load(mine.read_text())
    write(mine, content | {"printed": {"columns": {"AUC": "auc", "cross": "cdf/auc"}, "lines": [line]}})
    with pytest.raises(InputError, match=reason) as caught:
        load_table(mine)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("path", "row"), SHIPPED, ids=lambda value: getattr(value, "stem", value))
def test_shipped_rows_are_valid_at_both_sizes(path: Path, row: str, squares: Path) -> None:
    config = load_run(path, row)
    assert config.name == f"{path.stem}-{row}"
    assert config.output == Path("runs", path.stem, row)
    attributes = config.data.vocabulary == "attributes"
    request = Request(path, (squares / "nothing" if attributes else squares,), Path("out"), images=64)
    small = row_config(request, load_table(path), row, images=64)
    if small is None:
        assert attributes or load_table(path).rows[row].folder
        return
    # The size changes nothing that distinguishes the rows.
    assert small.loss == config.loss.model_copy(update={"k_points": None})
    assert (small.model.kind, small.model.prediction, small.model.order_head) == (
        config.model.kind,
        config.model.prediction,
        config.model.order_head,
    )
    assert (small.images_per_epoch, small.epochs, small.max_minutes) == (64, 1, None)
    assert small.model.backbone == (
        config.model.backbone if path.stem == "table1" else "tf_efficientnet_lite0"
    )


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.stem)
def test_rows_differ_and_columns_have_names(path: Path) -> None:
    table = load_table(path)
    assert len(table.rows) == ROWS[path.stem]
    configs = [load_run(path, row) for row in table.rows]
    assert len(
        {repr((c.model, c.loss, c.data.vocabulary, c.data.roots, c.data.options)) for c in configs}
    ) == len(configs)
    known = {*NAMES, *(f"r2/{name}" for name in COMPONENTS), *(f"{name}/auc" for name in table.cross)}
    assert set(table.columns) <= known


def test_every_shipped_table_is_tested() -> None:
    tables = {path.stem for path in CONFIGS.glob("*.yaml") if "rows" in yaml.safe_load(path.read_text())}
    assert tables == set(ROWS)


def test_academic_images_are_resized_and_forged_ones_aligned(squares: Path, tmp_path: Path) -> None:
    """The benchmark's images are crops already; those of the forge are photographs of any pose."""
    table = CONFIGS / "table1.yaml"
    assert not load_run(table, "components-r50").data.align
    forged = row_config(Request(table, (squares,), tmp_path, images=8), load_table(table), "components-r50")
    assert forged is not None
    assert forged.data.align
    (tmp_path / "annotations").mkdir()
    academic = Request(table, (tmp_path,), tmp_path, images=8)
    resized = row_config(academic, load_table(table), "components-r50")
    assert resized is not None
    assert not resized.data.align


def test_the_paper_s_settings_write_down_every_choice() -> None:
    """What the paper leaves open stands in the file, and no default of the program decides it."""
    written = load_values(CONFIGS / "paper.yaml")
    for group, keys in (
        ("model", ModelConfig.model_fields.keys() - PASSIVE),
        ("loss", LossConfig.model_fields.keys() - PASSIVE),
        ("optim", OptimConfig.model_fields.keys() - {"min_lr_factor", "frozen_stride", "sharpness"}),
    ):
        assert written[group].keys() == keys
    augment = written["data"]["augment"]
    assert [augment[name] for name in ("brightness", "contrast", "saturation")] == [
        [0.5, 1.3],
        [0.8, 1.5],
        [0.2, 1.5],
    ]
    assert (written["ema_decay"], written["data"]["align"]) == (0.999, False)


def test_table_3_switches_the_terms_as_the_paper() -> None:
    switched = []
    for number in range(1, 7):
        config = load_run(CONFIGS / "table3.yaml", f"model-{number}")
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
        row: load_run(CONFIGS / "table1.yaml", f"components-{row}").model.backbone for row in ("r34", "r50")
    }
    assert backbones == {"r34": "resnet34", "r50": "resnet50"}
    attributes = load_run(CONFIGS / "table1.yaml", "attributes-swin")
    assert attributes.model.backbone.startswith("swin")
    assert (attributes.data.vocabulary, attributes.data.roots[0].name) == ("attributes", "facial_attributes")
    binary = load_run(CONFIGS / "table2.yaml", "swin")
    assert (binary.model.components, binary.loss.lambda2, binary.model.input_size) == (1, 0, 384)
    assert (binary.data.dataset, binary.data.vocabulary) == ("prepared", "binary")
    assert not binary.data.align  # the 384 px of the crop are those that the network sees
    assert CutConfig().size == binary.model.input_size
    blended = {row: load_run(CONFIGS / "table2.yaml", row).data.options.get("self_blends") for row in TABLE2}
    assert blended == {"swin": 1, "swin-plain": 0, "swin-without-cls": 1, "swin-celebdf": 1, "xception": 0}


def test_a_row_lies_over_its_table_and_a_size_over_the_row(mine: Path) -> None:
    a, b = load_run(mine, "a"), load_run(mine, "b", ["seed=3"])
    assert [(run.loss.tau, run.loss.lambda2) for run in (a, b)] == [(0.2, 0.5), (0.3, 0.5)]
    assert [(run.name, run.output, run.seed) for run in (a, b)] == [
        ("mine-a", Path("runs/mine/a"), 0),
        ("mine-b", Path("own"), 3),
    ]
    small = row_values(mine, load_table(mine), "b", small=True)
    assert (small["batch_size"], small["seed"], small["loss"]["tau"]) == (2, 7, 0.3)


def test_a_settings_file_is_a_run_too(mine: Path) -> None:
    base = mine.with_name("base.yaml")
    assert load_run(base, overrides=["seed=3"]) == load_config(base, ["seed=3"])


@pytest.mark.parametrize(
    ("file", "row", "overrides", "reason"),
    [
        ("mine.yaml", None, (), r"mine\.yaml: is a table: add --row with one of a, b$"),
        ("mine.yaml", "c", (), "--row c: the rows are a, b$"),
        ("mine.yaml", "a", ("loss.tau=-1",), r"mine\.yaml: a: loss\.tau: Input should be greater than 0"),
        ("base.yaml", "a", (), r"--row a: .*base\.yaml is not a table$"),
        ("none.yaml", "a", (), r"none\.yaml: cannot be read"),
    ],
)
def test_runs_that_cannot_be_loaded_are_one_line(
    mine: Path, file: str, row: str | None, overrides: tuple[str, ...], reason: str
) -> None:
    with pytest.raises(InputError, match=reason) as caught:
        load_run(mine.with_name(file), row, overrides)
    assert "\n" not in str(caught.value)


def test_an_unknown_size_is_named(mine: Path) -> None:
    write(mine.with_name("sizes.yaml"), {"small": {}})
    with pytest.raises(InputError, match=r"sizes\.yaml: holds no size smaller"):
        row_values(mine, load_table(mine), "a", small=True)


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


@pytest.mark.parametrize(
    ("text", "reason"),
    [("a: [", "is not YAML"), ("title: x", "origin: Field required"), ("- 1", "valid dictionary")],
)
def test_a_broken_table(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "broken.yaml").write_text(text)
    with pytest.raises(InputError, match=reason):
        load_table(tmp_path / "broken.yaml")


def test_rows_keep_the_order_of_the_table(mine: Path) -> None:
    assert choose_rows(load_table(mine), ("b", "a")) == ["a", "b"]
    assert choose_rows(load_table(mine), ()) == ["a", "b"]
