"""What the documentation shows is run: README's Python and shell blocks, and the doctests of the source."""

import doctest
import importlib
import os
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as PILImage
from typer.testing import CliRunner

import forgerank
from forgerank.app.cli import app

ROOT = Path(__file__).resolve().parent.parent
SOURCE = Path(forgerank.__file__).parent
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[str]:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    return [code for found, code in BLOCK.findall(readme) if found == language]


def commands(*names: str) -> list[str]:
    """The README's `forgerank` lines for some commands, prompts removed, once each."""
    lines = [
        line.removeprefix("$ ") for code in blocks("bash") + blocks("console") for line in code.splitlines()
    ]
    wanted = tuple(f"forgerank {name}" for name in names)
    return list(dict.fromkeys(line for line in lines if line.startswith(wanted)))


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, astronaut: NDArray[np.uint8]) -> Path:
    """A folder with the pictures that the README speaks of."""
    (tmp_path / "holiday").mkdir()
    for name in ("portrait.jpg", "holiday/one.jpg"):
        PILImage.fromarray(astronaut).save(tmp_path / name, quality=92)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("code", blocks("python"))
@pytest.mark.usefixtures("workplace")
def test_python_blocks_run(code: str) -> None:
    exec(compile(code, "README.md", "exec"), {"__name__": "readme"})


@pytest.mark.parametrize("line", commands("detect", "faces"))
@pytest.mark.usefixtures("workplace")
def test_shell_lines_run(line: str) -> None:
    result = CliRunner().invoke(app, shlex.split(line.split("|")[0], comments=True)[1:])
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("line", commands("forge", "train", "evaluate", "export"))
def test_long_commands_are_at_least_spelled_right(line: str) -> None:
    words = shlex.split(line, comments=True)
    shown = CliRunner().invoke(app, [words[1], "--help"], env={"COLUMNS": "200"}).output
    for option in (word.split("=")[0] for word in words if word.startswith("--")):
        assert re.search(rf"{option}\b", shown), option


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for line in "".join(blocks("bash") + blocks("console")).splitlines():
        if line.removeprefix("$ ").startswith("make "):
            target = line.removeprefix("$ ").split()[1]
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


@pytest.mark.parametrize(
    "path",
    [path for path in sorted(SOURCE.rglob("*.py")) if ">>> " in path.read_text(encoding="utf-8")],
    ids=lambda path: str(path.relative_to(SOURCE)),
)
def test_doctests(path: Path) -> None:
    name = ".".join(["forgerank", *path.relative_to(SOURCE).with_suffix("").parts]).removesuffix(".__init__")
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize("name", sorted(os.listdir(ROOT / "docs")))
def test_documents_link_to_what_exists(name: str) -> None:
    path = ROOT / "docs" / name
    if path.suffix == ".md":
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
            assert (path.parent / target).exists(), target
