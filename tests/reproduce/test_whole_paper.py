"""Every table and figure of the paper, from generated copies of its data's layouts, with tiny networks."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as PILImage
from typer.testing import CliRunner

pytest.importorskip("torch")

import layouts
from forgerank.cli.main import app
from forgerank.reproduce.table_file import load_table
from squares import write_squares

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning"),
]

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
TINY = {
    **{"model.backbone": "test_resnet.r160_in1k", "model.pretrained": "false", "model.fold_norm": "false"},
    **{"model.input_size": "64", "model.width": "32", "model.layers": "1", "model.heads": "2"},
    **{"batch_size": "8", "data.workers": "0", "precision": "32-true", "accelerator": "cpu"},
    **{"threads": "1", "log_steps": "1"},
}
VIDEOS = {  # folder that `reproduce` looks for: reader and layout
    "faceforensics": ("faceforensics", layouts.write_faceforensics),
    "celebdf": ("celebdf", layouts.write_celebdf),
    "wilddeepfake": ("wilddeepfake", layouts.write_wilddeepfake),
    "dfdc": ("dfdcpreview", layouts.write_dfdc_preview),
    "dfd": ("dfd", layouts.write_dfd),
}


def call(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, (result.exception, result.output)
    return result.stdout


@pytest.fixture(scope="module")
def sequences(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seq-DeepFake: no facial points, as published, and no face that could be found."""
    root = tmp_path_factory.mktemp("data") / "Seq-DeepFake"
    for seed, name in enumerate(("facial_components", "facial_attributes")):
        write_squares(root / name, {"train": 48, "val": 16, "test": 24}, seed)
        for folder in ("records", "masks"):
            shutil.rmtree(root / name / folder)
    return root


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, astronaut: NDArray[np.uint8]) -> Path:
    """The five video sets, of which `data prepare` has cut the faces."""
    root = tmp_path_factory.mktemp("videos")
    for folder, (reader, write) in VIDEOS.items():
        (root / "raw" / folder).mkdir(parents=True)
        write(root / "raw" / folder, face=np.ascontiguousarray(astronaut[20:200, 130:310]))
        out = ("--out", root / "prepared" / folder, "--frames", 2, "--size", 64)
        assert "faces found by blazeface" in call("data", "prepare", reader, root / "raw" / folder, *out)
    return root / "prepared"


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("out")


def reproduce(what: str, data: Path, out: Path) -> str:
    tiny = [part for key, value in TINY.items() for part in ("--set", f"{key}={value}")]
    size = ("--pictures", 16, "--seeds", 1, "--configs", CONFIGS)
    return call("reproduce", what, "--data", data, "--out", out, *size, *tiny)


@pytest.mark.parametrize("name", ["table1", "table2", "table3", "table4"])
def test_a_table_runs_through(name: str, request: pytest.FixtureRequest, out: Path) -> None:
    data = request.getfixturevalue("prepared" if name == "table2" else "sequences")
    text = reproduce(name, data, out)
    table = load_table(CONFIGS / f"{name}.yaml")
    assert table.printed is not None
    assert "Left out" not in text
    assert "Not tested on" not in text
    assert "(alignment is off)" in text
    assert ("Faces cut by: blazeface (celebdf)" in text) == (name == "table2")
    with (out / name / "table.csv").open(newline="") as stream:
        rows = {(row["row"], row["figure"]): row for row in csv.DictReader(stream)}
    for line in table.printed.lines:
        for cell in line.rows and table.printed.cells(line):
            if cell.row is not None:  # R² is undefined where a component is in one place only
                assert rows[cell.row, cell.metric]["mean"] or cell.metric.startswith("r2/"), cell


@pytest.mark.parametrize("name", ["figure3", "figure4", "figure5"])
def test_a_figure_runs_through(name: str, request: pytest.FixtureRequest, out: Path) -> None:
    data = request.getfixturevalue("prepared" if name == "figure5" else "sequences")
    path = Path(reproduce(name, data, out).strip().splitlines()[-1])
    assert path == out / name / f"{name}.png"
    with PILImage.open(path) as image:
        assert min(image.size) > 300
    with path.with_suffix(".csv").open(newline="") as stream:
        runs = {row["run"] for row in csv.DictReader(stream)}
    assert len(runs) == {"figure3": 2, "figure4": 3, "figure5": 2}[name]


def test_figures_of_whatever_data_are_given(sequences: Path, prepared: Path, out: Path) -> None:
    """Figure 3 of binary data, Figure 5 of components."""
    assert reproduce("figure3", prepared, out / "binary")
    assert reproduce("figure5", sequences, out / "components")
