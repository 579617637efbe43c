"""The scores of both sides, row by row."""

import pandas as pd

from lorun.gate.presence import DONE
from lorun.gate.sources import KEY, METHOD

_CARRIED = ("value", "steps", "run", "trained_commit", "trained_dirty", "trained_device", "trained_threads", "data_md5")


def with_seeds_of(reference: pd.DataFrame, candidate: pd.DataFrame) -> pd.DataFrame:
    """The candidate with the seeds of the reference in the place of its own, method by method, in their order.

    Where it has more seeds, those keep their numbers, unless these are the reference's: then they follow its highest.
    """
    parts = []
    of_reference = {method: sorted(of.seed.unique()) for method, of in reference.groupby(list(METHOD), sort=False)}
    for method, of in candidate.groupby(list(METHOD), sort=False):
        known = of_reference.get(method, [])
        own = sorted(of.seed.unique())
        beyond = range(int(max([*known, *own])) + 1, int(max([*known, *own])) + 1 + len(own))
        names = dict(zip(own, [*known, *beyond], strict=False))
        parts.append(of.assign(seed=of.seed.map(names)))
    return pd.concat(parts) if parts else candidate


def pair(reference: pd.DataFrame, candidate: pd.DataFrame) -> pd.DataFrame:
    """A row per score that both sides have, in the order of `KEY`; the columns of either side end on _before, _after.

    `moved` is by how much it changed, in the metric's own direction; `trained` whether either side trained anything:
    no steps at all is nothing trained, steps that a table does not tell are taken for some.
    """
    sides = [_completed(rows) for rows in (reference, candidate)]
    merged = sides[0].merge(sides[1], on=list(KEY), suffixes=("_before", "_after"))
    merged = merged.sort_values(list(KEY), ignore_index=True)
    steps = merged[["steps_before", "steps_after"]].astype(float)
    return merged.assign(moved=merged.value_after - merged.value_before, trained=~(steps == 0).all(axis=1))


def _completed(rows: pd.DataFrame) -> pd.DataFrame:
    done = rows[(rows.status == DONE) & rows.value.notna()]
    done = done.reindex(columns=list(dict.fromkeys((*KEY, *_CARRIED))))
    # An empty field is the same as an empty field; merging would not have it so for every type of column.
    return done.assign(**{name: done[name].fillna("").astype(str) for name in KEY if name != "seed"})
