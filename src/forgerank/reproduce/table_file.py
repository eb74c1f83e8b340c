"""The YAML file of a table: its columns, its published metrics, and one run per row."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from forgerank.files import read_yaml
from forgerank.train.config import TrainConfig, load_config, load_values, merge, parse_config, with_overrides
from forgerank.types import InputError

SIZES = "sizes.yaml"  # beside the file of a table


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Row(_Frozen):
    """One row of a table, which is one run for each seed."""

    title: str
    published: dict[str, float] = {}  # metrics, percent
    overrides: dict[str, Any] = {}  # settings that differ from those of the table


class Table(_Frozen):
    """The content of a table's file."""

    title: str
    origin: str  # where the published metrics come from
    base: str  # settings file of all rows, relative to the table's file
    sizes: tuple[str, ...] = Field(min_length=1)  # entries of sizes.yaml, laid over the rows of small runs
    columns: tuple[str, ...] = Field(min_length=1)  # metrics, in order
    overrides: dict[str, Any] = {}  # settings of all rows that differ from those of `base`
    rows: dict[str, Row] = Field(min_length=1)
    others: dict[str, dict[str, float]] = {}  # published metrics of methods that are not run, percent
    cross: tuple[str, ...] = ()  # folders beside the training data that the rows are also tested on


def load_table(path: Path) -> Table:
    """Read the file of a table. Raises InputError, one line, where it cannot be read or is not valid."""
    try:
        return Table.model_validate(read_yaml(path))
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def row_values(path: Path, table: Table, row: str, *, small: bool = False) -> dict[str, Any]:
    """The plain settings of a row: the base, the table's overrides, the row's and, for small runs, the sizes.

    `path` is the file of the table. By default a run is called TABLE-ROW and written to runs/TABLE/ROW.
    """
    default = {"name": f"{path.stem}-{row}", "output": f"runs/{path.stem}/{row}"}
    values = load_values(path.parent / table.base)
    for changes in (default, table.overrides, table.rows[row].overrides):
        values = merge(values, changes)
    if not small:
        return values
    sizes = read_yaml(path.parent / SIZES)
    for name in table.sizes:
        if not isinstance(sizes, dict) or not isinstance(sizes.get(name), dict):
            raise InputError(f"{path.parent / SIZES}: holds no size {name}")
        values = merge(values, sizes[name])
    return values


def choose_rows(table: Table, wanted: Sequence[str], option: str = "--rows") -> list[str]:
    """The wanted rows, or all, in the table's order. Raises InputError for an unknown one."""
    unknown = [name for name in wanted if name not in table.rows]
    if unknown:
        raise InputError(f"{option} {unknown[0]}: the rows are {', '.join(table.rows)}")
    return [name for name in table.rows if not wanted or name in wanted]


def load_run(path: Path, row: str | None = None, overrides: Sequence[str] = ()) -> TrainConfig:
    """The settings of one run, from a settings file or from one row of a table, with `key=value` overrides.

    Raises InputError, one line, for a table without a row and for a row without a table.
    """
    content = read_yaml(path)
    if not isinstance(content, dict) or "rows" not in content:
        if row is not None:
            raise InputError(f"--row {row}: {path} is not a table")
        return load_config(path, overrides)
    table = load_table(path)
    if row is None:
        raise InputError(f"{path}: is a table: add --row with one of {', '.join(table.rows)}")
    choose_rows(table, [row], "--row")
    return parse_config(with_overrides(row_values(path, table, row), overrides), f"{path}: {row}")
