"""What each further task costs where tasks share a base: the bytes that it adds, and the scores that this buys."""

from typing import Any

import pandas as pd

from lorun.evaluation.protocols import get_protocol
from lorun.profiles import Profile

WAYS = (FROZEN, TRANSFER, "block_k")
"""The methods that are compared: the base as it is, with adapters, and everything trained for the task."""

PARTS = ("base", "adapters", "step_sizes", "added", "full")

_FLOAT = 4  # bytes of a parameter, float32


def tasks(profile: Profile, summary: pd.DataFrame) -> pd.DataFrame:
    """One row per dataset and setting of every task with a base of another task, none where there is no such task.

    `base` is the task and setting of the base. `parameters_*` and `bytes_*` (float32) are those of the shared base, of
    the adapters and step sizes on it, of the latter two (`added`, what this setting costs beyond the base), and of the
    network that is trained for it alone (`full`). The column of a method (`WAYS`) is its score, in the leading
    `metric` of the first protocol. Null where the profile lacks the method or it has no figure.
    """
    records = []
    for (task, dataset, setting), of in summary.groupby(["task", "dataset", "setting"], sort=False):
        said = profile.tasks[str(task)]
        if said.base_task is None or said.base_setting is None:
            continue
        protocol = get_protocol(said.evaluation.protocols[0])
        metric = protocol.metrics[0]
        lines = of[of.protocol == protocol.name].set_index("method").reindex(list(WAYS))
        adapted = lines.loc[TRANSFER]
        numbers = {part: adapted[f"parameters_{part}"] for part in ("base", "adapters", "step_sizes")}
        numbers["added"] = numbers["adapters"] + numbers["step_sizes"]
        numbers["full"] = lines.loc["block_k"].parameters_network
        records.append(
            {
                "task": task,
                "dataset": dataset,
                "simulated": of.simulated.iloc[0],
                "setting": setting,
                "base": f"{said.base_task}/{said.base_setting}",
                **{f"parameters_{part}": numbers[part] for part in PARTS},
                **{f"bytes_{part}": _FLOAT * numbers[part] for part in PARTS},
                "protocol": protocol.name,
                "metric": metric,
                **{name: line[of_way] for way, line in lines.iterrows() for name, of_way in _score(str(way), metric)},
            }
        )
    frame = pd.DataFrame(records)
    return frame.astype({f"{kind}_{part}": "Int64" for part in PARTS for kind in ("parameters", "bytes") if records})


def together(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Of each base: the settings that share it, and bytes of them all: on the base, and trained alone."""
    once = table.drop_duplicates(["task", "setting"])
    return [
        {
            "base": base,
            "settings": len(of),
            "shared": of.bytes_base.iloc[0] + of.bytes_added.sum(skipna=False),
            "full": of.bytes_full.sum(skipna=False),
        }
        for base, of in once.groupby("base", sort=False)
    ]


def _score(way: str, metric: str) -> tuple[tuple[str, str], ...]:
    """Columns of a method's score, here and in a summary."""
    return (way, metric), (f"{way}_sd", f"{metric}_sd")
