"""Scores of the reference and the candidate, matched row by row."""

from dataclasses import replace
from itertools import chain, count

import pandas as pd

from lorun.evaluation.metrics import METRICS
from lorun.results.store import METHOD, RUN, SCORE, ResultSet

_TRAINING = ("run", "trained_commit", "trained_device", "trained_threads")
"""Two trainings that agree in these on a CPU give the same weights, bit for bit."""


def match_seeds(reference: ResultSet, candidate: ResultSet) -> ResultSet:
    """The candidate with its seeds renumbered as those of the reference, method by method, in order.

    Additional seeds get numbers that neither side uses.
    """
    known = {method: sorted(runs.seed) for method, runs in reference.runs.groupby(list(METHOD))}
    numbers: dict[tuple[object, ...], int] = {}
    for method, runs in candidate.runs.groupby(list(METHOD)):
        own = sorted(runs.seed)
        free = count(max([*own, *known.get(method, [])]) + 1)
        new = zip(own, chain(known.get(method, []), free), strict=False)
        numbers.update({(*method, seed): number for seed, number in new})

    def renumbered(frame: pd.DataFrame) -> pd.DataFrame:
        runs = frame[list(RUN)].itertuples(index=False, name=None)
        return frame.assign(seed=pd.array([numbers.get(run, run[-1]) for run in runs], dtype="Int64"))

    runs, rows, trainings = map(renumbered, (candidate.runs, candidate.rows, candidate.trainings))
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
