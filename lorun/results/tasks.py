"""What each further task costs if tasks share a base: the bytes that it adds, and the scores that it gets for them."""

import pandas as pd

from lorun.evaluation.protocols import get_protocol
from lorun.profiles import Profile
from lorun.results.store import PLACE, grouped, make_table
from lorun.results.summary import leading

ADAPTED = "lorun_transfer"
COMPARED = ("frozen", ADAPTED, "block_k")
"""The methods that are compared: the frozen base, the base with adapters, and a network trained for the task only."""

_FLOAT = 4  # bytes of a float32 parameter


def tasks(profile: Profile, summary: pd.DataFrame) -> pd.DataFrame:
    """One row per dataset and setting of every task whose base comes from another task.

    `base` is the task and setting of the base. `parameters_*` and `bytes_*` (float32) are those of the shared base, of
    adapters and step sizes, of both together (`added`), and of a network trained for this setting only (`full`). The
    column of a method (`COMPARED`) is its score in the leading `metric` of the first protocol. Null where the profile
    lacks the method or it has no value.
    """
    records = []
    for (task, dataset, setting), lines in grouped(leading(summary), PLACE).items():
        base = profile.tasks[task].base.get(ADAPTED)
        if base is None or base.task is None:
            continue
        protocol = lines.protocol.iloc[0]
        metric = get_protocol(protocol).metrics[0]
        methods = lines.set_index("method").reindex(list(COMPARED))
        adapted = methods.loc[ADAPTED]
        counts = {part: adapted[f"parameters_{part}"] for part in ("base", "adapters", "step_sizes")}
        counts["added"] = counts["adapters"] + counts["step_sizes"]
        counts["full"] = methods.loc["block_k"].parameters_network
        records.append(
            {
                "task": task,
                "dataset": dataset,
                "simulated": lines.simulated.iloc[0],
                "setting": setting,
                "base": f"{base.task}/{base.setting}",
                **{f"parameters_{part}": count for part, count in counts.items()},
                **{f"bytes_{part}": _FLOAT * count for part, count in counts.items()},
                "protocol": protocol,
                "metric": metric,
                **{
                    f"{method}{suffix}": line[f"{metric}{suffix}"]
                    for method, line in methods.iterrows()
                    for suffix in ("", "_sd")
                },
            }
        )
    return make_table("tasks", records)
