"""A score over the commits of its result set, read from git."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from tabulate import tabulate  # type: ignore[import-untyped]

from lorun.errors import LorunError, one_of
from lorun.results.colours import look
from lorun.results.figures import panels, save
from lorun.results.store import LINE, read_summary
from lorun.results.summary import leading
from lorun.revisions import commits_of

SERIES = ("result_set", *LINE)
"""What identifies a series of values."""


def history(folders: Sequence[Path], metric: str, chosen: Mapping[str, str | None]) -> tuple[pd.DataFrame, list[str]]:
    """The values of a column of summary.csv, and what could not be read, a line for each commit.

    The table has a row for each commit that changed the value of a series, oldest first: `SERIES`, `commit`, `date`,
    `subject`, `metric`, `value`, `sd`. `chosen` selects lines by `LINE`; None selects all, but for the protocol: it
    selects the leading one.

    Raises:
        LorunError: a folder has no history, or no commit has such a column or line, or a value there.
    """
    tables, unread = [], []
    for folder in folders:
        for commit, date, subject in commits_of(folder.parent, folder.name):
            try:
                summary = read_summary(folder, commit)
            except LorunError as error:
                unread.append(f"{folder} at {commit[:9]} ({date[:10]}): {error}")
                continue
            if summary is not None:
                summary = summary if chosen.get("protocol") else leading(summary)
                tables.append(summary.assign(result_set=folder.name, commit=commit, date=date, subject=subject))
    if not tables:
        raise LorunError("; ".join([f"{', '.join(map(str, folders))}: no summary.csv in the history of git", *unread]))
    lines = pd.concat(tables, ignore_index=True)
    one_of("metric", metric, sorted(str(name) for name in lines.select_dtypes("number") if name != "seeds"))
    for column, value in chosen.items():
        if value is not None:
            one_of(column, value, sorted(lines[column].unique()))
            lines = lines[lines[column] == value]
    spread = lines.get(f"{metric}_sd", pd.Series(index=lines.index, dtype=float))
    lines = lines.assign(metric=metric, value=lines[metric].astype(float), sd=spread.astype(float))
    found = lines[[*SERIES, "commit", "date", "subject", "metric", "value", "sd"]].dropna(subset="value")
    if found.empty:
        raise LorunError(f"no commit has a value of {metric} there")
    before = found.groupby(list(SERIES), sort=False)[["value", "sd"]].shift()
    same_spread = (found.sd == before.sd) | (found.sd.isna() & before.sd.isna())
    return found[~((found["value"] == before["value"]) & same_spread)].reset_index(drop=True), unread


def render(table: pd.DataFrame, unread: Sequence[str]) -> str:
    """A table per series: date, commit, value, difference from the commit before, subject; and what was not read."""
    parts = []
    for (*names, metric), lines in table.groupby([*SERIES, "metric"], sort=False):
        rows = [
            [
                line["date"][:10],
                line["commit"][:9],
                f"{line['value']:.10g}",
                "" if pd.isna(line["sd"]) else f"± {line['sd']:.6g}",
                "" if pd.isna(difference) else f"{difference:+.6g}",
                line["subject"],
            ]
            for line, difference in zip(lines.to_dict("records"), lines["value"].diff(), strict=True)
        ]
        text = tabulate(rows, tablefmt="plain", disable_numparse=True)
        parts += [f"{'/'.join(map(str, names))}: {metric}", *(f"  {line}" for line in text.splitlines())]
    return "\n".join([*parts, *(f"not read: {entry}" for entry in unread)])


def write_plot(table: pd.DataFrame, path: Path) -> None:
    """Draw every series over the dates of the commits, as PNG."""
    figure, [axes] = panels(1, (7.8, 4.4))
    series = table.groupby(list(SERIES), sort=False)
    for names, lines in series:
        method = lines.method.iloc[0]
        colour, marker = look(method) if series.ngroups == table.method.nunique() else (None, "o")
        dates, label = pd.to_datetime(lines.date, utc=True), "/".join(map(str, names))
        axes.errorbar(
            dates, lines["value"], yerr=lines.sd.fillna(0), color=colour, marker=marker, capsize=3, label=label
        )
    axes.tick_params(axis="x", labelsize=7, labelrotation=30)
    axes.set_ylabel(table.metric.iloc[0])
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    save(path, figure)
