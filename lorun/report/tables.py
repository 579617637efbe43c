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
from lorun.results.cells import Cell, Column, column, make_table
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
from lorun.results.store import PLACE, ResultSet, grouped
from lorun.results.summary import choices
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
_LAST = ("operator", "protocol", "source")  # long columns of the comparison, so that a narrow screen shows the verdict


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
                note=_note(profile, lines, common),
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


def whole_tables(results: ResultSet, provenance: Provenance) -> dict[str, Table | None]:
    """The tables that belong to no section, by name; None for a table without rows."""
    comparison = sorted(comparison_columns(results.comparison), key=lambda one: one.heading in _LAST)
    tables: dict[str, tuple[str, pd.DataFrame, Sequence[Column]]] = {
        "differences": ("Differences in PSNR, paired by image and seed", leading_differences(results), DIFFERENCES),
        "tuning": ("Chosen learning rates", choices(results.tuning), TUNING),
        "claims": ("What the paper claims for LoRun, and our result", results.claims, CLAIMS),
        "comparison": ("Published scores and ours", results.comparison, comparison),
        "tasks": ("What each task adds to a shared base", results.tasks, TASKS),
    }
    return {
        name: _table(f"{name}-table", caption, frame, columns, provenance, _LINKED.get(name, ()))
        if len(frame)
        else None
        for name, (caption, frame, columns) in tables.items()
    }


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
