import json
from pathlib import Path

import pytest

from forgerank.report.schema import PAGE, SCHEMA_FILE, fill_tables, main, schema_text

DOCS = Path(__file__).resolve().parents[2] / "docs"
ADVICE = "run: python -m forgerank.report.schema docs"


def test_the_committed_schema_is_that_of_the_models() -> None:
    assert (DOCS / SCHEMA_FILE).read_text(encoding="utf-8") == schema_text(), ADVICE


def test_the_tables_are_those_of_the_models() -> None:
    page = (DOCS / PAGE).read_text(encoding="utf-8")
    assert fill_tables(page) == page, ADVICE


def test_every_field_of_every_model_is_described_on_the_page() -> None:
    schema = json.loads(schema_text())
    page = (DOCS / PAGE).read_text(encoding="utf-8")
    for name, model in {**schema["$defs"], "ReportFile": schema}.items():
        assert f"<!-- table {name} -->" in page
        for field, facts in model["properties"].items():
            assert facts.get("description"), f"{name}.{field}"
            assert f"| `{field}` |" in page


def test_what_is_written_is_required() -> None:
    schema = json.loads(schema_text())
    for model in [*schema["$defs"].values(), schema]:
        assert sorted(model["required"]) == sorted(model["properties"])


def test_prose_stays_and_an_old_table_goes(tmp_path: Path) -> None:
    page = "before\n<!-- table ErrorEntry -->\nold\n<!-- end -->\nafter\n"
    (tmp_path / PAGE).write_text(page)
    main(tmp_path)
    filled = (tmp_path / PAGE).read_text()
    assert filled.startswith("before\n<!-- table ErrorEntry -->\n")
    assert filled.endswith("<!-- end -->\nafter\n")
    assert "| `reason` | string | one line |" in filled
    assert "old" not in filled
    assert (tmp_path / SCHEMA_FILE).read_text() == schema_text()
    with pytest.raises(KeyError):
        fill_tables("<!-- table NoModel -->\n<!-- end -->")
