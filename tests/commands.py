"""`forgerank detect` as its tests call it."""

from typer.testing import CliRunner, Result

from forgerank.cli.main import app


def detect(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["detect", *map(str, arguments)])
