"""Recording today's code for results that came out the same again."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from lorun.errors import LorunError
from lorun.results.paths import ROWS
from lorun.results.store import METHOD, RUN, SCORE, code_id, read_evaluation, read_result_set, save_result_set
from lorun.status.check import NO_RESULT, lines_of
from lorun.status.project import Project

CODE = ("trained_code", "code")
"""Columns of runs.csv, of the training and of the evaluation."""


def accept(project: Project, run: str, runs: Path) -> str:
    """Record today's code for all seeds of a method in a setting, because one seed gave the same scores again.

    Seeds that were made by other code than this one was are left alone.

    Args:
        project: where the code is.
        run: RESULT_SET/TASK/SETTING/METHOD/SEED, the run that was made again.
        runs: folder of all runs.

    Returns:
        One line about what was written.

    Raises:
        LorunError: the run was not made again, or not from today's code or configuration, or its scores differ.
    """
    parts = run.split("/")
    if len(parts) != 5 or not parts[4].isdigit():
        raise LorunError(f"--accept {run}: expected RESULT_SET/TASK/SETTING/METHOD/SEED, as in quick/cs/r25/lorun/0")
    name, task, setting, method, seed = *parts[:4], int(parts[4])
    folder = project.root / "results" / name
    results = read_result_set(folder)
    experiment = project.profile(name).experiment(task, setting, method, seed)
    again, rows = read_evaluation(runs / experiment.folder / ROWS)
    lines, key = results.runs.copy(), (task, setting, method, seed)
    before = next(lines_of(lines[_is(lines, RUN, key)]), None)
    if before is None or before["status"] in NO_RESULT:
        raise LorunError(f"--accept {run}: {folder} has no result of this run to compare with")
    if {before["run"], again["run"]} != {experiment.key} or before["config_hash"] != experiment.config_hash:
        raise LorunError(f"--accept {run}: its configuration has changed; only a change of code can be accepted")
    for column in CODE:
        if again[column] is None:
            raise LorunError(f"--accept {run}: {runs / experiment.folder} was made before code was recorded")
        if changed := project.changed(again[column], experiment):
            raise LorunError(f"--accept {run}: it was run before the last change of {', '.join(changed)}")
    _check_equal(run, results.rows[_is(results.rows, RUN, key)], rows)
    accepted = _is(lines, (*METHOD, *CODE), (task, setting, method, *(before[column] for column in CODE)))
    accepted &= ~lines.status.isin(NO_RESULT)
    code = {str(code_id(again[column])): again[column] for column in CODE}
    for column in CODE:
        lines.loc[accepted, column] = code_id(again[column])
    lines.loc[accepted, "accepted"] = seed
    save_result_set(folder, replace(results, runs=lines, code=results.code | code))
    return f"{folder}: {accepted.sum()} runs of {task}/{setting}/{method} accepted, the scores of seed {seed} are equal"


def _check_equal(run: str, before: pd.DataFrame, again: pd.DataFrame) -> None:
    """Raise LorunError if the scores of a run that was made again are not those of before."""
    both = before.merge(again, on=list(SCORE), how="outer", suffixes=("_before", "_again"))
    difference = (both.value_again - both.value_before).abs()
    count = (difference != 0).sum()  # a score that only one has differs, too
    if count:
        largest = "" if difference.isna().all() else f", by {difference.max():.6f} at most"
        raise LorunError(f"--accept {run}: {count} of {len(both)} scores differ{largest}")


def _is(frame: pd.DataFrame, columns: Sequence[str], values: Sequence[Any]) -> pd.Series:
    """Which lines have these values; null equals None."""
    found = pd.Series(True, index=frame.index)
    for column, value in zip(columns, values, strict=True):
        found &= frame[column].isna() if value is None else (frame[column] == value).fillna(False)
    return found.astype(bool)
