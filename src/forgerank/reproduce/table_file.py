"""The YAML file of a table: its columns, its published metrics, and one run per row."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

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
    folder: str = ""  # below --data that the row is about, in place of its vocabulary's; it has no `cross`


class Line(_Frozen):
    """One line of a table as the paper prints it."""

    method: str
    backbone: str = ""
    losses: str = ""  # the terms that the line has, where lines differ in them
    values: tuple[float | None, ...]  # of each column, as printed; None: the paper leaves the cell empty
    # the row of the file that is measured for each column, or one for all; none: the method is only cited
    rows: tuple[str | None, ...] = ()


class Printed(_Frozen):
    """A table as the paper prints it, and which rows of the file belong to its cells."""

    columns: dict[str, str] = Field(min_length=1)  # heading -> metric of the rows
    lines: tuple[Line, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _whole_lines(self) -> "Printed":
        for line in self.lines:
            if len(line.values) != len(self.columns) or len(line.rows) not in (0, 1, len(self.columns)):
                raise ValueError(f"{line.method}: needs a value for each of {len(self.columns)} columns")
        return self

    def cells(self, line: Line) -> list["Cell"]:
        """The cells of one of its lines."""
        rows = line.rows if len(line.rows) > 1 else (line.rows or (None,)) * len(self.columns)
        return [
            Cell(heading, metric, value, row)
            for (heading, metric), value, row in zip(self.columns.items(), line.values, rows, strict=True)
        ]


class Cell(NamedTuple):
    """One cell of a printed table."""

    heading: str
    metric: str
    value: float | None  # as printed; None: the cell is empty
    row: str | None  # of the file, whose metric stands beside it


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
    printed: Printed | None = None  # for a table of the paper

    @model_validator(mode="after")
    def _known_rows(self) -> "Table":
        named = {row for line in self.printed.lines for row in line.rows} if self.printed else set()
        if unknown := named - {None} - self.rows.keys():
            raise ValueError(f"printed: no row is called {', '.join(sorted(map(str, unknown)))}")
        return self

    def published(self, row: str) -> dict[str, float]:
        """The published metrics of a row, percent: its own and those of its cells in the printed table."""
        found = dict(self.rows[row].published)
        cells = (
            [cell for line in self.printed.lines for cell in self.printed.cells(line)] if self.printed else []
        )
        for cell in cells:
            if cell.row == row and cell.value is not None:
                found[cell.metric] = round(cell.value * 100 / scale_of(cell.metric), 4)
        return found


def scale_of(metric: str) -> int:
    """What the paper prints 1 as: R² is printed in 0..1, every other metric in percent.

    >>> scale_of("r2/nose"), scale_of("celebdf/auc")
    (1, 100)
    """
    return 1 if metric.partition("/")[0] == "r2" else 100


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
