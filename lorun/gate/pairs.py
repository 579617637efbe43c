"""Scores of both sides, matched row by row, and whether those of unchanged weights are unchanged."""

from collections.abc import Iterator

import pandas as pd

from lorun.evaluation.metrics import METRICS
from lorun.gate.findings import Finding, margin
from lorun.results.store import SCORE, ResultSet

_TRAINING = ("run", "trained_commit", "trained_device", "trained_threads")
"""Two trainings that agree in these on a CPU give the same weights, bit for bit."""

_ROUNDING = 1e-6  # of the values in a table


def pair(reference: ResultSet, candidate: ResultSet) -> pd.DataFrame:
    """The scores that completed runs have on both sides, a line each; columns of the sides end in _before and _after.

    trained  whether either side trained anything: unknown steps count as some
    same     whether both sides score the same weights: those of the same run, trained by the same clean commit on a
             CPU, or none at all
    moved    candidate minus reference
    """
    sides = []
    for results in (reference, candidate):
        scores = results.scores()
        done = scores[(scores.status == "completed") & scores.metric.isin(list(METRICS))]
        sides.append(done.fillna({"degradation": ""}))
    pairs = sides[0].merge(sides[1], on=list(SCORE), suffixes=("_before", "_after"))
    pairs = pairs.sort_values(list(SCORE), ignore_index=True)
    trained = (pairs[["steps_before", "steps_after"]].fillna(1) > 0).any(axis=1)
    same = pairs.trained_device_before == "cpu"
    same &= ~pairs[["trained_dirty_before", "trained_dirty_after"]].fillna(True).any(axis=1)
    for name in _TRAINING:
        same &= (pairs[f"{name}_before"] == pairs[f"{name}_after"]).fillna(False)
    moved = pairs.value_after - pairs.value_before
    return pairs.assign(trained=trained, same=same.astype(bool) | ~trained, moved=moved)


def compare_protocols(pairs: pd.DataFrame) -> Iterator[Finding]:
    """Compare the pairs that score the same weights: their scores must be equal.

    The mean over images must be equal to `margin`, and each row to ten times as much: other kernels of the same
    arithmetic may flip a pixel where a protocol rounds.
    """
    still = pairs[pairs.same]
    if still.empty:
        return
    means = still.groupby([name for name in SCORE if name != "image"])["moved"].transform("mean")
    equal = still.metric.map(margin)
    odd = (means.abs() > equal + _ROUNDING) | (still.moved.abs() > 10 * equal + _ROUNDING)
    for (task, protocol, metric), group in still.groupby(["task", "protocol", "metric"]):
        subject, title = f"{task}/{protocol}", METRICS[str(metric)].title
        moved = group[odd[group.index]]
        if moved.empty:
            yield Finding("protocol", "passed", subject, f"{title} of {len(group)} rows is unchanged")
            continue
        largest = float(moved.moved.abs().max())
        message = (
            f"{title} moved by up to {largest:.6f} in {len(moved)} of {len(group)} rows, though the weights of "
            f"{', '.join(sorted(set(moved.method)))} are the same: the data, the protocol, the operator or the "
            "reconstruction changed under the same name"
        )
        before, after = float(moved.value_before.mean()), float(moved.value_after.mean())
        yield Finding("protocol", "failed", subject, message, before, after, largest)
