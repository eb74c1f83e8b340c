"""Nothing is sent or left behind: every command under a filter that ends whoever makes a connection."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import typer
import yaml
from numpy.typing import NDArray
from PIL import Image

import layouts
from forgerank.cli.main import app
from forgerank.train.curve import COLUMNS
from packs import recipe_of
from squares import tiny_settings

# Python imports it at its start. Linux's filter of system calls holds for native threads and for every child;
# elsewhere an audit hook sees what Python does.
SITE = """
import ctypes, os, platform, struct, sys

CALLS = {"x86_64": (0xC000003E, 42), "aarch64": (0xC00000B7, 203)}  # the architecture's number, connect's


def hook(event, arguments):
    if event == "socket.connect" and arguments[0].family.name != "AF_UNIX":
        os._exit(99)


if sys.platform == "linux" and platform.machine() in CALLS:
    architecture, connect = CALLS[platform.machine()]
    load, equal, done = 0x20, 0x15, 0x06
    kill, allow = 0x80000000, 0x7FFF0000
    program = [  # what to do, steps to go on by where it is so and where not, value
        (load, 0, 0, 4),
        (equal, 0, 3, architecture),
        (load, 0, 0, 0),
        (equal, 0, 1, connect),
        (done, 0, 0, kill),
        (done, 0, 0, allow),
    ]
    steps = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in program))
    described = struct.pack("HxxxxxxP", len(program), ctypes.addressof(steps))
    libc = ctypes.CDLL(None)
    if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, described, 0, 0):
        sys.exit("no filter of system calls")
else:
    sys.addaudithook(hook)
"""


OWN = ("XDG_", "ORT_", "TORCHINDUCTOR_")  # variables that the program sets itself, or that move its folders


class Offline:
    """Runs the program with a home and a folder for temporary files of its own."""

    def __init__(self, folder: Path) -> None:
        self.home, self.temporary, site = folder / "home", folder / "tmp", folder / "site"
        for path in (self.home, self.temporary, site):
            path.mkdir(parents=True)
        (site / "sitecustomize.py").write_text(SITE, encoding="utf-8")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(OWN)}
        paths = [str(site), *filter(None, [os.environ.get("PYTHONPATH")])]
        self.environment = kept | {
            "HOME": str(self.home),
            "TMPDIR": str(self.temporary),
            "USER": "tester",  # else Python asks the system's directory of users, over a local socket
            "PYTHONPATH": os.pathsep.join(paths),
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def python(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *map(str, arguments)]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)

    def forgerank(self, *arguments: object, code: int = 0) -> str:
        done = self.python("-m", "forgerank", *arguments)
        assert done.returncode == code, (arguments, done.stderr)
        assert self.left() == [], arguments
        return done.stdout

    def left(self) -> list[str]:
        """What lies beside the outputs; Matplotlib's list of fonts is documented."""
        files = [path for path in self.home.rglob("*") if path.is_file()]
        files = [path for path in files if path.parent != self.home / ".cache" / "matplotlib"]
        return [str(path) for path in (*files, *self.temporary.iterdir())]


# These do what they say; the tests of the hub and of downloads replace what they connect to.
CONNECTING = {"push", "data download"}


def test_no_command_is_forgotten() -> None:
    """Every command of the program is run by a test of this file, or is there to connect."""
    group = typer.main.get_command(app)
    assert isinstance(group, typer.core.TyperGroup)
    names = set()
    for name, command in group.commands.items():
        inner = getattr(command, "commands", {"": None})
        names |= {f"{name} {further}".strip() for further in inner}
    tests = Path(__file__).read_text(encoding="utf-8")
    run = {" ".join(words) for words in re.findall(r'forgerank\(\s*"([a-z]+)"(?:, "([a-z]+)")?', tests)}
    run |= {words.split(" ")[0] for words in run} | {"serve"}  # which a fixture starts
    assert names - run == CONNECTING


@pytest.fixture
def offline(tmp_path: Path) -> Offline:
    return Offline(tmp_path / "offline")


@pytest.fixture
def photos(tmp_path: Path, astronaut: NDArray[Any]) -> Path:
    (tmp_path / "photos").mkdir()
    for i in range(2):
        Image.fromarray(astronaut).rotate(i).save(tmp_path / "photos" / f"{i}.png")
    return tmp_path / "photos"


def test_a_connection_is_noticed(offline: Offline) -> None:
    done = offline.python("-c", "import socket; socket.create_connection(('127.0.0.1', 9))")
    assert done.returncode in (99, -signal.SIGSYS)


@pytest.mark.skipif(sys.platform != "linux", reason="the filter is Linux's")
def test_a_native_connection_is_noticed(offline: Offline) -> None:
    code = "import ctypes; c = ctypes.CDLL(None); c.connect(c.socket(2, 1, 0), bytes(16), 16)"
    assert offline.python("-c", code).returncode == -signal.SIGSYS


def test_photographs(offline: Offline, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    offline.forgerank("detect", photos, "--json", out, "--html", tmp_path / "out.html")
    assert len(json.loads(out.read_text(encoding="utf-8"))["reports"]) == 2
    offline.forgerank("faces", photos / "0.png", "--draw", tmp_path / "drawn.png")
    offline.forgerank("scan", photos, "--out", tmp_path / "out.parquet", "--workers", 1)
    offline.forgerank("summarize", tmp_path / "out.parquet")


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # of Lightning, in `trained`
def test_the_forge_and_a_run(
    offline: Offline, photos: Path, squares: Path, trained: Path, tmp_path: Path
) -> None:
    offline.forgerank("forge", photos, "--out", tmp_path / "forged", "--per-photo", 1)
    config, run = tmp_path / "config.yaml", tmp_path / "run"
    config.write_text(yaml.safe_dump(tiny_settings(squares, run, epochs=1)), encoding="utf-8")
    offline.forgerank("train", config)
    offline.forgerank("evaluate", run / "weights.safetensors", "--limit", 8)
    offline.forgerank("export", trained / "weights.safetensors", tmp_path / "weights")
    offline.forgerank("card", tmp_path / "weights")


def test_data_sets(
    offline: Offline, pack_root: Path, pack_sources: Path, squares: Path, tmp_path: Path
) -> None:
    layouts.write_dfd(tmp_path / "videos")
    offline.forgerank("data", "check", "dfd", tmp_path / "videos", "--no-counts")
    offline.forgerank(
        "data", "prepare", "dfd", tmp_path / "videos", "--out", tmp_path / "faces", "--frames", 1
    )
    offline.forgerank("data", "shard", squares, "--out", tmp_path / "shards", "--split", "val")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(recipe_of(pack_sources).model_dump(mode="json")), encoding="utf-8")
    offline.forgerank("data", "pack", recipe, "--out", tmp_path / "pack", code=2)  # one image is none
    offline.forgerank("data", "check", "pack", pack_root)
    small = ("--size", 16, "--minutes", 0.1, "--faces", 3)
    offline.forgerank("data", "autoencoder", pack_root, "--out", tmp_path / "ae", *small)
    decoded = ("--autoencoder", tmp_path / "ae", "--out", tmp_path / "decoded", "--limit", 2)
    offline.forgerank("data", "reconstruct", pack_root, *decoded)


def test_keys(offline: Offline, tmp_path: Path) -> None:
    where = ("--data", tmp_path / "data")
    offline.forgerank("keys", "add", "somebody", *where)
    assert "somebody" in offline.forgerank("keys", "list", *where)
    offline.forgerank("keys", "revoke", 1, *where)


def test_tables_and_curves(offline: Offline, squares: Path, tmp_path: Path) -> None:
    settings = tiny_settings(squares, tmp_path / "unused", epochs=1)
    chosen = {f"model.{key}": value for key, value in settings["model"].items()}
    chosen |= {"model.pretrained": False, "model.fold_norm": False}
    chosen |= {"batch_size": 8, "data.workers": 0, "precision": "32-true", "accelerator": "cpu", "threads": 1}
    changes = [part for key, value in chosen.items() for part in ("--set", f"{key}={json.dumps(value)}")]
    configs = Path(__file__).resolve().parents[1] / "configs"
    size = ("--configs", configs, "--rows", "ours", "--pictures", 16, "--seeds", 1)
    where = ("--data", squares, "--out", tmp_path / "out")
    offline.forgerank("reproduce", "baselines", *where, *size, *changes)
    rows = [",".join(COLUMNS), *(f"{images},1.0,all,0.8,0.5,,,," for images in (80, 160))]
    (tmp_path / "curve.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    offline.forgerank("curve", tmp_path / "curve.csv", "--out", tmp_path / "curve.png")


@pytest.fixture
def server(offline: Offline, tmp_path: Path, tiny_weights: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "forgerank", "serve", "--port", "0", "--data", str(tmp_path / "data")]
    command += ["--web", "--weights", str(tiny_weights), "--set", "drain_seconds=0"]
    with subprocess.Popen(command, env=offline.environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0


def test_the_service(server: str, offline: Offline, photos: Path) -> None:
    photo = (photos / "0.png").read_bytes()
    with httpx.Client(base_url=server, timeout=120) as client:
        assert client.get("/").status_code == 200
        assert client.post("/v1/detect", content=photo).status_code == 200
        assert client.post("/judge?name=a", content=photo).status_code == 200
        at = client.post("/v1/jobs", content=photo).headers["location"]
        while client.get(at).json()["state"] in {"queued", "running"}:
            pass
        assert client.get(at).json()["state"] == "done"
    assert offline.left() == []
