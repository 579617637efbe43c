"""The tables of the page. Cells have the text of summary.md and are sorted by their value."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from lorun.evaluation.metrics import METRICS, Metric
from lorun.evaluation.protocols import get_protocol
from lorun.profiles import Profile
from lorun.report.provenance import Provenance
from lorun.results import markdown
from lorun.results.cells import Cell, Column, cell, make_table
from lorun.results.markdown import (
    CLAIMS,
    COSTS,
    DIFFERENCES,
    TASKS,
    TUNING,
    comparison_columns,
    leading_differences,
    operator_heading,
    score_columns,
    scores_by_degradation,
    with_difference,
)
from lorun.results.store import ResultSet, grouped
from lorun.results.summary import choices
from lorun.results.verdict import verdict


@dataclass(frozen=True)
class PageCell:
    """A cell of the page.

    text   what it shows
    order  the number to sort by; "" if the value is missing, None to sort by the text
    line   the line of the summary that a click opens
    kind   the status or verdict that sets the colour
    mark   "best", "second" or ""
    """

    text: str
    order: float | str | None = None
    line: int | None = None
    kind: str = ""
    mark: str = ""


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

    number: int
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


_PLACE = ("task", "dataset", "setting")
_LAST = ("operator", "protocol", "source")  # long columns of the comparison, so that a narrow screen shows the verdict


def sections(profile: Profile, results: ResultSet, provenance: Provenance) -> list[Section]:
    """A section for each task, dataset and setting, in the order of the summary."""
    by_degradation = grouped(results.degradations, _PLACE)
    found = []
    for number, (title, lines, common) in enumerate(markdown.sections(results.summary)):
        task, dataset, setting = (str(common[name]) for name in _PLACE)
        protocols = list(lines.protocol.unique())
        lines = with_difference(lines, results.differences)
        scores = score_columns(lines)
        protocol = Column("protocol", lambda row: cell(row.protocol))
        found.append(
            Section(
                number=number,
                task=task,
                dataset=dataset,
                setting=setting,
                title=title,
                note=_note(profile, lines, common),
                protocol=protocols[0],
                metrics=[METRICS[name] for name in get_protocol(protocols[0]).metrics],
                lines=lines[lines.protocol == protocols[0]],
                scores=_table(
                    f"scores-{number}",
                    f"Scores and costs: {title}",
                    lines,
                    [*scores, *COSTS, protocol],
                    provenance,
                    linked=[column.heading for column in scores[1:]],
                    protocols=protocols,
                ),
                degradations=_degradations(number, by_degradation.get((task, dataset, setting)), provenance),
            )
        )
    return found


def overview(sections: Sequence[Section]) -> Table:
    """The leading score of every method in every section: a row per method, a column per section."""
    methods = dict.fromkeys(method for section in sections for method in section.lines.method)
    rows = [[PageCell(method), *(_leading(section, method) for section in sections)] for method in methods]
    columns = [
        "method",
        *(f"{section.title}: {section.metrics[0].heading}, {section.protocol}" for section in sections),
    ]
    return Table("overview-table", "The leading score of every method", columns, rows)


def verdict_on(results: ResultSet) -> tuple[Table | None, list[str]]:
    """The paper's claims and our measurements of this set, and how it compared; no table if it measures none."""
    found, compared = verdict([results], [""])
    rows = [[_page_cell(one) for one in row] for row in found.rows]
    return Table("verdict-table", "The paper's claims", found.headings, rows) if rows else None, compared


def whole_tables(results: ResultSet, provenance: Provenance) -> dict[str, Table | None]:
    """The tables that belong to no section, by name; None for a table without rows."""
    comparison = sorted(comparison_columns(results.comparison), key=lambda column: column[0] in _LAST)
    paired = leading_differences(results)
    tables = {
        "differences": _table(
            "differences-table",
            "Differences in PSNR, paired by image and seed",
            paired,
            DIFFERENCES,
            provenance,
            ["difference (dB)"],
        ),
        "tuning": _table("tuning-table", "Chosen learning rates", choices(results.tuning), TUNING),
        "claims": _table("claims-table", "What the paper claims for LoRun, and our result", results.claims, CLAIMS),
        "comparison": _table(
            "comparison-table", "Published scores and ours", results.comparison, comparison, provenance, ["ours"]
        ),
        "tasks": _table("tasks-table", "What each task adds to a shared base", results.tasks, TASKS),
    }
    return {name: table if table.rows else None for name, table in tables.items()}


def _note(profile: Profile, lines: pd.DataFrame, common: dict[Any, Any]) -> str:
    """What all numbers of a section have in common."""
    parts = [operator_heading(profile, common)]
    if common["m"] is not None:
        parts.append(f"m = {common['m']} per block")
    parts.append(f"{lines.images.max()} test images, {lines.seeds.max()} of {lines.seeds_planned.max()} seeds")
    if common["checkpoint_policy"] is not None:
        parts.append("checkpoint: " + ", ".join(lines.checkpoint_policy.dropna().unique()))
    if common["step_batch"] is not None:
        parts.append(f"a training step has {common['step_batch']} patches of {common['step_patch']} pixels")
    if common["image"] is not None:
        parts.append(f"inference and GFLOPs are for one image of {common['image']} pixels")
    return "; ".join(parts) + "."


def _table(
    name: str,
    caption: str,
    frame: pd.DataFrame,
    columns: Sequence[Column],
    provenance: Provenance | None = None,
    linked: Collection[str] = (),
    protocols: Sequence[str] = (),
) -> Table:
    """The table of a frame; cells of the columns `linked` open the provenance of their row."""
    made = make_table(frame, columns)
    rows = []
    for (_, row), cells in zip(frame.iterrows(), made.rows, strict=True):
        line = provenance.number(row) if provenance is not None else None
        rows.append(
            [
                _page_cell(one, line if name in linked else None, str(row[name]) if name in _COLOURED else "")
                for name, one in zip(made.headings, cells, strict=True)
            ]
        )
    return Table(name, caption, made.headings, rows, list(protocols))


_COLOURED = ("status", "verdict")


def _page_cell(made: Cell, line: int | None = None, kind: str = "") -> PageCell:
    order = "" if made.value is None else None if isinstance(made.value, str) else made.value
    return PageCell(made.text, order, line, kind, made.mark)


def _degradations(number: int, scores: pd.DataFrame | None, provenance: Provenance) -> list[Table]:
    """A table per protocol and metric of a section: a row per method, a column per degradation."""
    tables: list[Table] = []
    groups = {} if scores is None else grouped(scores, ("protocol", "metric"))
    for (protocol, name), group in groups.items():
        metric = METRICS[name]
        made = scores_by_degradation(group, metric)
        numbers = {line.method: provenance.number(line) for _, line in group.iterrows()}
        rows = [
            [PageCell(method.text), *(_page_cell(one, numbers[method.text]) for one in cells)]
            for method, *cells in made.rows
        ]
        caption = f"{metric.heading} under each degradation, {protocol}"
        tables.append(Table(f"degradations-{number}-{len(tables)}", caption, made.headings, rows))
    return tables


def _leading(section: Section, method: str) -> PageCell:
    """The leading score of a method; its status if it has none."""
    for row in section.scores.rows:
        cells = dict(zip(section.scores.columns, row, strict=True))
        if (cells["method"].text, cells["protocol"].text) == (method, section.protocol):
            score, status = cells[section.metrics[0].heading], cells["status"]
            missing = score.order == "" and status.kind != "completed"
            return PageCell(status.kind, "", status.line, status.kind) if missing else score
    return PageCell("", "")
