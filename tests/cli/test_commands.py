"""The commands beside `detect`."""

import os
import signal
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as PILImage
from typer.testing import CliRunner, Result

from forgerank import __version__
from forgerank.cli.forge import parse_steps
from forgerank.cli.main import app, one_line_errors
from forgerank.cli.options import progress_bar
from forgerank.extras import MissingExtraError
from forgerank.types import InputError

Pixels = NDArray[np.uint8]


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def replace_module(monkeypatch: pytest.MonkeyPatch, name: str, **members: Any) -> None:
    module = types.ModuleType(name)
    for key, value in members.items():
        setattr(module, key, value)
    monkeypatch.setitem(sys.modules, name, module)


@pytest.fixture
def portrait(tmp_path: Path, astronaut: Pixels) -> Path:
    PILImage.fromarray(astronaut).save(tmp_path / "portrait.png")
    return tmp_path / "portrait.png"


def test_version() -> None:
    assert call("--version").stdout == f"forgerank {__version__}\n"


@pytest.mark.parametrize("command", ["detect", "faces", "forge", "train", "evaluate", "export"])
def test_every_command_documents_itself_and_its_exit_codes(command: str) -> None:
    result = call(command, "--help")
    assert result.exit_code == 0
    assert f"forgerank {command}" in result.stdout
    assert "Exit codes" in result.stdout


def test_a_file_in_the_place_of_the_command_is_answered_with_the_command(
    portrait: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(portrait.parent)
    portrait.rename("a portrait.png")
    result = call("a portrait.png", "--json", "-")
    assert result.exit_code == 2
    shown = " ".join(result.stderr.replace("│", " ").split())
    assert "'a portrait.png' is no command. To judge it: forgerank detect 'a portrait.png' --json -" in shown
    assert "No such command 'portrait'" in call("portrait").stderr


def test_faces_are_listed_and_drawn(portrait: Path, tmp_path: Path) -> None:
    result = call("faces", portrait, "--draw", tmp_path / "drawn.png")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[1].split()[0] == "1"
    with PILImage.open(portrait) as before, PILImage.open(tmp_path / "drawn.png") as after:
        assert after.size == before.size
        assert (np.asarray(after) != np.asarray(before)).any()


def test_no_face(tmp_path: Path) -> None:
    PILImage.new("RGB", (50, 50)).save(tmp_path / "black.png")
    assert call("faces", tmp_path / "black.png").stdout == "no face found\n"


def test_drawing_that_cannot_be_written(portrait: Path, tmp_path: Path) -> None:
    result = call("faces", portrait, "--draw", tmp_path / "drawn.unknown")
    assert isinstance(result.exception, InputError)
    assert "cannot write the drawing" in str(result.exception)


def test_forge_passes_its_options_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from forgerank.forge.dataset import LeftOut

    seen: dict[str, Any] = {}

    def forge_dataset(photos: Path, out: Path, **options: Any) -> dict[str, int]:
        seen.update(options, photos=photos, out=out)
        options["progress"](1, 2)
        return {"train": 7, "val": 1}

    members = {"Recipe": dict, "LeftOut": LeftOut, "forge_dataset": forge_dataset}
    replace_module(monkeypatch, "forgerank.forge.dataset", **members)
    result = call(
        *("forge", tmp_path, "--out", tmp_path / "out", "--per-photo", 3, "--steps", "1-4", "--seed", 5),
        *("--workers", 2, "--trace", "strong"),
    )
    assert result.exit_code == 0, result.exception
    assert seen["recipe"] == {"steps": (1, 4), "seed": 5, "trace": "strong", "task": "components"}
    assert (seen["photos"], seen["per_photo"], seen["workers"]) == (tmp_path, 3, 2)
    assert result.stdout == f"{tmp_path / 'out'}: 7 train, 1 val\n"
    assert [*seen["splits"]] == ["train", "val", "test"]
    call("forge", tmp_path, "--out", tmp_path / "out", "--task", "binary", "--only", "val")
    assert seen["splits"] == ["val"]
    assert seen["recipe"]["steps"] == (0, 1)


@pytest.mark.parametrize("text", ["", "x", "1-", "-3", "1-2-3"])
def test_steps_that_are_no_range(text: str) -> None:
    with pytest.raises(InputError, match="give a range"):
        parse_steps(text)


def test_train_reads_overrides(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    replace_module(monkeypatch, "forgerank.reproduce.table_file", load_run=lambda *asked: asked)
    replace_module(
        monkeypatch, "forgerank.train.fit", run=lambda config, resume, unread: f"{config[1:]} {resume}"
    )
    result = call("train", "c.yaml", "--set", "a=1", "--set", "b=2", "--resume")
    assert result.stdout == "(None, ['a=1', 'b=2']) True\n"
    assert call("train", "table.yaml", "--row", "mine").stdout == "('mine', ()) False\n"


def test_a_table_is_not_trained_as_a_whole() -> None:
    pytest.importorskip("torch")
    error = call("train", Path(__file__).resolve().parents[2] / "configs" / "table4.yaml").exception
    assert isinstance(error, InputError)
    assert str(error).endswith("table4.yaml: is a table: add --row with one of multicls, ours")


def test_evaluate_and_export_pass_their_options_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    seen: dict[str, Any] = {}

    def evaluate(weights: Path, **options: Any) -> dict[str, Any]:
        seen.update(options)
        return {"sets": {"faces": {}}}

    def export(weights: Path, out: Path, **options: Any) -> types.SimpleNamespace:
        seen.update(options)
        return types.SimpleNamespace(name="n", version="2", input_size=224)

    replace_module(monkeypatch, "forgerank.evaluation.evaluate", evaluate=evaluate)
    printing = {"print_evaluation": lambda result: print("measured"), "print_sets": print, "sets_csv": str}
    replace_module(monkeypatch, "forgerank.evaluation.printing", **printing)
    replace_module(monkeypatch, "forgerank.export.package", export=export, LICENCE="research")
    result = call("evaluate", "w", "--data", tmp_path, "--split", "test", "--copies", "grey", "--limit", 9)
    assert result.stdout == "measured\n"
    assert (seen["roots"], seen["split"], seen["copies"], seen["limit"]) == ([tmp_path], "test", "grey", 9)
    assert (seen["others"], seen["reverse"], seen["tune"], seen["dataset"]) == ([], None, None, None)
    assert (seen["thorough"], seen["plots"]) == (False, None)
    table = tmp_path / "new" / "sets.csv"
    call("evaluate", "w", "--data", tmp_path, "--csv", table, "--thorough", "--plots", tmp_path / "plots")
    assert (seen["thorough"], seen["plots"]) == (True, tmp_path / "plots")
    assert table.read_text() == "{'faces': {}}"
    assert "name some" in str(call("evaluate", "w", "--csv", table).exception)
    call("evaluate", "w", "x", "run", "--no-reverse", "--tune", "val/9", "--dataset", "shards")
    assert seen["others"] == [Path("x"), Path("run")]
    assert (seen["reverse"], seen["tune"], seen["dataset"]) == (False, "val/9", "shards")
    assert call("export", "w", "out", "--no-int8").stdout == "out: n 2, input 224 px\n"
    assert (seen["int8"], seen["licence"], seen["name"], seen["sources"]) == (False, "research", None, None)
    configs = Path(__file__).resolve().parents[2] / "configs"
    call("export", "w", "out", "--sources", configs / "faceforensics.yaml")
    assert [source.options["methods"] for source in seen["sources"].sources][3] == ["NeuralTextures"]
    config = configs / "evaluation.yaml"
    call("export", "w", "out", "--sources", config)
    assert "stylegan256" in [source.name for source in seen["sources"].sources]
    error = call("export", "w", "out", "--sources", config, "--data", tmp_path).exception
    assert "--data and --sources" in str(error)


@pytest.mark.parametrize(
    "command", [["train", "c.yaml"], ["evaluate", "w"], ["export", "w", "o"], ["forge", "p", "--out", "o"]]
)
def test_missing_extra_names_the_pip_command(monkeypatch: pytest.MonkeyPatch, command: list[str]) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(name=name)

    monkeypatch.setattr("forgerank.extras.import_module", missing)
    result = call(*command)
    assert isinstance(result.exception, MissingExtraError)
    assert 'pip install "forgerank[' in str(result.exception)


def test_errors_end_with_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended, one_line_errors():
        raise InputError("a.jpg: [bold]bad\x1b")
    assert ended.value.code == 2
    assert capsys.readouterr().err == "forgerank: a.jpg: [bold]bad\\x1b\n"


def test_ctrl_c_is_one_line_wherever_it_comes(capsys: pytest.CaptureFixture[str]) -> None:
    """Typer makes an exit code of it, unless it has ended."""
    with pytest.raises(SystemExit, match="130"), one_line_errors():
        raise KeyboardInterrupt
    assert capsys.readouterr().err == "forgerank: stopped by Ctrl-C\n"


AS_IT_LOADS = """if True:
    import os, signal, sys
    from forgerank.__main__ import main

    class Finder:
        def find_spec(self, name, *_):
            if name == "typer":
                os.kill(os.getpid(), signal.{})

    sys.meta_path.insert(0, Finder())
    sys.argv = ["forgerank", "--version"]
    main()
"""
AS_IT_IMPORTS = """if True:
    import os, signal, sys
    from forgerank.cli.main import app, main

    class Finder:
        def find_spec(self, name, *_):
            if name == "wave":
                for name in {}:
                    os.kill(os.getpid(), name)
                print("imported", flush=True)

    def work():
        import wave
        signal.pause()

    sys.meta_path.insert(0, Finder())
    app.command("run")({})
    sys.argv = ["forgerank", "run"]
    main()
"""
AS_IT_FORKS = """if True:
    import os, signal, sys
    from forgerank.cli.main import app, main

    def work():
        os.register_at_fork(after_in_parent=lambda: os.kill(os.getpid(), signal.{}))
        if os.fork() == 0:
            os._exit(0)
        signal.pause()  # until it comes again

    app.command("run")(work)
    sys.argv = ["forgerank", "run"]
    main()
"""
AS_IT_ENDS = """if True:
    import atexit, os, signal, sys
    from forgerank.__main__ import main

    atexit.register(os.kill, os.getpid(), signal.{})
    sys.argv = ["forgerank", *{}]
    main()
"""
AS_IT_WAITS = """if True:
    import os, signal, sys, threading, time
    from forgerank.__main__ import main

    def hold():
        threading.main_thread().join()
        while True:  # as it begins to wait for a lock, Python misses a signal
            os.kill(os.getpid(), signal.{})
            time.sleep(0.1)

    threading.Thread(target=hold).start()
    sys.argv = ["forgerank", *{}]
    main()
"""


BY = {
    "SIGINT": (130, "Ctrl-C"),
    "SIGTERM": (-signal.SIGTERM, "SIGTERM"),
    "SIGHUP": (-signal.SIGTERM, "SIGTERM"),
}


@pytest.mark.skipif(sys.platform == "win32", reason="signals are others there")
@pytest.mark.parametrize("name", BY)
def test_a_signal_while_the_command_loads_is_one_line(name: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", AS_IT_LOADS.format(name)], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stderr) == (BY[name][0], f"forgerank: stopped by {BY[name][1]}\n")


@pytest.mark.skipif(sys.platform == "win32", reason="signals are others there")
@pytest.mark.parametrize("name", BY)
@pytest.mark.parametrize("times", [1, 2])
def test_a_signal_while_modules_are_imported_waits_for_that_unless_it_comes_twice(
    name: str, times: int
) -> None:
    program = AS_IT_IMPORTS.format([int(getattr(signal, name))] * times, "work")
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60
    )
    assert (ended.returncode, ended.stdout) == (BY[name][0], "imported\n" if times == 1 else "")
    assert ended.stderr.strip() == f"forgerank: stopped by {BY[name][1]}"


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
@pytest.mark.parametrize("name", BY)
def test_a_signal_at_a_fork_is_heeded_after_it(name: str) -> None:
    """What is raised there is ignored: training that started its loaders' workers went on to its end."""
    ended = subprocess.run(
        [sys.executable, "-c", AS_IT_FORKS.format(name)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ended.returncode == BY[name][0]
    assert ended.stderr.strip() == f"forgerank: stopped by {BY[name][1]}"


@pytest.mark.skipif(sys.platform == "win32", reason="signals are others there")
@pytest.mark.parametrize("program", [AS_IT_ENDS, AS_IT_WAITS])
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
@pytest.mark.parametrize(("arguments", "code"), [(["--version"], 0), (["detect", "/none.jpg"], 2)])
def test_a_signal_as_a_command_ends_changes_nothing(
    program: str, name: str, arguments: list[str], code: int
) -> None:
    command = [sys.executable, "-c", program.format(name, arguments)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == code
    assert len(ended.stderr.splitlines()) == (code == 2), ended.stderr


def wrapped(behind: Exception) -> RuntimeError:
    """An error that was raised from another one."""
    error = RuntimeError("Failed to export the model")
    error.__cause__ = behind
    return error


NO_MEMORY = [MemoryError(), RuntimeError("std::bad_alloc"), wrapped(MemoryError())]
NO_REASON = [
    RuntimeError("could not create a primitive"),
    wrapped(SystemError("error return without exception set")),
]


@pytest.mark.parametrize(
    ("error", "spare"), [*((error, 1) for error in NO_MEMORY), *((error, 1 << 62) for error in NO_REASON)]
)
def test_too_little_memory_is_one_line(
    error: Exception, spare: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("forgerank.limits._SPARE", spare)
    with pytest.raises(SystemExit) as ended, one_line_errors():
        raise error
    assert ended.value.code == 2
    assert capsys.readouterr().err == "forgerank: not enough memory\n"


def test_too_many_open_files_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """As torch says it, in place of the error that it was raised with, and of the process that had it."""
    said = RuntimeError(
        "unable to open shared memory object </torch_1> in read-write mode: Too many open files (24)"
    )
    behind = RuntimeError("Please call `iter(combined_loader)` first.")
    behind.__context__ = OSError(24, "Too many open files")
    for error in (said, behind):
        with pytest.raises(SystemExit, match="2"), one_line_errors():
            raise error
        line = "forgerank: too many open files: raise the limit (ulimit -n), or use fewer workers\n"
        assert capsys.readouterr().err == line


def test_too_many_threads_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"), one_line_errors():
        raise RuntimeError("can't start new thread")
    assert capsys.readouterr().err == "forgerank: too many threads: raise the limit (ulimit -u)\n"


@pytest.mark.parametrize("error", NO_REASON)
def test_an_error_of_its_own_keeps_its_traceback(error: Exception) -> None:
    with pytest.raises(type(error)), one_line_errors():
        raise error


@pytest.mark.skipif(sys.platform != "linux", reason="a limit of addresses")
def test_a_limit_of_memory_is_one_line() -> None:
    program = """if True:
        import resource
        from forgerank.cli.main import one_line_errors
        with one_line_errors():
            used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20),) * 2)
            raise RuntimeError("could not create a primitive")
    """
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (2, "forgerank: not enough memory\n")


@pytest.mark.skipif(sys.platform != "linux", reason="a limit of addresses")
def test_under_a_limit_of_memory_blas_has_what_it_needs() -> None:
    """It ends the process where it gets none."""
    program = """if True:
        import os, resource

        def leave(spare):
            used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + spare, resource.RLIM_INFINITY))

        leave(1 << 30)
        import forgerank.cli.main
        import numpy as np
        leave(8 << 20)
        print(os.environ["OPENBLAS_NUM_THREADS"], (np.ones((200, 200)) @ np.ones((200, 200))).sum())
    """
    environment = {name: value for name, value in os.environ.items() if "_NUM_THREADS" not in name}
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, env=environment
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "1 8000000.0\n", "")


def test_no_memory_to_load_anything_is_one_line() -> None:
    """The line needs no library that is not there yet."""
    program = """if True:
        import builtins
        from forgerank.cli.main import one_line_errors

        def no_memory(name, *rest):
            raise MemoryError

        with one_line_errors():
            builtins.__import__ = no_memory
            raise MemoryError
    """
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (2, "forgerank: not enough memory\n")


@pytest.mark.skipif(sys.platform == "win32", reason="it cannot be deleted there")
def test_without_a_working_directory_every_command_is_one_line(tmp_path: Path) -> None:
    program = """if True:
        import os, sys
        from forgerank.cli import main
        os.chdir(sys.argv[1])
        os.rmdir(sys.argv[1])
        main.app = lambda: print("went on")
        main.main()
    """
    command = [sys.executable, "-c", program, str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    said = "forgerank: the working directory was deleted: change to another (cd)\n"
    assert (ended.returncode, ended.stdout, ended.stderr) == (2, "", said)


def test_what_a_failed_command_left_half_made_is_silent() -> None:
    program = """if True:
        from forgerank.cli import main
        from forgerank.types import InputError

        class HalfMade:
            def __del__(self):
                raise AttributeError("_workers")

        def fail():
            half_made = HalfMade()
            raise InputError("a.jpg: bad")

        main.app = fail
        main.main()
    """
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (2, "forgerank: a.jpg: bad\n")


def test_progress_is_silent_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    advance: Callable[[int, int], None]
    with progress_bar("Forging") as advance:
        advance(1, 2)
    assert capsys.readouterr() == ("", "")
