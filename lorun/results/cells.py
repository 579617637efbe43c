"""Cells of the tables that people read: a value, and the text that shows it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from tabulate import tabulate  # type: ignore[import-untyped]

NONE = "–"
"""The text of a missing value."""


@dataclass(frozen=True)
class Cell:
    """`value` is a number, a text, or None if there is none; `text` shows it."""

    value: float | str | None
    text: str


Column = tuple[str, Callable[[Any], Cell]]
"""A heading, and what makes the cell of a row of the underlying table."""


@dataclass(frozen=True)
class Table:
    """Headings, and a list of cells per row."""

    headings: list[str]
    rows: list[list[Cell]]

    def markdown(self, right: bool = True) -> str:
        """The table in Markdown, all columns but the first aligned to the `right`."""
        texts = [[cell.text for cell in row] for row in self.rows]
        align = ["left"] + ["right" if right else "left"] * (len(self.headings) - 1)
        return tabulate(texts, self.headings, "pipe", disable_numparse=True, colalign=align) + "\n"


def make_table(frame: pd.DataFrame, columns: Sequence[Column]) -> Table:
    """The cells of every row of `frame`."""
    rows = [[make(row) for _, make in columns] for _, row in frame.iterrows()]
    return Table([heading for heading, _ in columns], rows)


def column(name: str, heading: str | None = None, show: Callable[..., Cell] | None = None, **options: Any) -> Column:
    """The column `name` of a table, each value as the cell that `show` makes of it."""
    return heading or name, lambda row: (show or cell)(row[name], **options)


def cell(value: Any, show: Callable[[Any], str] = str) -> Cell:
    """A cell of a number or a text; null gives `NONE`."""
    if pd.isna(value):
        return Cell(None, NONE)
    return Cell(value.item() if hasattr(value, "item") else value, show(value))


def integer(value: Any) -> Cell:
    """A whole number, with a space between thousands."""
    return cell(value, lambda number: f"{int(number):,}".replace(",", " "))


def decimal(value: Any, digits: int, unit: float = 1) -> Cell:
    """A number in a unit, with so many decimals."""
    return cell(value, lambda number: f"{number / unit:.{digits}f}")


def significant(value: Any, digits: int, unit: float = 1) -> Cell:
    """A number in a unit, with so many significant digits."""
    return cell(value, lambda number: f"{number / unit:.{digits}g}")


def spread(mean: Any, sd: Any, digits: int) -> Cell:
    """A mean with its standard deviation, if there is one."""
    return cell(mean, lambda number: f"{number:.{digits}f}" + ("" if pd.isna(sd) else f" ± {sd:.{digits}f}"))
