"""A long command that is stopped, or lacks room or memory: one line, its exit code, no process left,
nothing half-written; and the same command goes on, or begins anew.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from numpy.typing import NDArray
from PIL import Image

from faults import Ended, Runner

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="what is left of a process is read from /proc"
)


class Command(NamedTuple):
    """A long command."""

    imports: str  # what takes it long to import
    arguments: Callable[[Path, Path], list[object]]  # of the inputs' folder and the outputs'
    outputs: int = 1  # as many lines may say that there is no room
    no_room: int = 2  # exit code


COMMANDS = {
    "detect": Command(
        "forgerank.cli.detect",
        lambda made, out: [
            *("detect", made / "photos", "--weights", made / "weights", "--csv", out / "r.csv"),
            *("--json", out / "r.json", "--html", out / "r.html", "--heatmaps", out / "maps"),
        ],
        outputs=4,
    ),
    "scan": Command(
        "forgerank.serving.scan.run forgerank.serving.scan.summary",
        lambda made, out: [
            *("scan", made / "photos", "--weights", made / "weights", "--out", out / "r.parquet"),
            *("--workers", 2),
        ],
        no_room=1,
    ),
    "forge": Command(
        "forgerank.forge.dataset",
        lambda made, out: ["forge", made / "photos", "--out", out / "forged", "--workers", 2],
    ),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, astronaut: NDArray[Any], tiny_weights: Path) -> Path:
    """What the commands read."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "photos").mkdir()
    for number in range(3):
        head = Image.fromarray(astronaut[40:240, 120:320])
        head.rotate(2 * number).save(folder / "photos" / f"{number}.png")
    (folder / "weights").symlink_to(tiny_weights)
    return folder


class Bench:
    """Runs the commands, each first without a fault: what it does, and what it writes."""

    def __init__(self, runner: Runner, made: Path, place: Path) -> None:
        self.runner, self.made, self.place = runner, made, place
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

    def run(self, name: str, out: Path, **fault: Any) -> Ended:
        command = COMMANDS[name]
        return self.runner.run(command.arguments(self.made, out), out, imports=command.imports, **fault)

    def check(self, name: str, out: Path, ended: Ended, *, lines: int = 1, code: int) -> None:
        """What holds however a command ended; then the same command finishes the work."""
        assert ended.code == code, ended.err
        said = [line for line in ended.err.splitlines() if line.startswith("forgerank: ")]
        assert len(said) <= lines, ended.err
        assert "Traceback" not in ended.err + ended.out, ended.err
        assert ended.left == []
        if code != -signal.SIGKILL:
            assert len(said) >= 1, ended.err
            assert ended.temporary == []
            assert [path for path in names(out) if "partial" in path] == []
        for path in out.rglob("*"):
            if path.is_file() and "partial" not in str(path.relative_to(out)):
                read_whole(path)
        reference, written = self.whole(name)
        again = self.run(name, out)
        assert again.code == reference.code, again.err
        assert names(out) == written


def names(out: Path) -> set[str]:
    """Of the files in a folder."""
    return {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}


def read_whole(path: Path) -> None:
    """Fails for a file that was cut off."""
    if path.suffix in (".png", ".jpg"):
        Image.open(path).load()
    elif path.suffix == ".json":
        json.loads(path.read_bytes())
    elif path.suffix == ".html":
        assert path.read_text().rstrip().endswith("</html>")
    elif path.suffix == ".parquet":
        import pyarrow.parquet as pq

        pq.read_table(path)


@pytest.fixture(scope="module")
def bench(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    place = tmp_path_factory.mktemp("bench")
    with Runner(place / "runner") as runner:
        yield Bench(runner, made, place)


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


@pytest.mark.parametrize("name", COMMANDS)
def test_sigterm(name: str, bench: Bench, out: Path) -> None:
    at = moment(bench.whole(name)[0], 0.5)
    bench.check(name, out, bench.run(name, out, at=at, signal=signal.SIGTERM), code=-signal.SIGTERM)


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_kill(name: str, bench: Bench, out: Path) -> None:
    for share in (0.3, 1.0):
        at = moment(bench.whole(name)[0], share)
        bench.check(name, out, bench.run(name, out, at=at, signal=signal.SIGKILL), code=-signal.SIGKILL)
        for path in sorted(out.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()


@pytest.mark.parametrize("name", COMMANDS)
def test_full_disk(name: str, bench: Bench, small_disk: Callable[[str], Path]) -> None:
    command, disk = COMMANDS[name], small_disk("size=4k")
    (disk / "filler").write_bytes(bytes(4096))
    out = disk / "out"
    out.mkdir()
    ended = bench.run(name, out)
    small_disk("size=64m")
    bench.check(name, out, ended, lines=command.outputs, code=command.no_room)


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_read_only_disk(name: str, bench: Bench, small_disk: Callable[[str], Path]) -> None:
    out = small_disk("size=64m") / "out"
    out.mkdir()
    small_disk("ro")
    ended = bench.run(name, out)
    small_disk("rw")
    assert ended.code == 2 or (ended.code, name) == (1, "scan")
    bench.check(name, out, ended, lines=COMMANDS[name].outputs, code=ended.code)


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_no_memory(name: str, bench: Bench, out: Path) -> None:
    at = moment(bench.whole(name)[0], 0.5)
    ended = bench.run(name, out, at=at, memory=0)
    bench.check(name, out, ended, code=2)
    assert "not enough memory" in ended.err
