"""Candidates for the gate, made from a result set."""

from dataclasses import replace

import numpy as np
import pandas as pd

from lorun.evaluation.metrics import METRICS
from lorun.gate import ResultSet
from lorun.gate.rates import SAME_SEEDS

SAME = float(np.sqrt(2)) * SAME_SEEDS
"""Noise of a training from the same seed, in spreads over seeds."""


def trained_anew(
    results: ResultSet, random: np.random.Generator, noise: float, loss: float = 0.0, task: str = "cs"
) -> ResultSet:
    """As if another commit had trained all networks: every score of a training moves by `noise` times the spread that
    the seeds show for its method, and the PSNR of `task` falls by `loss` dB."""
    rows = results.rows
    trained = (rows.steps > 0).to_numpy()
    line = ["task", "dataset", "setting", "method", "protocol", "metric"]
    means = rows.groupby([*line, "seed"])["value"].mean()
    spread = rows.merge(means.groupby(line).std(ddof=1).rename("sd").reset_index(), on=line)["sd"]
    run = rows.groupby(["task", "setting", "method", "seed"]).ngroup()
    effect = random.standard_normal(run.max() + 1)[run]
    better = rows.metric.map(lambda name: 1 if METRICS[name].better == "higher" else -1)
    lost = loss * ((rows.metric == "psnr") & (rows.task == task))
    value = rows.value + np.where(trained, noise * spread * effect * better - lost, 0.0)
    commit = rows.trained_commit.where(~trained, "0123456789abcdef0123456789abcdef01234567")
    return replace(results, rows=rows.assign(value=value.round(6), trained_commit=commit))


def with_rows(results: ResultSet, rows: pd.DataFrame) -> ResultSet:
    return replace(results, rows=rows.reset_index(drop=True))
