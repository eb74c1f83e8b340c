"""`forgerank serve` and `forgerank keys`: over `forgerank.serving.service`, needs the serve extra."""

import errno
import os
import signal
import socket
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from typer.core import TyperCommand

from forgerank.extras import require
from forgerank.files import os_reason
from forgerank.types import InputError

if TYPE_CHECKING:
    from forgerank.serving.service.keys import Keys
    from forgerank.serving.service.service_settings import ServiceSettings

keys_app = typer.Typer(help="Make, list and revoke the API keys of a service.", no_args_is_help=True)

Data = Annotated[
    Path,
    typer.Option(
        help="Folder of the database and of uploads; made where it is missing.",
        envvar="FORGERANK_DATA",
        metavar="DIR",
        show_envvar=True,
    ),
]
Database = Annotated[
    str | None,
    typer.Option(
        help="postgresql://USER:PASSWORD@HOST/NAME, or sqlite:///FILE.",
        envvar="FORGERANK_DATABASE",
        metavar="URL",
        show_default="SQLite in DIR",
        show_envvar=True,
    ),
]
_DATA = Path("forgerank-data")


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8000,
    data: Data = _DATA,
    database: Database = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes that judge jobs.")] = 1,
    web: Annotated[bool, typer.Option("--web", help="Serve the web page at /, too.")] = False,
    keys: Annotated[
        bool | None,
        typer.Option("--keys/--no-keys", help="Require API keys.", show_default="except on the loopback"),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(help="Folder with forgerank.json and its files.", show_default="the package's own"),
    ] = None,
    device: Annotated[
        str, typer.Option(help="What runs the network: cpu, or cuda with onnxruntime-gpu.")
    ] = "cpu",
    access_log: Annotated[
        bool,
        typer.Option("--access-log/--no-access-log", help="A line for every request, on standard error."),
    ] = True,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", help="Set one of the settings below; repeat as needed.", metavar="NAME=VALUE"),
    ] = None,
) -> None:
    """Serve the detector over HTTP: photographs at once, videos and archives as jobs.

    Examples:

    * `forgerank serve --web`

    * `forgerank keys add newsroom` and then `forgerank serve --host 0.0.0.0 --workers 2`

    * `forgerank serve --set photo_bytes=10000000 --set retention_seconds=3600`
    """
    require("web" if web else "serve")
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # the server's own, once it runs: it finishes requests
    from forgerank.serving.service.app import create_app, run, share_arenas
    from forgerank.serving.service.logs import log_to_stderr
    from forgerank.serving.service.service_settings import LOOPBACK

    options: dict[str, Any] = dict(
        host=host,
        port=port,
        data=data,
        database=database,
        workers=workers,
        web=web,
        require_keys=host not in LOOPBACK if keys is None else keys,
        weights=weights,
        device=device,
        access_log=access_log,
    )
    settings = _settings(options | _pairs(overrides or []))
    with _listen(settings) as listener:  # fails before the work rather than after it
        _make(data)
        share_arenas()
        log_to_stderr(access=settings.access_log)
        app = create_app(settings)
        if settings.require_keys and not app.state.service.keys.any():
            raise InputError(f"{host}: API keys are required here; make one: forgerank keys add NAME")
        shown, number = listener.getsockname()[:2]
        shown = f"[{shown}]" if ":" in shown else shown
        typer.echo("\n".join(_welcome(settings, f"http://{shown}:{number}")))
        run(app, listener)


class ServeCommand(TyperCommand):
    """A command whose help ends with every setting of the service."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        super().format_help(ctx, formatter)
        # Below what Typer prints by itself, whatever it does with an epilog.
        Console().print(_settings_table())


def _settings_table() -> Table:
    from forgerank.serving.service.service_settings import ServiceSettings

    table = Table(
        "NAME", "default", "meaning", title="Settings for --set NAME=VALUE", box=SIMPLE, title_justify="left"
    )
    for name, field in ServiceSettings.model_fields.items():
        default = "" if field.is_required() or field.default is None else str(field.default)
        table.add_row(name, default, field.description)
    return table


def _welcome(settings: "ServiceSettings", address: str) -> list[str]:
    """What a person who started the server wants to know, a line each; the address is first."""
    keys = "required: forgerank keys list" if settings.require_keys else "not required, on this machine alone"
    database = "" if settings.database is None else "; jobs in the database of --database"
    return [
        f"{address}{'' if settings.web else '/docs'}",
        f"API       {address}/docs",
        f"data      {settings.data.absolute()}{database}",
        f"API keys  {keys}",
        "stop      Ctrl-C; requests in work are finished",
    ]


@keys_app.command()
def add(
    name: Annotated[str, typer.Argument(help="Whose key it is; shown in the list.")],
    data: Data = _DATA,
    database: Database = None,
) -> None:
    """Make a key and print it. It is shown this once: only a hash is kept."""
    typer.echo(_keys(data, database).add(name))


@keys_app.command("list")
def show(data: Data = _DATA, database: Database = None) -> None:
    """List the keys: number, date, owner."""
    for key in _keys(data, database).all():
        state = "" if key.revoked is None else f"  revoked {key.revoked:%Y-%m-%d}"
        typer.echo(f"{key.id:6}  {key.created:%Y-%m-%d}  {key.name}{state}")


@keys_app.command()
def revoke(
    number: Annotated[int, typer.Argument(help="The key's number in the list.")],
    data: Data = _DATA,
    database: Database = None,
) -> None:
    """Make a key worthless at once; the jobs that it sent stay until their time is over."""
    _keys(data, database).revoke(number)


def _keys(data: Path, database: str | None) -> "Keys":
    require("serve")
    from forgerank.serving.service.database import open_database
    from forgerank.serving.service.keys import Keys

    _make(data)
    return Keys(open_database(_settings({"data": data, "database": database}).database_url))


def _settings(values: dict[str, Any]) -> "ServiceSettings":
    from pydantic import ValidationError

    from forgerank.serving.service.service_settings import ServiceSettings

    try:
        return ServiceSettings.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        unknown = first["type"] == "extra_forbidden"
        reason = "no such setting" if unknown else first["msg"].removeprefix("Value error, ")
        raise InputError(f"{where}: {reason}" if where else reason) from None


def _pairs(overrides: list[str]) -> dict[str, Any]:
    for text in overrides:
        if "=" not in text:
            raise InputError(f"--set {text}: give NAME=VALUE")
    return dict(text.split("=", 1) for text in overrides)


def _make(data: Path) -> None:
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        TemporaryFile(dir=data).close()
    except OSError as error:
        raise InputError(f"{data}: cannot keep data here ({os_reason(error)})") from None


def _listen(settings: "ServiceSettings") -> socket.socket:
    """Raises InputError for an address that cannot be had, such as a port that is taken."""
    try:
        family, *_, address = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family)
    except OSError as error:
        # What create_server adds to the system's own words would say the address twice.
        taken = error.errno == errno.EADDRINUSE
        reason = os.strerror(errno.EADDRINUSE) if taken else error.strerror or str(error)
        raise InputError(f"{settings.host}:{settings.port}: {reason.lower()}") from None
