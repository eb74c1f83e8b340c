import subprocess
import sys
from pathlib import Path

import pytest

from forgerank import extras
from forgerank.extras import MissingExtraError, require
from forgerank.types import InputError


def test_an_extra_that_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(extras.EXTRAS, "here", ("json", "JSON"))
    require("here")


def test_an_extra_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(extras.EXTRAS, "gone", ("no_such_module", "Nothing"))
    with pytest.raises(MissingExtraError) as caught:
        require("gone")
    assert str(caught.value) == 'this needs Nothing: pip install "forgerank[gone]"'


def test_an_extra_that_is_broken_is_not_called_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        raise ModuleNotFoundError(f"a dependency of {name}", name="dependency")

    monkeypatch.setattr(extras, "import_module", broken)
    with pytest.raises(ModuleNotFoundError, match="a dependency of torch"):
        require("train")


LINUX = pytest.mark.skipif(sys.platform != "linux", reason="sizes of a process are Linux's")


@LINUX
@pytest.mark.parametrize(("kind", "command"), [("RLIMIT_AS", "ulimit -v"), ("RLIMIT_DATA", "ulimit -d")])
def test_pytorch_needs_memory(kind: str, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import resource

    def limited(asked: int) -> tuple[int, int]:
        most = (1 << 20) if asked == getattr(resource, kind) else resource.RLIM_INFINITY
        return most, resource.RLIM_INFINITY

    monkeypatch.setattr(resource, "getrlimit", limited)
    with pytest.raises(InputError) as caught:
        require("train")
    said = f"too little memory: {command} leaves 0 MB beside PyTorch, which needs 1536 MB at least"
    assert str(caught.value) == said
    monkeypatch.setitem(extras.EXTRAS, "here", ("json", "JSON"))
    require("here")


@LINUX
def test_a_limit_that_leaves_enough_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    import resource

    monkeypatch.setattr(resource, "getrlimit", lambda kind: (1 << 45, 1 << 45))
    require("train")


@LINUX
def test_a_command_with_too_little_memory(tmp_path: Path) -> None:
    """Under a real limit, set once PyTorch is there: one line before any work."""
    program = """if True:
        import resource, sys, torch
        from forgerank.cli.main import main
        used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + (100 << 20),) * 2)
        sys.argv = ["forgerank", "data", "autoencoder", "pack", "--out", "ae"]
        main()
    """
    command = [sys.executable, "-c", program]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert ended.returncode == 2
    assert ended.stderr.startswith("forgerank: too little memory: ulimit -v leaves ")
    assert ended.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
