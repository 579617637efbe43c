"""Candidates for the gate, made from a result set."""

from dataclasses import replace

import numpy as np
import pandas as pd

from lorun.evaluation.metrics import METRICS
from lorun.results.store import RUN, ResultSet

SAME_SEEDS = float(np.sqrt(2)) * 0.45
"""Noise of a training from the same seed, in standard deviations over seeds (measured: docs/gate.md)."""


def trained_anew(
    results: ResultSet, random: np.random.Generator, noise: float, loss: float = 0.0, task: str = "cs"
) -> ResultSet:
    """As if another commit had trained all networks.

    Every score of a training moves by `noise` times the standard deviation over seeds of its method; the PSNR of `task`
    falls by `loss` dB.
    """
    scores = results.scores()
    trained = scores.steps > 0
    line = ["task", "dataset", "setting", "method", "protocol", "metric"]
    means = scores.groupby([*line, "seed"])["value"].mean()
    spread = scores.merge(means.groupby(line).std(ddof=1).rename("sd").reset_index(), how="left", on=line)["sd"]
    run = scores.groupby(list(RUN)).ngroup()
    effect = random.standard_normal(run.max() + 1)[run]
    better = scores.metric.map(lambda name: 1 if METRICS[name].better == "higher" else -1)
    lost = loss * ((scores.metric == "psnr") & (scores.task == task))
    value = scores.value + np.where(trained, noise * spread * effect * better - lost, 0.0)
    runs = results.runs
    commit = runs.trained_commit.where(runs.steps == 0, "0123456789abcdef0123456789abcdef01234567")
    return replace(results, rows=results.rows.assign(value=value.round(6)), runs=runs.assign(trained_commit=commit))


def only(results: ResultSet, condition: str) -> ResultSet:
    """The runs and rows that meet a condition on the columns of a run, e.g. "seed == 0"."""
    runs = results.runs.query(condition).reset_index(drop=True)
    rows = results.rows.merge(runs[list(RUN)])
    return replace(results, runs=runs, rows=rows)


def with_status(results: ResultSet, condition: str, status: str) -> ResultSet:
    """The runs that meet the condition ended with this status, and have no rows."""
    runs = results.runs.copy()
    index = runs.query(condition).index
    runs.loc[index, "status"] = status
    rows = results.rows.merge(runs.drop(index=index)[list(RUN)])
    return replace(results, runs=runs, rows=rows)


def with_table(results: ResultSet, table: str, condition: str, **values: object) -> ResultSet:
    """Other values in the lines of a table that meet the condition."""
    frame: pd.DataFrame = getattr(results, table).copy()
    index = frame.query(condition).index
    assert len(index)
    for column, value in values.items():
        frame.loc[index, column] = value
    return replace(results, **{table: frame})
