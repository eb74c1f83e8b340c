"""The Jinja2 environment of every HTML page here. Every value is escaped, whatever a file name holds."""

from functools import cache

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from forgerank.report.words import percent, printable


@cache
def template_environment(package: str) -> Environment:
    """The environment of the templates in the folder `templates` of a package, and of the report's after
    them; with the filter `percent`.
    """
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader("forgerank.report")]),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: printable(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = percent
    return environment
