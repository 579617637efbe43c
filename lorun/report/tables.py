"""The tables of the page: the texts are those of summary.md, the order of a column that of its numbers."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from lorun.evaluation.metrics import METRICS, Metric
from lorun.evaluation.protocols import get_protocol
from lorun.profiles import Profile
from lorun.report.lines import Lines
from lorun.report.stored import Stored
from lorun.results.markdown import CLAIMS, COMPARISON, COSTS, TASKS, Columns
from lorun.results.summary import shown

_NONE = "–"


@dataclass(frozen=True)
class Cell:
    """What a cell shows, the number that it is sorted by ("" where there is none, None for the text itself), the line
    of the summary that it belongs to, and the kind of its mark."""

    text: str
    order: float | str | None = None
    line: int | None = None
    kind: str = ""


@dataclass(frozen=True)
class Table:
    """A table of the page; `protocols` are those of its rows, where there are several to choose from."""

    name: str
    caption: str
    columns: list[str]
    rows: list[list[Cell]]
    protocols: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Section:
    """What the page says of one task, dataset and setting."""

    number: int
    task: str
    dataset: str
    setting: str
    title: str
    note: str
    protocol: str
    metrics: list[Metric]
    scores: Table
    degradations: list[Table]


def sections(profile: Profile, summary: pd.DataFrame, degradations: pd.DataFrame, lines: Lines) -> list[Section]:
    """One for each task, dataset and setting of the summary, in its order."""
    found = []
    for number, ((task, dataset, setting), of) in enumerate(summary.groupby(_PLACE, sort=False)):
        protocols = list(of.protocol.unique())
        title = f"{task}, {shown(str(dataset), bool(of.simulated.iloc[0]))}, {setting}"
        of_section = degradations[(degradations[_PLACE] == [task, dataset, setting]).all(axis=1)]
        found.append(
            Section(
                number=number,
                task=str(task),
                dataset=str(dataset),
                setting=str(setting),
                title=title,
                note=_note(profile, str(task), str(setting), of),
                protocol=protocols[0],
                metrics=[METRICS[name] for name in get_protocol(protocols[0]).metrics],
                scores=_scores(f"scores-{number}", title, of, protocols, lines),
                degradations=_degradations(f"degradations-{number}", of_section, lines),
            )
        )
    return found


_PLACE = ["task", "dataset", "setting"]


def _note(profile: Profile, task: str, setting: str, of: pd.DataFrame) -> str:
    """What all numbers of a section share."""
    one: dict[str, Any] = {str(column): next(iter(of[column].dropna()), None) for column in of}
    try:
        heading = profile.tasks[task].physics_of(setting).heading
    except KeyError:  # a result set of an older profile
        heading = str(one["operator"])
    parts = [heading[0].upper() + heading[1:]]
    if one["m"] is not None:
        parts.append(f"m = {int(one['m'])} per block")
    parts.append(f"{int(of.images.max())} test images, {int(of.seeds.max())} of {int(of.seeds_planned.max())} seeds")
    if one["checkpoint_policy"] is not None:
        parts.append("checkpoint: " + ", ".join(of.checkpoint_policy.dropna().unique()))
    if one["step_batch"] is not None:
        parts.append(f"a training step is one on {int(one['step_batch'])} patches of {int(one['step_patch'])} pixels")
    if one["image"] is not None:
        parts.append(f"inference and GFLOPs are of one image of {int(one['image'])} pixels")
    return "; ".join(parts) + "."


def _scores(name: str, title: str, of: pd.DataFrame, protocols: list[str], lines: Lines) -> Table:
    named = {metric for protocol in protocols for metric in get_protocol(protocol).metrics}
    metrics = [metric for metric in METRICS.values() if metric.name in named]
    rows = []
    for _, row in of.iterrows():
        line = lines.number(row)
        status = f"{row.status} {int(row.seeds)}/{int(row.seeds_planned)}"
        cells = [Cell(str(row.method))]
        cells += [_score(row, metric.name, f"{metric.name}_sd", metric.digits, line) for metric in metrics]
        cells += [Cell(status, line=line, kind=str(row.status)), *_cells(row, COSTS), Cell(str(row.protocol))]
        rows.append(cells)
    headings = [metric.heading for metric in metrics]
    columns = ["method", *headings, "status", *(heading for heading, _ in COSTS), "protocol"]
    return Table(name, f"Scores and costs: {title}", columns, rows, protocols)


def _degradations(name: str, of: pd.DataFrame, lines: Lines) -> list[Table]:
    """A table for each protocol and metric of a section: a row per method, a column per degradation."""
    found: list[Table] = []
    for (protocol, metric), scores in of.groupby(["protocol", "metric"], sort=False):
        known = METRICS[str(metric)]
        names = list(scores.degradation.unique())
        rows = []
        for method, row in scores.groupby("method", sort=False):
            line = lines.number(row.iloc[0])
            values = row.set_index("degradation")
            cells = [_score(values.loc[degradation], "value", "sd", known.digits, line) for degradation in names]
            rows.append([Cell(str(method)), *cells])
        caption = f"{known.heading} under each degradation, {protocol}"
        found.append(Table(f"{name}-{len(found)}", caption, ["method", *names], rows))
    return found


def overview(of: Sequence[Section], summary: pd.DataFrame, lines: Lines) -> Table:
    """The leading score of every method in every section: a row per method, a column per section."""
    rows = []
    for method in summary.method.unique():
        cells = [Cell(str(method))]
        for section in of:
            metric = section.metrics[0]
            place = [section.task, section.dataset, section.setting, section.protocol, method]
            row = summary[(summary[[*_PLACE, "protocol", "method"]] == place).all(axis=1)]
            if row.empty:
                cells.append(Cell("", ""))
            else:
                one = row.iloc[0]
                score = _score(one, metric.name, f"{metric.name}_sd", metric.digits, lines.number(one))
                without = score.order == "" and one.status != "completed"
                cells.append(Cell(str(one.status), "", score.line, str(one.status)) if without else score)
        rows.append(cells)
    columns = ["method", *(f"{section.title}: {section.metrics[0].heading}, {section.protocol}" for section in of)]
    return Table("overview-table", "The leading score of every method", columns, rows)


def whole_tables(stored: Stored, lines: Lines) -> dict[str, Table | None]:
    """The tables of the whole set by what they show, None for one without rows: `claims`, `comparison`, `tasks`."""
    compared, shared = stored.comparison, stored.tasks
    columns = sorted(COMPARISON, key=lambda column: column[0] in _BEHIND)
    columns = [column for column in columns if column[0] != "degradation" or compared.degradation.notna().any()]
    found = {
        "claims": _table("claims-table", "What the paper claims of LoRun, and ours", stored.claims, CLAIMS),
        "comparison": _table("comparison-table", "Published scores beside ours", compared, columns, lines),
        "tasks": None if shared is None else _table("tasks-table", "What each adds to a shared base", shared, TASKS),
    }
    return {name: table if table is not None and table.rows else None for name, table in found.items()}


_BEHIND = ("operator", "protocol", "source")
"""Columns of the comparison that are long, so that the verdict is in sight on a narrow screen."""


def _table(name: str, caption: str, frame: pd.DataFrame, columns: Columns, lines: Lines | None = None) -> Table:
    rows = []
    for _, row in frame.iterrows():
        cells = []
        for title, show in columns:
            text = show(row)
            line = lines.number(row) if lines is not None and title == "ours" and text != _NONE else None
            cells.append(Cell(text, _number(text), line, text if title == "verdict" else ""))
        rows.append(cells)
    return Table(name, caption, [title for title, _ in columns], rows)


def _cells(row: pd.Series, columns: Columns) -> list[Cell]:
    return [Cell(text, _number(text)) for text in (show(row) for _, show in columns)]


def _score(row: pd.Series, value: str, sd: str, digits: int, line: int | None) -> Cell:
    if pd.isna(row[value]):
        return Cell(_NONE, "", line)
    text = f"{row[value]:.{digits}f}" + ("" if pd.isna(row[sd]) else f" ± {row[sd]:.{digits}f}")
    return Cell(text, float(row[value]), line)


def _number(text: str) -> float | str | None:
    """The number that a text of a table is: 128 132, -0.78, 26.95 ± 0.08; "" for a missing one, None for a word."""
    if text == _NONE:
        return ""
    match = re.fullmatch(r"(-?\d{1,3}(?: \d{3})*(?:\.\d+)?|-?\d+(?:\.\d+)?)(?: ± .*)?", text)
    return None if match is None else float(match[1].replace(" ", ""))
