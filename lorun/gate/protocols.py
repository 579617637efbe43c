"""Whether scores of unchanged weights are unchanged: if not, the protocol, data or reconstruction changed."""

from collections.abc import Iterator

import pandas as pd

from lorun.evaluation.metrics import METRICS
from lorun.gate.findings import Finding, margin

_MEAN = ["task", "dataset", "setting", "method", "seed", "degradation", "protocol", "metric"]
_ROUNDING = 1e-6  # of the values in a table


def compare_protocols(pairs: pd.DataFrame) -> Iterator[Finding]:
    """Compare the pairs (`lorun.gate.pairs.pair`) that score the same weights: their scores must be equal.

    The mean over images must be equal to `margin`, and each row to ten times as much: other kernels of the same
    arithmetic may flip a pixel where a protocol rounds.
    """
    still = pairs[pairs.same]
    if still.empty:
        return
    means = still.groupby(_MEAN, sort=False)["moved"].transform("mean")
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
