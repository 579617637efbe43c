"""Methods beside the committed rows of a profile: their table, and a verdict for each."""

from collections.abc import Collection, Iterator

import pandas as pd

from lorun.methods import Experiment
from lorun.results.cells import Column, Table, column, decimal, integer, make_table
from lorun.results.differences import differences
from lorun.results.markdown import difference, score_columns, sections
from lorun.results.store import LINE, METHOD, RUN, ResultSet
from lorun.results.summary import leading, shown


def committed_runs(committed: ResultSet | None, experiments: Collection[Experiment]) -> list[Experiment]:
    """The experiments whose scores a committed set has, for the same configuration."""
    if committed is None:
        return []
    done = committed.runs[committed.runs.status == "completed"]
    have = set(done[[*RUN, "run", "config_hash"]].itertuples(index=False, name=None))
    return [one for one in experiments if (*one.labels.values(), one.key, one.config_hash) in have]


def tables(
    results: ResultSet,
    methods: Collection[str],
    made: Collection[tuple[str, str, str]],
    against: str,
) -> Iterator[tuple[str, Table, list[str]]]:
    """For each task, dataset and setting where one of `methods` was run: a title, the table of all methods that were
    run or have a score there, and a verdict in words on each of `methods`.

    `made` has the task, setting and name of the methods that were run; the other rows are from the committed set.
    """
    lines = leading(results.summary)
    lines = lines.assign(
        rows=["new" if line in made else "committed" for line in lines[list(METHOD)].itertuples(index=False, name=None)]
    )
    places = {(task, setting) for task, setting, method in made if method in methods}
    here = pd.Series([place in places for place in zip(lines.task, lines.setting, strict=True)], lines.index)
    lines = lines[here & ((lines.rows == "new") | (lines.seeds > 0))]
    paired = differences(lines, results.rows, against).drop(columns=["simulated", "metric"])
    for title, group, _ in sections(lines):
        group = group.sort_values("method", key=lambda names: names.isin(list(methods)), kind="stable")
        method, score, *others = score_columns(group)
        columns: list[Column] = [
            *(method, score, Column(f"minus {against} (dB)", difference), column("verdict"), *others),
            column("parameters_network", "parameters", integer),
            column("step_total", "step (MB)", decimal, digits=1, unit=1e6),
            column("rows"),
        ]
        group = group.merge(paired, on=list(LINE), how="left", suffixes=("", "_paired"))
        verdicts = [_verdict(row, against) for _, row in group[group.method.isin(list(methods))].iterrows()]
        yield f"{title}, `{group.protocol.iloc[0]}`", make_table(group, columns), verdicts


def _verdict(row: pd.Series, against: str) -> str:
    if row.method == against:
        return f"{row.method}: this is what the others are compared with"
    if pd.isna(row["mean"]):
        return f"{row.method} - {against}: not compared (one of them has no PSNR here)"
    place = f"{row.task} {row.setting}, {shown(row.dataset, row.simulated)}"
    shows = f"a true difference of {row.least:.2f} dB would be shown in 80 % of repetitions"
    least = "no interval" if pd.isna(row.least) else shows
    counts = f"images: {row.images_paired}, seeds: {row.seeds_paired}"
    return f"{row.method} - {against}: {row.verdict}: {difference(row).text} dB ({place}; {counts}; {least})"
