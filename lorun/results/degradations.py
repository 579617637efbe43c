"""Scores under each degradation, such as a blur kernel, which the summary averages over."""

from collections.abc import Collection

import pandas as pd

from lorun.evaluation.protocols import get_protocol
from lorun.profiles import Profile
from lorun.results.store import ResultSet, grouped, make_table
from lorun.results.summary import spread, summary_lines

KEY = ("task", "dataset", "setting", "method", "protocol", "metric", "degradation")


def by_degradation(profile: Profile, results: ResultSet, simulated: Collection[str] = ()) -> pd.DataFrame:
    """One row per line of the summary, metric and degradation of its operator; none for operators without degradations.

    `value` is the mean over seeds of the mean over images, `sd` the standard deviation over seeds (null for one),
    `seeds` and `images` count what was scored. Without a result `value` is null.
    """
    groups = grouped(results.rows, KEY)
    records = []
    for task_name, task, setting, dataset, protocol, method in summary_lines(profile):
        physics = task.physics_of(setting)
        for metric in get_protocol(protocol).metrics:
            for degradation in physics.degradations:
                key = (task_name, dataset, setting, method, protocol, metric, degradation)
                rows = groups.get(key, results.rows.iloc[:0])
                value, sd = spread(rows.groupby("seed")["value"].mean())
                counts = {"seeds": rows.seed.nunique(), "images": rows.image.nunique()}
                where = {"simulated": dataset in simulated, "operator": physics.kind}
                records.append({**dict(zip(KEY, key, strict=True)), **where, "value": value, "sd": sd, **counts})
    return make_table("degradations", records)
