"""Data flows one way, and what the base install lacks is never imported before it is needed."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import forgerank

PACKAGE = Path(forgerank.__file__).parent

# A module may import from lower levels and from its own package.
LEVELS = {
    "": 0, "types": 0, "labels": 0, "extras": 0, "files": 0, "limits": 0, "processes": 0,
    "media": 1,
    "faces": 2,
    "forge": 3,
    "weights": 4,
    "data": 5, "detect": 5,
    "model": 6, "report": 6,
    "losses": 7, "judging": 7,
    "metrics": 8, "api": 8,
    "train": 9,
    "evaluation": 10,
    "export": 11, "reproduce": 11,
    "serving": 12,
    "cli": 13, "__main__": 14,
}  # fmt: skip

BASE = {
    "", "types", "labels", "extras", "files", "limits", "processes", "media", "faces", "weights", "detect",
    "report", "judging", "api", "cli",
}  # fmt: skip
# Of `weights`, what a shared network needs beside its description.
NEEDS_TORCH = {"weights/hub.py"}
NOT_IN_BASE = {
    "torch", "torchvision", "timm", "lightning", "torchmetrics", "cv2", "skimage", "sklearn", "scipy", "onnx",
    "onnxscript", "safetensors", "tensorboard", "av", "pyarrow", "imagehash", "webdataset", "huggingface_hub",
    "matplotlib", "pytorch_grad_cam", "fastapi", "uvicorn", "starlette", "sqlalchemy", "alembic", "psycopg",
    "prometheus_client", "ray", "fsspec", "s3fs", "c2pa",
}  # fmt: skip
MODULES = sorted(PACKAGE.rglob("*.py"))


def area(dotted: str) -> str:
    """forgerank.weights.description -> weights; forgerank -> the empty string."""
    return [*dotted.split("."), ""][1]


def imports(node: ast.AST, *, lazy: bool = False) -> Iterator[tuple[str, bool]]:
    """Absolute names of imported modules and whether the import waits inside a function."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        if isinstance(child, ast.Import):
            yield from ((name.name, lazy) for name in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, "imports are absolute here"
            assert child.module is not None
            yield child.module, lazy
            # what is imported may be a module itself
            yield from (
                (f"{child.module}.{name.name}", lazy)
                for name in child.names
                if is_module(child.module, name.name)
            )
        else:
            waits = lazy or isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
            yield from imports(child, lazy=waits)


def is_module(package: str, name: str) -> bool:
    if package.split(".")[0] != "forgerank":
        return False
    path = PACKAGE.joinpath(*package.split(".")[1:], name)
    return path.with_suffix(".py").is_file() or path.is_dir()


def imports_of(path: Path) -> list[tuple[str, bool]]:
    return list(imports(ast.parse(path.read_text(encoding="utf-8"))))


def area_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return "" if parts == ("__init__",) else parts[0]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_one_way(path: Path) -> None:
    own = area_of(path)
    for name, _ in imports_of(path):
        if name.split(".")[0] != "forgerank" or area(name) == own:
            continue
        assert LEVELS[area(name)] < LEVELS[own] or LEVELS[own] == 0 == LEVELS[area(name)], (
            f"{own} imports {name}"
        )


def test_no_module_imports_itself_through_others() -> None:
    names = {
        ".".join(("forgerank", *path.relative_to(PACKAGE).with_suffix("").parts)): path for path in MODULES
    }
    names = {name.removesuffix(".__init__"): path for name, path in names.items()}
    reached = {
        name: {found for found, _ in imports_of(path) if found in names and found != name}
        for name, path in names.items()
    }
    with pytest.raises(CycleError):  # the sorter would find one
        TopologicalSorter({**reached, "forgerank.types": {"forgerank.cli.main"}}).prepare()
    TopologicalSorter(reached).prepare()


@pytest.mark.parametrize(
    "path",
    [path for path in MODULES if area_of(path) in BASE and str(path.relative_to(PACKAGE)) not in NEEDS_TORCH],
    ids=lambda path: str(path.relative_to(PACKAGE)),
)
def test_the_base_needs_no_extra_at_import_time(path: Path) -> None:
    for name, lazy in imports_of(path):
        if not lazy:
            assert name.split(".")[0] not in NOT_IN_BASE
            assert name.split(".")[0] != "forgerank" or area(name) in BASE


def test_every_module_has_a_level() -> None:
    assert {area_of(path) for path in MODULES} <= set(LEVELS)


BLOCKED = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {names!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocked())
import forgerank, forgerank.detect, forgerank.report.html, forgerank.report.schema
from forgerank.cli.main import main
sys.argv = ["forgerank", *{arguments!r}]
main()
"""


def run_in_base_install(*arguments: str) -> subprocess.CompletedProcess[str]:
    code = BLOCKED.format(names=NOT_IN_BASE, arguments=arguments)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_the_program_starts_without_extras() -> None:
    done = run_in_base_install("--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "detect" in done.stdout


def test_a_photograph_is_judged_without_extras(tiny_weights: Path, tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (80, 80)).save(tmp_path / "black.png")
    done = run_in_base_install(
        *("detect", str(tmp_path / "black.png"), "--weights", str(tiny_weights)),
        *("--html", str(tmp_path / "r.html"), "--json", "-"),
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert '"no face found"' in done.stdout


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["train", "c.yaml"], 'forgerank: this needs PyTorch: pip install "forgerank[train]"'),
        (["serve"], 'forgerank: this needs FastAPI: pip install "forgerank[serve]"'),
        (["serve", "--web"], 'forgerank: this needs scikit-image: pip install "forgerank[web]"'),
        (["forge", ".", "--out", "o"], 'forgerank: this needs OpenCV: pip install "forgerank[forge]"'),
    ],
)
def test_a_missing_extra_is_one_line(arguments: list[str], line: str) -> None:
    done = run_in_base_install(*arguments)
    assert (done.returncode, done.stderr.splitlines()) == (2, [line])
