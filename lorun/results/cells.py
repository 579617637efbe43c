"""Cells of the tables that people read: a value, and the text that shows it."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import pandas as pd
from tabulate import tabulate  # type: ignore[import-untyped]

NONE = "–"
"""The text of a missing value."""


UNRANKED = {"oracle": "it is cut from a whole Block-K, to show what adapters could reach"}
"""Methods that are shown without competing, and why."""

Mark = Literal["", "best", "second"]

_MARKDOWN = {"": "{}", "best": "**{}**", "second": "<ins>{}</ins>"}
_LATEX = {"": "", "best": "textbf:--rwrap;", "second": "underline:--rwrap;"}
_ESCAPED = str.maketrans(
    {character: f"\\{character}" for character in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {"±": r"$\pm$", "≥": r"$\ge$", NONE: "--"}
)


@dataclass(frozen=True)
class Cell:
    """`value` is a number, a text, or None if there is none; `text` shows it; `mark` is its rank in its column."""

    value: float | str | None
    text: str
    mark: Mark = ""


class Column(NamedTuple):
    """A heading, what makes the cell of a row of the underlying table, and which values are `better`, if some are."""

    heading: str
    make: Callable[[Any], Cell]
    better: Literal["higher", "lower"] | None = None


@dataclass(frozen=True)
class Table:
    """Headings, and a list of cells per row."""

    headings: list[str]
    rows: list[list[Cell]]

    def markdown(self, right: bool = True) -> str:
        """The table in Markdown, all columns but the first aligned to the `right`."""
        texts = [[_MARKDOWN[cell.mark].format(cell.text) for cell in row] for row in self.rows]
        align = ["left"] + ["right" if right else "left"] * (len(self.headings) - 1)
        return tabulate(texts, self.headings, "pipe", disable_numparse=True, colalign=align) + "\n"

    def latex(self, caption: str, label: str) -> str:
        """The table as a float of LaTeX; needs the package booktabs."""
        headings = [_in_latex(heading) for heading in self.headings]
        texts = pd.DataFrame([[_in_latex(cell.text) for cell in row] for row in self.rows], columns=headings)
        marks = pd.DataFrame([[_LATEX[cell.mark] for cell in row] for row in self.rows], columns=headings)
        return (texts.style.apply(lambda _: marks, axis=None).hide(axis="index")).to_latex(
            caption=_in_latex(caption),
            label=label,
            hrules=True,
            position_float="centering",
            column_format="l" + "r" * (len(self.headings) - 1),
        )


def make_table(frame: pd.DataFrame, columns: Sequence[Column]) -> Table:
    """The cells of every row of `frame`, the best ones of each column with a `better` marked, protocol by protocol.

    Methods in `UNRANKED` get no mark.
    """
    rows = [row for _, row in frame.iterrows()]
    table = [[column.make(row) for column in columns] for row in rows]
    for protocol in frame.protocol.unique() if "protocol" in frame else [None]:
        ranked = [
            cells
            for row, cells in zip(rows, table, strict=True)
            if row.get("protocol") == protocol and row.get("method") not in UNRANKED
        ]
        mark_best(ranked, [column.better for column in columns])
    return Table([column.heading for column in columns], table)


def mark_best(rows: Sequence[list[Cell]], better: Iterable[str | None]) -> None:
    """Mark the best and the second best cell of each column for which `better` is "higher" or "lower".

    Cells that look the same share a mark. A column in which all look the same has none.
    """
    for at, direction in enumerate(better):
        shown = {float(row[at].text.split()[0]) for row in rows if direction and row[at].value is not None}
        best = sorted(shown, reverse=direction == "higher")
        marks: dict[float, Mark] = dict(zip(best, ("best", "second"), strict=False)) if len(best) > 1 else {}
        for row in rows if marks else ():
            if row[at].value is not None:
                row[at] = replace(row[at], mark=marks.get(float(row[at].text.split()[0]), ""))


def _in_latex(text: str) -> str:
    """A text for LaTeX, with signs of numbers as minus."""
    return re.sub(r"(?<![\w.])-(?=\d)", "$-$", text.translate(_ESCAPED))


def column(name: str, heading: str | None = None, show: Callable[..., Cell] | None = None, **options: Any) -> Column:
    """The column `name` of a table, each value as the cell that `show` makes of it. Older tables may lack it."""
    return Column(heading or name, lambda row: (show or cell)(row.get(name), **options))


def cell(value: Any, show: Callable[[Any], str] = str) -> Cell:
    """A cell of a number or a text; null gives `NONE`."""
    if pd.isna(value):
        return Cell(None, NONE)
    return Cell(value.item() if hasattr(value, "item") else value, show(value))


def integer(value: Any) -> Cell:
    """A whole number, with a space between thousands."""
    return cell(value, lambda number: f"{int(number):,}".replace(",", " "))


def decimal(value: Any, digits: int, unit: float = 1, form: Literal["f", "g"] = "f") -> Cell:
    """A number in a unit, with so many decimals, or significant digits ("g")."""
    return cell(value, lambda number: f"{number / unit:.{digits}{form}}")


def spread(mean: Any, sd: Any, digits: int) -> Cell:
    """A mean with its standard deviation, if there is one."""
    return cell(mean, lambda number: f"{number:.{digits}f}" + ("" if pd.isna(sd) else f" ± {sd:.{digits}f}"))
