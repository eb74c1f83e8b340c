"""The site builds without a warning and asks nobody else for anything."""

import inspect
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from shutil import copytree
from types import ModuleType
from urllib.parse import urlsplit

import pytest

from forgerank import api, types
from forgerank.data.formats.folder import read_folder
from forgerank.data.prepare.pack_writer import load_recipe
from forgerank.detect import result
from forgerank.losses import total
from forgerank.report import entries
from forgerank.reproduce.table_file import load_table, row_values
from forgerank.train.config import load_config, parse_config

ROOT = Path(__file__).resolve().parent.parent
TUTORIAL = ROOT / "docs" / "tutorials" / "new-loss.md"
DATA_SET = ROOT / "docs" / "tutorials" / "own-data-set.md"
TABLES = ROOT / "docs" / "reproduce.md"
YAML = re.compile(r"^```yaml[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
TITLED = re.compile(r'^```(\w+) title="([^"]+)"\n(.*?)^```', re.MULTILINE | re.DOTALL)


class Requests(HTMLParser):
    """What a browser fetches by itself when it opens a page."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "link" and values.get("rel") not in ("canonical", "next", "prev"):
            self.addresses.append(values.get("href") or "")
        elif tag != "a":
            self.addresses += [values[name] or "" for name in ("src", "srcset", "data") if name in values]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site; a connection to anywhere would fail."""
    folder = tmp_path_factory.mktemp("site")
    nowhere = "http://127.0.0.1:9"
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "HTTP_PROXY": nowhere, "HTTPS_PROXY": nowhere}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return folder


def test_pages_fetch_nothing_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 10
    found: dict[str, list[str]] = {}
    for page in pages:
        parser = Requests()
        parser.feed(page.read_text(encoding="utf-8"))
        found[page.name] = [url for url in parser.addresses if urlsplit(url).netloc]
    for sheet in site.rglob("*.css"):
        urls = re.findall(r"""(?:url\(|@import)\s*["']?([^"')]+)""", sheet.read_text(encoding="utf-8"))
        found[sheet.name] = [url for url in urls if urlsplit(url).netloc]
    assert {name: urls for name, urls in found.items() if urls} == {}


def test_equations_and_doctests_are_rendered(site: Path) -> None:
    method = (site / "method.html").read_text(encoding="utf-8")
    written = (ROOT / "docs" / "method.md").read_text(encoding="utf-8").count("```math")
    assert method.count('display="block"') == written > 5
    networks = (site / "api" / "networks.html").read_text(encoding="utf-8")
    assert "forgery_gap" in networks
    assert "<blockquote>" not in networks


@pytest.mark.parametrize("module", [api, result, types, entries])
def test_the_reference_has_constructors_and_every_field(site: Path, module: ModuleType) -> None:
    page = (site / "api" / "detection.html").read_text(encoding="utf-8")
    ids = set(re.findall(r'id="(forgerank\.[\w.]+)"', page))
    for name, made in vars(module).items():
        if name.startswith("_") or getattr(made, "__module__", "") != module.__name__:
            continue
        if isinstance(made, type):
            names = [*getattr(made, "__dataclass_fields__", ()), *getattr(made, "model_fields", ())]
            wanted = {f"{module.__name__}.{name}{field and '.' + field}" for field in ("", *names)}
            assert wanted - ids == set()
    if module is api:
        start = page.index('id="forgerank.api.Detector"')
        text = re.sub(r"<[^>]+>", "", page[start : page.index('id="forgerank.api.Detector.detect"')])
        for option in inspect.signature(api.Detector).parameters:
            assert re.search(rf"\b{option}\s*:", text), option


def titled(page: Path = TUTORIAL) -> dict[str, str]:
    """A tutorial's files by their paths."""
    return {title: code for _, title, code in TITLED.findall(page.read_text(encoding="utf-8"))}


def test_the_files_of_the_tutorial_on_a_data_set_load(tmp_path: Path) -> None:
    copytree(ROOT / "configs", tmp_path / "configs")
    for name, content in titled(DATA_SET).items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    recipe = load_recipe(tmp_path / "configs" / "mine-pack.yaml")
    config = load_config(tmp_path / "configs" / "mine.yaml")
    assert {root for source in config.data.sources for root in source.roots} == {Path("packs/mine")}
    assert config.init_from is not None
    assert (ROOT / config.init_from).is_file()
    assert config.model == load_config(ROOT / "configs" / "default.yaml").model  # so that the weights fit
    text = DATA_SET.read_text(encoding="utf-8")
    (table,) = re.findall(r"^```csv\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    (tmp_path / "labels.csv").write_text(table, encoding="utf-8")
    samples = read_folder(tmp_path, length=len(config.data.labels))
    assert {sample.split for sample in samples} <= set(recipe.sources[0].splits)


def test_the_tutorials_loss_passes_its_test(monkeypatch: pytest.MonkeyPatch) -> None:
    files = titled()
    module = ModuleType("forgerank.losses.margin")
    exec(compile(files["src/forgerank/losses/margin.py"], "margin.py", "exec"), module.__dict__)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    tests: dict[str, object] = {"__name__": "test_margin"}
    exec(compile(files["tests/losses/test_margin.py"], "test_margin.py", "exec"), tests)
    for scale in (0.0, 1.0, 1e4):
        tests["test_against_loops"](scale)  # type: ignore[operator]
    for name in ("test_real_images_have_no_order", "test_gradient"):
        tests[name]()  # type: ignore[operator]


def test_the_tutorials_change_fits_the_source() -> None:
    source = Path(total.__file__).read_text(encoding="utf-8").splitlines()
    for line in titled()["src/forgerank/losses/total.py"].splitlines():
        assert line[0] in "+- "
        assert line[0] == "+" or line[1:] in source, line


@pytest.mark.parametrize(
    ("page", "rows"), [(TUTORIAL, ["paper", "pairwise", "margin"]), (TABLES, ["plain", "sharp"])]
)
def test_the_tables_of_the_pages_load(page: Path, rows: list[str], tmp_path: Path) -> None:
    text = page.read_text(encoding="utf-8")
    path = copytree(ROOT / "configs", tmp_path / "configs") / "mine.yaml"
    path.write_text(next(code for code in YAML.findall(text) if "\nrows:" in code), encoding="utf-8")
    table = load_table(path)
    assert list(table.rows) == rows
    for row in rows:
        for small in (False, True):
            values = row_values(path, table, row, small=small)
            if values["loss"].get("direct") == "margin":  # the tutorial's own
                values["loss"]["direct"] = "pairwise"
            assert parse_config(values, row).name == f"mine-{row}"
