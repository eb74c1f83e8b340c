"""HTML templates of the packages here. Every value in them is escaped, whatever a file name holds."""

from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from forgerank.report.words import percent, printable


@cache
def load_template(package: str, name: str) -> Template:
    """The template `name` in the folder `templates` of a package."""
    environment = Environment(
        loader=PackageLoader(package),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: printable(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = percent
    return environment.get_template(name)
