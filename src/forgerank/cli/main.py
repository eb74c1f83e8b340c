"""The `forgerank` command. Every import that costs time waits inside the command that needs it."""

import os
import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedWriter, FileIO, TextIOWrapper
from typing import Annotated, Any, NoReturn, get_type_hints

import typer
from typer.core import TyperGroup

from forgerank import __version__
from forgerank.cli import analysis, data, forge, reproduce, scan, serve, training, weights
from forgerank.cli.options import EXIT_CODES, STANDARD_OUTPUT, drop_output, local
from forgerank.cli.stopping import (
    CTRL_C,
    STOPPED_BY_CTRL_C,
    STOPPED_BY_SIGTERM,
    heed,
    heed_what_is_ignored,
    leave_at_once,
    left_alone_at_end,
    pass_on,
)
from forgerank.files import remove_empty_folders
from forgerank.limits import lacking
from forgerank.types import InputError, Terminated, printable


class _Commands(TyperGroup):
    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """A file in the place of the command is answered with the command that judges it."""
        if args[0] not in self.commands and os.path.exists(args[0]):
            ctx.fail(f"{args[0]!r} is no command. To judge it: forgerank detect {shlex.join(args)}")
        return super().resolve_command(ctx, args)


app = typer.Typer(
    cls=_Commands,
    help="Tells whether a face was forged, which components were manipulated, in what order, and where.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


_TORCH_CACHE = "TORCHINDUCTOR_CACHE_DIR"  # which PyTorch sets, too


def main() -> None:
    """The command: reads its arguments and ends with its exit code."""
    _open_closed_streams()
    if sys.__stdout__ is not None and not sys.__stdout__.isatty():
        sys.stdout = _named_output()
    # A console or a code page that lacks a letter shows it escaped, and costs no answer.
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    heed(signal.SIGINT, _interrupt)
    heed(signal.SIGTERM, _terminate)
    if hasattr(signal, "SIGHUP"):
        pass_on(signal.SIGHUP, signal.SIGTERM)
    heed_what_is_ignored()
    code = 1
    try:
        with one_line_errors(), left_alone_at_end(), _no_empty_folders(), _no_cache_of_torch():
            _check_working_directory()
            app()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
        if code:
            sys.unraisablehook = lambda _: None  # what was left half made complains when it goes
        raise
    finally:
        leave_at_once(code)


def _check_working_directory() -> None:
    """Without one neither relative paths nor processes nor PyTorch work, and none says why."""
    try:
        os.getcwd()
    except FileNotFoundError:
        raise InputError("the working directory was deleted: change to another (cd)") from None


def _open_closed_streams() -> None:
    """Streams that the caller closed (`>&-`) lead nowhere; else their numbers would fall to other files."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 - to the end


class _NamedOutput(FileIO):
    """Standard output whose errors say what it is; that its reader has had enough, as `head` has, is none."""

    def write(self, content: Any) -> int:
        try:
            return super().write(content)
        except BrokenPipeError:
            drop_output()
            return len(content)
        except OSError as error:
            error.filename = STANDARD_OUTPUT
            raise


def _named_output() -> TextIOWrapper:
    raw = _NamedOutput(sys.stdout.fileno(), "w", closefd=False)
    return TextIOWrapper(BufferedWriter(raw), encoding=sys.stdout.encoding)


def _interrupt() -> NoReturn:
    raise KeyboardInterrupt


def _terminate() -> NoReturn:
    raise Terminated(STOPPED_BY_SIGTERM)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Bad input, a full disk and too little of what `lacking` knows end the command with one line on standard
    error and exit code 2; Ctrl-C with one line and exit code 130, SIGTERM with one line and that signal.
    """
    try:
        yield
    except InputError as error:
        _print_error(str(error))
        sys.exit(2)
    except SystemExit as error:
        if error.code == CTRL_C:
            _print_error(STOPPED_BY_CTRL_C)
        raise
    except KeyboardInterrupt:  # where Typer did not see to it
        _print_error(STOPPED_BY_CTRL_C)
        sys.exit(CTRL_C)
    except Terminated as error:
        if os.environ.get("RANK", "0") == "0":  # one of several processes that torchrun started
            _print_error(str(error))
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)
    except OSError as error:
        from forgerank.files import os_reason

        if error.filename == STANDARD_OUTPUT:
            drop_output()
        name = f"{os.fsdecode(error.filename)}: " if error.filename else ""
        _print_error(f"{name}{os_reason(error)}")
        sys.exit(2)
    except Exception as error:
        lack = lacking(error)
        if lack is None:
            raise
        _print_error(lack)
        sys.exit(2)


@contextmanager
def _no_empty_folders() -> Iterator[None]:
    """A command that fails leaves no folder that it made and put nothing into."""
    try:
        yield
    except BaseException as error:
        if not (isinstance(error, SystemExit) and error.code in (0, None)):
            remove_empty_folders()
        raise


@contextmanager
def _no_cache_of_torch() -> Iterator[None]:
    """PyTorch makes a folder for compiled code as it is imported, and leaves it empty in that for temporary
    files, unless its place is set.
    """
    given = _TORCH_CACHE in os.environ
    try:
        yield
    finally:
        if not given and _TORCH_CACHE in os.environ:
            with suppress(OSError):  # it is not empty
                os.rmdir(os.environ[_TORCH_CACHE])


def _print_error(message: str) -> None:
    """By no library: there may be no memory to load one."""
    print(f"forgerank: {printable(message)}", file=sys.stderr, flush=True)


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)
    ] = False,
) -> None:
    if version:
        typer.echo(f"forgerank {__version__}")
        raise typer.Exit


app.command(epilog=EXIT_CODES)(analysis.detect)  # which answers for each file that it is given
for command in (
    analysis.faces,
    forge.forge,
    training.train,
    training.evaluate,
    weights.export,
    reproduce.reproduce,
    training.curve,
    weights.card,
    weights.push,
):
    app.command(epilog=EXIT_CODES)(local(command))

app.command(epilog=scan.EXIT_CODES)(local(scan.scan))
app.command(epilog=EXIT_CODES)(local(scan.summarize))

app.command(cls=serve.ServeCommand, epilog=EXIT_CODES)(local(serve.serve))
app.add_typer(serve.keys_app, name="keys")
app.add_typer(data.app, name="data")


def _leave_reading(commands: typer.Typer) -> None:
    """What may not be read is found where it is read, and costs no other file: Typer would refuse all."""
    for group in commands.registered_groups:
        if group.typer_instance is not None:
            _leave_reading(group.typer_instance)
    for command in commands.registered_commands:
        for hint in get_type_hints(command.callback, include_extras=True).values():
            for parameter in getattr(hint, "__metadata__", ()):
                parameter.readable = False


_leave_reading(app)
