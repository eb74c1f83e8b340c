"""Options, exit codes, parsing and the progress bar that several commands share."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from forgerank.types import InputError, printable

STANDARD_OUTPUT = "standard output"
_LISTED = 50  # images that cannot be read, a line for each
EXIT_CODES = (
    "Exit codes: 0 everything was read and answered, whatever the verdict; 1 the program failed; "
    "2 an input or an option was bad (one line each on standard error, the rest was answered all the same)."
)

Weights = Annotated[
    Path | None,
    typer.Option(help="Folder with forgerank.json and its files.", show_default="the package's own"),
]
FaceDetectorName = Annotated[str, typer.Option("--detector", help="Face detector: blazeface or retinaface.")]
FaceDetectorWeights = Annotated[
    Path | None,
    typer.Option("--detector-weights", help="ONNX file, needed for retinaface.", show_default=False),
]
MaxPixels = Annotated[
    int, typer.Option("--max-pixels", min=1, help="Largest image that is decoded, width times height.")
]
Thorough = Annotated[
    bool,
    typer.Option(
        "--thorough", help="Judge each face in four views, mirrored and at two scales, and average them."
    ),
]
Processes = Annotated[int, typer.Option("--workers", min=1, help="Processes.")]

# Of a network that is evaluated or exported.
EvaluatedData = Annotated[
    list[Path] | None,
    typer.Option(
        "--data",
        help="Data set in the Seq-DeepFake layout, prepared faces or shards; repeat to join several.",
        metavar="DIR",
        show_default="that of the config",
    ),
]
EvaluatedSplit = Annotated[str, typer.Option("--split", help="train, val or test.")]
Limit = Annotated[
    int | None, typer.Option(min=1, help="Use so many images, evenly spread.", show_default="all")
]
EachLimit = Annotated[
    int | None,
    typer.Option("--limit", min=1, help="Images of each data set, evenly spread.", show_default="all"),
]
Readers = Annotated[
    int | None,
    typer.Option("--workers", min=0, help="Processes that read images.", show_default="as in the config"),
]

ConfigOverrides = Annotated[
    list[str] | None,
    typer.Option("--set", help="Override a key of the config; repeat as needed.", metavar="KEY=VALUE"),
]
ReaderOptions = Annotated[
    list[str] | None,
    typer.Option("--set", help="Option of the data set's reader; repeat as needed.", metavar="KEY=VALUE"),
]


def local(command: Callable[..., None]) -> Callable[..., None]:
    """A command that refuses an address where it takes a file or a folder, in one line."""
    from forgerank.files import address

    @wraps(command)
    def checked(**given: Any) -> None:
        for values in given.values():
            for path in values if isinstance(values, list) else [values]:
                if isinstance(path, Path) and (url := address(path)) is not None:
                    raise InputError(
                        f"{url}: addresses are neither fetched nor written to: download it first, or name a "
                        "place on this machine"
                    )
        command(**given)

    return checked


def dashed(output: str | None) -> str | None:
    """`-` for a name of standard output, such as /dev/stdout; else the output as it was named."""
    from forgerank.files import STREAMS

    return "-" if STREAMS.get(str(output)) == 1 else output


def print_error(err: Console, message: str) -> None:
    """One line on standard error, whatever the message holds."""
    err.print(Text(f"forgerank: {printable(message)}"), soft_wrap=True)


def print_unread(lines: Sequence[str]) -> None:
    """The images that were passed over: all that one wants to read of them."""
    from forgerank.media.files import counted

    err = Console(stderr=True)
    for line in lines[:_LISTED]:
        print_error(err, line)
    if len(lines) > _LISTED:
        print_error(err, f"and {counted(len(lines) - _LISTED, 'more image')} that cannot be read")


@contextmanager
def printing() -> Iterator[None]:
    """What is printed here, to the end.

    Raises OutputError, one line, where standard output takes no more. That a reader has had enough, as `head`
    has, is no error: `main` sees to it for all that is printed.
    """
    from forgerank.files import OutputError, os_reason

    try:
        yield
        sys.stdout.flush()
    except OSError as error:
        drop_output()
        raise OutputError(Path(STANDARD_OUTPUT), f"cannot be written ({os_reason(error)})") from None


def drop_output() -> None:
    """Let standard output lead nowhere, so that what it could not take is not tried again at the end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def parse_settings(texts: Sequence[str] | None) -> dict[str, Any]:
    """KEY=VALUE options with YAML values. Raises InputError for anything else.

    >>> parse_settings(["compression=c40", "methods=[Deepfakes, FaceSwap]"])
    {'compression': 'c40', 'methods': ['Deepfakes', 'FaceSwap']}
    """
    from forgerank.files import parse_setting

    return dict(parse_setting(text) for text in texts or ())


@contextmanager
def progress_bar(title: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error that takes (done, total); silent where that is no terminal."""
    err = Console(stderr=True)
    columns = (TextColumn(title), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
