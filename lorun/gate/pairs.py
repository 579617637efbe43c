"""Scores of both sides, matched row by row, and whether those of unchanged weights are unchanged."""

from collections.abc import Iterator
from dataclasses import replace

import pandas as pd

from lorun.evaluation.metrics import METRICS
from lorun.gate.findings import Finding, margin
from lorun.results.store import METHOD, RUN, SCORE, ResultSet

_TRAINING = ("run", "trained_commit", "trained_device", "trained_threads")
"""Two trainings that agree in these on a CPU give the same weights, bit for bit."""

_ROUNDING = 1e-6  # of the values in a table


def match_seeds(reference: ResultSet, candidate: ResultSet) -> ResultSet:
    """The candidate with its seeds renumbered as those of the reference, method by method, in order.

    Additional seeds get numbers that neither side uses.
    """
    before, after = (
        results.runs[list(RUN)].assign(order=results.runs.groupby(list(METHOD)).seed.rank("dense").astype(int))
        for results in (reference, candidate)
    )
    numbers = after.merge(before, how="left", on=[*METHOD, "order"], suffixes=("", "_new"))
    free = max(before.seed.max(), after.seed.max()) + numbers.order
    numbers = numbers[list(RUN)].assign(new=numbers.seed_new.fillna(free).astype("Int64"))
    runs, rows, trainings = (
        table.assign(seed=table[list(RUN)].merge(numbers, how="left").new.to_numpy())
        for table in (candidate.runs, candidate.rows, candidate.trainings)
    )
    return replace(candidate, runs=runs, rows=rows, trainings=trainings)


def pair(reference: ResultSet, candidate: ResultSet, same_seeds: bool = True) -> pd.DataFrame:
    """The scores that completed runs have on both sides, a line each; columns of the sides end in _before and _after.

    trained  whether either side trained anything: unknown steps count as some
    same     whether both sides score the same weights: those of the same run, trained by the same clean commit on a
             CPU, or none at all; only the latter without `same_seeds`
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
    same = same_seeds & (pairs.trained_device_before == "cpu")
    for side in ("before", "after"):
        same &= ~pairs[f"trained_dirty_{side}"].fillna(True).astype(bool)
    for name in _TRAINING:
        same &= (pairs[f"{name}_before"] == pairs[f"{name}_after"]).fillna(False)
    return pairs.assign(
        trained=trained, same=same.astype(bool) | ~trained, moved=pairs.value_after - pairs.value_before
    )


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
            f"{title} moved by up to {largest:.6f} in {len(moved)} of {len(group)} rows though {_reason(moved)}: "
            f"{_cause(moved)} changed under the same name"
        )
        before, after = float(moved.value_before.mean()), float(moved.value_after.mean())
        yield Finding("protocol", "failed", subject, message, before, after, largest)


def _reason(moved: pd.DataFrame) -> str:
    """Why the weights must be the same."""
    untrained, trained = (", ".join(sorted(set(moved[moved.trained == is_so].method))) for is_so in (False, True))
    parts = [f"{untrained} trained nothing"] if untrained else []
    if trained:
        parts.append(f"the weights of {trained} are the same (run and trained_commit agree)")
    return " and ".join(parts)


def _cause(moved: pd.DataFrame) -> str:
    if (moved.data_md5_before != moved.data_md5_after).all():
        return "the data (data_md5 differs), or their processing,"
    return "the metric's protocol, the operator or the reconstruction"
