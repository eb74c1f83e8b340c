"""The JSON schema and the tables of docs/report.md, made from the models.

Run as `python -m forgerank.report.document docs`.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

from forgerank.report.schema import SCHEMA_VERSION, ReportFile

SCHEMA_FILE = f"schema/report-{SCHEMA_VERSION}.json"
PAGE = "report.md"
_TABLE = re.compile(r"(<!-- table (\w+) -->\n).*?(?=<!-- end -->)", re.DOTALL)


def schema_text() -> str:
    """The JSON schema of a report as it is written."""
    schema = ReportFile.model_json_schema(mode="serialization")
    return json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}, indent=2) + "\n"


def fill_tables(page: str) -> str:
    """The page with the table of a model between each `<!-- table Model -->` and `<!-- end -->`.

    Raises KeyError for a model that is no part of the report.
    """
    schema = ReportFile.model_json_schema(mode="serialization")
    models = {**schema["$defs"], ReportFile.__name__: schema}
    return _TABLE.sub(lambda found: found[1] + _table(models[found[2]]), page)


def _table(model: dict[str, Any]) -> str:
    fields = model["properties"].items()
    rows = (f"| `{name}` | {_kind(field)} | {field['description']} |" for name, field in fields)
    return "\n".join(["", "| field | type | meaning |", "|---|---|---|", *rows, "", ""])


def _kind(field: dict[str, Any]) -> str:
    """The type of a field in words."""
    if "anyOf" in field:
        return " or ".join(_kind(option) for option in field["anyOf"])
    if "$ref" in field:
        name = field["$ref"].rsplit("/", 1)[-1]
        return f"[{name}](#{name.lower()})"
    if "const" in field:
        return f"`{json.dumps(field['const'])}`"
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if "prefixItems" in field:
        return f"list of {len(field['prefixItems'])} {field['prefixItems'][0]['type']}s"
    if "items" in field:
        return f"list of {_kind(field['items'])}{'s' if 'type' in field['items'] else ''}"
    return str(field["type"])


def main(docs: Path) -> None:
    """Write the schema and fill the tables in a folder of documentation."""
    (docs / SCHEMA_FILE).parent.mkdir(exist_ok=True)
    (docs / SCHEMA_FILE).write_text(schema_text(), encoding="utf-8")
    page = docs / PAGE
    page.write_text(fill_tables(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
