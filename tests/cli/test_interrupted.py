"""Every long command that is stopped, or lacks room or memory: one line, its exit code, no process left,
nothing half-written; and the same command goes on, or begins anew.
"""

import csv
import json
import os
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from numpy.typing import NDArray
from PIL import Image

import layouts
from faults import Ended, Runner
from packs import recipe_of
from squares import tiny_settings, write_squares

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="what is left of a process is read from /proc"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning"),  # of Lightning, in `made`
]


class Command(NamedTuple):
    """A long command."""

    imports: str  # what takes it long to import
    arguments: Callable[[Path, Path], list[object]]  # of the inputs' folder and the outputs'
    needs: str = ""  # a fixture that makes a further input
    resume: tuple[str, ...] = ()  # further arguments to go on
    no_room: int = 2  # exit code
    reads: str = ""  # the input that is watched in place of the outputs, of a command that writes nothing
    slow: bool = False  # every row of it


def reproduce(made: Path, out: Path) -> list[object]:
    settings = tiny_settings(made / "squares", out / "unused", epochs=1)
    chosen = {f"model.{key}": value for key, value in settings["model"].items()}
    chosen |= {"model.pretrained": False, "model.fold_norm": False, "batch_size": 8, "data.workers": 0}
    chosen |= {"precision": "32-true", "accelerator": "cpu", "threads": 1}
    changes = [part for key, value in chosen.items() for part in ("--set", f"{key}={json.dumps(value)}")]
    configs = Path(__file__).resolve().parents[2] / "configs"
    size = ["--configs", configs, "--rows", "ours", "--pictures", 16, "--seeds", 1]
    return ["reproduce", "baselines", "--data", made / "squares", "--out", out / "rep", *size, *changes]


def train(made: Path, out: Path) -> list[object]:
    config = made / f"{out.parent.name}.yaml"
    changes = {"epochs": 2, "checkpoint_steps": 1}
    config.write_text(yaml.safe_dump(tiny_settings(made / "squares", out / "run", **changes)))
    return ["train", config]


COMMANDS = {
    "detect": Command(
        "forgerank.cli.detect",
        lambda made, out: [
            *("detect", made / "photos", "--weights", made / "weights", "--csv", out / "r.csv"),
            *("--json", out / "r.json", "--html", out / "r.html", "--heatmaps", out / "maps"),
        ],
    ),
    "faces": Command(
        "forgerank.faces.analyze forgerank.faces.draw",
        lambda made, out: ["faces", made / "photos/0.png", "--draw", out / "drawn.png"],
    ),
    "scan": Command(
        "forgerank.serving.scan.run forgerank.serving.scan.summary",
        lambda made, out: [
            *("scan", made / "photos", "--weights", made / "weights", "--out", out / "r.parquet"),
            *("--workers", 2),
        ],
        no_room=1,
    ),
    "summarize": Command(
        "forgerank.serving.scan.summary",
        lambda made, out: ["summarize", made / "results.parquet", "--html", out / "s.html"],
        needs="results",
    ),
    "forge": Command(
        "forgerank.forge.dataset",
        lambda made, out: ["forge", made / "photos", "--out", out / "forged", "--workers", 2],
    ),
    "train": Command("forgerank.train.fit", train, resume=("--resume",), slow=True),
    "evaluate": Command(
        "forgerank.evaluation.evaluate forgerank.evaluation.plots",
        lambda made, out: [
            *("evaluate", made / "run/weights.safetensors", "--data", made / "squares", "--workers", 1),
            *("--json", out / "m.json", "--csv", out / "m.csv", "--plots", out / "plots"),
        ],
        needs="run",
        slow=True,
    ),
    "export": Command(
        "forgerank.export.package onnxscript",
        lambda made, out: [
            *("export", made / "run/weights.safetensors", out / "weights", "--data", made / "squares"),
            *("--workers", 0),
        ],
        needs="run",
        slow=True,
    ),
    "card": Command(
        "forgerank.weights.card",
        lambda made, out: ["card", made / "run", "--out", out / "card.md"],
        needs="run",
    ),
    "reproduce": Command("forgerank.reproduce.tables forgerank.train.fit", reproduce, slow=True),
    "data pack": Command(
        "forgerank.data.prepare.pack_writer",
        lambda made, out: ["data", "pack", made / "recipe.yaml", "--out", out / "pack", "--workers", 2],
        needs="recipe",
    ),
    "data prepare": Command(
        "forgerank.data.check.integrity forgerank.data.prepare.video_faces",
        lambda made, out: [
            *("data", "prepare", "dfd", made / "videos", "--out", out / "faces", "--frames", 1),
            *("--workers", 2),
        ],
    ),
    "data shard": Command(
        "forgerank.data.prepare.shard_writer",
        lambda made, out: [
            *("data", "shard", made / "squares", "--out", out / "shards", "--shard-size", 4),
            *("--split", "val", "--split", "train"),
        ],
    ),
    "data autoencoder": Command(
        "forgerank.data.prepare.autoencoder",
        lambda made, out: [
            *("data", "autoencoder", made / "pack", "--out", out / "ae", "--size", 16, "--minutes", 0.1),
            *("--faces", 3),
        ],
        needs="pack",
        resume=("--resume",),
        slow=True,
    ),
    "data reconstruct": Command(
        "forgerank.data.prepare.autoencoder",
        lambda made, out: [
            *("data", "reconstruct", made / "pack", "--autoencoder", made / "ae", "--limit", 2),
            *("--out", out / "decoded"),
        ],
        needs="autoencoder",
    ),
    "data check": Command(
        "forgerank.data.check.integrity",
        lambda made, out: [
            *("data", "check", "dfd", made / "videos", "--no-counts", "--json", out / "c.json"),
            *("--workers", 2),
        ],
    ),
    "data check pack": Command(
        "forgerank.data.check.pack_integrity",
        lambda made, out: ["data", "check", "pack", made / "pack"],
        needs="pack",
        reads="pack",
    ),
    "data check shards": Command(
        "forgerank.data.check.pack_integrity",
        lambda made, out: ["data", "check", "shards", made / "shards"],
        needs="shards",
        reads="shards",
    ),
}
QUICK = [
    pytest.param(name, marks=pytest.mark.slow if command.slow else ()) for name, command in COMMANDS.items()
]
WRITING = [name for name, command in COMMANDS.items() if not command.reads]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, astronaut: NDArray[Any], tiny_weights: Path) -> Path:
    """What the commands read."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "photos").mkdir()
    for number in range(3):
        head = Image.fromarray(astronaut[40:240, 120:320])
        head.rotate(2 * number).save(folder / "photos" / f"{number}.png")
    (folder / "weights").symlink_to(tiny_weights)
    write_squares(folder / "squares", {"train": 16, "val": 8, "test": 8})
    layouts.write_dfd(folder / "videos")
    return folder


@pytest.fixture(scope="module")
def recipe(made: Path, pack_sources: Path) -> None:
    recipe = recipe_of(pack_sources).model_dump(mode="json")
    (made / "recipe.yaml").write_text(yaml.safe_dump(recipe))


@pytest.fixture(scope="module")
def pack(made: Path, pack_root: Path) -> None:
    (made / "pack").symlink_to(pack_root)


@pytest.fixture(scope="module")
def shards(made: Path) -> None:
    from forgerank.data.formats.seqdeepfake import SeqDeepFake
    from forgerank.data.prepare.shard_writer import shard_dataset

    samples = SeqDeepFake(made / "squares", "train").samples
    shard_dataset(samples, made / "shards", "train", shard_size=4)


@pytest.fixture(scope="module")
def autoencoder(made: Path, pack: None) -> None:
    from forgerank.data.formats.pack import Pack
    from forgerank.data.prepare.autoencoder import AutoencoderConfig, cached_crops, train_autoencoder

    crop, count = cached_crops(Pack(made / "pack", "train", label="real"), 16, 3, 0, unread=[])
    config = AutoencoderConfig(size=16)
    train_autoencoder(crop, count, config, minutes=9, out=made / "ae", steps=1)


@pytest.fixture(scope="module")
def run(made: Path) -> None:
    from forgerank.train import fit
    from forgerank.train.config import parse_config

    settings = tiny_settings(made / "squares", made / "run", epochs=1)
    fit.run(parse_config(settings, "test"), progress=False)


@pytest.fixture(scope="module")
def results(made: Path, tiny_weights: Path) -> None:
    from forgerank.serving.scan.run import scan
    from forgerank.serving.scan.scan_settings import Judging, ScanSettings

    judging = Judging(weights=tiny_weights)
    scan(ScanSettings(sources=(str(made / "photos"),), out=made / "results.parquet", judging=judging))


class Bench:
    """Runs the commands, each first without a fault: what it does, and what it writes."""

    def __init__(self, runner: Runner, request: pytest.FixtureRequest, made: Path, place: Path) -> None:
        self.runner, self.request, self.made, self.place = runner, request, made, place
        self._whole: dict[str, tuple[Ended, set[str]]] = {}

    def whole(self, name: str) -> tuple[Ended, set[str]]:
        """How the command ends, and the names of what it writes."""
        if name not in self._whole:
            out = self.place / name / "whole"
            out.mkdir(parents=True)
            ended = self.run(name, out)
            assert not ended.left
            assert not ended.temporary
            self._whole[name] = ended, names(out)
        return self._whole[name]

    def run(self, name: str, out: Path, *, resume: bool = False, **fault: Any) -> Ended:
        command = COMMANDS[name]
        further = command.resume if resume else ()
        if command.needs:
            self.request.getfixturevalue(command.needs)
        arguments = [*command.arguments(self.made, out), *further]
        watched = self.made / command.reads if command.reads else out
        return self.runner.run(arguments, watched, imports=command.imports, **fault)

    def check(self, name: str, out: Path, ended: Ended, *, code: int) -> None:
        """What holds however a command ended; then the same command finishes the work."""
        assert ended.code == code, ended.err
        said = [line for line in ended.err.splitlines() if line.startswith("forgerank: ")]
        assert len(said) == (0 if code == -signal.SIGKILL else 1), ended.err
        assert "Traceback" not in ended.err + ended.out, ended.err
        assert ended.left == []
        if code != -signal.SIGKILL:
            assert ended.temporary == []
            assert [path for path in names(out) if "partial" in path] == []
        for path in out.rglob("*"):
            if path.is_file() and "partial" not in str(path.relative_to(out)):
                read_whole(path)
        reference, written = self.whole(name)
        done = written <= names(out)  # then it may refuse to do it once more
        again = self.run(name, out, resume=True)
        assert again.code == reference.code or done, again.err
        assert names(out) == written


def names(out: Path) -> set[str]:
    """Of the files in a folder, but for logs, which every session of a run adds to."""
    files = (str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
    return {name for name in files if "tfevents" not in name and "/csv/version_" not in name}


def read_whole(path: Path) -> None:
    """Fails for a file that was cut off."""
    if path.suffix in (".png", ".jpg"):
        Image.open(path).load()
    elif path.suffix == ".json":
        json.loads(path.read_bytes())
    elif path.suffix == ".jsonl":
        assert all(json.loads(line) for line in path.read_bytes().splitlines())
    elif path.suffix == ".csv":
        rows = list(csv.reader(path.read_text().splitlines()))
        assert {len(row) for row in rows} <= {len(rows[0])} if rows else True
    elif path.suffix == ".html":
        assert path.read_text().rstrip().endswith("</html>")
    elif path.suffix == ".tar":
        with tarfile.open(path) as tar:
            tar.getmembers()
    elif path.suffix == ".parquet":
        import pyarrow.parquet as pq

        pq.read_table(path)
    elif path.suffix == ".safetensors":
        from safetensors.numpy import load_file

        assert load_file(path)
    elif path.suffix == ".ckpt":
        from forgerank.weights.hub import read_checkpoint

        assert read_checkpoint(path)


@pytest.fixture(scope="module")
def bench(
    request: pytest.FixtureRequest, made: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bench]:
    place = tmp_path_factory.mktemp("bench")
    with Runner(place / "runner") as runner:
        yield Bench(runner, request, made, place)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """A file system of its own, mounted with the options given, and mounted anew with others."""
    disk = tmp_path / "disk"
    disk.mkdir()

    def mount(options: str) -> Path:
        again = "remount," if disk.is_mount() else ""
        command = ["mount", "-t", "tmpfs", "-o", again + options, "tmpfs", str(disk)]
        if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode != 0:
            pytest.skip("a small file system can only be mounted by root")
        return disk

    yield mount
    if disk.is_mount():
        subprocess.run(["umount", str(disk)], check=True)


def moment(ended: Ended, share: float) -> int:
    """The event at a share of the work."""
    assert ended.events, "nothing was written"
    return min(int(share * len(ended.events)), len(ended.events) - 1)


@pytest.mark.parametrize("name", QUICK)
def test_sigterm(name: str, bench: Bench, out: Path) -> None:
    at = moment(bench.whole(name)[0], 0.5)
    bench.check(name, out, bench.run(name, out, at=at, signal=signal.SIGTERM), code=-signal.SIGTERM)


@pytest.mark.parametrize("name", ["forge", "data pack"])
def test_a_terminal_that_closes(name: str, bench: Bench, out: Path) -> None:
    at = moment(bench.whole(name)[0], 0.5)
    bench.check(name, out, bench.run(name, out, at=at, signal=signal.SIGHUP), code=-signal.SIGTERM)


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_kill(name: str, bench: Bench, out: Path) -> None:
    for share in (0.3, 1.0):
        at = moment(bench.whole(name)[0], share)
        bench.check(name, out, bench.run(name, out, at=at, signal=signal.SIGKILL), code=-signal.SIGKILL)
        for path in sorted(out.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()


@pytest.mark.parametrize("name", [row for row in QUICK if row.values[0] in WRITING])
def test_full_disk(name: str, bench: Bench, small_disk: Callable[[str], Path]) -> None:
    disk = small_disk("size=4k")
    (disk / "filler").write_bytes(bytes(4096))
    out = disk / "out"
    out.mkdir()
    ended = bench.run(name, out)
    small_disk("size=64m")
    bench.check(name, out, ended, code=COMMANDS[name].no_room)


@pytest.mark.slow
@pytest.mark.parametrize("name", WRITING)
def test_read_only_disk(name: str, bench: Bench, small_disk: Callable[[str], Path]) -> None:
    out = small_disk("size=64m") / "out"
    out.mkdir()
    small_disk("ro")
    ended = bench.run(name, out)
    small_disk("rw")
    bench.check(name, out, ended, code=2)


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_no_memory(name: str, bench: Bench, out: Path) -> None:
    at = moment(bench.whole(name)[0], 0.5)
    ended = bench.run(name, out, at=at, memory=0)
    bench.check(name, out, ended, code=2)
    assert "not enough memory" in ended.err


IN_VAIN: dict[str, Callable[[Path, Path], list[object]]] = {
    "detect": lambda made, out: ["detect", made / "none.jpg", "--heatmaps", out / "new/maps"],
    "train": lambda made, out: [*train(made, out), "--set", f"init_from={made / 'none.ckpt'}"],
    "evaluate": lambda made, out: [
        *("evaluate", made / "none.ckpt", "--data", made / "squares"),
        *("--json", out / "new/m.json", "--plots", out / "new/plots"),
    ],
}


@pytest.mark.parametrize("name", IN_VAIN)
def test_a_command_that_fails_leaves_no_empty_folder(name: str, bench: Bench, out: Path) -> None:
    command = COMMANDS[name]
    if command.needs:
        bench.request.getfixturevalue(command.needs)
    ended = bench.runner.run(IN_VAIN[name](bench.made, out), out, imports=command.imports)
    assert ended.code == 2, ended.err
    assert any("os.mkdir" in event for event in ended.events), "made nothing"
    assert list(out.iterdir()) == []
