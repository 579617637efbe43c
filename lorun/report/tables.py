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
from lorun.results.cells import Cell, Column, cell, spread
from lorun.results.markdown import (
    CLAIMS,
    COSTS,
    DIFFERENCES,
    TASKS,
    TUNING,
    comparison_columns,
    leading_differences,
    score_columns,
)
from lorun.results.store import ResultSet, grouped
from lorun.results.tuning import choices


@dataclass(frozen=True)
class PageCell:
    """A cell of the page.

    text   what it shows
    order  the number to sort by; "" if the value is missing, None to sort by the text
    line   the line of the summary that a click opens
    kind   the status or verdict that sets the colour
    """

    text: str
    order: float | str | None = None
    line: int | None = None
    kind: str = ""


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
        scores = score_columns(lines)
        protocol: Column = ("protocol", lambda row: cell(row.protocol))
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
                    linked=[name for name, _ in scores[1:]],
                    protocols=protocols,
                ),
                degradations=_degradations(number, by_degradation.get((task, dataset, setting)), provenance),
            )
        )
    return found


def overview(sections: Sequence[Section], provenance: Provenance) -> Table:
    """The leading score of every method in every section: a row per method, a column per section."""
    methods = dict.fromkeys(method for section in sections for method in section.lines.method)
    rows = [[PageCell(method), *(_leading(section, method, provenance) for section in sections)] for method in methods]
    columns = [
        "method",
        *(f"{section.title}: {section.metrics[0].heading}, {section.protocol}" for section in sections),
    ]
    return Table("overview-table", "The leading score of every method", columns, rows)


def whole_tables(results: ResultSet, provenance: Provenance) -> dict[str, Table | None]:
    """The tables that belong to no section, by name; None for a table without rows."""
    comparison = sorted(comparison_columns(results.comparison), key=lambda column: column[0] in _LAST)
    shared = pd.DataFrame() if results.tasks is None else results.tasks
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
        "tasks": _table("tasks-table", "What each task adds to a shared base", shared, TASKS),
    }
    return {name: table if table.rows else None for name, table in tables.items()}


def _note(profile: Profile, lines: pd.DataFrame, common: dict[Any, Any]) -> str:
    """What all numbers of a section have in common."""
    try:
        heading = profile.tasks[common["task"]].physics_of(common["setting"]).heading
    except KeyError:  # the profile no longer has this task or setting
        heading = str(common["operator"])
    parts = [heading[0].upper() + heading[1:]]
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
    rows = []
    for _, row in frame.iterrows():
        line = provenance.number(row) if provenance is not None else None
        rows.append(
            [
                _page_cell(make(row), line if name in linked else None, str(row[name]) if name in _COLOURED else "")
                for name, make in columns
            ]
        )
    return Table(name, caption, [name for name, _ in columns], rows, list(protocols))


_COLOURED = ("status", "verdict")


def _page_cell(made: Cell, line: int | None = None, kind: str = "") -> PageCell:
    order = "" if made.value is None else None if isinstance(made.value, str) else made.value
    return PageCell(made.text, order, line, kind)


def _degradations(number: int, scores: pd.DataFrame | None, provenance: Provenance) -> list[Table]:
    """A table per protocol and metric of a section: a row per method, a column per degradation."""
    tables: list[Table] = []
    groups = {} if scores is None else grouped(scores, ("protocol", "metric"))
    for (protocol, name), group in groups.items():
        metric = METRICS[name]
        degradations = list(group.degradation.unique())
        rows = []
        for method, lines in group.groupby("method", sort=False):
            line = provenance.number(lines.iloc[0])
            lines = lines.set_index("degradation").reindex(degradations)
            cells = [spread(value, sd, metric.digits) for value, sd in zip(lines["value"], lines["sd"], strict=True)]
            rows.append([PageCell(str(method)), *(_page_cell(made, line) for made in cells)])
        caption = f"{metric.heading} under each degradation, {protocol}"
        tables.append(Table(f"degradations-{number}-{len(tables)}", caption, ["method", *degradations], rows))
    return tables


def _leading(section: Section, method: str, provenance: Provenance) -> PageCell:
    """The leading score of a method; its status if it has none."""
    lines = section.lines[section.lines.method == method]
    if lines.empty:
        return PageCell("", "")
    row, metric = lines.iloc[0], section.metrics[0]
    line = provenance.number(row)
    if pd.isna(row[metric.name]) and row.status != "completed":
        return PageCell(row.status, "", line, row.status)
    return _page_cell(spread(row[metric.name], row[f"{metric.name}_sd"], metric.digits), line)
