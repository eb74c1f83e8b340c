"""The site builds without a warning and asks nobody else for anything."""

import os
import re
import subprocess
import sys
import types
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from forgerank.losses import total
from forgerank.reproduce.experiments import load_experiment

ROOT = Path(__file__).resolve().parent.parent
TUTORIAL = ROOT / "docs" / "tutorials" / "new-loss.md"
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


def titled() -> dict[str, str]:
    """The tutorial's files by their paths."""
    return {title: code for _, title, code in TITLED.findall(TUTORIAL.read_text(encoding="utf-8"))}


def test_the_tutorials_loss_passes_its_test(monkeypatch: pytest.MonkeyPatch) -> None:
    files = titled()
    module = types.ModuleType("forgerank.losses.margin")
    exec(compile(files["src/forgerank/losses/margin.py"], "margin.py", "exec"), module.__dict__)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    tests: dict[str, object] = {"__name__": "test_margin"}
    exec(compile(files["tests/losses/test_margin.py"], "test_margin.py", "exec"), tests)
    for scale in (0.0, 1.0, 1e4):
        tests["test_against_loops"](scale)  # type: ignore[operator]
    for name in ("test_real_pictures_have_no_order", "test_gradient"):
        tests[name]()  # type: ignore[operator]


def test_the_tutorials_change_fits_the_source() -> None:
    source = Path(total.__file__).read_text(encoding="utf-8").splitlines()
    for line in titled()["src/forgerank/losses/total.py"].splitlines():
        assert line[0] in "+- "
        assert line[0] == "+" or line[1:] in source, line


def test_the_tutorials_table_loads(tmp_path: Path) -> None:
    for path, text in titled().items():
        if path.startswith("configs/margin/"):
            (tmp_path / Path(path).name).write_text(text)
    rows = load_experiment(tmp_path).rows
    assert set(rows) == {"paper", "pairwise", "margin"}
    for row in rows:
        base = yaml.safe_load((tmp_path / f"{row}.yaml").read_text())["base"]
        assert (ROOT / "configs" / "margin" / base).resolve().is_file()
