"""Methods beside the committed rows of a profile: their table, and a verdict for each."""

from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import pandas as pd

from lorun.methods import Experiment
from lorun.profiles import Profile
from lorun.results.cells import Column, Table, cell, column, decimal, integer, make_table
from lorun.results.differences import differences
from lorun.results.markdown import difference, score_columns, sections
from lorun.results.result_set import collect, computed, simulated_datasets
from lorun.results.store import LINE, METHOD, RUN, ResultSet
from lorun.results.summary import shown


def committed_runs(committed: ResultSet | None, experiments: Collection[Experiment]) -> list[Experiment]:
    """The experiments whose scores a committed set has, for the same configuration."""
    if committed is None:
        return []
    done = committed.runs[committed.runs.status == "completed"]
    have = set(done[[*RUN, "run", "config_hash"]].itertuples(index=False, name=None))
    return [one for one in experiments if (*one.labels.values(), one.key, one.config_hash) in have]


def beside(
    profile: Profile,
    committed: ResultSet | None,
    runs: Path,
    data: Path,
    scores: Callable[[Experiment], Path | None],
) -> ResultSet:
    """The result set of a profile: new rows where `scores` names a file, the committed ones of the same configuration
    elsewhere."""
    return computed(profile, collect(profile, runs, True, committed, scores), simulated_datasets(profile, data))


def tables(
    profile: Profile,
    results: ResultSet,
    methods: Collection[str],
    made: Collection[tuple[str, str, str]],
    against: str,
) -> Iterator[tuple[str, Table, list[str]]]:
    """For each task, dataset and setting where one of `methods` was run: a title, the table of all methods that were
    run or have a score there, and a verdict in words on each of `methods`.

    `made` has the task, setting and name of the methods that were run; the other rows are from the committed set.
    """
    summary = results.summary
    new = pd.Series([line in made for line in summary[list(METHOD)].itertuples(index=False, name=None)], summary.index)
    places = {(task, setting) for task, setting, method in made if method in methods}
    here = pd.Series([place in places for place in zip(summary.task, summary.setting, strict=True)], summary.index)
    leading = summary.protocol == summary.task.map(lambda task: profile.tasks[task].evaluation.protocols[0])
    lines = summary.assign(new=new)[leading & here & (new | (summary.seeds > 0))]
    paired = differences(lines, results.rows, against).set_index(list(LINE))
    for title, group, _ in sections(lines):
        group = group.sort_values("method", key=lambda names: names.isin(list(methods)), kind="stable")
        found = paired.reindex(pd.MultiIndex.from_frame(group[list(LINE)])).reset_index()
        columns: list[Column] = [
            *score_columns(group),
            column("parameters_network", "parameters", integer),
            column("step_total", "step (MB)", decimal, digits=1, unit=1e6),
            Column("rows", lambda row: cell("new" if row.new else "committed")),
        ]
        table = make_table(group, columns)
        compared = [[difference(row), cell(row.verdict)] for _, row in found.iterrows()]
        headings = [*table.headings[:2], f"minus {against} (dB)", "verdict", *table.headings[2:]]
        rows = [[*row[:2], *two, *row[2:]] for row, two in zip(table.rows, compared, strict=True)]
        verdicts = [_verdict(row, against) for _, row in found[found.method.isin(list(methods))].iterrows()]
        yield f"{title}, `{group.protocol.iloc[0]}`", Table(headings, rows), verdicts


def _verdict(row: pd.Series, against: str) -> str:
    if row.method == against:
        return f"{row.method}: this is what the others are compared with"
    if pd.isna(row["mean"]):
        return f"{row.method} - {against}: not compared (one of them has no PSNR here)"
    place = f"{row.task} {row.setting}, {shown(row.dataset, bool(row.simulated))}"
    shows = f"a true difference of {row.least:.2f} dB would be shown in 80 % of repetitions"
    least = "no interval" if pd.isna(row.least) else shows
    counts = f"images: {row.images}, seeds: {row.seeds}"
    return f"{row.method} - {against}: {row.verdict}: {difference(row).text} dB ({place}; {counts}; {least})"
