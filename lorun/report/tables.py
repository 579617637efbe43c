"""The tables of the page. Cells have the text of summary.md and are sorted by their value."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import pandas as pd

from lorun.evaluation.metrics import METRICS, Metric
from lorun.evaluation.protocols import get_protocol
from lorun.profiles import Profile
from lorun.report.provenance import Provenance
from lorun.results import markdown
from lorun.results.cells import Cell, Column, column, make_table
from lorun.results.markdown import (
    COSTS,
    in_common,
    score_columns,
    scores_by_degradation,
    whole,
    with_difference,
)
from lorun.results.store import PLACE, ResultSet, grouped
from lorun.results.verdict import verdict


@dataclass(frozen=True)
class PageCell(Cell):
    """A cell of the page; `line` is that of the summary which a click opens, `kind` the status or verdict that sets the
    colour."""

    line: int | None = None
    kind: str = ""

    @property
    def order(self) -> float | str | None:
        """The number to sort by; "" if the value is missing, None to sort by the text."""
        return "" if self.value is None else None if isinstance(self.value, str) else self.value


@dataclass(frozen=True)
class Table:
    """A table of the page; `protocols` are those of its rows, if there are several to choose from."""

    name: str
    caption: str
    columns: list[str]
    rows: list[list[PageCell]]
    protocols: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Section:
    """One task, dataset and setting: its `lines` of the summary under the leading protocol, and its tables."""

    task: str
    dataset: str
    setting: str
    title: str
    note: str
    protocol: str
    metrics: list[Metric]
    lines: pd.DataFrame
    scores: Table
    degradations: list[Table]


_COLOURED = ("status", "verdict")
_LINKED = {"differences": ("difference (dB)",), "comparison": ("ours",)}


def sections(profile: Profile, results: ResultSet, provenance: Provenance) -> list[Section]:
    """A section for each task, dataset and setting, in the order of the summary."""
    by_degradation = grouped(results.degradations, PLACE)
    found = []
    for number, (title, lines, common) in enumerate(markdown.sections(results.summary)):
        task, dataset, setting = (str(common[name]) for name in PLACE)
        protocols = list(lines.protocol.unique())
        lines = with_difference(lines, results.differences)
        scores = score_columns(lines)
        found.append(
            Section(
                task=task,
                dataset=dataset,
                setting=setting,
                title=title,
                note=in_common(profile, lines, common).replace("`", ""),
                protocol=protocols[0],
                metrics=[METRICS[name] for name in get_protocol(protocols[0]).metrics],
                lines=lines[lines.protocol == protocols[0]],
                scores=_table(
                    f"scores-{number}",
                    f"Scores and costs: {title}",
                    lines,
                    [*scores, *COSTS, column("protocol")],
                    provenance,
                    linked=[one.heading for one in scores[1:]],
                    protocols=protocols,
                ),
                degradations=_degradations(number, by_degradation.get((task, dataset, setting)), provenance),
            )
        )
    return found


def verdict_on(results: ResultSet) -> tuple[Table | None, list[str]]:
    """The paper's claims and our measurements of this set, and how it compared; no table if it measures none."""
    found, compared = verdict([results], [""])
    rows = [[_page_cell(one) for one in row] for row in found.rows]
    return Table("verdict-table", "The paper's claims", found.headings, rows) if rows else None, compared


def whole_tables(results: ResultSet, provenance: Provenance) -> dict[str, Table]:
    """The tables that belong to no section, by name."""
    return {
        name: _table(f"{name}-table", title, frame, columns, provenance, _LINKED.get(name, ()))
        for name, title, frame, columns in whole(results)
    }


def _table(
    name: str,
    caption: str,
    frame: pd.DataFrame,
    columns: Sequence[Column],
    provenance: Provenance,
    linked: Collection[str],
    protocols: Sequence[str] = (),
) -> Table:
    """The table of a frame; cells of the columns `linked` open the provenance of their row."""
    made = make_table(frame, columns)
    rows = []
    for (_, row), cells in zip(frame.iterrows(), made.rows, strict=True):
        line = provenance.number(row) if linked else None
        rows.append(
            [
                _page_cell(one, line if name in linked else None, str(row[name]) if name in _COLOURED else "")
                for name, one in zip(made.headings, cells, strict=True)
            ]
        )
    return Table(name, caption, made.headings, rows, list(protocols))


def _page_cell(made: Cell, line: int | None = None, kind: str = "") -> PageCell:
    return PageCell(made.value, made.text, made.mark, line, kind)


def _degradations(number: int, scores: pd.DataFrame | None, provenance: Provenance) -> list[Table]:
    """A table per protocol and metric of a section: a row per method, a column per degradation."""
    tables: list[Table] = []
    groups = {} if scores is None else grouped(scores, ("protocol", "metric"))
    for (protocol, name), group in groups.items():
        metric = METRICS[name]
        made = scores_by_degradation(group, metric)
        numbers = {line.method: provenance.number(line) for _, line in group.iterrows()}
        rows = [
            [_page_cell(method), *(_page_cell(one, numbers[method.text]) for one in cells)]
            for method, *cells in made.rows
        ]
        caption = f"{metric.heading} under each degradation, {protocol}"
        tables.append(Table(f"degradations-{number}-{len(tables)}", caption, made.headings, rows))
    return tables
