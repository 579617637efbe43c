"""Scores degradation by degradation: what a mean over the kernels of super-resolution hides."""

from collections.abc import Collection

import pandas as pd

from lorun.evaluation.protocols import get_protocol
from lorun.profiles import Profile
from lorun.results.summary import spread, summary_lines

_WHICH = ("task", "dataset", "setting", "method", "protocol", "metric", "degradation")

COLUMNS = (
    *("task", "dataset", "simulated", "setting", "operator", "method", "protocol", "metric", "degradation"),
    *("value", "sd", "seeds", "images"),
)


def by_degradation(profile: Profile, rows: pd.DataFrame, simulated: Collection[str] = ()) -> pd.DataFrame:
    """One row per line of the summary, metric and degradation of its operator; none where it has no degradations.

    `value` is the mean over seeds of the mean over images, `sd` the standard deviation over seeds (null for one),
    `seeds` counts the completed ones; all null or 0 where there is no result.
    """
    done = rows[rows.status == "completed"]
    groups = dict(list(done.groupby(list(_WHICH), sort=False)))
    records = []
    for task_name, task, setting, dataset, protocol, method in summary_lines(profile):
        physics = task.physics_of(setting)
        for metric in get_protocol(protocol).metrics:
            for degradation in physics.degradations:
                of = groups.get((task_name, dataset, setting, method, protocol, metric, degradation), done.iloc[:0])
                value, sd = spread(of.groupby("seed")["value"].mean())
                records.append(
                    {
                        "task": task_name,
                        "dataset": dataset,
                        "simulated": dataset in simulated,
                        "setting": setting,
                        "operator": physics.kind,
                        "method": method,
                        "protocol": protocol,
                        "metric": metric,
                        "degradation": degradation,
                        "value": value,
                        "sd": sd,
                        "seeds": of.seed.nunique(),
                        "images": of.image.nunique(),
                    }
                )
    return pd.DataFrame(records, columns=list(COLUMNS))


def values(degradations: pd.DataFrame) -> dict[tuple[str, ...], float]:
    """The values that there are, by task, dataset, setting, method, protocol, metric and degradation."""
    known = degradations.dropna(subset="value")
    return dict(zip(known[list(_WHICH)].itertuples(index=False, name=None), known["value"], strict=True))
