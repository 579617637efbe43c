"""A score over the commits of its result set, read from git."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from tabulate import tabulate  # type: ignore[import-untyped]

from lorun.errors import LorunError, one_of
from lorun.results.cells import NONE
from lorun.results.colours import look
from lorun.results.figures import panels, save
from lorun.results.store import LINE, read_summary
from lorun.results.summary import leading
from lorun.revisions import commits_of

SERIES = ("result_set", *LINE)
"""What identifies a series of values."""

COLUMNS = (*SERIES, "commit", "date", "subject", "version", "metric", "value", "sd")


@dataclass
class History:
    """`table` has a row per commit and series, oldest first (`COLUMNS`); `unread` says what could not be read."""

    table: pd.DataFrame
    unread: list[str] = field(default_factory=list)


def history(folders: Sequence[Path], metric: str, chosen: Mapping[str, str | None]) -> History:
    """The values of a column of summary.csv at every commit that changed it.

    `chosen` selects lines by `LINE`; None selects all, but for the protocol: it selects the leading one. A line that
    is gone has null from then on. `unread` lists commits without such a column.

    Raises:
        LorunError: a folder has no history, or no commit has such a column or line.
    """
    tables, unread = [], []
    for folder in folders:
        for commit, date, subject in commits_of(folder.parent, folder.name):
            where = f"{folder} at {commit[:9]} ({date[:10]})"
            try:
                summary, version = read_summary(folder, commit)
            except LorunError as error:
                unread.append(f"{where}: {error}")
                continue
            if summary is not None:
                about: dict[str, Any] = {"result_set": folder.name, "commit": commit, "date": date, "subject": subject}
                about |= {"version": None if version is None else version.version, "metric": metric}
                tables.append((where, about, summary))
    if not tables:
        raise LorunError("; ".join([f"{', '.join(map(str, folders))}: no summary.csv in the history of git", *unread]))
    known = pd.concat([table for _, _, table in tables])
    one_of("metric", metric, sorted(str(name) for name in known.select_dtypes("number") if name != "seeds"))
    for column, value in chosen.items():
        if value is not None:
            one_of(column, value, sorted(known[column].unique()))
    values: list[dict[str, Any]] = []
    series: dict[tuple[str, ...], None] = {}
    for where, about, table in tables:
        if metric not in table:
            unread.append(f"{where}: has no column {metric!r}")
            continue
        name = about["result_set"]
        lines = {
            (name, *(line[column] for column in LINE)): {"value": line[metric], "sd": line.get(f"{metric}_sd")}
            for line in _selected(table, chosen).to_dict("records")
        }
        series |= dict.fromkeys(lines)
        for key in [key for key in series if key[0] == name]:
            score = lines.get(key, {"value": None, "sd": None})
            values.append({**about, **dict(zip(SERIES, key, strict=True)), **score})
    return History(_changes(pd.DataFrame(values, columns=list(COLUMNS))), unread)


def render(found: History) -> str:
    """A table per series: date, commit, value, difference from the commit before, version, subject."""
    parts = []
    for (*names, metric), lines in found.table.groupby([*SERIES, "metric"], sort=False):
        rows = [
            [
                line["date"][:10],
                line["commit"][:9],
                NONE if pd.isna(line["value"]) else f"{line['value']:.10g}",
                "" if pd.isna(line["sd"]) else f"± {line['sd']:.6g}",
                "" if pd.isna(difference) else f"{difference:+.6g}",
                "" if pd.isna(line["version"]) else f"version {line['version']:.0f}",
                line["subject"],
            ]
            for line, difference in zip(lines.to_dict("records"), lines["value"].astype(float).diff(), strict=True)
        ]
        table = tabulate(rows, tablefmt="plain", disable_numparse=True)
        parts += [f"{'/'.join(map(str, names))}: {metric}", *(f"  {line}" for line in table.splitlines())]
    return "\n".join([*(parts or ["no values"]), *(f"not read: {entry}" for entry in found.unread)])


def write_plot(found: History, path: Path) -> None:
    """Draw every series over the commits, as PNG. Raises LorunError if there is no value."""
    known = found.table.dropna(subset="value")
    if known.empty:
        raise LorunError(f"{path}: no value to draw")
    in_order = known.assign(moment=pd.to_datetime(known.date, utc=True)).sort_values("moment", kind="stable")
    commits = list(in_order.commit.unique())
    dates = in_order.drop_duplicates("commit").date.str[:10]
    varying = [name for name in SERIES if known[name].nunique() > 1] or ["method"]
    figure, [axes] = panels(1, (1.2 * max(len(commits), 4) + 3, 4.4))
    for names, lines in known.groupby(varying, sort=False):
        places = [commits.index(commit) for commit in lines.commit]
        error = lines.sd.astype(float).fillna(0.0)
        label = " / ".join(map(str, names))
        colour, marker = look(label) if varying == ["method"] else (None, "o")
        axes.errorbar(places, lines["value"], yerr=error, color=colour, marker=marker, capsize=3, label=label)
    labels = [f"{date}\n{commit[:9]}" for date, commit in zip(dates, commits, strict=True)]
    axes.set_xticks(range(len(commits)), labels, fontsize=7, rotation=30)
    axes.set_ylabel(known.metric.iloc[0])
    axes.set_title(", ".join(str(known[name].iloc[0]) for name in SERIES if name not in varying), fontsize=9)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    save(path, figure)


def _selected(table: pd.DataFrame, chosen: Mapping[str, str | None]) -> pd.DataFrame:
    for name, value in chosen.items():
        if value is not None:
            table = table[table[name] == value]
    return table if chosen.get("protocol") else leading(table)


def _changes(table: pd.DataFrame) -> pd.DataFrame:
    """Without commits at which a series stayed as it was."""
    series = table.groupby(list(SERIES), sort=False)
    same = series.cumcount() > 0
    for name in ("value", "sd", "version"):
        before = series[name].shift()
        same &= (table[name] == before) | (table[name].isna() & before.isna())
    return table[~same].reset_index(drop=True)
