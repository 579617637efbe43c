"""Recording today's code for results that came out the same again."""

from dataclasses import replace
from pathlib import Path

import pandas as pd

from lorun.errors import LorunError
from lorun.results.paths import EVALUATION
from lorun.results.store import (
    METHOD,
    NO_RESULT,
    RUN,
    SCORE,
    code_id,
    read_evaluation,
    read_result_set,
    records,
    save_result_set,
)
from lorun.status.project import Project

CODE = ("trained_code", "code")
"""Columns of runs.csv, of the training and of the evaluation."""


def accept(project: Project, run: str, runs: Path) -> str:
    """Record today's code for all seeds of a method in a setting, because one seed gave the same scores again.

    Seeds that were made by other code than this one was are left alone.

    `run` is the RESULT_SET/TASK/SETTING/METHOD/SEED that was made again, `runs` the folder of all runs. Returns one
    line about what was written.

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
    again, rows = read_evaluation(runs / experiment.folder / EVALUATION)
    key, lines = (task, setting, method, seed), records(results.runs)
    before = next((line for line in lines if tuple(line[column] for column in RUN) == key), None)
    if before is None or before["status"] in NO_RESULT:
        raise LorunError(f"--accept {run}: {folder} has no result of this run to compare with")
    if {before["run"], again["run"]} != {experiment.key} or before["config_hash"] != experiment.config_hash:
        raise LorunError(f"--accept {run}: its configuration has changed; only a change of code can be accepted")
    for column in CODE:
        if again[column] is None:
            raise LorunError(f"--accept {run}: {runs / experiment.folder} was made before code was recorded")
        if changed := project.changed(again[column], experiment):
            raise LorunError(f"--accept {run}: it was run before the last change of {', '.join(changed)}")
    scores = results.rows.merge(pd.DataFrame([key], columns=list(RUN)))
    both = scores.merge(rows, on=list(SCORE), how="outer", suffixes=("_before", "_again"))
    difference = (both.value_again - both.value_before).abs()
    if count := (difference != 0).sum():  # a score that only one has differs, too
        largest = "" if difference.isna().all() else f", by {difference.max():.6f} at most"
        raise LorunError(f"--accept {run}: {count} of {len(both)} scores differ{largest}")
    same = (*METHOD, "status", *CODE)
    accepted = [all(line[column] == before[column] for column in same) for line in lines]
    table = results.runs.copy()
    for column in CODE:
        table.loc[accepted, column] = code_id(again[column])
    table.loc[accepted, "accepted"] = seed
    code = {str(code_id(again[column])): again[column] for column in CODE}
    save_result_set(folder, replace(results, runs=table, code=results.code | code))
    return f"{folder}: {sum(accepted)} runs of {task}/{setting}/{method} accepted, the scores of seed {seed} are equal"
