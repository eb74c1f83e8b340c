"""What the documentation shows is run: Python and shell blocks of README and docs, doctests of the source.

Blocks marked `py` instead of `python` are left alone: they need a connection or hours.
"""

import doctest
import importlib
import importlib.util
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as PILImage
from typer.testing import CliRunner

import forgerank
from forgerank.cli.main import app
from forgerank.weights.description import ASSETS
from test_layers import LEVELS
from videos import first_person, write_video

ROOT = Path(__file__).resolve().parent.parent
SOURCE = Path(forgerank.__file__).parent
INVENTED = {"configs/NAME.yaml"}  # paths that a page makes up
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
CONTRIBUTING = ROOT / "CONTRIBUTING.md"
PAGES = [ROOT / "README.md", CONTRIBUTING, *sorted((ROOT / "docs").rglob("*.md"))]


def page_name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path, language: str) -> list[str]:
    return [code for found, code in BLOCK.findall(page.read_text(encoding="utf-8")) if found == language]


def shell_lines() -> list[str]:
    """Every line of a shell block, continued ones joined, prompts and comments removed, once each."""
    codes = [code for page in PAGES for code in blocks(page, "bash") + blocks(page, "console")]
    codes = [code.replace("\\\n", " ") for code in codes]
    lines = [line.removeprefix("$ ").partition(" # ")[0] for code in codes for line in code.splitlines()]
    return list(dict.fromkeys(line.strip() for line in lines))


def commands(*names: str) -> list[str]:
    """The `forgerank` lines for some commands."""
    wanted = tuple(f"forgerank {name} " for name in names)
    return [line for line in shell_lines() if f"{line} ".startswith(wanted)]


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, astronaut: NDArray[np.uint8]) -> Path:
    """A folder with the images and the weights that the pages speak of."""
    (tmp_path / "holiday").mkdir()
    (tmp_path / "weights").symlink_to(ASSETS)
    for name in ("portrait.jpg", "holiday/one.jpg"):
        PILImage.fromarray(astronaut).save(tmp_path / name, quality=92)
    write_video(tmp_path / "clip.mp4", [first_person(astronaut)] * 20)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=page_name)
@pytest.mark.usefixtures("workplace")
def test_python_blocks_run(page: Path) -> None:
    names = {"__name__": "page"}
    for code in blocks(page, "python"):
        exec(compile(code, page.name, "exec"), names)


@pytest.mark.parametrize("line", commands("detect", "faces"))
@pytest.mark.usefixtures("workplace")
def test_shell_lines_run(line: str) -> None:
    result = CliRunner().invoke(app, shlex.split(line.split("|")[0], comments=True)[1:])
    assert result.exit_code == 0, result.output


LONG = (
    "forge",
    "train",
    "curve",
    "evaluate",
    "export",
    "reproduce",
    "card",
    "push",
    "data",
    "serve",
    "keys",
    "scan",
    "summarize",
)


@pytest.mark.parametrize("line", commands(*LONG))
def test_long_commands_are_at_least_spelled_right(line: str) -> None:
    words = shlex.split(line, comments=True)[1:]
    command = words[: 2 if words[0] == "data" else 1]
    shown = CliRunner().invoke(app, [*command, "--help"], env={"COLUMNS": "200"})
    assert shown.exit_code == 0, shown.output
    for option in (word.split("=")[0] for word in words if word.startswith("--")):
        assert re.search(rf"{option}\b", shown.output), option


def test_no_command_is_left_out() -> None:
    known = ("detect", "faces", *LONG)
    assert [
        line for line in shell_lines() if line.startswith("forgerank") and line not in commands(*known)
    ] == []


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for line in shell_lines():
        if line.startswith("make "):
            assert re.search(rf"^{line.split()[1]}:", makefile, re.MULTILINE), line


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


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_pages_link_to_what_exists(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


def test_images_are_what_their_command_makes() -> None:
    """Those that show the network's answers are only looked for: they change with the weights."""
    spec = importlib.util.spec_from_file_location("images", ROOT / "docs" / "images.py")
    assert spec is not None
    assert spec.loader is not None
    command = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(command)
    assert {path.name for path in command.FOLDER.iterdir()} == set(command.MAKERS)
    for name in ("faces.jpg", "judgeable.jpg"):
        made = np.asarray(command.MAKERS[name]().convert("RGB"), dtype=float)
        with PILImage.open(command.FOLDER / name) as committed:
            assert np.abs(made - np.asarray(committed, dtype=float)).mean() < 5, name


def test_the_tour_names_every_room_in_the_order_of_imports() -> None:
    rooms = re.findall(r"^\| `([a-z]+)(?:\.py|/)` \|", CONTRIBUTING.read_text(encoding="utf-8"), re.MULTILINE)
    assert set(rooms) == set(LEVELS) - {"", "__main__"}
    assert rooms == sorted(rooms, key=LEVELS.__getitem__)  # stable: equal levels keep their order


@pytest.mark.parametrize("page", [page for page in PAGES if "results" not in page.parts], ids=page_name)
def test_paths_of_the_repository_exist(page: Path) -> None:
    """Results are left out: they name what was there when they were measured."""
    text = page.read_text(encoding="utf-8")
    paths = re.findall(r"`((?:src|tests|configs|docs|benchmarks|examples)/[\w./-]+)`", text)
    assert [path for path in paths if not (ROOT / path).exists() and path not in INVENTED] == []


def test_the_three_questions_are_answered_by_what_is_there() -> None:
    text = CONTRIBUTING.read_text(encoding="utf-8")
    for question, content in (
        ("Eq. 9", r'"""Eq\. 9'),
        ("AUC", r"detection\.auc\("),
        ("forgerank.json", "def read_description"),
    ):
        (path,) = re.findall(rf"^- .*{re.escape(question)}.*\? `(\S+)`$", text, re.MULTILINE)
        assert re.search(content, (ROOT / path).read_text(encoding="utf-8")), path
