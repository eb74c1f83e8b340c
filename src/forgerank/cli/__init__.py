"""The command line: a module for each group of commands, joined to one program in `main`.

>>> from typer.testing import CliRunner
>>> from forgerank.cli.main import app
>>> CliRunner().invoke(app, ["--version"]).output.startswith("forgerank ")
True
"""
