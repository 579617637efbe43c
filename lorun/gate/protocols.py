"""Scores that moved though no weights did: the metric, the data or the reconstruction changed under the same name."""

from collections.abc import Iterator

import pandas as pd

from lorun.evaluation.metrics import METRICS
from lorun.gate.findings import Finding
from lorun.gate.limits import Limits

_SCORE = ["task", "dataset", "setting", "method", "seed", "degradation", "protocol", "metric"]
_LAST_DIGIT = 1e-6  # of the values in a table, as which a difference may come out above its limit
_SAME_TRAINING = ("run", "trained_commit", "trained_device", "trained_threads")


def same_weights(pairs: pd.DataFrame) -> pd.Series:
    """Per pair, whether both sides score the same weights.

    There are none; or the same run of the same clean commit trained them on a CPU, where this gives the same bits.
    """
    same = (pairs.trained_device_before == "cpu") & (pairs.trained_dirty_before == "False")
    same &= pairs.trained_dirty_after == "False"
    for name in _SAME_TRAINING:
        same &= pairs[f"{name}_before"].notna() & (pairs[f"{name}_before"] == pairs[f"{name}_after"])
    return same | ~pairs.trained


def compare_protocols(pairs: pd.DataFrame, limits: Limits) -> Iterator[Finding]:
    """Of pairs that score the same weights (`same_weights`): scores must be equal.

    The mean over the images of a method, dataset and degradation to `limits.equality`; each row to ten times as much,
    since other kernels of the same arithmetic may flip a pixel where a protocol rounds.
    """
    still = pairs[same_weights(pairs) & pairs.metric.isin(list(METRICS))]
    if still.empty:
        return
    means = still.groupby(_SCORE, sort=False)["moved"].transform("mean")
    equal = still.metric.map(limits.equality)
    odd = still[(means.abs() > equal + _LAST_DIGIT) | (still.moved.abs() > 10 * equal + _LAST_DIGIT)]
    for (task, protocol, metric), of in still.groupby(["task", "protocol", "metric"], sort=True):
        subject = f"{task}/{protocol}"
        title = METRICS[str(metric)].title
        moved = odd.loc[odd.index.intersection(of.index)]
        if moved.empty:
            yield Finding("protocol", "passed", subject, f"{title} of {len(of)} rows is where it was")
            continue
        largest = float(moved.moved.abs().max())
        yield Finding(
            "protocol",
            "failed",
            subject,
            f"{title} moved by up to {largest:.6f} in {len(moved)} of {len(of)} rows though {_weights(moved)}: "
            f"{_cause(moved)} changed under the same name",
            float(moved.value_before.mean()),
            float(moved.value_after.mean()),
            largest,
        )


def _weights(moved: pd.DataFrame) -> str:
    untrained = sorted(set(moved[~moved.trained].method))
    trained = sorted(set(moved[moved.trained].method))
    parts = [f"{', '.join(untrained)} trained nothing"] if untrained else []
    if trained:
        parts.append(f"the weights of {', '.join(trained)} are the same (run and trained_commit agree)")
    return " and ".join(parts)


def _cause(moved: pd.DataFrame) -> str:
    if (moved.data_md5_before != moved.data_md5_after).all():
        return "the data (data_md5 differs), or what is done with them,"
    return "the metric's protocol, the operator or the reconstruction"
