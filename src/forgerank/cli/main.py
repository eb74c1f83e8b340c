"""The `forgerank` command. Every import that costs time waits inside the command that needs it."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Console

from forgerank import __version__
from forgerank.cli import analysis, data, forge, reproduce, scan, serve, training, weights
from forgerank.cli.options import EXIT_CODES
from forgerank.types import InputError

app = typer.Typer(
    help="Tells whether a face was forged, which components were manipulated, in what order, and where.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Entry point of the console script."""
    with one_line_errors():
        app()


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Bad input ends the command with one line on standard error and exit code 2."""
    try:
        yield
    except InputError as error:
        from forgerank.cli.detect import print_error

        print_error(Console(stderr=True), str(error))
        sys.exit(2)


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)
    ] = False,
) -> None:
    if version:
        typer.echo(f"forgerank {__version__}")
        raise typer.Exit


for command in (
    analysis.detect,
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
    app.command(epilog=EXIT_CODES)(command)

app.command(epilog=scan.EXIT_CODES)(scan.scan)
app.command(epilog=EXIT_CODES)(scan.summarize)

app.command(epilog=EXIT_CODES)(serve.serve)
app.add_typer(serve.keys_app, name="keys")
app.add_typer(data.app, name="data")
